//! Images to tokens and back.

use crate::backend::{AddedRows, Backend, PatchDims, Repeat, TokenDims};
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::expect_shape;

/// What is added to the tokens of a patch embedding while they are made.
pub struct Rows<'a, B: Backend> {
    /// `[tokens, dim]`, to every sample.
    pub position: Option<Position<'a, B>>,
    /// `[batch, dim]`, to every token: a step embedding.
    pub sample: Option<&'a Var<B>>,
}

/// A position embedding `[tokens, dim]`.
pub enum Position<'a, B: Backend> {
    /// Learned.
    Learned(Param),
    /// A constant.
    Fixed(&'a Var<B>),
}

/// Strided convolution with kernel = stride = patch: image `[batch, channels, height, width]` to tokens
/// `[batch, tokens, dim]`, with rows added to them; weight `[dim, channels, patch_height, patch_width]`, bias `[dim]`.
///
/// # Errors
/// [`Error::Shape`] when the image is not a whole number of patches, or channels or rows do not fit.
pub fn embed<B: Backend>(
    tape: &mut Tape<'_, B>,
    image: &Var<B>,
    weight: Param,
    bias: Param,
    rows: &Rows<'_, B>,
) -> Result<Var<B>> {
    let (w, b) = (tape.weight(weight), tape.weight(bias));
    let ([batch, channels, height, width], [dim, in_channels, patch_height, patch_width]) =
        (four("patch embedding", image.shape())?, four("patch embedding", &w.shape)?);
    let dims = PatchDims { batch, channels, height, width, patch_height, patch_width, dim };
    expect_shape("patch embedding's channels", &[in_channels], &[channels])?;
    expect_shape("patch embedding bias", &[dim], &b.shape)?;
    check_whole_patches(dims)?;
    let learned = match rows.position {
        Some(Position::Learned(param)) => Some(tape.weight(param)),
        _ => None,
    };
    let position = match (&rows.position, &learned) {
        (Some(Position::Fixed(table)), _) => Some((table.shape(), table.data())),
        (_, Some(weight)) => Some((&weight.shape[..], tape.weight_data(weight))),
        _ => None,
    };
    if let Some((shape, _)) = position {
        expect_shape("position embedding", &[dims.tokens(), dim], shape)?;
    }
    if let Some(sample) = rows.sample {
        expect_shape("step embedding", &[batch, dim], sample.shape())?;
    }

    let len = batch * dims.tokens() * dim;
    let mut tokens = tape.backend.alloc_activation(len)?;
    tape.backend.patch_embed_rows_forward(
        B::view_mut(&mut tokens, 0..len),
        image.data(),
        tape.weight_data(&w),
        tape.weight_data(&b),
        AddedRows { position: position.map(|(_, data)| data), sample: rows.sample.map(Var::data) },
        dims,
    );
    let (image, sample) = (image.clone(), rows.sample.cloned());
    tape.push(&[batch, dims.tokens(), dim], tokens, move |walk, dtokens| {
        let dtokens = B::view(&dtokens, 0..len);
        let token_dims = TokenDims { batch, tokens: dims.tokens(), dim };
        if let Some(position) = learned {
            let drows = B::view_mut(walk.weight_gradients, position.range);
            walk.backend.add_rows_backward(drows, dtokens, Repeat::OverBatch, token_dims);
        }
        if let Some(sample) = sample
            && let Some(mut dsample) = walk.open_zeroed(&sample)?
        {
            let drows = B::view_mut(&mut dsample, 0..sample.len());
            walk.backend.add_rows_backward(drows, dtokens, Repeat::OverTokens, token_dims);
            walk.close(&sample, dsample);
        }
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
