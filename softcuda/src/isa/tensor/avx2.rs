//! [`Vectors`] in the instructions of x86-64 with AVX2, FMA and F16C.

// The intrinsics may only run where the machine has the instructions: an `Avx2` exists only there.
#![allow(unsafe_code)]

use super::Lanes;
use super::vectors::{COLUMN_ORDER, Task, Vectors};
use std::arch::x86_64::*;
use std::mem::transmute;

/// Proof that the machine has the instructions.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// Where it has them.
    #[inline]
    pub fn detect() -> Option<Avx2> {
        let has_all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_all.then_some(Avx2(()))
    }

    /// Runs a task compiled for them.
    #[inline]
    pub fn run(self, task: impl Task) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled(vectors: Avx2, task: impl Task) {
            task.run(vectors);
        }
        // SAFETY: the machine has the features.
        unsafe { compiled(self, task) }
    }
}

// SAFETY, for all blocks below: the machine has the features; arrays and vectors of one size are transmuted.
impl Vectors for Avx2 {
    type Singles = __m256;

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> __m256 {
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: __m256) -> [f32; 8] {
        unsafe { transmute(values) }
    }

    #[inline(always)]
    fn multiply_add(self, a: f32, b: __m256, sum: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(_mm256_set1_ps(a), b, sum) }
    }

    #[inline(always)]
    fn widen_halves(self, words: &[u32; 8]) -> [[f32; 8]; 2] {
        unsafe {
            let words = _mm256_loadu_si256(words.as_ptr().cast());
            let low_first = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
            ));
            // In each half of the vector four low ones, then four high ones; then all low ones, all high ones.
            let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_shuffle_epi8(words, low_first));
            let low = _mm256_cvtph_ps(_mm256_castsi256_si128(halves));
            let high = _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(halves));
            [transmute::<__m256, [f32; 8]>(low), transmute::<__m256, [f32; 8]>(high)]
        }
    }

    #[inline(always)]
    fn narrow_halves(self, low: &[f32; 8], high: &[f32; 8]) -> [u32; 8] {
        unsafe {
            let low = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(low.as_ptr()));
            let high = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(high.as_ptr()));
            transmute([_mm_unpacklo_epi16(low, high), _mm_unpackhi_epi16(low, high)])
        }
    }

    #[inline(always)]
    fn transpose(self, register: &Lanes<u32>) -> [[u32; 8]; 4] {
        let rows = register.as_chunks::<4>().0;
        // Each vector holds two rows, which come out at a place and four places on.
        let pair = |place: usize| unsafe {
            _mm256_loadu2_m128i(
                rows[COLUMN_ORDER[place + 4]].as_ptr().cast(),
                rows[COLUMN_ORDER[place]].as_ptr().cast(),
            )
        };
        let [a, b, c, d] = [pair(0), pair(1), pair(2), pair(3)];
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            transmute([
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ])
        }
    }
}
