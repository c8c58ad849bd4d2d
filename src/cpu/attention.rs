//! attention: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::attention_forward`.
pub fn forward(_out: &mut [f32], _lse: &mut [f32], _qkv: &[f32], _dims: AttentionDims) {
    unimplemented!()
}

/// See `Backend::attention_backward`.
pub fn backward(
    _dqkv: &mut [f32],
    _dout: &[f32],
    _out: &[f32],
    _lse: &[f32],
    _qkv: &[f32],
    _dims: AttentionDims,
) {
    unimplemented!()
}
