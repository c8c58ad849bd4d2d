//! embed: the sinusoidal step embedding, rows of a table, and means over tokens. Formulas: `Backend::step_embedding`,
//! `Backend::lookup_*`, `Backend::pool_*`. All of it is small (a few rows a sample) and runs on the caller.

use super::pieces::add_to;
use crate::backend::*;

/// See `Backend::step_embedding`. In f64: the angle reaches 1000, where f32 has only four decimals left.
pub fn step_embedding(out: &mut [f32], t: &[f32], half: usize, max_period: f32) {
    for (row, &t) in out.chunks_exact_mut(2 * half).zip(t) {
        let (sines, cosines) = row.split_at_mut(half);
        for (i, (sine, cosine)) in sines.iter_mut().zip(cosines).enumerate() {
            let frequency = f64::from(max_period).powf(-(i as f64) / half as f64);
            let (s, c) = (f64::from(t) * frequency).sin_cos();
            (*sine, *cosine) = (s as f32, c as f32);
        }
    }
}

/// See `Backend::lookup_forward`.
pub fn lookup_forward(out: &mut [f32], table: &[f32], indices: &[u32], dim: usize) {
    for (row, &index) in out.chunks_exact_mut(dim).zip(indices) {
        row.copy_from_slice(&table[index as usize * dim..][..dim]);
    }
}

/// See `Backend::lookup_backward`.
pub fn lookup_backward(dtable: &mut [f32], dout: &[f32], indices: &[u32], dim: usize) {
    for (row, &index) in dout.chunks_exact(dim).zip(indices) {
        add_to(&mut dtable[index as usize * dim..][..dim], row);
    }
}

/// See `Backend::pool_forward`.
pub fn pool_forward(out: &mut [f32], x: &[f32], lengths: &[f32], dims: TokenDims) {
    let samples = out.chunks_exact_mut(dims.dim).zip(x.chunks_exact(dims.tokens * dims.dim));
    for ((out, x), &length) in samples.zip(lengths) {
        out.fill(0.0);
        x.chunks_exact(dims.dim).take(length as usize).for_each(|row| add_to(out, row));
        out.iter_mut().for_each(|out| *out /= length);
    }
}

/// See `Backend::pool_backward`.
pub fn pool_backward(dx: &mut [f32], write: Write, dout: &[f32], lengths: &[f32], dims: TokenDims) {
    if write == Write::Replace {
        dx.fill(0.0);
    }
    let samples = dx.chunks_exact_mut(dims.tokens * dims.dim).zip(dout.chunks_exact(dims.dim));
    for ((dx, dout), &length) in samples.zip(lengths) {
        for row in dx.chunks_exact_mut(dims.dim).take(length as usize) {
            row.iter_mut().zip(dout).for_each(|(dx, dout)| *dx += dout / length);
        }
    }
}
