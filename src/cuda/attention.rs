//! attention: forward and backward; kernels in `kernels/attention.cu`. Formulas: `Backend`, section attention.

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
fn template(cuda: &Cuda, dims: AttentionDims) -> Option<usize> {
    let found = TEMPLATES.into_iter().find(|&template| dims.head_dim <= template);
    if found.is_none() {
        let largest = TEMPLATES[TEMPLATES.len() - 1];
        cuda.fail(&format!("heads of {} features are wider than the kernels' {largest}", dims.head_dim));
    }
    found
}

/// Whether every row of every array begins at a multiple of a pack and is whole packs long.
fn aligned(arrays: &[&Span], dims: AttentionDims) -> bool {
    let whole = |array: &&Span| {
        let row = (dims.head_dim * array.element.bytes()) as u64;
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
    let Some(template) = template(cuda, dims) else { return };
    let kernel = format!("attention_forward_{template}");
    let arrays = [Arg::from(&out), Arg::from(&lse), qkv.into()];
    over_rows(cuda, qkv.element, &kernel, &arrays, aligned(&[&out, &qkv], dims), dims);
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
    let Some(template) = template(cuda, dims) else { return };
    let Some(saved) = cuda.workspace(SAVED_PER_QUERY * lse.len) else { return };
    let aligned = aligned(&[&dqkv, &dout, &out, &qkv], dims);
    let arrays = [Arg::from(&dqkv), Arg::from(&saved), dout.into(), out.into(), lse.into(), qkv.into()];
    for rows in ["queries", "keys"] {
        let kernel = format!("attention_backward_{rows}_{template}");
        over_rows(cuda, qkv.element, &kernel, &arrays, aligned, dims);
    }
}

/// TEMPORARY
pub fn cross_forward(
    cuda: &Cuda,
    _out: Mut<'_>,
    _lse: Mut<'_>,
    _q: Ref<'_>,
    _kv: Ref<'_>,
    _lengths: Ref<'_>,
    _dims: CrossAttentionDims,
) {
    cuda.fail("not yet");
}
/// TEMPORARY
#[allow(clippy::too_many_arguments)]
pub fn cross_backward(
    cuda: &Cuda,
    _dq: Mut<'_>,
    _dkv: Mut<'_>,
    _dout: Ref<'_>,
    _out: Ref<'_>,
    _lse: Ref<'_>,
    _q: Ref<'_>,
    _kv: Ref<'_>,
    _lengths: Ref<'_>,
    _dims: CrossAttentionDims,
) {
    cuda.fail("not yet");
}
