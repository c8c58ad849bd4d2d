//! The command line: one file a subcommand. Flags become configs, nothing else.

pub mod data;
pub mod device;
pub mod devices;
pub mod eval;
pub mod inspect;
pub mod prepare;
pub mod preset;
pub mod progress;
pub mod sample;
pub mod step;
pub mod train;

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use dit_engine::Error;
use dit_engine::config::{Config, Overrides};

/// Trains a Diffusion Transformer on spectrograms of music and generates music with it.
///
/// `dit-engine train` alone composes its own small corpus, trains on it and leaves music in runs/. Exit codes: 0 done,
/// 1 failed (one line says why), 2 wrong flags or configuration keys, 130 stopped by Ctrl-C with everything saved.
#[derive(Parser, Debug)]
#[command(version, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Prepare(prepare::PrepareArgs),
    Train(train::TrainArgs),
    Sample(sample::SampleArgs),
    Eval(eval::EvalArgs),
    Inspect(inspect::InspectArgs),
    /// List what there is to compute on: CPU, GPUs with driver and free memory, or why there are none
    Devices,
    Preset(preset::PresetArgs),
    Step(step::StepArgs),
}

/// The flags that make a configuration.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Preset to start from: demo, small, base, large or seed [default: demo]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// TOML file with keys that override the preset's; may be given several times
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// One key, such as model.depth=6; may be given several times; `dit-engine preset NAME` prints all keys
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// The overrides in the order: files, then settings.
    pub fn overrides(&self) -> Result<Overrides> {
        let mut overrides = Overrides::default();
        for file in &self.config {
            overrides.add_file(file)?;
        }
        for setting in &self.set {
            overrides.add_setting(setting)?;
        }
        Ok(overrides)
    }

    /// The preset with the overrides.
    pub fn resolve(&self, overrides: &Overrides) -> Result<Config> {
        Ok(Config::resolve(self.preset_name(), overrides)?)
    }

    /// The preset's name.
    pub fn preset_name(&self) -> &str {
        self.preset.as_deref().unwrap_or("demo")
    }

    /// Whether any of the flags was given.
    pub fn given(&self) -> bool {
        self.preset.is_some() || !self.config.is_empty() || !self.set.is_empty()
    }
}

/// Set by the first Ctrl-C (or SIGTERM); the second ends the program at once.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs a command line; the result is the exit code of a run that did not fail.
///
/// # Errors
/// What the library could not do, with context, for one line on stderr.
pub fn run(cli: Cli) -> Result<u8> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .context("cannot install the Ctrl-C handler")?;
    match cli.command {
        Command::Prepare(args) => return prepare::run(&args, &STOP),
        Command::Train(args) => return train::run(&args, &STOP),
        Command::Sample(args) => return sample::run(&args, &STOP),
        Command::Eval(args) => return eval::run(&args, &STOP),
        Command::Inspect(args) => inspect::run(&args),
        Command::Devices => devices::run(),
        Command::Preset(args) => preset::run(&args),
        Command::Step(args) => step::run(&args),
    }
    .map(|()| 0)
}

/// Flags that cannot work, alone or together; what was typed is wrong, not what was found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Exit code of a run that failed: 2 for wrong flags and configuration keys, 1 for everything else.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let wrong_key = matches!(error.downcast_ref::<Error>(), Some(Error::Config { .. }));
    if wrong_key || error.is::<Usage>() { 2 } else { 1 }
}

/// The library's error with the key that a user can set: an image is set by `model.image`, the rest of a
/// representation by `data.*`.
pub fn with_typed_key(error: Error) -> Error {
    let Error::Config { key, problem } = error else { return error };
    let key = match key.strip_prefix("representation.").or(key.strip_prefix("data.")) {
        Some("image") => "model.image".to_string(),
        Some(rest) => format!("data.{rest}"),
        None => key,
    };
    Error::Config { key, problem }
}

/// A path as a shell takes it: in quotes where it has to be.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// How this program was called, for commands to copy: through cargo, or by a path.
pub fn own_name() -> String {
    match std::env::args_os().next() {
        _ if std::env::var_os("CARGO").is_some() => "cargo run --release --".to_string(),
        Some(path) => quoted(Path::new(&path)),
        None => "dit-engine".to_string(),
    }
}

/// Prints to stdout. A pipe that nobody reads any more is no failure; a full disk is.
///
/// # Errors
/// What the system says when stdout cannot be written to.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to stdout"),
    }
}

/// Fails when a flag that must be at least 1 is 0.
pub fn at_least_one<N: Default + PartialEq>(flag: &str, value: N) -> Result<N> {
    if value == N::default() {
        bail!(Usage(format!("{flag}: is 0; it must be at least 1")));
    }
    Ok(value)
}
