//! Strided and transposed convolution by plain loops.

use crate::common::real::Real;
use dit_engine::backend::PatchDims;

/// Calls `f(token element, weight element, image element, channel)` for every product of the convolution; the
/// three are flat indices.
fn each(dims: PatchDims, mut f: impl FnMut(usize, usize, usize, usize)) {
    let (ph, pw) = (dims.patch_height, dims.patch_width);
    for b in 0..dims.batch {
        for gy in 0..dims.grid_height() {
            for gx in 0..dims.grid_width() {
                for d in 0..dims.dim {
                    for c in 0..dims.channels {
                        for i in 0..ph {
                            for j in 0..pw {
                                let n = gy * dims.grid_width() + gx;
                                let token = (b * dims.tokens() + n) * dims.dim + d;
                                let weight = ((d * dims.channels + c) * ph + i) * pw + j;
                                let row = (b * dims.channels + c) * dims.height + gy * ph + i;
                                f(token, weight, row * dims.width + gx * pw + j, c);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn tokens_len(dims: PatchDims) -> usize {
    dims.batch * dims.tokens() * dims.dim
}

/// Convolution without bias: also the gradient of the transposed one with respect to its tokens.
fn gather<F: Real>(image: &[F], weight: &[F], dims: PatchDims) -> Vec<F> {
    let mut tokens = vec![F::zero(); tokens_len(dims)];
    each(dims, |t, w, i, _| tokens[t] += weight[w] * image[i]);
    tokens
}

/// Transposed convolution without bias: also the gradient of the first one with respect to its image.
fn scatter<F: Real>(tokens: &[F], weight: &[F], dims: PatchDims) -> Vec<F> {
    let mut image = vec![F::zero(); dims.image_len()];
    each(dims, |t, w, i, _| image[i] += weight[w] * tokens[t]);
    image
}

fn dweight<F: Real>(tokens: &[F], image: &[F], dims: PatchDims) -> Vec<F> {
    let mut dweight = vec![F::zero(); dims.dim * dims.patch_len()];
    each(dims, |t, w, i, _| dweight[w] += tokens[t] * image[i]);
    dweight
}

/// tokens
pub fn embed_forward<F: Real>(image: &[F], weight: &[F], bias: &[F], dims: PatchDims) -> Vec<F> {
    let mut tokens = gather(image, weight, dims);
    for (i, token) in tokens.iter_mut().enumerate() {
        *token += bias[i % dims.dim];
    }
    tokens
}

/// dweight and dbias
pub fn embed_backward_weight<F: Real>(dtokens: &[F], image: &[F], dims: PatchDims) -> (Vec<F>, Vec<F>) {
    let mut dbias = vec![F::zero(); dims.dim];
    for (i, &g) in dtokens.iter().enumerate() {
        dbias[i % dims.dim] += g;
    }
    (dweight(dtokens, image, dims), dbias)
}

/// dimage
pub fn embed_backward_input<F: Real>(dtokens: &[F], weight: &[F], dims: PatchDims) -> Vec<F> {
    scatter(dtokens, weight, dims)
}

/// image
pub fn deembed_forward<F: Real>(tokens: &[F], weight: &[F], bias: &[F], dims: PatchDims) -> Vec<F> {
    let mut image = scatter(tokens, weight, dims);
    for (i, x) in image.iter_mut().enumerate() {
        *x += bias[i / (dims.height * dims.width) % dims.channels];
    }
    image
}

/// dweight and dbias
pub fn deembed_backward_weight<F: Real>(dimage: &[F], tokens: &[F], dims: PatchDims) -> (Vec<F>, Vec<F>) {
    let mut dbias = vec![F::zero(); dims.channels];
    for (i, &g) in dimage.iter().enumerate() {
        dbias[i / (dims.height * dims.width) % dims.channels] += g;
    }
    (dweight(tokens, dimage, dims), dbias)
}

/// dtokens
pub fn deembed_backward_input<F: Real>(dimage: &[F], weight: &[F], dims: PatchDims) -> Vec<F> {
    gather(dimage, weight, dims)
}
