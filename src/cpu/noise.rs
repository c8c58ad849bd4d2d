//! noise: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::normal`.
pub fn normal(_out: &mut [f32], _key: NoiseKey, _first: u64) {
    unimplemented!()
}

/// See `Backend::noise_mix`.
pub fn mix(
    _x_t: &mut [f32],
    _target: &mut [f32],
    _x0: &[f32],
    _eps: &[f32],
    _rows: &[f32],
    _objective: Objective,
    _width: usize,
) {
    unimplemented!()
}
