//! embed: the sinusoidal step embedding, rows of a table, and means over tokens; kernels in `kernels/embed.cu`. Formulas:
//! `Backend::step_embedding`, `Backend::lookup_*`, `Backend::pool_*`.

use super::memory::{Buffer, Mut, Ref};
use super::queue::Command;
use super::{Arg, Cuda};
use crate::backend::*;

/// See `Backend::step_embedding`.
pub fn step_embedding(cuda: &Cuda, out: Mut<'_>, t: Ref<'_>, half: usize, max_period: f32) {
    let kernel = "embed_step";
    let blocks = t.len * half.div_ceil(cuda.block(out.element, kernel));
    let arguments = [Arg::from(&out), t.into(), cuda.word(half), Arg::Real(max_period)];
    cuda.launch(out.element, kernel, [blocks, 1, 1], &arguments);
}

/// See `Backend::lookup_forward`.
pub fn lookup_forward(cuda: &Cuda, out: Mut<'_>, table: Ref<'_>, indices: &[u32], dim: usize) {
    let kernel = "embed_lookup_forward";
    let Some(on_device) = upload(cuda, indices) else { return };
    let blocks = (indices.len() * dim).div_ceil(cuda.block(out.element, kernel));
    let arguments =
        [Arg::from(&out), table.into(), Arg::from(&on_device), cuda.word(indices.len()), cuda.word(dim)];
    cuda.launch(out.element, kernel, [blocks, 1, 1], &arguments);
}

/// See `Backend::lookup_backward`.
pub fn lookup_backward(cuda: &Cuda, dtable: Mut<'_>, dout: Ref<'_>, indices: &[u32], dim: usize) {
    let Some(on_device) = upload(cuda, indices) else { return };
    let arguments =
        [Arg::from(&dtable), dout.into(), Arg::from(&on_device), cuda.word(indices.len()), cuda.word(dim)];
    cuda.launch(dout.element, "embed_lookup_backward", [indices.len(), 1, 1], &arguments);
}

/// See `Backend::pool_forward`.
pub fn pool_forward(cuda: &Cuda, out: Mut<'_>, x: Ref<'_>, lengths: Ref<'_>, dims: TokenDims) {
    let kernel = "embed_pool_forward";
    let blocks = out.len.div_ceil(cuda.block(x.element, kernel));
    let mut arguments = vec![Arg::from(&out), x.into(), lengths.into()];
    arguments.extend([dims.batch, dims.tokens, dims.dim].map(|size| cuda.word(size)));
    cuda.launch(x.element, kernel, [blocks, 1, 1], &arguments);
}

/// See `Backend::pool_backward`.
pub fn pool_backward(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dout: Ref<'_>,
    lengths: Ref<'_>,
    dims: TokenDims,
) {
    let kernel = "embed_pool_backward";
    let blocks = dx.len.div_ceil(cuda.block(dx.element, kernel));
    let mut arguments = vec![Arg::from(&dx), write.into(), dout.into(), lengths.into()];
    arguments.extend([dims.batch, dims.tokens, dims.dim].map(|size| cuda.word(size)));
    cuda.launch(dx.element, kernel, [blocks, 1, 1], &arguments);
}

/// The indices on the device; `None` when there are none, or no memory for them.
fn upload(cuda: &Cuda, indices: &[u32]) -> Option<Buffer> {
    if indices.is_empty() {
        return None;
    }
    let buffer = cuda.workspace(indices.len())?;
    let to = buffer.view(0..indices.len()).address;
    cuda.queue.issue(Command::Upload { to, bytes: bytemuck::cast_slice(indices).to_vec() });
    Some(buffer)
}
