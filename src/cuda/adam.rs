//! adam: the gradient's norm and one update over the flat buffers, a launch each; kernels in `kernels/adam.cu`. Formulas:
//! `Backend::sum_of_squares`, `Backend::adam`.

use bytemuck::NoUninit;

use super::flat::{assert_alike, blocks, settings};
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// See `Backend::sum_of_squares`.
pub fn sum_of_squares(cuda: &Cuda, out: Mut<'_>, x: Ref<'_>) {
    assert_alike([&x]);
    let pieces = x.len.div_ceil(cuda.constant(Element::F32, "adam_piece")).max(1);
    let Some(partials) = cuda.workspace(pieces) else { return };
    let arguments = [Arg::from(&out), x.into(), Arg::from(&partials), cuda.counters(1), Arg::count(x.len)];
    cuda.launch(Element::F32, "adam_sum_of_squares", [pieces, 1, 1], &arguments);
}

/// `Factors` in `kernels/adam.cu`.
#[derive(Clone, Copy, NoUninit)]
#[repr(C)]
struct Factors {
    max_norm: f32,
    beta1: f32,
    beta2: f32,
    rate: f32,
    root: f32,
    eps: f32,
    ema_decay: f32,
    keep: f32,
}

impl Factors {
    /// Powers and quotients in f64: 1 - beta^step cancels for the first steps.
    fn new(step: AdamStep) -> Factors {
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
        Factors {
            max_norm: step.max_norm,
            beta1: step.beta1,
            beta2: step.beta2,
            rate: (f64::from(step.lr) / correction(step.beta1)) as f32,
            root: (1.0 / correction(step.beta2).sqrt()) as f32,
            eps: step.eps,
            ema_decay: step.ema_decay,
            keep: 1.0 - step.lr * step.weight_decay,
        }
    }
}

/// See `Backend::adam`.
#[allow(clippy::too_many_arguments)]
pub fn adam(
    cuda: &Cuda,
    weights: Mut<'_>,
    first: Mut<'_>,
    second: Mut<'_>,
    ema: Mut<'_>,
    gradient: Ref<'_>,
    norm2: Ref<'_>,
    step: AdamStep,
) {
    assert_alike([&weights, &first, &second, &ema, &gradient]);
    let Some(factors) = settings(cuda, &Factors::new(step)) else { return };
    let copy = |address: Option<u64>| Arg::Wide(address.unwrap_or(0));
    let arguments = [
        Arg::from(&weights),
        Arg::from(&first),
        Arg::from(&second),
        Arg::from(&ema),
        copy(weights.copy),
        copy(ema.copy),
        gradient.into(),
        norm2.into(),
        Arg::from(&factors),
        Arg::count(step.decayed.min(weights.len)),
        Arg::count(weights.len),
    ];
    cuda.launch(Element::F32, "adam_update", blocks(cuda, "adam_update", weights.len), &arguments);
}
