//! The parameters of a model: names, shapes and spans in one flat buffer.
//!
//! Parameters, gradients, moments and EMA each live in one flat buffer with the same layout, so that Adam is
//! one launch and a checkpoint is one read. Spans start at multiples of [`ALIGN`] elements; the gaps hold
//! zeros and stay zero. Matrices come first, so that weight decay is a prefix.

use std::ops::Range;

use crate::backend::{NoiseKey, Purpose};
use crate::error::{Error, Result};
use crate::random;

/// Spans start at multiples of this many elements (64 bytes of f32).
pub const ALIGN: usize = 16;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same value.
    Constant(f32),
    /// Uniform in +-bound. PyTorch's default for linear layers and convolutions is bound = 1 / sqrt(fan in).
    Uniform(f32),
    /// Normal with this deviation.
    Normal(f32),
}

/// A parameter's handle: its index in the [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param(usize);

/// A named parameter and where it lies.
#[derive(Clone, Debug)]
pub struct Span {
    /// Module path: `blocks.0.attn.qkv.weight`.
    pub name: String,
    /// Shape, row-major; `[out, in]` for matrices.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether weight decay applies: matrices and convolutions, not biases, gains or embeddings.
    pub decays: bool,
    /// Elements of the flat buffer.
    pub range: Range<usize>,
}

/// Collects the parameters while a model is put together.
#[derive(Debug, Default)]
pub struct LayoutBuilder {
    spans: Vec<Span>,
}

impl LayoutBuilder {
    /// Adds a parameter.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], decays: bool, init: Init) -> Param {
        self.spans.push(Span { name: name.into(), shape: shape.to_vec(), init, decays, range: 0..0 });
        Param(self.spans.len() - 1)
    }

    /// Assigns the spans.
    pub fn finish(mut self) -> Layout {
        let mut end = 0;
        for decays in [true, false] {
            for span in self.spans.iter_mut().filter(|span| span.decays == decays) {
                let len = span.shape.iter().product::<usize>();
                span.range = end..end + len;
                end = (end + len).next_multiple_of(ALIGN);
            }
        }
        let decayed =
            self.spans.iter().filter(|span| span.decays).map(|span| span.range.end).max().unwrap_or(0);
        Layout { spans: self.spans, len: end, decayed }
    }
}

/// All parameters of a model, in the order in which the model named them.
#[derive(Clone, Debug)]
pub struct Layout {
    spans: Vec<Span>,
    len: usize,
    decayed: usize,
}

impl Layout {
    /// Every parameter.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// One parameter.
    pub fn span(&self, param: Param) -> &Span {
        &self.spans[param.0]
    }

    /// Elements of the flat buffer, gaps included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no parameters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Length of the prefix that weight decay applies to.
    pub fn decayed(&self) -> usize {
        self.decayed
    }

    /// Number of parameters, gaps not counted.
    pub fn count(&self) -> usize {
        self.spans.iter().map(|span| span.range.len()).sum()
    }

    /// Initial values of the whole flat buffer. Parameter number i draws from stream (seed, i, `Weights`), so
    /// that adding a parameter at the end changes no other.
    pub fn initial_values(&self, seed: u64) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        for (index, span) in self.spans.iter().enumerate() {
            let key = NoiseKey { seed, step: index as u64, purpose: Purpose::Weights };
            let out = &mut values[span.range.clone()];
            for (element, value) in out.iter_mut().enumerate() {
                *value = match span.init {
                    Init::Constant(value) => value,
                    Init::Uniform(bound) => (2.0 * random::uniform_at(key, element as u64) - 1.0) * bound,
                    Init::Normal(deviation) => random::normal(key, element as u64) * deviation,
                };
            }
        }
        values
    }

    /// Which parameter an element of the flat buffer belongs to, if any.
    pub fn name_at(&self, element: usize) -> Option<&str> {
        self.spans.iter().find(|span| span.range.contains(&element)).map(|span| span.name.as_str())
    }

    /// The span with this name.
    ///
    /// # Errors
    /// [`Error::Shape`] when there is none.
    pub fn find(&self, name: &str) -> Result<&Span> {
        self.spans
            .iter()
            .find(|span| span.name == name)
            .ok_or_else(|| Error::shape("parameters", "a name of this model", name))
    }
}
