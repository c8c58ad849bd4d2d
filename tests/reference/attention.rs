//! Attention with the whole score matrix, by plain loops.

use crate::common::real::Real;
use dit_engine::backend::AttentionDims;

/// Index into qkv `[batch, tokens, 3, heads, head_dim]`.
fn packed(dims: AttentionDims, b: usize, n: usize, part: usize, h: usize, d: usize) -> usize {
    (((b * dims.tokens + n) * 3 + part) * dims.heads + h) * dims.head_dim + d
}

/// Index into out `[batch, tokens, heads, head_dim]`.
fn plain(dims: AttentionDims, b: usize, n: usize, h: usize, d: usize) -> usize {
    ((b * dims.tokens + n) * dims.heads + h) * dims.head_dim + d
}

/// `scale q k^T` of one head `[tokens, tokens]`.
fn scores<F: Real>(qkv: &[F], b: usize, h: usize, dims: AttentionDims) -> Vec<F> {
    let scale = F::from_f64(1.0) / F::count(dims.head_dim).map(f64::sqrt);
    let mut scores = vec![F::zero(); dims.tokens * dims.tokens];
    for i in 0..dims.tokens {
        for j in 0..dims.tokens {
            let mut sum = F::zero();
            for d in 0..dims.head_dim {
                sum += qkv[packed(dims, b, i, 0, h, d)] * qkv[packed(dims, b, j, 1, h, d)];
            }
            scores[i * dims.tokens + j] = sum * scale;
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

/// out and lse
pub fn forward<F: Real>(qkv: &[F], dims: AttentionDims) -> (Vec<F>, Vec<F>) {
    forward_rounded(qkv, dims, |x| x)
}

/// The same with what is an operand of a product, and what is written, rounded.
pub fn forward_rounded<F: Real>(qkv: &[F], dims: AttentionDims, round: impl Fn(F) -> F) -> (Vec<F>, Vec<F>) {
    let mut out = vec![F::zero(); dims.batch * dims.tokens * dims.dim()];
    let mut lse = Vec::new();
    for b in 0..dims.batch {
        for h in 0..dims.heads {
            let scores = scores(qkv, b, h, dims);
            for (i, row) in scores.chunks(dims.tokens).enumerate() {
                let (p, log_sum) = softmax(row);
                lse.push(log_sum);
                for (j, &p) in p.iter().enumerate() {
                    for d in 0..dims.head_dim {
                        out[plain(dims, b, i, h, d)] += round(p) * qkv[packed(dims, b, j, 2, h, d)];
                    }
                }
            }
        }
    }
    (out.into_iter().map(round).collect(), lse)
}

/// dqkv, by the chain rule on the whole matrices.
pub fn backward<F: Real>(dout: &[F], qkv: &[F], dims: AttentionDims) -> Vec<F> {
    backward_rounded(dout, qkv, dims, |x| x)
}

/// The same with what is an operand of a product, and what is written, rounded.
pub fn backward_rounded<F: Real>(
    dout: &[F],
    qkv: &[F],
    dims: AttentionDims,
    round: impl Fn(F) -> F,
) -> Vec<F> {
    let scale = F::from_f64(1.0) / F::count(dims.head_dim).map(f64::sqrt);
    let mut dqkv = vec![F::zero(); qkv.len()];
    let (out, _) = forward_rounded(qkv, dims, &round);
    for b in 0..dims.batch {
        for h in 0..dims.heads {
            let scores = scores(qkv, b, h, dims);
            for (i, row) in scores.chunks(dims.tokens).enumerate() {
                let (p, _) = softmax(row);
                let mut dp = vec![F::zero(); dims.tokens];
                let mut delta = F::zero();
                for d in 0..dims.head_dim {
                    let at = plain(dims, b, i, h, d);
                    delta += dout[at] * out[at];
                    for j in 0..dims.tokens {
                        dp[j] += dout[at] * qkv[packed(dims, b, j, 2, h, d)];
                        dqkv[packed(dims, b, j, 2, h, d)] += round(p[j]) * dout[at];
                    }
                }
                for j in 0..dims.tokens {
                    let ds = round(p[j] * (dp[j] - delta)) * scale;
                    for d in 0..dims.head_dim {
                        let (q, k) = (packed(dims, b, i, 0, h, d), packed(dims, b, j, 1, h, d));
                        dqkv[q] += ds * qkv[k];
                        dqkv[k] += ds * qkv[q];
                    }
                }
            }
        }
    }
    dqkv.into_iter().map(round).collect()
}
