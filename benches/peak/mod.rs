//! The machine's FMA peak, measured: what the benches hold their figures against.

use std::hint::black_box;
use std::time::Instant;

use dit_engine::cpu::simd::vectorised;

/// Multiply-adds a measurement of the peak makes on each lane.
const STEPS: usize = 1 << 18;

fn multiply_add<const LANES: usize>(lanes: &mut [f32; LANES], factor: f32) {
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
    // In as many registers as an instruction set has, but for a few: 12 of 8 (AVX2), 24 of 4 (NEON), 24 of 16 (AVX-512).
    let rates = (0..50).map(|_| once::<96>().max(once::<384>()));
    rates.fold(0.0, f64::max)
}

fn once<const LANES: usize>() -> f64 {
    let start = Instant::now();
    let mut lanes = [1.0; LANES];
    multiply_add(&mut lanes, black_box(0.5));
    black_box(lanes);
    (2 * LANES * STEPS) as f64 / start.elapsed().as_secs_f64()
}
