//! Pointwise operations.

use crate::backend::{Activation, Backend, Repeat};
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var, Weight};

use super::{expect_shape, token_dims};

/// `y = activation(x)`, any shape.
pub fn activation<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, activation: Activation) -> Result<Var<B>> {
    let len = x.len();
    let mut y = x.alloc_like(tape.backend, len)?;
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

/// `y = x + branch`, equal shapes.
pub fn residual<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, branch: &Var<B>) -> Result<Var<B>> {
    expect_shape("residual", x.shape(), branch.shape())?;
    let mut y = x.alloc_like(tape.backend, x.len())?;
    tape.backend.residual_forward(B::view_mut(&mut y, 0..x.len()), x.data(), branch.data());
    let shape = x.shape().to_vec();
    let (x, branch) = (x.clone(), branch.clone());
    tape.push(&shape, y, move |walk, dy| {
        walk.pass(&branch, dy.clone())?;
        walk.pass(&x, dy)
    })
}

/// `y[b, n, :] = x[b, n, :] + rows[n, :]`: a learned position embedding; x `[batch, tokens, dim]`, rows `[tokens or more, dim]`.
///
/// # Errors
/// [`Error::Shape`].
pub fn add_positions<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, rows: Param) -> Result<Var<B>> {
    let dims = token_dims("add_positions", x)?;
    let Weight { range, shape } = tape.weight(rows);
    if !matches!(shape[..], [tokens, dim] if tokens >= dims.tokens && dim == dims.dim) {
        let expected = format!("[{} or more, {}]", dims.tokens, dims.dim);
        return Err(Error::shape("add_positions", expected, format!("{shape:?}")));
    }
    let rows = Weight { range: range.start..range.start + dims.tokens * dims.dim, shape };
    let mut y = x.alloc_like(tape.backend, dims.len())?;
    let y_view = B::view_mut(&mut y, 0..dims.len());
    tape.backend.add_rows_forward(y_view, x.data(), tape.weight_data(&rows), Repeat::OverBatch, dims);
    let shape = x.shape().to_vec();
    let x = x.clone();
    tape.push(&shape, y, move |walk, dy| {
        let drows = B::view_mut(walk.weight_gradients, rows.range.clone());
        walk.backend.add_rows_backward(drows, B::view(&dy, 0..dims.len()), Repeat::OverBatch, dims);
        walk.pass(&x, dy)
    })
}
