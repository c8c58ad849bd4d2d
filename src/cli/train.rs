//! `dit-engine train`: from a folder of songs, or from nothing, to a model and its music.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args;
use dit_engine::backend::Backend;
use dit_engine::config::{Config, Overrides};
use dit_engine::cpu::Cpu;
use dit_engine::dataset::{Dataset, Split};
use dit_engine::train::checkpoint::Checkpoint;
use dit_engine::train::cost;
use dit_engine::train::estimate::Estimate;
use dit_engine::train::run::{RunOptions, RunSummary, train};

use super::{ConfigArgs, Device, data, progress};

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
    /// Go on with the run in --out (or the latest one)
    #[arg(long)]
    resume: bool,
    /// Where to compute
    #[arg(long, value_enum, default_value = "auto")]
    device: Device,
}

/// Trains; the exit code is 130 when Ctrl-C ended the run early.
pub fn run(args: &TrainArgs, stop: &'static AtomicBool) -> Result<u8> {
    let (Device::Auto | Device::Cpu) = args.device;
    let backend = Cpu::new();
    let job = if args.resume { resumed_job(args, stop)? } else { new_job(args, stop)? };
    announce(&backend, &job)?;
    let (first, steps) = (job.resume.as_ref().map_or(0, |from| from.step), job.config.train.steps);
    let mut progress = progress::TrainProgress::new(first, steps);
    let folder = job.folder.clone();
    let options =
        RunOptions { folder: &folder, config: job.config, dataset: job.dataset, resume: job.resume, stop };
    let summary = train(&backend, options, &mut progress);
    progress.finish();
    report(&folder, &summary?)
}

/// What is to be done.
struct Job {
    folder: PathBuf,
    config: Config,
    dataset: Arc<Dataset>,
    resume: Option<Checkpoint>,
}

fn new_job(args: &TrainArgs, stop: &'static AtomicBool) -> Result<Job> {
    let overrides = args.config.overrides()?;
    let mut config = args.config.resolve(&overrides)?;
    let source = data::open(args.data.as_deref(), &config.data, stop)?;
    adopt_data(&mut config, &source.dataset, &overrides)?;
    set_length(&mut config, args, &source.dataset);
    if let Some(seed) = args.seed {
        config.train.seed = seed;
    }
    config.check()?;
    let folder = match &args.out {
        Some(folder) if folder.join("checkpoints/last.safetensors").exists() => bail!(
            "--out: {} holds a run already; add --resume to go on with it, or choose another folder",
            folder.display()
        ),
        Some(folder) => folder.clone(),
        None => free_folder(&Path::new("runs").join(&source.name)),
    };
    Ok(Job { folder, config, dataset: Arc::new(source.dataset), resume: None })
}

fn resumed_job(args: &TrainArgs, stop: &'static AtomicBool) -> Result<Job> {
    if args.config.given() || args.seed.is_some() {
        bail!(
            "--resume: a resumed run keeps its configuration; leave out --preset, --config, --set and --seed \
             (--steps or --epochs may extend it)"
        );
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
    set_length(&mut config, args, &source.dataset);
    config.check()?;
    Ok(Job { folder, config, dataset: Arc::new(source.dataset), resume: Some(checkpoint) })
}

/// A prepared data set decides the image; the model follows, unless a setting says otherwise.
fn adopt_data(config: &mut Config, dataset: &Dataset, overrides: &Overrides) -> Result<()> {
    let [channels, height, width] = dataset.shape();
    let differs = config.model.image != [height, width] || config.model.channels != channels;
    if differs && (overrides.sets("model.image") || overrides.sets("model.channels")) {
        bail!(
            "model.image: is {:?} with {} channels, but the images of {} are [{height}, {width}] with {channels}",
            config.model.image,
            config.model.channels,
            dataset.dir().display()
        );
    }
    config.data = dataset.config().representation.clone();
    config.model.image = [height, width];
    config.model.channels = channels;
    Ok(())
}

fn set_length(config: &mut Config, args: &TrainArgs, dataset: &Dataset) {
    if let Some(steps) = args.steps {
        config.train.steps = steps;
    }
    if let Some(epochs) = args.epochs {
        let samples = epochs * dataset.len(Split::Train) as u64;
        config.train.steps = samples.div_ceil(config.train.batch as u64);
    }
}

/// `runs/demo`, or `runs/demo-2` and so on when that is taken.
fn free_folder(wanted: &Path) -> PathBuf {
    let taken = |folder: &PathBuf| folder.exists();
    let numbered = (2..).map(|number| PathBuf::from(format!("{}-{number}", wanted.display())));
    std::iter::once(wanted.to_path_buf()).chain(numbered).find(|folder| !taken(folder)).expect("endless")
}

/// Says what will be done, refuses what cannot fit, and remembers where the data is.
fn announce(backend: &Cpu, job: &Job) -> Result<()> {
    let Job { folder, config, dataset, resume } = job;
    let cost = cost::run_cost(config, dataset.memory_bytes())?;
    cost::check_fits(&cost, config)?;
    let (train, held_out) = (dataset.len(Split::Train), dataset.len(Split::Validation));
    eprintln!("data:   {} ({train} segments to train on, {held_out} held out)", dataset.dir().display());
    eprintln!("device: {}", backend.name());
    eprintln!("model:  {}", Estimate::measure(backend, config, &cost)?);
    match resume {
        Some(from) => eprintln!("run:    {}, going on at step {}", folder.display(), from.step),
        None => eprintln!("run:    {}", folder.display()),
    }
    data::remember(folder, dataset.dir()).with_context(|| format!("cannot begin {}", folder.display()))
}

fn report(folder: &Path, summary: &RunSummary) -> Result<u8> {
    let checkpoint = summary.checkpoint.display();
    if summary.interrupted {
        eprintln!("stopped at step {}, saved in {checkpoint}", summary.steps);
        eprintln!("go on with: dit-engine train --resume --out {}", folder.display());
        return Ok(130);
    }
    if let Some(loss) = summary.best_loss {
        eprintln!("done: {} steps, best validation loss {loss:.4}", summary.steps);
    }
    eprintln!("listen to:  {}", folder.join("samples").display());
    eprintln!("make more:  dit-engine sample --checkpoint {checkpoint} --out music");
    Ok(0)
}
