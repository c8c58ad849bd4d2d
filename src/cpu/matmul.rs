//! matmul: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::matmul_forward`.
pub fn forward(
    _y: &mut [f32],
    _pre: Option<&mut [f32]>,
    _x: &[f32],
    _w: &[f32],
    _bias: Option<&[f32]>,
    _activation: Activation,
    _dims: MatmulDims,
) {
    unimplemented!()
}

/// See `Backend::matmul_backward_input`.
pub fn backward_input(_dx: &mut [f32], _write: Write, _dh: &[f32], _w: &[f32], _dims: MatmulDims) {
    unimplemented!()
}

/// See `Backend::matmul_backward_weight`.
pub fn backward_weight(
    _dw: &mut [f32],
    _dbias: Option<&mut [f32]>,
    _dh: &[f32],
    _x: &[f32],
    _dims: MatmulDims,
) {
    unimplemented!()
}
