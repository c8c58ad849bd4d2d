//! A signal for a magnitude spectrogram: the fast Griffin-Lim algorithm.

use std::f32::consts::TAU;

use realfft::num_complex::Complex32;

use super::stft::{Scratch, Stft};

/// The acceleration that Perraudin, Balazs and Sondergaard recommend.
const MOMENTUM: f32 = 0.99;
/// Keeps the division by a coefficient's magnitude finite.
const SMALLEST_NORM: f32 = 1e-20;

/// How the unknown phase begins. The same choice gives the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialPhase {
    /// All zero: every partial starts as a cosine at every frame.
    Zero,
    /// Uniform, drawn from this seed.
    Random(u64),
}

/// Finds a signal whose spectrogram has nearly the magnitudes `[frames, bins]`, and writes it to `signal`
/// (`frames * hop` samples).
///
/// Perraudin, Balazs and Sondergaard, "A fast Griffin-Lim algorithm" (WASPAA 2013), algorithm 2, with
/// alpha = 0.99:
///
/// ```text
/// c_n = STFT(iSTFT(magnitude * t_(n-1) / |t_(n-1)|))
/// t_n = c_n + alpha (c_n - c_(n-1))
/// ```
pub fn griffin_lim(
    stft: &Stft,
    magnitude: &[f32],
    iterations: usize,
    phase: InitialPhase,
    signal: &mut Vec<f32>,
    scratch: &mut Scratch,
) {
    let mut spectrum = start(magnitude, phase);
    let mut consistent = Vec::new();
    let mut previous = vec![Complex32::default(); spectrum.len()];
    for _ in 0..iterations {
        stft.inverse(&spectrum, signal, scratch);
        stft.forward(signal, &mut consistent, scratch);
        for (((x, c), before), &m) in spectrum.iter_mut().zip(&consistent).zip(&mut previous).zip(magnitude) {
            let target = *c + (*c - *before) * MOMENTUM;
            *x = target * (m / (target.norm_sqr().sqrt() + SMALLEST_NORM));
            *before = *c;
        }
    }
    stft.inverse(&spectrum, signal, scratch);
}

fn start(magnitude: &[f32], phase: InitialPhase) -> Vec<Complex32> {
    match phase {
        InitialPhase::Zero => magnitude.iter().map(|&m| Complex32::new(m, 0.0)).collect(),
        InitialPhase::Random(seed) => {
            let turns = (0..).map(|index| split_mix(seed, index));
            magnitude.iter().zip(turns).map(|(&m, turn)| Complex32::from_polar(m, TAU * turn)).collect()
        }
    }
}

/// Number `index` of the stream of `seed`, uniform in [0, 1): SplitMix64 (Steele, Lea and Flood 2014).
fn split_mix(seed: u64, index: u64) -> f32 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}
