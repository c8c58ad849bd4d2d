//! The weighted mean squared error by the book.

use crate::common::real::Real;

/// (unweighted loss of each sample, gradient of the mean over samples of weight times loss)
pub fn mse<R: Real>(prediction: &[R], target: &[R], weights: &[R]) -> (Vec<R>, Vec<R>) {
    let batch = weights.len();
    let elements = prediction.len() / batch;
    let mut losses = vec![R::zero(); batch];
    let mut gradient = Vec::new();
    for i in 0..prediction.len() {
        let difference = prediction[i] - target[i];
        losses[i / elements] += difference * difference;
        let two = R::from_f64(2.0);
        gradient.push(two * weights[i / elements] * difference / (R::count(batch) * R::count(elements)));
    }
    (losses.into_iter().map(|sum| sum / R::count(elements)).collect(), gradient)
}
