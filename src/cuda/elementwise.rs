//! elementwise: fills, sums, activations, added rows and residuals; kernels in `kernels/elementwise.cu`. Formulas:
//! `Backend`, section elementwise, and `fill`, `add`, `find_non_finite`.

use super::memory::{Buffer, Element, Mut, Ref, Span};
use super::queue::Command;
use super::{Arg, Cuda};
use crate::backend::*;

/// Bytes that a thread moves at once.
const PACK_BYTES: usize = 16;
/// A 64-bit number, in f32 elements.
const FOUND_WORDS: usize = 2;

/// Blocks of a kernel in which each thread has one pack of `len` elements.
fn blocks(cuda: &Cuda, element: Element, kernel: &str, len: usize) -> [usize; 3] {
    let packs = len.div_ceil(PACK_BYTES / element.bytes());
    [packs.div_ceil(cuda.block(element, kernel)), 1, 1]
}

/// Launches a kernel over `len` elements, a pack a thread; the arguments begin with `y` and end with `len`.
fn over_packs(cuda: &Cuda, y: &Span, kernel: &str, middle: &[Arg]) {
    let mut arguments = vec![Arg::from(y)];
    arguments.extend_from_slice(middle);
    arguments.push(Arg::count(y.len));
    cuda.launch(y.element, kernel, blocks(cuda, y.element, kernel, y.len), &arguments);
}

/// See `Backend::fill`.
pub fn fill(cuda: &Cuda, to: &Span, value: f32) {
    let copy = to.copy.map(|address| Span { address, copy: None, element: Element::Bf16, ..*to });
    for span in [Some(*to), copy].into_iter().flatten() {
        if value.to_bits() == 0 && span.len > 0 {
            cuda.queue.issue(Command::Clear { to: span.address, bytes: span.bytes() });
        } else {
            over_packs(cuda, &span, "elementwise_fill", &[Arg::Real(value)]);
        }
    }
}

/// See `Backend::add`.
pub fn add(cuda: &Cuda, to: Mut<'_>, from: Ref<'_>) {
    assert_eq!((to.len, to.element), (from.len, from.element), "a sum of equal lengths of the same kind");
    over_packs(cuda, &to, "elementwise_add", &[Arg::from(from)]);
}

/// See `Backend::find_non_finite`.
pub fn find_non_finite(cuda: &Cuda, x: Ref<'_>) -> Option<usize> {
    let found = cuda.workspace(FOUND_WORDS)?;
    let found = found.view(0..FOUND_WORDS);
    cuda.queue.issue(Command::Clear { to: found.address, bytes: found.bytes() });
    let kernel = "elementwise_find_non_finite";
    let arguments = [found.into(), x.into(), Arg::count(x.len)];
    cuda.launch(x.element, kernel, blocks(cuda, x.element, kernel, x.len), &arguments);
    let mut words = [0.0; FOUND_WORDS];
    cuda.download(&mut words, found);
    if cuda.queue.has_failed() {
        return None;
    }
    let [low, high] = words.map(|word| u64::from(word.to_bits()));
    // How many elements from the first one on that is not finite.
    let rest = low | high << 32;
    (rest > 0).then(|| x.len - rest as usize)
}

/// See `Backend::activation_forward`.
pub fn activation_forward(cuda: &Cuda, y: Mut<'_>, x: Ref<'_>, activation: Activation) {
    over_packs(cuda, &y, "elementwise_activation_forward", &[x.into(), activation.into()]);
}

/// See `Backend::activation_backward`.
pub fn activation_backward(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dy: Ref<'_>,
    x: Ref<'_>,
    activation: Activation,
) {
    let arguments = [write.into(), dy.into(), x.into(), activation.into()];
    over_packs(cuda, &dx, "elementwise_activation_backward", &arguments);
}

/// See `Backend::activation_backward_in_place`.
pub fn activation_backward_in_place(cuda: &Cuda, dy: Mut<'_>, x: Ref<'_>, activation: Activation) {
    let arguments = [Arg::from(Write::Replace), Arg::from(&dy), x.into(), activation.into()];
    over_packs(cuda, &dy, "elementwise_activation_backward", &arguments);
}

/// See `Backend::residual_forward`.
pub fn residual_forward(cuda: &Cuda, y: Mut<'_>, x: Ref<'_>, branch: Ref<'_>) {
    over_packs(cuda, &y, "elementwise_residual_forward", &[x.into(), branch.into()]);
}

/// What shares a vector, as groups, rows and columns: all samples the same token's, or all tokens the same sample's.
fn repeated(repeat: Repeat, dims: TokenDims) -> [usize; 3] {
    match repeat {
        Repeat::OverBatch => [1, dims.batch, dims.tokens * dims.dim],
        Repeat::OverTokens => [dims.batch, dims.tokens, dims.dim],
    }
}

/// An array `[groups, rows, columns]` with a vector `[columns]` for each group.
struct Tiled {
    groups: usize,
    rows: usize,
    columns: usize,
    /// Rows of tiles, and columns of them, in a group.
    tiles: [usize; 2],
    /// Whether the kernel for few rows takes it.
    few: bool,
}

impl Tiled {
    /// `few`: for kernels of which there is one for few rows, too.
    fn new(cuda: &Cuda, element: Element, [groups, rows, columns]: [usize; 3], few: bool) -> Self {
        let few = few && rows <= cuda.constant(element, "elementwise_few_rows");
        let size = if few { "few" } else { "tile" };
        let [tile_rows, tile_columns] =
            ["rows", "columns"].map(|side| cuda.constant(element, &format!("elementwise_{size}_{side}")));
        Tiled {
            groups,
            rows,
            columns,
            tiles: [rows.div_ceil(tile_rows), columns.div_ceil(tile_columns)],
            few,
        }
    }

    /// Launches a kernel with a block a tile; the arguments are followed by rows and columns, and by where sums are made.
    fn launch(
        &self,
        cuda: &Cuda,
        element: Element,
        kernel: &str,
        arguments: &[Arg],
        sums: Option<SumsOverBlocks>,
    ) {
        let mut arguments = arguments.to_vec();
        arguments.extend([cuda.word(self.rows), cuda.word(self.columns)]);
        arguments.extend(sums.iter().flat_map(|sums| [sums.partials(), sums.counters()]));
        let [chunks, tiles] = self.tiles;
        cuda.launch(element, kernel, [self.groups * chunks * tiles, 1, 1], &arguments);
    }

    /// For sums over the rows of each tile.
    fn sums(&self, cuda: &Cuda, element: Element) -> Option<SumsOverBlocks> {
        let [chunks, tiles] = self.tiles;
        let [width, set] =
            ["elementwise_tile_columns", "elementwise_set"].map(|name| cuda.constant(element, name));
        SumsOverBlocks::new(cuda, self.groups * tiles, chunks, width, set)
    }
}

/// See `Backend::add_rows_forward`.
pub fn add_rows_forward(cuda: &Cuda, y: Mut<'_>, x: Ref<'_>, rows: Ref<'_>, repeat: Repeat, dims: TokenDims) {
    let tiled = Tiled::new(cuda, y.element, repeated(repeat, dims), true);
    let arguments = [Arg::from(&y), x.into(), rows.into()];
    let kernel = if tiled.few { "elementwise_add_rows_forward_few" } else { "elementwise_add_rows_forward" };
    tiled.launch(cuda, y.element, kernel, &arguments, None);
}

/// See `Backend::add_rows_backward`.
pub fn add_rows_backward(cuda: &Cuda, drows: Mut<'_>, dy: Ref<'_>, repeat: Repeat, dims: TokenDims) {
    let tiled = Tiled::new(cuda, dy.element, repeated(repeat, dims), true);
    let arguments = [Arg::from(&drows), dy.into()];
    if tiled.few {
        return tiled.launch(cuda, dy.element, "elementwise_add_rows_backward_few", &arguments, None);
    }
    let Some(sums) = tiled.sums(cuda, dy.element) else { return };
    tiled.launch(cuda, dy.element, "elementwise_add_rows_backward", &arguments, Some(sums));
}

/// See `Backend::gated_residual_forward`.
pub fn gated_residual_forward(
    cuda: &Cuda,
    y: Mut<'_>,
    x: Ref<'_>,
    branch: Ref<'_>,
    modulation: Ref<'_>,
    gate: Slots,
    dims: TokenDims,
) {
    let tiled = Tiled::new(cuda, y.element, repeated(Repeat::OverTokens, dims), false);
    let gates = slot(&modulation, gate, dims);
    let arguments =
        [Arg::from(&y), x.into(), branch.into(), Arg::from(&gates), cuda.word(gate.count * dims.dim)];
    tiled.launch(cuda, y.element, "elementwise_gated_residual_forward", &arguments, None);
}

/// See `Backend::gated_residual_backward`.
#[allow(clippy::too_many_arguments)]
pub fn gated_residual_backward(
    cuda: &Cuda,
    dbranch: Mut<'_>,
    dmodulation: Mut<'_>,
    dy: Ref<'_>,
    branch: Ref<'_>,
    modulation: Ref<'_>,
    gate: Slots,
    dims: TokenDims,
) {
    let tiled = Tiled::new(cuda, dy.element, repeated(Repeat::OverTokens, dims), false);
    let Some(sums) = tiled.sums(cuda, dy.element) else { return };
    let (gates, dgates) = (slot(&modulation, gate, dims), slot(&dmodulation, gate, dims));
    let arguments = [
        Arg::from(&dbranch),
        Arg::from(&dgates),
        dy.into(),
        branch.into(),
        Arg::from(&gates),
        cuda.word(gate.count * dims.dim),
    ];
    tiled.launch(cuda, dy.element, "elementwise_gated_residual_backward", &arguments, Some(sums));
}

/// The vectors of one slot of a modulation `[batch, slots, dim]`: the first sample's begins here, the next ones' follow
/// `slots.count * dim` elements apart.
pub(super) fn slot(modulation: &Span, slots: Slots, dims: TokenDims) -> Span {
    assert_eq!(modulation.element, Element::F32, "a modulation is f32 in every precision");
    let offset = slots.index * dims.dim;
    Span {
        address: modulation.address + (offset * Element::F32.bytes()) as u64,
        copy: None,
        len: modulation.len - offset,
        element: Element::F32,
    }
}

/// What a kernel needs that ends in `sum_over_blocks` (`kernels/common.cuh`).
pub(super) struct SumsOverBlocks {
    partials: Buffer,
    counters: Arg,
}

impl SumsOverBlocks {
    /// For `groups` groups of `blocks` blocks, each with `width` sums; `set` is the constant FAMILY_set. `None` when there
    /// is no memory for it, which is noted.
    pub(super) fn new(cuda: &Cuda, groups: usize, blocks: usize, width: usize, set: usize) -> Option<Self> {
        let sets = blocks.div_ceil(set);
        let partials = cuda.workspace(groups * (blocks + sets) * width)?;
        Some(SumsOverBlocks { partials, counters: cuda.counters(groups * (sets + 1)) })
    }

    pub(super) fn partials(&self) -> Arg {
        Arg::from(&self.partials)
    }

    pub(super) fn counters(&self) -> Arg {
        self.counters
    }
}
