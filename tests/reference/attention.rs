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
                        out[plain(dims, b, i, h, d)] += p * qkv[packed(dims, b, j, 2, h, d)];
                    }
                }
            }
        }
    }
    (out, lse)
}

/// dqkv, by the chain rule on the whole matrices.
pub fn backward<F: Real>(dout: &[F], qkv: &[F], dims: AttentionDims) -> Vec<F> {
    let scale = F::from_f64(1.0) / F::count(dims.head_dim).map(f64::sqrt);
    let mut dqkv = vec![F::zero(); qkv.len()];
    for b in 0..dims.batch {
        for h in 0..dims.heads {
            let scores = scores(qkv, b, h, dims);
            for (i, row) in scores.chunks(dims.tokens).enumerate() {
                let (p, _) = softmax(row);
                let mut dp = vec![F::zero(); dims.tokens];
                let mut mean = F::zero();
                for j in 0..dims.tokens {
                    for d in 0..dims.head_dim {
                        let g = dout[plain(dims, b, i, h, d)];
                        dp[j] += g * qkv[packed(dims, b, j, 2, h, d)];
                        dqkv[packed(dims, b, j, 2, h, d)] += p[j] * g;
                    }
                    mean += p[j] * dp[j];
                }
                for j in 0..dims.tokens {
                    let ds = p[j] * (dp[j] - mean) * scale;
                    for d in 0..dims.head_dim {
                        let (q, k) = (packed(dims, b, i, 0, h, d), packed(dims, b, j, 1, h, d));
                        dqkv[q] += ds * qkv[k];
                        dqkv[k] += ds * qkv[q];
                    }
                }
            }
        }
    }
    dqkv
}
