//! elementwise: fills, sums, activations, added rows and residuals; kernels in `kernels/elementwise.cu`. Formulas:
//! `Backend`, section elementwise, and `fill`, `add`, `find_non_finite`.

use super::memory::{Element, Mut, Ref, Span};
use super::queue::Command;
use super::{Arg, Cuda};
use crate::backend::*;

/// Bytes that a thread moves at once.
const PACK_BYTES: usize = 16;

/// Blocks of a kernel in which each thread has one pack of `len` elements.
fn blocks(cuda: &Cuda, element: Element, kernel: &str, len: usize) -> [usize; 3] {
    let packs = len.div_ceil(PACK_BYTES / element.bytes());
    [packs.div_ceil(cuda.block(element, kernel)), 1, 1]
}

/// Launches a kernel over `len` elements, a pack a thread; the arguments begin with `y` and end with `len`.
fn over_packs(cuda: &Cuda, y: &Span, kernel: &str, middle: &[Arg]) {
    let mut arguments = vec![Arg::from(y)];
    arguments.extend_from_slice(middle);
    arguments.push(Arg::count(y.len));
    cuda.launch(y.element, kernel, blocks(cuda, y.element, kernel, y.len), &arguments);
}

/// See `Backend::fill`.
pub fn fill(cuda: &Cuda, to: &Span, value: f32) {
    let copy = to.copy.map(|address| Span { address, copy: None, element: Element::Bf16, ..*to });
    for span in [Some(*to), copy].into_iter().flatten() {
        if value.to_bits() == 0 && span.len > 0 {
            cuda.queue.issue(Command::Clear { to: span.address, bytes: span.bytes() });
        } else {
            over_packs(cuda, &span, "elementwise_fill", &[Arg::Real(value)]);
        }
    }
}

/// See `Backend::add`.
pub fn add(cuda: &Cuda, to: Mut<'_>, from: Ref<'_>) {
    assert_eq!((to.len, to.element), (from.len, from.element), "a sum of equal lengths of the same kind");
    over_packs(cuda, &to, "elementwise_add", &[Arg::from(from)]);
}

/// See `Backend::find_non_finite`.
pub fn find_non_finite(cuda: &Cuda, _x: Ref<'_>) -> Option<usize> {
    cuda.fail("find_non_finite: not there yet");
    None
}

/// See `Backend::activation_forward`.
pub fn activation_forward(cuda: &Cuda, y: Mut<'_>, x: Ref<'_>, activation: Activation) {
    over_packs(cuda, &y, "elementwise_activation_forward", &[x.into(), activation.into()]);
}

/// See `Backend::activation_backward`.
pub fn activation_backward(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dy: Ref<'_>,
    x: Ref<'_>,
    activation: Activation,
) {
    let arguments = [write.into(), dy.into(), x.into(), activation.into()];
    over_packs(cuda, &dx, "elementwise_activation_backward", &arguments);
}

/// See `Backend::activation_backward_in_place`.
pub fn activation_backward_in_place(cuda: &Cuda, dy: Mut<'_>, x: Ref<'_>, activation: Activation) {
    let arguments = [Arg::from(Write::Replace), Arg::from(&dy), x.into(), activation.into()];
    over_packs(cuda, &dy, "elementwise_activation_backward", &arguments);
}

/// See `Backend::add_rows_forward`.
pub fn add_rows_forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _x: Ref<'_>,
    _rows: Ref<'_>,
    _repeat: Repeat,
    _dims: TokenDims,
) {
    cuda.fail("add_rows_forward: not there yet");
}

/// See `Backend::add_rows_backward`.
pub fn add_rows_backward(cuda: &Cuda, _drows: Mut<'_>, _dy: Ref<'_>, _repeat: Repeat, _dims: TokenDims) {
    cuda.fail("add_rows_backward: not there yet");
}

/// See `Backend::residual_forward`.
pub fn residual_forward(cuda: &Cuda, y: Mut<'_>, x: Ref<'_>, branch: Ref<'_>) {
    over_packs(cuda, &y, "elementwise_residual_forward", &[x.into(), branch.into()]);
}

/// See `Backend::gated_residual_forward`.
pub fn gated_residual_forward(
    cuda: &Cuda,
    _y: Mut<'_>,
    _x: Ref<'_>,
    _branch: Ref<'_>,
    _modulation: Ref<'_>,
    _gate: Slots,
    _dims: TokenDims,
) {
    cuda.fail("gated_residual_forward: not there yet");
}

/// See `Backend::gated_residual_backward`.
#[allow(clippy::too_many_arguments)]
pub fn gated_residual_backward(
    cuda: &Cuda,
    _dbranch: Mut<'_>,
    _dmodulation: Mut<'_>,
    _dy: Ref<'_>,
    _branch: Ref<'_>,
    _modulation: Ref<'_>,
    _gate: Slots,
    _dims: TokenDims,
) {
    cuda.fail("gated_residual_backward: not there yet");
}
