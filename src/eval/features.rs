//! A clip as a short vector, for distances between sets of clips: what is in it of each frequency, how that moves, how its notes
//! and onsets are. Nothing learnt, so that the numbers mean the same for every data set and everybody.
//!
//! ```text
//!  0..10   mean level of ten groups of four mel bands, in dB
//! 10..20   deviation over time of the same
//! 20..24   onsets: mean and deviation of the envelope, rate a second, regularity (autocorrelation at the tempo)
//! 24..27   chroma: the largest share, the entropy, the sum of the three largest shares
//! 27..30   percussive share in dB, centroid in octaves, deviation over time of the overall level
//! ```

use super::attributes::Attributes;
use super::listen::{BANDS, Heard};

/// Features of a clip.
pub const FEATURES: usize = 30;
const GROUPS: usize = 10;
/// Deviations below this are no information and do not blow up what is measured.
const SMALLEST_DEVIATION: f64 = 1e-3;
/// Octaves of the centroid are counted from here.
const CENTROID_FROM_HZ: f64 = 100.0;

/// The features, in the order above; finite for any clip.
pub fn features(heard: &Heard, attributes: &Attributes) -> Vec<f64> {
    let frames = heard.frames().max(1);
    let groups = heard.mel_db.chunks_exact(BANDS / GROUPS * frames);
    let over_time: Vec<Vec<f64>> = groups.map(|bands| columns(bands, frames)).collect();
    let mut features: Vec<f64> = over_time.iter().map(|level| moments(level).0).collect();
    features.extend(over_time.iter().map(|level| moments(level).1));
    features.resize(2 * GROUPS, 0.0);
    let (flux, flux_deviation) = moments(&heard.onsets);
    features.extend([flux, flux_deviation, attributes.onset_rate, attributes.pulse]);
    let mut chroma = heard.chroma;
    chroma.sort_by(|a, b| b.total_cmp(a));
    let entropy: f64 = chroma.iter().filter(|&&share| share > 0.0).map(|share| -share * share.ln()).sum();
    features.extend([chroma[0], entropy, chroma[..3].iter().sum()]);
    let level = columns(&heard.mel_db, frames);
    let octaves = (attributes.centroid_hz.max(CENTROID_FROM_HZ) / CENTROID_FROM_HZ).log2();
    features.extend([attributes.percussion_db.max(-60.0), octaves, moments(&level).1]);
    features
}

/// Mean of each frame over some bands, `[bands, frames]`.
fn columns(bands: &[f32], frames: usize) -> Vec<f64> {
    let mut mean = vec![0.0; frames];
    let count = (bands.len() / frames).max(1) as f64;
    for band in bands.chunks_exact(frames) {
        mean.iter_mut().zip(band).for_each(|(sum, &x)| *sum += f64::from(x) / count);
    }
    mean
}

/// Mean and deviation.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// Brings features to mean 0 and deviation 1 over a set of clips: the training set's.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    /// Of a set, one clip at least.
    pub fn of(clips: &[Vec<f64>]) -> Scale {
        let column = |i: usize| moments(&clips.iter().map(|clip| clip[i]).collect::<Vec<f64>>());
        let (mean, deviation): (Vec<f64>, Vec<f64>) = (0..clips[0].len()).map(column).unzip();
        Scale { mean, deviation: deviation.into_iter().map(|x| x.max(SMALLEST_DEVIATION)).collect() }
    }

    /// Scaled clips.
    pub fn apply(&self, clips: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let scaled = |clip: &Vec<f64>| {
            let parts = clip.iter().zip(&self.mean).zip(&self.deviation);
            parts.map(|((x, mean), deviation)| (x - mean) / deviation).collect()
        };
        clips.iter().map(scaled).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::listen::Listener;
    use crate::eval::noise;

    #[test]
    fn every_clip_has_as_many_features_and_all_are_numbers() {
        let listener = Listener::new(16_000);
        for sound in [vec![], vec![0.0; 5], vec![0.0; 32_000], noise::white(0, 0, 32_000)] {
            let heard = listener.hear(&[sound]);
            let features = features(&heard, &Attributes::of(&heard));
            assert_eq!(features.len(), FEATURES);
            assert!(features.iter().all(|x| x.is_finite()), "{features:?}");
        }
    }

    #[test]
    fn scaled_features_have_mean_0_and_deviation_1() {
        let clips: Vec<Vec<f64>> = (0..50).map(|i| vec![f64::from(i), 7.0, f64::from(i % 3)]).collect();
        let scaled = Scale::of(&clips).apply(&clips);
        for i in 0..3 {
            let (mean, deviation) = moments(&scaled.iter().map(|clip| clip[i]).collect::<Vec<f64>>());
            assert!(mean.abs() < 1e-9);
            let constant = i == 1;
            assert!((deviation - if constant { 0.0 } else { 1.0 }).abs() < 1e-9, "{deviation}");
        }
    }
}
