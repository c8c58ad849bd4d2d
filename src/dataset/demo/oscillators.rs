//! What every voice is built from: oscillators, an envelope and a low-pass filter, a sample at a time.

use super::math::{decay_factor, sine, tan_pi, turns};
use super::random::Random;

/// A saw or pulse wave with its steps rounded by a two-sample polynomial (PolyBLEP; Välimäki and Huovilainen 2007),
/// without which a 16 kHz rate would fold the harmonics back as false notes.
pub(super) struct Oscillator {
    phase: f32,
    step: f32,
}

impl Oscillator {
    /// `start` is the phase in turns, 0 to 1.
    pub fn new(frequency_hz: f64, rate_hz: f64, start: f32) -> Self {
        Oscillator { phase: start, step: (frequency_hz / rate_hz) as f32 }
    }

    fn advance(&mut self) {
        self.phase += self.step;
        if self.phase >= 1.0 {
            self.phase -= 1.0;
        }
    }

    /// The correction near a step at phase 0.
    fn rounding(&self, phase: f32) -> f32 {
        if phase < self.step {
            let x = phase / self.step;
            2.0 * x - x * x - 1.0
        } else if phase > 1.0 - self.step {
            let x = (phase - 1.0) / self.step;
            x * x + 2.0 * x + 1.0
        } else {
            0.0
        }
    }

    /// A rising saw in -1..1.
    pub fn saw(&mut self) -> f32 {
        let value = 2.0 * self.phase - 1.0 - self.rounding(self.phase);
        self.advance();
        value
    }

    /// A pulse in -1..1, high for the share `duty` of each period, its mean removed.
    pub fn pulse(&mut self, duty: f32) -> f32 {
        let fall = if self.phase >= duty { self.phase - duty } else { self.phase - duty + 1.0 };
        let level = if self.phase < duty { 1.0 } else { -1.0 };
        let value = level + self.rounding(self.phase) - self.rounding(fall) - (2.0 * duty - 1.0);
        self.advance();
        value
    }

    /// A triangle in -1..1; its harmonics fall fast enough to need no rounding.
    pub fn triangle(&mut self) -> f32 {
        let value = 4.0 * (self.phase - 0.5).abs() - 1.0;
        self.advance();
        value
    }
}

/// A sine by phase accumulation.
pub(super) struct Sine {
    phase: u32,
    step: u32,
}

impl Sine {
    pub fn new(frequency_hz: f64, rate_hz: f64) -> Self {
        Sine { phase: 0, step: turns(frequency_hz / rate_hz) }
    }

    /// The next sample, with the phase pushed by `modulation` radians: phase modulation, which is what "FM" means
    /// in a synthesiser (Chowning 1973).
    #[inline]
    pub fn next(&mut self, modulation: f32) -> f32 {
        /// 2^32 / (2 pi).
        const STEPS_PER_RADIAN: f32 = 683_565_300.0;
        let pushed = self.phase.wrapping_add((modulation * STEPS_PER_RADIAN) as i64 as u32);
        self.phase = self.phase.wrapping_add(self.step);
        sine(pushed)
    }
}

/// A plucked string (Karplus and Strong 1983): a burst of noise goes round a delay line of one period, averaged a
/// little each time; an all-pass makes the delay a fraction of a sample exact (Jaffe and Smith 1983).
pub(super) struct PluckedString {
    line: Vec<f32>,
    at: usize,
    last: f32,
    loss: f32,
    tuning: f32,
    allpass: (f32, f32),
}

impl PluckedString {
    /// `pick` in 0..1 darkens the burst; the string loses 60 dB in `decay_s`.
    pub fn new(frequency_hz: f64, rate_hz: f64, decay_s: f64, pick: f32, random: &mut Random) -> Self {
        // Half a sample of the period is spent by the averaging, 0.3 to 1.3 by the all-pass.
        let period = (rate_hz / frequency_hz - 0.5).max(2.5);
        let whole = (period - 0.3) as usize;
        let fraction = (period - whole as f64) as f32;
        let mut smooth = 0.0;
        let mut line: Vec<f32> = (0..whole)
            .map(|_| {
                smooth += (1.0 - pick) * (random.noise() - smooth);
                smooth
            })
            .collect();
        let mean = line.iter().sum::<f32>() / whole as f32;
        let size = line.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / whole as f32;
        let gain = 0.5 / size.sqrt().max(1e-3);
        line.iter_mut().for_each(|x| *x = (*x - mean) * gain);
        let loss = decay_factor(decay_s, frequency_hz);
        let tuning = (1.0 - fraction) / (1.0 + fraction);
        PluckedString { line, at: 0, last: 0.0, loss, tuning, allpass: (0.0, 0.0) }
    }

    pub fn next(&mut self) -> f32 {
        let out = self.line[self.at];
        let averaged = 0.5 * (out + self.last) * self.loss;
        self.last = out;
        let tuned = self.tuning * (averaged - self.allpass.1) + self.allpass.0;
        self.allpass = (averaged, tuned);
        self.line[self.at] = tuned;
        self.at = if self.at + 1 == self.line.len() { 0 } else { self.at + 1 };
        out
    }
}

/// How a note swells and dies: a straight attack, an exponential approach to the sustained level, an exponential
/// release. Decay and release are the times in which 60 dB would be lost.
#[derive(Clone, Copy)]
pub(super) struct Envelope {
    pub attack_s: f64,
    pub decay_s: f64,
    pub sustain: f32,
    pub release_s: f64,
}

impl Envelope {
    /// The level at each sample of a note held for `held` samples, until it has faded.
    pub fn levels(self, held: usize, rate_hz: f64) -> impl Iterator<Item = f32> {
        let attack = (self.attack_s * rate_hz).max(1.0) as usize;
        let decay = decay_factor(self.decay_s, rate_hz);
        let release = decay_factor(self.release_s, rate_hz);
        let total = held + (self.release_s * rate_hz) as usize;
        let mut level = 0.0_f32;
        (0..total).map(move |at| {
            if at >= held {
                level *= release;
            } else if at < attack {
                level = (at + 1) as f32 / attack as f32;
            } else {
                level = self.sustain + (level - self.sustain) * decay;
            }
            level
        })
    }
}

/// A two-pole low-pass (state variable, trapezoidal integration: Zavalishin, "The art of VA filter design",
/// section 4), stable while its cutoff moves.
#[derive(Clone, Copy, Default)]
pub(super) struct LowPass {
    states: (f32, f32),
    gains: (f32, f32, f32),
}

impl LowPass {
    /// Damping 1.414 is Butterworth, less rings.
    pub fn set(&mut self, cutoff_hz: f64, damping: f64, rate_hz: f64) {
        let g = tan_pi((cutoff_hz / rate_hz).clamp(1e-4, 0.45));
        let a1 = 1.0 / (1.0 + g * (g + damping));
        self.gains = (a1 as f32, (g * a1) as f32, (g * g * a1) as f32);
    }

    pub fn next(&mut self, x: f32) -> f32 {
        let (a1, a2, a3) = self.gains;
        let v3 = x - self.states.1;
        let v1 = a1 * self.states.0 + a2 * v3;
        let v2 = self.states.1 + a2 * self.states.0 + a3 * v3;
        self.states = (2.0 * v1 - self.states.0, 2.0 * v2 - self.states.1);
        v2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far a tone is from `expected_hz`, in cents: the phase of its Fourier component there, in two windows a
    /// tenth of a second apart (the phase vocoder's measure).
    fn cents_off(samples: &[f32], expected_hz: f64, rate_hz: f64) -> f64 {
        let (size, apart) = (8192, rate_hz as usize / 10);
        let phase = |from: usize| {
            let (mut re, mut im) = (0.0, 0.0);
            for (i, x) in samples[from..from + size].iter().enumerate() {
                let turn = 2.0 * std::f64::consts::PI * i as f64;
                let windowed = f64::from(*x) * (0.5 - 0.5 * (turn / size as f64).cos());
                let angle = turn * expected_hz / rate_hz;
                re += windowed * angle.cos();
                im -= windowed * angle.sin();
            }
            im.atan2(re) / (2.0 * std::f64::consts::PI)
        };
        let advance = phase(apart) - phase(0) - expected_hz * apart as f64 / rate_hz;
        let off_hz = (advance - advance.round()) * rate_hz / apart as f64;
        1200.0 * (1.0 + off_hz / expected_hz).log2()
    }

    #[test]
    fn strings_and_oscillators_are_in_tune() {
        for frequency_hz in [110.0, 261.63, 523.25] {
            let mut string = PluckedString::new(frequency_hz, 16000.0, 4.0, 0.5, &mut Random::new(1, 1));
            let plucked: Vec<f32> = (0..16000).map(|_| string.next()).collect();
            let mut oscillator = Oscillator::new(frequency_hz, 16000.0, 0.3);
            let sawn: Vec<f32> = (0..16000).map(|_| oscillator.saw()).collect();
            for (name, sound, tolerance) in [("string", plucked, 3.0), ("saw", sawn, 0.1)] {
                let cents = cents_off(&sound, frequency_hz, 16000.0);
                assert!(cents.abs() < tolerance, "{name} at {frequency_hz} Hz is {cents:.2} cents off");
            }
        }
    }

    #[test]
    fn the_low_pass_halves_power_at_its_cutoff() {
        for (frequency_hz, expected_db) in [(100.0, 0.0), (1000.0, -3.01), (4000.0, -28.05)] {
            let mut filter = LowPass::default();
            filter.set(1000.0, std::f64::consts::SQRT_2, 16000.0);
            let mut tone = Sine::new(frequency_hz, 16000.0);
            let power: f32 = (0..16000).map(|_| filter.next(tone.next(0.0))).skip(8000).map(|y| y * y).sum();
            let db = 10.0 * (f64::from(power) / 4000.0).log10();
            // Butterworth with both frequencies prewarped: 1 / (1 + (tan(pi/4) / tan(pi/16))^4) at 4 kHz.
            assert!((db - expected_db).abs() < 0.2, "{frequency_hz} Hz: {db:.2} dB");
        }
    }
}
