//! AVX-512: 12 rows of two vectors of 16, 24 of 32 registers. AVX2 with FMA: 6 rows of two vectors of 8, 12 of 16.

use std::arch::x86_64::*;

use super::super::gemm::Matrix;
use super::{Call, MOST_ROWS, Microkernel};

pub(super) const AVX512: Microkernel = Microkernel {
    name: "AVX-512",
    rows: 12,
    columns: 32,
    tiles: &[
        avx512::<1>,
        avx512::<2>,
        avx512::<3>,
        avx512::<4>,
        avx512::<5>,
        avx512::<6>,
        avx512::<7>,
        avx512::<8>,
        avx512::<9>,
        avx512::<10>,
        avx512::<11>,
        avx512::<12>,
    ],
    is_available: || is_x86_feature_detected!("avx512f"),
};

pub(super) const AVX2: Microkernel = Microkernel {
    name: "AVX2",
    rows: 6,
    columns: 16,
    tiles: &[avx2::<1>, avx2::<2>, avx2::<3>, avx2::<4>, avx2::<5>, avx2::<6>],
    is_available: || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
};

/// Asks for the lines of a tile of c, which is written when the sums are done: until then they have come.
#[inline(always)]
fn prefetch<const ROWS: usize>(c: *const f32, c_stride: usize, columns: usize) {
    for row in 0..ROWS {
        for column in (0..columns).step_by(16) {
            // SAFETY: a prefetch reads nothing and faults nowhere.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(c.wrapping_add(row * c_stride + column).cast()) };
        }
    }
}

/// Steps of a sum by which b is asked for ahead: about 100 clocks, more than the second-level cache takes.
const AHEAD: usize = 8;
/// Steps of a sum between two moves of the pointers.
const UNROLL: usize = 4;
/// Rows that one pointer serves where their distance is known at run time only: an instruction can add it once or twice.
const GROUP: usize = 3;

/// Rows of a, by a pointer for each `ROWS_A_POINTER` of them. What has to be added to reach an element is part of the
/// instruction that reads it: with rows that are contiguous a step of 24 multiply-adds is 41 instructions, and was 51.
struct Rows<const ROWS_A_POINTER: usize> {
    first: [*const f32; MOST_ROWS / GROUP],
    stride: usize,
}

impl<const ROWS_A_POINTER: usize> Rows<ROWS_A_POINTER> {
    #[inline(always)]
    fn new(a: *const f32, stride: usize) -> Self {
        let first = std::array::from_fn(|pointer| a.wrapping_add(pointer * ROWS_A_POINTER * stride));
        Rows { first, stride }
    }

    /// # Safety
    /// There is such an element.
    #[inline(always)]
    unsafe fn at(&self, row: usize, offset: usize) -> f32 {
        let (pointer, row) = (self.first[row / ROWS_A_POINTER], row % ROWS_A_POINTER);
        // SAFETY: the caller vouches for it.
        unsafe { *pointer.wrapping_add(row * self.stride + offset) }
    }

    #[inline(always)]
    fn advance(&mut self, by: usize) {
        self.first = self.first.map(|pointer| pointer.wrapping_add(by));
    }
}

/// The sums of a tile, inlined once for each way in which a can lie.
///
/// # Safety
/// See `Tile`; `a_row` and `a_column` are the call's.
#[inline(always)]
unsafe fn avx512_sums<const ROWS: usize, const ROWS_A_POINTER: usize>(
    call: &Call,
    a_row: usize,
    a_column: usize,
) -> [[__m512; 2]; ROWS] {
    let &Call { a, mut b, inner, .. } = call;
    let mut rows = Rows::<ROWS_A_POINTER>::new(a, a_row);
    // SAFETY: the caller has asked for the instructions, and vouches for the operands: k < inner.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        for _ in 0..inner / UNROLL {
            for k in 0..UNROLL {
                avx512_step(&mut sums, &rows, k * a_column, b.add(32 * k));
            }
            rows.advance(UNROLL * a_column);
            b = b.add(32 * UNROLL);
        }
        for _ in 0..inner % UNROLL {
            avx512_step(&mut sums, &rows, 0, b);
            rows.advance(a_column);
            b = b.add(32);
        }
        sums
    }
}

/// Adds the products of one step. (No closure: it would be compiled without the caller's instructions.)
///
/// # Safety
/// See `Tile`.
#[inline(always)]
unsafe fn avx512_step<const ROWS: usize, const ROWS_A_POINTER: usize>(
    sums: &mut [[__m512; 2]; ROWS],
    rows: &Rows<ROWS_A_POINTER>,
    offset: usize,
    b: *const f32,
) {
    // SAFETY: the caller vouches for the operands; a prefetch reads nothing and faults nowhere.
    unsafe {
        for line in [0, 16] {
            _mm_prefetch::<_MM_HINT_T0>(b.wrapping_add(32 * AHEAD + line).cast());
        }
        let row = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
        for (i, sums) in sums.iter_mut().enumerate() {
            let a = _mm512_set1_ps(rows.at(i, offset));
            sums[0] = _mm512_fmadd_ps(a, row[0], sums[0]);
            sums[1] = _mm512_fmadd_ps(a, row[1], sums[1]);
        }
    }
}

/// # Safety
/// See `Tile`.
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize>(call: &Call) {
    let &Call { c, c_stride, adds, a_row, a_column, .. } = call;
    prefetch::<ROWS>(c, c_stride, 32);
    // SAFETY: the caller vouches for it.
    let sums: [[__m512; 2]; ROWS] = unsafe {
        match (a_row, a_column) {
            (_, 1) => avx512_sums::<ROWS, GROUP>(call, a_row, 1),
            (1, _) => avx512_sums::<ROWS, MOST_ROWS>(call, 1, a_column),
            _ => avx512_sums::<ROWS, GROUP>(call, a_row, a_column),
        }
    };
    for (i, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let c = c.add(i * c_stride + 16 * j);
                let sum = if adds { _mm512_add_ps(_mm512_loadu_ps(c), sum) } else { sum };
                _mm512_storeu_ps(c, sum);
            }
        }
    }
}

/// # Safety
/// See `Tile`.
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<const ROWS: usize>(call: &Call) {
    let &Call { c, c_stride, adds, a, a_row, a_column, b, inner } = call;
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    prefetch::<ROWS>(c, c_stride, 16);
    for k in 0..inner {
        // SAFETY: k < inner, i < ROWS; the caller vouches for the operands.
        unsafe {
            let row = [_mm256_loadu_ps(b.add(k * 16)), _mm256_loadu_ps(b.add(k * 16 + 8))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_broadcast_ss(&*a.add(i * a_row + k * a_column));
                sums[0] = _mm256_fmadd_ps(a, row[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(a, row[1], sums[1]);
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let c = c.add(i * c_stride + 8 * j);
                let sum = if adds { _mm256_add_ps(_mm256_loadu_ps(c), sum) } else { sum };
                _mm256_storeu_ps(c, sum);
            }
        }
    }
}

/// Side of the squares that are turned over in registers.
const SQUARE: usize = 8;
/// Numbers of a cache line.
const LINE: usize = 16;

/// The first panels of x `[count, inner]`, whose rows are contiguous, turned over: `to[p inner width + k width + j] =
/// x[p width + j, k]`. False, and nothing done, where this machine or the shape is not made for it.
///
/// # Panics
/// If an operand is too short.
pub(super) fn pack_turned(width: usize, to: &mut [f32], x: Matrix, count: usize, inner: usize) -> bool {
    let fits = width.is_multiple_of(SQUARE) && count.is_multiple_of(width) && inner.is_multiple_of(LINE);
    if !fits || x.column_stride != 1 || count == 0 || inner == 0 || !(AVX2.is_available)() {
        return false;
    }
    assert!(to.len() >= count * inner, "the panels are too short");
    assert!(x.data.len() >= (count - 1) * x.row_stride + inner, "x is too short");
    for (p, panel) in to[..count * inner].chunks_exact_mut(width * inner).enumerate() {
        // SAFETY: the machine has AVX2; the asserts above.
        unsafe {
            turn_panel(panel.as_mut_ptr(), x.from(p * width, 0).data.as_ptr(), x.row_stride, width, inner)
        };
    }
    true
}

/// One panel: `panel[k, j] = x[j, k]`, a cache line of each row at a time.
///
/// # Safety
/// The machine has AVX2; panel `[inner, width]` and x, `width` rows of `inner`, `stride` apart, are valid; width is a multiple of
/// [`SQUARE`], inner of [`LINE`].
#[target_feature(enable = "avx2")]
unsafe fn turn_panel(panel: *mut f32, x: *const f32, stride: usize, width: usize, inner: usize) {
    for line in (0..inner).step_by(LINE) {
        for first in (0..width).step_by(SQUARE) {
            for row in first..first + SQUARE {
                // The next line of the row: so many rows at once are more than the machine foresees by itself.
                let next = x.wrapping_add(row * stride + line + LINE);
                _mm_prefetch::<_MM_HINT_T0>(next.cast());
            }
            for k in [line, line + SQUARE] {
                // SAFETY: first + SQUARE <= width, k + SQUARE <= inner.
                unsafe {
                    let load = |i| _mm256_loadu_ps(x.add((first + i) * stride + k));
                    let turned = turn(std::array::from_fn(load));
                    for (i, column) in turned.into_iter().enumerate() {
                        _mm256_storeu_ps(panel.add((k + i) * width + first), column);
                    }
                }
            }
        }
    }
}

/// The transpose of a square.
#[inline]
#[target_feature(enable = "avx2")]
fn turn(rows: [__m256; SQUARE]) -> [__m256; SQUARE] {
    let [a, b, c, d, e, f, g, h] = rows;
    // Pairs of rows, then fours, then the two halves.
    let low = [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| _mm256_unpacklo_ps(a, b));
    let high = [(a, b), (c, d), (e, f), (g, h)].map(|(a, b)| _mm256_unpackhi_ps(a, b));
    let fours = |i: usize| {
        [
            _mm256_shuffle_ps::<0x44>(low[i], low[i + 1]),
            _mm256_shuffle_ps::<0xEE>(low[i], low[i + 1]),
            _mm256_shuffle_ps::<0x44>(high[i], high[i + 1]),
            _mm256_shuffle_ps::<0xEE>(high[i], high[i + 1]),
        ]
    };
    let (upper, lower) = (fours(0), fours(2));
    std::array::from_fn(|i| match i {
        0..4 => _mm256_permute2f128_ps::<0x20>(upper[i], lower[i]),
        _ => _mm256_permute2f128_ps::<0x31>(upper[i - 4], lower[i - 4]),
    })
}
