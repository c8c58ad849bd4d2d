//! Copies of b in the order in which the microkernel reads it.

use super::super::gemm::Matrix;
use super::super::simd::vectorised;

/// Packs b `[inner, columns]` into panels of `width` columns, `inner` deep: panel p holds `b[k, p width + j]` at `[k, j]`.
/// Columns past the last are 0.
///
/// # Panics
/// If no kernel has that width, or an operand is too short.
pub fn pack_columns(width: usize, to: &mut [f32], b: Matrix, columns: usize, inner: usize) {
    #[cfg(target_arch = "x86_64")]
    if b.row_stride == 1 && super::x86::pack_turned(width, to, b.transposed(), columns, inner) {
        return;
    }
    vectorised(
        #[inline(always)]
        || match width {
            8 => pack::<8>(to, b.transposed(), columns, inner),
            12 => pack::<12>(to, b.transposed(), columns, inner),
            16 => pack::<16>(to, b.transposed(), columns, inner),
            32 => pack::<32>(to, b.transposed(), columns, inner),
            _ => panic!("no kernel has panels of {width}"),
        },
    );
}

/// Packs x `[count, inner]`, b's transpose.
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

/// Side of the squares that are turned over in registers.
const SQUARE: usize = 8;

/// As `pack`, for one panel of `count <= WIDTH`.
#[inline(always)]
fn pack_panel<const WIDTH: usize>(panel: &mut [f32], x: Matrix, count: usize) {
    let depth = panel.as_chunks_mut::<WIDTH>().0;
    let mut done = 0;
    if x.column_stride == 1 && count == WIDTH && WIDTH.is_multiple_of(SQUARE) {
        let (squares, _) = depth.as_chunks_mut::<SQUARE>();
        done = squares.len() * SQUARE;
        for (s, to) in squares.iter_mut().enumerate() {
            for first in (0..WIDTH).step_by(SQUARE) {
                let rows: [&[f32; SQUARE]; SQUARE] = std::array::from_fn(|i| {
                    x.data[(first + i) * x.row_stride + s * SQUARE..].first_chunk().expect("a row is as long")
                });
                for (k, to) in to.iter_mut().enumerate() {
                    let to: &mut [f32; SQUARE] =
                        (&mut to[first..first + SQUARE]).try_into().expect("a square's width");
                    for (to, row) in to.iter_mut().zip(rows) {
                        *to = row[k];
                    }
                }
            }
        }
    }
    for (k, to) in depth.iter_mut().enumerate().skip(done) {
        to[count..].fill(0.0);
        for (i, to) in to.iter_mut().enumerate().take(count) {
            *to = x.data[i * x.row_stride + k * x.column_stride];
        }
    }
}
