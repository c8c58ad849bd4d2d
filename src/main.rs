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
