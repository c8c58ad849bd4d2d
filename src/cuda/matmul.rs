//! matmul: which variant of a product runs, and into how many blocks it is cut; kernels in `kernels/matmul.cu`. Formulas:
//! `Backend`, section matmul.

use super::elementwise::SumsOverBlocks;
use super::memory::{Buffer, Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// What an address and a row's length are multiples of when rows are moved in packs.
const PACK_BYTES: usize = 16;
/// Blocks that a wide product, and any other, is cut into at least where the result has fewer tiles: what the 108
/// multiprocessors of an A100 run at a time. It is the same for every device, because the order of a sum follows from it.
const BLOCKS_WIDE: usize = 216;
/// See [`BLOCKS_WIDE`].
const BLOCKS_NARROW: usize = 432;
/// Blocks that a wide product is cut into at least; with fewer of them, smaller tiles keep more of a device busy. For sums in
/// the same order it has to be the same for every device, too.
const WIDE_LEAST: usize = BLOCKS_WIDE / 2;
/// Terms of a sum that one block takes at least.
const SPLIT_TERMS: usize = 128;

/// A kernel's variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// Tiles of `matmul_wide_side`.
    Wide,
    /// Tiles of `matmul_narrow_side`.
    Narrow,
    /// As narrow, for arrays that cannot be moved in packs.
    Unaligned,
}

impl Variant {
    fn kernel(self, name: &str) -> String {
        match self {
            Variant::Wide => format!("{name}_wide"),
            Variant::Narrow => name.to_string(),
            Variant::Unaligned => format!("{name}_unaligned"),
        }
    }

    fn side(self, cuda: &Cuda, element: Element) -> usize {
        cuda.constant(element, if self == Variant::Wide { "matmul_wide_side" } else { "matmul_narrow_side" })
    }

    /// Tiles of a result `[rows, columns]`.
    fn tiles(self, cuda: &Cuda, element: Element, rows: usize, columns: usize) -> usize {
        let side = self.side(cuda, element);
        rows.div_ceil(side).saturating_mul(columns.div_ceil(side))
    }
}

/// Whether rows of these lengths, in these arrays, can be moved in packs.
pub fn packs_fit(element: Element, lengths: &[usize], arrays: &[Arg]) -> bool {
    let pack = PACK_BYTES / element.bytes();
    let fits =
        |array: &Arg| !matches!(array, Arg::Wide(address) if !address.is_multiple_of(PACK_BYTES as u64));
    lengths.iter().all(|length| length.is_multiple_of(pack)) && arrays.iter().all(fits)
}

/// A product `[rows, columns]` of `terms` a sum: wide where there are many tiles, otherwise with tiles that are shared.
#[allow(clippy::too_many_arguments)]
fn launch_product(
    cuda: &Cuda,
    name: &str,
    element: Element,
    [rows, columns, terms]: [usize; 3],
    aligned: bool,
    arguments: &[Arg],
    dims: MatmulDims,
) {
    let tiles = |variant: Variant| variant.tiles(cuda, element, rows, columns);
    let variant = match aligned {
        true if tiles(Variant::Wide) >= WIDE_LEAST => Variant::Wide,
        true => Variant::Narrow,
        false => Variant::Unaligned,
    };
    let split = match variant {
        Variant::Wide => Split::none(tiles(variant)),
        _ => Split::new(tiles(variant), terms, BLOCKS_NARROW, cuda.constant(element, "matmul_split_group")),
    };
    let partial_len = cuda.constant(element, "matmul_narrow_partial");
    let Some((workspace, shared)) = split.arguments(cuda, partial_len, 0) else { return };
    let arguments = [arguments, &shared, &sizes(cuda, dims)].concat();
    cuda.launch(element, &variant.kernel(name), [split.blocks(), 1, 1], &arguments);
    drop(workspace);
}

/// Whether the kernels for few rows take it (`kernels/matmul_few.cuh`), which are f32 only.
fn few_rows(cuda: &Cuda, element: Element, aligned: bool, dims: MatmulDims) -> bool {
    element == Element::F32 && aligned && (1..=cuda.constant(element, "matmul_few_rows")).contains(&dims.rows)
}

/// A product with few rows: tiles are columns, and blocks share terms until a device is full.
fn launch_few(cuda: &Cuda, name: &str, [columns, terms]: [usize; 2], arguments: &[Arg], dims: MatmulDims) {
    let element = Element::F32;
    let [half, tile, set] =
        ["half", "columns", "set"].map(|constant| cuda.constant(element, &format!("matmul_few_{constant}")));
    let split = Split::new(columns.div_ceil(tile), terms, BLOCKS_WIDE, set);
    let sums = match split.splits {
        1 => None,
        splits => match SumsOverBlocks::new(cuda, split.tiles, splits, dims.rows * tile, set) {
            Some(sums) => Some(sums),
            None => return,
        },
    };
    let [partials, counters] =
        sums.as_ref().map_or([Arg::Wide(0), Arg::Wide(0)], |sums| [sums.partials(), sums.counters()]);
    let shared = [partials, counters, cuda.word(split.splits)];
    let arguments = [arguments, &shared, &sizes(cuda, dims)].concat();
    let kernel = format!("{name}_{}", if dims.rows <= half { "fewer" } else { "few" });
    cuda.launch(element, &kernel, [split.blocks(), 1, 1], &arguments);
}

fn sizes(cuda: &Cuda, dims: MatmulDims) -> [Arg; 3] {
    [cuda.word(dims.rows), cuda.word(dims.columns), cuda.word(dims.inner)]
}

/// See `Backend::matmul_forward`.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    cuda: &Cuda,
    y: Mut<'_>,
    pre: Option<Mut<'_>>,
    x: Ref<'_>,
    w: Ref<'_>,
    bias: Option<Ref<'_>>,
    activation: Activation,
    dims: MatmulDims,
) {
    let element = x.element;
    let arrays = [
        Arg::from(&y),
        Arg::optional(pre.as_deref()),
        x.into(),
        cuda.weights(w, element),
        Arg::optional(bias.as_deref()),
    ];
    let aligned = packs_fit(element, &[dims.columns, dims.inner], &arrays);
    let arguments = [&arrays[..], &[activation.into()]].concat();
    if few_rows(cuda, element, aligned, dims) {
        return launch_few(cuda, "matmul_forward", [dims.columns, dims.inner], &arguments, dims);
    }
    let shape = [dims.rows, dims.columns, dims.inner];
    launch_product(cuda, "matmul_forward", element, shape, aligned, &arguments, dims);
}

/// See `Backend::matmul_residual_forward`.
#[allow(clippy::too_many_arguments)]
pub fn residual_forward(
    cuda: &Cuda,
    y: Mut<'_>,
    h: Option<Mut<'_>>,
    x: Ref<'_>,
    w: Ref<'_>,
    bias: Ref<'_>,
    residual: Ref<'_>,
    gate: Option<Gate<Ref<'_>>>,
    dims: MatmulDims,
) {
    let element = x.element;
    let modulation = gate.map(|gate| gate.modulation);
    let arrays = [
        Arg::from(&y),
        Arg::optional(h.as_deref()),
        residual.into(),
        x.into(),
        cuda.weights(w, element),
        bias.into(),
        Arg::optional(modulation.as_deref()),
    ];
    let aligned = packs_fit(element, &[dims.columns, dims.inner], &arrays);
    let (slot, tokens) =
        gate.map_or((Slots { count: 1, index: 0 }, 1), |gate| (gate.slot, gate.tokens.max(1)));
    let slots = [cuda.word(slot.count), cuda.word(slot.index), cuda.word(tokens)];
    let arguments = [&arrays[..], &slots].concat();
    let shape = [dims.rows, dims.columns, dims.inner];
    launch_product(cuda, "matmul_residual_forward", element, shape, aligned, &arguments, dims);
}

/// See `Backend::matmul_backward_input`.
pub fn backward_input(cuda: &Cuda, dx: Mut<'_>, write: Write, dh: Ref<'_>, w: Ref<'_>, dims: MatmulDims) {
    launch_backward_input(cuda, dx, write, dh, w, None, Activation::Identity, dims);
}

/// See `Backend::matmul_backward_input_activated`.
pub fn backward_input_activated(
    cuda: &Cuda,
    dpre: Mut<'_>,
    dh: Ref<'_>,
    w: Ref<'_>,
    pre: Ref<'_>,
    activation: Activation,
    dims: MatmulDims,
) {
    launch_backward_input(cuda, dpre, Write::Replace, dh, w, Some(pre), activation, dims);
}

#[allow(clippy::too_many_arguments)]
fn launch_backward_input(
    cuda: &Cuda,
    dx: Mut<'_>,
    write: Write,
    dh: Ref<'_>,
    w: Ref<'_>,
    pre: Option<Ref<'_>>,
    activation: Activation,
    dims: MatmulDims,
) {
    let element = dh.element;
    let arrays = [Arg::from(&dx), dh.into(), cuda.weights(w, element), Arg::optional(pre.as_deref())];
    let aligned = packs_fit(element, &[dims.columns, dims.inner], &arrays);
    let arguments = [&arrays[..], &[activation.into(), write.into()]].concat();
    if few_rows(cuda, element, aligned, dims) {
        return launch_few(cuda, "matmul_backward_input", [dims.inner, dims.columns], &arguments, dims);
    }
    let shape = [dims.rows, dims.inner, dims.columns];
    launch_product(cuda, "matmul_backward_input", element, shape, aligned, &arguments, dims);
}

/// See `Backend::matmul_backward_weight`.
pub fn backward_weight(
    cuda: &Cuda,
    dw: Mut<'_>,
    dbias: Option<Mut<'_>>,
    dh: Ref<'_>,
    x: Ref<'_>,
    dims: MatmulDims,
) {
    let element = dh.element;
    let arrays = [Arg::from(&dw), Arg::optional(dbias.as_deref()), dh.into(), x.into()];
    let aligned = packs_fit(element, &[dims.columns, dims.inner], &arrays);
    if few_rows(cuda, element, aligned, dims) {
        let [rows, columns] =
            ["rows", "columns"].map(|side| cuda.constant(element, &format!("matmul_few_weight_{side}")));
        let tiles = dims.columns.div_ceil(rows) * dims.inner.div_ceil(columns);
        let arguments = [&arrays[..], &sizes(cuda, dims)].concat();
        return cuda.launch(element, "matmul_backward_weight_few", [tiles, 1, 1], &arguments);
    }
    let tiles = |variant: Variant| variant.tiles(cuda, element, dims.columns, dims.inner);
    let most = dims.rows.div_ceil(SPLIT_TERMS);
    let variant = match aligned {
        true if tiles(Variant::Wide).saturating_mul(most) >= WIDE_LEAST => Variant::Wide,
        true => Variant::Narrow,
        false => Variant::Unaligned,
    };
    let (blocks, partial) = match variant {
        Variant::Wide => (BLOCKS_WIDE, "matmul_wide_partial"),
        _ => (BLOCKS_NARROW, "matmul_narrow_partial"),
    };
    let group = cuda.constant(element, "matmul_split_group");
    let split = Split::new(tiles(variant), dims.rows, blocks, group);
    let Some((workspace, shared)) = split.arguments(cuda, cuda.constant(element, partial), 0) else { return };
    let arguments = [&arrays[..], &shared, &sizes(cuda, dims)].concat();
    cuda.launch(element, &variant.kernel("matmul_backward_weight"), [split.blocks(), 1, 1], &arguments);
    drop(workspace);
}

/// How many blocks share a tile of a sum over many terms (`Split` in `kernels/gemm.cuh`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    tiles: usize,
    splits: usize,
    groups: usize,
}

impl Split {
    /// Tiles that are not shared.
    pub fn none(tiles: usize) -> Split {
        Split { tiles, splits: 1, groups: 1 }
    }

    /// For so many tiles, terms of each sum, blocks that run at a time, and splits of a group.
    ///
    /// All blocks take the same time, so what counts is how often `blocks` of them have to run, and how long one runs.
    pub fn new(tiles: usize, terms: usize, blocks: usize, group: usize) -> Split {
        let most = terms.div_ceil(SPLIT_TERMS).min(2 * blocks.div_ceil(tiles.max(1))).max(1);
        let cost = |splits: usize| {
            let rounds = tiles.saturating_mul(splits).div_ceil(blocks);
            rounds.saturating_mul(terms.div_ceil(splits))
        };
        let splits = (1..=most).min_by_key(|&splits| cost(splits)).unwrap_or(1);
        Split { tiles, splits, groups: splits.div_ceil(group) }
    }

    /// Blocks of the launch; none when there is nothing to compute.
    pub fn blocks(self) -> usize {
        self.tiles.saturating_mul(self.splits)
    }

    /// The workspace, to be kept until the launch is on the stream, and the arguments `partial`, `counters`, `splits`;
    /// `partial_len` is that of a tile, `more` is how many counters the kernel needs beside those of the tiles.
    pub fn arguments(
        self,
        cuda: &Cuda,
        partial_len: usize,
        more: usize,
    ) -> Option<(Option<Buffer>, [Arg; 3])> {
        let (mut workspace, mut partial, mut counters) = (None, Arg::Wide(0), more);
        if self.splits > 1 {
            let buffer = cuda.workspace(self.blocks().saturating_mul(partial_len))?;
            partial = Arg::from(&buffer);
            workspace = Some(buffer);
        }
        counters += self.tiles.saturating_mul(self.groups + 1);
        let counters = if self.splits > 1 || more > 0 { cuda.counters(counters) } else { Arg::Wide(0) };
        Some((workspace, [partial, counters, cuda.word(self.splits)]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_shared_until_the_device_is_full_and_no_further() {
        let splits = |tiles, terms| Split::new(tiles, terms, BLOCKS_WIDE, 8).splits;
        assert_eq!(splits(4, 105_472), 54); // 216 blocks
        assert_eq!(splits(36, 32_768), 6); // 216 blocks
        assert_eq!(splits(144, 65_536), 3); // twice 216 instead of once 144
        assert_eq!(splits(1000, 65_536), 1);
        assert_eq!(splits(4, 100), 1); // nothing to share
        assert_eq!(Split::new(0, 100, BLOCKS_WIDE, 8).blocks(), 0);
    }
}
