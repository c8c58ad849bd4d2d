//! loss: the weighted mean squared error and its gradient, one pass. Formula: `Backend::mse`.

use super::pieces::{Cut, PerPiece, Piece, sum_pairs_wide, vectorised};

/// See `Backend::mse`.
pub fn mse(losses: &mut [f32], dprediction: &mut [f32], prediction: &[f32], target: &[f32], weights: &[f32]) {
    let batch = losses.len();
    if batch == 0 {
        return;
    }
    let elements = prediction.len() / batch;
    let cut = Cut::rows(batch, elements, 1);
    let mut partials = vec![0.0_f64; cut.pieces()];
    cut.run((dprediction, PerPiece(&mut partials, 1)), |piece: Piece, (dprediction, partial)| {
        let (prediction, target) = (&prediction[piece.rows.clone()], &target[piece.rows]);
        let factor = 2.0 * weights[piece.group] / prediction_count(batch, elements);
        vectorised(
            #[inline(always)]
            || {
                partial.0[0] = squared_distance(prediction, target);
                for ((d, &prediction), &target) in dprediction.iter_mut().zip(prediction).zip(target) {
                    *d = factor * (prediction - target);
                }
            },
        );
    });
    for (loss, partials) in losses.iter_mut().zip(partials.chunks_exact(cut.group_pieces().max(1))) {
        *loss = (partials.iter().sum::<f64>() / elements as f64) as f32;
    }
}

/// As a number of f32: a count up to 2^24 is exact, a larger one is rounded once.
fn prediction_count(batch: usize, elements: usize) -> f32 {
    (batch * elements) as f32
}

#[inline(always)]
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    sum_pairs_wide(
        a,
        b,
        #[inline(always)]
        |a, b| (a - b) * (a - b),
    )
}
