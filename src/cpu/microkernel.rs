//! The innermost product, 6 x 16 numbers of c at a time, on operands packed into panels that are read from front
//! to back (loop order and packing: Goto and van de Geijn 2008). 6 x 16 f32 are twelve AVX2 registers; the
//! others hold b's row and one broadcast number of a. Plain loops over arrays of fixed size: the compiler keeps
//! them in registers.

use pulp::Arch;

use super::gemm::Matrix;
use super::simd::vectorised;
use crate::backend::Write;

/// Rows of c that a call of the microkernel computes.
pub const MR: usize = 6;
/// Columns of c that a call of the microkernel computes.
pub const NR: usize = 16;

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

/// `c = a b` or `c += a b` for packed operands: a in panels of [`MR`] rows, b in panels of [`NR`] columns; the panels
/// are `inner` deep, a's consecutive, b's `b_stride` apart.
pub fn multiply(c: &mut Block, write: Write, a: &[f32], b: &[f32], b_stride: usize, inner: usize) {
    match Arch::new() {
        // Without the instruction a fused multiply-add would be a call into the mathematical library.
        Arch::Scalar => multiply_panels::<false>(c, write, a, b, b_stride, inner),
        _ => vectorised(
            #[inline(always)]
            || multiply_panels::<true>(c, write, a, b, b_stride, inner),
        ),
    }
}

#[inline(always)]
fn multiply_panels<const FUSED: bool>(
    c: &mut Block,
    write: Write,
    a: &[f32],
    b: &[f32],
    b_stride: usize,
    inner: usize,
) {
    for column in (0..c.columns).step_by(NR) {
        // b's panel stays in the first-level cache while all of a passes by.
        let b = &b[column / NR * b_stride..][..inner * NR];
        for row in (0..c.rows).step_by(MR) {
            let a = &a[row * inner..][..inner * MR];
            store(c, write, row, column, &microkernel::<FUSED>(a, b));
        }
    }
}

/// The product of two panels.
#[inline(always)]
fn microkernel<const FUSED: bool>(a: &[f32], b: &[f32]) -> [[f32; NR]; MR] {
    let mut c = [[0.0; NR]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
        for i in 0..MR {
            for j in 0..NR {
                c[i][j] = if FUSED { a[i].mul_add(b[j], c[i][j]) } else { a[i] * b[j] + c[i][j] };
            }
        }
    }
    c
}

/// Writes what of a product lies inside c.
#[inline(always)]
fn store(c: &mut Block, write: Write, row: usize, column: usize, product: &[[f32; NR]; MR]) {
    let (rows, columns) = (MR.min(c.rows - row), NR.min(c.columns - column));
    let first = row * c.stride + column;
    if rows == MR && columns == NR {
        for (i, from) in product.iter().enumerate() {
            store_row(&mut c.data[first + i * c.stride..][..NR], write, from);
        }
    } else {
        for (i, from) in product.iter().enumerate().take(rows) {
            store_row(&mut c.data[first + i * c.stride..][..columns], write, from);
        }
    }
}

#[inline(always)]
fn store_row(to: &mut [f32], write: Write, from: &[f32; NR]) {
    match write {
        Write::Replace => to.iter_mut().zip(from).for_each(|(to, from)| *to = *from),
        Write::Add => to.iter_mut().zip(from).for_each(|(to, from)| *to += from),
    }
}

/// Packs a `[rows, inner]` into panels of [`MR`] rows; rows past the last are 0.
pub fn pack_a(to: &mut [f32], a: Matrix, rows: usize, inner: usize) {
    vectorised(
        #[inline(always)]
        || pack::<MR>(to, a, rows, inner),
    );
}

/// Packs b `[inner, columns]` into panels of [`NR`] columns; columns past the last are 0.
pub fn pack_b(to: &mut [f32], b: Matrix, columns: usize, inner: usize) {
    vectorised(
        #[inline(always)]
        || pack::<NR>(to, b.transposed(), columns, inner),
    );
}

/// Packs x `[count, inner]`: panel p holds `x[p WIDTH + i, k]` at `[k, i]`.
#[inline(always)]
fn pack<const WIDTH: usize>(to: &mut [f32], x: Matrix, count: usize, inner: usize) {
    let mut first = 0;
    if x.row_stride == 1 {
        // Memory order: what is contiguous goes to several panels.
        first = count / WIDTH * WIDTH;
        for k in 0..inner {
            let column = &x.data[k * x.column_stride..][..first];
            for (p, from) in column.as_chunks::<WIDTH>().0.iter().enumerate() {
                to[(p * inner + k) * WIDTH..][..WIDTH].copy_from_slice(from);
            }
        }
    }
    for row in (first..count).step_by(WIDTH) {
        let panel = &mut to[row * inner..][..inner * WIDTH];
        pack_panel::<WIDTH>(panel, x.from(row, 0), WIDTH.min(count - row));
    }
}

/// As `pack`, for one panel of `count <= WIDTH`.
#[inline(always)]
fn pack_panel<const WIDTH: usize>(panel: &mut [f32], x: Matrix, count: usize) {
    let depth = panel.as_chunks_mut::<WIDTH>().0;
    if x.column_stride == 1 && count == WIDTH {
        let rows: [&[f32]; WIDTH] = std::array::from_fn(|i| &x.data[i * x.row_stride..][..depth.len()]);
        for (k, to) in depth.iter_mut().enumerate() {
            for (to, row) in to.iter_mut().zip(&rows) {
                *to = row[k];
            }
        }
        return;
    }
    for (k, to) in depth.iter_mut().enumerate() {
        to.fill(0.0);
        for (i, to) in to.iter_mut().enumerate().take(count) {
            *to = x.data[i * x.row_stride + k * x.column_stride];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The path of machines without fused multiply-adds, which dispatch does not take on this one.
    #[test]
    fn both_kinds_of_multiply_add() {
        let (rows, columns, inner) = (13, 37, 29);
        let number = |i: usize| (i as f32 * 0.7).sin();
        let a: Vec<f32> = (0..rows * inner).map(number).collect();
        let b: Vec<f32> = (0..inner * columns).map(number).collect();
        let mut packed_a = vec![f32::NAN; rows.div_ceil(MR) * MR * inner];
        let mut packed_b = vec![f32::NAN; columns.div_ceil(NR) * NR * inner];
        pack_a(&mut packed_a, Matrix::rows(&a, inner), rows, inner);
        pack_b(&mut packed_b, Matrix::rows(&b, columns), columns, inner);
        let run = |kernel: fn(&mut Block, Write, &[f32], &[f32], usize, usize)| {
            let mut c = vec![1.0; rows * columns];
            let mut block = Block { data: &mut c, stride: columns, rows, columns };
            kernel(&mut block, Write::Add, &packed_a, &packed_b, inner * NR, inner);
            c
        };
        for c in [run(multiply), run(multiply_panels::<false>), run(multiply_panels::<true>)] {
            for (i, c) in c.iter().enumerate() {
                let (row, column) = (i / columns, i % columns);
                let product = |k: usize| f64::from(a[row * inner + k]) * f64::from(b[k * columns + column]);
                let want = 1.0 + (0..inner).map(product).sum::<f64>();
                assert!((f64::from(*c) - want).abs() < 1e-5, "({row}, {column}): {c}, not {want}");
            }
        }
    }
}
