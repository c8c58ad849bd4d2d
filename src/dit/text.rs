//! What the network hears of a caption: a small bidirectional transformer over its tokens (Vaswani et al. 2017, with the
//! norms in front), trained with everything else, or the vectors of a frozen encoder; from either one vector, a sequence,
//! or both.

use crate::backend::{Activation, Backend};
use crate::config::{TextConfig, TextMode};
use crate::error::{Error, Result};
use crate::ops::matmul::Residual;
use crate::ops::{attention, elementwise, embed, matmul};
use crate::params::{Init, LayoutBuilder, Param};
use crate::tape::{Tape, Var};
use crate::text::Captions;

use super::layers::{Affine, Linear};

/// Hidden features of the encoder's MLPs, as a multiple of its width.
const MLP_RATIO: usize = 4;
/// Deviation of the tables' first values.
const TABLE_DEVIATION: f32 = 0.02;

/// From captions to what the blocks take.
#[derive(Clone, Debug)]
pub(super) struct TextEncoder {
    config: TextConfig,
    source: Source,
    last: Affine,
    /// One vector for the step embedding.
    pooled: Option<Linear>,
}

/// Where a token's vector comes from.
#[derive(Clone, Debug)]
enum Source {
    /// Rows of a table, with their positions, through blocks.
    Trained { table: Param, position: Param, blocks: Vec<TextBlock> },
    /// Given, and only brought to the right width.
    Frozen(Linear),
}

/// A caption as the blocks take it.
pub(super) struct Heard<B: Backend> {
    /// `[batch, dim of the network]`, to be added to the step embedding.
    pub(super) pooled: Option<Var<B>>,
    /// Tokens to attend to.
    pub(super) sequence: Option<Sequence<B>>,
}

/// A sequence, and how much of it is there.
pub(super) struct Sequence<B: Backend> {
    /// `[batch, tokens, text.dim]`
    pub(super) tokens: Var<B>,
    /// `[batch]`
    pub(super) lengths: Var<B>,
}

impl TextEncoder {
    /// `None` where no caption is heard; `dim` is the network's.
    pub(super) fn new(layout: &mut LayoutBuilder, config: &TextConfig, dim: usize) -> Option<TextEncoder> {
        if config.mode == TextMode::None {
            return None;
        }
        let width = config.dim;
        let source = if config.features > 0 {
            Source::Frozen(Linear::xavier(layout, "text.project", config.features, width))
        } else {
            let mut table = |name: &str, rows: usize| {
                layout.add(name, &[rows, width], false, Init::Normal(TABLE_DEVIATION))
            };
            let (table, position) =
                (table("text.table", config.vocabulary), table("text.position", config.tokens));
            let blocks = (0..config.depth).map(|index| TextBlock::new(layout, config, index)).collect();
            Source::Trained { table, position, blocks }
        };
        let last = Affine::new(layout, "text.norm", width);
        let pooled = config.mode.pools().then(|| Linear::xavier(layout, "text.pooled", width, dim));
        Some(TextEncoder { config: config.clone(), source, last, pooled })
    }

    /// What a model hears that is not told anything.
    pub(super) fn no_captions(&self, batch: usize) -> Captions {
        let TextConfig { tokens, features, .. } = self.config;
        let none = Captions::none(batch, tokens);
        Captions { features: vec![0.0; batch * tokens * features], ..none }
    }

    /// What is heard of `captions`.
    pub(super) fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        captions: &Captions,
    ) -> Result<Heard<B>> {
        let (batch, tokens) = (captions.len(), self.config.tokens);
        if captions.tokens != tokens {
            return Err(Error::shape(
                "text",
                format!("captions of {tokens} tokens"),
                captions.tokens.to_string(),
            ));
        }
        let lengths = tape.constant_from_host(&[batch], &captions.lengths)?;
        let mut sequence = match &self.source {
            Source::Trained { table, position, .. } => {
                tape.label("text.table");
                let rows = embed::lookup(tape, *table, &captions.ids, tokens)?;
                tape.label("text.position");
                elementwise::add_positions(tape, &rows, *position)?
            }
            Source::Frozen(project) => {
                tape.label("text.project");
                let features = self.features(tape, captions)?;
                project.forward(tape, &features, Activation::Identity)?
            }
        };
        if let Source::Trained { blocks, .. } = &self.source {
            for block in blocks {
                sequence = block.forward(tape, sequence, &lengths)?;
            }
        }
        tape.label("text.norm");
        let sequence = self.last.forward(tape, &sequence)?;
        let pooled = match &self.pooled {
            None => None,
            Some(linear) => {
                tape.label("text.pooled");
                let mean = embed::pool(tape, &sequence, &lengths)?;
                Some(linear.forward(tape, &mean, Activation::Identity)?)
            }
        };
        let sequence = self.config.mode.crosses().then_some(Sequence { tokens: sequence, lengths });
        Ok(Heard { pooled, sequence })
    }

    /// The frozen encoder's vectors, as activations.
    fn features<B: Backend>(&self, tape: &mut Tape<'_, B>, captions: &Captions) -> Result<Var<B>> {
        let shape = [captions.len(), captions.tokens, self.config.features];
        let len = shape.iter().product();
        if captions.features.len() != len {
            let got = format!("{} values", captions.features.len());
            return Err(Error::shape("text", format!("{shape:?} of a frozen encoder"), got));
        }
        let mut data = tape.backend.alloc_activation(len)?;
        tape.backend.upload(B::view_mut(&mut data, 0..len), &captions.features);
        Ok(tape.constant(&shape, data))
    }
}

/// Attention and MLP of the text encoder.
#[derive(Clone, Debug)]
struct TextBlock {
    name: String,
    heads: usize,
    norms: [Affine; 2],
    q: Linear,
    kv: Linear,
    out: Linear,
    mlp_up: Linear,
    mlp_down: Linear,
}

impl TextBlock {
    fn new(layout: &mut LayoutBuilder, config: &TextConfig, index: usize) -> TextBlock {
        let name = format!("text.blocks.{index}");
        let (dim, hidden) = (config.dim, MLP_RATIO * config.dim);
        let mut linear =
            |part: &str, inner, out| Linear::xavier(layout, &format!("{name}.{part}"), inner, out);
        let [q, kv, out] = [("attn.q", dim), ("attn.kv", 2 * dim), ("attn.out", dim)]
            .map(|(part, columns)| linear(part, dim, columns));
        let (mlp_up, mlp_down) = (linear("mlp.0", dim, hidden), linear("mlp.2", hidden, dim));
        let norms = ["norm1", "norm2"].map(|which| Affine::new(layout, &format!("{name}.{which}"), dim));
        TextBlock { heads: config.heads, norms, q, kv, out, mlp_up, mlp_down, name }
    }

    fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: Var<B>,
        lengths: &Var<B>,
    ) -> Result<Var<B>> {
        let label = |part: &str| format!("{}.{part}", self.name);
        tape.label(label("norm1"));
        let normed = self.norms[0].forward(tape, &tokens)?;
        tape.label(label("attn.q"));
        let q = self.q.forward(tape, &normed, Activation::Identity)?;
        tape.label(label("attn.kv"));
        let kv = self.kv.forward(tape, &normed, Activation::Identity)?;
        tape.label(label("attn"));
        let mixed = attention::cross(tape, &q, &kv, lengths, self.heads)?;
        tape.label(label("attn.out"));
        let tokens = matmul::residual_linear(tape, &mixed, self.out.weight, self.out.bias, &plain(&tokens))?;
        tape.label(label("norm2"));
        let normed = self.norms[1].forward(tape, &tokens)?;
        tape.label(label("mlp"));
        let (up, down) = (self.mlp_up, self.mlp_down);
        let (up, down) = ((up.weight, up.bias), (down.weight, down.bias));
        matmul::mlp(tape, &normed, up, down, Activation::Gelu, &plain(&tokens))
    }
}

/// Attention of the network's tokens to a caption's, between a block's halves (Chen et al. 2024, PixArt-alpha, section 2.3):
/// it starts at zero.
#[derive(Clone, Debug)]
pub(super) struct CrossAttention {
    name: String,
    heads: usize,
    norm: Affine,
    q: Linear,
    kv: Linear,
    out: Linear,
}

impl CrossAttention {
    pub(super) fn new(
        layout: &mut LayoutBuilder,
        block: &str,
        [dim, text_dim]: [usize; 2],
        heads: usize,
    ) -> CrossAttention {
        let name = format!("{block}.cross");
        CrossAttention {
            heads,
            norm: Affine::new(layout, &format!("{name}.norm"), dim),
            q: Linear::xavier(layout, &format!("{name}.q"), dim, dim),
            kv: Linear::xavier(layout, &format!("{name}.kv"), text_dim, 2 * dim),
            out: Linear::zero(layout, &format!("{name}.out"), dim, dim),
            name,
        }
    }

    /// tokens `[batch, tokens, dim]`
    pub(super) fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        tokens: &Var<B>,
        [text, lengths]: [&Var<B>; 2],
    ) -> Result<Var<B>> {
        let label = |part: &str| format!("{}{part}", self.name);
        tape.label(label(".norm"));
        let normed = self.norm.forward(tape, tokens)?;
        tape.label(label(".q"));
        let q = self.q.forward(tape, &normed, Activation::Identity)?;
        drop(normed);
        tape.label(label(".kv"));
        let kv = self.kv.forward(tape, text, Activation::Identity)?;
        tape.label(label(""));
        let mixed = attention::cross(tape, &q, &kv, lengths, self.heads)?;
        tape.label(label(".out"));
        matmul::residual_linear(tape, &mixed, self.out.weight, self.out.bias, &plain(tokens))
    }
}

/// A residual connection without a gate, in the middle of a part.
fn plain<B: Backend>(stream: &Var<B>) -> Residual<'_, B> {
    Residual { stream, gate: None, ends_part: false }
}
