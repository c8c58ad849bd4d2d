//! What is heard in a clip before anything is measured: a mel spectrogram in dB, an onset envelope, a chroma vector, and
//! how much of the sound is percussive. All channels are mixed to one.
//!
//! ```text
//! mel dB     L[b, t] = 20 log10 max(M |X|, 1e-4), 40 Slaney bands, 64 ms windows every 8 ms
//! onsets     o[t] = mean_b max(L[b, t + d] - L[b, t], 0), d 48 ms       (spectral flux, Bello et al. 2005, section III)
//! chroma     spectral peaks from 100 Hz to 2 kHz of 256 ms windows, by pitch class, in shares (Gomez 2006, section 3.1)
//! percussive share of energy under the mask P^2 / (P^2 + H^2), H and P the running medians of |X| over 250 ms
//!            and over 200 Hz                                             (Fitzgerald 2010, eq. 1-4)
//! ```

use realfft::num_complex::Complex32;

use crate::audio::config::Window;
use crate::audio::mel::MelFilters;
use crate::audio::stft::Stft;

/// Mel bands.
pub const BANDS: usize = 40;
/// Pitch classes, C to B.
pub const PITCH_CLASSES: usize = 12;
/// Length of an analysis window.
const WINDOW_SECONDS: f64 = 0.064;
/// Windows overlap by this much less one.
const HOPS_A_WINDOW: usize = 8;
/// How much longer the windows are that notes are told apart with.
const CHROMA_WINDOWS: usize = 4;
/// Range in which notes are looked for.
const CHROMA_HZ: [f64; 2] = [100.0, 2000.0];
/// Magnitude below which nothing is heard: -80 dB.
const FLOOR: f32 = 1e-4;
/// Widths of the medians, at 16 kHz 31 frames and 13 bins.
const MEDIAN_SECONDS: f64 = 0.248;
const MEDIAN_HZ: f64 = 203.0;
/// Time over which a rise counts as one: a decoder smears beginnings.
const RISE_SECONDS: f64 = 0.048;
/// Keeps ratios of silence finite.
const TINY: f64 = 1e-12;
/// Frequency of pitch class 0: C4, with A4 at 440 Hz.
const C4_HZ: f64 = 261.625_565;

/// Analyses clips of one sample rate.
pub struct Listener {
    sample_rate: u32,
    stft: Stft,
    mel: MelFilters,
    chroma: Stft,
}

/// What was heard in one clip.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Seconds between frames.
    pub frame_seconds: f64,
    /// Length of the clip.
    pub seconds: f64,
    /// Level in dB below a full-scale square wave; -inf for silence.
    pub level_dbfs: f64,
    /// `[BANDS, frames]`.
    pub mel_db: Vec<f32>,
    /// Mean magnitude of each bin.
    pub spectrum: Vec<f64>,
    /// Hertz between bins.
    pub bin_hz: f64,
    /// Onset envelope in dB, a value a frame.
    pub onsets: Vec<f64>,
    /// Shares of the pitch classes; all 0 where there is no note.
    pub chroma: [f64; PITCH_CLASSES],
    /// Share of the energy that is percussive.
    pub percussive: f64,
}

impl Heard {
    /// Frames of the mel spectrogram.
    pub fn frames(&self) -> usize {
        self.mel_db.len() / BANDS
    }
}

impl Listener {
    /// For sounds of `sample_rate` hertz.
    pub fn new(sample_rate: u32) -> Listener {
        let n_fft = ((WINDOW_SECONDS * f64::from(sample_rate)) as usize).next_power_of_two().max(64);
        let long = CHROMA_WINDOWS * n_fft;
        Listener {
            sample_rate,
            stft: Stft::new(n_fft, n_fft / HOPS_A_WINDOW, Window::Hann),
            mel: MelFilters::new(BANDS, n_fft, sample_rate),
            chroma: Stft::new(long, long / HOPS_A_WINDOW, Window::Hann),
        }
    }

    /// Listens to a clip; samples that are not finite count as silence.
    pub fn hear(&self, channels: &[Vec<f32>]) -> Heard {
        let mono = mixed(channels);
        let square = mono.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / mono.len().max(1) as f64;
        let magnitude = magnitudes(&self.stft, &mono);
        let bins = self.stft.bins();
        let frames = magnitude.len() / bins;
        let mut spectrum = vec![0.0; bins];
        for frame in magnitude.chunks_exact(bins) {
            spectrum.iter_mut().zip(frame).for_each(|(sum, &x)| *sum += f64::from(x) / frames as f64);
        }
        let mut rows = vec![0.0; magnitude.len()];
        for (t, frame) in magnitude.chunks_exact(bins).enumerate() {
            frame.iter().enumerate().for_each(|(k, &x)| rows[k * frames + t] = x);
        }
        let mut mel_db = if frames > 0 { self.mel.apply(&rows, frames) } else { Vec::new() };
        mel_db.iter_mut().for_each(|x| *x = 20.0 * x.max(FLOOR).log10());
        let rate = f64::from(self.sample_rate);
        let frame_seconds = self.stft.hop() as f64 / rate;
        let bin_hz = rate / (2 * (bins - 1)) as f64;
        let widths = [MEDIAN_SECONDS / frame_seconds, MEDIAN_HZ / bin_hz].map(|width| width.round() as usize);
        let rise = ((RISE_SECONDS / frame_seconds).round() as usize).max(1);
        Heard {
            frame_seconds,
            seconds: mono.len() as f64 / rate,
            level_dbfs: 10.0 * square.log10(),
            onsets: flux(&mel_db, frames, rise),
            chroma: self.pitch_classes(&mono),
            percussive: percussive(&magnitude, &rows, bins, widths),
            bin_hz,
            mel_db,
            spectrum,
        }
    }

    fn pitch_classes(&self, mono: &[f32]) -> [f64; PITCH_CLASSES] {
        let bins = self.chroma.bins();
        let bin_hz = f64::from(self.sample_rate) / (2 * (bins - 1)) as f64;
        let mut classes = [0.0; PITCH_CLASSES];
        for frame in magnitudes(&self.chroma, mono).chunks_exact(bins) {
            for k in 1..bins - 1 {
                let [below, here, above] = [frame[k - 1], frame[k], frame[k + 1]].map(f64::from);
                if here <= f64::from(FLOOR) || here < below || here <= above {
                    continue;
                }
                // The vertex of a parabola through the peak and its neighbours, in dB (Smith and Serra 1987).
                let [below_db, here_db, above_db] = [below, here, above].map(|x| x.max(TINY).ln());
                let curve = below_db - 2.0 * here_db + above_db;
                let off = if curve < 0.0 { 0.5 * (below_db - above_db) / curve } else { 0.0 };
                let hz = (k as f64 + off) * bin_hz;
                if !(CHROMA_HZ[0]..=CHROMA_HZ[1]).contains(&hz) {
                    continue;
                }
                let pitch = (12.0 * (hz / C4_HZ).log2()).rem_euclid(12.0);
                let (low, share) = (pitch.floor() as usize % PITCH_CLASSES, pitch.fract());
                classes[low] += (1.0 - share) * here;
                classes[(low + 1) % PITCH_CLASSES] += share * here;
            }
        }
        let sum: f64 = classes.iter().sum();
        classes.map(|class| if sum > 0.0 { class / sum } else { 0.0 })
    }

    /// `noise`, filtered to the mean magnitudes of `like` (what [`Heard::spectrum`] says of a clip).
    pub fn coloured(&self, noise: &[f32], like: &[f64]) -> Vec<f32> {
        let (mut spectrum, mut scratch, mut out) = (Vec::new(), self.stft.scratch(), Vec::new());
        self.stft.forward(noise, &mut spectrum, &mut scratch);
        for frame in spectrum.chunks_exact_mut(self.stft.bins()) {
            frame.iter_mut().zip(like).for_each(|(x, &gain)| *x *= gain as f32);
        }
        self.stft.inverse(&spectrum, &mut out, &mut scratch);
        out.resize(noise.len(), 0.0);
        out
    }

    /// Mean over frames of the root mean square difference of two clips' spectra in dB (log-spectral distance, Gray and Markel
    /// 1976), with a floor at -80 dB.
    pub fn log_spectral_distance(&self, a: &[Vec<f32>], b: &[Vec<f32>]) -> f64 {
        let db = |channels: &[Vec<f32>]| -> Vec<f64> {
            let magnitude = magnitudes(&self.stft, &mixed(channels));
            magnitude.into_iter().map(|x| 20.0 * f64::from(x.max(FLOOR)).log10()).collect()
        };
        let (a, b, bins) = (db(a), db(b), self.stft.bins());
        let frames = a.chunks_exact(bins).zip(b.chunks_exact(bins));
        let distances: Vec<f64> = frames
            .map(|(a, b)| (a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / bins as f64).sqrt())
            .collect();
        distances.iter().sum::<f64>() / distances.len().max(1) as f64
    }
}

fn mixed(channels: &[Vec<f32>]) -> Vec<f32> {
    let len = channels.first().map_or(0, Vec::len);
    let finite = |x: f32| if x.is_finite() { x } else { 0.0 };
    let at = |i: usize| channels.iter().map(|channel| finite(channel[i])).sum::<f32>();
    (0..len).map(|i| at(i) / channels.len() as f32).collect()
}

/// `[frames, bins]`, a full-scale sine being 1.
fn magnitudes(stft: &Stft, mono: &[f32]) -> Vec<f32> {
    let (mut spectrum, mut scratch): (Vec<Complex32>, _) = (Vec::new(), stft.scratch());
    stft.forward(mono, &mut spectrum, &mut scratch);
    let scale = stft.sine_scale();
    spectrum.into_iter().map(|x| scale * x.norm()).collect()
}

fn flux(mel_db: &[f32], frames: usize, rise: usize) -> Vec<f64> {
    let mut onsets = vec![0.0; frames.saturating_sub(rise)];
    for band in mel_db.chunks_exact(frames.max(1)) {
        for (sum, (before, after)) in onsets.iter_mut().zip(band.iter().zip(&band[rise.min(frames)..])) {
            *sum += f64::from((after - before).max(0.0)) / BANDS as f64;
        }
    }
    onsets
}

/// `magnitude` is `[frames, bins]`, `rows` the same, transposed.
fn percussive(magnitude: &[f32], rows: &[f32], bins: usize, [in_time, in_bins]: [usize; 2]) -> f64 {
    let frames = magnitude.len() / bins;
    if frames == 0 {
        return 0.0;
    }
    let over_bins: Vec<f32> =
        magnitude.chunks_exact(bins).flat_map(|row| running_median(row, in_bins)).collect();
    let over_time: Vec<f32> =
        rows.chunks_exact(frames).flat_map(|row| running_median(row, in_time)).collect();
    let (mut hit, mut all) = (0.0, 0.0);
    for (t, frame) in magnitude.chunks_exact(bins).enumerate() {
        for (k, &x) in frame.iter().enumerate() {
            let percussion = f64::from(over_bins[t * bins + k]).powi(2);
            let harmony = f64::from(over_time[k * frames + t]).powi(2);
            let energy = f64::from(x).powi(2);
            hit += energy * percussion / (percussion + harmony + TINY);
            all += energy;
        }
    }
    hit / (all + TINY)
}

/// Median over a window of about `width` values around each, an odd number, shorter at the ends.
fn running_median(row: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let place = |sorted: &[f32], x: f32| sorted.partition_point(|&y| y < x);
    let mut sorted: Vec<f32> = Vec::with_capacity(width + 1);
    for &x in row.iter().take(half) {
        sorted.insert(place(&sorted, x), x);
    }
    (0..row.len())
        .map(|i| {
            if let Some(&x) = row.get(i + half) {
                sorted.insert(place(&sorted, x), x);
            }
            if i > half {
                sorted.remove(place(&sorted, row[i - half - 1]));
            }
            sorted[sorted.len() / 2]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_running_median_is_the_median_of_each_window() {
        let row: Vec<f32> = (0..100).map(|i| ((i * 37) % 23) as f32).collect();
        for (i, median) in running_median(&row, 31).into_iter().enumerate() {
            let mut window = row[i.saturating_sub(15)..(i + 16).min(100)].to_vec();
            window.sort_by(f32::total_cmp);
            assert_eq!(median, window[window.len() / 2], "at {i}");
        }
        assert_eq!(running_median(&[3.0], 17), [3.0]);
    }

    #[test]
    fn silence_and_damage_are_heard_without_numbers_that_are_none() {
        let listener = Listener::new(16_000);
        for sound in [vec![0.0; 8000], vec![f32::NAN; 8000], vec![0.0; 10]] {
            let heard = listener.hear(&[sound]);
            assert!(heard.percussive.is_finite() && heard.onsets.iter().all(|x| x.is_finite()));
            assert_eq!(heard.chroma, [0.0; PITCH_CLASSES]);
        }
    }

    #[test]
    fn coloured_noise_has_the_spectrum_that_it_was_given() {
        let listener = Listener::new(16_000);
        let noise: Vec<f32> =
            (0..16_000u64).map(|i| crate::random::normal(crate::eval::noise::key(0, 0), i)).collect();
        let like: Vec<f64> = (0..listener.stft.bins()).map(|k| if k < 100 { 1.0 } else { 1e-3 }).collect();
        let spectrum = listener.hear(&[listener.coloured(&noise, &like)]).spectrum;
        let mean =
            |range: std::ops::Range<usize>| spectrum[range.clone()].iter().sum::<f64>() / range.len() as f64;
        assert!(mean(10..90) > 300.0 * mean(110..500), "{} to {}", mean(10..90), mean(110..500));
    }
}
