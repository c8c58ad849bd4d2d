//! patch: to be written.

use super::Cuda;
use super::memory::{Mut, Ref};
use crate::backend::*;

/// See `Backend::patch_embed_forward`.
#[allow(clippy::too_many_arguments)]
pub fn embed_forward(
    cuda: &Cuda,
    _tokens: Mut<'_>,
    _image: Ref<'_>,
    _weight: Ref<'_>,
    _bias: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_embed_forward: not there yet");
}

/// See `Backend::patch_embed_rows_forward`.
#[allow(clippy::too_many_arguments)]
pub fn embed_rows_forward(
    cuda: &Cuda,
    _tokens: Mut<'_>,
    _image: Ref<'_>,
    _weight: Ref<'_>,
    _bias: Ref<'_>,
    _rows: AddedRows<Ref<'_>>,
    _dims: PatchDims,
) {
    cuda.fail("patch_embed_rows_forward: not there yet");
}

/// See `Backend::patch_embed_backward_weight`.
#[allow(clippy::too_many_arguments)]
pub fn embed_backward_weight(
    cuda: &Cuda,
    _dweight: Mut<'_>,
    _dbias: Mut<'_>,
    _dtokens: Ref<'_>,
    _image: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_embed_backward_weight: not there yet");
}

/// See `Backend::patch_embed_backward_input`.
#[allow(clippy::too_many_arguments)]
pub fn embed_backward_input(
    cuda: &Cuda,
    _dimage: Mut<'_>,
    _write: Write,
    _dtokens: Ref<'_>,
    _weight: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_embed_backward_input: not there yet");
}

/// See `Backend::patch_deembed_forward`.
#[allow(clippy::too_many_arguments)]
pub fn deembed_forward(
    cuda: &Cuda,
    _image: Mut<'_>,
    _tokens: Ref<'_>,
    _weight: Ref<'_>,
    _bias: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_deembed_forward: not there yet");
}

/// See `Backend::patch_deembed_backward_weight`.
#[allow(clippy::too_many_arguments)]
pub fn deembed_backward_weight(
    cuda: &Cuda,
    _dweight: Mut<'_>,
    _dbias: Mut<'_>,
    _dimage: Ref<'_>,
    _tokens: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_deembed_backward_weight: not there yet");
}

/// See `Backend::patch_deembed_backward_input`.
#[allow(clippy::too_many_arguments)]
pub fn deembed_backward_input(
    cuda: &Cuda,
    _dtokens: Mut<'_>,
    _write: Write,
    _dimage: Ref<'_>,
    _weight: Ref<'_>,
    _dims: PatchDims,
) {
    cuda.fail("patch_deembed_backward_input: not there yet");
}
