//! patch: stub.

#[allow(unused_imports)]
use crate::backend::*;

/// See `Backend::patch_embed_forward`.
pub fn embed_forward(_tokens: &mut [f32], _image: &[f32], _weight: &[f32], _bias: &[f32], _dims: PatchDims) {
    unimplemented!()
}

/// See `Backend::patch_embed_backward_weight`.
pub fn embed_backward_weight(
    _dweight: &mut [f32],
    _dbias: &mut [f32],
    _dtokens: &[f32],
    _image: &[f32],
    _dims: PatchDims,
) {
    unimplemented!()
}

/// See `Backend::patch_embed_backward_input`.
pub fn embed_backward_input(
    _dimage: &mut [f32],
    _write: Write,
    _dtokens: &[f32],
    _weight: &[f32],
    _dims: PatchDims,
) {
    unimplemented!()
}

/// See `Backend::patch_deembed_forward`.
pub fn deembed_forward(
    _image: &mut [f32],
    _tokens: &[f32],
    _weight: &[f32],
    _bias: &[f32],
    _dims: PatchDims,
) {
    unimplemented!()
}

/// See `Backend::patch_deembed_backward_weight`.
pub fn deembed_backward_weight(
    _dweight: &mut [f32],
    _dbias: &mut [f32],
    _dimage: &[f32],
    _tokens: &[f32],
    _dims: PatchDims,
) {
    unimplemented!()
}

/// See `Backend::patch_deembed_backward_input`.
pub fn deembed_backward_input(
    _dtokens: &mut [f32],
    _write: Write,
    _dimage: &[f32],
    _weight: &[f32],
    _dims: PatchDims,
) {
    unimplemented!()
}
