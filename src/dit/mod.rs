//! The Diffusion Transformer. Reads like the paper: patches to tokens, position, blocks that know the step and the
//! caption, tokens back to an image.

mod block;
mod layers;
mod text;

use crate::backend::{Activation, Backend};
use crate::config::{self, BlockKind, ModelConfig, TextConfig};
use crate::error::Result;
use crate::ops::patch::{Position, Rows};
use crate::ops::{elementwise, embed, norm, patch};
use crate::params::{Init, Layout, LayoutBuilder, Param};
use crate::tape::{Tape, Var};
use crate::text::Captions;

use block::{Block, NORM_EPS_ADALN};
use layers::Linear;
use text::{Heard, TextEncoder};

/// The network: its layers by name, and the layout of its parameters.
#[derive(Clone, Debug)]
pub struct Dit {
    config: ModelConfig,
    layout: Layout,
    patch_embed: Patches,
    position: PositionEmbedding,
    step_embed: StepEmbedding,
    /// What hears captions; none where none are heard.
    text: Option<TextEncoder>,
    blocks: Vec<Block>,
    /// adaLN's last norm: shift and scale of the tokens before they become an image. The seed has none.
    last: Option<Linear>,
    patch_deembed: Patches,
}

/// Kernel `[dim, channels, patch_height, patch_width]` and bias of a patch (de-)embedding.
#[derive(Clone, Copy, Debug)]
struct Patches {
    weight: Param,
    bias: Param,
}

#[derive(Clone, Debug)]
enum PositionEmbedding {
    Learned(Param),
    Fixed(Vec<f32>),
}

/// Sinusoids of t, then a two-layer MLP: the seed's with tanh, DiT's with SiLU.
#[derive(Clone, Debug)]
struct StepEmbedding {
    half: usize,
    max_period: f32,
    activation: Activation,
    first: Linear,
    second: Linear,
}

impl Dit {
    /// Lays out the model. Parameter names are module paths; the order is the order of the forward pass.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the shapes do not fit together.
    pub fn new(config: &ModelConfig, text: &TextConfig) -> Result<Dit> {
        config.check()?;
        text.check()?;
        let mut layout = LayoutBuilder::default();
        let (dim, tokens) = (config.dim, config.tokens());
        let [height, width] = config.patch;
        let kernel = [dim, config.channels, height, width];
        let patch_len = config.channels * height * width;

        let bound = 1.0 / (patch_len as f32).sqrt();
        let patch_embed = Patches {
            weight: layout.add("patch_embed.weight", &kernel, true, Init::Uniform(bound)),
            bias: layout.add("patch_embed.bias", &[dim], false, Init::Uniform(bound)),
        };
        let position = match config.position {
            config::Position::Learned => {
                PositionEmbedding::Learned(layout.add("position", &[tokens, dim], false, Init::Constant(0.0)))
            }
            config::Position::Sincos => PositionEmbedding::Fixed(layers::sincos_2d(config)),
        };
        let step_embed = StepEmbedding::new(&mut layout, config);
        let text_encoder = TextEncoder::new(&mut layout, text, dim);
        let blocks = (0..config.depth).map(|index| Block::new(&mut layout, config, text, index)).collect();
        let (last, init) = match config.block {
            // PyTorch counts the fan in of a transposed convolution by its second axis.
            BlockKind::Seed => (None, Init::Uniform(bound)),
            BlockKind::AdalnZero => {
                (Some(Linear::zero(&mut layout, "final.modulation", dim, 2 * dim)), Init::Constant(0.0))
            }
        };
        let patch_deembed = Patches {
            weight: layout.add("patch_deembed.weight", &kernel, true, init),
            bias: layout.add("patch_deembed.bias", &[config.channels], false, init),
        };
        let layout = layout.finish();
        let config = config.clone();
        let text = text_encoder;
        Ok(Dit { config, layout, patch_embed, position, step_embed, text, blocks, last, patch_deembed })
    }

    /// Names, shapes and spans of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Elements of one image.
    pub fn image_len(&self) -> usize {
        self.config.channels * self.config.image[0] * self.config.image[1]
    }

    /// Whether it hears captions.
    pub fn hears_captions(&self) -> bool {
        self.text.is_some()
    }

    /// What a model that hears captions is told when there are none: `batch` captions.
    pub fn no_captions(&self, batch: usize) -> Captions {
        self.text.as_ref().map_or_else(|| Captions::none(batch, 1), |text| text.no_captions(batch))
    }

    /// The prediction for noisy images at steps t.
    ///
    /// x `[batch, channels, height, width]`, t one number a sample, captions one a sample (none for all when they are not
    /// given; not looked at by a model that hears none); the result has the shape of x.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when they do not fit together; what the device cannot do.
    pub fn forward<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        x: &Var<B>,
        t: &[f32],
        captions: Option<&Captions>,
    ) -> Result<Var<B>> {
        tape.label("step_embed");
        let mut step = self.step_embed.forward(tape, t)?;
        let heard = self.hear(tape, captions, t.len())?;
        if let Some(pooled) = heard.as_ref().and_then(|heard| heard.pooled.as_ref()) {
            tape.label("text.pooled");
            step = elementwise::residual(tape, &step, pooled)?;
        }
        let sequence = heard.and_then(|heard| heard.sequence);
        let table = match &self.position {
            PositionEmbedding::Learned(_) => None,
            PositionEmbedding::Fixed(table) => {
                Some(tape.constant_from_host(&[self.config.tokens(), self.config.dim], table)?)
            }
        };
        let position = match (&self.position, &table) {
            (PositionEmbedding::Learned(param), _) => Some(Position::Learned(*param)),
            (_, table) => table.as_ref().map(Position::Fixed),
        };
        let seed = self.config.block == BlockKind::Seed;
        let rows = Rows { position, sample: seed.then_some(&step) };
        tape.label("patch_embed");
        let mut tokens = patch::embed(tape, x, self.patch_embed.weight, self.patch_embed.bias, &rows)?;
        let condition = match self.config.block {
            BlockKind::Seed => step,
            BlockKind::AdalnZero => elementwise::activation(tape, &step, Activation::Silu)?,
        };
        drop(table);
        for block in &self.blocks {
            tokens = block.forward(tape, tokens, &condition, sequence.as_ref())?;
        }
        if let Some(last) = &self.last {
            tape.label("final.modulation");
            let modulation = last.forward(tape, &condition, Activation::Identity)?;
            tape.label("final.norm");
            tokens = norm::modulated(tape, &tokens, &modulation, 0, 1, NORM_EPS_ADALN)?;
        }
        tape.label("patch_deembed");
        patch::deembed(tape, &tokens, self.patch_deembed.weight, self.patch_deembed.bias, self.config.image)
    }

    fn hear<B: Backend>(
        &self,
        tape: &mut Tape<'_, B>,
        captions: Option<&Captions>,
        batch: usize,
    ) -> Result<Option<Heard<B>>> {
        let Some(encoder) = &self.text else { return Ok(None) };
        match captions {
            Some(captions) => encoder.forward(tape, captions),
            None => encoder.forward(tape, &encoder.no_captions(batch)),
        }
        .map(Some)
    }
}

impl StepEmbedding {
    fn new(layout: &mut LayoutBuilder, config: &ModelConfig) -> Self {
        let dim = config.dim;
        match config.block {
            BlockKind::Seed => StepEmbedding {
                half: dim / 2,
                max_period: 1000.0,
                activation: Activation::Tanh,
                first: Linear::new(layout, "step_embed.0", dim, 4 * dim),
                second: Linear::new(layout, "step_embed.2", 4 * dim, dim),
            },
            BlockKind::AdalnZero => StepEmbedding {
                half: 128,
                max_period: 10_000.0,
                activation: Activation::Silu,
                first: Linear::normal(layout, "step_embed.0", 256, dim),
                second: Linear::normal(layout, "step_embed.2", dim, dim),
            },
        }
    }

    fn forward<B: Backend>(&self, tape: &mut Tape<'_, B>, t: &[f32]) -> Result<Var<B>> {
        let waves = embed::step_sinusoids(tape, t, self.half, self.max_period)?;
        let hidden = self.first.forward(tape, &waves, self.activation)?;
        self.second.forward(tape, &hidden, Activation::Identity)
    }
}
