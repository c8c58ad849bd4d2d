//! adam: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::sum_of_squares`.
#[allow(clippy::too_many_arguments)]
pub fn sum_of_squares(cuda: &Cuda, _out: Mut<'_>, _x: Ref<'_>) {
    cuda.fail("sum_of_squares: not there yet");
}

/// See `Backend::adam`.
#[allow(clippy::too_many_arguments)]
pub fn adam(
    cuda: &Cuda,
    _weights: Mut<'_>,
    _first: Mut<'_>,
    _second: Mut<'_>,
    _ema: Mut<'_>,
    _gradient: Ref<'_>,
    _norm2: Ref<'_>,
    _step: AdamStep,
) {
    cuda.fail("adam: not there yet");
}
