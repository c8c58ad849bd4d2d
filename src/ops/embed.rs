//! Embeddings: of the diffusion step, and of indices.

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::params::Param;
use crate::tape::{Tape, Var};

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

/// Rows of a table `[entries, dim]` by index: `[indices.len(), dim]`.
///
/// # Errors
/// [`Error::Shape`] when an index is not in the table.
pub fn lookup<B: Backend>(tape: &mut Tape<'_, B>, table: Param, indices: &[u32]) -> Result<Var<B>> {
    let table = tape.weight(table);
    let [entries, dim] = table.shape[..] else {
        return Err(Error::shape("lookup", "a table [entries, dim]", format!("{:?}", table.shape)));
    };
    if let Some(bad) = indices.iter().find(|&&index| index as usize >= entries) {
        return Err(Error::shape("lookup", format!("indices below {entries}"), bad.to_string()));
    }
    let len = indices.len() * dim;
    let mut out = tape.backend.alloc(len)?;
    tape.backend.lookup_forward(B::view_mut(&mut out, 0..len), tape.weight_data(&table), indices, dim);
    let indices = indices.to_vec();
    tape.push(&[indices.len(), dim], out, move |walk, dout| {
        let dtable = B::view_mut(walk.weight_gradients, table.range.clone());
        walk.backend.lookup_backward(dtable, B::view(&dout, 0..len), &indices, dim);
        Ok(())
    })
}
