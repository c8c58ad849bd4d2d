//! The CUDA backend as the engine's table of contents wants it: memory here, every kernel in its family's file.

use std::ops::Range;
use std::rc::Rc;

use crate::backend::*;
use crate::error::Result;

use super::memory::{self, Buffer, Element, Mut, Pool, Ref};
use super::queue::{Command, Queue};
use super::{
    COUNTERS, Cuda, SMALLEST_PINNED, STEPS_IN_FLIGHT, adam, attention, elementwise, embed, loss, matmul,
    noise, norm, patch, sampler,
};

impl Backend for Cuda {
    type Buf = Buffer;
    type Ref<'a> = Ref<'a>;
    type Mut<'a> = Mut<'a>;
    type Rehearsal = Cuda;

    fn name(&self) -> String {
        format!("{} ({})", self.name, self.precision)
    }

    fn alloc(&self, len: usize) -> Result<Buffer> {
        self.check()?;
        self.take(len, Element::F32, false)
    }

    fn alloc_activation(&self, len: usize) -> Result<Buffer> {
        self.check()?;
        self.take(len, self.activation_element(), false)
    }

    fn alloc_weights(&self, len: usize) -> Result<Buffer> {
        self.check()?;
        self.take(len, Element::F32, self.precision == Precision::Bf16)
    }

    fn alloc_like(&self, like: &Buffer, len: usize) -> Result<Buffer> {
        self.check()?;
        self.take(len, like.element(), false)
    }

    fn len(buf: &Buffer) -> usize {
        buf.len()
    }

    fn view(buf: &Buffer, range: Range<usize>) -> Ref<'_> {
        buf.view(range)
    }

    fn view_mut(buf: &mut Buffer, range: Range<usize>) -> Mut<'_> {
        buf.view_mut(range)
    }

    fn view_two_mut(buf: &mut Buffer, first: Range<usize>, second: Range<usize>) -> (Mut<'_>, Mut<'_>) {
        buf.view_two_mut(first, second)
    }

    fn upload(&self, to: Mut<'_>, from: &[f32]) {
        self.upload_span(&to, from);
    }

    fn download(&self, to: &mut [f32], from: Ref<'_>) {
        assert_eq!(to.len(), from.len, "a download copies equal lengths");
        to.fill(f32::NAN);
        self.queue.settle();
        if from.len == 0 || self.queue.has_failed() {
            return;
        }
        if self.queue.is_rehearsing() {
            return to.fill(0.0);
        }
        let mut bytes = vec![0; from.bytes()];
        let outcome = self.driver.copy_to_host(&mut bytes, from.address);
        if outcome.is_ok() {
            memory::decode(&bytes, from.element, to);
        }
        self.queue.note(outcome);
    }

    fn download_later(&self, from: Ref<'_>) -> Box<dyn FnOnce() -> Result<Vec<f32>>> {
        self.queue.settle();
        let (len, element) = (from.len, from.element);
        if self.queue.is_rehearsing() {
            return Box::new(move || Ok(vec![0.0; len]));
        }
        let copied = self.check().and_then(|()| {
            // Pinned memory is dear to get: the pieces that were read are used again.
            let idle = self.idle_pinned.borrow_mut().pop_if(|pinned| pinned.bytes().len() >= from.bytes());
            let mut pinned =
                idle.map_or_else(|| self.driver.pinned(from.bytes().max(SMALLEST_PINNED)), Ok)?;
            self.driver.copy_to_pinned(&mut pinned, 0, from.address, from.bytes())?;
            Ok((pinned, self.driver.event()?))
        });
        let idle_pinned = self.idle_pinned.clone();
        Box::new(move || {
            let (pinned, event) = copied?;
            event.wait()?;
            let mut values = vec![0.0; len];
            memory::decode(&pinned.bytes()[..len * element.bytes()], element, &mut values);
            idle_pinned.borrow_mut().push(pinned);
            Ok(values)
        })
    }

    fn rehearsal(&self) -> Cuda {
        let pool = Pool::rehearsing(self.driver.clone());
        let counters =
            pool.take(COUNTERS, Element::F32, false).expect("a rehearsal has all the memory it wants");
        Cuda {
            queue: Rc::new(Queue::rehearsing(self.driver.clone())),
            pool,
            counters: Rc::new(counters),
            ahead: Rc::default(),
            ..self.clone()
        }
    }

    fn available_bytes(&self) -> Option<u64> {
        let (free, _) = self.driver.memory_bytes().ok()?;
        Some(free + self.pool.usage().held_bytes)
    }

    fn shares_main_memory(&self) -> bool {
        false
    }

    fn steps_in_flight(&self) -> usize {
        STEPS_IN_FLIGHT
    }

    fn upload_ahead(&self, host: &[f32]) {
        let outcome = self.ahead.borrow_mut().begin(&self.driver, &self.pool, host);
        self.queue.note(outcome);
    }

    fn memory(&self) -> MemoryUse {
        self.pool.usage()
    }

    fn check(&self) -> Result<()> {
        self.queue.check()
    }

    fn run_step(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.queue.step(work)
    }

    fn copy(&self, to: Mut<'_>, from: Ref<'_>) {
        assert_eq!(
            (to.len, to.element),
            (from.len, from.element),
            "a copy copies equal lengths of the same kind"
        );
        let bytes = from.bytes();
        self.queue.issue(Command::Copy { to: to.address, from: from.address, bytes });
        if let (Some(to), Some(from_copy)) = (to.copy, from.copy) {
            self.queue.issue(Command::Copy { to, from: from_copy, bytes: from.len * Element::Bf16.bytes() });
        }
    }

    fn fill(&self, to: Mut<'_>, value: f32) {
        elementwise::fill(self, &to, value);
    }

    fn add(&self, to: Mut<'_>, from: Ref<'_>) {
        elementwise::add(self, to, from);
    }

    fn find_non_finite(&self, x: Ref<'_>) -> Option<usize> {
        elementwise::find_non_finite(self, x)
    }

    fn matmul_forward(
        &self,
        y: Mut<'_>,
        pre: Option<Mut<'_>>,
        x: Ref<'_>,
        w: Ref<'_>,
        bias: Option<Ref<'_>>,
        activation: Activation,
        dims: MatmulDims,
    ) {
        matmul::forward(self, y, pre, x, w, bias, activation, dims);
    }

    fn matmul_residual_forward(
        &self,
        y: Mut<'_>,
        h: Option<Mut<'_>>,
        x: Ref<'_>,
        w: Ref<'_>,
        bias: Ref<'_>,
        residual: Ref<'_>,
        gate: Option<Gate<Ref<'_>>>,
        dims: MatmulDims,
    ) {
        matmul::residual_forward(self, y, h, x, w, bias, residual, gate, dims);
    }

    fn matmul_backward_input(&self, dx: Mut<'_>, write: Write, dh: Ref<'_>, w: Ref<'_>, dims: MatmulDims) {
        matmul::backward_input(self, dx, write, dh, w, dims);
    }

    fn matmul_backward_input_activated(
        &self,
        dpre: Mut<'_>,
        dh: Ref<'_>,
        w: Ref<'_>,
        pre: Ref<'_>,
        activation: Activation,
        dims: MatmulDims,
    ) {
        matmul::backward_input_activated(self, dpre, dh, w, pre, activation, dims);
    }

    fn matmul_backward_weight(
        &self,
        dw: Mut<'_>,
        dbias: Option<Mut<'_>>,
        dh: Ref<'_>,
        x: Ref<'_>,
        dims: MatmulDims,
    ) {
        matmul::backward_weight(self, dw, dbias, dh, x, dims);
    }

    fn norm_affine_forward(
        &self,
        y: Mut<'_>,
        stats: Mut<'_>,
        x: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        eps: f32,
        dims: TokenDims,
    ) {
        norm::affine_forward(self, y, stats, x, weight, bias, eps, dims);
    }

    fn norm_affine_backward(
        &self,
        dx: Mut<'_>,
        write: Write,
        dweight: Mut<'_>,
        dbias: Mut<'_>,
        dy: Ref<'_>,
        x: Ref<'_>,
        stats: Ref<'_>,
        weight: Ref<'_>,
        dims: TokenDims,
    ) {
        norm::affine_backward(self, dx, write, dweight, dbias, dy, x, stats, weight, dims);
    }

    fn norm_modulated_forward(
        &self,
        y: Mut<'_>,
        stats: Mut<'_>,
        x: Ref<'_>,
        modulation: Ref<'_>,
        shift: Slots,
        scale: Slots,
        eps: f32,
        dims: TokenDims,
    ) {
        norm::modulated_forward(self, y, stats, x, modulation, shift, scale, eps, dims);
    }

    fn norm_modulated_backward(
        &self,
        dx: Mut<'_>,
        write: Write,
        dmodulation: Mut<'_>,
        dy: Ref<'_>,
        x: Ref<'_>,
        stats: Ref<'_>,
        modulation: Ref<'_>,
        shift: Slots,
        scale: Slots,
        dims: TokenDims,
    ) {
        norm::modulated_backward(self, dx, write, dmodulation, dy, x, stats, modulation, shift, scale, dims);
    }

    fn attention_forward(&self, out: Mut<'_>, lse: Mut<'_>, qkv: Ref<'_>, dims: AttentionDims) {
        attention::forward(self, out, lse, qkv, dims);
    }

    fn attention_backward(
        &self,
        dqkv: Mut<'_>,
        dout: Ref<'_>,
        out: Ref<'_>,
        lse: Ref<'_>,
        qkv: Ref<'_>,
        dims: AttentionDims,
    ) {
        attention::backward(self, dqkv, dout, out, lse, qkv, dims);
    }

    fn cross_attention_forward(
        &self,
        out: Mut<'_>,
        lse: Mut<'_>,
        q: Ref<'_>,
        kv: Ref<'_>,
        lengths: Ref<'_>,
        dims: CrossAttentionDims,
    ) {
        attention::cross_forward(self, out, lse, q, kv, lengths, dims);
    }

    fn cross_attention_backward(
        &self,
        dq: Mut<'_>,
        dkv: Mut<'_>,
        dout: Ref<'_>,
        out: Ref<'_>,
        lse: Ref<'_>,
        q: Ref<'_>,
        kv: Ref<'_>,
        lengths: Ref<'_>,
        dims: CrossAttentionDims,
    ) {
        attention::cross_backward(self, dq, dkv, dout, out, lse, q, kv, lengths, dims);
    }

    fn patch_embed_forward(
        &self,
        tokens: Mut<'_>,
        image: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::embed_forward(self, tokens, image, weight, bias, dims);
    }

    fn patch_embed_rows_forward(
        &self,
        tokens: Mut<'_>,
        image: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        rows: AddedRows<Ref<'_>>,
        dims: PatchDims,
    ) {
        patch::embed_rows_forward(self, tokens, image, weight, bias, rows, dims);
    }

    fn patch_embed_backward_weight(
        &self,
        dweight: Mut<'_>,
        dbias: Mut<'_>,
        dtokens: Ref<'_>,
        image: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::embed_backward_weight(self, dweight, dbias, dtokens, image, dims);
    }

    fn patch_embed_backward_input(
        &self,
        dimage: Mut<'_>,
        write: Write,
        dtokens: Ref<'_>,
        weight: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::embed_backward_input(self, dimage, write, dtokens, weight, dims);
    }

    fn patch_deembed_forward(
        &self,
        image: Mut<'_>,
        tokens: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::deembed_forward(self, image, tokens, weight, bias, dims);
    }

    fn patch_deembed_backward_weight(
        &self,
        dweight: Mut<'_>,
        dbias: Mut<'_>,
        dimage: Ref<'_>,
        tokens: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::deembed_backward_weight(self, dweight, dbias, dimage, tokens, dims);
    }

    fn patch_deembed_backward_input(
        &self,
        dtokens: Mut<'_>,
        write: Write,
        dimage: Ref<'_>,
        weight: Ref<'_>,
        dims: PatchDims,
    ) {
        patch::deembed_backward_input(self, dtokens, write, dimage, weight, dims);
    }

    fn activation_forward(&self, y: Mut<'_>, x: Ref<'_>, activation: Activation) {
        elementwise::activation_forward(self, y, x, activation);
    }

    fn activation_backward(
        &self,
        dx: Mut<'_>,
        write: Write,
        dy: Ref<'_>,
        x: Ref<'_>,
        activation: Activation,
    ) {
        elementwise::activation_backward(self, dx, write, dy, x, activation);
    }

    fn activation_backward_in_place(&self, dy: Mut<'_>, x: Ref<'_>, activation: Activation) {
        elementwise::activation_backward_in_place(self, dy, x, activation);
    }

    fn add_rows_forward(&self, y: Mut<'_>, x: Ref<'_>, rows: Ref<'_>, repeat: Repeat, dims: TokenDims) {
        elementwise::add_rows_forward(self, y, x, rows, repeat, dims);
    }

    fn add_rows_backward(&self, drows: Mut<'_>, dy: Ref<'_>, repeat: Repeat, dims: TokenDims) {
        elementwise::add_rows_backward(self, drows, dy, repeat, dims);
    }

    fn residual_forward(&self, y: Mut<'_>, x: Ref<'_>, branch: Ref<'_>) {
        elementwise::residual_forward(self, y, x, branch);
    }

    fn gated_residual_forward(
        &self,
        y: Mut<'_>,
        x: Ref<'_>,
        branch: Ref<'_>,
        modulation: Ref<'_>,
        gate: Slots,
        dims: TokenDims,
    ) {
        elementwise::gated_residual_forward(self, y, x, branch, modulation, gate, dims);
    }

    fn gated_residual_backward(
        &self,
        dbranch: Mut<'_>,
        dmodulation: Mut<'_>,
        dy: Ref<'_>,
        branch: Ref<'_>,
        modulation: Ref<'_>,
        gate: Slots,
        dims: TokenDims,
    ) {
        elementwise::gated_residual_backward(self, dbranch, dmodulation, dy, branch, modulation, gate, dims);
    }

    fn step_embedding(&self, out: Mut<'_>, t: Ref<'_>, half: usize, max_period: f32) {
        embed::step_embedding(self, out, t, half, max_period);
    }

    fn lookup_forward(&self, out: Mut<'_>, table: Ref<'_>, indices: &[u32], dim: usize) {
        embed::lookup_forward(self, out, table, indices, dim);
    }

    fn lookup_backward(&self, dtable: Mut<'_>, dout: Ref<'_>, indices: &[u32], dim: usize) {
        embed::lookup_backward(self, dtable, dout, indices, dim);
    }

    fn pool_forward(&self, out: Mut<'_>, x: Ref<'_>, lengths: Ref<'_>, dims: TokenDims) {
        embed::pool_forward(self, out, x, lengths, dims);
    }

    fn pool_backward(&self, dx: Mut<'_>, write: Write, dout: Ref<'_>, lengths: Ref<'_>, dims: TokenDims) {
        embed::pool_backward(self, dx, write, dout, lengths, dims);
    }

    fn normal(&self, out: Mut<'_>, key: NoiseKey, first: u64) {
        noise::normal(self, out, key, first);
    }

    fn noise_mix(
        &self,
        x_t: Mut<'_>,
        target: Mut<'_>,
        x0: Ref<'_>,
        eps: Ref<'_>,
        rows: Ref<'_>,
        objective: Objective,
        width: usize,
    ) {
        noise::mix(self, x_t, target, x0, eps, rows, objective, width);
    }

    fn noise_mix_drawn(
        &self,
        x_t: Mut<'_>,
        target: Mut<'_>,
        x0: Ref<'_>,
        rows: Ref<'_>,
        key: NoiseKey,
        first: u64,
        objective: Objective,
        width: usize,
    ) {
        noise::mix_drawn(self, x_t, target, x0, rows, key, first, objective, width);
    }

    fn mse(
        &self,
        losses: Mut<'_>,
        dprediction: Mut<'_>,
        prediction: Ref<'_>,
        target: Ref<'_>,
        weights: Ref<'_>,
    ) {
        loss::mse(self, losses, dprediction, prediction, target, weights);
    }

    fn sum_of_squares(&self, out: Mut<'_>, x: Ref<'_>) {
        adam::sum_of_squares(self, out, x);
    }

    fn adam(
        &self,
        weights: Mut<'_>,
        first: Mut<'_>,
        second: Mut<'_>,
        ema: Mut<'_>,
        gradient: Ref<'_>,
        norm2: Ref<'_>,
        step: AdamStep,
    ) {
        adam::adam(self, weights, first, second, ema, gradient, norm2, step);
    }

    fn sampler_step(
        &self,
        x: Mut<'_>,
        saved: Option<Mut<'_>>,
        prediction: Ref<'_>,
        z: Option<Ref<'_>>,
        step: SamplerStep,
    ) {
        sampler::step(self, x, saved, prediction, z, step);
    }

    fn guide(
        &self,
        out: Mut<'_>,
        conditional: Ref<'_>,
        unconditional: Ref<'_>,
        samples: usize,
        scale: f32,
        rescale: f32,
    ) {
        sampler::guide(self, out, conditional, unconditional, samples, scale, rescale);
    }
}
