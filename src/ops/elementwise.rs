//! Pointwise operations: activations, added rows, residuals.

use crate::backend::{Activation, Backend, Repeat, Slots};
use crate::error::Result;
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::{expect_shape, slot_count, token_dims};

/// `y = activation(x)`, any shape.
pub fn activation<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, activation: Activation) -> Result<Var<B>> {
    let len = x.len();
    let mut y = tape.backend.alloc(len)?;
    tape.backend.activation_forward(B::view_mut(&mut y, 0..len), x.data(), activation);
    let shape = x.shape().to_vec();
    let x = x.clone();
    tape.push(&shape, y, move |walk, dy| {
        if let Some((mut dx, write)) = walk.open(&x)? {
            let (dx_view, dy) = (B::view_mut(&mut dx, 0..len), B::view(&dy, 0..len));
            walk.backend.activation_backward(dx_view, write, dy, x.data(), activation);
            walk.close(&x, dx);
        }
        Ok(())
    })
}

/// Adds a learned position embedding `[tokens, dim]` to every sample of x `[batch, tokens, dim]`.
pub fn add_position<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, position: Param) -> Result<Var<B>> {
    let dims = token_dims("position embedding", x)?;
    let rows = tape.weight(position);
    expect_shape("position embedding", &[dims.tokens, dims.dim], &rows.shape)?;
    let mut y = tape.backend.alloc(dims.len())?;
    let data = tape.weight_data(&rows);
    tape.backend.add_rows_forward(
        B::view_mut(&mut y, 0..dims.len()),
        x.data(),
        data,
        Repeat::OverBatch,
        dims,
    );
    let shape = x.shape().to_vec();
    let x = x.clone();
    tape.push(&shape, y, move |walk, dy| {
        let drows = B::view_mut(walk.weight_gradients, rows.range.clone());
        walk.backend.add_rows_backward(drows, B::view(&dy, 0..dims.len()), Repeat::OverBatch, dims);
        walk.pass(&x, dy)
    })
}

/// Adds rows to x `[batch, tokens, dim]`: `rows [tokens, dim]` to every sample ([`Repeat::OverBatch`]) or
/// `rows [batch, dim]` to every token ([`Repeat::OverTokens`]).
pub fn add_rows<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    rows: &Var<B>,
    repeat: Repeat,
) -> Result<Var<B>> {
    let dims = token_dims("add rows", x)?;
    let expected = match repeat {
        Repeat::OverBatch => [dims.tokens, dims.dim],
        Repeat::OverTokens => [dims.batch, dims.dim],
    };
    expect_shape("add rows", &expected, rows.shape())?;
    let mut y = tape.backend.alloc(dims.len())?;
    tape.backend.add_rows_forward(B::view_mut(&mut y, 0..dims.len()), x.data(), rows.data(), repeat, dims);
    let shape = x.shape().to_vec();
    let (x, rows) = (x.clone(), rows.clone());
    tape.push(&shape, y, move |walk, dy| {
        if let Some(mut drows) = walk.open_zeroed(&rows)? {
            let view = B::view_mut(&mut drows, 0..rows.len());
            walk.backend.add_rows_backward(view, B::view(&dy, 0..dims.len()), repeat, dims);
            walk.close(&rows, drows);
        }
        walk.pass(&x, dy)
    })
}

/// `y = x + branch`, equal shapes.
pub fn residual<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, branch: &Var<B>) -> Result<Var<B>> {
    expect_shape("residual", x.shape(), branch.shape())?;
    let mut y = tape.backend.alloc(x.len())?;
    tape.backend.residual_forward(B::view_mut(&mut y, 0..x.len()), x.data(), branch.data());
    let shape = x.shape().to_vec();
    let (x, branch) = (x.clone(), branch.clone());
    tape.push(&shape, y, move |walk, dy| {
        walk.pass(&branch, dy.clone())?;
        walk.pass(&x, dy)
    })
}

/// `y = x + gate * branch` with the sample's own gate: a slot of `modulation [batch, slots * dim]`;
/// x and branch `[batch, tokens, dim]`.
pub fn gated_residual<B: Backend>(
    tape: &mut Tape<'_, B>,
    x: &Var<B>,
    branch: &Var<B>,
    modulation: &Var<B>,
    gate: usize,
) -> Result<Var<B>> {
    let dims = token_dims("gated residual", x)?;
    expect_shape("gated residual", x.shape(), branch.shape())?;
    let gate = Slots { count: slot_count("gated residual", modulation, dims)?, index: gate };
    let mut y = tape.backend.alloc(dims.len())?;
    tape.backend.gated_residual_forward(
        B::view_mut(&mut y, 0..dims.len()),
        x.data(),
        branch.data(),
        modulation.data(),
        gate,
        dims,
    );
    let shape = x.shape().to_vec();
    let (x, branch, modulation) = (x.clone(), branch.clone(), modulation.clone());
    tape.push(&shape, y, move |walk, dy| {
        let Some(mut dmodulation) = walk.open_zeroed(&modulation)? else { return Ok(()) };
        let mut dbranch = walk.backend.alloc(dims.len())?;
        walk.backend.gated_residual_backward(
            B::view_mut(&mut dbranch, 0..dims.len()),
            B::view_mut(&mut dmodulation, 0..modulation.len()),
            B::view(&dy, 0..dims.len()),
            branch.data(),
            modulation.data(),
            gate,
            dims,
        );
        walk.close(&modulation, dmodulation);
        walk.pass(&branch, dbranch.into())?;
        walk.pass(&x, dy)
    })
}
