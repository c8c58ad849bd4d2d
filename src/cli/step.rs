//! `dit-engine step`: one training step on a given state, for comparison with another implementation.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use dit_engine::train::parity;

use super::device::{Chosen, DeviceArgs};
use super::{ConfigArgs, print};

/// Do one training step on a given state (param.NAME, x0, noise, t) and write prediction, loss and gradients
#[derive(Args, Debug)]
pub struct StepArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// safetensors file with param.NAME for every parameter, x0 and noise [B,C,H,W] (f32) and t [B] (i64)
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// safetensors file to write: x_t, prediction, loss, grad.NAME, and new.NAME after one Adam step
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the step and prints the loss.
pub fn run(args: &StepArgs) -> Result<()> {
    let config = args.config.resolve(&args.config.overrides()?)?;
    let loss = match args.device.open()? {
        Chosen::Cpu(cpu, _) => parity::run(&cpu, &config, &args.state, &args.out)?,
        Chosen::Cuda(cuda) => parity::run(&*cuda, &config, &args.state, &args.out)?,
    };
    print(format!("loss {loss:.6e}, written to {}\n", args.out.display()))
}
