//! Parse, run, one error line, exit code.

mod cli;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use dit_engine::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

fn main() -> ExitCode {
    start_log();
    join_the_threads();
    match cli::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) if matches!(error.downcast_ref::<Error>(), Some(Error::Interrupted)) => {
            eprintln!("interrupted; the same command goes on where this one stopped");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {}", one_line(&error));
            ExitCode::from(cli::exit_code(&error))
        }
    }
}

/// Makes this thread one of those that kernels run on. Elsewhere a kernel that is called would wake the others, sleep, and be
/// woken by the last of them: several hundred times a step.
fn join_the_threads() {
    if let Ok(threads) = rayon::ThreadPoolBuilder::new().use_current_thread().build() {
        // For as long as the program runs.
        std::mem::forget(threads);
    }
}

/// The logs of this program and of its libraries, on stderr, for who asks with `DIT_LOG=debug`; else silence: what
/// a library has to say at level ERROR about a damaged file is in our own line already.
fn start_log() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::OFF.into())
        .with_env_var("DIT_LOG")
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// The contexts of an error and its message. The library's own messages already hold their causes.
fn one_line(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<Error>() {
            break;
        }
    }
    parts.join(": ").replace('\n', " ")
}
