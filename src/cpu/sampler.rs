//! sampler: one step of any sampler, and guidance. Formulas: `Backend::sampler_step`, `Backend::guide`.

use rayon::prelude::*;

use super::pieces::{Cut, Piece};
use super::simd::vectorised;
use crate::backend::*;

/// See `Backend::sampler_step`.
pub fn step(
    x: &mut [f32],
    saved: Option<&mut [f32]>,
    prediction: &[f32],
    z: Option<&[f32]>,
    step: SamplerStep,
) {
    let cut = Cut::elements(x.len());
    let rest = |piece: &Piece| (&prediction[piece.rows.clone()], z.map(|z| &z[piece.rows.clone()]));
    match saved {
        None => cut.run(x, |piece, x| {
            let (prediction, z) = rest(&piece);
            vectorised(
                #[inline(always)]
                || {
                    for (x, &prediction) in x.iter_mut().zip(prediction) {
                        *x = moved(*x, estimate(*x, prediction, step), step);
                    }
                    add_noise(x, z, step);
                },
            );
        }),
        Some(saved) => cut.run((x, saved), |piece, (x, saved)| {
            let (prediction, z) = rest(&piece);
            vectorised(
                #[inline(always)]
                || {
                    for ((x, saved), &prediction) in x.iter_mut().zip(saved.iter_mut()).zip(prediction) {
                        let x0 = estimate(*x, prediction, step);
                        let next = saved.mul_add(step.from_saved, moved(*x, x0, step));
                        *saved = x.mul_add(step.save_x, step.save_x0 * x0);
                        *x = next;
                    }
                    add_noise(x, z, step);
                },
            );
        }),
    }
}

/// What the model says that x0 is.
#[inline(always)]
fn estimate(x: f32, prediction: f32, step: SamplerStep) -> f32 {
    let x0 = x.mul_add(step.from_x, step.from_prediction * prediction);
    // Not f32::max and min: those would hide a NaN.
    let x0 = if x0 > step.clip { step.clip } else { x0 };
    if x0 < -step.clip { -step.clip } else { x0 }
}

/// The part of a step without noise and without what was saved.
#[inline(always)]
fn moved(x: f32, x0: f32, step: SamplerStep) -> f32 {
    x.mul_add(step.keep, step.to_x0 * x0)
}

#[inline(always)]
fn add_noise(x: &mut [f32], z: Option<&[f32]>, step: SamplerStep) {
    for (x, &z) in x.iter_mut().zip(z.unwrap_or_default()) {
        *x = z.mul_add(step.noise, *x);
    }
}

/// See `Backend::guide`.
pub fn guide(
    out: &mut [f32],
    conditional: &[f32],
    unconditional: &[f32],
    samples: usize,
    scale: f32,
    rescale: f32,
) {
    let elements = out.len() / samples.max(1);
    if elements == 0 {
        return;
    }
    let inputs = conditional.par_chunks(elements).zip(unconditional.par_chunks(elements));
    out.par_chunks_mut(elements).zip(inputs).for_each(|(out, (conditional, unconditional))| {
        for ((out, &c), &u) in out.iter_mut().zip(conditional).zip(unconditional) {
            *out = (c - u).mul_add(scale, u);
        }
        if rescale != 0.0 {
            let factor = deviation(conditional) / deviation(out).max(f64::MIN_POSITIVE);
            let factor = 1.0 - rescale + rescale * factor as f32;
            out.iter_mut().for_each(|out| *out *= factor);
        }
    });
}

fn deviation(x: &[f32]) -> f64 {
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let squares = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
    (squares / x.len() as f64).sqrt()
}
