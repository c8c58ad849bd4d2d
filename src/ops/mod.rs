//! Differentiable operations: one file a family; each function checks shapes, runs the forward kernel and
//! records the backward kernel. Nothing here names a device.

pub mod attention;
pub mod elementwise;
pub mod embed;
pub mod matmul;
pub mod norm;
pub mod patch;

use crate::backend::{Backend, TokenDims};
use crate::error::{Error, Result};
use crate::tape::Var;

/// The dimensions of a `[batch, tokens, dim]` value.
fn token_dims<B: Backend>(op: &'static str, x: &Var<B>) -> Result<TokenDims> {
    match *x.shape() {
        [batch, tokens, dim] => Ok(TokenDims { batch, tokens, dim }),
        _ => Err(Error::shape(op, "[batch, tokens, dim]", format!("{:?}", x.shape()))),
    }
}

/// Fails unless a shape is what it has to be.
fn expect_shape(op: &'static str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::shape(op, format!("{expected:?}"), format!("{got:?}"))) }
}

/// The number of slots of a `[batch, slots * dim]` modulation for `[batch, tokens, dim]` values.
fn slot_count<B: Backend>(op: &'static str, modulation: &Var<B>, dims: TokenDims) -> Result<usize> {
    match *modulation.shape() {
        [batch, columns] if batch == dims.batch && columns > 0 && columns % dims.dim == 0 => {
            Ok(columns / dims.dim)
        }
        _ => Err(Error::shape(
            op,
            format!("[{}, a multiple of {}]", dims.batch, dims.dim),
            format!("{:?}", modulation.shape()),
        )),
    }
}
