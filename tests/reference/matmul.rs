//! Linear layers by plain loops.

use crate::common::real::Real;
use dit_engine::backend::{Activation, MatmulDims};

/// The activation of one number, from its definition.
pub fn activate<F: Real>(x: F, activation: Activation) -> F {
    let (one, half) = (F::from_f64(1.0), F::from_f64(0.5));
    match activation {
        Activation::Identity => x,
        Activation::LeakyRelu if x > F::zero() => x,
        Activation::LeakyRelu => F::from_f64(0.01) * x,
        Activation::Tanh => x.map(f64::tanh),
        Activation::Silu => x / (one + (-x).map(f64::exp)),
        Activation::Gelu => {
            let scale = F::from_f64(2.0 / std::f64::consts::PI).map(f64::sqrt);
            let u = scale * (x + F::from_f64(0.044715) * x * x * x);
            half * x * (one + u.map(f64::tanh))
        }
    }
}

/// h and y of a linear layer.
pub fn forward<F: Real>(
    x: &[F],
    w: &[F],
    bias: Option<&[F]>,
    activation: Activation,
    dims: MatmulDims,
) -> (Vec<F>, Vec<F>) {
    let mut h = vec![F::zero(); dims.rows * dims.columns];
    for r in 0..dims.rows {
        for c in 0..dims.columns {
            let mut sum = F::zero();
            for k in 0..dims.inner {
                sum += x[r * dims.inner + k] * w[c * dims.inner + k];
            }
            h[r * dims.columns + c] = bias.map_or(sum, |bias| sum + bias[c]);
        }
    }
    let y = h.iter().map(|&h| activate(h, activation)).collect();
    (h, y)
}

/// dx
pub fn backward_input<F: Real>(dh: &[F], w: &[F], dims: MatmulDims) -> Vec<F> {
    let mut dx = vec![F::zero(); dims.rows * dims.inner];
    for r in 0..dims.rows {
        for k in 0..dims.inner {
            for c in 0..dims.columns {
                dx[r * dims.inner + k] += dh[r * dims.columns + c] * w[c * dims.inner + k];
            }
        }
    }
    dx
}

/// dw and dbias
pub fn backward_weight<F: Real>(dh: &[F], x: &[F], dims: MatmulDims) -> (Vec<F>, Vec<F>) {
    let mut dw = vec![F::zero(); dims.columns * dims.inner];
    let mut dbias = vec![F::zero(); dims.columns];
    for r in 0..dims.rows {
        for c in 0..dims.columns {
            let g = dh[r * dims.columns + c];
            dbias[c] += g;
            for k in 0..dims.inner {
                dw[c * dims.inner + k] += g * x[r * dims.inner + k];
            }
        }
    }
    (dw, dbias)
}
