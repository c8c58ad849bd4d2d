//! norm: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::norm_affine_forward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _stats: Mut<'_>,
    _x: Ref<'_>,
    _weight: Ref<'_>,
    _bias: Ref<'_>,
    _eps: f32,
    _dims: TokenDims,
) {
    cuda.fail("norm_affine_forward: not there yet");
}

/// See `Backend::norm_affine_backward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_backward(
    cuda: &Cuda,
    _dx: Mut<'_>,
    _write: Write,
    _dweight: Mut<'_>,
    _dbias: Mut<'_>,
    _dy: Ref<'_>,
    _x: Ref<'_>,
    _stats: Ref<'_>,
    _weight: Ref<'_>,
    _dims: TokenDims,
) {
    cuda.fail("norm_affine_backward: not there yet");
}

/// See `Backend::norm_modulated_forward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _stats: Mut<'_>,
    _x: Ref<'_>,
    _modulation: Ref<'_>,
    _shift: Slots,
    _scale: Slots,
    _eps: f32,
    _dims: TokenDims,
) {
    cuda.fail("norm_modulated_forward: not there yet");
}

/// See `Backend::norm_modulated_backward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_backward(
    cuda: &Cuda,
    _dx: Mut<'_>,
    _write: Write,
    _dmodulation: Mut<'_>,
    _dy: Ref<'_>,
    _x: Ref<'_>,
    _stats: Ref<'_>,
    _modulation: Ref<'_>,
    _shift: Slots,
    _scale: Slots,
    _dims: TokenDims,
) {
    cuda.fail("norm_modulated_backward: not there yet");
}
