//! embed: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};

/// See `Backend::step_embedding`.
#[allow(clippy::too_many_arguments)]
pub fn step_embedding(cuda: &Cuda, _out: Mut<'_>, _t: Ref<'_>, _half: usize, _max_period: f32) {
    cuda.fail("step_embedding: not there yet");
}

/// See `Backend::lookup_forward`.
#[allow(clippy::too_many_arguments)]
pub fn lookup_forward(cuda: &Cuda, _out: Mut<'_>, _table: Ref<'_>, _indices: &[u32], _dim: usize) {
    cuda.fail("lookup_forward: not there yet");
}

/// See `Backend::lookup_backward`.
#[allow(clippy::too_many_arguments)]
pub fn lookup_backward(cuda: &Cuda, _dtable: Mut<'_>, _dout: Ref<'_>, _indices: &[u32], _dim: usize) {
    cuda.fail("lookup_backward: not there yet");
}
