//! The step embedding and rows of a table by the book.

use crate::common::real::Real;

/// concat(sin(t f), cos(t f)), f_i = exp(-ln(max_period) i / half)
pub fn step_embedding<R: Real>(t: &[R], half: usize, max_period: f64) -> Vec<R> {
    let mut out = Vec::new();
    for &t in t {
        let angle = |i: usize| t * R::from_f64((-max_period.ln() * i as f64 / half as f64).exp());
        out.extend((0..half).map(|i| angle(i).map(f64::sin)));
        out.extend((0..half).map(|i| angle(i).map(f64::cos)));
    }
    out
}

pub fn lookup<R: Real>(table: &[R], indices: &[u32], dim: usize) -> Vec<R> {
    indices.iter().flat_map(|&index| (0..dim).map(move |d| table[index as usize * dim + d])).collect()
}

pub fn lookup_backward<R: Real>(dtable: &mut [R], dout: &[R], indices: &[u32], dim: usize) {
    for (r, &index) in indices.iter().enumerate() {
        for d in 0..dim {
            dtable[index as usize * dim + d] += dout[r * dim + d];
        }
    }
}

/// Mean of the first `lengths[b]` of a sample's rows.
pub fn pool<R: Real>(x: &[R], lengths: &[usize], tokens: usize, dim: usize) -> Vec<R> {
    let mut out = vec![R::zero(); lengths.len() * dim];
    for (b, &length) in lengths.iter().enumerate() {
        for d in 0..dim {
            for n in 0..length {
                out[b * dim + d] += x[(b * tokens + n) * dim + d];
            }
            out[b * dim + d] = out[b * dim + d] / R::count(length);
        }
    }
    out
}

pub fn pool_backward<R: Real>(dx: &mut [R], dout: &[R], lengths: &[usize], tokens: usize, dim: usize) {
    for (b, &length) in lengths.iter().enumerate() {
        for n in 0..length {
            for d in 0..dim {
                dx[(b * tokens + n) * dim + d] += dout[b * dim + d] / R::count(length);
            }
        }
    }
}
