//! sampler: one step of any sampler; kernel in `kernels/sampler.cu`. Formula: `Backend::sampler_step`.

use super::flat::{assert_alike, blocks, settings};
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// See `Backend::sampler_step`.
pub fn step(cuda: &Cuda, x: Mut<'_>, prediction: Ref<'_>, z: Option<Ref<'_>>, step: SamplerStep) {
    assert_alike([&x, &prediction, z.as_deref().unwrap_or(&x)]);
    let SamplerStep { from_x, from_prediction, clip, keep, to_x0, noise } = step;
    let step = [from_x, from_prediction, clip, keep, to_x0, noise, 0.0, 0.0];
    let Some(step) = settings(cuda, &step) else { return };
    let arguments =
        [Arg::from(&x), prediction.into(), Arg::optional(z.as_deref()), Arg::from(&step), Arg::count(x.len)];
    cuda.launch(Element::F32, "sampler_step", blocks(cuda, "sampler_step", x.len), &arguments);
}
