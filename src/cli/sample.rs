//! `dit-engine sample`: music from a checkpoint.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dit_engine::Error;
use dit_engine::audio::Normalizer;
use dit_engine::backend::Backend;
use dit_engine::config::{Config, SamplerKind};
use dit_engine::diffusion::sampler::{self, Model};
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::files::create_folder;
use dit_engine::render::{Recipe, Renderer, Written, complaints, write_overview};
use dit_engine::train::checkpoint::{self, Checkpoint, WeightsHash};
use dit_engine::train::optimizer::State;

use super::device::{Chosen, DeviceArgs};
use super::progress::Meter;
use super::{Usage, at_least_one, print};

/// Images drawn in one batch, at most: bounds memory, and keeps the progress bar moving.
const BATCH: usize = 8;
/// Pictures on the overview, at most.
const OVERVIEW: usize = 64;

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
    #[command(flatten)]
    device: DeviceArgs,
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

/// Draws, renders and writes, a batch at a time; the exit code is 130 when Ctrl-C came before the last one.
pub fn run(args: &SampleArgs, stop: &AtomicBool) -> Result<u8> {
    check_count(args.count)?;
    match args.device.open()? {
        Chosen::Cpu(cpu, _) => run_on(&cpu, args, stop),
        Chosen::Cuda(cuda) => run_on(&*cuda, args, stop),
    }
}

fn run_on<B: Backend>(backend: &B, args: &SampleArgs, stop: &AtomicBool) -> Result<u8> {
    let path = super::data::checkpoint_path(&args.checkpoint)?;
    let checkpoint = Checkpoint::load(&path)?;
    let config = sampling_config(args, &checkpoint.config)?;
    let normalizer = Normalizer { mean: checkpoint.mean.clone(), deviation: checkpoint.deviation.clone() };
    let dit = Dit::new(&config.model, &config.text)?;
    let weights = if args.raw_weights { &checkpoint.weights } else { &checkpoint.ema };
    let session = Session {
        args,
        renderer: Renderer::new(&config.data, normalizer)?,
        recipe: Recipe {
            checkpoint: Some(checkpoint::short_hash(&path)?),
            weights: WeightsHash::of(weights, dit.layout()),
            step: checkpoint.step,
            seed: args.seed,
            ema: !args.raw_weights,
            device: backend.name(),
            ..Recipe::of(&config)
        },
        config: &config,
        dit,
    };
    // An unwritable folder is found out before the work, not after it.
    create_folder(&args.out)?;
    let written = session.write_all(backend, weights, stop)?;
    if written < args.count {
        eprintln!("stopped: {written} of {} samples are in {}", args.count, args.out.display());
        return Ok(130);
    }
    Ok(0)
}

/// More than this many files nobody wants in a folder.
const MOST: usize = 1_000_000;

fn check_count(count: usize) -> Result<()> {
    at_least_one("--count", count)?;
    if count > MOST {
        bail!(Usage(format!("--count: is {count}; it must be at most {MOST}")));
    }
    Ok(())
}

/// What all samples of a call have in common.
struct Session<'a> {
    args: &'a SampleArgs,
    renderer: Renderer,
    /// But for the samples' numbers.
    recipe: Recipe,
    config: &'a Config,
    dit: Dit,
}

impl Session<'_> {
    /// Writes each batch when it is drawn; how many samples there are in the end.
    fn write_all<B: Backend>(&self, backend: &B, weights: &[f32], stop: &AtomicBool) -> Result<usize> {
        let SampleArgs { count, out, seed, .. } = self.args;
        let state = State::new(backend, weights)?;
        let model = Model { backend, dit: &self.dit, weights: &state.weights };
        let diffusion = &self.config.diffusion;
        let path = sampler::path(&Schedule::new(diffusion), diffusion, &self.config.sample);
        let mut meter = Meter::new(format!("drawing {count} samples"), *count as u64 * path.len() as u64);
        let mut pictures = Vec::new();
        for first in (0..*count).step_by(BATCH) {
            let part = BATCH.min(count - first);
            let mut tell = |done: usize| {
                meter.advance_to((first * path.len() + done * part) as u64);
                !stop.load(Ordering::Relaxed)
            };
            let images = match sampler::draw(&model, &path, *seed, first as u64, part, &mut tell) {
                Err(Error::Interrupted) => return Ok(first),
                images => images?,
            };
            let (written, new) =
                self.renderer.write_some(out, "sample", first, &images, Some(&self.recipe))?;
            pictures.extend(new.into_iter().take(OVERVIEW.saturating_sub(pictures.len())));
            meter.suspend(|| tell_of(&written))?;
        }
        write_overview(out, "sample", &pictures)?;
        Ok(*count)
    }
}

/// A line a sample, and what is wrong with it.
fn tell_of(written: &[Written]) -> Result<()> {
    for sample in written {
        let (path, check) = (sample.wav.display(), &sample.check);
        print(format!("{path}  {:.1} dBFS, peak {:.2}\n", check.rms_dbfs, check.peak))?;
    }
    complaints(written).iter().for_each(|complaint| eprintln!("warning: {complaint}"));
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
