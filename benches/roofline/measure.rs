//! The process that softcuda runs in: one training step of a configuration, and the operations that no step has.

use std::path::Path;

use dit_engine::backend::*;
use dit_engine::config::Config;
use dit_engine::cuda::{Cuda, Options, driver};
use dit_engine::diffusion::noising::Levels;
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::error::Result;
use dit_engine::train::optimizer::{State, adam_step};
use dit_engine::train::step::{StepInput, forward_backward};

use crate::rare;
use crate::watched::Watched;

/// Runs a step of `config`, or the `rare` operations, and writes what ran to a file, a line of JSON each; softcuda writes the
/// launches.
pub fn run(config: &Config, precision: Precision, rare: bool, ops: &Path) -> Result<()> {
    let executable = std::env::current_exe().expect("a bench has a path");
    let folder = executable.parent().expect("a bench lies in a folder");
    driver::load_software_driver(&folder.join("libsoftcuda.so"))?;
    let device = Cuda::open(Options { precision: Some(precision), graphs: false, ..Options::default() })?;
    let watched = Watched::new(device, config.train.batch);
    if rare {
        rare::run(&watched)?;
    } else {
        step(&watched, config)?;
        others(&watched, config)?;
    }
    watched.check()?;
    let lines: String = watched
        .into_ops()
        .iter()
        .map(|op| serde_json::to_string(op).expect("plain strings and numbers are JSON") + "\n")
        .collect();
    std::fs::write(ops, lines).expect("the temporary folder can be written");
    Ok(())
}

fn step(watched: &Watched, config: &Config) -> Result<()> {
    let dit = Dit::new(&config.model, &config.text)?;
    // Any numbers that are not all zero: what kernels do does not depend on them.
    let weights: Vec<f32> = (0..dit.layout().len()).map(|i| ((i % 97) as f32 - 48.0) * 5e-4).collect();
    let mut state = State::new(watched, &weights)?;
    let x0: Vec<f32> =
        (0..config.train.batch * dit.image_len()).map(|i| ((i % 101) as f32 - 50.0) * 0.02).collect();
    let schedule = Schedule::new(&config.diffusion);
    let levels = Levels::draw(&schedule, &config.diffusion, 0, 0, config.train.batch, config.model.image[1]);
    let input = StepInput {
        x0: &x0,
        captions: None,
        noise: StepInput::training_noise(0, 0),
        levels: &levels,
        objective: config.diffusion.objective,
        recompute: config.train.recompute,
    };
    watched.set_in_step(true);
    let output = forward_backward(watched, &dit, &mut state, &input, None)?;
    state.measure_gradients(watched);
    state.update(watched, adam_step(&config.train, dit.layout(), 0));
    output.losses(watched);
    watched.set_in_step(false);
    watched.check()
}

/// What samplers and the composed forms of fused operations run, on the shapes of the images and of the tokens.
fn others(watched: &Watched, config: &Config) -> Result<()> {
    let (model, batch) = (&config.model, config.train.batch);
    let width = model.image[1];
    let len = batch * model.channels * model.image[0] * width;
    let zeros = |len: usize, activation: bool| {
        let mut buf = if activation { watched.alloc_activation(len)? } else { watched.alloc(len)? };
        watched.fill(Watched::view_mut(&mut buf, 0..len), 0.0);
        Ok(buf)
    };
    let (mut x, mut y) = (zeros(len, false)?, zeros(len, false)?);
    let (from, noise) = (zeros(len, false)?, zeros(len, false)?);
    let rows = zeros(batch * 4, false)?;
    let key = NoiseKey { seed: 0, step: 0, purpose: Purpose::Sample };
    watched.normal(Watched::view_mut(&mut x, 0..len), key, 0);
    watched.noise_mix(
        Watched::view_mut(&mut x, 0..len),
        Watched::view_mut(&mut y, 0..len),
        Watched::view(&from, 0..len),
        Watched::view(&noise, 0..len),
        Watched::view(&rows, 0..batch * 4),
        config.diffusion.objective,
        width,
    );
    let step = SamplerStep {
        from_prediction: 1.0,
        clip: 3.0,
        keep: 0.5,
        to_x0: 0.5,
        noise: 0.1,
        ..SamplerStep::default()
    };
    watched.sampler_step(
        Watched::view_mut(&mut x, 0..len),
        None,
        Watched::view(&from, 0..len),
        Some(Watched::view(&noise, 0..len)),
        step,
    );

    let tokens = (model.image[0] / model.patch[0]) * (model.image[1] / model.patch[1]);
    let dims = TokenDims { batch, tokens, dim: model.dim };
    let len = dims.len();
    let (mut y, x, dy) = (zeros(len, true)?, zeros(len, true)?, zeros(len, true)?);
    let (all, activation) = (0..len, Activation::Gelu);
    let (x, dy) = (Watched::view(&x, all.clone()), Watched::view(&dy, all.clone()));
    watched.add(Watched::view_mut(&mut y, all.clone()), x);
    watched.residual_forward(Watched::view_mut(&mut y, all.clone()), x, dy);
    watched.activation_forward(Watched::view_mut(&mut y, all.clone()), x, activation);
    watched.activation_backward(Watched::view_mut(&mut y, all.clone()), Write::Replace, dy, x, activation);
    for repeat in [Repeat::OverBatch, Repeat::OverTokens] {
        let len = dims.dim * if repeat == Repeat::OverBatch { tokens } else { batch };
        let mut rows = zeros(len, false)?;
        watched.add_rows_forward(
            Watched::view_mut(&mut y, all.clone()),
            x,
            Watched::view(&rows, 0..len),
            repeat,
            dims,
        );
        watched.add_rows_backward(Watched::view_mut(&mut rows, 0..len), dy, repeat, dims);
    }
    let slots = Slots { count: 6, index: 2 };
    let vectors = batch * slots.count * dims.dim;
    let (modulation, mut dmodulation) = (zeros(vectors, false)?, zeros(vectors, false)?);
    let modulation = Watched::view(&modulation, 0..vectors);
    watched.gated_residual_forward(Watched::view_mut(&mut y, all.clone()), x, dy, modulation, slots, dims);
    watched.gated_residual_backward(
        Watched::view_mut(&mut y, all.clone()),
        Watched::view_mut(&mut dmodulation, 0..vectors),
        dy,
        x,
        modulation,
        slots,
        dims,
    );
    watched.check()
}
