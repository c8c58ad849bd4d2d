//! The training loop, and what a run leaves in its folder:
//!
//! ```text
//! config.toml                      every key, as resolved
//! log.jsonl, events.out.tfevents.* losses and rates, for people and for TensorBoard
//! checkpoints/last|best.safetensors
//! reference/                       real held-out segments through the representation: the ceiling
//! samples/step-000250/             what the model makes, WAV and PNG
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::backend::Backend;
use crate::config::Config;
use crate::dataset::{Batch, Batches, Dataset, Plan, Split};
use crate::diffusion::noising::Levels;
use crate::diffusion::sampler::{self, Guidance, Model, Order};
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::files::{create_folder, lock_folder, write_bytes_atomic};
use crate::render::{Recipe, Renderer, Written};
use crate::text::{Captions, Encoder};
use crate::train::captions;
use crate::train::checkpoint::{Checkpoint, Hearing, WeightsHash};
use crate::train::journal::{Journal, StepLog};
use crate::train::optimizer::{State, adam_step, learning_rate};
use crate::train::step::{StepInput, check_weights, find_culprit, forward_backward, weighted_loss};
use crate::train::validate::{Validation, validate};

/// Segments written to `reference/`.
const REFERENCES: usize = 4;

/// Told what happens; the library itself never prints.
pub trait Observer {
    /// A step is done.
    fn step(&mut self, log: &StepLog);
    /// A validation is done.
    fn validated(&mut self, step: u64, validation: &Validation, best: bool);
    /// Samples were written.
    fn sampled(&mut self, step: u64, folder: &Path, written: &[Written]);
    /// A checkpoint was written.
    fn saved(&mut self, step: u64, path: &Path);
}

/// What a run starts from.
pub struct RunOptions<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// The resolved configuration; on resume the checkpoint's, except for the number of steps.
    pub config: Config,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// A frozen text encoder, for a new run.
    pub hearing: Option<Hearing>,
    /// Where to go on; `None` to start.
    pub resume: Option<Checkpoint>,
    /// Set by Ctrl-C: the step is finished, a checkpoint written, and the run ends.
    pub stop: &'a AtomicBool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSummary {
    /// Steps done in all.
    pub steps: u64,
    /// Whether `stop` ended it early, before the last step or before its samples.
    pub interrupted: bool,
    /// Lowest validation loss.
    pub best_loss: Option<f64>,
    /// The last checkpoint.
    pub checkpoint: PathBuf,
}

/// Trains to the end, or until stopped.
///
/// # Errors
/// [`Error::NonFinite`] with the first bad tensor and the last good checkpoint; [`Error::Io`] when the disk refuses;
/// whatever the data or the device cannot do.
pub fn train<B: Backend>(
    backend: &B,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<RunSummary> {
    let stop = options.stop;
    let _alone = lock_folder(options.folder)?;
    let mut run = Run::start(backend, options)?;
    let mut batches = Batches::new(run.dataset.clone(), run.plan(), run.step)?;
    let steps = run.config.train.steps;
    if run.owes_samples() {
        run.sample(stop, observer)?;
    }
    while run.step < steps && !stop.load(Ordering::Relaxed) {
        let batch = match batches.next_batch() {
            Ok(batch) => batch,
            // The data are at fault, not the model: what it has learned is kept.
            Err(error) => {
                run.read_steps(observer)?;
                return run.save("last", observer).and(Err(error));
            }
        };
        run.train_step(&batch, batches.wait_ms())?;
        let (step, train) = (run.step, &run.config.train);
        let due = |every: u64| step.is_multiple_of(every) || step == steps;
        let (validate, sample, save) =
            (due(train.validate_every), due(train.sample_every), due(train.checkpoint_every));
        if validate || sample || save || run.unread.len() >= backend.steps_in_flight() {
            run.read_steps(observer)?;
        }
        if validate {
            run.validate(observer)?;
        }
        if sample {
            run.sample(stop, observer)?;
        }
        if save {
            run.save("last", observer)?;
        }
    }
    run.read_steps(observer)?;
    let interrupted = run.step < steps || run.owes_samples();
    let checkpoint = run.save("last", observer)?;
    Ok(RunSummary { steps: run.step, interrupted, best_loss: run.best_loss, checkpoint })
}

/// A step that was put on the device.
struct UnreadStep {
    /// From 0.
    step: u64,
    losses: Box<dyn FnOnce() -> Result<Vec<f32>>>,
    norm2: Box<dyn FnOnce() -> Result<Vec<f32>>>,
    levels: Levels,
    wait_ms: f64,
}

/// A run in progress.
struct Run<'a, B: Backend> {
    backend: &'a B,
    folder: &'a Path,
    config: Config,
    dataset: Arc<Dataset>,
    dit: Dit,
    schedule: Schedule,
    state: State<B>,
    renderer: Renderer,
    /// What makes numbers of captions; none where none are heard.
    hearing: Option<Hearing>,
    /// And what it made of them.
    text: Option<Encoder>,
    journal: Journal,
    /// Steps that are done, or on the device.
    step: u64,
    /// The last of them, of which the host knows nothing yet.
    unread: Vec<UnreadStep>,
    best_loss: Option<f64>,
    /// Step of the last checkpoint on disk, to name when something goes wrong.
    saved_step: Option<u64>,
    clock: Instant,
}

impl<'a, B: Backend> Run<'a, B> {
    fn start(backend: &'a B, options: RunOptions<'a>) -> Result<Self> {
        let RunOptions { folder, config, dataset, hearing, resume, .. } = options;
        let dit = Dit::new(&config.model, &config.text)?;
        create_folder(&folder.join("checkpoints"))?;
        write_bytes_atomic(&folder.join("config.toml"), config.to_toml().as_bytes())?;
        let (state, step, best_loss) = match &resume {
            None => (State::new(backend, &dit.layout().initial_values(config.train.seed))?, 0, None),
            Some(from) => {
                let moments = Some((&from.first[..], &from.second[..]));
                (State::restore(backend, &from.weights, &from.ema, moments)?, from.step, from.best_loss)
            }
        };
        let renderer = Renderer::new(&config.data, dataset.normalizer().clone())?;
        let given = resume.as_ref().map_or(hearing, |from| from.hearing.clone());
        let hearing = captions::hearing(&config.text, &dataset, given)?;
        let text = hearing.as_ref().map(|hearing| Encoder::new(hearing.source(), config.text.tokens));
        let journal = Journal::open(folder, step)?;
        let schedule = Schedule::new(&config.diffusion);
        let saved_step = resume.as_ref().map(|from| from.step);
        let clock = Instant::now();
        let run = Run {
            backend,
            folder,
            config,
            dataset,
            dit,
            schedule,
            state,
            renderer,
            hearing,
            text,
            journal,
            step,
            unread: Vec::new(),
            best_loss,
            saved_step,
            clock,
        };
        if resume.is_none() {
            run.write_references()?;
        }
        Ok(run)
    }

    fn plan(&self) -> Plan {
        Plan { split: Split::Train, batch: self.config.train.batch, seed: self.config.train.seed }
    }

    /// Puts the next step on the device; what comes of it is read by [`Self::read_steps`].
    fn train_step(&mut self, batch: &Batch, wait_ms: f64) -> Result<()> {
        let backend = self.backend;
        // While the device computes the step before.
        backend.upload_ahead(&batch.x0);
        let levels = self.levels(self.step);
        let captions = self.captions(batch)?;
        let input = StepInput {
            x0: &batch.x0,
            captions: captions.as_ref(),
            noise: StepInput::training_noise(self.config.train.seed, self.step),
            levels: &levels,
            objective: self.config.diffusion.objective,
            recompute: self.config.train.recompute,
        };
        let (dit, state) = (&self.dit, &mut self.state);
        let adam = adam_step(&self.config.train, dit.layout(), self.step);
        let mut losses = None;
        backend.run_step(&mut || {
            let output = forward_backward(backend, dit, state, &input, None)?;
            state.measure_gradients(backend);
            state.update(backend, adam);
            losses = Some(output.losses);
            Ok(())
        })?;
        let losses = losses.expect("run_step calls its work");
        let read = UnreadStep {
            step: self.step,
            losses: backend.download_later(B::view(&losses, 0..levels.t.len())),
            norm2: backend.download_later(self.state.norm2()),
            levels,
            wait_ms,
        };
        self.unread.push(read);
        self.step += 1;
        Ok(())
    }

    /// Reads what came of the steps that were put on the device, logs them, and tells the observer.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for the first step that went wrong; it was the last one that changed anything.
    fn read_steps(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let unread = std::mem::take(&mut self.unread);
        let count = unread.len() as f64;
        let mut logs = Vec::new();
        for step in unread {
            let (losses, norm2) = ((step.losses)()?, (step.norm2)()?);
            let (loss, norm) = (weighted_loss(&losses, &step.levels), f64::from(norm2[0]).sqrt());
            if !loss.is_finite() || !norm.is_finite() {
                tracing::debug!(step = step.step, loss, norm, "not finite: replaying the step");
                return Err(self.culprit(step.step));
            }
            logs.push((step.step, loss, norm, step.wait_ms));
        }
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        let rate = self.config.train.batch as f64 * count / seconds;
        for (step, loss, norm, wait_ms) in logs {
            let lr = learning_rate(&self.config.train, step);
            observer.step(&self.journal.step(step + 1, loss, norm, lr, rate, wait_ms)?);
        }
        Ok(())
    }

    /// What went wrong in step `step`, whose weights are the ones that are there.
    fn culprit(&mut self, step: u64) -> Error {
        let batch = match self.plan().build(&self.dataset, step) {
            Ok(batch) => batch,
            Err(error) => return error,
        };
        let levels = self.levels(step);
        let captions = match self.captions(&batch) {
            Ok(captions) => captions,
            Err(error) => return error,
        };
        self.state.forget_non_finite(self.backend);
        let input = StepInput {
            x0: &batch.x0,
            captions: captions.as_ref(),
            noise: StepInput::training_noise(self.config.train.seed, step),
            levels: &levels,
            objective: self.config.diffusion.objective,
            recompute: self.config.train.recompute,
        };
        let error = find_culprit(self.backend, &self.dit, &mut self.state, &input, step + 1);
        self.with_advice(error)
    }

    /// The captions of a training step, some of them dropped.
    fn captions(&mut self, batch: &Batch) -> Result<Option<Captions>> {
        let Some(text) = &mut self.text else { return Ok(None) };
        let kept = captions::dropped(batch, self.config.text.dropout, self.config.train.seed);
        text.batch(&kept).map(Some)
    }

    fn levels(&self, step: u64) -> Levels {
        let (train, width) = (&self.config.train, self.config.model.image[1]);
        Levels::draw(&self.schedule, &self.config.diffusion, train.seed, step, train.batch, width)
    }

    fn validate(&mut self, observer: &mut dyn Observer) -> Result<()> {
        // A data set too small to hold anything out is watched on what it has.
        let split = if self.dataset.is_empty(Split::Validation) { Split::Train } else { Split::Validation };
        let (dit, schedule) = (&self.dit, &self.schedule);
        let model = Model { backend: self.backend, dit, weights: &self.state.ema, schedule };
        let validation = validate(&model, &self.config, &self.dataset, split, self.text.as_mut())?;
        if let Some(validation) = validation {
            let best = self.best_loss.is_none_or(|best| validation.loss < best);
            self.journal.validation(self.step, &validation)?;
            observer.validated(self.step, &validation, best);
            if best {
                self.best_loss = Some(validation.loss);
                self.save("best", observer)?;
            }
        }
        self.clock = Instant::now();
        Ok(())
    }

    fn sample(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<()> {
        let Config { sample, diffusion, train, .. } = &self.config;
        let prompts = captions::prompts(&self.dataset, sample.count);
        let mut order = Order::plain(&self.dit, train.seed, 0, sample.count);
        if let Some(text) = &mut self.text {
            let none = text.batch(&vec![""; sample.count])?;
            order.guidance = Some(Guidance::new(sample, text.batch(&prompts)?, none));
        }
        let (dit, schedule) = (&self.dit, &self.schedule);
        let model = Model { backend: self.backend, dit, weights: &self.state.ema, schedule };
        let path = sampler::path(schedule, diffusion, sample, schedule.steps() - 1);
        let mut go_on = |_| !stop.load(Ordering::Relaxed);
        let images = match sampler::draw(&model, &path, &order, &mut go_on) {
            Err(Error::Interrupted) => return Ok(()),
            images => images?,
        };
        let folder = self.sample_folder();
        let recipe = self.recipe();
        let with_prompt = |number: usize| {
            let Some(_) = &self.text else { return Some(recipe.clone()) };
            Some(Recipe {
                prompt: prompts[number].clone(),
                guidance: Some(Recipe::guidance_of(&self.config.sample)),
                ..recipe.clone()
            })
        };
        let written = self.renderer.write(&folder, "sample", &images, &with_prompt)?;
        self.journal.samples(self.step, &written)?;
        observer.sampled(self.step, &folder, &written);
        self.clock = Instant::now();
        Ok(())
    }

    fn sample_folder(&self) -> PathBuf {
        self.folder.join("samples").join(format!("step-{:06}", self.step))
    }

    /// Whether Ctrl-C came between the step that was done last and its samples.
    fn owes_samples(&self) -> bool {
        let train = &self.config.train;
        let due = self.step > 0 && (self.step.is_multiple_of(train.sample_every) || self.step == train.steps);
        due && !self.sample_folder().exists()
    }

    /// Of the samples of this step.
    fn recipe(&self) -> Recipe {
        let weights = State::download(self.backend, &self.state.ema);
        Recipe {
            weights: WeightsHash::of(&weights, self.dit.layout()),
            step: self.step,
            seed: self.config.train.seed,
            ema: true,
            device: self.backend.name(),
            ..Recipe::of(&self.config)
        }
    }

    fn save(&mut self, name: &str, observer: &mut dyn Observer) -> Result<PathBuf> {
        let path = self.checkpoint_path(name);
        if name == "last" && self.saved_step == Some(self.step) && path.exists() {
            return Ok(path);
        }
        // A checkpoint on disk is always one to go on from.
        check_weights(self.backend, &self.dit, &self.state, self.step).map_err(|e| self.with_advice(e))?;
        let normalizer = self.dataset.normalizer();
        let download = |buf| State::download(self.backend, buf);
        let checkpoint = Checkpoint {
            step: self.step,
            config: self.config.clone(),
            hearing: self.hearing.clone(),
            fingerprint: self.dataset.fingerprint().to_string(),
            mean: normalizer.mean.clone(),
            deviation: normalizer.deviation.clone(),
            range: normalizer.range.clone(),
            best_loss: self.best_loss,
            weights: download(&self.state.weights),
            ema: download(&self.state.ema),
            first: download(&self.state.first),
            second: download(&self.state.second),
        };
        checkpoint.save(&path, self.dit.layout())?;
        tracing::debug!(step = self.step, path = %path.display(), "checkpoint");
        if name == "last" {
            self.saved_step = Some(self.step);
        }
        observer.saved(self.step, &path);
        self.clock = Instant::now();
        Ok(path)
    }

    fn checkpoint_path(&self, name: &str) -> PathBuf {
        self.folder.join("checkpoints").join(format!("{name}.safetensors"))
    }

    /// Real segments through the representation and back: what a perfect model would sound like.
    fn write_references(&self) -> Result<()> {
        let split = if self.dataset.is_empty(Split::Validation) { Split::Train } else { Split::Validation };
        let available = self.dataset.len(split);
        let count = available.min(REFERENCES);
        let mut images = vec![0.0; count * self.dit.image_len()];
        for (i, image) in images.chunks_exact_mut(self.dit.image_len()).enumerate() {
            self.dataset.read_segment(split, i * available / count, image)?;
        }
        self.renderer.write(&self.folder.join("reference"), "real", &images, &|_| None).map(|_| ())
    }

    fn with_advice(&self, error: Error) -> Error {
        let Error::NonFinite { tensor, value, step, .. } = error else { return error };
        let saved = match self.saved_step {
            Some(saved) => {
                format!(
                    "the last good checkpoint is {} (step {saved})",
                    self.checkpoint_path("last").display()
                )
            }
            None => "no checkpoint was written before".to_string(),
        };
        let advice = format!("; {saved}; try a smaller train.lr, a longer train.warmup or train.clip=1");
        Error::NonFinite { tensor, value, step, advice }
    }
}
