//! adam: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::sum_of_squares`.
pub fn sum_of_squares(_out: &mut [f32], _x: &[f32]) {
    unimplemented!()
}

/// See `Backend::adam`.
pub fn update(
    _weights: &mut [f32],
    _first: &mut [f32],
    _second: &mut [f32],
    _ema: &mut [f32],
    _gradient: &[f32],
    _norm2: &[f32],
    _step: AdamStep,
) {
    unimplemented!()
}
