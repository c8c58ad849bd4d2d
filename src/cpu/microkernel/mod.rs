//! The innermost product: a few rows of c by a few vectors, kept in registers while a and b pass by (Goto and van de
//! Geijn 2008, section 4). One kernel an instruction set, chosen when the program starts; each also for fewer rows than
//! its registers hold, so that nothing is computed that nobody wants.
//!
//! b comes packed in panels (`pack`), because every row of a meets it again; a is read where it lies. A few rows of a stay in the
//! first-level cache while a block of b's panels passes by, out of the second-level cache. Each number of c is
//! one chain of multiply-adds in the order of the sum, whatever the kernel: all that fuse them give the same bits.

#![expect(unsafe_code, reason = "vector registers are filled through pointers")]

#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;
use std::sync::OnceLock;

use super::gemm::Matrix;
use crate::backend::Write;

pub use pack::pack_columns;

/// Environment variable that asks for a kernel by name: to compare them, or where one gives trouble. A name that this machine
/// does not have changes nothing; the device's name says which kernel is used.
pub const CHOICE: &str = "DIT_ENGINE_MICROKERNEL";

/// A block of c: rows `stride` apart.
pub struct Block<'a> {
    /// From the block's first element on.
    pub data: &'a mut [f32],
    /// Distance between vertical neighbours.
    pub stride: usize,
    /// Rows of the block.
    pub rows: usize,
    /// Columns of the block.
    pub columns: usize,
}

/// One instruction set's kernel.
#[derive(Debug)]
pub struct Microkernel {
    /// "AVX-512", ...
    pub name: &'static str,
    /// Rows of c that a call computes at most: at most [`MOST_ROWS`].
    pub rows: usize,
    /// Columns of c that a call computes, and width of b's panels: at most [`MOST_COLUMNS`].
    pub columns: usize,
    /// `tiles[r - 1]` computes r rows.
    tiles: &'static [Tile],
    is_available: fn() -> bool,
}

/// No kernel has more rows.
pub const MOST_ROWS: usize = 12;
/// No kernel has more columns.
pub const MOST_COLUMNS: usize = 32;

/// Writes a tile of c. The machine has the kernel's instructions; the pointers of the [`Call`] are valid.
type Tile = unsafe fn(&Call);

/// `c[i, j] = sum over k of a[i, k] b[k, j]`, or adds that; b is a panel.
struct Call {
    c: *mut f32,
    c_stride: usize,
    adds: bool,
    a: *const f32,
    a_row: usize,
    a_column: usize,
    b: *const f32,
    inner: usize,
}

/// All kernels for this architecture, best first.
static KERNELS: &[Microkernel] = &[
    #[cfg(target_arch = "x86_64")]
    x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    x86::AVX2,
    #[cfg(target_arch = "aarch64")]
    neon::NEON,
    portable::PORTABLE,
];

/// The kernels that this machine can run, best first.
pub fn available() -> impl Iterator<Item = &'static Microkernel> {
    KERNELS.iter().filter(|kernel| (kernel.is_available)())
}

/// The kernel that all products use: the best one, or the one that [`CHOICE`] names.
#[inline]
pub fn chosen() -> &'static Microkernel {
    static CHOSEN: OnceLock<&Microkernel> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let wanted = std::env::var(CHOICE).unwrap_or_default();
        let named = available().find(|kernel| kernel.name.eq_ignore_ascii_case(&wanted));
        named.or_else(|| available().next()).unwrap_or(&portable::PORTABLE)
    })
}

/// Columns of b that pass by a few rows of a, which stay in the first-level cache, before the next rows come: with 256 terms half of
/// a second-level cache. A multiple of every kernel's columns.
const BLOCK_COLUMNS: usize = 576;

/// Rows that are a multiple of so many floats apart, 4 KiB, fall on the same lines of a first-level cache of [`CACHE_WAYS`] ways:
/// more of them than it has ways drive each other out.
const CACHE_PERIOD: usize = 1024;
/// Of a first-level cache of 32 KiB, as most have.
const CACHE_WAYS: usize = 8;

/// `c = a b` or `c += a b`; a `[c.rows, inner]`, b in panels of `kernel.columns` columns that begin `b_stride` apart and are
/// `inner` deep.
///
/// # Panics
/// If an operand is too short for that.
pub fn multiply(
    kernel: &Microkernel,
    c: &mut Block,
    write: Write,
    a: Matrix,
    b: &[f32],
    b_stride: usize,
    inner: usize,
) {
    if c.rows == 0 || c.columns == 0 {
        return;
    }
    assert!((kernel.is_available)(), "this machine lacks the instructions of {}", kernel.name);
    assert!(c.data.len() >= (c.rows - 1) * c.stride + c.columns, "c is too short");
    let last = (c.rows - 1) * a.row_stride + inner.saturating_sub(1) * a.column_stride;
    assert!(inner == 0 || last < a.data.len(), "a is too short");
    let panels = c.columns.div_ceil(kernel.columns);
    assert!(b.len() >= (panels - 1) * b_stride + inner * kernel.columns, "b is too short");
    let block = BLOCK_COLUMNS / kernel.columns;
    let collide = a.column_stride == 1 && a.row_stride.is_multiple_of(CACHE_PERIOD);
    let most_rows = if collide { kernel.rows.min(CACHE_WAYS) } else { kernel.rows };
    for first in (0..panels).step_by(block) {
        for row in (0..c.rows).step_by(most_rows) {
            let rows = row..c.rows.min(row + most_rows);
            for panel in first..panels.min(first + block) {
                tile(kernel, c, write, a, (&b[panel * b_stride..], panel), rows.clone(), inner);
            }
        }
    }
}

/// One tile of `multiply`, these rows of the columns of a panel: its numbers, and which it is.
#[inline(always)]
fn tile(
    kernel: &Microkernel,
    c: &mut Block,
    write: Write,
    a: Matrix,
    (panel, number): (&[f32], usize),
    rows: Range<usize>,
    inner: usize,
) {
    let (row, rows, column) = (rows.start, rows.len(), number * kernel.columns);
    let columns = kernel.columns.min(c.columns - column);
    let first = row * c.stride + column;
    let call = Call {
        c: c.data[first..].as_mut_ptr(),
        c_stride: c.stride,
        adds: write == Write::Add,
        a: a.from(row, 0).data.as_ptr(),
        a_row: a.row_stride,
        a_column: a.column_stride,
        b: panel.as_ptr(),
        inner,
    };
    let tile = kernel.tiles[rows - 1];
    if columns == kernel.columns {
        // SAFETY: `multiply` has checked the operands; rows and columns from (row, column) on lie inside c.
        unsafe { tile(&call) };
    } else {
        let mut whole = [0.0_f32; MOST_ROWS * MOST_COLUMNS];
        let call = Call { c: whole.as_mut_ptr(), c_stride: kernel.columns, adds: false, ..call };
        // SAFETY: as above, and `whole` holds any kernel's tile.
        unsafe { tile(&call) };
        for (i, from) in whole.chunks_exact(kernel.columns).enumerate().take(rows) {
            store(&mut c.data[first + i * c.stride..][..columns], write, from);
        }
    }
}

fn store(to: &mut [f32], write: Write, from: &[f32]) {
    match write {
        Write::Replace => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        Write::Add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(i: usize) -> f32 {
        (i as f32 * 0.7).sin()
    }

    /// Every kernel of this machine, every number of rows, whole and cut panels, a by rows and by columns.
    #[test]
    fn every_kernel_multiplies() {
        for kernel in available() {
            let inner = 29;
            for rows in 1..=2 * kernel.rows + 1 {
                for columns in [1, kernel.columns - 1, kernel.columns, kernel.columns + 5] {
                    for by_rows in [true, false] {
                        check(kernel, rows, columns, inner, by_rows);
                    }
                }
            }
            check(kernel, 3, 5, 0, true);
            check(kernel, 2 * kernel.rows + 1, 5, CACHE_PERIOD, true);
            // More than one block of columns, the last one with a cut panel.
            check(kernel, kernel.rows + 1, 2 * BLOCK_COLUMNS + kernel.columns + 5, inner, true);
        }
    }

    fn check(kernel: &Microkernel, rows: usize, columns: usize, inner: usize, by_rows: bool) {
        // Room for as many numbers as are needed, so that one too far is noticed.
        let a: Vec<f32> = (0..rows * inner).map(number).collect();
        let b: Vec<f32> = (0..inner * columns).map(|i| number(i + 7)).collect();
        let a = if by_rows { Matrix::rows(&a, inner.max(1)) } else { Matrix::rows(&a, rows).transposed() };
        let mut packed = vec![f32::NAN; inner * columns.next_multiple_of(kernel.columns)];
        pack_columns(kernel.columns, &mut packed, Matrix::rows(&b, columns), columns, inner);
        let stride = columns + 3;
        for write in [Write::Add, Write::Replace] {
            let mut c = vec![1.0_f32; (rows - 1) * stride + columns];
            let mut block = Block { data: &mut c, stride, rows, columns };
            multiply(kernel, &mut block, write, a, &packed, inner * kernel.columns, inner);
            for (i, c) in c.iter().enumerate() {
                let (row, column) = (i / stride, i % stride);
                let product = |k: usize| {
                    let a = a.data[row * a.row_stride + k * a.column_stride];
                    f64::from(a) * f64::from(b[k * columns + column])
                };
                let before = if write == Write::Add { 1.0 } else { 0.0 };
                let want = if column < columns { before + (0..inner).map(product).sum::<f64>() } else { 1.0 };
                let error = (f64::from(*c) - want).abs();
                assert!(
                    error < 1e-5,
                    "{}: {rows} x {columns}, ({row}, {column}): {c}, not {want}",
                    kernel.name
                );
            }
        }
    }

    #[test]
    fn panels_hold_what_lies_in_b() {
        for kernel in KERNELS {
            let width = kernel.columns;
            for (columns, inner) in [(1, 1), (width, 16), (3 * width, 48), (width + 3, 32), (2 * width, 19)] {
                let (panels, space) = (columns.div_ceil(kernel.columns), 5);
                for by_rows in [true, false] {
                    // Rows of x and of its transpose are apart by more than their length.
                    let stride = if by_rows { columns } else { inner } + space;
                    let x: Vec<f32> = (0..columns.max(inner) * stride).map(number).collect();
                    let b = Matrix::rows(&x, stride);
                    let b = if by_rows { b } else { b.transposed() };
                    let mut to = vec![f32::NAN; panels * kernel.columns * inner + 1];
                    pack_columns(
                        kernel.columns,
                        &mut to[..panels * kernel.columns * inner],
                        b,
                        columns,
                        inner,
                    );
                    for (i, packed) in to[..panels * kernel.columns * inner].iter().enumerate() {
                        let (panel, rest) = (i / (kernel.columns * inner), i % (kernel.columns * inner));
                        let (k, column) =
                            (rest / kernel.columns, panel * kernel.columns + rest % kernel.columns);
                        let want = if column < columns { b.from(k, column).data[0] } else { 0.0 };
                        assert_eq!(*packed, want, "{} {columns} x {inner}: ({k}, {column})", kernel.name);
                    }
                    assert!(to[panels * kernel.columns * inner].is_nan());
                }
            }
        }
    }

    #[test]
    fn kernels_that_fuse_give_the_same_bits() {
        let (rows, columns, inner) = (13, 37, 301);
        let a: Vec<f32> = (0..rows * inner).map(number).collect();
        let b: Vec<f32> = (0..inner * columns).map(|i| number(i + 7)).collect();
        let mut results = available().filter(|kernel| kernel.name != "portable").map(|kernel| {
            let mut packed = vec![f32::NAN; inner * columns.next_multiple_of(kernel.columns)];
            pack_columns(kernel.columns, &mut packed, Matrix::rows(&b, columns), columns, inner);
            let mut c = vec![0.0_f32; rows * columns];
            let mut block = Block { data: &mut c, stride: columns, rows, columns };
            let a = Matrix::rows(&a, inner);
            multiply(kernel, &mut block, Write::Replace, a, &packed, inner * kernel.columns, inner);
            c.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
        if let Some(first) = results.next() {
            assert!(results.all(|other| other == first));
        }
    }

    #[test]
    #[should_panic(expected = "a is too short")]
    fn a_product_past_its_operand_is_refused() {
        let kernel = chosen();
        let (mut c, b) = ([0.0; 4], vec![0.0; 2 * kernel.columns]);
        let mut block = Block { data: &mut c, stride: 2, rows: 2, columns: 2 };
        multiply(kernel, &mut block, Write::Replace, Matrix::rows(&[0.0; 3], 2), &b, 2 * kernel.columns, 2);
    }
}
