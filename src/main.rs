//! Parse, run, one error line, exit code.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use dit_engine::Error;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("DIT_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match cli::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            let interrupted = matches!(error.downcast_ref::<Error>(), Some(Error::Interrupted));
            eprintln!("error: {error:#}");
            ExitCode::from(if interrupted { 130 } else { 1 })
        }
    }
}
