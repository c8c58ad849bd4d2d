//! patch: which variant runs, and into how many blocks it is cut; kernels in `kernels/patch.cu`. Formulas: `Backend`,
//! section patch.

use super::matmul::{Split, packs_fit};
use super::memory::{Element, Mut, Ref};
use super::{Arg, Cuda};
use crate::backend::*;

/// Pixels that a patch's width is a multiple of when they are moved in packs.
const PACK_PIXELS: usize = 4;
/// Blocks that the gradient of the weight is cut into: what the 108 multiprocessors of an A100 run at a time, the same for
/// every device, because the order of a sum follows from it.
const BLOCKS: usize = 432;

/// Launches the variant of a kernel that the sizes and these arrays allow. The arguments end with the dimensions.
fn launch(cuda: &Cuda, name: &str, element: Element, blocks: usize, arguments: &[Arg], dims: PatchDims) {
    let aligned = dims.patch_width.is_multiple_of(PACK_PIXELS)
        && packs_fit(element, &[dims.dim, dims.patch_len()], arguments);
    let name = if aligned { name.to_string() } else { format!("{name}_unaligned") };
    let sizes =
        [dims.batch, dims.channels, dims.height, dims.width, dims.patch_height, dims.patch_width, dims.dim]
            .map(|size| cuda.word(size));
    // Rows of tokens are counted in 32 bits, too.
    cuda.word(dims.batch.saturating_mul(dims.tokens()));
    cuda.launch(element, &name, [blocks, 1, 1], &[arguments, &sizes].concat());
}

/// Tiles of a result `[rows, columns]`.
fn tiles(cuda: &Cuda, element: Element, rows: usize, columns: usize) -> usize {
    let side = cuda.constant(element, "patch_tile");
    rows.div_ceil(side).saturating_mul(columns.div_ceil(side))
}

fn tokens_of_all(dims: PatchDims) -> usize {
    dims.batch * dims.tokens()
}

/// See `Backend::patch_embed_forward`.
pub fn embed_forward(
    cuda: &Cuda,
    tokens: Mut<'_>,
    image: Ref<'_>,
    weight: Ref<'_>,
    bias: Ref<'_>,
    dims: PatchDims,
) {
    embed_rows_forward(cuda, tokens, image, weight, bias, AddedRows { position: None, sample: None }, dims);
}

/// See `Backend::patch_embed_rows_forward`.
pub fn embed_rows_forward(
    cuda: &Cuda,
    tokens: Mut<'_>,
    image: Ref<'_>,
    weight: Ref<'_>,
    bias: Ref<'_>,
    rows: AddedRows<Ref<'_>>,
    dims: PatchDims,
) {
    let element = tokens.element;
    let arguments = [
        Arg::from(&tokens),
        image.into(),
        cuda.weights(weight, element),
        bias.into(),
        Arg::optional(rows.position.as_deref()),
        Arg::optional(rows.sample.as_deref()),
    ];
    let blocks = tiles(cuda, element, tokens_of_all(dims), dims.dim);
    launch(cuda, "patch_embed_forward", element, blocks, &arguments, dims);
}

/// See `Backend::patch_embed_backward_weight`.
pub fn embed_backward_weight(
    cuda: &Cuda,
    dweight: Mut<'_>,
    dbias: Mut<'_>,
    dtokens: Ref<'_>,
    image: Ref<'_>,
    dims: PatchDims,
) {
    let element = dtokens.element;
    let split = split(cuda, element, dims);
    let partial_len = cuda.constant(element, "patch_partial");
    let Some((workspace, shared)) = split.arguments(cuda, partial_len, 0) else { return };
    let arrays = [Arg::from(&dweight), Arg::from(&dbias), dtokens.into(), image.into()];
    let arguments = [&arrays[..], &shared].concat();
    launch(cuda, "patch_embed_backward_weight", element, split.blocks(), &arguments, dims);
    drop(workspace);
}

/// See `Backend::patch_embed_backward_input`.
pub fn embed_backward_input(
    cuda: &Cuda,
    dimage: Mut<'_>,
    write: Write,
    dtokens: Ref<'_>,
    weight: Ref<'_>,
    dims: PatchDims,
) {
    let element = dtokens.element;
    let arguments = [Arg::from(&dimage), write.into(), dtokens.into(), cuda.weights(weight, element)];
    let blocks = tiles(cuda, element, tokens_of_all(dims), dims.patch_len());
    launch(cuda, "patch_embed_backward_input", element, blocks, &arguments, dims);
}

/// See `Backend::patch_deembed_forward`.
pub fn deembed_forward(
    cuda: &Cuda,
    image: Mut<'_>,
    tokens: Ref<'_>,
    weight: Ref<'_>,
    bias: Ref<'_>,
    dims: PatchDims,
) {
    let element = tokens.element;
    let arguments = [Arg::from(&image), tokens.into(), cuda.weights(weight, element), bias.into()];
    let blocks = tiles(cuda, element, tokens_of_all(dims), dims.patch_len());
    launch(cuda, "patch_deembed_forward", element, blocks, &arguments, dims);
}

/// See `Backend::patch_deembed_backward_weight`.
pub fn deembed_backward_weight(
    cuda: &Cuda,
    dweight: Mut<'_>,
    dbias: Mut<'_>,
    dimage: Ref<'_>,
    tokens: Ref<'_>,
    dims: PatchDims,
) {
    let element = tokens.element;
    let split = split(cuda, element, dims);
    let partial_len = cuda.constant(element, "patch_partial");
    let Some((workspace, shared)) = split.arguments(cuda, partial_len, 1) else { return };
    let Some(element_sums) = cuda.workspace(dims.patch_len()) else { return };
    let arrays =
        [Arg::from(&dweight), Arg::from(&dbias), dimage.into(), tokens.into(), Arg::from(&element_sums)];
    let arguments = [&arrays[..], &shared].concat();
    launch(cuda, "patch_deembed_backward_weight", element, split.blocks(), &arguments, dims);
    drop((workspace, element_sums));
}

/// See `Backend::patch_deembed_backward_input`.
pub fn deembed_backward_input(
    cuda: &Cuda,
    dtokens: Mut<'_>,
    write: Write,
    dimage: Ref<'_>,
    weight: Ref<'_>,
    dims: PatchDims,
) {
    let element = dtokens.element;
    let arguments = [Arg::from(&dtokens), write.into(), dimage.into(), cuda.weights(weight, element)];
    let blocks = tiles(cuda, element, tokens_of_all(dims), dims.dim);
    launch(cuda, "patch_deembed_backward_input", element, blocks, &arguments, dims);
}

/// How the tiles of a weight's gradient are shared.
fn split(cuda: &Cuda, element: Element, dims: PatchDims) -> Split {
    let tiles = tiles(cuda, element, dims.dim, dims.patch_len());
    Split::new(tiles, tokens_of_all(dims), BLOCKS, cuda.constant(element, "patch_split_group"))
}
