//! The CPU backend: one file a family, formulas in `backend.rs`. The functions of a family take plain slices
//! and run on rayon's current pool; how a sum is cut into pieces never depends on the number of threads, so
//! neither do the results.

pub mod activation;
pub mod adam;
pub mod attention;
pub mod elementwise;
pub mod embed;
pub mod exp;
pub mod gemm;
pub mod loss;
pub mod matmul;
pub mod memory;
pub mod microkernel;
pub mod noise;
pub mod norm;
pub mod patch;
pub mod pieces;
pub mod sampler;
pub mod scratch;
pub mod simd;
pub mod softmax;

use std::ops::Range;

use crate::backend::*;
use crate::error::Result;
use crate::memory::available_bytes;
use crate::meter::Meter;

pub use memory::{Buffer, Pool};

/// The CPU as a device. Cloning shares the memory pool.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    pool: Pool,
}

impl Cpu {
    /// A CPU with an empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// Threads that kernels run on.
    pub fn threads() -> usize {
        rayon::current_num_threads()
    }

    /// A CPU whose fresh buffers are filled with NaN, so that a kernel that reads what it should have
    /// written is seen. For tests.
    pub fn poisoned() -> Self {
        Self { pool: Pool::poisoned() }
    }
}

impl Backend for Cpu {
    type Buf = Buffer;
    type Ref<'a> = &'a [f32];
    type Mut<'a> = &'a mut [f32];
    type Rehearsal = Meter;

    fn name(&self) -> String {
        memory::describe_machine()
    }

    fn alloc(&self, len: usize) -> Result<Buffer> {
        Ok(self.pool.take(len))
    }

    fn len(buf: &Buffer) -> usize {
        buf.len()
    }

    fn view(buf: &Buffer, range: Range<usize>) -> &[f32] {
        &buf[range]
    }

    fn view_mut(buf: &mut Buffer, range: Range<usize>) -> &mut [f32] {
        &mut buf[range]
    }

    fn view_two_mut(buf: &mut Buffer, first: Range<usize>, second: Range<usize>) -> (&mut [f32], &mut [f32]) {
        if first.start <= second.start {
            let (low, high) = buf.split_at_mut(second.start);
            (&mut low[first], &mut high[..second.len()])
        } else {
            let (second, first) = Self::view_two_mut(buf, second, first);
            (first, second)
        }
    }

    fn upload(&self, to: &mut [f32], from: &[f32]) {
        to.copy_from_slice(from);
    }

    fn download(&self, to: &mut [f32], from: &[f32]) {
        to.copy_from_slice(from);
    }

    fn download_later(&self, from: &[f32]) -> Box<dyn FnOnce() -> Result<Vec<f32>>> {
        let values = from.to_vec();
        Box::new(|| Ok(values))
    }

    fn rehearsal(&self) -> Meter {
        Meter::new()
    }

    fn available_bytes(&self) -> Option<u64> {
        available_bytes()
    }

    fn memory(&self) -> MemoryUse {
        self.pool.usage()
    }

    fn copy(&self, to: &mut [f32], from: &[f32]) {
        elementwise::copy(to, from);
    }

    fn fill(&self, to: &mut [f32], value: f32) {
        elementwise::fill(to, value);
    }

    fn add(&self, to: &mut [f32], from: &[f32]) {
        elementwise::add(to, from);
    }

    fn find_non_finite(&self, x: &[f32]) -> Option<usize> {
        elementwise::find_non_finite(x)
    }

    fn matmul_forward(
        &self,
        y: &mut [f32],
        pre: Option<&mut [f32]>,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        dims: MatmulDims,
    ) {
        matmul::forward(y, pre, x, w, bias, activation, dims);
    }

    fn matmul_residual_forward(
        &self,
        y: &mut [f32],
        h: Option<&mut [f32]>,
        x: &[f32],
        w: &[f32],
        bias: &[f32],
        residual: &[f32],
        gate: Option<Gate<&[f32]>>,
        dims: MatmulDims,
    ) {
        matmul::residual_forward(y, h, x, w, bias, residual, gate, dims);
    }

    fn matmul_backward_input_activated(
        &self,
        dpre: &mut [f32],
        dh: &[f32],
        w: &[f32],
        pre: &[f32],
        activation: Activation,
        dims: MatmulDims,
    ) {
        matmul::backward_input_activated(dpre, dh, w, pre, activation, dims);
    }

    fn matmul_backward_input(&self, dx: &mut [f32], write: Write, dh: &[f32], w: &[f32], dims: MatmulDims) {
        matmul::backward_input(dx, write, dh, w, dims);
    }

    fn matmul_backward_weight(
        &self,
        dw: &mut [f32],
        dbias: Option<&mut [f32]>,
        dh: &[f32],
        x: &[f32],
        dims: MatmulDims,
    ) {
        matmul::backward_weight(dw, dbias, dh, x, dims);
    }

    fn norm_affine_forward(
        &self,
        y: &mut [f32],
        stats: &mut [f32],
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        dims: TokenDims,
    ) {
        norm::affine_forward(y, stats, x, weight, bias, eps, dims);
    }

    fn norm_affine_backward(
        &self,
        dx: &mut [f32],
        write: Write,
        dweight: &mut [f32],
        dbias: &mut [f32],
        dy: &[f32],
        x: &[f32],
        stats: &[f32],
        weight: &[f32],
        dims: TokenDims,
    ) {
        norm::affine_backward(dx, write, dweight, dbias, dy, x, stats, weight, dims);
    }

    fn norm_modulated_forward(
        &self,
        y: &mut [f32],
        stats: &mut [f32],
        x: &[f32],
        modulation: &[f32],
        shift: Slots,
        scale: Slots,
        eps: f32,
        dims: TokenDims,
    ) {
        norm::modulated_forward(y, stats, x, modulation, shift, scale, eps, dims);
    }

    fn norm_modulated_backward(
        &self,
        dx: &mut [f32],
        write: Write,
        dmodulation: &mut [f32],
        dy: &[f32],
        x: &[f32],
        stats: &[f32],
        modulation: &[f32],
        shift: Slots,
        scale: Slots,
        dims: TokenDims,
    ) {
        norm::modulated_backward(dx, write, dmodulation, dy, x, stats, modulation, shift, scale, dims);
    }

    fn attention_forward(&self, out: &mut [f32], lse: &mut [f32], qkv: &[f32], dims: AttentionDims) {
        attention::forward(out, lse, qkv, dims);
    }

    fn attention_backward(
        &self,
        dqkv: &mut [f32],
        dout: &[f32],
        out: &[f32],
        lse: &[f32],
        qkv: &[f32],
        dims: AttentionDims,
    ) {
        attention::backward(dqkv, dout, out, lse, qkv, dims);
    }

    fn cross_attention_forward(
        &self,
        out: &mut [f32],
        lse: &mut [f32],
        q: &[f32],
        kv: &[f32],
        lengths: &[f32],
        dims: CrossAttentionDims,
    ) {
        attention::cross_forward(out, lse, q, kv, lengths, dims);
    }

    fn cross_attention_backward(
        &self,
        dq: &mut [f32],
        dkv: &mut [f32],
        dout: &[f32],
        out: &[f32],
        lse: &[f32],
        q: &[f32],
        kv: &[f32],
        lengths: &[f32],
        dims: CrossAttentionDims,
    ) {
        attention::cross_backward(dq, dkv, dout, out, lse, q, kv, lengths, dims);
    }

    fn patch_embed_forward(
        &self,
        tokens: &mut [f32],
        image: &[f32],
        weight: &[f32],
        bias: &[f32],
        dims: PatchDims,
    ) {
        patch::embed_forward(tokens, image, weight, bias, AddedRows { position: None, sample: None }, dims);
    }

    fn patch_embed_rows_forward(
        &self,
        tokens: &mut [f32],
        image: &[f32],
        weight: &[f32],
        bias: &[f32],
        rows: AddedRows<&[f32]>,
        dims: PatchDims,
    ) {
        patch::embed_forward(tokens, image, weight, bias, rows, dims);
    }

    fn patch_embed_backward_weight(
        &self,
        dweight: &mut [f32],
        dbias: &mut [f32],
        dtokens: &[f32],
        image: &[f32],
        dims: PatchDims,
    ) {
        patch::embed_backward_weight(dweight, dbias, dtokens, image, dims);
    }

    fn patch_embed_backward_input(
        &self,
        dimage: &mut [f32],
        write: Write,
        dtokens: &[f32],
        weight: &[f32],
        dims: PatchDims,
    ) {
        patch::embed_backward_input(dimage, write, dtokens, weight, dims);
    }

    fn patch_deembed_forward(
        &self,
        image: &mut [f32],
        tokens: &[f32],
        weight: &[f32],
        bias: &[f32],
        dims: PatchDims,
    ) {
        patch::deembed_forward(image, tokens, weight, bias, dims);
    }

    fn patch_deembed_backward_weight(
        &self,
        dweight: &mut [f32],
        dbias: &mut [f32],
        dimage: &[f32],
        tokens: &[f32],
        dims: PatchDims,
    ) {
        patch::deembed_backward_weight(dweight, dbias, dimage, tokens, dims);
    }

    fn patch_deembed_backward_input(
        &self,
        dtokens: &mut [f32],
        write: Write,
        dimage: &[f32],
        weight: &[f32],
        dims: PatchDims,
    ) {
        patch::deembed_backward_input(dtokens, write, dimage, weight, dims);
    }

    fn activation_forward(&self, y: &mut [f32], x: &[f32], activation: Activation) {
        elementwise::activation_forward(y, x, activation);
    }

    fn activation_backward(
        &self,
        dx: &mut [f32],
        write: Write,
        dy: &[f32],
        x: &[f32],
        activation: Activation,
    ) {
        elementwise::activation_backward(dx, write, dy, x, activation);
    }

    fn activation_backward_in_place(&self, dy: &mut [f32], x: &[f32], activation: Activation) {
        elementwise::activation_backward_in_place(dy, x, activation);
    }

    fn add_rows_forward(&self, y: &mut [f32], x: &[f32], rows: &[f32], repeat: Repeat, dims: TokenDims) {
        elementwise::add_rows_forward(y, x, rows, repeat, dims);
    }

    fn add_rows_backward(&self, drows: &mut [f32], dy: &[f32], repeat: Repeat, dims: TokenDims) {
        elementwise::add_rows_backward(drows, dy, repeat, dims);
    }

    fn residual_forward(&self, y: &mut [f32], x: &[f32], branch: &[f32]) {
        elementwise::residual_forward(y, x, branch);
    }

    fn gated_residual_forward(
        &self,
        y: &mut [f32],
        x: &[f32],
        branch: &[f32],
        modulation: &[f32],
        gate: Slots,
        dims: TokenDims,
    ) {
        elementwise::gated_residual_forward(y, x, branch, modulation, gate, dims);
    }

    fn gated_residual_backward(
        &self,
        dbranch: &mut [f32],
        dmodulation: &mut [f32],
        dy: &[f32],
        branch: &[f32],
        modulation: &[f32],
        gate: Slots,
        dims: TokenDims,
    ) {
        elementwise::gated_residual_backward(dbranch, dmodulation, dy, branch, modulation, gate, dims);
    }

    fn step_embedding(&self, out: &mut [f32], t: &[f32], half: usize, max_period: f32) {
        embed::step_embedding(out, t, half, max_period);
    }

    fn lookup_forward(&self, out: &mut [f32], table: &[f32], indices: &[u32], dim: usize) {
        embed::lookup_forward(out, table, indices, dim);
    }

    fn lookup_backward(&self, dtable: &mut [f32], dout: &[f32], indices: &[u32], dim: usize) {
        embed::lookup_backward(dtable, dout, indices, dim);
    }

    fn pool_forward(&self, out: &mut [f32], x: &[f32], lengths: &[f32], dims: TokenDims) {
        embed::pool_forward(out, x, lengths, dims);
    }

    fn pool_backward(&self, dx: &mut [f32], write: Write, dout: &[f32], lengths: &[f32], dims: TokenDims) {
        embed::pool_backward(dx, write, dout, lengths, dims);
    }

    fn normal(&self, out: &mut [f32], key: NoiseKey, first: u64) {
        noise::normal(out, key, first);
    }

    fn noise_mix(
        &self,
        x_t: &mut [f32],
        target: &mut [f32],
        x0: &[f32],
        eps: &[f32],
        rows: &[f32],
        objective: Objective,
        width: usize,
    ) {
        noise::mix(x_t, target, x0, eps, rows, objective, width);
    }

    fn noise_mix_drawn(
        &self,
        x_t: &mut [f32],
        target: &mut [f32],
        x0: &[f32],
        rows: &[f32],
        key: NoiseKey,
        first: u64,
        objective: Objective,
        width: usize,
    ) {
        noise::mix_drawn(x_t, target, x0, rows, key, first, objective, width);
    }

    fn mse(
        &self,
        losses: &mut [f32],
        dprediction: &mut [f32],
        prediction: &[f32],
        target: &[f32],
        weights: &[f32],
    ) {
        loss::mse(losses, dprediction, prediction, target, weights);
    }

    fn sum_of_squares(&self, out: &mut [f32], x: &[f32]) {
        adam::sum_of_squares(out, x);
    }

    fn adam(
        &self,
        weights: &mut [f32],
        first: &mut [f32],
        second: &mut [f32],
        ema: &mut [f32],
        gradient: &[f32],
        norm2: &[f32],
        step: AdamStep,
    ) {
        adam::update(weights, first, second, ema, gradient, norm2, step);
    }

    fn sampler_step(
        &self,
        x: &mut [f32],
        saved: Option<&mut [f32]>,
        prediction: &[f32],
        z: Option<&[f32]>,
        step: SamplerStep,
    ) {
        sampler::step(x, saved, prediction, z, step);
    }

    fn guide(
        &self,
        out: &mut [f32],
        conditional: &[f32],
        unconditional: &[f32],
        samples: usize,
        scale: f32,
        rescale: f32,
    ) {
        sampler::guide(out, conditional, unconditional, samples, scale, rescale);
    }
}
