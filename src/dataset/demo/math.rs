//! The few transcendental functions that the synthesis needs, from additions and multiplications alone.
//! The system's libm differs in the last bit between platforms; these do not, so the corpus is the same
//! file for file on every machine.

use std::f64::consts::{LN_2, PI};

/// A full turn of an oscillator is 2^32: phases wrap by themselves.
pub(super) fn turns(turns: f64) -> u32 {
    (turns * 4_294_967_296.0) as i64 as u32
}

/// sin(2 pi phase / 2^32) for audio: the Taylor series to the ninth power on a quarter turn, error below 4e-6.
#[inline]
pub(super) fn sine(phase: u32) -> f32 {
    let half_turns = (phase as i32) as f32 * (1.0 / 2_147_483_648.0);
    let folded = if half_turns > 0.5 {
        1.0 - half_turns
    } else if half_turns < -0.5 {
        -1.0 - half_turns
    } else {
        half_turns
    };
    let x = folded * std::f32::consts::PI;
    let x2 = x * x;
    x * (1.0 + x2 * (-1.0 / 6.0 + x2 * (1.0 / 120.0 + x2 * (-1.0 / 5040.0 + x2 * (1.0 / 362_880.0)))))
}

/// 2^x: the integer part by repeated doubling or halving, the rest by the series of e^(x ln 2).
pub(super) fn exp2(x: f64) -> f64 {
    let whole = x.round();
    let y = (x - whole) * LN_2;
    let series = (1..=14).rev().fold(1.0, |sum, k| 1.0 + sum * y / f64::from(k));
    let (factor, times) = if whole < 0.0 { (0.5, -whole) } else { (2.0, whole) };
    (0..times.min(1100.0) as u32).fold(series, |value, _| value * factor)
}

/// tan(pi x) for 0 <= x < 0.5: the prewarping of a digital filter, with x = cutoff / sample rate.
pub(super) fn tan_pi(x: f64) -> f64 {
    let x = PI * x;
    let x2 = x * x;
    let sine = x * (1..=10).rev().fold(1.0, |sum, k| 1.0 - sum * x2 / f64::from(2 * k * (2 * k + 1)));
    let cosine = (1..=10).rev().fold(1.0, |sum, k| 1.0 - sum * x2 / f64::from(2 * k * (2 * k - 1)));
    sine / cosine
}

/// Equal temperament, A4 (MIDI 69) at 440 Hz; fractions of a semitone are allowed.
pub(super) fn frequency_hz(midi: f64) -> f64 {
    440.0 * exp2((midi - 69.0) / 12.0)
}

/// The factor a sample by which something falls by 60 dB in `seconds`.
pub(super) fn decay_factor(seconds: f64, rate_hz: f64) -> f32 {
    /// log2(1000), 60 dB in octaves of amplitude.
    const OCTAVES_IN_60_DB: f64 = 9.965_784_284_662_087;
    exp2(-OCTAVES_IN_60_DB / (seconds * rate_hz).max(1.0)) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_libm() {
        for i in -400..400 {
            let x = f64::from(i) * 0.037;
            assert!((exp2(x) / x.exp2() - 1.0).abs() < 1e-12, "2^{x}");
            let expected = (2.0 * PI * x).sin();
            assert!((f64::from(sine(turns(x))) - expected).abs() < 5e-6, "sin of {x} turns");
        }
        for i in 0..49 {
            let x = f64::from(i) * 0.01;
            assert!((tan_pi(x) - (PI * x).tan()).abs() < 1e-9 * (1.0 + (PI * x).tan()), "tan(pi {x})");
        }
        assert!((frequency_hz(57.0) - 220.0).abs() < 1e-9);
        assert!((f64::from(decay_factor(0.5, 1000.0)).powi(500) - 1e-3).abs() < 1e-6);
    }
}
