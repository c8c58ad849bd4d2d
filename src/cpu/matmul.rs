//! Matrix products of linear layers. What follows a product element by element is done to each tile of its rows while the tile
//! is in the cache: bias, activation, gate and residual forward, the activation's derivative backward.

use super::simd::vectorised;
use rayon::prelude::*;

use super::activation;
use super::gemm::{self, Matrix, add_in_order};
use super::pieces::slot;
use super::scratch::with_scratch;
use crate::backend::*;

/// See `Backend::matmul_forward`.
pub fn forward(
    y: &mut [f32],
    pre: Option<&mut [f32]>,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    dims: MatmulDims,
) {
    let (x, w_t) = (Matrix::rows(x, dims.inner), Matrix::rows(w, dims.inner).transposed());
    match pre {
        // The product goes to `pre`, because what is saved is what the product gives.
        Some(pre) => gemm::parallel_with(pre, y, Write::Replace, x, w_t, dims, |_, h, y| {
            vectorised(
                #[inline(always)]
                || {
                    add_bias(h, bias, dims.columns);
                    activation::apply_to(y, h, activation);
                },
            );
        }),
        None => gemm::parallel_with(y, (), Write::Replace, x, w_t, dims, |_, y, ()| {
            vectorised(
                #[inline(always)]
                || {
                    add_bias(y, bias, dims.columns);
                    activation::apply(y, activation);
                },
            );
        }),
    }
}

/// `rows [_, columns] += bias`; to be called inside `vectorised`.
#[inline(always)]
pub fn add_bias(rows: &mut [f32], bias: Option<&[f32]>, columns: usize) {
    let Some(bias) = bias else { return };
    for row in rows.chunks_exact_mut(columns) {
        for (h, bias) in row.iter_mut().zip(bias) {
            *h += bias;
        }
    }
}

/// See `Backend::matmul_backward_input`.
pub fn backward_input(dx: &mut [f32], write: Write, dh: &[f32], w: &[f32], dims: MatmulDims) {
    let product = MatmulDims { rows: dims.rows, columns: dims.inner, inner: dims.columns };
    let (dh, w) = (Matrix::rows(dh, dims.columns), Matrix::rows(w, dims.inner));
    gemm::parallel(dx, write, dh, w, product);
}

/// See `Backend::matmul_backward_weight`.
pub fn backward_weight(dw: &mut [f32], dbias: Option<&mut [f32]>, dh: &[f32], x: &[f32], dims: MatmulDims) {
    let product = MatmulDims { rows: dims.columns, columns: dims.inner, inner: dims.rows };
    let (dh_t, x) = (Matrix::rows(dh, dims.columns).transposed(), Matrix::rows(x, dims.inner));
    gemm::parallel_split(dw, dh_t, x, product);
    if let Some(dbias) = dbias {
        add_column_sums(dbias, dh);
    }
}

/// Rows whose sums one task takes.
const SUM_ROWS: usize = 64;

/// `sums += sum over rows of x [rows, sums.len()]`, in pieces of a fixed number of rows.
pub fn add_column_sums(sums: &mut [f32], x: &[f32]) {
    let columns = sums.len();
    if columns == 0 {
        return;
    }
    let pieces = (x.len() / columns).div_ceil(SUM_ROWS);
    with_scratch(pieces * columns, |partial| {
        partial.par_chunks_mut(columns).zip(x.par_chunks(SUM_ROWS * columns)).for_each(|(partial, rows)| {
            vectorised(
                #[inline(always)]
                || {
                    partial.fill(0.0);
                    for row in rows.chunks_exact(columns) {
                        for (sum, x) in partial.iter_mut().zip(row) {
                            *sum += x;
                        }
                    }
                },
            );
        });
        add_in_order(sums, partial);
    });
}

/// See `Backend::matmul_residual_forward`.
#[allow(clippy::too_many_arguments)]
pub fn residual_forward(
    y: &mut [f32],
    h: Option<&mut [f32]>,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    residual: &[f32],
    gate: Option<Gate<&[f32]>>,
    dims: MatmulDims,
) {
    let (x, w_t) = (Matrix::rows(x, dims.inner), Matrix::rows(w, dims.inner).transposed());
    let columns = dims.columns;
    let gate_of = |gate: &Gate<&'_ [f32]>, row: usize| slot(gate.slot, row / gate.tokens, columns);
    match (gate, h) {
        (Some(gate), Some(h)) => gemm::parallel_with(h, y, Write::Replace, x, w_t, dims, |first, h, y| {
            let residual = &residual[first * columns..];
            vectorised(
                #[inline(always)]
                || {
                    add_bias(h, Some(bias), columns);
                    let rows = y.chunks_exact_mut(columns).zip(h.chunks_exact(columns));
                    for (i, ((y, h), x)) in rows.zip(residual.chunks_exact(columns)).enumerate() {
                        let gate = &gate.modulation[gate_of(&gate, first + i)];
                        for (((y, &h), &x), &gate) in y.iter_mut().zip(h).zip(x).zip(gate) {
                            *y = gate.mul_add(h, x);
                        }
                    }
                },
            );
        }),
        // Without anybody who needs h, y holds it until the gate is applied.
        (Some(gate), None) => gemm::parallel_with(y, (), Write::Replace, x, w_t, dims, |first, y, ()| {
            let residual = &residual[first * columns..];
            vectorised(
                #[inline(always)]
                || {
                    add_bias(y, Some(bias), columns);
                    let rows = y.chunks_exact_mut(columns).zip(residual.chunks_exact(columns));
                    for (i, (y, x)) in rows.enumerate() {
                        let gate = &gate.modulation[gate_of(&gate, first + i)];
                        for ((y, &x), &gate) in y.iter_mut().zip(x).zip(gate) {
                            *y = gate.mul_add(*y, x);
                        }
                    }
                },
            );
        }),
        (None, _) => gemm::parallel_with(y, (), Write::Replace, x, w_t, dims, |first, y, ()| {
            let residual = &residual[first * columns..];
            vectorised(
                #[inline(always)]
                || {
                    add_bias(y, Some(bias), columns);
                    y.iter_mut().zip(residual).for_each(|(y, x)| *y += x);
                },
            );
        }),
    }
}

/// See `Backend::matmul_backward_input_activated`.
pub fn backward_input_activated(
    dpre: &mut [f32],
    dh: &[f32],
    w: &[f32],
    pre: &[f32],
    activation: Activation,
    dims: MatmulDims,
) {
    let product = MatmulDims { rows: dims.rows, columns: dims.inner, inner: dims.columns };
    let (dh, w) = (Matrix::rows(dh, dims.columns), Matrix::rows(w, dims.inner));
    gemm::parallel_with(dpre, (), Write::Replace, dh, w, product, |first, dpre, ()| {
        let pre = &pre[first * dims.inner..];
        vectorised(
            #[inline(always)]
            || activation::multiply_derivative(dpre, pre, activation),
        );
    });
}
