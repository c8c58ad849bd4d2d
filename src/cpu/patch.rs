//! Patch embedding and de-embedding. Both directions of both are products between tokens and patches:
//!
//! - gather: `tokens = patches w^T`, embed forward and de-embed backward to its tokens;
//! - scatter: `patches = tokens w`, de-embed forward and embed backward to its image;
//! - weight: `dw += tokens^T patches`.
//!
//! Patches are copied a small panel at a time, each into its thread's scratch; nothing of the size of im2col is
//! made.

use super::simd::vectorised;
use rayon::prelude::*;

use super::gemm::{Matrix, serial, serial_packed, with_packed};
use super::matmul::{add_bias, add_column_sums};
use super::pieces::{self, add_to};
use super::scratch::with_scratch;
use crate::backend::*;

/// Floats of a panel of patches: what half of a second-level cache holds.
const PANEL_LEN: usize = 1 << 16;
/// Tokens of a panel, at least and at most.
const PANEL_TOKENS: (usize, usize) = (48, 192);
/// Tasks that keep the threads of a large machine busy.
const TASKS: usize = 16;
/// Columns of the weight that one task of its gradient takes.
const WEIGHT_COLUMNS: usize = 256;

/// See `Backend::patch_embed_rows_forward`.
pub fn embed_forward(
    tokens: &mut [f32],
    image: &[f32],
    weight: &[f32],
    bias: &[f32],
    rows: AddedRows<&[f32]>,
    dims: PatchDims,
) {
    gather_product(
        tokens,
        Write::Replace,
        image,
        weight,
        #[inline(always)]
        |first, tile| add_bias_and_rows(tile, first, bias, rows, dims),
        dims,
    );
}

/// What is added to tokens, of which `first` is the number of the first.
#[inline(always)]
fn add_bias_and_rows(
    tokens: &mut [f32],
    first: usize,
    bias: &[f32],
    rows: AddedRows<&[f32]>,
    dims: PatchDims,
) {
    add_bias(tokens, Some(bias), dims.dim);
    for (i, token) in tokens.chunks_exact_mut(dims.dim).enumerate() {
        let (sample, place) = ((first + i) / dims.tokens(), (first + i) % dims.tokens());
        for (added, index) in [(rows.position, place), (rows.sample, sample)] {
            if let Some(added) = added {
                add_to(token, &added[index * dims.dim..][..dims.dim]);
            }
        }
    }
}

/// See `Backend::patch_embed_backward_weight`.
pub fn embed_backward_weight(
    dweight: &mut [f32],
    dbias: &mut [f32],
    dtokens: &[f32],
    image: &[f32],
    dims: PatchDims,
) {
    weight_product(dweight, dtokens, image, dims);
    add_column_sums(dbias, dtokens);
}

/// See `Backend::patch_embed_backward_input`.
pub fn embed_backward_input(
    dimage: &mut [f32],
    write: Write,
    dtokens: &[f32],
    weight: &[f32],
    dims: PatchDims,
) {
    scatter_product(dimage, write, dtokens, weight, None, dims);
}

/// See `Backend::patch_deembed_forward`.
pub fn deembed_forward(image: &mut [f32], tokens: &[f32], weight: &[f32], bias: &[f32], dims: PatchDims) {
    scatter_product(image, Write::Replace, tokens, weight, Some(bias), dims);
}

/// See `Backend::patch_deembed_backward_weight`.
pub fn deembed_backward_weight(
    dweight: &mut [f32],
    dbias: &mut [f32],
    dimage: &[f32],
    tokens: &[f32],
    dims: PatchDims,
) {
    weight_product(dweight, tokens, dimage, dims);
    let plane_len = dims.height * dims.width;
    if dimage.is_empty() {
        return;
    }
    // One sum a plane, then over the samples in order.
    let sums: Vec<f32> = dimage.par_chunks(plane_len).map(sum).collect();
    for sample in sums.chunks_exact(dims.channels) {
        for (dbias, sum) in dbias.iter_mut().zip(sample) {
            *dbias += sum;
        }
    }
}

/// See `Backend::patch_deembed_backward_input`.
pub fn deembed_backward_input(
    dtokens: &mut [f32],
    write: Write,
    dimage: &[f32],
    weight: &[f32],
    dims: PatchDims,
) {
    gather_product(dtokens, write, dimage, weight, |_, _| (), dims);
}

/// Terms that are summed in one go before their sum goes to the total: keeps the rounding error small.
const SUM_CHUNK: usize = 1024;
/// The sum of x, in a fixed order.
fn sum(x: &[f32]) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            let mut total = 0.0;
            for chunk in x.chunks(SUM_CHUNK) {
                total += pieces::sum(
                    chunk,
                    #[inline(always)]
                    |x| x,
                );
            }
            total
        },
    )
}

/// Tokens of a panel of patches with `columns` numbers each.
fn panel_tokens(columns: usize) -> usize {
    (PANEL_LEN / columns.max(1)).clamp(PANEL_TOKENS.0, PANEL_TOKENS.1)
}

/// `tokens = patches(image) weight^T`; each tile, with the number of its first token, goes through `epilogue`, which must be
/// `#[inline(always)]`.
fn gather_product(
    tokens: &mut [f32],
    write: Write,
    image: &[f32],
    weight: &[f32],
    epilogue: impl Fn(usize, &mut [f32]) + Sync,
    dims: PatchDims,
) {
    if tokens.is_empty() {
        return;
    }
    let patch_len = dims.patch_len();
    let panel = panel_tokens(patch_len);
    let weight_t = Matrix::rows(weight, patch_len).transposed();
    with_packed(weight_t, patch_len, dims.dim, |weight_t| {
        tokens.par_chunks_mut(panel * dims.dim).enumerate().for_each(|(i, tile)| {
            let rows = tile.len() / dims.dim;
            with_scratch(rows * patch_len, |patches| {
                gather(patches, image, i * panel, 0..patch_len, dims);
                serial_packed(tile, dims.dim, write, Matrix::rows(patches, patch_len), weight_t, rows);
            });
            vectorised(
                #[inline(always)]
                || epilogue(i * panel, tile),
            );
        });
    });
}

/// Part of the patches of consecutive tokens from `first_token` on (counted over all samples):
/// patches `[tokens, columns.len()]`, `columns` a range of the patch's elements.
fn gather(
    patches: &mut [f32],
    image: &[f32],
    first_token: usize,
    columns: std::ops::Range<usize>,
    dims: PatchDims,
) {
    let (width, area) = (dims.patch_width, dims.patch_height * dims.patch_width);
    for (i, patch) in patches.chunks_exact_mut(columns.len()).enumerate() {
        let (sample, token) = ((first_token + i) / dims.tokens(), (first_token + i) % dims.tokens());
        let (gy, gx) = (token / dims.grid_width(), token % dims.grid_width());
        let mut column = columns.start;
        let mut rest = patch;
        while !rest.is_empty() {
            // The rest of the patch's row that `column` lies in.
            let (channel, row, x) = (column / area, column % area / width, column % width);
            let (now, later) = rest.split_at_mut((width - x).min(rest.len()));
            let plane = sample * dims.channels + channel;
            let start = (plane * dims.height + gy * dims.patch_height + row) * dims.width + gx * width + x;
            now.copy_from_slice(&image[start..start + now.len()]);
            column += now.len();
            rest = later;
        }
    }
}

/// The image's rows that one row of patches covers, in one channel: `[patch_height, width]`, contiguous.
type Band<'a> = &'a mut [f32];

/// `patches(image) = tokens weight + bias[channel]`
fn scatter_product(
    image: &mut [f32],
    write: Write,
    tokens: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    dims: PatchDims,
) {
    if image.is_empty() {
        return;
    }
    let mut grid_rows = grid_rows(image, dims);
    let panel = panel_tokens(dims.patch_len());
    let rows_a_task = (panel / dims.grid_width()).max(1);
    with_packed(Matrix::rows(weight, dims.patch_len()), dims.dim, dims.patch_len(), |weight| {
        grid_rows.par_chunks_mut(rows_a_task).enumerate().for_each(|(i, grid_rows)| {
            let first = i * rows_a_task * dims.grid_width();
            let count = grid_rows.len() * dims.grid_width();
            // A row of patches that is longer than a panel is done in several.
            for start in (0..count).step_by(panel) {
                let rows = panel.min(count - start);
                with_scratch(rows * dims.patch_len(), |patches| {
                    let tokens = Matrix::rows(tokens, dims.dim).from(first + start, 0);
                    serial_packed(patches, dims.patch_len(), Write::Replace, tokens, weight, rows);
                    scatter(grid_rows, start, write, patches, bias, dims);
                });
            }
        });
    });
}

/// For each row of patches of each sample, its band in each channel.
fn grid_rows(image: &mut [f32], dims: PatchDims) -> Vec<Vec<Band<'_>>> {
    let mut rows = Vec::with_capacity(dims.batch * dims.grid_height());
    for sample in image.chunks_exact_mut(dims.channels * dims.height * dims.width) {
        let first = rows.len();
        rows.resize_with(first + dims.grid_height(), || Vec::with_capacity(dims.channels));
        for plane in sample.chunks_exact_mut(dims.height * dims.width) {
            let bands = plane.chunks_exact_mut(dims.patch_height * dims.width);
            for (row, band) in rows[first..].iter_mut().zip(bands) {
                row.push(band);
            }
        }
    }
    rows
}

/// Writes patches `[tokens, patch_len]` to their places; `first_token` counts from the first of the rows.
fn scatter(
    grid_rows: &mut [Vec<Band<'_>>],
    first_token: usize,
    write: Write,
    patches: &[f32],
    bias: Option<&[f32]>,
    dims: PatchDims,
) {
    let area = dims.patch_height * dims.patch_width;
    for (i, patch) in patches.chunks_exact(dims.patch_len()).enumerate() {
        let (gy, gx) = ((first_token + i) / dims.grid_width(), (first_token + i) % dims.grid_width());
        for (channel, patch) in patch.chunks_exact(area).enumerate() {
            let bias = bias.map_or(0.0, |bias| bias[channel]);
            let band = grid_rows[gy][channel].chunks_exact_mut(dims.width);
            for (from, band_row) in patch.chunks_exact(dims.patch_width).zip(band) {
                let to = &mut band_row[gx * dims.patch_width..][..dims.patch_width];
                match write {
                    Write::Replace => to.iter_mut().zip(from).for_each(|(to, from)| *to = from + bias),
                    Write::Add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from + bias),
                }
            }
        }
    }
}

/// `dweight += tokens^T patches(image)`; tokens `[rows, dim]`, dweight `[dim, patch_len]`.
///
/// Tasks are (piece of the tokens, block of the patch's elements); each has a partial result of its own, and the
/// pieces are added in order.
fn weight_product(dweight: &mut [f32], tokens: &[f32], image: &[f32], dims: PatchDims) {
    let patch_len = dims.patch_len();
    if dweight.is_empty() || tokens.is_empty() {
        return;
    }
    let count = dims.batch * dims.tokens();
    let block = WEIGHT_COLUMNS.min(patch_len);
    let blocks = patch_len.div_ceil(block);
    let panel = panel_tokens(block);
    let pieces = TASKS.div_ceil(blocks).min(count.div_ceil(panel));
    let piece = count.div_ceil(pieces);
    with_scratch(pieces * blocks * dims.dim * block, |partial| {
        partial.par_chunks_mut(dims.dim * block).enumerate().for_each(|(task, partial)| {
            let (i, first_column) = (task / blocks, task % blocks * block);
            let columns = first_column..(first_column + block).min(patch_len);
            let tokens_of_piece = i * piece..((i + 1) * piece).min(count);
            partial.fill(0.0);
            for first in tokens_of_piece.clone().step_by(panel) {
                let inner = panel.min(tokens_of_piece.end - first);
                let product = MatmulDims { rows: dims.dim, columns: columns.len(), inner };
                with_scratch(inner * columns.len(), |patches| {
                    gather(patches, image, first, columns.clone(), dims);
                    let tokens_t = Matrix::rows(tokens, dims.dim).from(first, 0).transposed();
                    serial(
                        partial,
                        block,
                        Write::Add,
                        tokens_t,
                        Matrix::rows(patches, columns.len()),
                        product,
                    );
                });
            }
        });
        add_partial_weights(dweight, partial, block, dims);
    });
}

/// `dweight [dim, patch_len] += partial [pieces, blocks, dim, block]`, pieces in order.
fn add_partial_weights(dweight: &mut [f32], partial: &[f32], block: usize, dims: PatchDims) {
    let patch_len = dims.patch_len();
    let piece_len = patch_len.div_ceil(block) * dims.dim * block;
    dweight.par_chunks_mut(patch_len).enumerate().for_each(|(d, row)| {
        for piece in partial.chunks_exact(piece_len) {
            for (j, to) in row.chunks_mut(block).enumerate() {
                let from = &piece[(j * dims.dim + d) * block..];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
            }
        }
    });
}
