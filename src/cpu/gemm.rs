//! Matrix products: `c = a b` and `c += a b` on strided views, on one thread or on all. b is packed once and shared
//! by all threads; a is read where it lies, or copied a tile at a time by the task that needs it where its columns are what is
//! contiguous. Into how many tiles c is cut depends on the number of threads, but no number of c does: how its sum is cut
//! depends on the shape only.

use rayon::prelude::*;

use super::microkernel::{Block, chosen, multiply, pack_columns};
use super::scratch::with_scratch;
use crate::backend::{MatmulDims, Write};

/// A read-only strided view: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// From the view's first element on.
    pub data: &'a [f32],
    /// Distance between vertical neighbours.
    pub row_stride: usize,
    /// Distance between horizontal neighbours.
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows `row_stride` apart, each contiguous.
    pub fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self { data, row_stride, column_stride: 1 }
    }

    /// The same memory with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self { data: self.data, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    /// The view whose first element is (row, column) of this one.
    pub fn from(self, row: usize, column: usize) -> Self {
        let first = row * self.row_stride + column * self.column_stride;
        Self { data: &self.data[first.min(self.data.len())..], ..self }
    }
}

/// A right operand `[inner, columns]` packed for the microkernel: panels of as many columns as it has.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    panels: &'a [f32],
    /// Distance between panels.
    stride: usize,
    /// Rows of b.
    pub inner: usize,
    /// Columns of b.
    pub columns: usize,
}

/// Columns of b that are packed together, at least.
const PACK_COLUMNS: usize = 64;

/// Floats that a packed `[inner, columns]` matrix takes.
pub fn packed_len(inner: usize, columns: usize) -> usize {
    inner * columns.next_multiple_of(chosen().columns)
}

impl<'a> Packed<'a> {
    /// Packs b `[inner, columns]` into `to`, `packed_len` floats, on the calling thread.
    pub fn pack(to: &'a mut [f32], b: Matrix, inner: usize, columns: usize) -> Self {
        let width = chosen().columns;
        pack_columns(width, to, b, columns, inner);
        Self { panels: to, stride: inner * width, inner, columns }
    }

    /// As `pack`, on all threads.
    fn pack_parallel(to: &'a mut [f32], b: Matrix, inner: usize, columns: usize) -> Self {
        let width = chosen().columns;
        // The rows of several panels are read in one piece where they are contiguous.
        let task = PACK_COLUMNS.next_multiple_of(width);
        to.par_chunks_mut((inner * task).max(1)).enumerate().for_each(|(i, panels)| {
            pack_columns(width, panels, b.from(0, i * task), task.min(columns - i * task), inner);
        });
        Self { panels: to, stride: inner * width, inner, columns }
    }

    /// Rows `first .. first + count`.
    pub fn rows(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.inner, "rows that b does not have");
        Self { panels: &self.panels[first * chosen().columns..], inner: count, ..self }
    }

    /// Columns `first .. first + count`; `first` is a multiple of the microkernel's columns.
    pub fn columns(self, first: usize, count: usize) -> Self {
        let width = chosen().columns;
        assert!(first.is_multiple_of(width) && first + count <= self.columns, "columns that b does not have");
        Self { panels: &self.panels[first / width * self.stride..], columns: count, ..self }
    }
}

/// Depth of a block of the sum, at most: the rows of a that a microkernel takes lie in a first-level cache with that many terms, and
/// leave room for b to pass by.
const DEPTH: usize = 256;
/// Rows of c that are computed together, at most: their part of a takes a fifth of a second-level cache. A multiple of the
/// rows of every microkernel.
const TILE_ROWS: usize = 96;

/// `c = a b` or `c += a b` on the calling thread; c `[rows, b's columns]` with rows `c_stride` apart,
/// a `[rows, b's inner]`.
pub fn serial_packed(c: &mut [f32], c_stride: usize, write: Write, a: Matrix, b: Packed, rows: usize) {
    let Packed { inner, columns, .. } = b;
    if rows == 0 || columns == 0 {
        return;
    }
    let is_copied = a.column_stride != 1 && inner > 0;
    let tile_rows = TILE_ROWS.min(rows);
    let stride = copy_stride(tile_rows);
    with_scratch(if is_copied { stride * DEPTH.min(inner) } else { 0 }, |copy| {
        for row in (0..rows).step_by(tile_rows) {
            let rows = tile_rows.min(rows - row);
            let mut tile = Block { data: &mut c[row * c_stride..], stride: c_stride, rows, columns };
            // At least once: a sum of nothing is 0.
            for k in (0..inner.max(1)).step_by(DEPTH) {
                let depth = DEPTH.min(inner - k);
                let a = a.from(row, k);
                let a = if is_copied { copy_columns(copy, stride, a, rows, depth) } else { a };
                let write = if k == 0 { write } else { Write::Add };
                multiply(chosen(), &mut tile, write, a, b.rows(k, depth).panels, b.stride, depth);
            }
        }
    });
}

/// Floats between the columns of a copied tile: an odd number of cache lines, so that the columns fall on all sets of the
/// cache.
fn copy_stride(rows: usize) -> usize {
    const LINE: usize = 16;
    (rows.div_ceil(LINE) | 1) * LINE
}

/// The first rows and columns of a, copied column by column.
fn copy_columns<'a>(to: &'a mut [f32], stride: usize, a: Matrix, rows: usize, columns: usize) -> Matrix<'a> {
    for (k, to) in to.chunks_exact_mut(stride).enumerate().take(columns) {
        let column = &a.data[k * a.column_stride..];
        if a.row_stride == 1 {
            to[..rows].copy_from_slice(&column[..rows]);
        } else {
            to.iter_mut().take(rows).enumerate().for_each(|(i, to)| *to = column[i * a.row_stride]);
        }
    }
    Matrix { data: to, row_stride: 1, column_stride: stride }
}

/// As [`serial_packed`], with b `[inner, columns]` not yet packed.
pub fn serial(c: &mut [f32], c_stride: usize, write: Write, a: Matrix, b: Matrix, dims: MatmulDims) {
    with_scratch(packed_len(dims.inner, dims.columns), |packed| {
        let b = Packed::pack(packed, b, dims.inner, dims.columns);
        serial_packed(c, c_stride, write, a, b, dims.rows);
    });
}

/// Calls `work` with b `[inner, columns]`, packed on all threads.
pub fn with_packed<R>(b: Matrix, inner: usize, columns: usize, work: impl FnOnce(Packed) -> R) -> R {
    with_scratch(packed_len(inner, columns), |packed| work(Packed::pack_parallel(packed, b, inner, columns)))
}

/// `c = a b` or `c += a b` on all threads, c dense.
pub fn parallel(c: &mut [f32], write: Write, a: Matrix, b: Matrix, dims: MatmulDims) {
    parallel_with(c, (), write, a, b, dims, |_, _, ()| ());
}

/// As [`parallel`]; each tile of rows goes through `epilogue` while it is still in the cache, with the number of its first row
/// and the same rows of `beside`: an array as large as c, or ().
pub fn parallel_with<T: RowTiles>(
    c: &mut [f32],
    beside: T,
    write: Write,
    a: Matrix,
    b: Matrix,
    dims: MatmulDims,
    epilogue: impl Fn(usize, &mut [f32], T::Tile) + Sync,
) {
    if dims.columns == 0 {
        return;
    }
    with_packed(b, dims.inner, dims.columns, |b| {
        let tile_rows = tile_rows(dims.rows);
        let tile_len = tile_rows * dims.columns;
        let tiles = c.par_chunks_mut(tile_len).zip(beside.tiles(tile_len));
        tiles.enumerate().for_each(|(i, (tile, beside))| {
            let rows = tile.len() / dims.columns;
            serial_packed(tile, dims.columns, write, a.from(i * tile_rows, 0), b, rows);
            epilogue(i * tile_rows, tile, beside);
        });
    });
}

/// Rows of a tile that leave all threads the same work: where there are few tiles, a multiple of the threads.
fn tile_rows(rows: usize) -> usize {
    let (threads, tiles) = (rayon::current_num_threads(), rows.div_ceil(TILE_ROWS).max(1));
    if tiles >= 8 * threads {
        return TILE_ROWS;
    }
    rows.div_ceil(tiles.next_multiple_of(threads)).next_multiple_of(chosen().rows).clamp(1, TILE_ROWS)
}

/// What can be cut into the same tiles as an output.
pub trait RowTiles {
    /// A piece.
    type Tile: Send;
    /// Consecutive pieces of `len` elements, the last one shorter.
    fn tiles(self, len: usize) -> impl IndexedParallelIterator<Item = Self::Tile>;
}

impl RowTiles for () {
    type Tile = ();

    fn tiles(self, _len: usize) -> impl IndexedParallelIterator<Item = ()> {
        rayon::iter::repeat_n((), usize::MAX)
    }
}

impl<'a> RowTiles for &'a mut [f32] {
    type Tile = &'a mut [f32];

    fn tiles(self, len: usize) -> impl IndexedParallelIterator<Item = &'a mut [f32]> {
        self.par_chunks_mut(len)
    }
}

/// Terms of a sum that are worth a partial result of their own.
const MIN_SPLIT: usize = 256;
/// Tasks that keep the threads of a large machine busy.
const TASKS: usize = 16;

/// `c += a b` on all threads for long sums: besides the rows of c, the sum too is cut into a number of pieces that
/// depends on the dimensions only; the partial results are added in order.
pub fn parallel_split(c: &mut [f32], a: Matrix, b: Matrix, dims: MatmulDims) {
    let tiles = dims.rows.div_ceil(TILE_ROWS);
    let pieces = TASKS.div_ceil(tiles.max(1)).min(dims.inner / MIN_SPLIT);
    if pieces <= 1 || c.is_empty() {
        return parallel(c, Write::Add, a, b, dims);
    }
    let piece = dims.inner.div_ceil(pieces).next_multiple_of(DEPTH);
    let pieces = dims.inner.div_ceil(piece);
    with_packed(b, dims.inner, dims.columns, |b| {
        with_scratch(pieces * c.len(), |partial| {
            partial.par_chunks_mut(c.len()).enumerate().for_each(|(i, partial)| {
                let first = i * piece;
                let (a, b) = (a.from(0, first), b.rows(first, piece.min(dims.inner - first)));
                let tiles = partial.par_chunks_mut(TILE_ROWS * dims.columns).enumerate();
                tiles.for_each(|(j, tile)| {
                    let rows = tile.len() / dims.columns;
                    serial_packed(tile, dims.columns, Write::Replace, a.from(j * TILE_ROWS, 0), b, rows);
                });
            });
            add_in_order(c, partial);
        });
    });
}

/// Elements that one task adds.
const ADD_CHUNK: usize = 4096;

/// `to += sum of the consecutive arrays of the same length in partial`, in their order.
pub fn add_in_order(to: &mut [f32], partial: &[f32]) {
    let len = to.len();
    to.par_chunks_mut(ADD_CHUNK).enumerate().for_each(|(i, to)| {
        let first = i * ADD_CHUNK;
        for array in partial.chunks_exact(len) {
            for (to, from) in to.iter_mut().zip(&array[first..]) {
                *to += from;
            }
        }
    });
}
