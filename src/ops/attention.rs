//! Self-attention over packed projections.

use crate::backend::{AttentionDims, Backend};
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
