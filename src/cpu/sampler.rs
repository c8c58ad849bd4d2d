//! sampler: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::sampler_step`.
pub fn step(_x: &mut [f32], _prediction: &[f32], _z: Option<&[f32]>, _step: SamplerStep) {
    unimplemented!()
}
