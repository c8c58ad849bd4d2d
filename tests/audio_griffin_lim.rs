//! Fast Griffin-Lim against its own formulas, written out in f64 without an FFT.

use std::f64::consts::{PI, TAU};

use dit_engine::audio::config::Window;
use dit_engine::audio::griffin_lim::{InitialPhase, griffin_lim};
use dit_engine::audio::stft::Stft;

const N_FFT: usize = 16;
const HOP: usize = 4;
const FRAMES: usize = 9;
const BINS: usize = N_FFT / 2 + 1;
const SAMPLES: i64 = (FRAMES * HOP) as i64;

type Spectrum = Vec<(f64, f64)>;

/// What becomes of every intermediate result: kept in f64 for the reference, rounded to f32 for the naive
/// implementation whose error is the measure.
type Rounding = fn(f64) -> f64;

fn window(n: usize) -> f64 {
    (PI * n as f64 / N_FFT as f64).sin().powi(2)
}

/// First sample of frame `t`.
fn start(t: usize) -> i64 {
    (t * HOP + HOP / 2) as i64 - N_FFT as i64 / 2
}

fn mirrored(n: i64) -> usize {
    let n = if n < 0 { -n } else { n };
    (if n >= SAMPLES { 2 * (SAMPLES - 1) - n } else { n }) as usize
}

fn forward(x: &[f64], round: Rounding) -> Spectrum {
    let bin = |t: usize, k: usize| {
        (0..N_FFT).fold((0.0, 0.0), |(re, im), n| {
            let value = window(n) * x[mirrored(start(t) + n as i64)];
            let angle = TAU * (k * n) as f64 / N_FFT as f64;
            (round(re + value * angle.cos()), round(im - value * angle.sin()))
        })
    };
    (0..FRAMES * BINS).map(|index| bin(index / BINS, index % BINS)).collect()
}

fn inverse(spectrum: &Spectrum, round: Rounding) -> Vec<f64> {
    let (mut sum, mut weight) = (vec![0.0; SAMPLES as usize], vec![0.0; SAMPLES as usize]);
    for t in 0..FRAMES {
        for n in 0..N_FFT {
            let at = start(t) + n as i64;
            if !(0..SAMPLES).contains(&at) {
                continue;
            }
            let value: f64 = (0..BINS)
                .map(|k| {
                    let (re, im) = spectrum[t * BINS + k];
                    let angle = TAU * (k * n) as f64 / N_FFT as f64;
                    let ends = k == 0 || k == N_FFT / 2;
                    if ends { re * angle.cos() } else { 2.0 * (re * angle.cos() - im * angle.sin()) }
                })
                .fold(0.0, |sum, term| round(sum + term));
            sum[at as usize] += window(n) * value / N_FFT as f64;
            weight[at as usize] += window(n).powi(2);
        }
    }
    sum.iter().zip(&weight).map(|(sum, weight)| round(sum / weight)).collect()
}

/// Perraudin, Balazs and Sondergaard 2013, algorithm 2, from zero phase.
fn textbook(magnitude: &[f64], iterations: usize, round: Rounding) -> Vec<f64> {
    let mut phased: Spectrum = magnitude.iter().map(|&m| (m, 0.0)).collect();
    let mut before: Spectrum = vec![(0.0, 0.0); magnitude.len()];
    for _ in 0..iterations {
        let consistent = forward(&inverse(&phased, round), round);
        for (index, &(re, im)) in consistent.iter().enumerate() {
            let (re_before, im_before) = before[index];
            let accelerated = (re + 0.99 * (re - re_before), im + 0.99 * (im - im_before));
            let norm = accelerated.0.hypot(accelerated.1);
            phased[index] =
                (magnitude[index] * accelerated.0 / norm, magnitude[index] * accelerated.1 / norm);
        }
        before = consistent;
    }
    inverse(&phased, round)
}

#[test]
fn every_iteration_is_the_papers() {
    let magnitude: Vec<f64> = (0..FRAMES * BINS).map(|n| 0.1 + (n as f64 * 0.7).sin().powi(2)).collect();
    let single: Vec<f32> = magnitude.iter().map(|&m| m as f32).collect();
    let stft = Stft::new(N_FFT, HOP, Window::Hann);
    let mut scratch = stft.scratch();
    for iterations in [0, 1, 2, 5] {
        let mut found = vec![f32::NAN; 3];
        griffin_lim(&stft, &single, iterations, InitialPhase::Zero, &mut found, &mut scratch);
        let expected = textbook(&magnitude, iterations, |value| value);
        let naive = textbook(&magnitude, iterations, |value| f64::from(value as f32));
        let worst = |values: &mut dyn Iterator<Item = f64>| {
            values.zip(&expected).map(|(value, expected)| (value - expected).abs()).fold(0.0, f64::max)
        };
        assert_eq!(found.len(), expected.len());
        let error = worst(&mut found.iter().map(|&x| f64::from(x)));
        let bound = 2.0 * worst(&mut naive.iter().copied()) + 1e-6;
        assert!(error < bound, "after {iterations} iterations: off by {error:e}, at most {bound:e} allowed");
    }
}
