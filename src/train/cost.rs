//! What a training run costs, known before it starts: the very steps run on the [`Meter`] and on the device's
//! [`Backend::rehearsal`]; and what to set when they do not fit into memory.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::config::{Config, ModelConfig, Recompute, SampleConfig};
use crate::diffusion::noising::Levels;
use crate::diffusion::sampler::{self, Guidance, Model, Order};
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result, human_bytes};
use crate::memory::available_bytes;
use crate::meter::{Family, Meter, Tally};
use crate::train::optimizer::{State, adam_step};
use crate::train::step::{StepInput, evaluate, forward_backward};

/// Flat buffers of a checkpoint: weights, EMA, both moments.
const CHECKPOINT_BUFFERS: u64 = 4;
/// Evaluations of a rehearsed sampler: a first, a middle and a last one.
const REHEARSED_EVALUATIONS: usize = 3;
/// Taken for what a machine has that does not say; more than this is not even tried.
const UNKNOWN_BYTES: u64 = 1 << 40;
/// Batches that the loader keeps: the one in use and the one that it makes ready.
const LOADER_BATCHES: u64 = 2;
/// Part of the memory that is left which an advised setting may fill, in percent: the program itself, and everybody
/// else on the machine, need the rest.
const ADVISED_PERCENT: u64 = 90;

/// What a training run costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Parameters of the model.
    pub parameters: u64,
    /// Floating-point operations of the matrix products of one step, forward and backward.
    pub flops_step: u64,
    /// Kernel calls a step.
    pub launches: u64,
    /// The work of one step by family of kernels.
    pub families: BTreeMap<Family, Tally>,
    /// Segments of the data set that are kept in memory, in bytes.
    pub dataset_bytes: u64,
    /// Where the memory goes.
    pub memory: Footprint,
}

/// The memory of a training run, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Parameters, gradients, moments and EMA.
    pub state_bytes: u64,
    /// Of training steps: what the device's pool takes from the system in the first step and holds from then on.
    pub held_bytes: u64,
    /// The part of `held_bytes` that is not state: activations, their gradients, the batch.
    pub activations_bytes: u64,
    /// Batches on the host: the one in use and the next one.
    pub loader_bytes: u64,
    /// Of the whole run on the device: steps, validation (one sample at a time), sampling (`sample.count`); where the
    /// device's memory is main memory also the copy of the state from which a checkpoint is written, the data set and its
    /// batches.
    pub run_bytes: u64,
    /// Buffers taken from the system for training steps.
    pub fresh_allocations: u64,
}

/// What training by `config` costs on the CPU, on data that is read from disk.
///
/// # Errors
/// As [`run_cost`].
pub fn train_step_cost(config: &Config) -> Result<Cost> {
    run_cost(&Meter::new(), config, 0)
}

/// What training by `config` costs on a device with `dataset_bytes` of segments in main memory. Two steps are metered, since what
/// the second does is what every later one does.
///
/// # Errors
/// [`Error::Config`] for a model that does not fit together; [`Error::Memory`] for one so large that this
/// machine cannot even describe it; [`Error::Device`] for sizes that the device's kernels cannot count to.
pub fn run_cost<B: Backend>(backend: &B, config: &Config, dataset_bytes: u64) -> Result<Cost> {
    config.model.check()?;
    let lower = LowerBound::of(config);
    let available = available_bytes().unwrap_or(UNKNOWN_BYTES);
    if lower.description_bytes() > available.into() {
        let needed = lower.total_bytes().saturating_add(dataset_bytes.into());
        return Err(too_large(backend, config, dataset_bytes, needed, available));
    }
    let dit = Dit::new(&config.model, &config.text)?;
    let (parameters, families) = (dit.layout().count() as u64, tallies(&dit, config)?);
    let all: Tally = families.values().copied().sum();
    let memory = Footprint::of(backend, &dit, config, dataset_bytes).map_err(|error| {
        // A device may not even count so far; what there is to say then is that it has no memory for it.
        let left = backend.available_bytes().unwrap_or(u64::MAX);
        match error {
            Error::Device { .. } if lower.total_bytes() > left.into() => {
                too_large(backend, config, dataset_bytes, lower.total_bytes(), left)
            }
            error => error,
        }
    })?;
    Ok(Cost { parameters, flops_step: all.flops, launches: all.launches, families, dataset_bytes, memory })
}

/// Fails unless a run of `config`, which costs `cost`, fits into what the device has left (where that is not known,
/// everything passes). The data set is open already: its segments are part of what is needed, and no longer of what is left.
///
/// # Errors
/// [`Error::Memory`] with the setting that would fit.
pub fn check_fits<B: Backend>(backend: &B, cost: &Cost, config: &Config) -> Result<()> {
    let left = backend.available_bytes().unwrap_or(u64::MAX);
    let held = if backend.shares_main_memory() { cost.dataset_bytes } else { 0 };
    check_fits_into(left.saturating_add(held), backend, cost, config)
}

/// [`check_fits`] for a device that has `available_bytes` left.
///
/// # Errors
/// [`Error::Memory`] with the setting that would fit.
pub fn check_fits_into<B: Backend>(
    available_bytes: u64,
    backend: &B,
    cost: &Cost,
    config: &Config,
) -> Result<()> {
    if cost.memory.run_bytes <= available_bytes {
        return Ok(());
    }
    Err(too_large(backend, config, cost.dataset_bytes, cost.memory.run_bytes.into(), available_bytes))
}

fn too_large<B: Backend>(
    backend: &B,
    config: &Config,
    dataset_bytes: u64,
    needed_bytes: u128,
    available_bytes: u64,
) -> Error {
    let needed_bytes = u64::try_from(needed_bytes).unwrap_or(u64::MAX);
    let budget = available_bytes / 100 * ADVISED_PERCENT;
    Error::Memory { needed_bytes, available_bytes, advice: advice(backend, config, dataset_bytes, budget) }
}

/// The work of one step by family of kernels.
fn tallies(dit: &Dit, config: &Config) -> Result<BTreeMap<Family, Tally>> {
    let meter = Meter::new();
    let mut state = State::new(&meter, &vec![0.0; dit.layout().len()])?;
    meter.reset_tallies();
    train_step(&meter, dit, &mut state, config, &batch_of_zeros(dit, config), 0)?;
    Ok(meter.tallies())
}

impl Footprint {
    fn of<B: Backend>(backend: &B, dit: &Dit, config: &Config, dataset_bytes: u64) -> Result<Footprint> {
        let device = backend.rehearsal();
        let mut state = State::new(&device, &vec![0.0; dit.layout().len()])?;
        let state_bytes = device.memory().held_bytes;
        let x0 = batch_of_zeros(dit, config);
        for step in 0..2 {
            train_step(&device, dit, &mut state, config, &x0, step)?;
        }
        let steps = device.memory();
        validate_and_sample(&device, dit, &state, config, &x0[..dit.image_len()])?;
        let device_bytes = device.memory().held_bytes;
        let checkpoint_bytes = CHECKPOINT_BUFFERS * 4 * dit.layout().len() as u64;
        let loader_bytes = LOADER_BATCHES * size_of_val(&x0[..]) as u64;
        let host_bytes = checkpoint_bytes + loader_bytes + dataset_bytes;
        Ok(Footprint {
            state_bytes,
            held_bytes: steps.held_bytes,
            activations_bytes: steps.held_bytes - state_bytes,
            loader_bytes,
            run_bytes: device_bytes + if backend.shares_main_memory() { host_bytes } else { 0 },
            fresh_allocations: steps.fresh_allocations,
        })
    }
}

fn batch_of_zeros(dit: &Dit, config: &Config) -> Vec<f32> {
    vec![0.0; config.train.batch * dit.image_len()]
}

fn train_step<B: Backend>(
    backend: &B,
    dit: &Dit,
    state: &mut State<B>,
    config: &Config,
    x0: &[f32],
    step: u64,
) -> Result<()> {
    let schedule = Schedule::new(&config.diffusion);
    let (train, width) = (&config.train, config.model.image[1]);
    let levels = Levels::draw(&schedule, &config.diffusion, train.seed, step, train.batch, width);
    let noise = StepInput::training_noise(train.seed, step);
    let objective = config.diffusion.objective;
    let input =
        StepInput { x0, captions: None, noise, levels: &levels, objective, recompute: train.recompute };
    backend.upload_ahead(x0);
    forward_backward(backend, dit, state, &input, None)?;
    state.measure_gradients(backend);
    state.update(backend, adam_step(train, dit.layout(), step));
    Ok(())
}

fn validate_and_sample<B: Backend>(
    backend: &B,
    dit: &Dit,
    state: &State<B>,
    config: &Config,
    image: &[f32],
) -> Result<()> {
    let schedule = Schedule::new(&config.diffusion);
    let levels = Levels::at(&schedule, &config.diffusion, &[0], config.model.image[1]);
    let noise = StepInput::training_noise(0, 0);
    let objective = config.diffusion.objective;
    let input = StepInput {
        x0: image,
        captions: None,
        noise,
        levels: &levels,
        objective,
        recompute: Recompute::None,
    };
    evaluate(backend, dit, &state.ema, &input)?;

    // What a few evaluations hold, all hold.
    let SampleConfig { count, steps, .. } = config.sample;
    let sample = SampleConfig { steps: steps.min(REHEARSED_EVALUATIONS), ..config.sample.clone() };
    let mut order = Order::plain(dit, 0, 0, count);
    order.guidance = dit.hears_captions().then(|| {
        let captions = dit.no_captions(count);
        Guidance::new(&sample, captions.clone(), captions)
    });
    let model = Model { backend, dit, weights: &state.ema, schedule: &schedule };
    let path = sampler::path(&schedule, &config.diffusion, &sample, schedule.steps() - 1);
    sampler::draw(&model, &path, &order, &mut |_| true).map(|_| ())
}

/// Fails for a model with more parameters than a checkpoint of `data_bytes` holds, or whose position table this
/// machine cannot hold: for configurations from files, before anything is allocated for them.
pub(super) fn check_describable(config: &Config, data_bytes: u64) -> Result<()> {
    let lower = LowerBound::of(config);
    if lower.parameter_bytes.saturating_mul(CHECKPOINT_BUFFERS.into()) > data_bytes.into() {
        return Err(Error::config("model", "describes more parameters than the file holds"));
    }
    if lower.table_bytes > available_bytes().unwrap_or(UNKNOWN_BYTES).into() {
        return Err(Error::config("model.image", "has more patches than this machine's memory can hold"));
    }
    Ok(())
}

/// Less than a run needs, by arithmetic alone: for sizes at which nothing may be allocated to find out.
struct LowerBound {
    /// The blocks' matrices and the patch kernels.
    parameter_bytes: u128,
    /// The position embedding.
    table_bytes: u128,
    image_bytes: u128,
    /// Image, noise and target, and the projections that attention saves.
    sample_bytes: u128,
    batch: u128,
}

impl LowerBound {
    fn of(config: &Config) -> Self {
        let model = &config.model;
        let product = |factors: &[usize]| {
            factors.iter().fold(1u128, |product, &factor| product.saturating_mul(factor as u128))
        };
        let grid = [0, 1].map(|axis| model.image[axis] / model.patch[axis].max(1));
        let attention = product(&[4, model.depth, model.dim, model.dim]);
        let mlp = product(&[2, model.mlp_ratio, model.depth, model.dim, model.dim]);
        let patches = product(&[2, model.channels, model.patch[0], model.patch[1], model.dim]);
        let parameters = attention.saturating_add(mlp).saturating_add(patches);
        let table = product(&[grid[0], grid[1], model.dim]);
        let image = product(&[model.channels, model.image[0], model.image[1]]);
        let saved = product(&[3, model.depth, grid[0], grid[1], model.dim]);
        let bytes = |elements: u128| elements.saturating_mul(size_of::<f32>() as u128);
        LowerBound {
            parameter_bytes: bytes(parameters),
            table_bytes: bytes(table),
            image_bytes: bytes(image),
            sample_bytes: bytes(image.saturating_mul(3).saturating_add(saved)),
            batch: config.train.batch as u128,
        }
    }

    /// What metering itself allocates: parameters, position table and images, once.
    fn description_bytes(&self) -> u128 {
        let images = self.image_bytes.saturating_mul(self.batch);
        self.parameter_bytes.saturating_add(self.table_bytes).saturating_add(images)
    }

    /// Parameters, gradients, both moments, EMA, and the position table.
    fn model_bytes(&self) -> u128 {
        self.parameter_bytes.saturating_mul(5).saturating_add(self.table_bytes)
    }

    fn total_bytes(&self) -> u128 {
        self.model_bytes().saturating_add(self.sample_bytes.saturating_mul(self.batch))
    }

    /// No batch larger than this can fit; 0 when not even the model does.
    fn largest_batch(&self, available_bytes: u64) -> usize {
        let left = u128::from(available_bytes).saturating_sub(self.model_bytes());
        usize::try_from(left / self.sample_bytes.max(1)).unwrap_or(usize::MAX)
    }
}

/// The first setting that would make a run fit into `budget` bytes, in the order of how little it changes.
fn advice<B: Backend>(backend: &B, config: &Config, dataset_bytes: u64, budget: u64) -> String {
    let mut recomputing = config.clone();
    recomputing.train.recompute = Recompute::Blocks;
    let recompute = " --set train.recompute=blocks".to_string();
    if config.train.recompute == Recompute::None
        && let Some((batch, bytes)) = largest_batch(backend, &recomputing, dataset_bytes, budget)
        && batch == config.train.batch
    {
        return format!("with{recompute} it needs {}", human_bytes(bytes));
    }
    let settings = std::iter::once((String::new(), config.clone())).chain(smaller_models(config));
    for (setting, candidate) in settings {
        let Some((batch, bytes)) = largest_batch(backend, &candidate, dataset_bytes, budget) else {
            continue;
        };
        let mut flags = setting;
        if batch < config.train.batch {
            flags.push_str(&format!(" --set train.batch={batch}"));
        }
        return format!("with{flags} it needs {}", human_bytes(bytes));
    }
    "no smaller batch, patch, image or width would make it fit; try --preset demo".to_string()
}

/// The configuration with larger patches, then fewer frames, then fewer features, each as a flag.
fn smaller_models(config: &Config) -> impl Iterator<Item = (String, Config)> {
    let ModelConfig { image, patch, dim, .. } = config.model;
    let factors = [2, 4, 8];
    let variant = |flag: String, change: &dyn Fn(&mut ModelConfig)| {
        let mut config = config.clone();
        change(&mut config.model);
        config.data.image = config.model.image;
        (format!(" --set {flag}"), config)
    };
    let patches = factors.map(|factor| {
        let patch = patch.map(|side| side * factor);
        variant(format!("model.patch=[{},{}]", patch[0], patch[1]), &|model| model.patch = patch)
    });
    let images = factors.map(|factor| {
        let image = [image[0], image[1] / factor];
        variant(format!("model.image=[{},{}]", image[0], image[1]), &|model| model.image = image)
    });
    let dims = factors
        .map(|factor| variant(format!("model.dim={}", dim / factor), &|model| model.dim = dim / factor));
    [patches, images, dims].into_iter().flatten().filter(|(_, config)| config.model.check().is_ok())
}

/// The largest batch, up to the configured one, with which a run fits into `budget` bytes, and what it needs then.
fn largest_batch<B: Backend>(
    backend: &B,
    config: &Config,
    dataset_bytes: u64,
    budget: u64,
) -> Option<(usize, u64)> {
    let most = config.train.batch.min(LowerBound::of(config).largest_batch(budget));
    if most == 0 {
        return None;
    }
    let dit = Dit::new(&config.model, &config.text).ok()?;
    let needed = |batch: usize| {
        let mut config = config.clone();
        config.train.batch = batch;
        let footprint = Footprint::of(backend, &dit, &config, dataset_bytes).ok()?;
        Some(footprint.run_bytes).filter(|&bytes| bytes <= budget)
    };
    let mut best = (1, needed(1)?);
    let mut too_many = most + 1;
    while too_many - best.0 > 1 {
        let middle = best.0 + (too_many - best.0) / 2;
        match needed(middle) {
            Some(bytes) => best = (middle, bytes),
            None => too_many = middle,
        }
    }
    Some(best)
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
