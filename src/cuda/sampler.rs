//! sampler: one step of any sampler, and guidance; kernels in `kernels/sampler.cu`. Formulas: `Backend::sampler_step`,
//! `Backend::guide`.

use super::flat::{assert_alike, blocks, settings};
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// See `Backend::sampler_step`.
pub fn step(
    cuda: &Cuda,
    x: Mut<'_>,
    saved: Option<Mut<'_>>,
    prediction: Ref<'_>,
    z: Option<Ref<'_>>,
    step: SamplerStep,
) {
    let SamplerStep { from_x, from_prediction, clip, keep, to_x0, from_saved, noise, save_x, save_x0 } = step;
    assert_alike([&x, &prediction, z.as_deref().unwrap_or(&x), saved.as_deref().unwrap_or(&x)]);
    let step =
        [from_x, from_prediction, clip, keep, to_x0, noise, from_saved, save_x, save_x0, 0.0, 0.0, 0.0];
    let Some(step) = settings(cuda, &step) else { return };
    let arguments = [
        Arg::from(&x),
        Arg::optional(saved.as_deref()),
        prediction.into(),
        Arg::optional(z.as_deref()),
        Arg::from(&step),
        Arg::count(x.len),
    ];
    cuda.launch(Element::F32, "sampler_step", blocks(cuda, "sampler_step", x.len), &arguments);
}

/// See `Backend::guide`.
pub fn guide(
    cuda: &Cuda,
    out: Mut<'_>,
    conditional: Ref<'_>,
    unconditional: Ref<'_>,
    samples: usize,
    scale: f32,
    rescale: f32,
) {
    assert_alike([&out, &conditional, &unconditional]);
    let elements = out.len / samples.max(1);
    let Some(scales) = settings(cuda, &[scale, rescale]) else { return };
    let arguments =
        [Arg::from(&out), conditional.into(), unconditional.into(), Arg::from(&scales), Arg::count(elements)];
    cuda.launch(Element::F32, "sampler_guide", [samples, 1, 1], &arguments);
}
