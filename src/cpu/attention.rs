//! Attention in blocks of the score matrix that stay in the cache: forward with an online softmax, backward
//! with the scores computed again. q, k and v are read where they lie in the packed projections. Self-attention and
//! cross-attention differ only in where that is, and in how many keys there are.

use super::simd::vectorised;
use rayon::prelude::*;

use super::exp::exp;
use super::gemm::{Matrix, Packed, packed_len, serial_packed, with_packed};
use super::pieces::sum_pairs;
use super::scratch::with_scratch;
use super::softmax::{self, State};
use crate::backend::*;

/// Queries of a block of scores.
const QUERIES: usize = 96;
/// Keys of a block of scores: 96 KiB of scores a block.
const KEYS: usize = 256;
/// Tasks that keep the threads of a large machine busy.
const TASKS: usize = 32;
/// Groups of keys with a dq of their own, at most: keeps the memory of backward linear in tokens.
const MAX_GROUPS: usize = 4;

/// One head's features of each token: of q, of out, ...
type HeadRows<'a> = Vec<&'a mut [f32]>;

/// q, k and v of one sample and head.
#[derive(Clone, Copy)]
struct Head<'a> {
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    queries: usize,
    keys: usize,
    head_dim: usize,
}

impl Head<'_> {
    /// 1 / sqrt(head_dim)
    fn scale(&self) -> f32 {
        (self.head_dim as f32).sqrt().recip()
    }
}

/// Where q, k and v lie.
#[derive(Clone, Copy)]
enum Projections<'a> {
    /// `[batch, tokens, 3, heads, head_dim]`
    Packed(&'a [f32]),
    /// q `[batch, queries, heads, head_dim]`, kv `[batch, keys, 2, heads, head_dim]`, and how many keys each sample has.
    Apart { q: &'a [f32], kv: &'a [f32], lengths: &'a [f32] },
}

impl<'a> Projections<'a> {
    fn head(self, sample: usize, head: usize, dims: CrossAttentionDims) -> Head<'a> {
        let CrossAttentionDims { queries, keys, head_dim, .. } = dims;
        // Part `i` of rows of `parts` parts, of which a sample has `tokens`.
        let part = |x: &'a [f32], parts: usize, i: usize, tokens: usize| {
            Matrix::rows(x, parts * dims.dim()).from(sample * tokens, i * dims.dim() + head * head_dim)
        };
        match self {
            Projections::Packed(qkv) => {
                let [q, k, v] = [0, 1, 2].map(|i| part(qkv, 3, i, queries));
                Head { q, k, v, queries, keys, head_dim }
            }
            Projections::Apart { q, kv, lengths } => {
                let [k, v] = [0, 1].map(|i| part(kv, 2, i, keys));
                let keys = keys.min(lengths[sample] as usize);
                Head { q: part(q, 1, 0, queries), k, v, queries, keys, head_dim }
            }
        }
    }
}

/// Every token to every token of its sample.
fn itself(dims: AttentionDims) -> CrossAttentionDims {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    CrossAttentionDims { batch, queries: tokens, keys: tokens, heads, head_dim }
}

/// What lies in `[batch, queries, heads, head_dim]`, of one sample and head.
fn head_of(x: &[f32], sample: usize, head: usize, dims: CrossAttentionDims) -> Matrix<'_> {
    Matrix::rows(x, dims.dim()).from(sample * dims.queries, head * dims.head_dim)
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
    forward_all(out, lse, Projections::Packed(qkv), itself(dims));
}

/// See `Backend::cross_attention_forward`.
pub fn cross_forward(
    out: &mut [f32],
    lse: &mut [f32],
    q: &[f32],
    kv: &[f32],
    lengths: &[f32],
    dims: CrossAttentionDims,
) {
    forward_all(out, lse, Projections::Apart { q, kv, lengths }, dims);
}

fn forward_all(out: &mut [f32], lse: &mut [f32], projections: Projections, dims: CrossAttentionDims) {
    let CrossAttentionDims { queries, heads, head_dim, .. } = dims;
    if out.is_empty() {
        return;
    }
    let samples = out.par_chunks_mut(queries * dims.dim()).zip(lse.par_chunks_mut(heads * queries));
    samples.enumerate().for_each(|(sample, (out, lse))| {
        let mut out = rows_by_head(out, heads, head_dim);
        let heads = out.par_iter_mut().zip(lse.par_chunks_mut(queries));
        heads.enumerate().for_each(|(index, (out, lse))| {
            let head = projections.head(sample, index, dims);
            with_packed(head.k.transposed(), head_dim, head.keys, |k_t| {
                with_packed(head.v, head.keys, head_dim, |v| {
                    let blocks = out.par_chunks_mut(QUERIES).zip(lse.par_chunks_mut(QUERIES));
                    blocks.enumerate().for_each(|(i, (out, lse))| {
                        forward_block(out, lse, head.q.from(i * QUERIES, 0), k_t, v, head.scale());
                    });
                });
            });
        });
    });
}

/// out and lse of the queries q.
fn forward_block(out: &mut [&mut [f32]], lse: &mut [f32], q: Matrix, k_t: Packed, v: Packed, scale: f32) {
    let (rows, keys, head_dim) = (out.len(), k_t.columns, v.columns);
    with_scratch(rows * (KEYS.min(keys) + head_dim), |scratch| {
        let (sums, scores) = scratch.split_at_mut(rows * head_dim);
        let mut states = [State::default(); QUERIES];
        sums.fill(0.0);
        for key in (0..keys).step_by(KEYS) {
            let columns = KEYS.min(keys - key);
            let scores = &mut scores[..rows * columns];
            serial_packed(scores, columns, Write::Replace, q, k_t.columns(key, columns), rows);
            vectorised(
                #[inline(always)]
                || softmax::block(scores, columns, &mut states, sums, head_dim, scale),
            );
            let p = Matrix::rows(scores, columns);
            serial_packed(sums, head_dim, Write::Add, p, v.rows(key, columns), rows);
        }
        let rows = out.iter_mut().zip(lse).zip(&states).zip(sums.chunks_exact(head_dim));
        for (((out, lse), state), sums) in rows {
            let normalise = state.sum.recip();
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * normalise);
            *lse = state.log_of_sum();
        }
    });
}

/// See `Backend::attention_backward`.
pub fn backward(dqkv: &mut [f32], dout: &[f32], out: &[f32], lse: &[f32], qkv: &[f32], dims: AttentionDims) {
    if dqkv.is_empty() {
        return;
    }
    let given = Given { projections: Projections::Packed(qkv), dout, out, lse, dims: itself(dims) };
    dqkv.par_chunks_mut(dims.tokens * 3 * dims.dim()).enumerate().for_each(|(sample, dqkv)| {
        let mut parts = rows_by_head(dqkv, 3 * dims.heads, dims.head_dim);
        let (dq, dkv) = parts.split_at_mut(dims.heads);
        backward_sample(dq, dkv, sample, given);
    });
}

/// See `Backend::cross_attention_backward`.
#[allow(clippy::too_many_arguments)]
pub fn cross_backward(
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
    if dq.is_empty() {
        dkv.fill(0.0);
        return;
    }
    let given = Given { projections: Projections::Apart { q, kv, lengths }, dout, out, lse, dims };
    let (queries, keys) = (dims.queries * dims.dim(), dims.keys * 2 * dims.dim());
    let samples = dq.par_chunks_mut(queries).zip(dkv.par_chunks_mut(keys));
    samples.enumerate().for_each(|(sample, (dq, dkv))| {
        let mut dq = rows_by_head(dq, dims.heads, dims.head_dim);
        let mut dkv = rows_by_head(dkv, 2 * dims.heads, dims.head_dim);
        backward_sample(&mut dq, &mut dkv, sample, given);
    });
}

/// What backward reads, of all samples.
#[derive(Clone, Copy)]
struct Given<'a> {
    projections: Projections<'a>,
    dout: &'a [f32],
    out: &'a [f32],
    lse: &'a [f32],
    dims: CrossAttentionDims,
}

/// The gradients of a sample, by head; of dkv the keys come first, then the values.
fn backward_sample(dq: &mut [HeadRows], dkv: &mut [HeadRows], sample: usize, given: Given) {
    let Given { projections, dout, out, lse, dims } = given;
    let CrossAttentionDims { queries, heads, .. } = dims;
    let (dk, dv) = dkv.split_at_mut(heads);
    let parts = dq.par_iter_mut().zip(dk).zip(dv).enumerate();
    parts.for_each(|(index, ((dq, dk), dv))| {
        let side = BackwardHead {
            head: projections.head(sample, index, dims),
            dout: head_of(dout, sample, index, dims),
            out: head_of(out, sample, index, dims),
            lse: &lse[(sample * heads + index) * queries..][..queries],
        };
        let key_blocks = side.head.keys.div_ceil(KEYS);
        let groups = TASKS.div_ceil(dims.batch * heads).min(MAX_GROUPS).min(key_blocks);
        let group_keys = key_blocks.div_ceil(groups) * KEYS;
        let (dk, dk_padding) = dk.split_at_mut(side.head.keys);
        let (dv, dv_padding) = dv.split_at_mut(side.head.keys);
        dk_padding.iter_mut().chain(dv_padding).for_each(|row| row.fill(0.0));
        backward_head(dq, dk, dv, side, group_keys);
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

/// The right operands of backward's products, packed.
#[derive(Clone, Copy)]
struct Operands<'a> {
    q: Packed<'a>,
    k: Packed<'a>,
    k_t: Packed<'a>,
    v_t: Packed<'a>,
    dout: Packed<'a>,
}

/// Calls `work` with everything packed.
fn with_operands<R>(side: BackwardHead, work: impl FnOnce(Operands) -> R) -> R {
    let Head { q, k, v, queries, keys, head_dim } = side.head;
    let (by_query, by_key) = (packed_len(queries, head_dim), packed_len(keys, head_dim));
    let by_feature = packed_len(head_dim, keys);
    with_scratch(2 * by_query + by_key + 2 * by_feature, |scratch| {
        let (of_queries, of_keys) = scratch.split_at_mut(2 * by_query);
        let (q_space, dout_space) = of_queries.split_at_mut(by_query);
        let (k_space, rest) = of_keys.split_at_mut(by_key);
        let (k_t_space, v_t_space) = rest.split_at_mut(by_feature);
        work(Operands {
            q: Packed::pack(q_space, q, queries, head_dim),
            k: Packed::pack(k_space, k, keys, head_dim),
            dout: Packed::pack(dout_space, side.dout, queries, head_dim),
            k_t: Packed::pack(k_t_space, k.transposed(), head_dim, keys),
            v_t: Packed::pack(v_t_space, v.transposed(), head_dim, keys),
        })
    })
}

/// dq, dk and dv of one sample and head. Each group of keys adds to a dq of its own; these are added in order.
fn backward_head(
    dq: &mut [&mut [f32]],
    dk: &mut [&mut [f32]],
    dv: &mut [&mut [f32]],
    side: BackwardHead,
    group_keys: usize,
) {
    let Head { queries, keys, head_dim, .. } = side.head;
    let groups = keys.div_ceil(group_keys);
    with_scratch(groups * queries * head_dim + queries, |scratch| {
        let (dq_parts, delta) = scratch.split_at_mut(groups * queries * head_dim);
        vectorised(
            #[inline(always)]
            || {
                for (row, delta) in delta.iter_mut().enumerate() {
                    let [dout, out] =
                        [side.dout, side.out].map(|x| &x.data[row * x.row_stride..][..head_dim]);
                    *delta = sum_pairs(
                        dout,
                        out,
                        #[inline(always)]
                        |dout, out| dout * out,
                    );
                }
            },
        );
        let delta = &*delta;
        let keys = dk.par_chunks_mut(group_keys).zip(dv.par_chunks_mut(group_keys));
        let groups = dq_parts.par_chunks_mut(queries * head_dim).zip(keys);
        with_operands(side, |operands| {
            groups.enumerate().for_each(|(group, (dq, (dk, dv)))| {
                dq.fill(0.0);
                let blocks = dk.chunks_mut(KEYS).zip(dv.chunks_mut(KEYS));
                for (i, (dk, dv)) in blocks.enumerate() {
                    backward_block(dq, dk, dv, group * group_keys + i * KEYS, side, operands, delta);
                }
            });
        });
        for (row, dq) in dq.iter_mut().enumerate() {
            dq.fill(0.0);
            for part in dq_parts.chunks_exact(queries * head_dim) {
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
    operands: Operands,
    delta: &[f32],
) {
    let Head { q, queries, head_dim, .. } = side.head;
    let columns = dk.len();
    let (k, k_t) = (operands.k.rows(key, columns), operands.k_t.columns(key, columns));
    let v_t = operands.v_t.columns(key, columns);
    with_scratch(2 * columns * (QUERIES + head_dim), |scratch| {
        let (blocks, sums) = scratch.split_at_mut(2 * columns * QUERIES);
        let (dk_sums, dv_sums) = sums.split_at_mut(columns * head_dim);
        dk_sums.fill(0.0);
        dv_sums.fill(0.0);
        for query in (0..queries).step_by(QUERIES) {
            let rows = QUERIES.min(queries - query);
            let (p, ds) = blocks.split_at_mut(columns * QUERIES);
            let (p, ds) = (&mut p[..rows * columns], &mut ds[..rows * columns]);
            serial_packed(p, columns, Write::Replace, q.from(query, 0), k_t, rows);
            serial_packed(ds, columns, Write::Replace, side.dout.from(query, 0), v_t, rows);
            let (lse, delta) = (&side.lse[query..], &delta[query..]);
            vectorised(
                #[inline(always)]
                || score_gradients(p, ds, columns, lse, delta, side.head.scale()),
            );
            let (p, ds) = (Matrix::rows(p, columns), Matrix::rows(ds, columns));
            let (q, dout) = (operands.q.rows(query, rows), operands.dout.rows(query, rows));
            serial_packed(dv_sums, head_dim, Write::Add, p.transposed(), dout, columns);
            serial_packed(dk_sums, head_dim, Write::Add, ds.transposed(), q, columns);
            serial_packed(&mut dq[query * head_dim..], head_dim, Write::Add, ds, k, rows);
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
