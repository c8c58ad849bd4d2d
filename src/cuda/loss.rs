//! loss: the weighted mean squared error and its gradient, one launch; kernel in `kernels/loss.cu`. Formula:
//! `Backend::mse`.

use super::flat::assert_alike;
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};

/// See `Backend::mse`.
pub fn mse(
    cuda: &Cuda,
    losses: Mut<'_>,
    dprediction: Mut<'_>,
    prediction: Ref<'_>,
    target: Ref<'_>,
    weights: Ref<'_>,
) {
    assert_alike([&dprediction, &prediction, &target]);
    assert_alike([&losses, &weights]);
    let batch = losses.len;
    if batch == 0 {
        return;
    }
    let elements = prediction.len / batch;
    let pieces = elements.div_ceil(cuda.constant(Element::F32, "loss_piece")).max(1);
    let Some(partials) = cuda.workspace(batch * pieces) else { return };
    let arguments = [
        Arg::from(&losses),
        Arg::from(&dprediction),
        prediction.into(),
        target.into(),
        weights.into(),
        Arg::from(&partials),
        cuda.counters(batch),
        cuda.word(batch),
        cuda.word(elements),
        cuda.word(pieces),
    ];
    cuda.launch(Element::F32, "loss_mse", [batch * pieces, 1, 1], &arguments);
}
