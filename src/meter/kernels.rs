//! The meter's kernels: nothing is computed, everything is recorded. A view of a buffer is its length.

use std::ops::Range;

use super::{Family, Length, Meter, Work};
use crate::backend::*;
use crate::error::Result;
use crate::memory::available_bytes;

impl Backend for Meter {
    type Buf = Length;
    type Ref<'a> = usize;
    type Mut<'a> = usize;
    type Rehearsal = Meter;

    fn name(&self) -> String {
        "meter".to_string()
    }

    fn alloc(&self, len: usize) -> Result<Length> {
        Ok(self.take(len))
    }

    fn len(buf: &Length) -> usize {
        buf.elements
    }

    fn view(buf: &Length, range: Range<usize>) -> usize {
        assert!(range.end <= buf.elements, "a view of {range:?} of {} elements", buf.elements);
        range.len()
    }

    fn view_mut(buf: &mut Length, range: Range<usize>) -> usize {
        Self::view(buf, range)
    }

    fn view_two_mut(buf: &mut Length, first: Range<usize>, second: Range<usize>) -> (usize, usize) {
        (Self::view(buf, first), Self::view(buf, second))
    }

    fn upload(&self, to: usize, from: &[f32]) {
        assert_eq!(to, from.len(), "an upload copies equal lengths");
    }

    fn download(&self, to: &mut [f32], from: usize) {
        assert_eq!(to.len(), from, "a download copies equal lengths");
        to.fill(0.0);
    }

    fn download_later(&self, from: usize) -> Box<dyn FnOnce() -> Result<Vec<f32>>> {
        Box::new(move || Ok(vec![0.0; from]))
    }

    fn rehearsal(&self) -> Meter {
        Meter::new()
    }

    fn available_bytes(&self) -> Option<u64> {
        available_bytes()
    }

    fn memory(&self) -> MemoryUse {
        self.shelves.borrow().usage()
    }

    fn copy(&self, to: usize, _from: usize) {
        self.record(Family::Memory, Work::Pass(to));
    }

    fn fill(&self, to: usize, _value: f32) {
        self.record(Family::Memory, Work::Pass(to));
    }

    fn add(&self, to: usize, _from: usize) {
        self.record(Family::Memory, Work::Pass(to));
    }

    fn find_non_finite(&self, x: usize) -> Option<usize> {
        self.record(Family::Memory, Work::Pass(x));
        None
    }

    fn matmul_forward(
        &self,
        _y: usize,
        _pre: Option<usize>,
        _x: usize,
        _w: usize,
        _bias: Option<usize>,
        _activation: Activation,
        dims: MatmulDims,
    ) {
        self.record(Family::Matmul, Work::Matmul(dims));
    }

    fn matmul_residual_forward(
        &self,
        y: usize,
        _h: Option<usize>,
        _x: usize,
        _w: usize,
        _bias: usize,
        _residual: usize,
        _gate: Option<Gate<usize>>,
        dims: MatmulDims,
    ) {
        self.record(Family::Matmul, Work::Matmul(dims));
        self.record(Family::Elementwise, Work::Pass(y));
    }

    fn matmul_backward_input_activated(
        &self,
        dpre: usize,
        _dh: usize,
        _w: usize,
        _pre: usize,
        _activation: Activation,
        dims: MatmulDims,
    ) {
        self.record(Family::Matmul, Work::Matmul(dims));
        self.record(Family::Elementwise, Work::Pass(dpre));
    }

    fn matmul_backward_input(&self, _dx: usize, _write: Write, _dh: usize, _w: usize, dims: MatmulDims) {
        self.record(Family::Matmul, Work::Matmul(dims));
    }

    fn matmul_backward_weight(
        &self,
        _dw: usize,
        _dbias: Option<usize>,
        _dh: usize,
        _x: usize,
        dims: MatmulDims,
    ) {
        self.record(Family::Matmul, Work::Matmul(dims));
    }

    fn norm_affine_forward(
        &self,
        _y: usize,
        _stats: usize,
        _x: usize,
        _weight: usize,
        _bias: usize,
        _eps: f32,
        dims: TokenDims,
    ) {
        self.record(Family::Norm, Work::Pass(dims.len()));
    }

    fn norm_affine_backward(
        &self,
        _dx: usize,
        _write: Write,
        _dweight: usize,
        _dbias: usize,
        _dy: usize,
        _x: usize,
        _stats: usize,
        _weight: usize,
        dims: TokenDims,
    ) {
        self.record(Family::Norm, Work::Pass(dims.len()));
    }

    fn norm_modulated_forward(
        &self,
        _y: usize,
        _stats: usize,
        _x: usize,
        _modulation: usize,
        _shift: Slots,
        _scale: Slots,
        _eps: f32,
        dims: TokenDims,
    ) {
        self.record(Family::Norm, Work::Pass(dims.len()));
    }

    fn norm_modulated_backward(
        &self,
        _dx: usize,
        _write: Write,
        _dmodulation: usize,
        _dy: usize,
        _x: usize,
        _stats: usize,
        _modulation: usize,
        _shift: Slots,
        _scale: Slots,
        dims: TokenDims,
    ) {
        self.record(Family::Norm, Work::Pass(dims.len()));
    }

    fn attention_forward(&self, _out: usize, _lse: usize, _qkv: usize, dims: AttentionDims) {
        self.record(Family::Attention, Work::AttentionForward(dims));
    }

    fn attention_backward(
        &self,
        _dqkv: usize,
        _dout: usize,
        _out: usize,
        _lse: usize,
        _qkv: usize,
        dims: AttentionDims,
    ) {
        self.record(Family::Attention, Work::AttentionBackward(dims));
    }

    fn cross_attention_forward(
        &self,
        _out: usize,
        _lse: usize,
        _q: usize,
        _kv: usize,
        _lengths: usize,
        dims: CrossAttentionDims,
    ) {
        self.record(Family::Attention, Work::CrossAttentionForward(dims));
    }

    fn cross_attention_backward(
        &self,
        _dq: usize,
        _dkv: usize,
        _dout: usize,
        _out: usize,
        _lse: usize,
        _q: usize,
        _kv: usize,
        _lengths: usize,
        dims: CrossAttentionDims,
    ) {
        self.record(Family::Attention, Work::CrossAttentionBackward(dims));
    }

    fn patch_embed_forward(
        &self,
        _tokens: usize,
        _image: usize,
        _weight: usize,
        _bias: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn patch_embed_rows_forward(
        &self,
        tokens: usize,
        _image: usize,
        _weight: usize,
        _bias: usize,
        rows: AddedRows<usize>,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
        for _ in [rows.position, rows.sample].into_iter().flatten() {
            self.record(Family::Elementwise, Work::Pass(tokens));
        }
    }

    fn patch_embed_backward_weight(
        &self,
        _dweight: usize,
        _dbias: usize,
        _dtokens: usize,
        _image: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn patch_embed_backward_input(
        &self,
        _dimage: usize,
        _write: Write,
        _dtokens: usize,
        _weight: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn patch_deembed_forward(
        &self,
        _image: usize,
        _tokens: usize,
        _weight: usize,
        _bias: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn patch_deembed_backward_weight(
        &self,
        _dweight: usize,
        _dbias: usize,
        _dimage: usize,
        _tokens: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn patch_deembed_backward_input(
        &self,
        _dtokens: usize,
        _write: Write,
        _dimage: usize,
        _weight: usize,
        dims: PatchDims,
    ) {
        self.record(Family::Patch, Work::Patch(dims));
    }

    fn activation_forward(&self, y: usize, _x: usize, _activation: Activation) {
        self.record(Family::Elementwise, Work::Pass(y));
    }

    fn activation_backward(&self, dx: usize, _write: Write, _dy: usize, _x: usize, _activation: Activation) {
        self.record(Family::Elementwise, Work::Pass(dx));
    }

    fn activation_backward_in_place(&self, dy: usize, _x: usize, _activation: Activation) {
        self.record(Family::Elementwise, Work::Pass(dy));
    }

    fn add_rows_forward(&self, _y: usize, _x: usize, _rows: usize, _repeat: Repeat, dims: TokenDims) {
        self.record(Family::Elementwise, Work::Pass(dims.len()));
    }

    fn add_rows_backward(&self, _drows: usize, _dy: usize, _repeat: Repeat, dims: TokenDims) {
        self.record(Family::Elementwise, Work::Pass(dims.len()));
    }

    fn residual_forward(&self, y: usize, _x: usize, _branch: usize) {
        self.record(Family::Elementwise, Work::Pass(y));
    }

    fn gated_residual_forward(
        &self,
        _y: usize,
        _x: usize,
        _branch: usize,
        _modulation: usize,
        _gate: Slots,
        dims: TokenDims,
    ) {
        self.record(Family::Elementwise, Work::Pass(dims.len()));
    }

    fn gated_residual_backward(
        &self,
        _dbranch: usize,
        _dmodulation: usize,
        _dy: usize,
        _branch: usize,
        _modulation: usize,
        _gate: Slots,
        dims: TokenDims,
    ) {
        self.record(Family::Elementwise, Work::Pass(dims.len()));
    }

    fn step_embedding(&self, out: usize, _t: usize, _half: usize, _max_period: f32) {
        self.record(Family::Embed, Work::Pass(out));
    }

    fn lookup_forward(&self, out: usize, _table: usize, _indices: &[u32], _dim: usize) {
        self.record(Family::Embed, Work::Pass(out));
    }

    fn lookup_backward(&self, _dtable: usize, dout: usize, _indices: &[u32], _dim: usize) {
        self.record(Family::Embed, Work::Pass(dout));
    }

    fn pool_forward(&self, _out: usize, _x: usize, _lengths: usize, dims: TokenDims) {
        self.record(Family::Embed, Work::Pass(dims.len()));
    }

    fn pool_backward(&self, _dx: usize, _write: Write, _dout: usize, _lengths: usize, dims: TokenDims) {
        self.record(Family::Embed, Work::Pass(dims.len()));
    }

    fn normal(&self, out: usize, _key: NoiseKey, _first: u64) {
        self.record(Family::Noise, Work::Pass(out));
    }

    fn noise_mix(
        &self,
        x_t: usize,
        _target: usize,
        _x0: usize,
        _eps: usize,
        _rows: usize,
        _objective: Objective,
        _width: usize,
    ) {
        self.record(Family::Noise, Work::Pass(x_t));
    }

    fn noise_mix_drawn(
        &self,
        x_t: usize,
        _target: usize,
        _x0: usize,
        _rows: usize,
        _key: NoiseKey,
        _first: u64,
        _objective: Objective,
        _width: usize,
    ) {
        self.record(Family::Noise, Work::Pass(x_t));
    }

    fn mse(&self, losses: usize, _dprediction: usize, _prediction: usize, _target: usize, _weights: usize) {
        self.record(Family::Loss, Work::Pass(losses));
    }

    fn sum_of_squares(&self, out: usize, _x: usize) {
        self.record(Family::Adam, Work::Pass(out));
    }

    fn adam(
        &self,
        weights: usize,
        _first: usize,
        _second: usize,
        _ema: usize,
        _gradient: usize,
        _norm2: usize,
        _step: AdamStep,
    ) {
        self.record(Family::Adam, Work::Pass(weights));
    }

    fn sampler_step(
        &self,
        x: usize,
        _saved: Option<usize>,
        _prediction: usize,
        _z: Option<usize>,
        _step: SamplerStep,
    ) {
        self.record(Family::Sampler, Work::Pass(x));
    }

    fn guide(
        &self,
        out: usize,
        _conditional: usize,
        _unconditional: usize,
        _samples: usize,
        _scale: f32,
        _rescale: f32,
    ) {
        self.record(Family::Sampler, Work::Pass(out));
    }
}
