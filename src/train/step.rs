//! One training step up to the gradients: noise, prediction, loss, backward.

use crate::backend::{Backend, NoiseKey, Objective, Purpose};
use crate::config::Recompute;
use crate::diffusion::noising::{self, Levels};
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};
use crate::text::Captions;
use crate::train::optimizer::State;

/// Where the noise of a step comes from.
#[derive(Clone, Copy, Debug)]
pub enum NoiseSource<'a> {
    /// Drawn: number `first` and following of a stream.
    Stream(NoiseKey, u64),
    /// Given, `[batch, channels, height, width]`.
    Given(&'a [f32]),
}

/// What goes into a step.
#[derive(Clone, Copy, Debug)]
pub struct StepInput<'a> {
    /// Clean images, `[batch, channels, height, width]`.
    pub x0: &'a [f32],
    /// What they are said to be; `None` for no captions at all.
    pub captions: Option<&'a Captions>,
    /// The noise.
    pub noise: NoiseSource<'a>,
    /// How much of it, where, and the samples' weights.
    pub levels: &'a Levels,
    /// What the model predicts.
    pub objective: Objective,
    /// What backward computes again.
    pub recompute: Recompute,
}

/// What comes out of a step besides the gradients, all on the device.
pub struct StepOutput<B: Backend> {
    /// Unweighted mean squared error of each sample, `[batch]`.
    pub losses: B::Buf,
    /// The noisy images.
    pub x_t: Var<B>,
    /// The prediction.
    pub prediction: Var<B>,
}

impl<B: Backend> StepOutput<B> {
    /// The losses on the host; waits for the step.
    pub fn losses(&self, backend: &B) -> Vec<f32> {
        State::download(backend, &self.losses)
    }
}

/// Mean of weight times squared error over the samples of a step: what is minimised.
pub fn weighted_loss(losses: &[f32], levels: &Levels) -> f64 {
    let weighted = losses.iter().zip(&levels.weights).map(|(&loss, &w)| f64::from(loss) * f64::from(w));
    weighted.sum::<f64>() / losses.len() as f64
}

impl StepInput<'_> {
    /// The noise of training step `step`.
    pub fn training_noise(seed: u64, step: u64) -> NoiseSource<'static> {
        NoiseSource::Stream(NoiseKey { seed, step, purpose: Purpose::Noise }, 0)
    }
}

/// Prediction and loss without gradients.
pub fn evaluate<B: Backend>(
    backend: &B,
    dit: &Dit,
    weights: &B::Buf,
    input: &StepInput<'_>,
) -> Result<StepOutput<B>> {
    let mut tape = Tape::forward_only(backend, dit.layout(), weights);
    forward(&mut tape, dit, input).map(|(output, _)| output)
}

/// Prediction, loss, and the gradients into `state.gradients`, which are overwritten.
///
/// `watch` searches every value and gradient for the first that is not finite (see [`Tape`]).
pub fn forward_backward<B: Backend>(
    backend: &B,
    dit: &Dit,
    state: &mut State<B>,
    input: &StepInput<'_>,
    watch: Option<u64>,
) -> Result<StepOutput<B>> {
    let all = 0..dit.layout().len();
    backend.fill(B::view_mut(&mut state.gradients, all), 0.0);
    let mut tape = Tape::recording(backend, dit.layout(), &state.weights);
    tape.set_recompute(input.recompute);
    if let Some(step) = watch {
        tape.watch_for_non_finite(step);
    }
    let (output, dprediction) = forward(&mut tape, dit, input)?;
    tape.backward(output.prediction.clone(), dprediction, &mut state.gradients)?;
    Ok(output)
}

fn forward<B: Backend>(
    tape: &mut Tape<'_, B>,
    dit: &Dit,
    input: &StepInput<'_>,
) -> Result<(StepOutput<B>, B::Buf)> {
    let batch = input.levels.t.len();
    let config = dit.config();
    let shape = [batch, config.channels, config.image[0], config.image[1]];
    let len = batch * dit.image_len();
    if input.x0.len() != len {
        return Err(Error::shape(
            "training step",
            format!("{shape:?}"),
            format!("{} values", input.x0.len()),
        ));
    }
    let x0 = tape.constant_from_host(&shape, input.x0)?;
    let noised = match input.noise {
        NoiseSource::Stream(key, first) => {
            noising::draw_and_apply(tape, &x0, key, first, input.levels, input.objective)?
        }
        NoiseSource::Given(host) => {
            let eps = tape.constant_from_host(&shape, host)?;
            noising::apply(tape, &x0, &eps, input.levels, input.objective)?
        }
    };
    drop(x0);
    let t = input.levels.t_for_model();
    let prediction = dit.forward(tape, &noised.x_t, &t, input.captions)?;

    let weights = tape.constant_from_host(&[batch], &input.levels.weights)?;
    let (mut losses, mut dprediction) = (tape.backend.alloc(batch)?, tape.backend.alloc(len)?);
    tape.backend.mse(
        B::view_mut(&mut losses, 0..batch),
        B::view_mut(&mut dprediction, 0..len),
        prediction.data(),
        noised.target.data(),
        weights.data(),
    );
    Ok((StepOutput { losses, x_t: noised.x_t, prediction }, dprediction))
}

/// Fails with the name of the first parameter that is not finite after step `step`.
///
/// # Errors
/// [`Error::NonFinite`].
pub fn check_weights<B: Backend>(backend: &B, dit: &Dit, state: &State<B>, step: u64) -> Result<()> {
    let weights = B::view(&state.weights, 0..dit.layout().len());
    let Some(element) = backend.find_non_finite(weights) else { return Ok(()) };
    let name = dit.layout().name_at(element).unwrap_or("(padding)");
    let mut value = [0.0];
    backend.download(&mut value, B::view(&state.weights, element..element + 1));
    let tensor = format!("parameter {name}");
    Err(Error::NonFinite { tensor, value: value[0], step, advice: String::new() })
}

/// Finds out what went wrong in a step whose loss or gradient is not finite: checks the parameters, then replays
/// the step, whose number is `step` (from 1), and watches every value.
///
/// # Errors
/// Always: [`Error::NonFinite`] with the name of the first bad tensor.
pub fn find_culprit<B: Backend>(
    backend: &B,
    dit: &Dit,
    state: &mut State<B>,
    input: &StepInput<'_>,
    step: u64,
) -> Error {
    let bad = |tensor: String, value: f32| Error::NonFinite { tensor, value, step, advice: String::new() };
    // Bad weights at the beginning are the work of the step before.
    if let Err(error) = check_weights(backend, dit, state, step.saturating_sub(1)) {
        return error;
    }
    if let Some(element) = input.x0.iter().position(|value| !value.is_finite()) {
        return bad("the training data".to_string(), input.x0[element]);
    }
    match forward_backward(backend, dit, state, input, Some(step)) {
        Err(error) => error,
        Ok(output) => {
            let loss = weighted_loss(&output.losses(backend), input.levels);
            let gradients = State::download(backend, &state.gradients);
            match gradients.iter().position(|value| !value.is_finite()) {
                Some(element) => {
                    let name = dit.layout().name_at(element).unwrap_or("a parameter");
                    bad(format!("gradient of {name}"), gradients[element])
                }
                None => bad("the loss (or the norm of the gradients)".to_string(), loss as f32),
            }
        }
    }
}
