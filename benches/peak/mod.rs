//! The machine's FMA peak, measured in loops for AVX-512, AVX2 or NEON: what the benches hold their figures against.

use std::hint::black_box;
use std::time::Instant;

use dit_engine::cpu::simd::vectorised;

/// Multiply-adds that one thread can keep in flight: 12 registers of 8, twice over on wider machines.
const LANES: usize = 96;
/// Multiply-adds a measurement of the peak makes on each lane.
const STEPS: usize = 1 << 18;

/// Makes `STEPS` multiply-adds on each of some lanes; returns how many lanes.
type Loop = fn(f32) -> usize;

fn multiply_add(factor: f32) -> usize {
    let mut lanes = [1.0; LANES];
    vectorised(
        #[inline(always)]
        || {
            let mut sums = lanes;
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = f32::mul_add(*sum, factor, 1.0);
                }
            }
            lanes = sums;
        },
    );
    black_box(lanes);
    LANES
}

/// The same in registers of 16, which the compiler does not use unless told to.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    #![expect(unsafe_code, reason = "vector instructions")]

    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::STEPS;

    /// Two units that take four cycles need eight; with 16 or more the compiler copies them around, and some to memory.
    const REGISTERS: usize = 12;

    #[target_feature(enable = "avx512f")]
    fn sums(factor: f32) -> f32 {
        let (factor, one) = (_mm512_set1_ps(factor), _mm512_set1_ps(1.0));
        let mut sums = [one; REGISTERS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, one);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// As `multiply_add`, on a machine that has the instructions.
    pub fn multiply_add(factor: f32) -> usize {
        // SAFETY: the caller has asked for the instructions.
        black_box(unsafe { sums(factor) });
        16 * REGISTERS
    }
}

/// FLOP/s of multiply-adds in registers on one core: what no kernel can exceed.
pub fn fma_flops_per_second() -> f64 {
    let once = |work: Loop| {
        let start = Instant::now();
        let lanes = work(black_box(0.5));
        (2 * lanes * STEPS) as f64 / start.elapsed().as_secs_f64()
    };
    let best = |work: Loop| (0..30).map(|_| once(work)).fold(0.0, f64::max);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        return best(multiply_add).max(best(avx512::multiply_add));
    }
    best(multiply_add)
}
