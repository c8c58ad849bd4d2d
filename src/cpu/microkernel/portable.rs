//! Plain loops over arrays of fixed size, for any machine: 4 rows of 8 are as many registers as SSE2 has to spare.
//! Products and sums are rounded apart: without the instruction a fused multiply-add would be a call into the mathematical
//! library.

use super::{Call, Microkernel};

const COLUMNS: usize = 8;

pub(super) const PORTABLE: Microkernel = Microkernel {
    name: "portable",
    rows: 4,
    columns: COLUMNS,
    tiles: &[portable::<1>, portable::<2>, portable::<3>, portable::<4>],
    is_available: || true,
};

/// # Safety
/// See `Tile`.
unsafe fn portable<const ROWS: usize>(call: &Call) {
    let &Call { c, c_stride, adds, a, a_row, a_column, b, inner } = call;
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    for k in 0..inner {
        // SAFETY: k < inner, i < ROWS; the caller vouches for the operands.
        let row = unsafe { &*b.add(k * COLUMNS).cast::<[f32; COLUMNS]>() };
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as above.
            let a = unsafe { *a.add(i * a_row + k * a_column) };
            for (sum, b) in sums.iter_mut().zip(row) {
                *sum += a * b;
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        // SAFETY: as above.
        let c = unsafe { &mut *c.add(i * c_stride).cast::<[f32; COLUMNS]>() };
        for (c, sum) in c.iter_mut().zip(sums) {
            *c = if adds { *c + sum } else { *sum };
        }
    }
}
