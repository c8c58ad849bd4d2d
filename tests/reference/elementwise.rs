//! Activations, added rows and residuals by the book.

use dit_engine::backend::{Activation, Repeat, Slots, TokenDims};

use crate::common::real::Real;

pub fn activation(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::LeakyRelu => x.max(0.0) + 0.01 * x.min(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::Gelu => x / 2.0 * (1.0 + gelu_argument(x).tanh()),
    }
}

pub fn derivative(x: f64, activation: Activation) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::LeakyRelu => {
            if x > 0.0 {
                1.0
            } else {
                0.01
            }
        }
        Activation::Tanh => 1.0 - x.tanh().powi(2),
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            s + x * s * (1.0 - s)
        }
        Activation::Gelu => {
            let tanh = gelu_argument(x).tanh();
            let slope = (2.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
            (1.0 + tanh) / 2.0 + x / 2.0 * (1.0 - tanh * tanh) * slope
        }
    }
}

fn gelu_argument(x: f64) -> f64 {
    (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))
}

/// Index of an element's row in the added rows.
fn row(token_row: usize, repeat: Repeat, dims: TokenDims) -> usize {
    match repeat {
        Repeat::OverBatch => token_row % dims.tokens,
        Repeat::OverTokens => token_row / dims.tokens,
    }
}

pub fn add_rows<R: Real>(x: &[R], rows: &[R], repeat: Repeat, dims: TokenDims) -> Vec<R> {
    let dim = dims.dim;
    (0..x.len()).map(|i| x[i] + rows[row(i / dim, repeat, dims) * dim + i % dim]).collect()
}

pub fn add_rows_backward<R: Real>(drows: &mut [R], dy: &[R], repeat: Repeat, dims: TokenDims) {
    for (i, &dy) in dy.iter().enumerate() {
        drows[row(i / dims.dim, repeat, dims) * dims.dim + i % dims.dim] += dy;
    }
}

/// Where the gate of element `i` lies.
fn gate_of(i: usize, gate: Slots, dims: TokenDims) -> usize {
    let sample = i / (dims.tokens * dims.dim);
    (sample * gate.count + gate.index) * dims.dim + i % dims.dim
}

pub fn gated_residual<R: Real>(
    x: &[R],
    branch: &[R],
    modulation: &[R],
    gate: Slots,
    dims: TokenDims,
) -> Vec<R> {
    (0..x.len()).map(|i| x[i] + modulation[gate_of(i, gate, dims)] * branch[i]).collect()
}

/// Returns dbranch and adds to dmodulation.
pub fn gated_residual_backward<R: Real>(
    dmodulation: &mut [R],
    dy: &[R],
    branch: &[R],
    modulation: &[R],
    gate: Slots,
    dims: TokenDims,
) -> Vec<R> {
    let mut dbranch = Vec::new();
    for i in 0..dy.len() {
        let place = gate_of(i, gate, dims);
        dbranch.push(modulation[place] * dy[i]);
        dmodulation[place] += dy[i] * branch[i];
    }
    dbranch
}
