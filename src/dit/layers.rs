//! What the blocks are made of.

use crate::backend::{Activation, Backend};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::ops::{matmul, norm};
use crate::params::{Init, LayoutBuilder, Param};
use crate::tape::{Tape, Var};

/// A linear layer: weight `[out, in]` and bias `[out]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Linear {
    pub(super) weight: Param,
    pub(super) bias: Param,
}

impl Linear {
    /// PyTorch's default: weight and bias uniform in +-1/sqrt(in).
    pub(super) fn new(layout: &mut LayoutBuilder, name: &str, inner: usize, out: usize) -> Self {
        let bound = Init::Uniform(1.0 / (inner as f32).sqrt());
        Self::with(layout, name, inner, out, bound, bound)
    }

    /// Glorot and Bengio 2010, eq. 16: uniform in +-sqrt(6 / (in + out)), bias 0; the DiT's blocks.
    pub(super) fn xavier(layout: &mut LayoutBuilder, name: &str, inner: usize, out: usize) -> Self {
        let bound = Init::Uniform((6.0 / (inner + out) as f32).sqrt());
        Self::with(layout, name, inner, out, bound, Init::Constant(0.0))
    }

    /// Normal with deviation 0.02, bias 0; the DiT's step embedding.
    pub(super) fn normal(layout: &mut LayoutBuilder, name: &str, inner: usize, out: usize) -> Self {
        Self::with(layout, name, inner, out, Init::Normal(0.02), Init::Constant(0.0))
    }

    /// All zero: adaLN-Zero's modulations, so that each block starts as the identity.
    pub(super) fn zero(layout: &mut LayoutBuilder, name: &str, inner: usize, out: usize) -> Self {
        Self::with(layout, name, inner, out, Init::Constant(0.0), Init::Constant(0.0))
    }

    fn with(
        layout: &mut LayoutBuilder,
        name: &str,
        inner: usize,
        out: usize,
        weight: Init,
        bias: Init,
    ) -> Self {
        Linear {
            weight: layout.add(format!("{name}.weight"), &[out, inner], true, weight),
            bias: layout.add(format!("{name}.bias"), &[out], false, bias),
        }
    }

    /// `activation(x w^T + b)`
    pub(super) fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        x: &Var<B>,
        activation: Activation,
    ) -> Result<Var<B>> {
        matmul::linear(tape, x, self.weight, self.bias, activation)
    }
}

/// A layer norm with gain and bias `[dim]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    weight: Param,
    bias: Param,
}

/// PyTorch's default, and the seed's.
const NORM_EPS: f32 = 1e-5;

impl Affine {
    pub(super) fn new(layout: &mut LayoutBuilder, name: &str, dim: usize) -> Self {
        Affine {
            weight: layout.add(format!("{name}.weight"), &[dim], false, Init::Constant(1.0)),
            bias: layout.add(format!("{name}.bias"), &[dim], false, Init::Constant(0.0)),
        }
    }

    /// x `[batch, tokens, dim]`
    pub(super) fn forward<B: Backend>(&self, tape: &mut Tape<'_, B>, x: &Var<B>) -> Result<Var<B>> {
        norm::affine(tape, x, self.weight, self.bias, NORM_EPS)
    }
}

/// Fixed 2-D position embedding `[tokens, dim]` (Vaswani et al. 2017, section 3.5, on two axes as in He et al. 2022
/// and Peebles and Xie 2023): the first half of `dim` encodes the row, the second the column; within a half, sines
/// of `position * 10000^(-i / (dim / 4))`, i = 0 .. dim/4, then cosines.
pub(super) fn sincos_2d(config: &ModelConfig) -> Vec<f32> {
    let quarter = config.dim / 4;
    let columns = config.image[1] / config.patch[1];
    let mut table = Vec::with_capacity(config.tokens() * config.dim);
    for token in 0..config.tokens() {
        for position in [token / columns, token % columns] {
            let angle = |i: usize| position as f64 * 10_000f64.powf(-(i as f64) / quarter as f64);
            table.extend((0..quarter).map(|i| angle(i).sin() as f32));
            table.extend((0..quarter).map(|i| angle(i).cos() as f32));
        }
    }
    table
}
