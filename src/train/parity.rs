//! One training step on a given state, for comparison with another implementation: `dit-engine step`.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::backend::Backend;
use crate::config::{Config, TextMode};
use crate::diffusion::noising::Levels;
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::files::{require_regular_file, write_bytes_atomic};
use crate::train::optimizer::{State, adam_step};
use crate::train::step::{NoiseSource, StepInput, forward_backward, weighted_loss};

/// A named array of f32.
pub type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

/// Reads `param.NAME` for every parameter, `x0` and `noise` `[B, C, H, W]` (f32) and `t` `[B]` (i64) from `state`, does
/// one training step, and writes to `out`: `x_t`, `prediction`, `loss`, `grad.NAME` and, after one Adam update without
/// warm-up, `new.NAME`. Returns the loss. A state without a text encoder is one of a model that hears no captions; with one, the
/// step is told no caption.
///
/// # Errors
/// [`Error::Format`] for a missing tensor or a wrong shape; [`Error::Io`].
pub fn run<B: Backend>(backend: &B, config: &Config, state: &Path, out: &Path) -> Result<f64> {
    require_regular_file(state)?;
    let bytes = std::fs::read(state).map_err(Error::io("read", state))?;
    let tensors = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::format(state, format!("is not a safetensors file: {error}")))?;
    let mut text = config.text.clone();
    if !tensors.names().iter().any(|name| name.starts_with("param.text.")) {
        text.mode = TextMode::None;
    }
    let dit = Dit::new(&config.model, &text)?;
    let mut weights = vec![0.0; dit.layout().len()];
    for span in dit.layout().spans() {
        let values = read_f32(&tensors, state, &format!("param.{}", span.name), &span.shape)?;
        weights[span.range.clone()].copy_from_slice(&values);
    }
    let t = read_steps(&tensors, state, config.diffusion.steps)?;
    let shape = [t.len(), config.model.channels, config.model.image[0], config.model.image[1]];
    let x0 = read_f32(&tensors, state, "x0", &shape)?;
    let noise = read_f32(&tensors, state, "noise", &shape)?;

    let schedule = Schedule::new(&config.diffusion);
    let levels = Levels::at(&schedule, &config.diffusion, &t, shape[3]);
    let mut device = State::new(backend, &weights)?;
    let objective = config.diffusion.objective;
    let input = StepInput {
        x0: &x0,
        captions: None,
        noise: NoiseSource::Given(&noise),
        levels: &levels,
        objective,
        recompute: config.train.recompute,
    };
    let output = forward_backward(backend, &dit, &mut device, &input, None)?;
    let loss = weighted_loss(&output.losses(backend), &levels);
    let gradients = State::download(backend, &device.gradients);
    device.measure_gradients(backend);
    let mut train = config.train.clone();
    train.warmup = 0;
    device.update(backend, adam_step(&train, dit.layout(), 0));
    let updated = State::download(backend, &device.weights);
    backend.check()?;

    let mut results = Tensors::new();
    let download = |var: &crate::tape::Var<B>| {
        let mut host = vec![0.0; var.len()];
        backend.download(&mut host, var.data());
        host
    };
    results.insert("x_t".into(), (shape.to_vec(), download(&output.x_t)));
    results.insert("prediction".into(), (shape.to_vec(), download(&output.prediction)));
    results.insert("loss".into(), (vec![], vec![loss as f32]));
    for span in dit.layout().spans() {
        let of = |flat: &[f32]| (span.shape.clone(), flat[span.range.clone()].to_vec());
        results.insert(format!("grad.{}", span.name), of(&gradients));
        results.insert(format!("new.{}", span.name), of(&updated));
    }
    write(&results, out)?;
    Ok(loss)
}

fn read_f32(tensors: &SafeTensors<'_>, path: &Path, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let view = find(tensors, path, name, Dtype::F32)?;
    if view.shape() != shape {
        return Err(Error::format(path, format!("`{name}` has shape {:?}, not {shape:?}", view.shape())));
    }
    Ok(bytemuck::pod_collect_to_vec(view.data()))
}

fn read_steps(tensors: &SafeTensors<'_>, path: &Path, steps: usize) -> Result<Vec<usize>> {
    let view = find(tensors, path, "t", Dtype::I64)?;
    let values: Vec<i64> = bytemuck::pod_collect_to_vec(view.data());
    if values.is_empty() {
        return Err(Error::format(path, "`t` is empty"));
    }
    let in_range = |&value: &i64| {
        usize::try_from(value).ok().filter(|&t| t < steps).ok_or_else(|| {
            Error::format(path, format!("`t` holds {value}, which is not in 0 .. diffusion.steps = {steps}"))
        })
    };
    values.iter().map(in_range).collect()
}

fn find<'a>(tensors: &SafeTensors<'a>, path: &Path, name: &str, dtype: Dtype) -> Result<TensorView<'a>> {
    let view = tensors.tensor(name).map_err(|_| Error::format(path, format!("holds no `{name}`")))?;
    if view.dtype() != dtype {
        return Err(Error::format(path, format!("`{name}` is {:?}, not {dtype:?}", view.dtype())));
    }
    Ok(view)
}

fn write(tensors: &Tensors, path: &Path) -> Result<()> {
    let views = tensors.iter().map(|(name, (shape, values))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name, view.expect("shapes and values were made together"))
    });
    let bytes = safetensors::serialize(views, None)
        .map_err(|error| Error::format(path, format!("cannot be written: {error}")))?;
    write_bytes_atomic(path, &bytes)
}
