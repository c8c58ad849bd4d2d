//! attention, to itself and to another sequence: forward and backward; kernels in `kernels/attention.cu`. Formulas: `Backend`, section attention.

use super::memory::{Element, Mut, Ref, Span};
use super::{Arg, Cuda};
use crate::backend::*;

/// Head dims that there are kernels for; each serves all below it.
const TEMPLATES: [usize; 4] = [32, 64, 96, 128];
/// Bytes that a fast load moves: rows have to begin at multiples of it, and be multiples of it.
const PACK_BYTES: u64 = 16;
/// f32 that backward keeps for each query between its two launches.
const SAVED_PER_QUERY: usize = 2;

/// The template that serves this head dim.
fn template(cuda: &Cuda, head_dim: usize) -> Option<usize> {
    let found = TEMPLATES.into_iter().find(|&template| head_dim <= template);
    if found.is_none() {
        let largest = TEMPLATES[TEMPLATES.len() - 1];
        cuda.fail(&format!("heads of {head_dim} features are wider than the kernels' {largest}"));
    }
    found
}

/// Whether every row of every array begins at a multiple of a pack and is whole packs long.
fn aligned(arrays: &[&Span], head_dim: usize) -> bool {
    let whole = |array: &&Span| {
        let row = (head_dim * array.element.bytes()) as u64;
        array.address.is_multiple_of(PACK_BYTES) && row.is_multiple_of(PACK_BYTES)
    };
    arrays.iter().all(whole)
}

/// Launches a kernel over blocks of rows of each head of each sample; the arguments begin with `arrays`.
fn over_rows(
    cuda: &Cuda,
    element: Element,
    kernel: &str,
    arrays: &[Arg],
    aligned: bool,
    dims: AttentionDims,
) {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    let rows = cuda.constant(element, &format!("{kernel}_rows"));
    let mut arguments = arrays.to_vec();
    arguments.extend([tokens, heads, head_dim].map(|size| cuda.word(size)));
    arguments.extend([Arg::Word(aligned.into()), Arg::Real((head_dim as f32).sqrt().recip())]);
    cuda.launch(element, kernel, [tokens.div_ceil(rows), heads, batch], &arguments);
}

/// See `Backend::attention_forward`.
pub fn forward(cuda: &Cuda, out: Mut<'_>, lse: Mut<'_>, qkv: Ref<'_>, dims: AttentionDims) {
    let Some(template) = template(cuda, dims.head_dim) else { return };
    let kernel = format!("attention_forward_{template}");
    let arrays = [Arg::from(&out), Arg::from(&lse), qkv.into()];
    over_rows(cuda, qkv.element, &kernel, &arrays, aligned(&[&out, &qkv], dims.head_dim), dims);
}

/// See `Backend::attention_backward`.
pub fn backward(
    cuda: &Cuda,
    dqkv: Mut<'_>,
    dout: Ref<'_>,
    out: Ref<'_>,
    lse: Ref<'_>,
    qkv: Ref<'_>,
    dims: AttentionDims,
) {
    let Some(template) = template(cuda, dims.head_dim) else { return };
    let Some(saved) = cuda.workspace(SAVED_PER_QUERY * lse.len) else { return };
    let aligned = aligned(&[&dqkv, &dout, &out, &qkv], dims.head_dim);
    let arrays = [Arg::from(&dqkv), Arg::from(&saved), dout.into(), out.into(), lse.into(), qkv.into()];
    for rows in ["queries", "keys"] {
        let kernel = format!("attention_backward_{rows}_{template}");
        over_rows(cuda, qkv.element, &kernel, &arrays, aligned, dims);
    }
}

/// See `Backend::cross_attention_forward`.
pub fn cross_forward(
    cuda: &Cuda,
    out: Mut<'_>,
    lse: Mut<'_>,
    q: Ref<'_>,
    kv: Ref<'_>,
    lengths: Ref<'_>,
    dims: CrossAttentionDims,
) {
    let Some(template) = template(cuda, dims.head_dim) else { return };
    let arrays = [Arg::from(&out), Arg::from(&lse), q.into(), kv.into(), lengths.into()];
    let aligned = aligned(&[&out, &q, &kv], dims.head_dim);
    over_cross_rows(cuda, q.element, "forward", template, dims.queries, &arrays, aligned, dims);
}

/// See `Backend::cross_attention_backward`.
#[allow(clippy::too_many_arguments)]
pub fn cross_backward(
    cuda: &Cuda,
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
    let Some(template) = template(cuda, dims.head_dim) else { return };
    let Some(saved) = cuda.workspace(SAVED_PER_QUERY * lse.len) else { return };
    let aligned = aligned(&[&dq, &dkv, &dout, &out, &q, &kv], dims.head_dim);
    for (kernel, gradient, rows) in
        [("backward_queries", &dq, dims.queries), ("backward_keys", &dkv, dims.keys)]
    {
        let arrays = [
            Arg::from(gradient),
            Arg::from(&saved),
            dout.into(),
            out.into(),
            lse.into(),
            q.into(),
            kv.into(),
            lengths.into(),
        ];
        over_cross_rows(cuda, q.element, kernel, template, rows, &arrays, aligned, dims);
    }
}

/// Launches a kernel of cross-attention over blocks of its `rows`, which are cut as those of self-attention are.
#[allow(clippy::too_many_arguments)]
fn over_cross_rows(
    cuda: &Cuda,
    element: Element,
    kernel: &str,
    template: usize,
    rows: usize,
    arrays: &[Arg],
    aligned: bool,
    dims: CrossAttentionDims,
) {
    let CrossAttentionDims { batch, queries, keys, heads, head_dim } = dims;
    let block_rows = cuda.constant(element, &format!("attention_{kernel}_{template}_rows"));
    let mut arguments = arrays.to_vec();
    arguments.extend([queries, keys, heads, head_dim].map(|size| cuda.word(size)));
    arguments.extend([Arg::Word(aligned.into()), Arg::Real((head_dim as f32).sqrt().recip())]);
    let kernel = format!("attention_cross_{kernel}_{template}");
    cuda.launch(element, &kernel, [rows.div_ceil(block_rows), heads, batch], &arguments);
}
