//! What a training run costs, known before it starts: the very steps run on the [`Meter`]; and what to set
//! when they do not fit into memory.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::config::{Config, ModelConfig};
use crate::diffusion::noising::Levels;
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result, human_bytes};
use crate::meter::{Family, Meter, Tally};
use crate::tape::Tape;
use crate::train::memory::available_bytes;
use crate::train::optimizer::{State, adam_step};
use crate::train::step::{StepInput, evaluate, forward_backward};

/// What a training run costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Parameters of the model.
    pub parameters: u64,
    /// Floating-point operations of the matrix products of one step, forward and backward.
    pub flops_step: u64,
    /// Kernel calls a step.
    pub launches: u64,
    /// Parameters, gradients, moments and EMA, in bytes.
    pub state_bytes: u64,
    /// Footprint of training steps, in bytes: what the backend's pool takes from the system in the first step and
    /// holds from then on.
    pub held_bytes: u64,
    /// The part of `held_bytes` that is not state: activations, their gradients, the batch.
    pub activations_bytes: u64,
    /// Footprint of the whole run: steps, validation (one sample at a time) and sampling (`sample.count`).
    pub run_bytes: u64,
    /// Buffers taken from the system for training steps.
    pub fresh_allocations: u64,
    /// The work of one step by family of kernels.
    pub families: BTreeMap<Family, Tally>,
}

/// What training by `config` costs. Two steps are metered, since what the second does is what every later one does.
///
/// # Errors
/// [`Error::Config`] for a model that does not fit together; [`Error::Memory`] for one so large that this
/// machine cannot even describe it.
pub fn train_step_cost(config: &Config) -> Result<Cost> {
    let lower = LowerBound::of(config);
    let available = available_bytes().unwrap_or(u64::MAX);
    if lower.description_bytes > available.into() {
        let needed = u64::try_from(lower.total_bytes()).unwrap_or(u64::MAX);
        let advice = "model.image, model.dim or train.batch is far too large".to_string();
        return Err(Error::Memory { needed_bytes: needed, available_bytes: available, advice });
    }
    meter_run(&Dit::new(&config.model)?, config)
}

/// The cost of a run, if it fits into `available_bytes` (`None`: unknown, everything fits).
///
/// # Errors
/// [`Error::Memory`] with the setting that would fit; and as [`train_step_cost`].
pub fn check_fits(config: &Config, available_bytes: Option<u64>) -> Result<Cost> {
    config.model.check()?;
    let available_bytes = available_bytes.unwrap_or(u64::MAX);
    let lower = LowerBound::of(config).total_bytes();
    let needed_bytes = if lower > available_bytes.into() {
        u64::try_from(lower).unwrap_or(u64::MAX)
    } else {
        let cost = train_step_cost(config)?;
        if cost.run_bytes <= available_bytes {
            return Ok(cost);
        }
        cost.run_bytes
    };
    Err(Error::Memory { needed_bytes, available_bytes, advice: advice(config, available_bytes) })
}

fn meter_run(dit: &Dit, config: &Config) -> Result<Cost> {
    let meter = Meter::new();
    let mut state = State::new(&meter, &vec![0.0; dit.layout().len()])?;
    let state_bytes = meter.memory().held_bytes;
    let x0 = vec![0.0; config.train.batch * dit.image_len()];
    for step in 0..2 {
        meter.reset_tallies();
        train_step(&meter, dit, &mut state, config, &x0, step)?;
    }
    let families = meter.tallies();
    let all: Tally = families.values().copied().sum();
    let steps = meter.memory();
    validate_and_sample(&meter, dit, &state, config, &x0[..dit.image_len()])?;
    Ok(Cost {
        parameters: dit.layout().count() as u64,
        flops_step: all.flops,
        launches: all.launches,
        state_bytes,
        held_bytes: steps.held_bytes,
        activations_bytes: steps.held_bytes - state_bytes,
        run_bytes: meter.memory().held_bytes,
        fresh_allocations: steps.fresh_allocations,
        families,
    })
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
    let input = StepInput { x0, noise, levels: &levels, objective: config.diffusion.objective };
    forward_backward(backend, dit, state, &input, None)?;
    state.gradient_norm(backend);
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
    let input = StepInput { x0: image, noise, levels: &levels, objective: config.diffusion.objective };
    evaluate(backend, dit, &state.ema, &input)?;

    // A sampler holds its images and the noise of a stochastic step beside what the model needs.
    let count = config.sample.count;
    let shape = [count, config.model.channels, config.model.image[0], config.model.image[1]];
    let (images, noise) = (backend.alloc(count * dit.image_len())?, backend.alloc(count * dit.image_len())?);
    let mut tape = Tape::forward_only(backend, dit.layout(), &state.ema);
    let images = tape.constant(&shape, images);
    dit.forward(&mut tape, &images, &vec![0.0; count])?;
    drop(noise);
    Ok(())
}

/// Less than a run needs, by arithmetic alone: for sizes at which nothing may be allocated to find out.
struct LowerBound {
    /// Five flat buffers of the blocks' matrices, and the position table.
    model_bytes: u128,
    /// Image, noise and target, and the projections that attention saves.
    sample_bytes: u128,
    batch: u128,
    /// What metering itself allocates: parameters and batch once, the position table.
    description_bytes: u128,
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
        let parameters = attention.saturating_add(mlp);
        let table = product(&[grid[0], grid[1], model.dim]);
        let image = product(&[model.channels, model.image[0], model.image[1]]);
        let saved = product(&[3, model.depth, grid[0], grid[1], model.dim]);
        let batch = config.train.batch as u128;
        let bytes = |elements: u128| elements.saturating_mul(size_of::<f32>() as u128);
        LowerBound {
            model_bytes: bytes(parameters.saturating_mul(5).saturating_add(table)),
            sample_bytes: bytes(image.saturating_mul(3).saturating_add(saved)),
            batch,
            description_bytes: bytes(
                parameters.saturating_add(table).saturating_add(image.saturating_mul(batch)),
            ),
        }
    }

    fn total_bytes(&self) -> u128 {
        self.model_bytes.saturating_add(self.sample_bytes.saturating_mul(self.batch))
    }

    /// No batch larger than this can fit.
    fn largest_batch(&self, available_bytes: u64) -> usize {
        let left = u128::from(available_bytes).saturating_sub(self.model_bytes);
        usize::try_from(left / self.sample_bytes.max(1)).unwrap_or(usize::MAX)
    }
}

/// The first setting that would make a run fit, in the order of how little it changes.
fn advice(config: &Config, available_bytes: u64) -> String {
    let settings = std::iter::once((String::new(), config.clone())).chain(smaller_models(config));
    for (setting, candidate) in settings {
        let Some((batch, bytes)) = largest_batch(&candidate, available_bytes) else { continue };
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

/// The largest batch, up to the configured one, with which a run fits, and what it needs then.
fn largest_batch(config: &Config, available_bytes: u64) -> Option<(usize, u64)> {
    let lower = LowerBound::of(config);
    let most = config.train.batch.min(lower.largest_batch(available_bytes));
    if most == 0 || lower.description_bytes / lower.batch.max(1) > available_bytes.into() {
        return None;
    }
    let dit = Dit::new(&config.model).ok()?;
    let needed = |batch: usize| {
        let mut config = config.clone();
        config.train.batch = batch;
        meter_run(&dit, &config).ok().map(|cost| cost.run_bytes).filter(|&bytes| bytes <= available_bytes)
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
