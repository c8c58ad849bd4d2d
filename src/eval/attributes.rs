//! Attributes that can be measured in a sound, each as one number.
//!
//! ```text
//! tempo       60 / lag of the largest autocorrelation of the onset envelope, 50 to 200 bpm, times exp(-(log2(bpm / 110) / 0.9)^2 / 2)
//!                                                                              (Ellis 2007, section 3.2)
//! onset rate  local maxima of the onset envelope above mean + deviation, 40 ms apart, a second
//! key         the largest correlation of the chroma vector with the 24 profiles of Krumhansl and Kessler 1982
//! brightness  centroid of the mean magnitude spectrum, in hertz
//! loudness    level in dBFS
//! percussion  share of the energy that is percussive, in dB (see `listen`)
//! ```

use std::str::FromStr;

use serde::Serialize;

use super::listen::{Heard, PITCH_CLASSES};

/// Tempi that are looked for.
const TEMPO_BPM: [f64; 2] = [50.0, 200.0];
/// Where tempi are expected, and how far around, in octaves.
const EXPECTED_BPM: f64 = 110.0;
const EXPECTED_OCTAVES: f64 = 0.9;
/// Onsets are this far apart, at least.
const ONSET_SECONDS: f64 = 0.04;
/// Mean rise over all bands below which nothing begins.
const ONSET_FLOOR_DB: f64 = 0.2;
/// Keeps logarithms of silence finite: -120 dB.
const TINY: f64 = 1e-12;

/// How well each pitch class fits a key on C (Krumhansl and Kessler 1982; Krumhansl 1990, table 2.1).
const MAJOR: [f64; PITCH_CLASSES] = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88];
const MINOR: [f64; PITCH_CLASSES] = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17];

/// A tonic and whether the third is minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Pitch class, 0 = C.
    pub tonic: usize,
    /// Minor rather than major.
    pub minor: bool,
}

impl Key {
    /// How right `self` is where `named` is: 1 for the same key, 0.5 for a perfect fifth above or below, 0.3 for the relative, 0.2
    /// for the parallel key (MIREX; mir_eval, Raffel et al. 2014).
    pub fn score(self, named: Key) -> f64 {
        let up = (self.tonic + PITCH_CLASSES - named.tonic) % PITCH_CLASSES;
        match (self.minor == named.minor, up) {
            (true, 0) => 1.0,
            (true, 5 | 7) => 0.5,
            (false, 9) if self.minor => 0.3,
            (false, 3) if named.minor => 0.3,
            (false, 0) => 0.2,
            _ => 0.0,
        }
    }
}

/// What a prompt can name and a sound can be measured for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Attribute {
    /// Slow to fast; measured as the onset rate, which a few seconds tell better than their tempo.
    Tempo,
    /// The tempo itself, by autocorrelation.
    Bpm,
    /// Dark to bright.
    Brightness,
    /// Without to with drums.
    Drums,
    /// Quiet to loud.
    Loudness,
}

impl Attribute {
    /// All of them.
    pub const ALL: [Attribute; 5] = [Self::Tempo, Self::Bpm, Self::Brightness, Self::Drums, Self::Loudness];

    /// As typed.
    pub fn name(self) -> &'static str {
        match self {
            Attribute::Tempo => "tempo",
            Attribute::Bpm => "bpm",
            Attribute::Brightness => "brightness",
            Attribute::Drums => "drums",
            Attribute::Loudness => "loudness",
        }
    }

    /// What is measured, with its unit.
    pub fn measure(self) -> &'static str {
        match self {
            Attribute::Tempo => "onsets a second",
            Attribute::Bpm => "bpm",
            Attribute::Brightness => "centroid Hz",
            Attribute::Drums => "percussive dB",
            Attribute::Loudness => "dBFS",
        }
    }
}

impl FromStr for Attribute {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|attribute| attribute.name() == name).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|attribute| attribute.name()).collect();
            format!("`{name}` cannot be measured; what can: {}", names.join(", "))
        })
    }
}

/// The attributes of one clip.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Attributes {
    /// Beats a minute; 0 where there is no pulse.
    pub tempo_bpm: f64,
    /// Onsets a second.
    pub onset_rate: f64,
    /// Hertz; 0 for silence.
    pub centroid_hz: f64,
    /// dBFS, -120 at least.
    pub loudness_dbfs: f64,
    /// dB, -120 at least.
    pub percussion_db: f64,
    /// `None` where there is no note.
    pub key: Option<Key>,
    /// Autocorrelation at the tempo, 0 to 1: how regular the onsets are.
    pub pulse: f64,
}

impl Attributes {
    /// Measures.
    pub fn of(heard: &Heard) -> Attributes {
        let (tempo_bpm, pulse) = tempo(heard);
        Attributes {
            tempo_bpm,
            pulse,
            onset_rate: onsets(heard) as f64 / heard.seconds.max(TINY),
            centroid_hz: centroid(heard),
            loudness_dbfs: heard.level_dbfs.max(10.0 * TINY.log10()),
            percussion_db: 10.0 * heard.percussive.max(TINY).log10(),
            key: key(&heard.chroma),
        }
    }

    /// The number that `attribute` is measured by.
    pub fn get(&self, attribute: Attribute) -> f64 {
        match attribute {
            Attribute::Tempo => self.onset_rate,
            Attribute::Bpm => self.tempo_bpm,
            Attribute::Brightness => self.centroid_hz,
            Attribute::Drums => self.percussion_db,
            Attribute::Loudness => self.loudness_dbfs,
        }
    }
}

fn centroid(heard: &Heard) -> f64 {
    let total: f64 = heard.spectrum.iter().sum();
    let weighted: f64 = heard.spectrum.iter().enumerate().map(|(k, x)| k as f64 * heard.bin_hz * x).sum();
    if total > TINY { weighted / total } else { 0.0 }
}

fn onsets(heard: &Heard) -> usize {
    let envelope = &heard.onsets;
    let reach = ((ONSET_SECONDS / heard.frame_seconds).round() as usize).max(1);
    let n = envelope.len().max(1) as f64;
    let mean = envelope.iter().sum::<f64>() / n;
    let deviation = (envelope.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let threshold = (mean + deviation).max(ONSET_FLOOR_DB);
    let is_onset = |i: usize| {
        let around = i.saturating_sub(reach)..(i + reach + 1).min(envelope.len());
        // Of two equal ones the first is the onset.
        let higher = |j: usize| envelope[j] > envelope[i] || (j < i && envelope[j] == envelope[i]);
        envelope[i] > threshold && !around.into_iter().any(higher)
    };
    (0..envelope.len()).filter(|&i| is_onset(i)).count()
}

/// Tempo and the autocorrelation there.
fn tempo(heard: &Heard) -> (f64, f64) {
    let n = heard.onsets.len();
    let mean = heard.onsets.iter().sum::<f64>() / n.max(1) as f64;
    let centred: Vec<f64> = heard.onsets.iter().map(|x| x - mean).collect();
    let power = centred.iter().map(|x| x * x).sum::<f64>() / n.max(1) as f64;
    if power < ONSET_FLOOR_DB * ONSET_FLOOR_DB {
        return (0.0, 0.0);
    }
    // The mean over the pairs that there are, so that long lags are not at a disadvantage.
    let correlation = |lag: usize| {
        let sum: f64 = centred.iter().zip(&centred[lag..]).map(|(a, b)| a * b).sum();
        sum / (n - lag) as f64 / power
    };
    let bpm = |lag: f64| 60.0 / (lag * heard.frame_seconds);
    let lag_of = |bpm: f64| 60.0 / (bpm * heard.frame_seconds);
    let expected = |lag: usize| {
        let octaves = (bpm(lag as f64) / EXPECTED_BPM).log2() / EXPECTED_OCTAVES;
        (-0.5 * octaves * octaves).exp()
    };
    let lags = (lag_of(TEMPO_BPM[1]).ceil() as usize).max(2)..=lag_of(TEMPO_BPM[0]).floor() as usize;
    let usable = lags.filter(|&lag| lag + 2 < n && 4 * lag <= 3 * n);
    let scored = usable.map(|lag| (correlation(lag) * expected(lag), lag));
    let Some((_, lag)) = scored.max_by(|a, b| a.0.total_cmp(&b.0)) else { return (0.0, 0.0) };
    let [below, here, above] = [lag - 1, lag, lag + 1].map(correlation);
    let curve = below - 2.0 * here + above;
    let off = if curve < 0.0 { (0.5 * (below - above) / curve).clamp(-0.5, 0.5) } else { 0.0 };
    (bpm(lag as f64 + off), here.clamp(0.0, 1.0))
}

fn key(chroma: &[f64; PITCH_CLASSES]) -> Option<Key> {
    let fit = |key: Key| {
        let profile = if key.minor { &MINOR } else { &MAJOR };
        let turned: [f64; PITCH_CLASSES] =
            std::array::from_fn(|i| profile[(i + PITCH_CLASSES - key.tonic) % PITCH_CLASSES]);
        correlation(chroma, &turned)
    };
    let keys = (0..PITCH_CLASSES).flat_map(|tonic| [false, true].map(|minor| Key { tonic, minor }));
    let best = keys.map(|key| (fit(key), key)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (chroma.iter().sum::<f64>() > 0.0).then_some(best.1)
}

/// Pearson's.
fn correlation(a: &[f64; PITCH_CLASSES], b: &[f64; PITCH_CLASSES]) -> f64 {
    let mean = |x: &[f64; PITCH_CLASSES]| x.iter().sum::<f64>() / PITCH_CLASSES as f64;
    let (a_mean, b_mean) = (mean(a), mean(b));
    let product = |x: &[f64], x_mean: f64, y: &[f64], y_mean: f64| {
        x.iter().zip(y).map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>()
    };
    let scale = (product(a, a_mean, a, a_mean) * product(b, b_mean, b, b_mean)).sqrt();
    product(a, a_mean, b, b_mean) / scale.max(TINY)
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;
    use crate::eval::listen::Listener;
    use crate::eval::noise;

    const RATE: u32 = 16_000;

    fn measured(sound: Vec<f32>) -> Attributes {
        Attributes::of(&Listener::new(RATE).hear(&[sound]))
    }

    /// 20 ms of noise that dies away, at each click.
    fn clicks(bpm: f64, seconds: f64) -> Vec<f32> {
        let period = 60.0 / bpm * f64::from(RATE);
        let loud = |i: usize| (-(i as f64 % period) / (0.005 * f64::from(RATE))).exp() as f32;
        let noise = noise::white(1, 0, (seconds * f64::from(RATE)) as usize);
        noise.into_iter().enumerate().map(|(i, x)| 0.3 * x * loud(i)).collect()
    }

    /// Sines at these pitches (semitones above C4), with some harmonics.
    fn chord(pitches: &[i32], seconds: f64) -> Vec<f32> {
        let samples = (seconds * f64::from(RATE)) as usize;
        let tone = |time: f64, pitch: i32| {
            let hz = 261.625_565 * 2f64.powf(f64::from(pitch) / 12.0);
            (1..4).map(|h| (TAU * hz * f64::from(h) * time).sin() / f64::from(h * h)).sum::<f64>()
        };
        let at = |i: usize| pitches.iter().map(|&p| tone(i as f64 / f64::from(RATE), p)).sum::<f64>();
        (0..samples).map(|i| (0.1 * at(i)) as f32).collect()
    }

    #[test]
    fn clicks_have_their_tempo_and_their_rate() {
        for bpm in [66.0, 90.0, 120.0, 150.0] {
            let found = measured(clicks(bpm, 6.0));
            assert!((found.tempo_bpm / bpm - 1.0).abs() < 0.03, "{bpm}: {}", found.tempo_bpm);
            assert!((found.onset_rate - bpm / 60.0).abs() < 0.4, "{bpm}: {} a second", found.onset_rate);
            assert!(found.pulse > 0.6, "{bpm}: pulse {}", found.pulse);
        }
    }

    #[test]
    fn scales_have_their_key() {
        let cadence = |tonic: i32, thirds: [i32; 3]| {
            let triad = |root: i32, third: i32| [root, root + third, root + 7].map(|p| tonic + p - 12);
            let [i, iv, v] = thirds;
            let mut sound = chord(&triad(0, i), 1.0);
            sound.extend(chord(&triad(5, iv), 0.7));
            sound.extend(chord(&triad(7, v), 0.7));
            sound.extend(chord(&triad(0, i), 1.0));
            sound
        };
        for tonic in 0..12 {
            for (minor, thirds) in [(false, [4, 4, 4]), (true, [3, 3, 4])] {
                let key = Key { tonic: tonic as usize, minor };
                assert_eq!(measured(cadence(tonic, thirds)).key, Some(key));
            }
        }
        assert_eq!(measured(vec![0.0; 16_000]).key, None);
    }

    #[test]
    fn keys_are_scored_as_mirex_does() {
        let key = |tonic, minor| Key { tonic, minor };
        let c = key(0, false);
        assert_eq!(c.score(c), 1.0);
        assert_eq!((key(7, false).score(c), key(5, false).score(c)), (0.5, 0.5));
        assert_eq!((key(9, true).score(c), c.score(key(9, true))), (0.3, 0.3));
        assert_eq!((key(0, true).score(c), key(3, true).score(c)), (0.2, 0.0));
    }

    #[test]
    fn centroid_loudness_and_percussion_of_known_sounds() {
        let sine = |hz: f64, gain: f64| -> Vec<f32> {
            (0..32_000).map(|i| (gain * (TAU * hz * f64::from(i) / 16_000.0).sin()) as f32).collect()
        };
        for hz in [500.0, 1000.0, 3000.0] {
            let found = measured(sine(hz, 0.5));
            assert!((found.centroid_hz / hz - 1.0).abs() < 0.05, "{hz}: {}", found.centroid_hz);
            assert!((found.loudness_dbfs + 9.03).abs() < 0.05, "{}", found.loudness_dbfs);
        }
        // White noise is as strong at all frequencies up to 8 kHz.
        let noise = measured(noise::white(3, 0, 32_000).into_iter().map(|x| 0.1 * x).collect());
        assert!((noise.centroid_hz - 4000.0).abs() < 100.0, "{}", noise.centroid_hz);
        let (click, tone) = (measured(clicks(120.0, 2.0)), measured(chord(&[0, 4, 7], 2.0)));
        assert!(click.percussion_db > -2.0, "{}", click.percussion_db);
        assert!(tone.percussion_db < click.percussion_db - 6.0, "{}", tone.percussion_db);
    }

    #[test]
    fn attributes_are_read_by_name() {
        assert_eq!("drums".parse(), Ok(Attribute::Drums));
        assert!("colour".parse::<Attribute>().unwrap_err().contains("tempo, bpm, brightness"));
    }
}
