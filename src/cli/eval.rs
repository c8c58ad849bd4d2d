//! `dit-engine eval`: whether a model follows the words, and whether it is music.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::Args;
use dit_engine::Error;
use dit_engine::backend::Backend;
use dit_engine::config::{Config, SamplerKind, TextMode};
use dit_engine::dataset::Dataset;
use dit_engine::diffusion::sampler::Model;
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::eval::report::About;
use dit_engine::eval::{Attribute, Evaluation, Options, PromptPairs, Report};
use dit_engine::files::{create_folder, write_bytes_atomic};
use dit_engine::render::Recipe;
use dit_engine::text::Encoder;
use dit_engine::train::checkpoint::{Checkpoint, WeightsHash};
use dit_engine::train::optimizer::State;

use super::device::{Chosen, DeviceArgs};
use super::progress::Meter;
use super::sample::SamplerArg;
use super::{Usage, at_least_one, data, print, quoted};

/// Measure a model: losses, distance of its samples to held-out music, whether they follow the words
///
/// Every number stands between what real music gets and what noise gets; docs/eval.md says what each means.
#[derive(Args, Debug)]
pub struct EvalArgs {
    /// Checkpoint (runs/NAME/checkpoints/last.safetensors) or a run's folder
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// Folder made by `prepare`, with held-out tracks [default: the run's own]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Samples to draw for the distances
    #[arg(long, default_value_t = 64)]
    count: usize,
    /// Pairs of prompts an attribute; 0 for none
    #[arg(long, default_value_t = 50)]
    pairs: usize,
    /// What to measure (tempo, bpm, brightness, drums, loudness) and prompts for less and for more of it, in place of those that
    /// captions give; may be given several times
    #[arg(long, num_args = 3, value_names = ["ATTRIBUTE", "LOW", "HIGH"])]
    pair: Vec<String>,
    /// Real segments of each split to listen to, at most
    #[arg(long, default_value_t = 512)]
    real: usize,
    /// Model evaluations a sample [default: the checkpoint's sample.steps]
    #[arg(long)]
    steps: Option<usize>,
    /// Sampler [default: the checkpoint's sample.sampler]
    #[arg(long, value_enum)]
    sampler: Option<SamplerArg>,
    /// Also draw the samples in each of these numbers of evaluations, by every sampler (or the one of --sampler): quality
    /// against steps
    #[arg(long, value_name = "STEPS,...", value_delimiter = ',')]
    by_steps: Vec<usize>,
    /// How strongly prompts are followed [default: the checkpoint's sample.guidance]
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f64>,
    /// Seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Use the raw weights instead of their EMA
    #[arg(long)]
    raw_weights: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// JSON file, or a folder for eval.json [default: beside the checkpoint]
    #[arg(long, value_name = "FILE|DIR")]
    out: Option<PathBuf>,
}

/// Evaluates; the exit code is 130 when Ctrl-C came before the end.
pub fn run(args: &EvalArgs, stop: &AtomicBool) -> Result<u8> {
    let count = at_least_one("--count", args.count)?;
    if count < 2 {
        bail!(Usage("--count: is 1; distances need 2 samples at least".to_string()));
    }
    if args.real < 4 {
        bail!(Usage(format!("--real: is {}; it must be at least 4", args.real)));
    }
    let given = given_pairs(&args.pair)?;
    match args.device.open()? {
        Chosen::Cpu(cpu, _) => run_on(&cpu, args, given, stop),
        Chosen::Cuda(cuda) => run_on(&*cuda, args, given, stop),
    }
}

fn given_pairs(pair: &[String]) -> Result<Vec<PromptPairs>> {
    let one = |words: &[String]| {
        let [attribute, low, high] = words else { unreachable!("the parser takes them by three") };
        let attribute: Attribute = attribute.parse().map_err(|error| Usage(format!("--pair: {error}")))?;
        if low.trim() == high.trim() {
            bail!(Usage(format!("--pair: `{low}` stands on both sides; the prompts must differ")));
        }
        Ok(PromptPairs::given(attribute, low, high))
    };
    pair.chunks(3).map(one).collect()
}

fn run_on<B: Backend>(
    backend: &B,
    args: &EvalArgs,
    given: Vec<PromptPairs>,
    stop: &AtomicBool,
) -> Result<u8> {
    let path = data::checkpoint_path(&args.checkpoint)?;
    let checkpoint = Checkpoint::load(&path)?;
    let mut config = checkpoint.config.clone();
    if let Some(steps) = args.steps {
        config.sample.steps = at_least_one("--steps", steps)?;
    }
    config.sample.sampler = args.sampler.map_or(config.sample.sampler, Into::into);
    config.sample.guidance = args.guidance.unwrap_or(config.sample.guidance);
    config.check()?;
    let by_steps = by_steps(args, &config)?;
    let dataset = Dataset::open(&data_folder(args, &path)?)?;
    let out = out_file(args.out.as_deref(), &path)?;
    let dit = Dit::new(&config.model, &config.text)?;
    let flat = if args.raw_weights { &checkpoint.weights } else { &checkpoint.ema };
    let state = State::new(backend, flat)?;
    let schedule = Schedule::new(&config.diffusion);
    let normalizer = checkpoint.normalizer();
    let hearing = checkpoint.hearing.filter(|_| config.text.mode != TextMode::None);
    let mut evaluation = Evaluation {
        model: Model { backend, dit: &dit, weights: &state.weights, schedule: &schedule },
        config: &config,
        normalizer,
        text: hearing.map(|hearing| Encoder::new(hearing.source(), config.text.tokens)),
        dataset: &dataset,
        options: Options {
            count: args.count,
            pairs: args.pairs,
            real: args.real,
            seed: args.seed,
            given,
            by_steps,
        },
    };
    let mut report = match evaluation.run(&mut shown(stop)) {
        Err(Error::Interrupted) => {
            eprintln!("stopped: nothing was written");
            return Ok(130);
        }
        report => report?,
    };
    let recipe = Recipe::of(&config);
    report.about = About {
        version: recipe.version,
        checkpoint: path.display().to_string(),
        weights: WeightsHash::of(flat, dit.layout()),
        ema: !args.raw_weights,
        step: checkpoint.step,
        data: dataset.dir().display().to_string(),
        fingerprint: dataset.fingerprint().to_string(),
        device: backend.name(),
        sampler: format!("{} in {} steps", recipe.sampler, recipe.sampler_steps),
        guidance: Recipe::guidance_of(&config.sample),
    };
    if checkpoint.fingerprint != dataset.fingerprint() {
        report.notes.push("the model was trained on other data than this".to_string());
    }
    write(&report, &out)?;
    Ok(0)
}

/// Every sampler that is asked for in every number of evaluations.
fn by_steps(args: &EvalArgs, config: &Config) -> Result<Vec<(SamplerKind, usize)>> {
    let most = config.diffusion.steps;
    if let Some(steps) = args.by_steps.iter().find(|steps| !(1..=most).contains(*steps)) {
        bail!(Usage(format!("--by-steps: {steps} is not between 1 and diffusion.steps = {most}")));
    }
    let samplers = args.sampler.map_or(SamplerKind::ALL.to_vec(), |sampler| vec![sampler.into()]);
    Ok(samplers
        .iter()
        .flat_map(|&sampler| args.by_steps.iter().map(move |&steps| (sampler, steps)))
        .collect())
}

fn write(report: &Report, out: &Path) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    write_bytes_atomic(out, &json)?;
    print(format!("{report}\nwritten to {}\n", quoted(out)))
}

/// The folder that was given, or the one that the run remembers.
fn data_folder(args: &EvalArgs, checkpoint: &Path) -> Result<PathBuf> {
    let run = checkpoint.parent().and_then(Path::parent);
    let given = match &args.data {
        Some(given) => Some(given.clone()),
        None => run.map(data::remembered).transpose()?.flatten(),
    };
    match given {
        Some(folder) if data::is_prepared(&folder) => Ok(folder),
        Some(folder) if args.data.is_some() && !folder.exists() => {
            bail!("--data: {} does not exist", folder.display())
        }
        Some(folder) => {
            bail!("--data: {} was not made by `prepare` (there is no dataset.json in it)", folder.display())
        }
        None => bail!("--data: name the prepared folder; there is no run's folder around this checkpoint"),
    }
}

/// Where the JSON goes; a folder that cannot be written to is found out before the work.
fn out_file(out: Option<&Path>, checkpoint: &Path) -> Result<PathBuf> {
    let out = match out {
        None => checkpoint.with_extension("eval.json"),
        Some(path) if path.extension().is_some_and(|extension| extension == "json") && !path.is_dir() => {
            path.to_path_buf()
        }
        Some(folder) => folder.join("eval.json"),
    };
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        create_folder(folder)?;
    }
    Ok(out)
}

/// One bar after the other.
fn shown(stop: &AtomicBool) -> impl FnMut(&str, usize, usize) -> bool {
    let mut meter: Option<(String, Meter)> = None;
    move |what, done, all| {
        if meter.as_ref().is_none_or(|(name, _)| name != what) {
            meter = None;
            meter = Some((what.to_string(), Meter::new(what, all as u64)));
        }
        if let Some((_, meter)) = &mut meter {
            meter.advance_to(done as u64);
        }
        !stop.load(Ordering::Relaxed)
    }
}
