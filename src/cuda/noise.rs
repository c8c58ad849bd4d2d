//! noise: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::normal`.
#[allow(clippy::too_many_arguments)]
pub fn normal(cuda: &Cuda, _out: Mut<'_>, _key: NoiseKey, _first: u64) {
    cuda.fail("normal: not there yet");
}

/// See `Backend::noise_mix`.
#[allow(clippy::too_many_arguments)]
pub fn mix(
    cuda: &Cuda,
    _x_t: Mut<'_>,
    _target: Mut<'_>,
    _x0: Ref<'_>,
    _eps: Ref<'_>,
    _rows: Ref<'_>,
    _objective: Objective,
    _width: usize,
) {
    cuda.fail("noise_mix: not there yet");
}
