//! The machine's FMA peak, measured in loops for AVX2 or NEON (AVX-512 goes beyond it): what the benches hold their figures against.

use std::hint::black_box;
use std::time::Instant;

use dit_engine::cpu::simd::vectorised;

/// Multiply-adds that one thread can keep in flight: 12 registers of 8, twice over on wider machines.
const LANES: usize = 96;
/// Multiply-adds a measurement of the peak makes on each lane.
const STEPS: usize = 1 << 18;

fn multiply_add(lanes: &mut [f32; LANES], factor: f32) {
    vectorised(
        #[inline(always)]
        || {
            let mut sums = *lanes;
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = sum.mul_add(factor, 1.0);
                }
            }
            *lanes = sums;
        },
    );
}

/// FLOP/s of multiply-adds in registers on one core: what no kernel can exceed.
pub fn fma_flops_per_second() -> f64 {
    let once = || {
        let start = Instant::now();
        let mut lanes = [1.0; LANES];
        multiply_add(&mut lanes, black_box(0.5));
        black_box(lanes);
        (2 * LANES * STEPS) as f64 / start.elapsed().as_secs_f64()
    };
    (0..50).map(|_| once()).fold(0.0, f64::max)
}
