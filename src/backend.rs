//! The table of contents of the engine: every kernel, formula first, then signature.
//!
//! A backend is a device: it owns memory and runs kernels. `ops` calls it and never learns which one it
//! is; a backend never sees a `Var`. All arrays are dense and row-major; the shape of each argument stands
//! in the kernel's documentation, and callers (`ops`) have checked the lengths before the call.
//!
//! Conventions
//! - An output of type [`Backend::Mut`] is written completely, whatever it held before, unless it is marked
//!   `+=` or goes with a [`Write`]. Parameter gradients are always `+=`.
//! - Everything that a backward kernel needs and that is not an input of the forward kernel is an explicit
//!   output of the forward kernel ("saved for backward").
//! - The same inputs give the same bits on the same device: no atomics on floats, sums in a fixed order
//!   that does not depend on the number of threads.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::Result;

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

/// One step of a sampler, all kinds: the prediction becomes an estimate of x0, and x moves on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerStep {
    /// x0 = from_x * x + from_prediction * prediction
    pub from_x: f32,
    /// See `from_x`.
    pub from_prediction: f32,
    /// x0 is clamped to +-clip; infinity for none.
    pub clip: f32,
    /// x = keep * x + to_x0 * x0 + noise * z
    pub keep: f32,
    /// See `keep`.
    pub to_x0: f32,
    /// See `keep`.
    pub noise: f32,
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

/// A device: memory and kernels.
pub trait Backend: Sized + 'static {
    /// Owned device memory; returns to the backend's pool when dropped.
    type Buf;
    /// A read-only view of device memory.
    type Ref<'a>: Copy;
    /// A writable view of device memory.
    type Mut<'a>;

    // ---- memory -----------------------------------------------------------------------------------

    /// Name for the log: "CPU (AVX2, 2 threads)".
    fn name(&self) -> String;
    /// `len` elements with unspecified contents, from a pool keyed by size.
    fn alloc(&self, len: usize) -> Result<Self::Buf>;
    /// Elements in a buffer.
    fn len(buf: &Self::Buf) -> usize;
    /// A read-only view of a part.
    fn view(buf: &Self::Buf, range: Range<usize>) -> Self::Ref<'_>;
    /// A writable view of a part.
    fn view_mut(buf: &mut Self::Buf, range: Range<usize>) -> Self::Mut<'_>;
    /// Two writable views of parts that do not overlap, in the order asked for.
    fn view_two_mut(
        buf: &mut Self::Buf,
        first: Range<usize>,
        second: Range<usize>,
    ) -> (Self::Mut<'_>, Self::Mut<'_>);
    /// Host to device; equal lengths.
    fn upload(&self, to: Self::Mut<'_>, from: &[f32]);
    /// Device to host; equal lengths; waits for the kernels before it.
    fn download(&self, to: &mut [f32], from: Self::Ref<'_>);
    /// Memory in use.
    fn memory(&self) -> MemoryUse;

    /// `to = from`
    fn copy(&self, to: Self::Mut<'_>, from: Self::Ref<'_>);
    /// `to = value`
    fn fill(&self, to: Self::Mut<'_>, value: f32);
    /// `to += from`
    fn add(&self, to: Self::Mut<'_>, from: Self::Ref<'_>);
    /// Index of the first element that is NaN or infinite; waits for the kernels before it.
    fn find_non_finite(&self, x: Self::Ref<'_>) -> Option<usize>;

    // ---- matmul -----------------------------------------------------------------------------------

    /// `h = x w^T + bias; y = activation(h)`
    ///
    /// y `[rows, columns]`, x `[rows, inner]`, w `[columns, inner]`, bias `[columns]`.
    /// `pre` receives h `[rows, columns]`, saved for backward; give it when the activation is not the identity.
    #[allow(clippy::too_many_arguments)]
    fn matmul_forward(
        &self,
        y: Self::Mut<'_>,
        pre: Option<Self::Mut<'_>>,
        x: Self::Ref<'_>,
        w: Self::Ref<'_>,
        bias: Option<Self::Ref<'_>>,
        activation: Activation,
        dims: MatmulDims,
    );
    /// `dx = dh w`; dx `[rows, inner]`, dh `[rows, columns]` (the gradient of h, before the activation).
    fn matmul_backward_input(
        &self,
        dx: Self::Mut<'_>,
        write: Write,
        dh: Self::Ref<'_>,
        w: Self::Ref<'_>,
        dims: MatmulDims,
    );
    /// `dw += dh^T x; dbias += sum over rows of dh`
    fn matmul_backward_weight(
        &self,
        dw: Self::Mut<'_>,
        dbias: Option<Self::Mut<'_>>,
        dh: Self::Ref<'_>,
        x: Self::Ref<'_>,
        dims: MatmulDims,
    );

    // ---- norm -------------------------------------------------------------------------------------

    /// Layer normalisation (Ba, Kiros and Hinton 2016): over each row of x `[batch, tokens, dim]`,
    /// `rstd = 1 / sqrt(variance + eps)` (biased variance), `xhat = (x - mean) rstd`, `y = xhat weight + bias`.
    ///
    /// `stats [rows, 2]` receives mean and rstd, saved for backward.
    #[allow(clippy::too_many_arguments)]
    fn norm_affine_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        x: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Self::Ref<'_>,
        eps: f32,
        dims: TokenDims,
    );
    /// With `g = dy weight`: `dx = rstd (g - mean(g) - xhat mean(g xhat))`;
    /// `dweight += sum dy xhat; dbias += sum dy` over all rows.
    #[allow(clippy::too_many_arguments)]
    fn norm_affine_backward(
        &self,
        dx: Self::Mut<'_>,
        write: Write,
        dweight: Self::Mut<'_>,
        dbias: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        dims: TokenDims,
    );
    /// Modulated layer normalisation (Peebles and Xie 2023): `y = xhat (1 + scale[sample]) + shift[sample]`.
    ///
    /// `modulation [batch, slots, dim]`, shift and scale are two of its slots.
    #[allow(clippy::too_many_arguments)]
    fn norm_modulated_forward(
        &self,
        y: Self::Mut<'_>,
        stats: Self::Mut<'_>,
        x: Self::Ref<'_>,
        modulation: Self::Ref<'_>,
        shift: Slots,
        scale: Slots,
        eps: f32,
        dims: TokenDims,
    );
    /// As the affine one with `g = dy (1 + scale)`; `dscale += sum over tokens of dy xhat`,
    /// `dshift += sum over tokens of dy`, into their slots of `dmodulation`.
    #[allow(clippy::too_many_arguments)]
    fn norm_modulated_backward(
        &self,
        dx: Self::Mut<'_>,
        write: Write,
        dmodulation: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        stats: Self::Ref<'_>,
        modulation: Self::Ref<'_>,
        shift: Slots,
        scale: Slots,
        dims: TokenDims,
    );

    // ---- attention --------------------------------------------------------------------------------

    /// `out = softmax(q k^T / sqrt(head_dim)) v` for each head, with an online softmax (Milakov and Gimelshein
    /// 2018; Dao et al. 2022): the scores are never stored, memory is linear in tokens.
    ///
    /// qkv `[batch, tokens, 3, heads, head_dim]`, out `[batch, tokens, heads, head_dim]`.
    /// `lse [batch, heads, tokens]` receives the log of the sum of exp(score), saved for backward.
    fn attention_forward(
        &self,
        out: Self::Mut<'_>,
        lse: Self::Mut<'_>,
        qkv: Self::Ref<'_>,
        dims: AttentionDims,
    );
    /// With `p = exp(score - lse)`, `dp = dout v^T`, `ds = p (dp - sum(dout out)) / sqrt(head_dim)`:
    /// `dq = ds k; dk = ds^T q; dv = p^T dout`, packed as qkv is.
    fn attention_backward(
        &self,
        dqkv: Self::Mut<'_>,
        dout: Self::Ref<'_>,
        out: Self::Ref<'_>,
        lse: Self::Ref<'_>,
        qkv: Self::Ref<'_>,
        dims: AttentionDims,
    );

    // ---- patch ------------------------------------------------------------------------------------

    /// Strided convolution: `tokens[b, n, d] = bias[d] + sum over (c, i, j) of weight[d, c, i, j]
    /// image[b, c, gy ph + i, gx pw + j]`, n = gy grid_width + gx. Nothing of the size of im2col is made.
    fn patch_embed_forward(
        &self,
        tokens: Self::Mut<'_>,
        image: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Self::Ref<'_>,
        dims: PatchDims,
    );
    /// Gradient of the above: `dweight +=`, `dbias +=`.
    fn patch_embed_backward_weight(
        &self,
        dweight: Self::Mut<'_>,
        dbias: Self::Mut<'_>,
        dtokens: Self::Ref<'_>,
        image: Self::Ref<'_>,
        dims: PatchDims,
    );
    /// Gradient of the above with respect to the image.
    fn patch_embed_backward_input(
        &self,
        dimage: Self::Mut<'_>,
        write: Write,
        dtokens: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        dims: PatchDims,
    );
    /// Transposed convolution: `image[b, c, gy ph + i, gx pw + j] = bias[c] + sum over d of
    /// tokens[b, n, d] weight[d, c, i, j]`.
    fn patch_deembed_forward(
        &self,
        image: Self::Mut<'_>,
        tokens: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Self::Ref<'_>,
        dims: PatchDims,
    );
    /// Gradient of the above with respect to the weight and the bias `[channels]`: `+=`.
    fn patch_deembed_backward_weight(
        &self,
        dweight: Self::Mut<'_>,
        dbias: Self::Mut<'_>,
        dimage: Self::Ref<'_>,
        tokens: Self::Ref<'_>,
        dims: PatchDims,
    );
    /// Gradient of the above with respect to the tokens.
    fn patch_deembed_backward_input(
        &self,
        dtokens: Self::Mut<'_>,
        write: Write,
        dimage: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        dims: PatchDims,
    );

    // ---- elementwise ------------------------------------------------------------------------------

    /// `y = activation(x)`
    fn activation_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation);
    /// `dx = dy activation'(x)`
    fn activation_backward(
        &self,
        dx: Self::Mut<'_>,
        write: Write,
        dy: Self::Ref<'_>,
        x: Self::Ref<'_>,
        activation: Activation,
    );
    /// `dy *= activation'(x)` in place.
    fn activation_backward_in_place(&self, dy: Self::Mut<'_>, x: Self::Ref<'_>, activation: Activation);
    /// `y[b, n, :] = x[b, n, :] + rows[n or b, :]`
    fn add_rows_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        rows: Self::Ref<'_>,
        repeat: Repeat,
        dims: TokenDims,
    );
    /// `drows += sum of dy over the repeated axis`
    fn add_rows_backward(&self, drows: Self::Mut<'_>, dy: Self::Ref<'_>, repeat: Repeat, dims: TokenDims);
    /// `y = x + branch`
    fn residual_forward(&self, y: Self::Mut<'_>, x: Self::Ref<'_>, branch: Self::Ref<'_>);
    /// `y = x + gate[sample] branch`; the gate is a slot of `modulation [batch, slots, dim]`.
    fn gated_residual_forward(
        &self,
        y: Self::Mut<'_>,
        x: Self::Ref<'_>,
        branch: Self::Ref<'_>,
        modulation: Self::Ref<'_>,
        gate: Slots,
        dims: TokenDims,
    );
    /// `dbranch = gate dy; dgate += sum over tokens of dy branch`, into its slot of `dmodulation`.
    #[allow(clippy::too_many_arguments)]
    fn gated_residual_backward(
        &self,
        dbranch: Self::Mut<'_>,
        dmodulation: Self::Mut<'_>,
        dy: Self::Ref<'_>,
        branch: Self::Ref<'_>,
        modulation: Self::Ref<'_>,
        gate: Slots,
        dims: TokenDims,
    );

    // ---- embed ------------------------------------------------------------------------------------

    /// Sinusoidal step embedding: `out[b] = concat(sin(t f), cos(t f))`, `f_i = max_period^(-i / half)`,
    /// i = 0 .. half; t `[batch]`, out `[batch, 2 half]` (Vaswani et al. 2017, section 3.5, sines first).
    fn step_embedding(&self, out: Self::Mut<'_>, t: Self::Ref<'_>, half: usize, max_period: f32);
    /// `out[r, :] = table[indices[r], :]`; out `[indices.len(), dim]`.
    fn lookup_forward(&self, out: Self::Mut<'_>, table: Self::Ref<'_>, indices: &[u32], dim: usize);
    /// `dtable[indices[r], :] += dout[r, :]`, in the order of r.
    fn lookup_backward(&self, dtable: Self::Mut<'_>, dout: Self::Ref<'_>, indices: &[u32], dim: usize);

    // ---- noise ------------------------------------------------------------------------------------

    /// Standard normal numbers: element i is number `first + i` of the stream `key` (Philox, then Box and Muller
    /// 1958 on pairs: of a block's four words, (0, 1) give elements 0 and 1, (2, 3) give 2 and 3).
    fn normal(&self, out: Self::Mut<'_>, key: NoiseKey, first: u64);
    /// `x_t = alpha x0 + sigma eps` on the noised frames of each sample, x0 elsewhere (Ho et al. 2020, eq. 4),
    /// and `target` = x0, eps or `v = alpha eps - sigma x0`. Outside the noised frames eps is 0 and alpha 1, so
    /// that every target is known there.
    ///
    /// x_t, target, x0, eps `[batch, planes, width]` (planes = channels times rows), rows `[batch, 4]` of [`NoiseRow`].
    #[allow(clippy::too_many_arguments)]
    fn noise_mix(
        &self,
        x_t: Self::Mut<'_>,
        target: Self::Mut<'_>,
        x0: Self::Ref<'_>,
        eps: Self::Ref<'_>,
        rows: Self::Ref<'_>,
        objective: Objective,
        width: usize,
    );

    // ---- loss -------------------------------------------------------------------------------------

    /// Weighted mean squared error and its gradient in one pass:
    /// `losses[b] = mean over the sample of (prediction - target)^2` (unweighted);
    /// `dprediction = 2 weights[b] (prediction - target) / (batch * elements)`, so that the loss that is minimised
    /// is the mean over b of `weights[b] losses[b]`.
    fn mse(
        &self,
        losses: Self::Mut<'_>,
        dprediction: Self::Mut<'_>,
        prediction: Self::Ref<'_>,
        target: Self::Ref<'_>,
        weights: Self::Ref<'_>,
    );

    // ---- adam -------------------------------------------------------------------------------------

    /// `out[0] = sum of x^2`, in a fixed order.
    fn sum_of_squares(&self, out: Self::Mut<'_>, x: Self::Ref<'_>);
    /// One Adam(W) update over the flat buffers. `norm2[0]` is the gradients' sum of squares: with
    /// `c = min(1, max_norm / sqrt(norm2))`, `g' = c g`, `m = b1 m + (1 - b1) g'`, `v = b2 v + (1 - b2) g'^2`,
    /// `w = w (1 - lr decay) - lr (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps)`; then the EMA.
    #[allow(clippy::too_many_arguments)]
    fn adam(
        &self,
        weights: Self::Mut<'_>,
        first: Self::Mut<'_>,
        second: Self::Mut<'_>,
        ema: Self::Mut<'_>,
        gradient: Self::Ref<'_>,
        norm2: Self::Ref<'_>,
        step: AdamStep,
    );

    // ---- sampler ----------------------------------------------------------------------------------

    /// `x0 = clamp(from_x x + from_prediction prediction); x = keep x + to_x0 x0 + noise z`, x in place.
    fn sampler_step(
        &self,
        x: Self::Mut<'_>,
        prediction: Self::Ref<'_>,
        z: Option<Self::Ref<'_>>,
        step: SamplerStep,
    );
}
