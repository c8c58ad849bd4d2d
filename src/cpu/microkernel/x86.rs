//! AVX-512: 12 rows of two vectors of 16, 24 of 32 registers. AVX2 with FMA: 6 rows of two vectors of 8, 12 of 16.

use std::arch::x86_64::*;

use super::{Call, Microkernel};

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

/// # Safety
/// See `Tile`.
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize>(call: &Call) {
    let &Call { c, c_stride, adds, a, a_row, a_column, b, inner } = call;
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for k in 0..inner {
        // SAFETY: k < inner, i < ROWS; the caller vouches for the operands.
        unsafe {
            let row = [_mm512_loadu_ps(b.add(k * 32)), _mm512_loadu_ps(b.add(k * 32 + 16))];
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(i * a_row + k * a_column));
                sums[0] = _mm512_fmadd_ps(a, row[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(a, row[1], sums[1]);
            }
        }
    }
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
