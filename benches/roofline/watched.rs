//! A CUDA device that notes every operation: what it has to move and to compute at least, and which launches it was.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use dit_engine::backend::*;
use dit_engine::cuda::Cuda;
use dit_engine::cuda::memory::{Buffer, Element, Mut, Ref, Span};
use dit_engine::error::Result;
use serde::{Deserialize, Serialize};

/// One call of a backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Op {
    /// Its name in `Backend`.
    pub name: String,
    /// What tells it from others of its name, apart from the batch.
    pub shape: String,
    /// Whether its kernels are those of the bf16 set.
    pub bf16: bool,
    /// Bytes of its inputs and outputs, each once.
    pub minimum_bytes: u64,
    /// Floating-point operations of its products, by the textbook.
    pub flops: u64,
    /// Launches.
    pub launches: u64,
    /// Whether it is part of a training step.
    pub in_step: bool,
}

/// A device, and what was asked of it.
pub struct Watched {
    inner: Cuda,
    batch: usize,
    launches_before: Cell<u64>,
    in_step: Cell<bool>,
    ops: RefCell<Vec<Op>>,
}

impl Watched {
    /// Watches a device without graphs, on which a step of `batch` samples is to run.
    pub fn new(inner: Cuda, batch: usize) -> Watched {
        let (launches_before, in_step) = (Cell::new(0), Cell::new(false));
        Watched { inner, batch, launches_before, in_step, ops: RefCell::default() }
    }

    /// Whether what follows is part of a training step.
    pub fn set_in_step(&self, in_step: bool) {
        self.in_step.set(in_step);
    }

    /// What was asked, in order.
    pub fn into_ops(self) -> Vec<Op> {
        self.ops.into_inner()
    }

    fn op(&self, name: &str, element: Element, shape: String, minimum_bytes: usize, flops: usize) -> Op {
        self.launches_before.set(self.inner.launch_counts().0);
        let (bf16, minimum_bytes, flops) = (element == Element::Bf16, minimum_bytes as u64, flops as u64);
        let in_step = self.in_step.get();
        Op { name: name.to_string(), shape, bf16, minimum_bytes, flops, launches: 0, in_step }
    }

    fn done(&self, op: Op) {
        let launches = self.inner.launch_counts().0 - self.launches_before.get();
        self.ops.borrow_mut().push(Op { launches, ..op });
    }

    /// Rows a sample, columns, inner, and which of the optional arrays there are.
    fn rows(&self, dims: MatmulDims, optional: [bool; 2]) -> String {
        format!("{}x{}x{} {optional:?}", dims.rows / self.batch, dims.columns, dims.inner)
    }
}

fn tokens(dims: TokenDims) -> String {
    format!("{}x{}", dims.tokens, dims.dim)
}

fn attention(dims: AttentionDims) -> String {
    format!("{}x{}x{}", dims.tokens, dims.heads, dims.head_dim)
}

fn cross_attention(dims: CrossAttentionDims) -> String {
    format!("{}to{}x{}x{}", dims.queries, dims.keys, dims.heads, dims.head_dim)
}

fn cross_attention_products(dims: CrossAttentionDims) -> usize {
    dims.batch * dims.heads * dims.queries * dims.keys * dims.head_dim
}

/// What is written, and read before where it is added to.
fn written(span: &Span, write: Write) -> usize {
    span.bytes() * if write == Write::Add { 2 } else { 1 }
}

/// Weights as a product of `element` reads them.
fn as_product_reads(weights: Ref<'_>, element: Element) -> usize {
    weights.len * element.bytes()
}

/// One slot of a modulation, for all samples.
fn slot_bytes(dims: TokenDims) -> usize {
    dims.batch * dims.dim * Element::F32.bytes()
}

fn copy_bytes(span: &Span) -> usize {
    span.copy.map_or(0, |_| span.len * Element::Bf16.bytes())
}

fn matmul_flops(dims: MatmulDims) -> usize {
    2 * dims.rows * dims.columns * dims.inner
}

fn attention_products(dims: AttentionDims) -> usize {
    dims.batch * dims.heads * dims.tokens * dims.tokens * dims.head_dim
}

fn patch(dims: PatchDims) -> String {
    format!("{}x{}", dims.patch_height, dims.patch_width)
}

fn patch_flops(dims: PatchDims) -> usize {
    2 * dims.batch * dims.tokens() * dims.patch_len() * dims.dim
}

impl Backend for Watched {
    type Buf = Buffer;
    type Ref<'a> = Ref<'a>;
    type Mut<'a> = Mut<'a>;
    type Rehearsal = Cuda;

    fn name(&self) -> String {
        self.inner.name()
    }

    fn alloc(&self, len: usize) -> Result<Buffer> {
        self.inner.alloc(len)
    }

    fn alloc_activation(&self, len: usize) -> Result<Buffer> {
        self.inner.alloc_activation(len)
    }

    fn alloc_weights(&self, len: usize) -> Result<Buffer> {
        self.inner.alloc_weights(len)
    }

    fn alloc_like(&self, like: &Buffer, len: usize) -> Result<Buffer> {
        self.inner.alloc_like(like, len)
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
        self.inner.upload(to, from);
    }

    fn download(&self, to: &mut [f32], from: Ref<'_>) {
        self.inner.download(to, from);
    }

    fn download_later(&self, from: Ref<'_>) -> Box<dyn FnOnce() -> Result<Vec<f32>>> {
        self.inner.download_later(from)
    }

    fn memory(&self) -> MemoryUse {
        self.inner.memory()
    }

    fn rehearsal(&self) -> Cuda {
        self.inner.rehearsal()
    }

    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }

    fn find_non_finite(&self, x: Ref<'_>) -> Option<usize> {
        let op = self.op("find_non_finite", x.element, String::new(), x.bytes(), 0);
        let found = self.inner.find_non_finite(x);
        self.done(op);
        found
    }

    fn copy(&self, to: Mut<'_>, from: Ref<'_>) {
        let minimum = 2 * to.bytes() + 2 * copy_bytes(&to);
        let op = self.op("copy", to.element, String::new(), minimum, 0);
        self.inner.copy(to, from);
        self.done(op);
    }

    fn fill(&self, to: Mut<'_>, value: f32) {
        let minimum = to.bytes() + copy_bytes(&to);
        let what = if value == 0.0 { "zeros" } else { "" };
        let op = self.op("fill", to.element, what.to_string(), minimum, 0);
        self.inner.fill(to, value);
        self.done(op);
    }

    fn add(&self, to: Mut<'_>, from: Ref<'_>) {
        let minimum = 2 * to.bytes() + from.bytes();
        let op = self.op("add", to.element, String::new(), minimum, 0);
        self.inner.add(to, from);
        self.done(op);
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
        let minimum = y.bytes()
            + pre.as_ref().map_or(0, |x| x.bytes())
            + x.bytes()
            + as_product_reads(w, x.element)
            + bias.as_ref().map_or(0, |x| x.bytes());
        let op = self.op(
            "matmul_forward",
            x.element,
            self.rows(dims, [pre.is_some(), bias.is_some()]),
            minimum,
            matmul_flops(dims),
        );
        self.inner.matmul_forward(y, pre, x, w, bias, activation, dims);
        self.done(op);
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
        let minimum = y.bytes()
            + h.as_ref().map_or(0, |x| x.bytes())
            + x.bytes()
            + bias.bytes()
            + residual.bytes()
            + as_product_reads(w, x.element)
            + gate.map_or(0, |gate| gate.modulation.bytes() / gate.slot.count);
        let op = self.op(
            "matmul_residual_forward",
            x.element,
            self.rows(dims, [h.is_some(), gate.is_some()]),
            minimum,
            matmul_flops(dims),
        );
        self.inner.matmul_residual_forward(y, h, x, w, bias, residual, gate, dims);
        self.done(op);
    }

    fn matmul_backward_input(&self, dx: Mut<'_>, write: Write, dh: Ref<'_>, w: Ref<'_>, dims: MatmulDims) {
        let minimum = written(&dx, write) + dh.bytes() + as_product_reads(w, dh.element);
        let op = self.op(
            "matmul_backward_input",
            dh.element,
            self.rows(dims, [write == Write::Add, false]),
            minimum,
            matmul_flops(dims),
        );
        self.inner.matmul_backward_input(dx, write, dh, w, dims);
        self.done(op);
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
        let minimum = dpre.bytes() + dh.bytes() + pre.bytes() + as_product_reads(w, dh.element);
        let op = self.op(
            "matmul_backward_input_activated",
            dh.element,
            self.rows(dims, [true, true]),
            minimum,
            matmul_flops(dims),
        );
        self.inner.matmul_backward_input_activated(dpre, dh, w, pre, activation, dims);
        self.done(op);
    }

    fn matmul_backward_weight(
        &self,
        dw: Mut<'_>,
        dbias: Option<Mut<'_>>,
        dh: Ref<'_>,
        x: Ref<'_>,
        dims: MatmulDims,
    ) {
        let minimum = 2 * dw.bytes() + dbias.as_ref().map_or(0, |x| 2 * x.bytes()) + dh.bytes() + x.bytes();
        let op = self.op(
            "matmul_backward_weight",
            dh.element,
            self.rows(dims, [dbias.is_some(), false]),
            minimum,
            matmul_flops(dims),
        );
        self.inner.matmul_backward_weight(dw, dbias, dh, x, dims);
        self.done(op);
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
        let minimum = y.bytes() + stats.bytes() + x.bytes() + weight.bytes() + bias.bytes();
        let op = self.op("norm_affine_forward", x.element, tokens(dims), minimum, 0);
        self.inner.norm_affine_forward(y, stats, x, weight, bias, eps, dims);
        self.done(op);
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
        let minimum = written(&dx, write)
            + 2 * dweight.bytes()
            + 2 * dbias.bytes()
            + dy.bytes()
            + x.bytes()
            + stats.bytes()
            + weight.bytes();
        let op = self.op("norm_affine_backward", x.element, tokens(dims), minimum, 0);
        self.inner.norm_affine_backward(dx, write, dweight, dbias, dy, x, stats, weight, dims);
        self.done(op);
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
        let minimum = y.bytes() + stats.bytes() + x.bytes() + 2 * slot_bytes(dims);
        let op = self.op("norm_modulated_forward", x.element, tokens(dims), minimum, 0);
        self.inner.norm_modulated_forward(y, stats, x, modulation, shift, scale, eps, dims);
        self.done(op);
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
        let minimum = written(&dx, write) + dy.bytes() + x.bytes() + stats.bytes() + 5 * slot_bytes(dims);
        let op = self.op("norm_modulated_backward", x.element, tokens(dims), minimum, 0);
        self.inner.norm_modulated_backward(
            dx,
            write,
            dmodulation,
            dy,
            x,
            stats,
            modulation,
            shift,
            scale,
            dims,
        );
        self.done(op);
    }

    fn attention_forward(&self, out: Mut<'_>, lse: Mut<'_>, qkv: Ref<'_>, dims: AttentionDims) {
        let minimum = out.bytes() + lse.bytes() + qkv.bytes();
        let op =
            self.op("attention_forward", qkv.element, attention(dims), minimum, 4 * attention_products(dims));
        self.inner.attention_forward(out, lse, qkv, dims);
        self.done(op);
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
        let minimum = dqkv.bytes() + dout.bytes() + out.bytes() + lse.bytes() + qkv.bytes();
        let op = self.op(
            "attention_backward",
            qkv.element,
            attention(dims),
            minimum,
            10 * attention_products(dims),
        );
        self.inner.attention_backward(dqkv, dout, out, lse, qkv, dims);
        self.done(op);
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
        let minimum = out.bytes() + lse.bytes() + q.bytes() + kv.bytes() + lengths.bytes();
        let flops = 4 * cross_attention_products(dims);
        let op = self.op("cross_attention_forward", q.element, cross_attention(dims), minimum, flops);
        self.inner.cross_attention_forward(out, lse, q, kv, lengths, dims);
        self.done(op);
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
        let inputs = dout.bytes() + out.bytes() + lse.bytes() + q.bytes() + kv.bytes() + lengths.bytes();
        let minimum = dq.bytes() + dkv.bytes() + inputs;
        let flops = 10 * cross_attention_products(dims);
        let op = self.op("cross_attention_backward", q.element, cross_attention(dims), minimum, flops);
        self.inner.cross_attention_backward(dq, dkv, dout, out, lse, q, kv, lengths, dims);
        self.done(op);
    }

    fn patch_embed_forward(
        &self,
        tokens: Mut<'_>,
        image: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum =
            tokens.bytes() + image.bytes() + bias.bytes() + as_product_reads(weight, tokens.element);
        let op = self.op("patch_embed_forward", tokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_embed_forward(tokens, image, weight, bias, dims);
        self.done(op);
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
        let minimum = tokens.bytes()
            + image.bytes()
            + bias.bytes()
            + as_product_reads(weight, tokens.element)
            + rows.position.as_ref().map_or(0, |x| x.bytes())
            + rows.sample.as_ref().map_or(0, |x| x.bytes());
        let op = self.op("patch_embed_rows_forward", tokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_embed_rows_forward(tokens, image, weight, bias, rows, dims);
        self.done(op);
    }

    fn patch_embed_backward_weight(
        &self,
        dweight: Mut<'_>,
        dbias: Mut<'_>,
        dtokens: Ref<'_>,
        image: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum = 2 * dweight.bytes() + 2 * dbias.bytes() + dtokens.bytes() + image.bytes();
        let op =
            self.op("patch_embed_backward_weight", dtokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_embed_backward_weight(dweight, dbias, dtokens, image, dims);
        self.done(op);
    }

    fn patch_embed_backward_input(
        &self,
        dimage: Mut<'_>,
        write: Write,
        dtokens: Ref<'_>,
        weight: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum = written(&dimage, write) + dtokens.bytes() + as_product_reads(weight, dtokens.element);
        let op =
            self.op("patch_embed_backward_input", dtokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_embed_backward_input(dimage, write, dtokens, weight, dims);
        self.done(op);
    }

    fn patch_deembed_forward(
        &self,
        image: Mut<'_>,
        tokens: Ref<'_>,
        weight: Ref<'_>,
        bias: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum =
            image.bytes() + tokens.bytes() + bias.bytes() + as_product_reads(weight, tokens.element);
        let op = self.op("patch_deembed_forward", tokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_deembed_forward(image, tokens, weight, bias, dims);
        self.done(op);
    }

    fn patch_deembed_backward_weight(
        &self,
        dweight: Mut<'_>,
        dbias: Mut<'_>,
        dimage: Ref<'_>,
        tokens: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum = 2 * dweight.bytes() + 2 * dbias.bytes() + dimage.bytes() + tokens.bytes();
        let op =
            self.op("patch_deembed_backward_weight", tokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_deembed_backward_weight(dweight, dbias, dimage, tokens, dims);
        self.done(op);
    }

    fn patch_deembed_backward_input(
        &self,
        dtokens: Mut<'_>,
        write: Write,
        dimage: Ref<'_>,
        weight: Ref<'_>,
        dims: PatchDims,
    ) {
        let minimum = written(&dtokens, write) + dimage.bytes() + as_product_reads(weight, dtokens.element);
        let op =
            self.op("patch_deembed_backward_input", dtokens.element, patch(dims), minimum, patch_flops(dims));
        self.inner.patch_deembed_backward_input(dtokens, write, dimage, weight, dims);
        self.done(op);
    }

    fn activation_forward(&self, y: Mut<'_>, x: Ref<'_>, activation: Activation) {
        let minimum = y.bytes() + x.bytes();
        let op = self.op("activation_forward", x.element, String::new(), minimum, 0);
        self.inner.activation_forward(y, x, activation);
        self.done(op);
    }

    fn activation_backward(
        &self,
        dx: Mut<'_>,
        write: Write,
        dy: Ref<'_>,
        x: Ref<'_>,
        activation: Activation,
    ) {
        let minimum = written(&dx, write) + dy.bytes() + x.bytes();
        let op = self.op("activation_backward", x.element, String::new(), minimum, 0);
        self.inner.activation_backward(dx, write, dy, x, activation);
        self.done(op);
    }

    fn activation_backward_in_place(&self, dy: Mut<'_>, x: Ref<'_>, activation: Activation) {
        let minimum = 2 * dy.bytes() + x.bytes();
        let op = self.op("activation_backward_in_place", x.element, String::new(), minimum, 0);
        self.inner.activation_backward_in_place(dy, x, activation);
        self.done(op);
    }

    fn add_rows_forward(&self, y: Mut<'_>, x: Ref<'_>, rows: Ref<'_>, repeat: Repeat, dims: TokenDims) {
        let minimum = y.bytes() + x.bytes() + rows.bytes();
        let op = self.op("add_rows_forward", y.element, format!("{} {repeat:?}", tokens(dims)), minimum, 0);
        self.inner.add_rows_forward(y, x, rows, repeat, dims);
        self.done(op);
    }

    fn add_rows_backward(&self, drows: Mut<'_>, dy: Ref<'_>, repeat: Repeat, dims: TokenDims) {
        let minimum = 2 * drows.bytes() + dy.bytes();
        let op = self.op("add_rows_backward", dy.element, format!("{} {repeat:?}", tokens(dims)), minimum, 0);
        self.inner.add_rows_backward(drows, dy, repeat, dims);
        self.done(op);
    }

    fn residual_forward(&self, y: Mut<'_>, x: Ref<'_>, branch: Ref<'_>) {
        let minimum = y.bytes() + x.bytes() + branch.bytes();
        let op = self.op("residual_forward", y.element, String::new(), minimum, 0);
        self.inner.residual_forward(y, x, branch);
        self.done(op);
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
        let minimum = y.bytes() + x.bytes() + branch.bytes() + slot_bytes(dims);
        let op = self.op("gated_residual_forward", y.element, tokens(dims), minimum, 0);
        self.inner.gated_residual_forward(y, x, branch, modulation, gate, dims);
        self.done(op);
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
        let minimum = dbranch.bytes() + dy.bytes() + branch.bytes() + 3 * slot_bytes(dims);
        let op = self.op("gated_residual_backward", dy.element, tokens(dims), minimum, 0);
        self.inner.gated_residual_backward(dbranch, dmodulation, dy, branch, modulation, gate, dims);
        self.done(op);
    }

    fn step_embedding(&self, out: Mut<'_>, t: Ref<'_>, half: usize, max_period: f32) {
        let minimum = out.bytes() + t.bytes();
        let op = self.op("step_embedding", out.element, String::new(), minimum, 0);
        self.inner.step_embedding(out, t, half, max_period);
        self.done(op);
    }

    fn lookup_forward(&self, out: Mut<'_>, table: Ref<'_>, indices: &[u32], dim: usize) {
        let minimum = 2 * out.bytes() + size_of_val(indices);
        let op = self.op("lookup_forward", out.element, String::new(), minimum, 0);
        self.inner.lookup_forward(out, table, indices, dim);
        self.done(op);
    }

    fn lookup_backward(&self, dtable: Mut<'_>, dout: Ref<'_>, indices: &[u32], dim: usize) {
        let minimum = 3 * dout.bytes() + size_of_val(indices);
        let op = self.op("lookup_backward", dout.element, String::new(), minimum, 0);
        self.inner.lookup_backward(dtable, dout, indices, dim);
        self.done(op);
    }

    fn pool_forward(&self, out: Mut<'_>, x: Ref<'_>, lengths: Ref<'_>, dims: TokenDims) {
        let minimum = out.bytes() + x.bytes() + lengths.bytes();
        let op = self.op("pool_forward", x.element, tokens(dims), minimum, 0);
        self.inner.pool_forward(out, x, lengths, dims);
        self.done(op);
    }

    fn pool_backward(&self, dx: Mut<'_>, write: Write, dout: Ref<'_>, lengths: Ref<'_>, dims: TokenDims) {
        let minimum = written(&dx, write) + dout.bytes() + lengths.bytes();
        let op = self.op("pool_backward", dx.element, tokens(dims), minimum, 0);
        self.inner.pool_backward(dx, write, dout, lengths, dims);
        self.done(op);
    }

    fn normal(&self, out: Mut<'_>, key: NoiseKey, first: u64) {
        let minimum = out.bytes();
        let op = self.op("normal", out.element, String::new(), minimum, 0);
        self.inner.normal(out, key, first);
        self.done(op);
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
        let minimum = x_t.bytes() + target.bytes() + x0.bytes() + eps.bytes() + rows.bytes();
        let op = self.op("noise_mix", x0.element, String::new(), minimum, 0);
        self.inner.noise_mix(x_t, target, x0, eps, rows, objective, width);
        self.done(op);
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
        let minimum = x_t.bytes() + target.bytes() + x0.bytes() + rows.bytes();
        let op = self.op("noise_mix_drawn", x0.element, String::new(), minimum, 0);
        self.inner.noise_mix_drawn(x_t, target, x0, rows, key, first, objective, width);
        self.done(op);
    }

    fn mse(
        &self,
        losses: Mut<'_>,
        dprediction: Mut<'_>,
        prediction: Ref<'_>,
        target: Ref<'_>,
        weights: Ref<'_>,
    ) {
        let minimum =
            losses.bytes() + dprediction.bytes() + prediction.bytes() + target.bytes() + weights.bytes();
        let op = self.op("mse", prediction.element, String::new(), minimum, 0);
        self.inner.mse(losses, dprediction, prediction, target, weights);
        self.done(op);
    }

    fn sum_of_squares(&self, out: Mut<'_>, x: Ref<'_>) {
        let minimum = out.bytes() + x.bytes();
        let op = self.op("sum_of_squares", x.element, String::new(), minimum, 0);
        self.inner.sum_of_squares(out, x);
        self.done(op);
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
        let minimum = 2 * weights.bytes()
            + 2 * first.bytes()
            + 2 * second.bytes()
            + 2 * ema.bytes()
            + copy_bytes(&weights)
            + copy_bytes(&ema)
            + gradient.bytes();
        let op = self.op("adam", weights.element, String::new(), minimum, 0);
        self.inner.adam(weights, first, second, ema, gradient, norm2, step);
        self.done(op);
    }

    fn sampler_step(
        &self,
        x: Mut<'_>,
        saved: Option<Mut<'_>>,
        prediction: Ref<'_>,
        z: Option<Ref<'_>>,
        step: SamplerStep,
    ) {
        let optional = 2 * saved.as_ref().map_or(0, |x| x.bytes()) + z.as_ref().map_or(0, |x| x.bytes());
        let minimum = 2 * x.bytes() + prediction.bytes() + optional;
        let op = self.op("sampler_step", x.element, String::new(), minimum, 0);
        self.inner.sampler_step(x, saved, prediction, z, step);
        self.done(op);
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
        let minimum = out.bytes() + conditional.bytes() + unconditional.bytes();
        let op = self.op("guide", out.element, String::new(), minimum, 0);
        self.inner.guide(out, conditional, unconditional, samples, scale, rescale);
        self.done(op);
    }
}
