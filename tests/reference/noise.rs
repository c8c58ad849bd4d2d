//! Philox, Box-Muller and noising by the book.

use dit_engine::backend::{NoiseKey, NoiseRow, Objective};

use crate::common::real::Real;

/// Philox4x32-10 as the paper writes it (Salmon et al. 2011, section 3.3): a round multiplies, xors, swaps.
pub fn philox(key: NoiseKey, block: u32) -> [u32; 4] {
    let mut x = [block, key.purpose as u32, key.step as u32, (key.step >> 32) as u32];
    let mut k = [key.seed as u32, (key.seed >> 32) as u32];
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E3779B9), k[1].wrapping_add(0xBB67AE85)];
        }
        let product = |a: u32, b: u32| {
            let wide = u64::from(a) * u64::from(b);
            ((wide >> 32) as u32, wide as u32)
        };
        let (high0, low0) = product(0xD2511F53, x[0]);
        let (high1, low1) = product(0xCD9E8D57, x[2]);
        x = [high1 ^ x[1] ^ k[0], low1, high0 ^ x[3] ^ k[1], low0];
    }
    x
}

/// Number `index` of the stream.
pub fn normal(key: NoiseKey, index: u64) -> f64 {
    let words = philox(key, (index / 4) as u32);
    let uniform = |word: u32| f64::from((word >> 8) | 1) / f64::from(1 << 24);
    let pair = (index % 4 / 2 * 2) as usize;
    let radius = (-2.0 * uniform(words[pair]).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(words[pair + 1]);
    radius * if index % 2 == 0 { angle.cos() } else { angle.sin() }
}

/// (x_t, target)
pub fn mix<R: Real>(
    x0: &[R],
    eps: &[R],
    rows: &[NoiseRow],
    objective: Objective,
    width: usize,
) -> (Vec<R>, Vec<R>) {
    let sample_len = x0.len() / rows.len();
    let element = |i: usize| {
        let row = rows[i / sample_len];
        let frame = (i % width) as f32;
        let noised = row.from <= frame && frame < row.to;
        let number = |x: f32| R::from_f64(f64::from(x));
        let (alpha, sigma) =
            if noised { (number(row.alpha), number(row.sigma)) } else { (number(1.0), R::zero()) };
        let eps = if noised { eps[i] } else { R::zero() };
        let target = match objective {
            Objective::X0 => x0[i],
            Objective::Eps => eps,
            Objective::V => alpha * eps - sigma * x0[i],
        };
        (alpha * x0[i] + sigma * eps, target)
    };
    (0..x0.len()).map(element).unzip()
}
