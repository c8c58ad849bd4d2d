//! Embeddings: of the diffusion step, of indices, and of a whole sequence.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var};

use super::{expect_shape, token_dims};

/// Sinusoids of the step: `[batch, 2 * half]` from `t`, one number a sample (formula in `backend.rs`).
pub fn step_sinusoids<B: Backend>(
    tape: &mut Tape<'_, B>,
    t: &[f32],
    half: usize,
    max_period: f32,
) -> Result<Var<B>> {
    let steps = tape.constant_from_host(&[t.len()], t)?;
    let len = t.len() * 2 * half;
    let mut out = tape.backend.alloc(len)?;
    tape.backend.step_embedding(B::view_mut(&mut out, 0..len), steps.data(), half, max_period);
    Ok(tape.constant(&[t.len(), 2 * half], out))
}

/// Rows of a table `[entries, dim]` by index: `[batch, tokens, dim]` of indices `[batch, tokens]`.
///
/// # Errors
/// [`Error::Shape`] when an index is not in the table, or the indices are not whole samples.
pub fn lookup<B: Backend>(
    tape: &mut Tape<'_, B>,
    table: Param,
    indices: &[u32],
    tokens: usize,
) -> Result<Var<B>> {
    let table = tape.weight(table);
    let [entries, dim] = table.shape[..] else {
        return Err(Error::shape("lookup", "a table [entries, dim]", format!("{:?}", table.shape)));
    };
    if let Some(bad) = indices.iter().find(|&&index| index as usize >= entries) {
        return Err(Error::shape("lookup", format!("indices below {entries}"), bad.to_string()));
    }
    if tokens == 0 || !indices.len().is_multiple_of(tokens) {
        let expected = format!("a multiple of {tokens} indices");
        return Err(Error::shape("lookup", expected, indices.len().to_string()));
    }
    let len = indices.len() * dim;
    let mut out = tape.backend.alloc_activation(len)?;
    tape.backend.lookup_forward(B::view_mut(&mut out, 0..len), tape.weight_data(&table), indices, dim);
    let indices = indices.to_vec();
    tape.push(&[indices.len() / tokens, tokens, dim], out, move |walk, dout| {
        let dtable = B::view_mut(walk.weight_gradients, table.range.clone());
        walk.backend.lookup_backward(dtable, B::view(&dout, 0..len), &indices, dim);
        Ok(())
    })
}

/// Mean over the tokens of each sample, of which it has the first `lengths[b]`: x `[batch, tokens, dim]`, lengths `[batch]`,
/// result `[batch, dim]`.
///
/// # Errors
/// [`Error::Shape`].
pub fn pool<B: Backend>(tape: &mut Tape<'_, B>, x: &Var<B>, lengths: &Var<B>) -> Result<Var<B>> {
    let dims = token_dims("pool", x)?;
    expect_shape("pool lengths", &[dims.batch], lengths.shape())?;
    let len = dims.batch * dims.dim;
    let mut out = tape.backend.alloc(len)?;
    tape.backend.pool_forward(B::view_mut(&mut out, 0..len), x.data(), lengths.data(), dims);
    let (x, lengths) = (x.clone(), lengths.clone());
    tape.push(&[dims.batch, dims.dim], out, move |walk, dout| {
        let Some((mut dx, write)) = walk.open(&x)? else { return Ok(()) };
        let (dx_view, dout) = (B::view_mut(&mut dx, 0..dims.len()), B::view(&dout, 0..len));
        walk.backend.pool_backward(dx_view, write, dout, lengths.data(), dims);
        walk.close(&x, dx);
        Ok(())
    })
}
