//! elementwise: copies, activations, added rows and residuals; one pass over memory each. Formulas: `Backend`,
//! section elementwise, and `copy`, `fill`, `add`, `find_non_finite`.

use rayon::prelude::*;

use super::activation as act;
use super::pieces::{Cut, PIECE, PerPiece, Piece, Rows, add_to, slot};
use super::scratch::with_scratch;
use super::simd::vectorised;
use crate::backend::*;

/// See `Backend::activation_forward`.
pub fn activation_forward(y: &mut [f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::Identity => copy(y, x),
        Activation::LeakyRelu => map(y, x, act::leaky_relu),
        Activation::Tanh => map(y, x, act::tanh),
        Activation::Silu => map(y, x, act::silu),
        Activation::Gelu => map(y, x, act::gelu),
    }
}

/// `y = f(x)`; f must be `#[inline(always)]`.
fn map(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    Cut::elements(y.len()).run(y, |piece: Piece, y| {
        let x = &x[piece.rows];
        vectorised(
            #[inline(always)]
            || {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = f(x);
                }
            },
        );
    });
}

/// See `Backend::activation_backward`.
pub fn activation_backward(dx: &mut [f32], write: Write, dy: &[f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::Identity => chain(dx, write, dy, x, one),
        Activation::LeakyRelu => chain(dx, write, dy, x, act::leaky_relu_derivative),
        Activation::Tanh => chain(dx, write, dy, x, act::tanh_derivative),
        Activation::Silu => chain(dx, write, dy, x, act::silu_derivative),
        Activation::Gelu => chain(dx, write, dy, x, act::gelu_derivative),
    }
}

/// `dx = dy derivative(x)`; derivative must be `#[inline(always)]`.
fn chain(dx: &mut [f32], write: Write, dy: &[f32], x: &[f32], derivative: impl Fn(f32) -> f32 + Sync) {
    Cut::elements(dx.len()).run(dx, |piece: Piece, dx| {
        let (dy, x) = (&dy[piece.rows.clone()], &x[piece.rows]);
        vectorised(
            #[inline(always)]
            || {
                for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                    let gradient = dy * derivative(x);
                    *dx = match write {
                        Write::Replace => gradient,
                        Write::Add => *dx + gradient,
                    };
                }
            },
        );
    });
}

/// See `Backend::activation_backward_in_place`.
pub fn activation_backward_in_place(dy: &mut [f32], x: &[f32], activation: Activation) {
    Cut::elements(dy.len()).run(dy, |piece: Piece, dy| {
        let x = &x[piece.rows];
        vectorised(
            #[inline(always)]
            || act::multiply_derivative(dy, x, activation),
        );
    });
}

/// Derivative of the identity.
#[inline(always)]
fn one(_: f32) -> f32 {
    1.0
}

/// See `Backend::add_rows_forward`.
pub fn add_rows_forward(y: &mut [f32], x: &[f32], rows: &[f32], repeat: Repeat, dims: TokenDims) {
    let dim = dims.dim;
    each_row(y, rows, repeat, dims, |element, y, row| add_pair(y, &x[element..][..dim], row));
}

/// Calls `f` for each row of y, with the index of its first element and the row that is repeated there; f must be
/// `#[inline(always)]`.
fn each_row(
    y: &mut [f32],
    rows: &[f32],
    repeat: Repeat,
    dims: TokenDims,
    f: impl Fn(usize, &mut [f32], &[f32]) + Sync,
) {
    let dim = dims.dim;
    Cut::rows(dims.batch, dims.tokens, dim).run(Rows(y, dim), |piece: Piece, Rows(y, _)| {
        let first = piece.elements(dim).start;
        let first_token = piece.rows.start - piece.group * dims.tokens;
        vectorised(
            #[inline(always)]
            || {
                for (i, y) in y.chunks_exact_mut(dim).enumerate() {
                    let row = match repeat {
                        Repeat::OverBatch => first_token + i,
                        Repeat::OverTokens => piece.group,
                    };
                    f(first + i * dim, y, &rows[row * dim..][..dim]);
                }
            },
        );
    });
}

/// See `Backend::add_rows_backward`.
pub fn add_rows_backward(drows: &mut [f32], dy: &[f32], repeat: Repeat, dims: TokenDims) {
    match repeat {
        Repeat::OverBatch => add_samples(drows, dy, dims),
        Repeat::OverTokens => add_tokens(drows, dy, dims),
    }
}

/// `drows[tokens, dim] += sum of dy over samples`, in their order. Nothing is shared between pieces.
fn add_samples(drows: &mut [f32], dy: &[f32], dims: TokenDims) {
    let sample_len = dims.tokens * dims.dim;
    Cut::elements(sample_len).run(drows, |piece: Piece, drows| {
        vectorised(
            #[inline(always)]
            || {
                for sample in dy.chunks_exact(sample_len) {
                    add_to(drows, &sample[piece.rows.clone()]);
                }
            },
        );
    });
}

/// `drows[batch, dim] += sum of dy over tokens`: partial sums a piece, added in order.
fn add_tokens(drows: &mut [f32], dy: &[f32], dims: TokenDims) {
    let dim = dims.dim;
    let cut = Cut::rows(dims.batch, dims.tokens, dim);
    with_scratch(cut.pieces() * dim, |partials| {
        cut.run(PerPiece(partials, dim), |piece: Piece, PerPiece(partial, _)| {
            partial.fill(0.0);
            let dy = &dy[piece.elements(dim)];
            vectorised(
                #[inline(always)]
                || {
                    for dy in dy.chunks_exact(dim) {
                        add_to(partial, dy);
                    }
                },
            );
        });
        for (index, partial) in partials.chunks_exact(dim).enumerate() {
            let sample = index / cut.group_pieces();
            add_to(&mut drows[sample * dim..][..dim], partial);
        }
    });
}

/// See `Backend::residual_forward`.
pub fn residual_forward(y: &mut [f32], x: &[f32], branch: &[f32]) {
    Cut::elements(y.len()).run(y, |piece: Piece, y| {
        let (x, branch) = (&x[piece.rows.clone()], &branch[piece.rows]);
        vectorised(
            #[inline(always)]
            || add_pair(y, x, branch),
        );
    });
}

/// `y = a + b`
#[inline(always)]
fn add_pair(y: &mut [f32], a: &[f32], b: &[f32]) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = a + b;
    }
}

/// See `Backend::gated_residual_forward`.
pub fn gated_residual_forward(
    y: &mut [f32],
    x: &[f32],
    branch: &[f32],
    modulation: &[f32],
    gate: Slots,
    dims: TokenDims,
) {
    let dim = dims.dim;
    Cut::rows(dims.batch, dims.tokens, dim).run(Rows(y, dim), |piece: Piece, Rows(y, _)| {
        let gate = &modulation[slot(gate, piece.group, dim)];
        let (x, branch) = (&x[piece.elements(dim)], &branch[piece.elements(dim)]);
        vectorised(
            #[inline(always)]
            || {
                let inputs = x.chunks_exact(dim).zip(branch.chunks_exact(dim));
                for (y, (x, branch)) in y.chunks_exact_mut(dim).zip(inputs) {
                    for (((y, &x), &branch), &gate) in y.iter_mut().zip(x).zip(branch).zip(gate) {
                        *y = gate.mul_add(branch, x);
                    }
                }
            },
        );
    });
}

/// See `Backend::gated_residual_backward`.
pub fn gated_residual_backward(
    dbranch: &mut [f32],
    dmodulation: &mut [f32],
    dy: &[f32],
    branch: &[f32],
    modulation: &[f32],
    gate: Slots,
    dims: TokenDims,
) {
    let dim = dims.dim;
    let cut = Cut::rows(dims.batch, dims.tokens, dim);
    with_scratch(cut.pieces() * dim, |partials| {
        gate_backward(cut, dbranch, partials, dy, branch, |sample| &modulation[slot(gate, sample, dim)], dim);
        for (index, partial) in partials.chunks_exact(dim).enumerate() {
            let sample = index / cut.group_pieces();
            add_to(&mut dmodulation[slot(gate, sample, dim)], partial);
        }
    });
}

/// Writes dbranch, and into `partials [pieces, dim]` the sum over each piece of dy branch.
fn gate_backward<'a>(
    cut: Cut,
    dbranch: &mut [f32],
    partials: &mut [f32],
    dy: &[f32],
    branch: &[f32],
    gate: impl Fn(usize) -> &'a [f32] + Sync,
    dim: usize,
) {
    let out = (Rows(dbranch, dim), PerPiece(partials, dim));
    cut.run(out, |piece: Piece, (Rows(dbranch, _), PerPiece(dgate, _))| {
        dgate.fill(0.0);
        let gate = gate(piece.group);
        let (dy, branch) = (&dy[piece.elements(dim)], &branch[piece.elements(dim)]);
        vectorised(
            #[inline(always)]
            || {
                let inputs = dy.chunks_exact(dim).zip(branch.chunks_exact(dim));
                for (dbranch, (dy, branch)) in dbranch.chunks_exact_mut(dim).zip(inputs) {
                    gate_row_backward(dbranch, dgate, dy, branch, gate);
                }
            },
        );
    });
}

/// `dbranch = gate dy; dgate += dy branch` for one row.
#[inline(always)]
fn gate_row_backward(dbranch: &mut [f32], dgate: &mut [f32], dy: &[f32], branch: &[f32], gate: &[f32]) {
    let inputs = dy.iter().zip(branch).zip(gate);
    for ((dbranch, dgate), ((&dy, &branch), &gate)) in dbranch.iter_mut().zip(dgate).zip(inputs) {
        *dbranch = gate * dy;
        *dgate = dy.mul_add(branch, *dgate);
    }
}

/// See `Backend::copy`.
pub fn copy(to: &mut [f32], from: &[f32]) {
    Cut::elements(to.len()).run(to, |piece: Piece, to| to.copy_from_slice(&from[piece.rows]));
}

/// See `Backend::fill`.
pub fn fill(to: &mut [f32], value: f32) {
    Cut::elements(to.len()).run(to, |_: Piece, to| to.fill(value));
}

/// See `Backend::add`.
pub fn add(to: &mut [f32], from: &[f32]) {
    Cut::elements(to.len()).run(to, |piece: Piece, to| {
        let from = &from[piece.rows];
        vectorised(
            #[inline(always)]
            || add_to(to, from),
        );
    });
}

/// See `Backend::find_non_finite`.
pub fn find_non_finite(x: &[f32]) -> Option<usize> {
    let bad_piece = if x.len() <= PIECE {
        has_non_finite(x).then_some(0)
    } else {
        x.par_chunks(PIECE).position_first(has_non_finite)
    }?;
    let start = bad_piece * PIECE;
    x[start..].iter().position(|x| !x.is_finite()).map(|index| start + index)
}

/// Without an early exit, which would keep the loop from vectorising.
fn has_non_finite(x: &[f32]) -> bool {
    vectorised(
        #[inline(always)]
        || {
            let mut bad = false;
            for x in x {
                bad |= !x.is_finite();
            }
            bad
        },
    )
}
