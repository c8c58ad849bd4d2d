//! elementwise: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::activation_forward`.
pub fn activation_forward(_y: &mut [f32], _x: &[f32], _activation: Activation) {
    unimplemented!()
}

/// See `Backend::activation_backward`.
pub fn activation_backward(_dx: &mut [f32], _write: Write, _dy: &[f32], _x: &[f32], _activation: Activation) {
    unimplemented!()
}

/// See `Backend::activation_backward_in_place`.
pub fn activation_backward_in_place(_dy: &mut [f32], _x: &[f32], _activation: Activation) {
    unimplemented!()
}

/// See `Backend::add_rows_forward`.
pub fn add_rows_forward(_y: &mut [f32], _x: &[f32], _rows: &[f32], _repeat: Repeat, _dims: TokenDims) {
    unimplemented!()
}

/// See `Backend::add_rows_backward`.
pub fn add_rows_backward(_drows: &mut [f32], _dy: &[f32], _repeat: Repeat, _dims: TokenDims) {
    unimplemented!()
}

/// See `Backend::residual_forward`.
pub fn residual_forward(_y: &mut [f32], _x: &[f32], _branch: &[f32]) {
    unimplemented!()
}

/// See `Backend::gated_residual_forward`.
pub fn gated_residual_forward(
    _y: &mut [f32],
    _x: &[f32],
    _branch: &[f32],
    _modulation: &[f32],
    _gate: Slots,
    _dims: TokenDims,
) {
    unimplemented!()
}

/// See `Backend::gated_residual_backward`.
pub fn gated_residual_backward(
    _dbranch: &mut [f32],
    _dmodulation: &mut [f32],
    _dy: &[f32],
    _branch: &[f32],
    _modulation: &[f32],
    _gate: Slots,
    _dims: TokenDims,
) {
    unimplemented!()
}

/// See `Backend::copy`.
pub fn copy(_to: &mut [f32], _from: &[f32]) {
    unimplemented!()
}

/// See `Backend::fill`.
pub fn fill(_to: &mut [f32], _value: f32) {
    unimplemented!()
}

/// See `Backend::add`.
pub fn add(_to: &mut [f32], _from: &[f32]) {
    unimplemented!()
}

/// See `Backend::find_non_finite`.
pub fn find_non_finite(_x: &[f32]) -> Option<usize> {
    unimplemented!()
}
