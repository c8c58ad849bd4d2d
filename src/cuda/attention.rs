//! attention: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::attention_forward`.
#[allow(clippy::too_many_arguments)]
pub fn forward(cuda: &Cuda, _out: Mut<'_>, _lse: Mut<'_>, _qkv: Ref<'_>, _dims: AttentionDims) {
    cuda.fail("attention_forward: not there yet");
}

/// See `Backend::attention_backward`.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    cuda: &Cuda,
    _dqkv: Mut<'_>,
    _dout: Ref<'_>,
    _out: Ref<'_>,
    _lse: Ref<'_>,
    _qkv: Ref<'_>,
    _dims: AttentionDims,
) {
    cuda.fail("attention_backward: not there yet");
}
