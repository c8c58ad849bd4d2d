//! noise: normal numbers, and their mixing into clean samples. Formulas: `Backend::normal`, `Backend::noise_mix`.

use super::pieces::{Cut, Piece, Rows};
use super::scratch::with_scratch;
use super::simd::vectorised;
use crate::backend::*;
use crate::random::{self, BLOCK_WORDS, LANE_NUMBERS, LANES};

/// Columns of the array of [`NoiseRow`]s.
const COLUMNS: usize = 4;

/// See `Backend::normal`.
pub fn normal(out: &mut [f32], key: NoiseKey, first: u64) {
    Cut::elements(out.len()).run(out, |piece: Piece, out| {
        let first = first.wrapping_add(piece.rows.start as u64);
        vectorised(
            #[inline(always)]
            || normal_piece(out, key, first),
        );
    });
}

#[inline(always)]
fn normal_piece(out: &mut [f32], key: NoiseKey, first: u64) {
    // Numbers before the first whole block.
    let head = (first.next_multiple_of(BLOCK_WORDS as u64) - first).min(out.len() as u64) as usize;
    let (head, body) = out.split_at_mut(head);
    for (i, number) in head.iter_mut().enumerate() {
        *number = random::normal(key, first + i as u64);
    }
    let mut block = random::block_of(first + head.len() as u64);
    for chunk in body.chunks_mut(LANE_NUMBERS) {
        let mut numbers = [0.0; LANE_NUMBERS];
        random::normal_lanes(&mut numbers, key, block);
        chunk.copy_from_slice(&numbers[..chunk.len()]);
        block = block.wrapping_add(LANES as u32);
    }
}

/// See `Backend::noise_mix`.
pub fn mix(
    x_t: &mut [f32],
    target: &mut [f32],
    x0: &[f32],
    eps: &[f32],
    rows: &[f32],
    objective: Objective,
    width: usize,
) {
    let batch = rows.len() / COLUMNS;
    if batch == 0 || width == 0 {
        return;
    }
    let cut = Cut::rows(batch, x0.len() / batch / width, width);
    cut.run((Rows(x_t, width), Rows(target, width)), |piece: Piece, (Rows(x_t, _), Rows(target, _))| {
        let (x0, eps) = (&x0[piece.elements(width)], &eps[piece.elements(width)]);
        let noising = Noising::of_sample(rows, piece.group, width);
        vectorised(
            #[inline(always)]
            || noising.piece(x_t, target, x0, eps, objective, width),
        );
    });
}

/// See `Backend::noise_mix_drawn`: the noise of a piece lives in its thread's scratch.
#[allow(clippy::too_many_arguments)]
pub fn mix_drawn(
    x_t: &mut [f32],
    target: &mut [f32],
    x0: &[f32],
    rows: &[f32],
    key: NoiseKey,
    first: u64,
    objective: Objective,
    width: usize,
) {
    let batch = rows.len() / COLUMNS;
    if batch == 0 || width == 0 {
        return;
    }
    let cut = Cut::rows(batch, x0.len() / batch / width, width);
    cut.run((Rows(x_t, width), Rows(target, width)), |piece: Piece, (Rows(x_t, _), Rows(target, _))| {
        let elements = piece.elements(width);
        let first = first.wrapping_add(elements.start as u64);
        let noising = Noising::of_sample(rows, piece.group, width);
        let x0 = &x0[elements];
        with_scratch(x0.len(), |eps| {
            vectorised(
                #[inline(always)]
                || {
                    normal_piece(eps, key, first);
                    noising.piece(x_t, target, x0, eps, objective, width);
                },
            );
        });
    });
}

/// A [`NoiseRow`], with its frames as indices.
#[derive(Clone, Copy)]
struct Noising {
    alpha: f32,
    sigma: f32,
    from: usize,
    to: usize,
}

impl Noising {
    fn of_sample(rows: &[f32], sample: usize, width: usize) -> Self {
        let row = &rows[sample * COLUMNS..][..COLUMNS];
        // The first index that is not below the bound; casts saturate, so -inf and inf are "all of it".
        let index = |frame: f32| (frame.ceil() as usize).min(width);
        let from = index(row[2]);
        Self { alpha: row[0], sigma: row[1], from, to: index(row[3]).max(from) }
    }

    #[inline(always)]
    fn piece(
        self,
        x_t: &mut [f32],
        target: &mut [f32],
        x0: &[f32],
        eps: &[f32],
        objective: Objective,
        width: usize,
    ) {
        // Noise on every frame needs no loop a row.
        let whole = self.from == 0 && self.to == width;
        let (width, to) = if whole { (x0.len(), x0.len()) } else { (width, self.to) };
        let inputs = x0.chunks_exact(width).zip(eps.chunks_exact(width));
        let outputs = x_t.chunks_exact_mut(width).zip(target.chunks_exact_mut(width));
        for ((x0, eps), (x_t, target)) in inputs.zip(outputs) {
            let noised = self.from..to;
            let clean = [0..self.from, to..width];
            self.noise(
                &mut x_t[noised.clone()],
                &mut target[noised.clone()],
                &x0[noised.clone()],
                &eps[noised],
                objective,
            );
            for frames in clean {
                x_t[frames.clone()].copy_from_slice(&x0[frames.clone()]);
                match objective {
                    Objective::X0 => target[frames.clone()].copy_from_slice(&x0[frames]),
                    Objective::Eps | Objective::V => target[frames].fill(0.0),
                }
            }
        }
    }

    #[inline(always)]
    fn noise(self, x_t: &mut [f32], target: &mut [f32], x0: &[f32], eps: &[f32], objective: Objective) {
        let inputs = x0.iter().zip(eps);
        for ((x_t, target), (&x0, &eps)) in x_t.iter_mut().zip(target).zip(inputs) {
            *x_t = self.alpha.mul_add(x0, self.sigma * eps);
            *target = match objective {
                Objective::X0 => x0,
                Objective::Eps => eps,
                Objective::V => self.alpha.mul_add(eps, -(self.sigma * x0)),
            };
        }
    }
}
