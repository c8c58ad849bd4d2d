//! adam: the gradient's norm and one update over the flat buffers. Formulas: `Backend::sum_of_squares`,
//! `Backend::adam`.

use super::pieces::{Cut, PerPiece, Piece, SHORT, sum};
use super::simd::vectorised;
use crate::backend::*;

/// See `Backend::sum_of_squares`.
pub fn sum_of_squares(out: &mut [f32], x: &[f32]) {
    let cut = Cut::elements(x.len());
    let mut partials = vec![0.0_f64; cut.pieces()];
    cut.run(PerPiece(&mut partials, 1), |piece: Piece, partial| {
        let x = &x[piece.rows];
        partial.0[0] = vectorised(
            #[inline(always)]
            || {
                let mut total = 0.0;
                for x in x.chunks(SHORT) {
                    total += f64::from(sum(x, |x| x * x));
                }
                total
            },
        );
    });
    out[0] = partials.iter().sum::<f64>() as f32;
    out[1] += f32::from(u8::from(!out[0].is_finite()));
}

/// What of a step is the same for every parameter.
#[derive(Clone, Copy)]
struct Factors {
    /// Clipping: g' = gradient * `clip`.
    clip: f32,
    beta1: f32,
    beta2: f32,
    /// lr / (1 - beta1^step)
    rate: f32,
    /// 1 / sqrt(1 - beta2^step)
    root: f32,
    eps: f32,
    ema_decay: f32,
}

/// See `Backend::adam`.
pub fn update(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    ema: &mut [f32],
    gradient: &[f32],
    norm2: &[f32],
    step: AdamStep,
) {
    if norm2[1] != 0.0 {
        return;
    }
    let factors = factors(norm2[0], step);
    let keep = 1.0 - step.lr * step.weight_decay;
    let cut = Cut::elements(weights.len());
    cut.run(((weights, first), (second, ema)), |piece: Piece, ((weights, first), (second, ema))| {
        let gradient = &gradient[piece.rows.clone()];
        let decayed = step.decayed.clamp(piece.rows.start, piece.rows.end) - piece.rows.start;
        let (w, m, v, e) = (
            weights.split_at_mut(decayed),
            first.split_at_mut(decayed),
            second.split_at_mut(decayed),
            ema.split_at_mut(decayed),
        );
        let g = gradient.split_at(decayed);
        vectorised(
            #[inline(always)]
            || {
                update_piece(w.0, m.0, v.0, e.0, g.0, keep, factors);
                update_piece(w.1, m.1, v.1, e.1, g.1, 1.0, factors);
            },
        );
    });
}

/// Powers and quotients in f64: 1 - beta^step cancels for the first steps.
fn factors(norm2: f32, step: AdamStep) -> Factors {
    let correction = |beta: f32| 1.0 - f64::from(beta).powf(step.step as f64);
    Factors {
        clip: (step.max_norm / norm2.sqrt()).min(1.0),
        beta1: step.beta1,
        beta2: step.beta2,
        rate: (f64::from(step.lr) / correction(step.beta1)) as f32,
        root: (1.0 / correction(step.beta2).sqrt()) as f32,
        eps: step.eps,
        ema_decay: step.ema_decay,
    }
}

#[inline(always)]
fn update_piece(
    w: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    ema: &mut [f32],
    g: &[f32],
    keep: f32,
    f: Factors,
) {
    for ((((w, m), v), ema), &g) in w.iter_mut().zip(m).zip(v).zip(ema).zip(g) {
        let g = g * f.clip;
        *m = f.beta1.mul_add(*m, (1.0 - f.beta1) * g);
        *v = f.beta2.mul_add(*v, (1.0 - f.beta2) * g * g);
        *w = w.mul_add(keep, -f.rate * *m / v.sqrt().mul_add(f.root, f.eps));
        *ema = f.ema_decay.mul_add(*ema, (1.0 - f.ema_decay) * *w);
    }
}
