//! The instruments: a table of timbres, and the one function that plays a note with any of them.

use super::math::{decay_factor, frequency_hz};
use super::oscillators::{Envelope, LowPass, Oscillator, PluckedString, Sine};
use super::random::Random;

/// What a part is played on. Names are what the captions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instrument {
    Bell,
    ElectricPiano,
    Piano,
    Guitar,
    ElectricGuitar,
    Organ,
    Strings,
    Pad,
    Flute,
    SawLead,
    SquareLead,
    SynthBass,
    TriangleBass,
    BassGuitar,
    UprightBass,
}

/// A note on the clock of the finished song.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Note {
    pub start_s: f64,
    pub length_s: f64,
    pub midi: i32,
    /// Loudness in 0..1.
    pub velocity: f32,
}

/// Where a sound comes from.
enum Source {
    /// Carrier and modulator (Chowning 1973): frequency ratio, index in radians, and how fast the index falls.
    Fm {
        ratio: f64,
        index: f32,
        index_decay_s: f64,
    },
    /// Sines at multiples of the pitch.
    Partials(&'static [(f64, f32)]),
    /// Three saws, the outer two this far out of tune.
    Saws {
        detune_cents: f64,
    },
    /// A pulse wave that is high for this share of the period.
    Pulse {
        duty: f32,
    },
    Triangle,
    /// A plucked string: its decay at 220 Hz, and how soft the pick is in 0..1.
    Pluck {
        decay_s: f64,
        pick: f32,
    },
    /// Sine, a little of the next two harmonics, and breath.
    Breath,
}

/// Everything that makes an instrument sound like itself.
struct Timbre {
    name: &'static str,
    source: Source,
    envelope: Envelope,
    /// Cutoff of the low-pass at rest, as a multiple of the pitch plus a fixed part in Hz.
    cutoff: (f64, f64),
    /// How many times higher the cutoff starts, and the time constant of its fall.
    sweep: (f64, f64),
}

const fn envelope(attack_s: f64, decay_s: f64, sustain: f32, release_s: f64) -> Envelope {
    Envelope { attack_s, decay_s, sustain, release_s }
}

/// Drawbars 8', 4', 2 2/3', 2', 1 1/3' and a sub.
const ORGAN: &[(f64, f32)] = &[(0.5, 0.3), (1.0, 0.6), (2.0, 0.45), (3.0, 0.3), (4.0, 0.2), (6.0, 0.1)];
/// Partials a little sharp, as stiff strings are.
const PIANO: &[(f64, f32)] =
    &[(1.0, 0.6), (2.001, 0.35), (3.003, 0.22), (4.008, 0.14), (5.015, 0.09), (6.03, 0.06), (7.05, 0.04)];

impl Instrument {
    /// What the captions call it.
    pub fn name(self) -> &'static str {
        self.timbre().name
    }

    fn timbre(self) -> Timbre {
        use Source::*;
        let timbre = |name, source, envelope, cutoff, sweep| Timbre { name, source, envelope, cutoff, sweep };
        let bell = Fm { ratio: 3.5, index: 2.2, index_decay_s: 1.5 };
        let tine = Fm { ratio: 1.0, index: 1.8, index_decay_s: 1.2 };
        let string = |decay_s, pick| Pluck { decay_s, pick };
        let bare = (1.0, 1.0);
        match self {
            Self::Bell => timbre("bell", bell, envelope(0.002, 3.0, 0.0, 1.2), (4.0, 1500.0), bare),
            Self::ElectricPiano => {
                timbre("electric piano", tine, envelope(0.003, 4.0, 0.0, 0.3), (4.0, 1000.0), bare)
            }
            Self::Piano => {
                timbre("piano", Partials(PIANO), envelope(0.002, 2.5, 0.0, 0.3), (2.0, 700.0), (4.0, 0.3))
            }
            Self::Guitar => {
                timbre("guitar", string(2.5, 0.55), envelope(0.001, 9.0, 0.0, 0.3), (5.0, 1500.0), bare)
            }
            Self::ElectricGuitar => timbre(
                "electric guitar",
                string(6.0, 0.5),
                envelope(0.001, 20.0, 0.0, 0.15),
                (5.0, 1500.0),
                bare,
            ),
            Self::Organ => {
                timbre("organ", Partials(ORGAN), envelope(0.01, 1.0, 1.0, 0.08), (6.0, 1500.0), bare)
            }
            Self::Strings => {
                let saws = Saws { detune_cents: 6.0 };
                timbre("strings", saws, envelope(0.09, 1.0, 0.9, 0.35), (3.0, 900.0), bare)
            }
            Self::Pad => {
                let saws = Saws { detune_cents: 11.0 };
                timbre("pad", saws, envelope(0.3, 1.0, 0.9, 0.8), (2.0, 500.0), (1.6, 0.8))
            }
            Self::Flute => timbre("flute", Breath, envelope(0.06, 0.6, 0.8, 0.12), (4.0, 1500.0), bare),
            Self::SawLead => {
                let saws = Saws { detune_cents: 8.0 };
                timbre("saw lead", saws, envelope(0.008, 1.0, 0.7, 0.12), (2.0, 700.0), (3.0, 0.12))
            }
            Self::SquareLead => {
                let pulse = Pulse { duty: 0.25 };
                timbre("square lead", pulse, envelope(0.003, 0.8, 0.6, 0.06), (6.0, 2000.0), bare)
            }
            Self::SynthBass => {
                let saws = Saws { detune_cents: 3.0 };
                timbre("synth bass", saws, envelope(0.005, 0.8, 0.7, 0.08), (2.0, 80.0), (3.0, 0.12))
            }
            Self::TriangleBass => {
                timbre("triangle bass", Triangle, envelope(0.003, 1.0, 0.8, 0.05), (8.0, 400.0), bare)
            }
            Self::BassGuitar => {
                timbre("bass guitar", string(3.0, 0.6), envelope(0.002, 6.0, 0.0, 0.08), (5.0, 400.0), bare)
            }
            Self::UprightBass => {
                timbre("upright bass", string(1.8, 0.8), envelope(0.004, 4.0, 0.0, 0.12), (3.0, 200.0), bare)
            }
        }
    }

    /// Adds a note to `out`. `openness` multiplies every filter's cutoff: the song's brightness, at the source.
    pub fn play(self, note: Note, openness: f64, rate_hz: f64, random: &mut Random, out: &mut [f32]) {
        let timbre = self.timbre();
        let pitch_hz = frequency_hz(f64::from(note.midi));
        let nyquist_hz = 0.5 * rate_hz;
        let voice = Voice { note, timbre: &timbre, pitch_hz, openness, rate_hz };
        match timbre.source {
            Source::Fm { ratio, index, index_decay_s } => {
                let mut carrier = Sine::new(pitch_hz, rate_hz);
                let mut modulator = Sine::new(pitch_hz * ratio, rate_hz);
                let fall = decay_factor(index_decay_s, rate_hz);
                let mut index = index * (0.5 + 0.5 * note.velocity) * openness.min(1.3) as f32;
                voice.add(out, || {
                    index *= fall;
                    carrier.next(index * modulator.next(0.0))
                });
            }
            Source::Partials(partials) => {
                let audible = |&&(ratio, _): &&(f64, f32)| ratio * pitch_hz < nyquist_hz;
                let mut sines: Vec<(Sine, f32)> = partials
                    .iter()
                    .filter(audible)
                    .map(|&(ratio, level)| (Sine::new(pitch_hz * ratio, rate_hz), level))
                    .collect();
                voice.add(out, || sines.iter_mut().map(|(sine, level)| *level * sine.next(0.0)).sum());
            }
            Source::Saws { detune_cents } => {
                let mut saws = [-1.0, 0.0, 1.0].map(|side| {
                    let hz = frequency_hz(f64::from(note.midi) + side * detune_cents / 100.0);
                    Oscillator::new(hz, rate_hz, random.unit() as f32)
                });
                voice.add(out, || saws.iter_mut().map(|saw| 0.33 * saw.saw()).sum());
            }
            Source::Pulse { duty } => {
                let mut oscillator = Oscillator::new(pitch_hz, rate_hz, 0.0);
                voice.add(out, || 0.5 * oscillator.pulse(duty));
            }
            Source::Triangle => {
                let mut oscillator = Oscillator::new(pitch_hz, rate_hz, 0.25);
                voice.add(out, || oscillator.triangle());
            }
            Source::Pluck { decay_s, pick } => {
                // Long strings ring longer, but less than in proportion.
                let decay_s = decay_s * (220.0 / pitch_hz).sqrt();
                let pick = (pick as f64 / openness.sqrt()).min(0.95) as f32;
                let mut string = PluckedString::new(pitch_hz, rate_hz, decay_s, pick, random);
                voice.add(out, || string.next());
            }
            Source::Breath => voice.add(out, breath(pitch_hz, rate_hz, random)),
        }
    }
}

/// A flute's tube: three harmonics with a vibrato that sets in late, and breath around the pitch.
fn breath(pitch_hz: f64, rate_hz: f64, random: &mut Random) -> impl FnMut() -> f32 {
    let mut harmonics = [1.0, 2.0, 3.0].map(|ratio| Sine::new(pitch_hz * ratio, rate_hz));
    let mut vibrato = Sine::new(5.2, rate_hz);
    let mut air = LowPass::default();
    air.set(2.0 * pitch_hz, 0.4, rate_hz);
    let mut noise = Random::new(random.unit().to_bits(), 0);
    let (mut depth, onset) = (0.0, 1.0 - decay_factor(2.0, rate_hz));
    move || {
        depth += onset * (1.0 - depth);
        // A phase swing of 1.2 radians at 5.2 Hz moves the pitch by 6 Hz: 20 cents at 523 Hz.
        let swing = 1.2 * depth * vibrato.next(0.0);
        let [first, second, third] = &mut harmonics;
        let tone = first.next(swing) + 0.25 * second.next(2.0 * swing) + 0.08 * third.next(3.0 * swing);
        0.7 * tone + 0.05 * air.next(noise.noise())
    }
}

/// A note about to be played on a timbre.
struct Voice<'a> {
    note: Note,
    timbre: &'a Timbre,
    pitch_hz: f64,
    openness: f64,
    rate_hz: f64,
}

impl Voice<'_> {
    /// Runs a source through the filter and the envelope, into `out`.
    fn add(&self, out: &mut [f32], mut source: impl FnMut() -> f32) {
        /// Samples between two moves of the filter.
        const BLOCK: usize = 32;
        let start = (self.note.start_s * self.rate_hz) as usize;
        let held = (self.note.length_s * self.rate_hz) as usize;
        let mut filter = LowPass::default();
        let (top, fall_s) = self.timbre.sweep;
        let fall = decay_factor(fall_s * 6.9, self.rate_hz / BLOCK as f64);
        let mut sweep = top - 1.0;
        let rest_hz = self.openness * (self.timbre.cutoff.0 * self.pitch_hz + self.timbre.cutoff.1);
        let levels = self.timbre.envelope.levels(held, self.rate_hz);
        for (at, (level, out)) in levels.zip(out.iter_mut().skip(start)).enumerate() {
            if at % BLOCK == 0 && (at == 0 || sweep > 0.01) {
                filter.set(rest_hz * (1.0 + sweep), 1.2, self.rate_hz);
                sweep *= f64::from(fall);
            }
            *out += self.note.velocity * level * filter.next(source());
        }
    }
}
