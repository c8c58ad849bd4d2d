//! `dit-engine train`: from a folder of songs, or from nothing, to a model and its music.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args;
use dit_engine::Error;
use dit_engine::backend::Backend;
use dit_engine::bert::Bert;
use dit_engine::config::{Config, ModelConfig, Overrides, RepresentationConfig, TextMode, data_differences};
use dit_engine::cpu::Cpu;
use dit_engine::dataset::{Dataset, Split};
use dit_engine::text::Vectors;
use dit_engine::train::checkpoint::{Checkpoint, Hearing};
use dit_engine::train::cost;
use dit_engine::train::estimate::Estimate;
use dit_engine::train::run::{RunOptions, RunSummary, train};

use super::device::{Chosen, DeviceArgs};
use super::{ConfigArgs, Usage, at_least_one, data, own_name, progress, quoted};

/// Train a model; without --data on a small corpus that the program composes itself
///
/// The run's folder holds config.toml, log.jsonl, TensorBoard event files, checkpoints/ and samples/. Ctrl-C finishes the
/// step, saves and exits with code 130; --resume goes on where it stopped, to the bit.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// Folder of songs (prepared on the fly), or a folder made by `prepare` [default: a composed demo corpus]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Folder of the run [default: runs/NAME, numbered when it exists; with --resume: the latest run]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Training steps in all [default: the preset's train.steps]
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<u64>,
    /// Passes over the training segments, instead of steps
    #[arg(long)]
    epochs: Option<u64>,
    /// Seed of weights, data order, noise and timesteps [default: train.seed]
    #[arg(long)]
    seed: Option<u64>,
    /// Folder of a pretrained sentence encoder in Hugging Face layout (BERT's type), used frozen in place of a trained one
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    text_encoder: Option<PathBuf>,
    /// Go on with the run in --out (or the latest one)
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Trains; the exit code is 130 when Ctrl-C ended the run early.
pub fn run(args: &TrainArgs, stop: &'static AtomicBool) -> Result<u8> {
    at_least_one("--steps", args.steps.unwrap_or(1))?;
    at_least_one("--epochs", args.epochs.unwrap_or(1))?;
    match args.device.open()? {
        Chosen::Cpu(cpu, no_gpu) => {
            let no_gpu = no_gpu.map(|reason| format!("; no GPU: {reason}")).unwrap_or_default();
            run_on(&cpu, &format!("{}, {} threads{no_gpu}", cpu.name(), Cpu::threads()), args, stop)
        }
        Chosen::Cuda(cuda) => run_on(&*cuda, &cuda.name(), args, stop),
    }
}

fn run_on<B: Backend>(backend: &B, device: &str, args: &TrainArgs, stop: &'static AtomicBool) -> Result<u8> {
    let job = if args.resume { resumed_job(args, stop)? } else { new_job(args, stop)? };
    if let Some(step) = job.nothing_left() {
        eprintln!("nothing left to do: {} is at step {step} of {step} (add --steps N)", job.folder.display());
        return Ok(0);
    }
    announce(backend, device, &job)?;
    let (first, steps) = (job.resume.as_ref().map_or(0, |from| from.step), job.config.train.steps);
    let mut progress = progress::TrainProgress::new(first, steps);
    let folder = job.folder.clone();
    let hears = job.config.text.mode != TextMode::None;
    let options = RunOptions {
        folder: &folder,
        config: job.config,
        dataset: job.dataset,
        hearing: job.hearing,
        resume: job.resume,
        stop,
    };
    let summary = train(backend, options, &mut progress);
    progress.finish();
    report(&folder, &summary?, hears)
}

/// What is to be done.
struct Job {
    folder: PathBuf,
    config: Config,
    dataset: Arc<Dataset>,
    hearing: Option<Hearing>,
    resume: Option<Checkpoint>,
}

impl Job {
    /// The step of a run that is at its end, with its samples written.
    fn nothing_left(&self) -> Option<u64> {
        let step = self.resume.as_ref()?.step;
        let samples = self.folder.join("samples").join(format!("step-{step:06}"));
        (step == self.config.train.steps && samples.exists()).then_some(step)
    }
}

/// What can be refused without data is refused before any is opened or composed.
fn new_job(args: &TrainArgs, stop: &'static AtomicBool) -> Result<Job> {
    let overrides = args.config.overrides()?;
    let mut config = args.config.resolve(&overrides)?;
    config.train.seed = args.seed.unwrap_or(config.train.seed);
    config.train.steps = args.steps.unwrap_or(config.train.steps);
    let hearing = frozen_encoder(args, &mut config)?;
    config.check()?;
    if !args.data.as_deref().is_some_and(data::is_prepared) {
        config.check_rows()?;
    }
    let source = data::open(args.data.as_deref(), &config.data, stop)?;
    adopt_data(&mut config, &source.dataset, &overrides)?;
    set_length(&mut config, args, &source.dataset)?;
    config.check()?;
    let folder = match &args.out {
        Some(folder) if folder.join("checkpoints/last.safetensors").exists() => bail!(
            "--out: {} holds a run already; add --resume to go on with it, or choose another folder",
            folder.display()
        ),
        Some(folder) => folder.clone(),
        None => free_folder(&Path::new("runs").join(&source.name)),
    };
    Ok(Job { folder, config, dataset: Arc::new(source.dataset), hearing, resume: None })
}

fn resumed_job(args: &TrainArgs, stop: &'static AtomicBool) -> Result<Job> {
    if args.config.given() || args.seed.is_some() {
        bail!(Usage(
            "--resume: a resumed run keeps its configuration; leave out --preset, --config, --set and --seed \
             (--steps or --epochs may extend it)"
                .to_string()
        ));
    }
    let folder = match &args.out {
        Some(folder) => folder.clone(),
        None => data::latest_run(Path::new("runs"))?,
    };
    let path = folder.join("checkpoints/last.safetensors");
    if !path.exists() {
        bail!("--resume: there is no checkpoint {}", path.display());
    }
    let checkpoint = Checkpoint::load(&path)?;
    let mut config = checkpoint.config.clone();
    check_not_behind("--steps", args.steps, checkpoint.step, &folder)?;
    let remembered = data::remembered(&folder)?;
    let chosen = args.data.clone().or(remembered);
    let source = data::open(chosen.as_deref(), &config.data, stop)?;
    if source.dataset.fingerprint() != checkpoint.fingerprint {
        bail!(
            "--resume: {} is not the data that {} was trained on (it has changed, or --data names another)",
            source.dataset.dir().display(),
            folder.display()
        );
    }
    set_length(&mut config, args, &source.dataset)?;
    let of_epochs = args.epochs.map(|_| config.train.steps);
    check_not_behind("--epochs", of_epochs, checkpoint.step, &folder)?;
    config.check()?;
    let dataset = Arc::new(source.dataset);
    Ok(Job { folder, config, dataset, hearing: None, resume: Some(checkpoint) })
}

/// The pretrained encoder that was asked for; the configuration takes its features.
fn frozen_encoder(args: &TrainArgs, config: &mut Config) -> Result<Option<Hearing>> {
    let Some(folder) = &args.text_encoder else { return Ok(None) };
    if config.text.mode == TextMode::None {
        bail!(Usage(
            "--text-encoder: this configuration hears no captions; add --set text.mode=both".to_string()
        ));
    }
    let bert = Bert::open(folder).context("--text-encoder")?;
    config.text.features = bert.features();
    Ok(Some(Hearing::Frozen(Arc::new(bert))))
}

/// A run can be extended, not shortened.
fn check_not_behind(flag: &str, steps: Option<u64>, done: u64, folder: &Path) -> Result<()> {
    match steps {
        Some(steps) if steps < done => bail!(Usage(format!(
            "{flag}: {steps} steps in all are asked for, but {} is at step {done} already; ask for more, or leave it \
             out",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

/// A prepared data set decides the image and how it was made; the model follows, unless a setting says otherwise.
/// What only matters in decoding stays the run's own.
fn adopt_data(config: &mut Config, dataset: &Dataset, overrides: &Overrides) -> Result<()> {
    let [channels, height, width] = dataset.shape();
    let ModelConfig { image, channels: own_channels, .. } = config.model;
    let folder = dataset.dir().display();
    let made_with = &dataset.config().representation;
    let differences = data_differences(&config.data, made_with);
    if let Some((key, own, stored)) = differences.iter().find(|(key, ..)| overrides.sets(key)) {
        bail!(Usage(format!(
            "{key}: is {own}, but {folder} was prepared with {stored}; leave it out, or prepare the songs anew with \
             --set {key}={own}"
        )));
    }
    if image != [height, width] || own_channels != channels {
        let both = format!("{image:?} with {own_channels} channels");
        let theirs = format!("{:?} with {channels}", [height, width]);
        if overrides.sets("model.image") || overrides.sets("model.channels") {
            let problem = format!("is {both}, but the images of {folder} are {theirs}; leave it out");
            return Err(Error::config("model.image", problem).into());
        }
        eprintln!("image:  {theirs} channels, as in {folder}, instead of the preset's {both}");
    }
    let griffin_lim_iterations = config.data.griffin_lim_iterations;
    config.data = RepresentationConfig { griffin_lim_iterations, ..made_with.clone() };
    config.model.image = [height, width];
    config.model.channels = channels;
    let has_captions =
        dataset.tracks().iter().any(|track| track.split == Split::Train && !track.captions.is_empty());
    if config.text.mode != TextMode::None && !has_captions && !overrides.sets("text.mode") {
        eprintln!("text:   {folder} has no captions; the model learns to do without");
        config.text.mode = TextMode::None;
    }
    Ok(())
}

/// `--steps`, or as many as `--epochs` take.
fn set_length(config: &mut Config, args: &TrainArgs, dataset: &Dataset) -> Result<()> {
    config.train.steps = args.steps.unwrap_or(config.train.steps);
    if let Some(epochs) = args.epochs {
        let samples = epochs.checked_mul(dataset.len(Split::Train) as u64);
        let Some(samples) = samples else {
            bail!(Usage(format!("--epochs: {epochs} are more than can be counted; ask for fewer")));
        };
        config.train.steps = samples.div_ceil(config.train.batch as u64);
    }
    Ok(())
}

/// `runs/demo`, or `runs/demo-2` and so on when that is taken.
fn free_folder(wanted: &Path) -> PathBuf {
    let taken = |folder: &PathBuf| folder.exists();
    let numbered = (2..).map(|number| PathBuf::from(format!("{}-{number}", wanted.display())));
    std::iter::once(wanted.to_path_buf()).chain(numbered).find(|folder| !taken(folder)).expect("endless")
}

/// Says what will be done, refuses what cannot fit, and remembers where the data is.
fn announce<B: Backend>(backend: &B, device: &str, job: &Job) -> Result<()> {
    let Job { folder, config, dataset, resume, .. } = job;
    let cost = cost::run_cost(backend, config, dataset.memory_bytes())?;
    cost::check_fits(backend, &cost, config)?;
    let (train, held_out) = (dataset.len(Split::Train), dataset.len(Split::Validation));
    eprintln!("data:   {} ({train} segments to train on, {held_out} held out)", dataset.dir().display());
    eprintln!("device: {device}");
    eprintln!("model:  {}", Estimate::measure(backend, config, &cost)?);
    match resume {
        Some(from) => eprintln!("run:    {}, going on at step {}", folder.display(), from.step),
        None => eprintln!("run:    {}", folder.display()),
    }
    data::remember(folder, dataset.dir()).with_context(|| format!("cannot begin {}", folder.display()))
}

fn report(folder: &Path, summary: &RunSummary, hears: bool) -> Result<u8> {
    let checkpoint = summary.checkpoint.display();
    if summary.interrupted {
        eprintln!("stopped at step {}, saved in {checkpoint}", summary.steps);
        eprintln!("go on with: {} train --resume --out {}", own_name(), quoted(folder));
        return Ok(130);
    }
    if let Some(loss) = summary.best_loss {
        eprintln!("done: {} steps, best validation loss {loss:.4}", summary.steps);
    }
    eprintln!("listen to:  {}", folder.join("samples").display());
    let prompt = if hears { " --prompt \"slow dark piano\"" } else { "" };
    let (own, checkpoint) = (own_name(), quoted(&summary.checkpoint));
    eprintln!("make more:  {own} sample --checkpoint {checkpoint}{prompt} --out music");
    Ok(0)
}
