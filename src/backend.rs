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

mod types;

use std::ops::Range;

use crate::error::Result;

pub use types::*;

/// A device: memory and kernels.
pub trait Backend: Sized + 'static {
    /// Owned device memory; returns to the backend's pool when dropped.
    type Buf;
    /// A read-only view of device memory.
    type Ref<'a>: Copy;
    /// A writable view of device memory.
    type Mut<'a>;
    /// See [`Self::rehearsal`].
    type Rehearsal: Backend;

    // ---- memory -----------------------------------------------------------------------------------

    /// Name for the log and for recipes: "CPU (AVX2)". What cannot change a bit of the result, as the number of threads,
    /// is not in it.
    fn name(&self) -> String;
    /// `len` elements with unspecified contents, from a pool keyed by size.
    fn alloc(&self, len: usize) -> Result<Self::Buf>;
    /// As [`Self::alloc`] for activations, `[batch, tokens, ..]` values: in what the device computes them in
    /// ([`Precision`]).
    fn alloc_activation(&self, len: usize) -> Result<Self::Buf> {
        self.alloc(len)
    }
    /// As [`Self::alloc`] for parameters, with whatever copy of them the device's products read. `upload`, `fill`, `copy`
    /// and `adam` keep the copy up.
    fn alloc_weights(&self, len: usize) -> Result<Self::Buf> {
        self.alloc(len)
    }
    /// `len` elements of the kind that `like` is made of.
    fn alloc_like(&self, _like: &Self::Buf, len: usize) -> Result<Self::Buf> {
        self.alloc(len)
    }
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
    /// A device that does nothing but keep account of memory as this one would, from nothing: what a run will need is
    /// known before a byte of it is allocated.
    fn rehearsal(&self) -> Self::Rehearsal;
    /// Bytes of device memory that can still be had; `None` where nobody knows.
    fn available_bytes(&self) -> Option<u64>;
    /// Whether the device's memory is main memory too.
    fn shares_main_memory(&self) -> bool {
        true
    }
    /// What went wrong in any kernel before; kernels themselves say nothing.
    fn check(&self) -> Result<()> {
        Ok(())
    }
    /// Runs `work`, one of many steps that launch the same kernels on the same buffers, which a device may keep and replay
    /// as a whole. What a step uploads is read when `upload` is called.
    fn run_step(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
    /// How many steps may be put on the device before the host reads what came of the first.
    fn steps_in_flight(&self) -> usize {
        1
    }
    /// Device to host, without waiting: the function gives the values when it is called.
    fn download_later(&self, from: Self::Ref<'_>) -> Box<dyn FnOnce() -> Result<Vec<f32>>>;
    /// Begins to bring `host` to the device, while it computes; a following `upload` of the same values is then quick.
    fn upload_ahead(&self, _host: &[f32]) {}

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
    /// A linear layer and the residual connection around its branch: `h = x w^T + bias; y = residual + h`, or with a
    /// gate `y = residual + gate[sample] h`; then `h [rows, columns]` is given, and saved for backward.
    #[allow(clippy::too_many_arguments)]
    fn matmul_residual_forward(
        &self,
        y: Self::Mut<'_>,
        h: Option<Self::Mut<'_>>,
        x: Self::Ref<'_>,
        w: Self::Ref<'_>,
        bias: Self::Ref<'_>,
        residual: Self::Ref<'_>,
        gate: Option<Gate<Self::Ref<'_>>>,
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
    /// As [`Self::matmul_backward_input`] through the activation that made x: `dpre = (dh w) activation'(pre)`, the gradient of
    /// pre, where `x = activation(pre)`; pre and dpre `[rows, inner]`.
    fn matmul_backward_input_activated(
        &self,
        dpre: Self::Mut<'_>,
        dh: Self::Ref<'_>,
        w: Self::Ref<'_>,
        pre: Self::Ref<'_>,
        activation: Activation,
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

    /// Attention of one sequence to another, of which sample b has `lengths[b]` keys (1 at least); the others are padding:
    /// `out = softmax(q k^T / sqrt(head_dim)) v` over the keys that there are.
    ///
    /// q and out `[batch, queries, heads, head_dim]`, kv `[batch, keys, 2, heads, head_dim]`, lengths `[batch]` (whole
    /// numbers). `lse [batch, heads, queries]` receives the log of the sum of exp(score), saved for backward.
    fn cross_attention_forward(
        &self,
        out: Self::Mut<'_>,
        lse: Self::Mut<'_>,
        q: Self::Ref<'_>,
        kv: Self::Ref<'_>,
        lengths: Self::Ref<'_>,
        dims: CrossAttentionDims,
    );
    /// As [`Self::attention_backward`]; the gradient of padding is 0.
    #[allow(clippy::too_many_arguments)]
    fn cross_attention_backward(
        &self,
        dq: Self::Mut<'_>,
        dkv: Self::Mut<'_>,
        dout: Self::Ref<'_>,
        out: Self::Ref<'_>,
        lse: Self::Ref<'_>,
        q: Self::Ref<'_>,
        kv: Self::Ref<'_>,
        lengths: Self::Ref<'_>,
        dims: CrossAttentionDims,
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
    /// The same with rows added to the tokens: `tokens[b, n, :] += position[n, :] + sample[b, :]`, each where it is given.
    fn patch_embed_rows_forward(
        &self,
        tokens: Self::Mut<'_>,
        image: Self::Ref<'_>,
        weight: Self::Ref<'_>,
        bias: Self::Ref<'_>,
        rows: AddedRows<Self::Ref<'_>>,
        dims: PatchDims,
    );
    /// Gradient of the above with respect to weight and bias: `dweight +=`, `dbias +=`.
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

    /// Mean over a sample's tokens, of which it has `lengths[b]` (1 at least); the others are padding:
    /// `out[b, :] = sum over n < lengths[b] of x[b, n, :] / lengths[b]`; out `[batch, dim]`, lengths `[batch]`.
    fn pool_forward(&self, out: Self::Mut<'_>, x: Self::Ref<'_>, lengths: Self::Ref<'_>, dims: TokenDims);
    /// `dx[b, n, :] = dout[b, :] / lengths[b]`, of padding 0.
    fn pool_backward(
        &self,
        dx: Self::Mut<'_>,
        write: Write,
        dout: Self::Ref<'_>,
        lengths: Self::Ref<'_>,
        dims: TokenDims,
    );

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

    /// `normal` and `noise_mix` in one pass: eps of element i is number `first + i` of the stream `key`, and never in memory.
    #[allow(clippy::too_many_arguments)]
    fn noise_mix_drawn(
        &self,
        x_t: Self::Mut<'_>,
        target: Self::Mut<'_>,
        x0: Self::Ref<'_>,
        rows: Self::Ref<'_>,
        key: NoiseKey,
        first: u64,
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

    /// `out[0] = sum of x^2`, in a fixed order; `out[1] += 1` when that is not finite. out `[2]`.
    fn sum_of_squares(&self, out: Self::Mut<'_>, x: Self::Ref<'_>);
    /// One Adam(W) update over the flat buffers. `norm2[0]` is the gradients' sum of squares: with
    /// `c = min(1, max_norm / sqrt(norm2))`, `g' = c g`, `m = b1 m + (1 - b1) g'`, `v = b2 v + (1 - b2) g'^2`,
    /// `w = w (1 - lr decay) - lr (m / (1 - b1^step)) / (sqrt(v / (1 - b2^step)) + eps)`; then the EMA.
    ///
    /// norm2 `[2]` as `sum_of_squares` makes it. Nothing changes when `norm2[1]` is not 0: the first step that went wrong is
    /// then the last one that changed anything, however late the host looks.
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

    /// `x0 = clamp(from_x x + from_prediction prediction)`, then at once
    /// `x = keep x + to_x0 x0 + from_saved saved + noise z` and `saved = save_x x + save_x0 x0`, both in place; what is absent
    /// counts as 0.
    fn sampler_step(
        &self,
        x: Self::Mut<'_>,
        saved: Option<Self::Mut<'_>>,
        prediction: Self::Ref<'_>,
        z: Option<Self::Ref<'_>>,
        step: SamplerStep,
    );
    /// Classifier-free guidance (Ho and Salimans 2022, eq. 6) with rescaling (Lin et al. 2024, eqs. 15 and 16):
    /// `g = unconditional + scale (conditional - unconditional)`,
    /// `out = g (1 - rescale + rescale deviation(conditional) / deviation(g))`, the deviations over a sample.
    ///
    /// out, conditional and unconditional `[samples, elements]`.
    #[allow(clippy::too_many_arguments)]
    fn guide(
        &self,
        out: Self::Mut<'_>,
        conditional: Self::Ref<'_>,
        unconditional: Self::Ref<'_>,
        samples: usize,
        scale: f32,
        rescale: f32,
    );
}
