//! norm: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::norm_affine_forward`.
pub fn affine_forward(
    _y: &mut [f32],
    _stats: &mut [f32],
    _x: &[f32],
    _weight: &[f32],
    _bias: &[f32],
    _eps: f32,
    _dims: TokenDims,
) {
    unimplemented!()
}

/// See `Backend::norm_affine_backward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_backward(
    _dx: &mut [f32],
    _write: Write,
    _dweight: &mut [f32],
    _dbias: &mut [f32],
    _dy: &[f32],
    _x: &[f32],
    _stats: &[f32],
    _weight: &[f32],
    _dims: TokenDims,
) {
    unimplemented!()
}

/// See `Backend::norm_modulated_forward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_forward(
    _y: &mut [f32],
    _stats: &mut [f32],
    _x: &[f32],
    _modulation: &[f32],
    _shift: Slots,
    _scale: Slots,
    _eps: f32,
    _dims: TokenDims,
) {
    unimplemented!()
}

/// See `Backend::norm_modulated_backward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_backward(
    _dx: &mut [f32],
    _write: Write,
    _dmodulation: &mut [f32],
    _dy: &[f32],
    _x: &[f32],
    _stats: &[f32],
    _modulation: &[f32],
    _shift: Slots,
    _scale: Slots,
    _dims: TokenDims,
) {
    unimplemented!()
}
