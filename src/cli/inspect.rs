//! `dit-engine inspect`: what a file or folder is.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use dit_engine::inspect::inspect;

/// Show what a checkpoint, data set, run or WAV file is, and what is wrong with it
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Checkpoint, folder of a data set or run, or WAV file
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Looks and prints.
///
/// # Errors
/// For what this program knows nothing about, and for a pipe that closed.
pub fn run(args: &InspectArgs) -> Result<()> {
    let report = inspect(&args.path)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", report.to_json())?;
    } else {
        writeln!(out, "{report}")?;
    }
    Ok(())
}
