//! norm: layer normalisation, affine and modulated. Formulas: `Backend::norm_*`.
//!
//! Both forms are one kernel: `y = xhat scale + shift` with a scale and a shift for each group of rows. The affine
//! form has one group; the modulated form has one a sample, its scale being 1 + the slot. Each row is read
//! from memory once and stays in the first-level cache: mean first, then the variance around it.

use super::pieces::{Cut, PerPiece, Piece, Rows, add_to, slot, sum, sum_pairs, sum_triples};
use super::scratch::with_scratch;
use super::simd::vectorised;
use crate::backend::*;

/// Statistics a row: mean and rstd.
const STATS: usize = 2;

/// See `Backend::norm_affine_forward`.
pub fn affine_forward(
    y: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    dims: TokenDims,
) {
    let cut = Cut::rows(1, dims.rows(), dims.dim);
    forward(cut, y, stats, x, |_| weight, |_| bias, eps, dims.dim);
}

/// See `Backend::norm_affine_backward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_backward(
    dx: &mut [f32],
    write: Write,
    dweight: &mut [f32],
    dbias: &mut [f32],
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    weight: &[f32],
    dims: TokenDims,
) {
    let cut = Cut::rows(1, dims.rows(), dims.dim);
    with_scratch(cut.pieces() * 2 * dims.dim, |partials| {
        backward(cut, dx, partials, write, dy, x, stats, |_| weight, dims.dim);
        for partial in partials.chunks_exact(2 * dims.dim) {
            let (scale, shift) = partial.split_at(dims.dim);
            add_to(dweight, scale);
            add_to(dbias, shift);
        }
    });
}

/// See `Backend::norm_modulated_forward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_forward(
    y: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    modulation: &[f32],
    shift: Slots,
    scale: Slots,
    eps: f32,
    dims: TokenDims,
) {
    let cut = Cut::rows(dims.batch, dims.tokens, dims.dim);
    with_one_plus_scale(modulation, scale, dims, |scale| {
        let scale = |sample| row(scale, sample, dims.dim);
        let shift = |sample| &modulation[slot(shift, sample, dims.dim)];
        forward(cut, y, stats, x, scale, shift, eps, dims.dim);
    });
}

/// See `Backend::norm_modulated_backward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_backward(
    dx: &mut [f32],
    write: Write,
    dmodulation: &mut [f32],
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    modulation: &[f32],
    shift: Slots,
    scale: Slots,
    dims: TokenDims,
) {
    let cut = Cut::rows(dims.batch, dims.tokens, dims.dim);
    with_scratch(cut.pieces() * 2 * dims.dim, |partials| {
        with_one_plus_scale(modulation, scale, dims, |scale| {
            let scale = |sample| row(scale, sample, dims.dim);
            backward(cut, dx, partials, write, dy, x, stats, scale, dims.dim);
        });
        for (index, partial) in partials.chunks_exact(2 * dims.dim).enumerate() {
            let sample = index / cut.group_pieces();
            let (dscale, dshift) = partial.split_at(dims.dim);
            add_to(&mut dmodulation[slot(scale, sample, dims.dim)], dscale);
            add_to(&mut dmodulation[slot(shift, sample, dims.dim)], dshift);
        }
    });
}

/// Calls `work` with 1 + the scale of each sample, `[batch, dim]`.
fn with_one_plus_scale(modulation: &[f32], scale: Slots, dims: TokenDims, work: impl FnOnce(&[f32])) {
    with_scratch(dims.batch * dims.dim, |one_plus| {
        for (sample, one_plus) in one_plus.chunks_exact_mut(dims.dim).enumerate() {
            for (one_plus, scale) in one_plus.iter_mut().zip(&modulation[slot(scale, sample, dims.dim)]) {
                *one_plus = 1.0 + scale;
            }
        }
        work(one_plus);
    });
}

fn row(x: &[f32], index: usize, dim: usize) -> &[f32] {
    &x[index * dim..(index + 1) * dim]
}

#[allow(clippy::too_many_arguments)]
fn forward<'a>(
    cut: Cut,
    y: &mut [f32],
    stats: &mut [f32],
    x: &[f32],
    scale: impl Fn(usize) -> &'a [f32] + Sync,
    shift: impl Fn(usize) -> &'a [f32] + Sync,
    eps: f32,
    dim: usize,
) {
    cut.run((Rows(y, dim), Rows(stats, STATS)), |piece: Piece, (Rows(y, _), Rows(stats, _))| {
        let (scale, shift) = (scale(piece.group), shift(piece.group));
        let x = &x[piece.elements(dim)];
        vectorised(
            #[inline(always)]
            || {
                let rows =
                    y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(stats.chunks_exact_mut(STATS));
                for ((y, x), stats) in rows {
                    let (mean, rstd) = statistics(x, eps);
                    stats.copy_from_slice(&[mean, rstd]);
                    for (((y, &x), &scale), &shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                        *y = ((x - mean) * rstd).mul_add(scale, shift);
                    }
                }
            },
        );
    });
}

/// Mean and 1 / sqrt(variance + eps) of a row.
#[inline(always)]
fn statistics(x: &[f32], eps: f32) -> (f32, f32) {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// Writes dx, and into `partials [pieces, 2, dim]` the sums over each piece of dy xhat and of dy.
#[allow(clippy::too_many_arguments)]
fn backward<'a>(
    cut: Cut,
    dx: &mut [f32],
    partials: &mut [f32],
    write: Write,
    dy: &[f32],
    x: &[f32],
    stats: &[f32],
    scale: impl Fn(usize) -> &'a [f32] + Sync,
    dim: usize,
) {
    let out = (Rows(dx, dim), PerPiece(partials, 2 * dim));
    cut.run(out, |piece: Piece, (Rows(dx, _), PerPiece(partial, _))| {
        partial.fill(0.0);
        let scale = scale(piece.group);
        let (dy, x) = (&dy[piece.elements(dim)], &x[piece.elements(dim)]);
        let stats = &stats[piece.elements(STATS)];
        vectorised(
            #[inline(always)]
            || {
                let (dscale, dshift) = partial.split_at_mut(dim);
                let rows = dx.chunks_exact_mut(dim).zip(dy.chunks_exact(dim)).zip(x.chunks_exact(dim));
                for (((dx, dy), x), stats) in rows.zip(stats.chunks_exact(STATS)) {
                    backward_parameters(dscale, dshift, dy, x, stats);
                    backward_row(dx, write, dy, x, stats, scale);
                }
            },
        );
    });
}

/// `dscale += dy xhat; dshift += dy` for one row.
#[inline(always)]
fn backward_parameters(dscale: &mut [f32], dshift: &mut [f32], dy: &[f32], x: &[f32], stats: &[f32]) {
    let (mean, rstd) = (stats[0], stats[1]);
    for (((dscale, dshift), &dy), &x) in dscale.iter_mut().zip(dshift).zip(dy).zip(x) {
        *dscale = dy.mul_add((x - mean) * rstd, *dscale);
        *dshift += dy;
    }
}

/// `dx = rstd (g - mean(g) - xhat mean(g xhat))`, g = dy scale, for one row.
#[inline(always)]
fn backward_row(dx: &mut [f32], write: Write, dy: &[f32], x: &[f32], stats: &[f32], scale: &[f32]) {
    let (mean, rstd) = (stats[0], stats[1]);
    let count = x.len() as f32;
    let mean_g = sum_pairs(dy, scale, |dy, scale| dy * scale) / count;
    // g is not stored: three arrays in the first-level cache cost less than a fourth one.
    let mean_g_xhat = sum_triples(dy, scale, x, |dy, scale, x| dy * scale * ((x - mean) * rstd)) / count;
    for (((dx, &dy), &scale), &x) in dx.iter_mut().zip(dy).zip(scale).zip(x) {
        let xhat = (x - mean) * rstd;
        // Not fused: what cancels exactly on paper (a row of one element) is to cancel exactly here.
        let gradient = rstd * (dy * scale - mean_g - xhat * mean_g_xhat);
        *dx = match write {
            Write::Replace => gradient,
            Write::Add => *dx + gradient,
        };
    }
}
