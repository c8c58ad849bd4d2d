//! Attention with the whole score matrix, by plain loops.

use crate::common::real::Real;
use dit_engine::backend::{AttentionDims, CrossAttentionDims};

/// Index into q and out `[batch, queries, heads, head_dim]`.
fn of_query(dims: CrossAttentionDims, b: usize, n: usize, h: usize, d: usize) -> usize {
    ((b * dims.queries + n) * dims.heads + h) * dims.head_dim + d
}

/// Index into kv `[batch, keys, 2, heads, head_dim]`.
fn of_key(dims: CrossAttentionDims, b: usize, n: usize, part: usize, h: usize, d: usize) -> usize {
    (((b * dims.keys + n) * 2 + part) * dims.heads + h) * dims.head_dim + d
}

/// q and kv, and how many keys each sample has.
#[derive(Clone, Copy)]
pub struct Inputs<'a, F> {
    pub q: &'a [F],
    pub kv: &'a [F],
    pub lengths: &'a [usize],
}

/// `scale q k^T` of one head `[queries, keys that there are]`.
fn scores<F: Real>(inputs: Inputs<F>, b: usize, h: usize, dims: CrossAttentionDims) -> Vec<F> {
    let scale = F::from_f64(1.0) / F::count(dims.head_dim).map(f64::sqrt);
    let mut scores = Vec::new();
    for i in 0..dims.queries {
        for j in 0..inputs.lengths[b] {
            let mut sum = F::zero();
            for d in 0..dims.head_dim {
                sum += inputs.q[of_query(dims, b, i, h, d)] * inputs.kv[of_key(dims, b, j, 0, h, d)];
            }
            scores.push(sum * scale);
        }
    }
    scores
}

/// Softmax of one row, and the log of the sum of exp.
fn softmax<F: Real>(row: &[F]) -> (Vec<F>, F) {
    let max = row.iter().copied().fold(row[0], |m, x| if x > m { x } else { m });
    let mut sum = F::zero();
    for &x in row {
        sum += (x - max).map(f64::exp);
    }
    (row.iter().map(|&x| (x - max).map(f64::exp) / sum).collect(), max + sum.map(f64::ln))
}

/// out and lse, with what is an operand of a product, and what is written, rounded
pub fn cross_forward<F: Real>(
    inputs: Inputs<F>,
    dims: CrossAttentionDims,
    round: impl Fn(F) -> F,
) -> (Vec<F>, Vec<F>) {
    let mut out = vec![F::zero(); dims.batch * dims.queries * dims.dim()];
    let mut lse = Vec::new();
    for b in 0..dims.batch {
        for h in 0..dims.heads {
            let scores = scores(inputs, b, h, dims);
            for (i, row) in scores.chunks(inputs.lengths[b]).enumerate() {
                let (p, log_sum) = softmax(row);
                lse.push(log_sum);
                for (j, &p) in p.iter().enumerate() {
                    for d in 0..dims.head_dim {
                        out[of_query(dims, b, i, h, d)] += round(p) * inputs.kv[of_key(dims, b, j, 1, h, d)];
                    }
                }
            }
        }
    }
    (out.into_iter().map(round).collect(), lse)
}

/// dq and dkv, by the chain rule on the whole matrices, rounded as in `cross_forward`
pub fn cross_backward<F: Real>(
    dout: &[F],
    inputs: Inputs<F>,
    dims: CrossAttentionDims,
    round: impl Fn(F) -> F,
) -> (Vec<F>, Vec<F>) {
    let scale = F::from_f64(1.0) / F::count(dims.head_dim).map(f64::sqrt);
    let (mut dq, mut dkv) = (vec![F::zero(); inputs.q.len()], vec![F::zero(); inputs.kv.len()]);
    let (out, _) = cross_forward(inputs, dims, &round);
    for b in 0..dims.batch {
        for h in 0..dims.heads {
            let scores = scores(inputs, b, h, dims);
            for (i, row) in scores.chunks(inputs.lengths[b]).enumerate() {
                let (p, _) = softmax(row);
                let mut dp = vec![F::zero(); row.len()];
                let mut delta = F::zero();
                for d in 0..dims.head_dim {
                    let at = of_query(dims, b, i, h, d);
                    delta += dout[at] * out[at];
                    for j in 0..row.len() {
                        dp[j] += dout[at] * inputs.kv[of_key(dims, b, j, 1, h, d)];
                        dkv[of_key(dims, b, j, 1, h, d)] += round(p[j]) * dout[at];
                    }
                }
                for j in 0..row.len() {
                    let ds = round(p[j] * (dp[j] - delta)) * scale;
                    for d in 0..dims.head_dim {
                        let (q, k) = (of_query(dims, b, i, h, d), of_key(dims, b, j, 0, h, d));
                        dq[q] += ds * inputs.kv[k];
                        dkv[k] += ds * inputs.q[q];
                    }
                }
            }
        }
    }
    (dq.into_iter().map(&round).collect(), dkv.into_iter().map(&round).collect())
}

/// out and lse of a sequence that attends to itself
pub fn forward<F: Real>(qkv: &[F], dims: AttentionDims) -> (Vec<F>, Vec<F>) {
    forward_rounded(qkv, dims, |x| x)
}

/// The same, rounded as `cross_forward` is.
pub fn forward_rounded<F: Real>(qkv: &[F], dims: AttentionDims, round: impl Fn(F) -> F) -> (Vec<F>, Vec<F>) {
    let (q, kv) = taken_apart(qkv, dims);
    let lengths = vec![dims.tokens; dims.batch];
    cross_forward(Inputs { q: &q, kv: &kv, lengths: &lengths }, itself(dims), round)
}

/// dqkv
pub fn backward<F: Real>(dout: &[F], qkv: &[F], dims: AttentionDims) -> Vec<F> {
    backward_rounded(dout, qkv, dims, |x| x)
}

/// The same, rounded as `cross_forward` is.
pub fn backward_rounded<F: Real>(
    dout: &[F],
    qkv: &[F],
    dims: AttentionDims,
    round: impl Fn(F) -> F,
) -> Vec<F> {
    let (q, kv) = taken_apart(qkv, dims);
    let lengths = vec![dims.tokens; dims.batch];
    let inputs = Inputs { q: &q, kv: &kv, lengths: &lengths };
    let (dq, dkv) = cross_backward(dout, inputs, itself(dims), round);
    let rows = dq.chunks(dims.dim()).zip(dkv.chunks(2 * dims.dim()));
    rows.flat_map(|(q, kv)| [q, kv].concat()).collect()
}

fn itself(dims: AttentionDims) -> CrossAttentionDims {
    let AttentionDims { batch, tokens, heads, head_dim } = dims;
    CrossAttentionDims { batch, queries: tokens, keys: tokens, heads, head_dim }
}

/// q and kv of qkv `[batch, tokens, 3, heads, head_dim]`.
fn taken_apart<F: Real>(qkv: &[F], dims: AttentionDims) -> (Vec<F>, Vec<F>) {
    let rows = qkv.chunks(3 * dims.dim());
    let q = rows.clone().flat_map(|row| row[..dims.dim()].to_vec()).collect();
    (q, rows.flat_map(|row| row[dims.dim()..].to_vec()).collect())
}
