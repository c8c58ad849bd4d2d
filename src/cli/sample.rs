//! `dit-engine sample`: music from a checkpoint.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use dit_engine::Error;
use dit_engine::backend::Backend;
use dit_engine::config::{Config, RepresentationConfig, SamplerKind, TextMode};
use dit_engine::control::{Plan, Seconds, Wishes};
use dit_engine::diffusion::sampler::{self, Guidance, Model};
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::files::create_folder;
use dit_engine::render::{Recipe, Renderer, Written, complaints, write_overview};
use dit_engine::text::Encoder;
use dit_engine::train::checkpoint::{self, Checkpoint, Hearing, WeightsHash};
use dit_engine::train::optimizer::State;

use super::device::{Chosen, DeviceArgs};
use super::progress::Meter;
use super::{Usage, at_least_one, print, quoted};

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
    /// What the music is to be; several prompts take turns
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// What it is to keep away from
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// How strongly the prompt is followed: 1 as learnt, more exaggerates [default: the checkpoint's sample.guidance]
    #[arg(long, value_name = "SCALE", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// How much of the loudness that guidance adds is taken back, 0 to 1 [default: the checkpoint's sample.rescale]
    #[arg(long, value_name = "PART", allow_negative_numbers = true)]
    rescale: Option<f64>,
    /// Part of the timesteps, from 0 (clean) to 1 (noise), in which guidance is used, such as 0.2,0.8
    #[arg(long, value_name = "FROM,TO", value_delimiter = ',', num_args = 1)]
    guidance_interval: Vec<f64>,
    /// Length; longer than the model's image by windows that overlap [default: the model's image]
    #[arg(long, allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// Let the end meet the beginning
    #[arg(long = "loop")]
    loops: bool,
    /// A sound to continue, to fill in (--keep), or to vary (--strength)
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Part of --init that stays, to the bit, such as 0s-4s or 6s-; may be given several times
    #[arg(long, value_name = "FROM-TO")]
    keep: Vec<Seconds>,
    /// How far to go from --init: 0.2 changes details, 1 leaves nothing
    #[arg(long, value_name = "PART", allow_negative_numbers = true)]
    strength: Option<f64>,
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

impl SampleArgs {
    fn wishes(&self) -> Wishes {
        Wishes {
            seconds: self.seconds,
            loops: self.loops,
            init: self.init.clone(),
            keep: self.keep.clone(),
            strength: self.strength,
        }
    }

    /// The flags that make something else of a sample than the model's own image, as given.
    fn control(&self) -> String {
        let mut flags = Vec::new();
        flags.extend(self.init.as_ref().map(|init| format!("--init {}", quoted(init))));
        flags.extend(self.keep.iter().map(|part| match part.to {
            to if to.is_finite() => format!("--keep {}s-{to}s", part.from),
            _ => format!("--keep {}s-", part.from),
        }));
        flags.extend(self.strength.map(|strength| format!("--strength {strength}")));
        flags.extend(self.seconds.map(|seconds| format!("--seconds {seconds}")));
        flags.extend(self.loops.then(|| "--loop".to_string()));
        flags.join(" ")
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SamplerArg {
    /// Ancestral sampling (Ho et al. 2020)
    Ddpm,
    /// Deterministic (Song et al. 2021)
    Ddim,
    /// DPM-Solver++(2M): good from about 10 evaluations on (Lu et al. 2022)
    Dpm,
    /// Heun's method, two evaluations a step
    Heun,
}

impl From<SamplerArg> for SamplerKind {
    fn from(arg: SamplerArg) -> SamplerKind {
        match arg {
            SamplerArg::Ddpm => SamplerKind::Ddpm,
            SamplerArg::Ddim => SamplerKind::Ddim,
            SamplerArg::Dpm => SamplerKind::Dpm,
            SamplerArg::Heun => SamplerKind::Heun,
        }
    }
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
    let normalizer = checkpoint.normalizer();
    let dit = Dit::new(&config.model, &config.text)?;
    let weights = if args.raw_weights { &checkpoint.weights } else { &checkpoint.ema };
    let schedule = Schedule::new(&config.diffusion);
    let plan = args.wishes().plan(&config, &normalizer, &schedule)?;
    let text = text_encoder(args, &config, checkpoint.hearing)?;
    let wide = RepresentationConfig { image: [config.model.image[0], plan.frames], ..config.data.clone() };
    let mut session = Session {
        args,
        renderer: Renderer::finishing(&wide, normalizer, plan.finish.clone())?,
        recipe: Recipe {
            checkpoint: Some(checkpoint::short_hash(&path)?),
            weights: WeightsHash::of(weights, dit.layout()),
            step: checkpoint.step,
            seed: args.seed,
            negative_prompt: args.negative.clone().unwrap_or_default(),
            guidance: text.is_some().then(|| Recipe::guidance_of(&config.sample)),
            control: args.control(),
            ema: !args.raw_weights,
            device: backend.name(),
            ..Recipe::of(&config)
        },
        config: &config,
        schedule,
        plan,
        text,
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

/// What makes numbers of the prompts; `None` for a model that hears none.
fn text_encoder(args: &SampleArgs, config: &Config, hearing: Option<Hearing>) -> Result<Option<Encoder>> {
    let asked = !args.prompt.is_empty() || args.negative.is_some();
    match hearing.filter(|_| config.text.mode != TextMode::None) {
        None if asked => bail!(Usage(
            "--prompt: this model was trained without captions (text.mode = none); it cannot follow words"
                .to_string()
        )),
        hearing => Ok(hearing.map(|hearing| Encoder::new(hearing.source(), config.text.tokens))),
    }
}

/// What all samples of a call have in common.
struct Session<'a> {
    args: &'a SampleArgs,
    renderer: Renderer,
    /// But for the samples' numbers and prompts.
    recipe: Recipe,
    config: &'a Config,
    schedule: Schedule,
    plan: Plan,
    text: Option<Encoder>,
    dit: Dit,
}

impl Session<'_> {
    /// Writes each batch when it is drawn; how many samples there are in the end.
    fn write_all<B: Backend>(&mut self, backend: &B, weights: &[f32], stop: &AtomicBool) -> Result<usize> {
        let SampleArgs { count, out, seed, .. } = self.args;
        let state = State::new(backend, weights)?;
        let Config { diffusion, sample, .. } = self.config;
        let path = sampler::path(&self.schedule, diffusion, sample, self.plan.from);
        let mut meter = Meter::new(format!("drawing {count} samples"), *count as u64 * path.len() as u64);
        let mut pictures = Vec::new();
        for first in (0..*count).step_by(BATCH) {
            let part = BATCH.min(count - first);
            let mut tell = |done: usize| {
                meter.advance_to((first * path.len() + done * part) as u64);
                !stop.load(Ordering::Relaxed)
            };
            let mut order = self.plan.order(&self.dit, *seed, first as u64, part);
            order.guidance = self.guidance(first, part)?;
            let (dit, schedule) = (&self.dit, &self.schedule);
            let model = Model { backend, dit, weights: &state.weights, schedule };
            let images = match sampler::draw(&model, &path, &order, &mut tell) {
                Err(Error::Interrupted) => return Ok(first),
                images => images?,
            };
            let recipe = |number: usize| Some(Recipe { prompt: self.prompt(number), ..self.recipe.clone() });
            let (written, new) = self.renderer.write_some(out, "sample", first, &images, &recipe)?;
            pictures.extend(new.into_iter().take(OVERVIEW.saturating_sub(pictures.len())));
            meter.suspend(|| tell_of(&written))?;
        }
        write_overview(out, "sample", &pictures)?;
        Ok(*count)
    }

    /// Of samples `first .. first + count`.
    fn guidance(&mut self, first: usize, count: usize) -> Result<Option<Guidance>> {
        let wanted: Vec<String> = (first..first + count).map(|number| self.prompt(number)).collect();
        let Some(text) = &mut self.text else { return Ok(None) };
        let unwanted = vec![self.args.negative.as_deref().unwrap_or_default(); count];
        Ok(Some(Guidance::new(&self.config.sample, text.batch(&wanted)?, text.batch(&unwanted)?)))
    }

    fn prompt(&self, number: usize) -> String {
        let prompts = &self.args.prompt;
        prompts.get(number % prompts.len().max(1)).cloned().unwrap_or_default()
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
    config.sample.sampler = args.sampler.map_or(config.sample.sampler, SamplerKind::from);
    let sample = &mut config.sample;
    sample.guidance = args.guidance.unwrap_or(sample.guidance);
    sample.rescale = args.rescale.unwrap_or(sample.rescale);
    match args.guidance_interval[..] {
        [] => {}
        [from, to] => sample.guidance_interval = [from, to],
        _ => bail!(Usage("--guidance-interval: takes two numbers, such as 0.2,0.8".to_string())),
    }
    config.check()?;
    Ok(config)
}
