//! The two kinds of transformer block.

use crate::backend::{Activation, Backend};
use crate::config::{BlockKind, ModelConfig, Recompute, TextConfig};
use crate::error::Result;
use crate::ops::matmul::Residual;
use crate::ops::{attention, matmul, norm};
use crate::params::LayoutBuilder;
use crate::tape::{Tape, Var};

use super::layers::{Affine, Linear};
use super::text::{CrossAttention, Sequence};

/// Epsilon of adaLN's layer norms (the DiT's).
pub(super) const NORM_EPS_ADALN: f32 = 1e-6;

/// Attention and MLP, each on a normalised copy of the tokens, each added back; between them, where captions are heard so,
/// attention to the caption.
#[derive(Clone, Debug)]
pub(super) struct Block {
    name: String,
    heads: usize,
    norms: Norms,
    qkv: Linear,
    out: Linear,
    cross: Option<CrossAttention>,
    mlp_up: Linear,
    mlp_down: Linear,
}

/// How the tokens are normalised before each half of a block.
#[derive(Clone, Debug)]
enum Norms {
    /// Learned gain and bias.
    Affine([Affine; 2]),
    /// Shift, scale and gate of each half from the step (adaLN-Zero).
    Modulated(Linear),
}

/// The slots of a block's modulation, in their order on disk.
#[derive(Clone, Copy)]
enum Slot {
    Shift = 0,
    Scale = 1,
    Gate = 2,
}

/// Which half of a block.
#[derive(Clone, Copy)]
enum Half {
    Attention = 0,
    Mlp = 1,
}

impl Block {
    pub(super) fn new(
        layout: &mut LayoutBuilder,
        config: &ModelConfig,
        text: &TextConfig,
        index: usize,
    ) -> Self {
        let name = format!("blocks.{index}");
        let (dim, hidden) = (config.dim, config.mlp_ratio * config.dim);
        let linear = match config.block {
            BlockKind::Seed => Linear::new,
            BlockKind::AdalnZero => Linear::xavier,
        };
        let affine =
            |layout: &mut LayoutBuilder, which: &str| Affine::new(layout, &format!("{name}.{which}"), dim);
        let (norms, qkv, out) = match config.block {
            BlockKind::Seed => {
                let first = affine(layout, "norm1");
                let qkv = linear(layout, &format!("{name}.attn.qkv"), dim, 3 * dim);
                let out = linear(layout, &format!("{name}.attn.out"), dim, dim);
                (Norms::Affine([first, affine(layout, "norm2")]), qkv, out)
            }
            BlockKind::AdalnZero => {
                let modulation = Linear::zero(layout, &format!("{name}.modulation"), dim, 6 * dim);
                let qkv = linear(layout, &format!("{name}.attn.qkv"), dim, 3 * dim);
                (Norms::Modulated(modulation), qkv, linear(layout, &format!("{name}.attn.out"), dim, dim))
            }
        };
        let crosses = text.mode.crosses();
        let cross = crosses.then(|| CrossAttention::new(layout, &name, [dim, text.dim], config.heads));
        let mlp_up = linear(layout, &format!("{name}.mlp.0"), dim, hidden);
        let mlp_down = linear(layout, &format!("{name}.mlp.2"), hidden, dim);
        Block { heads: config.heads, norms, qkv, out, cross, mlp_up, mlp_down, name }
    }

    /// tokens `[batch, tokens, dim]`; condition `[batch, dim]` (SiLU of the step embedding; unused by the seed's); text is
    /// there when the block attends to it.
    pub(super) fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: Var<B>,
        condition: &Var<B>,
        text: Option<&Sequence<B>>,
    ) -> Result<Var<B>> {
        let modulation = match &self.norms {
            Norms::Affine(_) => None,
            Norms::Modulated(linear) => {
                tape.label(format!("{}.modulation", self.name));
                Some(linear.forward(tape, condition, Activation::Identity)?)
            }
        };
        if tape.recompute() == Recompute::None {
            let text = text.map(|text| [&text.tokens, &text.lengths]);
            return self.all_parts(tape, &tokens, modulation.as_ref(), text);
        }
        let block = self.clone();
        let (modulated, heard) = (modulation.is_some(), text.is_some());
        let text = text.into_iter().flat_map(|text| [&text.tokens, &text.lengths]);
        let inputs: Vec<&Var<B>> = std::iter::once(&tokens).chain(&modulation).chain(text).collect();
        tape.label(&self.name);
        tape.checkpoint(&inputs, move |tape, inputs| {
            let modulation = modulated.then(|| &inputs[1]);
            let text = heard.then(|| [&inputs[inputs.len() - 2], &inputs[inputs.len() - 1]]);
            block.all_parts(tape, &inputs[0], modulation, text)
        })
    }

    /// `text` are a caption's tokens and how many there are.
    fn all_parts<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: &Var<B>,
        modulation: Option<&Var<B>>,
        text: Option<[&Var<B>; 2]>,
    ) -> Result<Var<B>> {
        let branch = self.normalise(tape, tokens, modulation, Half::Attention)?;
        let mut tokens = self.attend(tape, &branch, &self.residual(tokens, modulation, Half::Attention))?;
        drop(branch);
        if let (Some(cross), Some(text)) = (&self.cross, text) {
            tokens = cross.forward(tape, &tokens, text)?;
        }
        let branch = self.normalise(tape, &tokens, modulation, Half::Mlp)?;
        self.mlp(tape, &branch, &self.residual(&tokens, modulation, Half::Mlp))
    }

    fn residual<'a, B: Backend>(
        &self,
        stream: &'a Var<B>,
        modulation: Option<&'a Var<B>>,
        half: Half,
    ) -> Residual<'a, B> {
        let gate = modulation.map(|modulation| (modulation, slot(half, Slot::Gate)));
        Residual { stream, gate, ends_part: matches!(half, Half::Mlp) }
    }

    fn normalise<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: &Var<B>,
        modulation: Option<&Var<B>>,
        half: Half,
    ) -> Result<Var<B>> {
        tape.label(format!("{}.norm{}", self.name, half as usize + 1));
        match (&self.norms, modulation) {
            (Norms::Affine(norms), _) => norms[half as usize].forward(tape, tokens),
            (Norms::Modulated(_), modulation) => {
                let modulation = modulation.expect("made at the top of forward for this kind");
                let (shift, scale) = (slot(half, Slot::Shift), slot(half, Slot::Scale));
                norm::modulated(tape, tokens, modulation, shift, scale, NORM_EPS_ADALN)
            }
        }
    }

    fn attend<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: &Var<B>,
        residual: &Residual<'_, B>,
    ) -> Result<Var<B>> {
        tape.label(format!("{}.attn.qkv", self.name));
        let qkv = self.qkv.forward(tape, tokens, Activation::Identity)?;
        tape.label(format!("{}.attn", self.name));
        let mixed = attention::attention(tape, &qkv, self.heads)?;
        tape.label(format!("{}.attn.out", self.name));
        matmul::residual_linear(tape, &mixed, self.out.weight, self.out.bias, residual)
    }

    fn mlp<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: &Var<B>,
        residual: &Residual<'_, B>,
    ) -> Result<Var<B>> {
        let activation = match self.norms {
            Norms::Affine(_) => Activation::LeakyRelu,
            Norms::Modulated(_) => Activation::Gelu,
        };
        tape.label(format!("{}.mlp", self.name));
        let (up, down) = (self.mlp_up, self.mlp_down);
        matmul::mlp(tape, tokens, (up.weight, up.bias), (down.weight, down.bias), activation, residual)
    }
}

fn slot(half: Half, slot: Slot) -> usize {
    3 * half as usize + slot as usize
}
