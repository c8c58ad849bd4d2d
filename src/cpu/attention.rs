//! Attention in blocks of the score matrix that stay in the cache: forward with an online softmax, backward
//! with the scores computed again. q, k and v are read where they lie in the packed projections.

use super::simd::vectorised;
use rayon::prelude::*;

use super::exp::exp;
use super::gemm::{Matrix, serial};
use super::scratch::with_scratch;
use super::softmax::{self, State};
use crate::backend::*;

/// Queries of a block of scores.
const QUERIES: usize = 64;
/// Keys of a block of scores: 64 KiB of scores a block.
const KEYS: usize = 256;
/// Tasks that keep the threads of a large machine busy.
const TASKS: usize = 32;
/// Groups of keys with a dq of their own, at most: keeps the memory of backward linear in tokens.
const MAX_GROUPS: usize = 4;

/// One head's features of each token: of q, of out, ...
type HeadRows<'a> = Vec<&'a mut [f32]>;

/// q, k, v and what has the shape of out, of one sample and head.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    tokens: usize,
    head_dim: usize,
}

impl<'a> Head<'a> {
    fn of(qkv: &'a [f32], sample: usize, head: usize, dims: AttentionDims) -> Self {
        let row = 3 * dims.dim();
        let part =
            |i| Matrix::rows(qkv, row).from(sample * dims.tokens, i * dims.dim() + head * dims.head_dim);
        Self { q: part(0), k: part(1), v: part(2), tokens: dims.tokens, head_dim: dims.head_dim }
    }

    /// 1 / sqrt(head_dim)
    fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// What lies in `[batch, tokens, heads, head_dim]`, of one sample and head.
fn head_of(x: &[f32], sample: usize, head: usize, dims: AttentionDims) -> Matrix<'_> {
    Matrix::rows(x, dims.dim()).from(sample * dims.tokens, head * dims.head_dim)
}

/// Cuts `[tokens, parts, head_dim]` into `parts` lists of rows.
fn rows_by_head(x: &mut [f32], parts: usize, head_dim: usize) -> Vec<HeadRows<'_>> {
    let tokens = x.len() / (parts * head_dim);
    let mut heads: Vec<HeadRows> = (0..parts).map(|_| Vec::with_capacity(tokens)).collect();
    for token in x.chunks_exact_mut(parts * head_dim) {
        for (head, row) in heads.iter_mut().zip(token.chunks_exact_mut(head_dim)) {
            head.push(row);
        }
    }
    heads
}

/// See `Backend::attention_forward`.
pub fn forward(out: &mut [f32], lse: &mut [f32], qkv: &[f32], dims: AttentionDims) {
    let AttentionDims { tokens, heads, head_dim, .. } = dims;
    if out.is_empty() {
        return;
    }
    let samples = out.par_chunks_mut(tokens * dims.dim()).zip(lse.par_chunks_mut(heads * tokens));
    samples.enumerate().for_each(|(sample, (out, lse))| {
        let mut out = rows_by_head(out, heads, head_dim);
        let heads = out.par_iter_mut().zip(lse.par_chunks_mut(tokens));
        heads.enumerate().for_each(|(index, (out, lse))| {
            let head = Head::of(qkv, sample, index, dims);
            let blocks = out.par_chunks_mut(QUERIES).zip(lse.par_chunks_mut(QUERIES));
            blocks.enumerate().for_each(|(i, (out, lse))| forward_block(out, lse, i * QUERIES, head));
        });
    });
}

/// out and lse of the queries from `first` on.
fn forward_block(out: &mut [&mut [f32]], lse: &mut [f32], first: usize, head: Head) {
    let (rows, head_dim) = (out.len(), head.head_dim);
    let keys = KEYS.min(head.tokens);
    with_scratch(rows * (keys + head_dim), |scratch| {
        let (scores, sums) = scratch.split_at_mut(rows * keys);
        let mut states = [State::default(); QUERIES];
        sums.fill(0.0);
        for key in (0..head.tokens).step_by(keys) {
            let columns = keys.min(head.tokens - key);
            let scores = &mut scores[..rows * columns];
            let product = MatmulDims { rows, columns, inner: head_dim };
            let k_t = head.k.from(key, 0).transposed();
            serial(scores, columns, Write::Replace, head.q.from(first, 0), k_t, product);
            vectorised(
                #[inline(always)]
                || softmax::block(scores, columns, &mut states, sums, head_dim, head.scale()),
            );
            let product = MatmulDims { rows, columns: head_dim, inner: columns };
            serial(sums, head_dim, Write::Add, Matrix::rows(scores, columns), head.v.from(key, 0), product);
        }
        for (((out, lse), state), sums) in
            out.iter_mut().zip(lse).zip(&states).zip(sums.chunks_exact(head_dim))
        {
            let normalise = state.sum.recip();
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * normalise);
            *lse = state.log_of_sum();
        }
    });
}

/// See `Backend::attention_backward`.
pub fn backward(dqkv: &mut [f32], dout: &[f32], out: &[f32], lse: &[f32], qkv: &[f32], dims: AttentionDims) {
    let AttentionDims { tokens, heads, head_dim, .. } = dims;
    if dqkv.is_empty() {
        return;
    }
    let key_blocks = tokens.div_ceil(KEYS);
    let groups = TASKS.div_ceil(dims.batch * heads).min(MAX_GROUPS).min(key_blocks);
    let group_keys = key_blocks.div_ceil(groups) * KEYS;
    dqkv.par_chunks_mut(tokens * 3 * dims.dim()).enumerate().for_each(|(sample, dqkv)| {
        let mut parts = rows_by_head(dqkv, 3 * heads, head_dim);
        let (dq, dkv) = parts.split_at_mut(heads);
        let (dk, dv) = dkv.split_at_mut(heads);
        let parts = dq.par_iter_mut().zip(dk).zip(dv).enumerate();
        parts.for_each(|(index, ((dq, dk), dv))| {
            let side = BackwardHead {
                head: Head::of(qkv, sample, index, dims),
                dout: head_of(dout, sample, index, dims),
                out: head_of(out, sample, index, dims),
                lse: &lse[(sample * heads + index) * tokens..][..tokens],
            };
            backward_head(dq, dk, dv, side, group_keys);
        });
    });
}

/// What backward reads of one sample and head.
#[derive(Clone, Copy)]
struct BackwardHead<'a> {
    head: Head<'a>,
    dout: Matrix<'a>,
    out: Matrix<'a>,
    lse: &'a [f32],
}

/// dq, dk and dv of one sample and head. Each group of keys adds to a dq of its own; these are added in order.
fn backward_head(
    dq: &mut [&mut [f32]],
    dk: &mut [&mut [f32]],
    dv: &mut [&mut [f32]],
    side: BackwardHead,
    group_keys: usize,
) {
    let Head { tokens, head_dim, .. } = side.head;
    let groups = tokens.div_ceil(group_keys);
    with_scratch(groups * tokens * head_dim + tokens, |scratch| {
        let (dq_parts, delta) = scratch.split_at_mut(groups * tokens * head_dim);
        for (row, delta) in delta.iter_mut().enumerate() {
            let (dout, out) = (side.dout.from(row, 0).data, side.out.from(row, 0).data);
            *delta = dout[..head_dim].iter().zip(out).map(|(dout, out)| dout * out).sum();
        }
        let delta = &*delta;
        let keys = dk.par_chunks_mut(group_keys).zip(dv.par_chunks_mut(group_keys));
        let groups = dq_parts.par_chunks_mut(tokens * head_dim).zip(keys);
        groups.enumerate().for_each(|(group, (dq, (dk, dv)))| {
            dq.fill(0.0);
            let blocks = dk.chunks_mut(KEYS).zip(dv.chunks_mut(KEYS));
            for (i, (dk, dv)) in blocks.enumerate() {
                backward_block(dq, dk, dv, group * group_keys + i * KEYS, side, delta);
            }
        });
        for (row, dq) in dq.iter_mut().enumerate() {
            dq.fill(0.0);
            for part in dq_parts.chunks_exact(tokens * head_dim) {
                dq.iter_mut().zip(&part[row * head_dim..]).for_each(|(dq, part)| *dq += part);
            }
        }
    });
}

/// dk and dv of the keys from `key` on, and what those keys add to dq.
fn backward_block(
    dq: &mut [f32],
    dk: &mut [&mut [f32]],
    dv: &mut [&mut [f32]],
    key: usize,
    side: BackwardHead,
    delta: &[f32],
) {
    let Head { q, k, v, tokens, head_dim } = side.head;
    let columns = dk.len();
    let (k, v) = (k.from(key, 0), v.from(key, 0));
    with_scratch(2 * columns * (QUERIES + head_dim), |scratch| {
        let (blocks, sums) = scratch.split_at_mut(2 * columns * QUERIES);
        let (dk_sums, dv_sums) = sums.split_at_mut(columns * head_dim);
        dk_sums.fill(0.0);
        dv_sums.fill(0.0);
        for query in (0..tokens).step_by(QUERIES) {
            let rows = QUERIES.min(tokens - query);
            let (p, ds) = blocks.split_at_mut(columns * QUERIES);
            let (p, ds) = (&mut p[..rows * columns], &mut ds[..rows * columns]);
            let (q, dout) = (q.from(query, 0), side.dout.from(query, 0));
            let to_scores = MatmulDims { rows, columns, inner: head_dim };
            serial(p, columns, Write::Replace, q, k.transposed(), to_scores);
            serial(ds, columns, Write::Replace, dout, v.transposed(), to_scores);
            let (lse, delta) = (&side.lse[query..], &delta[query..]);
            vectorised(
                #[inline(always)]
                || score_gradients(p, ds, columns, lse, delta, side.head.scale()),
            );
            let to_keys = MatmulDims { rows: columns, columns: head_dim, inner: rows };
            serial(dv_sums, head_dim, Write::Add, Matrix::rows(p, columns).transposed(), dout, to_keys);
            serial(dk_sums, head_dim, Write::Add, Matrix::rows(ds, columns).transposed(), q, to_keys);
            let to_queries = MatmulDims { rows, columns: head_dim, inner: columns };
            let dq = &mut dq[query * head_dim..];
            serial(dq, head_dim, Write::Add, Matrix::rows(ds, columns), k, to_queries);
        }
        dk.iter_mut().zip(dk_sums.chunks_exact(head_dim)).for_each(|(dk, sums)| dk.copy_from_slice(sums));
        dv.iter_mut().zip(dv_sums.chunks_exact(head_dim)).for_each(|(dv, sums)| dv.copy_from_slice(sums));
    });
}

/// `p`: from q k^T to exp(score - lse); `ds`: from dp to p (dp - delta) scale.
#[inline(always)]
fn score_gradients(p: &mut [f32], ds: &mut [f32], columns: usize, lse: &[f32], delta: &[f32], scale: f32) {
    let rows = p.chunks_exact_mut(columns).zip(ds.chunks_exact_mut(columns));
    for ((p, ds), (&lse, &delta)) in rows.zip(lse.iter().zip(delta)) {
        for (p, ds) in p.iter_mut().zip(ds) {
            *p = exp(p.mul_add(scale, -lse));
            *ds = *p * (*ds - delta) * scale;
        }
    }
}
