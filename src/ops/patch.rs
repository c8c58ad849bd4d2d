//! Images to tokens and back.

use crate::backend::{Backend, PatchDims};
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::expect_shape;

/// Strided convolution with kernel = stride = patch: image `[batch, channels, height, width]` to tokens
/// `[batch, tokens, dim]`; weight `[dim, channels, patch_height, patch_width]`, bias `[dim]`.
///
/// # Errors
/// [`Error::Shape`] when the image is not a whole number of patches or the channels differ.
pub fn embed<B: Backend>(
    tape: &mut Tape<'_, B>,
    image: &Var<B>,
    weight: Param,
    bias: Param,
) -> Result<Var<B>> {
    let (w, b) = (tape.weight(weight), tape.weight(bias));
    let ([batch, channels, height, width], [dim, in_channels, patch_height, patch_width]) =
        (four("patch embedding", image.shape())?, four("patch embedding", &w.shape)?);
    let dims = PatchDims { batch, channels, height, width, patch_height, patch_width, dim };
    expect_shape("patch embedding's channels", &[in_channels], &[channels])?;
    expect_shape("patch embedding bias", &[dim], &b.shape)?;
    check_whole_patches(dims)?;

    let len = batch * dims.tokens() * dim;
    let mut tokens = tape.backend.alloc(len)?;
    tape.backend.patch_embed_forward(
        B::view_mut(&mut tokens, 0..len),
        image.data(),
        tape.weight_data(&w),
        tape.weight_data(&b),
        dims,
    );
    let image = image.clone();
    tape.push(&[batch, dims.tokens(), dim], tokens, move |walk, dtokens| {
        let dtokens = B::view(&dtokens, 0..len);
        let (dw, db) = B::view_two_mut(walk.weight_gradients, w.range.clone(), b.range.clone());
        walk.backend.patch_embed_backward_weight(dw, db, dtokens, image.data(), dims);
        if let Some((mut dimage, write)) = walk.open(&image)? {
            let w = B::view(walk.weights, w.range.clone());
            let all = 0..image.len();
            walk.backend.patch_embed_backward_input(B::view_mut(&mut dimage, all), write, dtokens, w, dims);
            walk.close(&image, dimage);
        }
        Ok(())
    })
}

/// Transposed convolution with kernel = stride = patch: tokens `[batch, tokens, dim]` to an image
/// `[batch, channels, height, width]`; weight `[dim, channels, patch_height, patch_width]`, bias `[channels]`.
///
/// # Errors
/// [`Error::Shape`] when the tokens do not fill the image.
pub fn deembed<B: Backend>(
    tape: &mut Tape<'_, B>,
    tokens: &Var<B>,
    weight: Param,
    bias: Param,
    [height, width]: [usize; 2],
) -> Result<Var<B>> {
    let (w, b) = (tape.weight(weight), tape.weight(bias));
    let [dim, channels, patch_height, patch_width] = four("patch de-embedding", &w.shape)?;
    let batch = tokens.shape().first().copied().unwrap_or(0);
    let dims = PatchDims { batch, channels, height, width, patch_height, patch_width, dim };
    check_whole_patches(dims)?;
    expect_shape("patch de-embedding's tokens", &[batch, dims.tokens(), dim], tokens.shape())?;
    expect_shape("patch de-embedding bias", &[channels], &b.shape)?;

    let len = dims.image_len();
    let mut image = tape.backend.alloc(len)?;
    tape.backend.patch_deembed_forward(
        B::view_mut(&mut image, 0..len),
        tokens.data(),
        tape.weight_data(&w),
        tape.weight_data(&b),
        dims,
    );
    let tokens = tokens.clone();
    tape.push(&[batch, channels, height, width], image, move |walk, dimage| {
        let dimage = B::view(&dimage, 0..len);
        let (dw, db) = B::view_two_mut(walk.weight_gradients, w.range.clone(), b.range.clone());
        walk.backend.patch_deembed_backward_weight(dw, db, dimage, tokens.data(), dims);
        if let Some((mut dtokens, write)) = walk.open(&tokens)? {
            let w = B::view(walk.weights, w.range.clone());
            let all = 0..tokens.len();
            walk.backend.patch_deembed_backward_input(B::view_mut(&mut dtokens, all), write, dimage, w, dims);
            walk.close(&tokens, dtokens);
        }
        Ok(())
    })
}

fn four(op: &'static str, shape: &[usize]) -> Result<[usize; 4]> {
    shape.try_into().map_err(|_| Error::shape(op, "four axes", format!("{shape:?}")))
}

fn check_whole_patches(dims: PatchDims) -> Result<()> {
    let PatchDims { height, width, patch_height, patch_width, .. } = dims;
    if patch_height > 0 && patch_width > 0 && height % patch_height == 0 && width % patch_width == 0 {
        return Ok(());
    }
    let got = format!("{height} x {width} in patches of {patch_height} x {patch_width}");
    Err(Error::shape("patches", "a whole number of patches", got))
}
