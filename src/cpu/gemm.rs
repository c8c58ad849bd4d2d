//! Matrix products: `c = a b` and `c += a b` on strided views, on one thread or on all.

use rayon::prelude::*;

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

    /// Whether all of a `rows x columns` matrix lies inside the slice.
    fn holds(&self, rows: usize, columns: usize) -> bool {
        let last = (rows.max(1) - 1) * self.row_stride + (columns.max(1) - 1) * self.column_stride;
        rows == 0 || columns == 0 || last < self.data.len()
    }
}

/// `c = a b` or `c += a b` on the calling thread; c `[rows, columns]` with rows `c_stride` apart,
/// a `[rows, inner]`, b `[inner, columns]`.
#[expect(unsafe_code, reason = "matrixmultiply takes pointers")]
pub fn serial(c: &mut [f32], c_stride: usize, write: Write, a: Matrix, b: Matrix, dims: MatmulDims) {
    let MatmulDims { rows, columns, inner } = dims;
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(rows == 1 || c_stride >= columns, "rows of c overlap");
    assert!(Matrix::rows(c, c_stride).holds(rows, columns), "c is too short");
    assert!(a.holds(rows, inner), "a is too short");
    assert!(b.holds(inner, columns), "b is too short");
    let beta = if write == Write::Add { 1.0 } else { 0.0 };
    // SAFETY: `holds` was asserted for all three views, so every element that sgemm addresses with these
    // dimensions and strides lies inside its slice (slices are at most isize::MAX bytes, so the strides of
    // elements that are addressed fit isize; a stride that is never multiplied may be anything). c is a
    // unique borrow whose rows do not overlap (asserted), and a and b are shared borrows, so c aliases neither.
    unsafe {
        matrixmultiply::sgemm(
            rows,
            inner,
            columns,
            1.0,
            a.data.as_ptr(),
            a.row_stride as isize,
            a.column_stride as isize,
            b.data.as_ptr(),
            b.row_stride as isize,
            b.column_stride as isize,
            beta,
            c.as_mut_ptr(),
            c_stride as isize,
            1,
        );
    }
}

/// Rows of c that one task computes.
const TILE_ROWS: usize = 192;

/// `c = a b` or `c += a b` on all threads, c dense.
pub fn parallel(c: &mut [f32], write: Write, a: Matrix, b: Matrix, dims: MatmulDims) {
    parallel_with(c, (), write, a, b, dims, |_, ()| ());
}

/// As [`parallel`]; each tile of rows goes through `epilogue` while it is still in the cache, together with the
/// same rows of `beside`: an array as large as c, or ().
pub fn parallel_with<T: RowTiles>(
    c: &mut [f32],
    beside: T,
    write: Write,
    a: Matrix,
    b: Matrix,
    dims: MatmulDims,
    epilogue: impl Fn(&mut [f32], T::Tile) + Sync,
) {
    if dims.columns == 0 {
        return;
    }
    let tile_len = TILE_ROWS * dims.columns;
    let tiles = c.par_chunks_mut(tile_len).zip(beside.tiles(tile_len));
    tiles.enumerate().for_each(|(i, (tile, beside))| {
        let rows = tile.len() / dims.columns;
        serial(tile, dims.columns, write, a.from(i * TILE_ROWS, 0), b, MatmulDims { rows, ..dims });
        epilogue(tile, beside);
    });
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
    let pieces = TASKS.div_ceil(tiles.max(1)).min(dims.inner / MIN_SPLIT).max(1);
    if pieces == 1 || c.is_empty() {
        return parallel(c, Write::Add, a, b, dims);
    }
    let piece = dims.inner.div_ceil(pieces);
    with_scratch(pieces * c.len(), |partial| {
        partial.par_chunks_mut(c.len()).enumerate().for_each(|(i, partial)| {
            let inner = piece.min(dims.inner.saturating_sub(i * piece));
            let (a, b) = (a.from(0, i * piece), b.from(i * piece, 0));
            parallel(partial, Write::Replace, a, b, MatmulDims { inner, ..dims });
        });
        add_in_order(c, partial);
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
