//! matmul: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::matmul_forward`.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _pre: Option<Mut<'_>>,
    _x: Ref<'_>,
    _w: Ref<'_>,
    _bias: Option<Ref<'_>>,
    _activation: Activation,
    _dims: MatmulDims,
) {
    cuda.fail("matmul_forward: not there yet");
}

/// See `Backend::matmul_residual_forward`.
#[allow(clippy::too_many_arguments)]
pub fn residual_forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _h: Option<Mut<'_>>,
    _x: Ref<'_>,
    _w: Ref<'_>,
    _bias: Ref<'_>,
    _residual: Ref<'_>,
    _gate: Option<Gate<Ref<'_>>>,
    _dims: MatmulDims,
) {
    cuda.fail("matmul_residual_forward: not there yet");
}

/// See `Backend::matmul_backward_input`.
#[allow(clippy::too_many_arguments)]
pub fn backward_input(
    cuda: &Cuda,
    _dx: Mut<'_>,
    _write: Write,
    _dh: Ref<'_>,
    _w: Ref<'_>,
    _dims: MatmulDims,
) {
    cuda.fail("matmul_backward_input: not there yet");
}

/// See `Backend::matmul_backward_input_activated`.
#[allow(clippy::too_many_arguments)]
pub fn backward_input_activated(
    cuda: &Cuda,
    _dpre: Mut<'_>,
    _dh: Ref<'_>,
    _w: Ref<'_>,
    _pre: Ref<'_>,
    _activation: Activation,
    _dims: MatmulDims,
) {
    cuda.fail("matmul_backward_input_activated: not there yet");
}

/// See `Backend::matmul_backward_weight`.
#[allow(clippy::too_many_arguments)]
pub fn backward_weight(
    cuda: &Cuda,
    _dw: Mut<'_>,
    _dbias: Option<Mut<'_>>,
    _dh: Ref<'_>,
    _x: Ref<'_>,
    _dims: MatmulDims,
) {
    cuda.fail("matmul_backward_weight: not there yet");
}
