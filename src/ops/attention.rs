//! Self-attention over packed projections, and attention to another sequence.

use crate::backend::{AttentionDims, Backend, CrossAttentionDims};
use crate::error::{Error, Result};
use crate::tape::{Tape, Var};

/// Multi-head attention of every token to every token of its sample.
///
/// qkv `[batch, tokens, 3 * dim]` (q, k, v side by side; head h uses columns `h * head_dim ..` of each), result
/// `[batch, tokens, dim]`. Memory is linear in tokens: what is saved is one number a token and head.
///
/// # Errors
/// [`Error::Shape`] when the last axis is not a multiple of `3 * heads`.
pub fn attention<B: Backend>(tape: &mut Tape<'_, B>, qkv: &Var<B>, heads: usize) -> Result<Var<B>> {
    let dims = match *qkv.shape() {
        [batch, tokens, columns] if heads > 0 && columns % (3 * heads) == 0 => {
            AttentionDims { batch, tokens, heads, head_dim: columns / (3 * heads) }
        }
        _ => {
            let expected = format!("[batch, tokens, a multiple of 3 * {heads}]");
            return Err(Error::shape("attention", expected, format!("{:?}", qkv.shape())));
        }
    };
    let len = dims.batch * dims.tokens * dims.dim();
    let rows = dims.batch * dims.heads * dims.tokens;
    // The dearest part of a block, and its results are among the smallest: a checkpoint keeps them.
    let [out, lse] = tape.stashed(|backend| {
        let (mut out, mut lse) = (qkv.alloc_like(backend, len)?, backend.alloc(rows)?);
        let (out_view, lse_view) = (B::view_mut(&mut out, 0..len), B::view_mut(&mut lse, 0..rows));
        backend.attention_forward(out_view, lse_view, qkv.data(), dims);
        Ok([out, lse])
    })?;
    let qkv = qkv.clone();
    let saved = out.clone();
    tape.push(&[dims.batch, dims.tokens, dims.dim()], out, move |walk, dout| {
        let mut dqkv = qkv.alloc_like(walk.backend, 3 * len)?;
        walk.backend.attention_backward(
            B::view_mut(&mut dqkv, 0..3 * len),
            B::view(&dout, 0..len),
            B::view(&saved, 0..len),
            B::view(&lse, 0..rows),
            qkv.data(),
            dims,
        );
        walk.pass(&qkv, dqkv.into())
    })
}

/// Multi-head attention of one sequence to another, of which sample b has the first `lengths[b]` tokens; the others are padding.
///
/// q `[batch, queries, dim]`, kv `[batch, keys, 2 * dim]` (k, v side by side), lengths `[batch]`, result
/// `[batch, queries, dim]`.
///
/// # Errors
/// [`Error::Shape`] when the shapes do not fit together, or `dim` is not a multiple of `heads`.
pub fn cross<B: Backend>(
    tape: &mut Tape<'_, B>,
    q: &Var<B>,
    kv: &Var<B>,
    lengths: &Var<B>,
    heads: usize,
) -> Result<Var<B>> {
    let dims = match (q.shape(), kv.shape(), lengths.shape()) {
        (&[batch, queries, dim], &[of_keys, keys, both], &[of_lengths])
            if heads > 0
                && dim % heads == 0
                && both == 2 * dim
                && (of_keys, of_lengths) == (batch, batch) =>
        {
            CrossAttentionDims { batch, queries, keys, heads, head_dim: dim / heads }
        }
        shapes => {
            let expected =
                format!("[batch, queries, a multiple of {heads}], [batch, keys, twice that], [batch]");
            return Err(Error::shape("cross-attention", expected, format!("{shapes:?}")));
        }
    };
    let len = dims.batch * dims.queries * dims.dim();
    let rows = dims.batch * dims.heads * dims.queries;
    let [out, lse] = tape.stashed(|backend| {
        let (mut out, mut lse) = (q.alloc_like(backend, len)?, backend.alloc(rows)?);
        let (out_view, lse_view) = (B::view_mut(&mut out, 0..len), B::view_mut(&mut lse, 0..rows));
        backend.cross_attention_forward(out_view, lse_view, q.data(), kv.data(), lengths.data(), dims);
        Ok([out, lse])
    })?;
    let (q, kv, lengths) = (q.clone(), kv.clone(), lengths.clone());
    let saved = out.clone();
    tape.push(&[dims.batch, dims.queries, dims.dim()], out, move |walk, dout| {
        let (mut dq, mut dkv) = (q.alloc_like(walk.backend, len)?, kv.alloc_like(walk.backend, kv.len())?);
        walk.backend.cross_attention_backward(
            B::view_mut(&mut dq, 0..len),
            B::view_mut(&mut dkv, 0..kv.len()),
            B::view(&dout, 0..len),
            B::view(&saved, 0..len),
            B::view(&lse, 0..rows),
            q.data(),
            kv.data(),
            lengths.data(),
            dims,
        );
        walk.pass(&q, dq.into())?;
        walk.pass(&kv, dkv.into())
    })
}
