//! sampler: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::sampler_step`.
#[allow(clippy::too_many_arguments)]
pub fn step(cuda: &Cuda, _x: Mut<'_>, _prediction: Ref<'_>, _z: Option<Ref<'_>>, _step: SamplerStep) {
    cuda.fail("sampler_step: not there yet");
}
