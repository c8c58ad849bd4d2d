//! embed: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::step_embedding`.
pub fn step_embedding(_out: &mut [f32], _t: &[f32], _half: usize, _max_period: f32) {
    unimplemented!()
}

/// See `Backend::lookup_forward`.
pub fn lookup_forward(_out: &mut [f32], _table: &[f32], _indices: &[u32], _dim: usize) {
    unimplemented!()
}

/// See `Backend::lookup_backward`.
pub fn lookup_backward(_dtable: &mut [f32], _dout: &[f32], _indices: &[u32], _dim: usize) {
    unimplemented!()
}
