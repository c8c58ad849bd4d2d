//! loss: the weighted mean squared error and its gradient, one pass. Formula: `Backend::mse`.

use super::pieces::{Cut, PerPiece, Piece, SHORT, sum_pairs};
use super::simd::vectorised;

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
        let factor = 2.0 * weights[piece.group] / (batch * elements) as f32;
        vectorised(
            #[inline(always)]
            || partial.0[0] = mse_piece(dprediction, prediction, target, factor),
        );
    });
    for (loss, partials) in losses.iter_mut().zip(partials.chunks_exact(cut.group_pieces().max(1))) {
        *loss = (partials.iter().sum::<f64>() / elements as f64) as f32;
    }
}

/// Writes `factor (prediction - target)`, returns the sum of squares. In short parts, so that what the sum has
/// read is still in the first-level cache for the gradient.
#[inline(always)]
fn mse_piece(dprediction: &mut [f32], prediction: &[f32], target: &[f32], factor: f32) -> f64 {
    let mut total = 0.0;
    let inputs = prediction.chunks(SHORT).zip(target.chunks(SHORT));
    for (dprediction, (prediction, target)) in dprediction.chunks_mut(SHORT).zip(inputs) {
        total += f64::from(sum_pairs(
            prediction,
            target,
            #[inline(always)]
            |a, b| (a - b) * (a - b),
        ));
        for ((d, &prediction), &target) in dprediction.iter_mut().zip(prediction).zip(target) {
            *d = factor * (prediction - target);
        }
    }
    total
}
