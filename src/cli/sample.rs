//! `dit-engine sample`: music from a checkpoint.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use clap::{Args, ValueEnum};
use dit_engine::audio::Normalizer;
use dit_engine::backend::Backend;
use dit_engine::config::{Config, SamplerKind};
use dit_engine::cpu::Cpu;
use dit_engine::diffusion::sampler::{self, Model};
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::render::{Recipe, Renderer, complaints};
use dit_engine::train::checkpoint::{self, Checkpoint};
use dit_engine::train::optimizer::State;

use super::{Device, at_least_one, progress};

/// Images drawn in one batch, at most: bounds memory, and keeps the progress bar moving.
const BATCH: usize = 8;

/// Make music with a trained model: a WAV and a PNG for each sample, the recipe inside the WAV
#[derive(Args, Debug)]
pub struct SampleArgs {
    /// Checkpoint (runs/NAME/checkpoints/last.safetensors) or a run's folder
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Samples to make
    #[arg(long, default_value_t = 4)]
    count: usize,
    /// Model evaluations a sample [default: the checkpoint's sample.steps]
    #[arg(long)]
    steps: Option<usize>,
    /// Sampler [default: the checkpoint's sample.sampler]
    #[arg(long, value_enum)]
    sampler: Option<SamplerArg>,
    /// Seed; sample number i of a seed is always the same
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use the raw weights instead of their EMA
    #[arg(long)]
    raw_weights: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
    /// Folder for the files
    #[arg(long)]
    out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SamplerArg {
    /// Ancestral sampling (Ho et al. 2020)
    Ddpm,
    /// Deterministic (Song et al. 2021)
    Ddim,
}

/// Draws, renders and writes.
pub fn run(args: &SampleArgs, stop: &AtomicBool) -> Result<()> {
    at_least_one("--count", args.count)?;
    let path = super::data::checkpoint_path(&args.checkpoint)?;
    let checkpoint = Checkpoint::load(&path)?;
    let config = sampling_config(args, &checkpoint.config)?;
    let normalizer = Normalizer { mean: checkpoint.mean.clone(), deviation: checkpoint.deviation.clone() };
    let renderer = Renderer::new(&config.data, normalizer)?;
    let hash = checkpoint::short_hash(&path)?;
    let Device::Auto | Device::Cpu = args.device;
    let backend = Cpu::new();
    let images = draw(args, &backend, &config, &checkpoint, stop)?;
    let recipe = |number: usize| {
        Some(Recipe {
            version: env!("CARGO_PKG_VERSION").to_string(),
            checkpoint: hash.clone(),
            step: checkpoint.step,
            seed: args.seed,
            number: number as u64,
            sampler: format!("{:?}", config.sample.sampler).to_lowercase(),
            sampler_steps: config.sample.steps,
            clip: config.sample.clip,
            ema: !args.raw_weights,
            device: backend.name(),
            config: config.to_toml(),
        })
    };
    let written = renderer.write(&args.out, "sample", &images, &recipe)?;
    for sample in &written {
        println!("{}  {:.1} dBFS, peak {:.2}", sample.wav.display(), sample.check.rms_dbfs, sample.check.peak);
    }
    for complaint in complaints(&written) {
        eprintln!("warning: {complaint}");
    }
    Ok(())
}

fn sampling_config(args: &SampleArgs, stored: &Config) -> Result<Config> {
    let mut config = stored.clone();
    if let Some(steps) = args.steps {
        config.sample.steps = at_least_one("--steps", steps)?;
    }
    config.sample.sampler = match args.sampler {
        None => config.sample.sampler,
        Some(SamplerArg::Ddpm) => SamplerKind::Ddpm,
        Some(SamplerArg::Ddim) => SamplerKind::Ddim,
    };
    config.check()?;
    Ok(config)
}

fn draw(
    args: &SampleArgs,
    backend: &Cpu,
    config: &Config,
    checkpoint: &Checkpoint,
    stop: &AtomicBool,
) -> Result<Vec<f32>> {
    let dit = Dit::new(&config.model)?;
    let host = if args.raw_weights { &checkpoint.weights } else { &checkpoint.ema };
    let state = State::<Cpu>::new(backend, host)?;
    let model = Model { backend, dit: &dit, weights: &state.weights };
    let path = sampler::path(&Schedule::new(&config.diffusion), &config.diffusion, &config.sample);
    let bar = progress::bar((args.count * path.len()) as u64, "sampling");
    let mut images = Vec::with_capacity(args.count * dit.image_len());
    for first in (0..args.count).step_by(BATCH) {
        let count = BATCH.min(args.count - first);
        let mut tell = |done: usize| {
            bar.set_position((first * path.len() + done * count) as u64);
            !stop.load(Ordering::Relaxed)
        };
        images.extend(sampler::draw(&model, &path, args.seed, first as u64, count, &mut tell)?);
    }
    bar.finish_and_clear();
    Ok(images)
}
