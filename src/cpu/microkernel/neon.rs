//! NEON: 8 rows of three vectors of 4, 24 of 32 registers.

use std::arch::aarch64::*;

use super::{Call, Microkernel};

pub(super) const NEON: Microkernel = Microkernel {
    name: "NEON",
    rows: 8,
    columns: 12,
    tiles: &[neon::<1>, neon::<2>, neon::<3>, neon::<4>, neon::<5>, neon::<6>, neon::<7>, neon::<8>],
    is_available: || std::arch::is_aarch64_feature_detected!("neon"),
};

/// # Safety
/// See `Tile`.
#[target_feature(enable = "neon")]
unsafe fn neon<const ROWS: usize>(call: &Call) {
    let &Call { c, c_stride, adds, a, a_row, a_column, b, inner } = call;
    let mut sums = [[vdupq_n_f32(0.0); 3]; ROWS];
    for k in 0..inner {
        // SAFETY: k < inner, i < ROWS; the caller vouches for the operands.
        unsafe {
            let row = [0, 1, 2].map(|j| vld1q_f32(b.add(k * 12 + 4 * j)));
            for (i, sums) in sums.iter_mut().enumerate() {
                let a = *a.add(i * a_row + k * a_column);
                for (sum, row) in sums.iter_mut().zip(row) {
                    *sum = vfmaq_n_f32(*sum, row, a);
                }
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, &sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe {
                let c = c.add(i * c_stride + 4 * j);
                let sum = if adds { vaddq_f32(vld1q_f32(c), sum) } else { sum };
                vst1q_f32(c, sum);
            }
        }
    }
}
