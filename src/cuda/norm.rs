//! norm: layer normalisation, affine and modulated; kernels in `kernels/norm.cu`. Formulas: `Backend::norm_*`.
//!
//! Both forms are one pair of kernels: rows in groups that share a scale and a shift. The affine form has one group, the
//! modulated one a sample. Which pair runs depends on dim alone.

use super::elementwise::{SumsOverBlocks, slot};
use super::memory::{Element, Mut, Ref, Span};
use super::{Arg, Cuda};
use crate::backend::*;

/// Dims that kernels are named after, the largest that each takes.
const SIZES: [usize; 7] = [256, 384, 512, 768, 1024, 2048, 4096];
/// Elements that the kernels, all but `odd`, move at once.
const PACK: usize = 4;
/// Blocks that a launch is cut into where there are rows enough: more than any device runs at a time. It is the same for
/// every device, because the order of a sum follows from it.
const BLOCKS: usize = 432;
/// Rows that a block has at least, so that the vectors it reads count little beside them.
const FORWARD_ROWS: usize = 32;
/// As [`FORWARD_ROWS`], where a block also writes two vectors of partial sums.
const BACKWARD_ROWS: usize = 40;

/// Rows in groups that share a scale and a shift.
struct Groups {
    groups: usize,
    rows: usize,
    dim: usize,
    /// Elements from one group's scale or shift to the next one's.
    stride: usize,
    /// What is added to the stored scale.
    one: f32,
}

impl Groups {
    fn affine(dims: TokenDims) -> Self {
        Groups { groups: 1, rows: dims.rows(), dim: dims.dim, stride: 0, one: 0.0 }
    }

    fn modulated(slots: Slots, dims: TokenDims) -> Self {
        let stride = slots.count * dims.dim;
        Groups { groups: dims.batch, rows: dims.tokens, dim: dims.dim, stride, one: 1.0 }
    }

    /// What the kernel is named after: the least size that has room for a row, if all arrays can be read in packs.
    fn size(&self, cuda: &Cuda, arrays: &[&Span]) -> String {
        let size = SIZES.into_iter().find(|&size| self.dim <= size);
        if size.is_none() {
            cuda.fail(&format!("norm: rows of {} are longer than {}", self.dim, SIZES[SIZES.len() - 1]));
        }
        let packed = self.dim.is_multiple_of(PACK) && arrays.iter().all(|array| array.is_aligned());
        size.filter(|_| packed).map_or("odd".to_string(), |size| size.to_string())
    }

    /// Blocks of a group, and rows of a block, at least `least` where there are as many.
    fn blocks(&self, cuda: &Cuda, element: Element, size: &str, least: usize) -> [usize; 2] {
        let most = cuda.constant(element, "norm_most_rows");
        let rows_at_once = cuda.constant(element, &format!("norm_{size}_rows_at_once"));
        let rows = (self.groups * self.rows).div_ceil(BLOCKS).clamp(least, most);
        let blocks = self.rows.div_ceil(rows);
        // The same for all of them but the last.
        let rows = self.rows.div_ceil(blocks.max(1)).next_multiple_of(rows_at_once);
        [self.rows.div_ceil(rows.max(1)), rows]
    }
}

#[allow(clippy::too_many_arguments)]
fn forward(
    cuda: &Cuda,
    y: &Span,
    stats: &Span,
    x: &Span,
    scale: &Span,
    shift: &Span,
    eps: f32,
    all: &Groups,
) {
    let size = all.size(cuda, &[y, x, scale, shift]);
    let kernel = format!("norm_forward_{size}");
    let [blocks, block_rows] = all.blocks(cuda, y.element, &size, FORWARD_ROWS);
    let arguments = [
        y.into(),
        stats.into(),
        x.into(),
        scale.into(),
        shift.into(),
        cuda.word(all.stride),
        Arg::Real(all.one),
        Arg::Real(eps),
        cuda.word(all.rows),
        cuda.word(all.dim),
        cuda.word(blocks),
        cuda.word(block_rows),
    ];
    cuda.launch(y.element, &kernel, [all.groups * blocks, 1, 1], &arguments);
}

#[allow(clippy::too_many_arguments)]
fn backward(
    cuda: &Cuda,
    dx: &Span,
    write: Write,
    [dscale, dshift]: [&Span; 2],
    dy: &Span,
    x: &Span,
    stats: &Span,
    scale: &Span,
    all: &Groups,
) {
    let size = all.size(cuda, &[dx, dy, x, scale]);
    let kernel = format!("norm_backward_{size}");
    let [blocks, block_rows] = all.blocks(cuda, x.element, &size, BACKWARD_ROWS);
    let set = cuda.constant(x.element, "norm_set");
    let Some(sums) = SumsOverBlocks::new(cuda, all.groups, blocks, 2 * all.dim, set) else { return };
    let arguments = [
        dx.into(),
        write.into(),
        dscale.into(),
        dshift.into(),
        dy.into(),
        x.into(),
        stats.into(),
        scale.into(),
        cuda.word(all.stride),
        Arg::Real(all.one),
        cuda.word(all.rows),
        cuda.word(all.dim),
        cuda.word(blocks),
        cuda.word(block_rows),
        sums.partials(),
        sums.counters(),
    ];
    cuda.launch(x.element, &kernel, [all.groups * blocks, 1, 1], &arguments);
}

/// See `Backend::norm_affine_forward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_forward(
    cuda: &Cuda,
    y: Mut<'_>,
    stats: Mut<'_>,
    x: Ref<'_>,
    weight: Ref<'_>,
    bias: Ref<'_>,
    eps: f32,
    dims: TokenDims,
) {
    forward(cuda, &y, &stats, &x, &weight, &bias, eps, &Groups::affine(dims));
}

/// See `Backend::norm_affine_backward`.
#[allow(clippy::too_many_arguments)]
pub fn affine_backward(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dweight: Mut<'_>,
    dbias: Mut<'_>,
    dy: Ref<'_>,
    x: Ref<'_>,
    stats: Ref<'_>,
    weight: Ref<'_>,
    dims: TokenDims,
) {
    let gradients = [&*dweight, &*dbias];
    backward(cuda, &dx, write, gradients, &dy, &x, &stats, &weight, &Groups::affine(dims));
}

/// See `Backend::norm_modulated_forward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_forward(
    cuda: &Cuda,
    y: Mut<'_>,
    stats: Mut<'_>,
    x: Ref<'_>,
    modulation: Ref<'_>,
    shift: Slots,
    scale: Slots,
    eps: f32,
    dims: TokenDims,
) {
    let groups = Groups::modulated(scale, dims);
    let (scale, shift) = (slot(&modulation, scale, dims), slot(&modulation, shift, dims));
    forward(cuda, &y, &stats, &x, &scale, &shift, eps, &groups);
}

/// See `Backend::norm_modulated_backward`.
#[allow(clippy::too_many_arguments)]
pub fn modulated_backward(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dmodulation: Mut<'_>,
    dy: Ref<'_>,
    x: Ref<'_>,
    stats: Ref<'_>,
    modulation: Ref<'_>,
    shift: Slots,
    scale: Slots,
    dims: TokenDims,
) {
    let groups = Groups::modulated(scale, dims);
    let gradients = [&slot(&dmodulation, scale, dims), &slot(&dmodulation, shift, dims)];
    backward(cuda, &dx, write, gradients, &dy, &x, &stats, &slot(&modulation, scale, dims), &groups);
}
