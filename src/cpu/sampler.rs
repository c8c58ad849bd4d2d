//! sampler: one step of any sampler. Formula: `Backend::sampler_step`.

use super::pieces::{Cut, Piece};
use super::simd::vectorised;
use crate::backend::*;

/// See `Backend::sampler_step`.
pub fn step(x: &mut [f32], prediction: &[f32], z: Option<&[f32]>, step: SamplerStep) {
    Cut::elements(x.len()).run(x, |piece: Piece, x| {
        let prediction = &prediction[piece.rows.clone()];
        let z = z.map(|z| &z[piece.rows]);
        vectorised(
            #[inline(always)]
            || {
                for (x, &prediction) in x.iter_mut().zip(prediction) {
                    *x = moved(*x, prediction, step);
                }
                for (x, &z) in x.iter_mut().zip(z.unwrap_or_default()) {
                    *x = z.mul_add(step.noise, *x);
                }
            },
        );
    });
}

/// The part of a step without noise.
#[inline(always)]
fn moved(x: f32, prediction: f32, step: SamplerStep) -> f32 {
    let x0 = x.mul_add(step.from_x, step.from_prediction * prediction);
    // Not f32::max and min: those would hide a NaN.
    let x0 = if x0 > step.clip { step.clip } else { x0 };
    let x0 = if x0 < -step.clip { -step.clip } else { x0 };
    x.mul_add(step.keep, step.to_x0 * x0)
}
