//! What kernels are told besides their arrays: dimensions, choices, addresses of random numbers.

use serde::{Deserialize, Serialize};

/// What a device computes activations in. Sums, statistics, parameters, their gradients and the loss are f32 in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16: the upper 16 bits of an f32. Half the memory, and tensor cores.
    Bf16,
}

impl Precision {
    /// Bytes of an activation.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::F32 => 4,
            Precision::Bf16 => 2,
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// What an output that may already hold a gradient does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `y = result`, whatever `y` held.
    Replace,
    /// `y += result`.
    Add,
}

/// A pointwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0) + 0.01 min(x, 0)
    LeakyRelu,
    /// tanh(x)
    Tanh,
    /// x / (1 + exp(-x))
    Silu,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form of Hendrycks and Gimpel 2016
    Gelu,
}

/// What a diffusion model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// The clean sample x0.
    X0,
    /// The noise eps (Ho et al. 2020).
    Eps,
    /// v = alpha eps - sigma x0 (Salimans and Ho 2022, section 4).
    V,
}

/// `y[rows, columns] = x[rows, inner] w[columns, inner]^T`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatmulDims {
    /// Rows of x and y: samples or tokens.
    pub rows: usize,
    /// Columns of y: output features.
    pub columns: usize,
    /// Columns of x: input features.
    pub inner: usize,
}

/// Rows of a `[batch, tokens, dim]` array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenDims {
    /// Samples.
    pub batch: usize,
    /// Tokens a sample.
    pub tokens: usize,
    /// Features a token.
    pub dim: usize,
}

impl TokenDims {
    /// `batch * tokens`
    pub fn rows(&self) -> usize {
        self.batch * self.tokens
    }

    /// `batch * tokens * dim`
    pub fn len(&self) -> usize {
        self.rows() * self.dim
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Multi-head attention over packed projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Samples.
    pub batch: usize,
    /// Tokens a sample; every token attends to every token of its sample.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Features a head.
    pub head_dim: usize,
}

impl AttentionDims {
    /// `heads * head_dim`
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// Multi-head attention of one sequence to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrossAttentionDims {
    /// Samples.
    pub batch: usize,
    /// Tokens a sample that attend.
    pub queries: usize,
    /// Tokens a sample that are attended to, padding included.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Features a head.
    pub head_dim: usize,
}

impl CrossAttentionDims {
    /// `heads * head_dim`
    pub fn dim(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// An image cut into patches that do not overlap: kernel = stride = patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchDims {
    /// Samples.
    pub batch: usize,
    /// Channels of the image.
    pub channels: usize,
    /// Rows of the image (frequency); a multiple of `patch_height`.
    pub height: usize,
    /// Columns of the image (time); a multiple of `patch_width`.
    pub width: usize,
    /// Rows of a patch.
    pub patch_height: usize,
    /// Columns of a patch.
    pub patch_width: usize,
    /// Features a token.
    pub dim: usize,
}

impl PatchDims {
    /// Rows of patches.
    pub fn grid_height(&self) -> usize {
        self.height / self.patch_height
    }

    /// Columns of patches.
    pub fn grid_width(&self) -> usize {
        self.width / self.patch_width
    }

    /// Patches an image. Token `n` is patch `(n / grid_width, n % grid_width)`.
    pub fn tokens(&self) -> usize {
        self.grid_height() * self.grid_width()
    }

    /// Elements of a patch over all channels, in the order (channel, row, column).
    pub fn patch_len(&self) -> usize {
        self.channels * self.patch_height * self.patch_width
    }

    /// Elements of all images.
    pub fn image_len(&self) -> usize {
        self.batch * self.channels * self.height * self.width
    }
}

/// A `[batch, slots, dim]` array of per-sample vectors (adaLN's shifts, scales and gates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Vectors a sample.
    pub count: usize,
    /// Index of the vector meant.
    pub index: usize,
}

/// Which axis of `[batch, tokens, dim]` an added row is repeated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// `rows[tokens, dim]`, the same for every sample: a position embedding.
    OverBatch,
    /// `rows[batch, dim]`, the same for every token: a step embedding.
    OverTokens,
}

/// What a random number is for; numbers drawn for different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// The noise eps of a training step.
    Noise = 2,
    /// Timesteps of a training step.
    Timestep = 3,
    /// Ranges of frames that get noise.
    Range = 4,
    /// The starting noise of a sample.
    Sample = 5,
    /// The noise added at each step of a stochastic sampler.
    SamplerStep = 6,
    /// Noise and timesteps of validation, the same at every validation.
    Validation = 7,
    /// Values in tests.
    Test = 8,
    /// Which captions of a training step are dropped.
    CaptionDropout = 9,
}

/// Address of a stream of random numbers: Philox4x32-10 (Salmon et al. 2011) with key = (low, high half of
/// `seed`) and counter = (block, `purpose`, low half of `step`, high half of `step`), block = index / 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoiseKey {
    /// The run's or the sample's seed.
    pub seed: u64,
    /// Training step, sampler step or whatever counts.
    pub step: u64,
    /// What it is for.
    pub purpose: Purpose,
}

/// Columns of the `[batch, 4]` array that says how each sample is noised.
/// Frames `from <= frame < to` become `alpha x0 + sigma eps`; the others stay x0.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct NoiseRow {
    /// sqrt(abar_t)
    pub alpha: f32,
    /// sqrt(1 - abar_t)
    pub sigma: f32,
    /// First noised frame.
    pub from: f32,
    /// One past the last noised frame.
    pub to: f32,
}

/// Where the added rows of a patch embedding come from (see `Backend::patch_embed_rows_forward`).
#[derive(Clone, Copy, Debug)]
pub struct AddedRows<R> {
    /// `[tokens, dim]`, the same for every sample: the position embedding.
    pub position: Option<R>,
    /// `[batch, dim]`, the same for every token: the step embedding.
    pub sample: Option<R>,
}

/// The gate of a residual connection: a slot of `modulation [batch, slots, dim]`, and how many tokens share it.
#[derive(Clone, Copy, Debug)]
pub struct Gate<R> {
    /// `[batch, slots, dim]`
    pub modulation: R,
    /// Which of the slots.
    pub slot: Slots,
    /// Tokens a sample.
    pub tokens: usize,
}

/// One Adam update (Kingma and Ba 2015, algorithm 1; decoupled decay: Loshchilov and Hutter 2019).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay, on the first `decayed` parameters only.
    pub weight_decay: f32,
    /// Length of the prefix of the flat buffer that decays (the matrices).
    pub decayed: usize,
    /// 1 at the first update: bias correction is 1 - beta^step.
    pub step: u64,
    /// Largest allowed norm of the gradient; infinity for none.
    pub max_norm: f32,
    /// EMA of the weights: ema = decay * ema + (1 - decay) * weights.
    pub ema_decay: f32,
}

/// One step of a sampler, all kinds: the prediction becomes an estimate of x0, and x moves on. Samplers of second order have
/// `saved`, of the size of x, for what a step leaves to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplerStep {
    /// x0 = from_x * x + from_prediction * prediction
    pub from_x: f32,
    /// See `from_x`.
    pub from_prediction: f32,
    /// x0 is clamped to +-clip; infinity for none.
    pub clip: f32,
    /// x = keep * x + to_x0 * x0 + from_saved * saved + noise * z
    pub keep: f32,
    /// See `keep`.
    pub to_x0: f32,
    /// See `keep`.
    pub from_saved: f32,
    /// See `keep`.
    pub noise: f32,
    /// saved = save_x * x + save_x0 * x0, with x as it was before.
    pub save_x: f32,
    /// See `save_x`.
    pub save_x0: f32,
}

/// Device memory in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Held by live buffers.
    pub live_bytes: u64,
    /// The most that was ever held by live buffers at once.
    pub peak_bytes: u64,
    /// Taken from the system so far, in use or waiting in the pool: the footprint.
    pub held_bytes: u64,
    /// Buffers that had to be taken from the system, because the pool had none of that size.
    pub fresh_allocations: u64,
}
