//! The online softmax (Milakov and Gimelshein 2018) over blocks of scores.

use super::exp::exp;
use super::pieces::fold_lanes;

/// Sums and maxima side by side, so that they vectorise.
const LANES: usize = 16;

/// What is known of one row after the blocks so far.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Largest score.
    pub max: f32,
    /// Sum of exp(score - max).
    pub sum: f32,
}

impl Default for State {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, sum: 0.0 }
    }
}

impl State {
    /// log of the sum of exp(score)
    pub fn log_of_sum(&self) -> f32 {
        self.max + self.sum.ln()
    }
}

/// Takes in a block: each row of `products [rows, columns]` (q k^T, not yet scaled) becomes exp(score - max);
/// `states` move on, and `sums [rows, head_dim]`, which hold the older blocks' exp(score - old max) v, are brought
/// to the new maximum. To be called inside a dispatch on the instruction set.
#[inline(always)]
pub fn block(
    products: &mut [f32],
    columns: usize,
    states: &mut [State],
    sums: &mut [f32],
    head_dim: usize,
    scale: f32,
) {
    let rows = products.chunks_exact_mut(columns).zip(sums.chunks_exact_mut(head_dim));
    for ((row, sums), state) in rows.zip(states) {
        let max = state.max.max(maximum(row) * scale);
        let older = exp(state.max - max);
        let sum = exponentials(row, scale, max);
        *state = State { max, sum: state.sum.mul_add(older, sum) };
        if older != 1.0 {
            sums.iter_mut().for_each(|sum| *sum *= older);
        }
    }
}

/// The largest element.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let groups = row.chunks_exact(LANES);
    let rest = groups.remainder();
    for group in groups {
        for (lane, &x) in lanes.iter_mut().zip(group) {
            *lane = larger(*lane, x);
        }
    }
    rest.iter().fold(fold_lanes(lanes, larger), |max, &x| larger(max, x))
}

/// The larger one; b only if it is larger: no NaN takes the place of a number.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Each element becomes exp(x scale - max); returns their sum.
#[inline(always)]
fn exponentials(row: &mut [f32], scale: f32, max: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut groups = row.chunks_exact_mut(LANES);
    for group in &mut groups {
        for (lane, x) in lanes.iter_mut().zip(group) {
            *x = exp(x.mul_add(scale, -max));
            *lane += *x;
        }
    }
    let mut rest = 0.0;
    for x in groups.into_remainder() {
        *x = exp(x.mul_add(scale, -max));
        rest += *x;
    }
    let sum = fold_lanes(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    );
    sum + rest
}
