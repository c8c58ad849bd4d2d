//! The drum kit: kick, snare, hats and a brush, from sines and filtered noise.

use super::math::{decay_factor, sine, turns};
use super::oscillators::LowPass;
use super::random::Random;

/// One drum of the kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drum {
    Kick,
    Snare,
    ClosedHat,
    OpenHat,
    Brush,
}

/// A stroke on the clock of the finished song.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hit {
    pub start_s: f64,
    pub drum: Drum,
    /// Loudness in 0..1.
    pub velocity: f32,
}

/// Adds a stroke to `out`.
pub(super) fn strike(hit: Hit, rate_hz: f64, random: &mut Random, out: &mut [f32]) {
    let out = out.get_mut((hit.start_s * rate_hz) as usize..).unwrap_or_default();
    let v = hit.velocity;
    match hit.drum {
        Drum::Kick => {
            tone((150.0, 48.0), 0.05, 0.35, v, rate_hz, out);
            noise((1500.0, 6000.0), 0.012, 0.4 * v, rate_hz, random, out);
        }
        Drum::Snare => {
            tone((260.0, 185.0), 0.03, 0.16, 0.5 * v, rate_hz, out);
            noise((700.0, 7000.0), 0.2, 0.9 * v, rate_hz, random, out);
        }
        Drum::ClosedHat => noise((5000.0, 7800.0), 0.06, 0.55 * v, rate_hz, random, out),
        Drum::OpenHat => noise((4500.0, 7800.0), 0.3, 0.5 * v, rate_hz, random, out),
        Drum::Brush => noise((1500.0, 5000.0), 0.13, 0.6 * v, rate_hz, random, out),
    }
}

/// A sine that slides from the first to the second pitch and loses 60 dB in `decay_s`.
fn tone(slide_hz: (f64, f64), slide_s: f64, decay_s: f64, level: f32, rate_hz: f64, out: &mut [f32]) {
    let (loss, approach) = (decay_factor(decay_s, rate_hz), f64::from(decay_factor(6.9 * slide_s, rate_hz)));
    let (mut hz, mut level, mut phase) = (slide_hz.0, level, 0_u32);
    for out in out.iter_mut().take((decay_s * rate_hz) as usize) {
        *out += level * sine(phase);
        phase = phase.wrapping_add(turns(hz / rate_hz));
        hz = slide_hz.1 + (hz - slide_hz.1) * approach;
        level *= loss;
    }
}

/// Noise between two frequencies (a low-pass, less a lower one) that loses 60 dB in `decay_s`.
fn noise(band_hz: (f64, f64), decay_s: f64, level: f32, rate_hz: f64, random: &mut Random, out: &mut [f32]) {
    let (mut low, mut high) = (LowPass::default(), LowPass::default());
    low.set(band_hz.0, 1.414, rate_hz);
    high.set(band_hz.1, 1.414, rate_hz);
    let loss = decay_factor(decay_s, rate_hz);
    let mut level = level;
    for out in out.iter_mut().take((decay_s * rate_hz) as usize) {
        let x = high.next(random.noise());
        *out += level * (x - low.next(x));
        level *= loss;
    }
}
