//! Layer normalisation: affine, and modulated per sample.

use crate::backend::{Backend, Slots};
use crate::error::Result;
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::{expect_shape, slot_count, token_dims};

/// Layer normalisation with gain and bias; x `[batch, tokens, dim]`, weight and bias `[dim]`.
pub fn affine<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    weight: Param,
    bias: Param,
    eps: f32,
) -> Result<Var<B>> {
    let dims = token_dims("norm", x)?;
    let (w, b) = (tape.weight(weight), tape.weight(bias));
    expect_shape("norm weight", &[dims.dim], &w.shape)?;
    expect_shape("norm bias", &[dims.dim], &b.shape)?;
    let mut y = x.alloc_like(tape.backend, dims.len())?;
    let mut stats = tape.backend.alloc(2 * dims.rows())?;
    tape.backend.norm_affine_forward(
        B::view_mut(&mut y, 0..dims.len()),
        B::view_mut(&mut stats, 0..2 * dims.rows()),
        x.data(),
        tape.weight_data(&w),
        tape.weight_data(&b),
        eps,
        dims,
    );
    let shape = x.shape().to_vec();
    let x = x.clone();
    tape.push(&shape, y, move |walk, dy| {
        let Some((mut dx, write)) = walk.open(&x)? else { return Ok(()) };
        let (dw, db) = B::view_two_mut(walk.weight_gradients, w.range.clone(), b.range.clone());
        walk.backend.norm_affine_backward(
            B::view_mut(&mut dx, 0..dims.len()),
            write,
            dw,
            db,
            B::view(&dy, 0..dims.len()),
            x.data(),
            B::view(&stats, 0..2 * dims.rows()),
            B::view(walk.weights, w.range.clone()),
            dims,
        );
        walk.close(&x, dx);
        Ok(())
    })
}

/// Layer normalisation, then `(1 + scale) .. + shift` with the sample's own vectors: slots `shift` and `scale`
/// of `modulation [batch, slots * dim]`; x `[batch, tokens, dim]`.
pub fn modulated<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    modulation: &Var<B>,
    shift: usize,
    scale: usize,
    eps: f32,
) -> Result<Var<B>> {
    let dims = token_dims("modulated norm", x)?;
    let count = slot_count("modulated norm", modulation, dims)?;
    let (shift, scale) = (Slots { count, index: shift }, Slots { count, index: scale });
    let mut y = x.alloc_like(tape.backend, dims.len())?;
    let mut stats = tape.backend.alloc(2 * dims.rows())?;
    tape.backend.norm_modulated_forward(
        B::view_mut(&mut y, 0..dims.len()),
        B::view_mut(&mut stats, 0..2 * dims.rows()),
        x.data(),
        modulation.data(),
        shift,
        scale,
        eps,
        dims,
    );
    let shape = x.shape().to_vec();
    let (x, modulation) = (x.clone(), modulation.clone());
    tape.push(&shape, y, move |walk, dy| {
        let Some(mut dmodulation) = walk.open_zeroed(&modulation)? else { return Ok(()) };
        let Some((mut dx, write)) = walk.open(&x)? else { return Ok(()) };
        walk.backend.norm_modulated_backward(
            B::view_mut(&mut dx, 0..dims.len()),
            write,
            B::view_mut(&mut dmodulation, 0..modulation.len()),
            B::view(&dy, 0..dims.len()),
            x.data(),
            B::view(&stats, 0..2 * dims.rows()),
            modulation.data(),
            shift,
            scale,
            dims,
        );
        walk.close(&x, dx);
        walk.close(&modulation, dmodulation);
        Ok(())
    })
}
