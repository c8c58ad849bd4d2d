//! Representations: which image a segment of sound becomes, and the way back.
//!
//! An image is `[channels, H, W]`, row-major: frequency rows from low to high, time frames from left to
//! right. A magnitude of 1 is a full-scale sine. What is common to all stands here; the formulas stand
//! with each.

mod complex;
mod logmag;
mod mel;
mod seed;

use realfft::num_complex::Complex32;

use super::config::{Kind, RepresentationConfig};
use super::stft::Stft;
use crate::error::{Error, Result};

/// Magnitude below which [`Representation::magnitude_db`] does not go: -100 dB.
const DISPLAY_FLOOR: f32 = 1e-5;
/// Smallest and largest sample rates that make sense for music, in hertz.
const SAMPLE_RATES_HZ: std::ops::RangeInclusive<u32> = 1_000..=384_000;
/// Longest FFT.
const MAX_N_FFT: usize = 1 << 18;
/// Longest segment, in samples of a channel: keeps every index and every buffer within reason.
pub const MAX_SEGMENT_SAMPLES: usize = 1 << 28;

/// A segment of sound as an image, and back. Deterministic: the same input gives the same bits.
pub trait Representation: Send + Sync {
    /// Image channels C: mono or stereo, times two where real and imaginary parts are kept.
    fn channels(&self) -> usize;

    /// Frequency rows H.
    fn height(&self) -> usize;

    /// Time frames W.
    fn width(&self) -> usize;

    /// Samples of a channel that one image holds: `W * hop`.
    fn segment_samples(&self) -> usize;

    /// The image `[C, H, W]` of `audio` (one vector a sound channel, `segment_samples` long).
    ///
    /// # Errors
    /// [`Error::Shape`] if `audio` has another number of channels or samples.
    fn encode(&self, audio: &[Vec<f32>]) -> Result<Vec<f32>>;

    /// The sound of an image `[C, H, W]`, one vector a sound channel.
    ///
    /// # Errors
    /// [`Error::Shape`] if `image` has another size.
    fn decode(&self, image: &[f32]) -> Result<Vec<Vec<f32>>>;

    /// Magnitude in dB below a full-scale sine, `[H, W]`, the mean over the sound channels: for pictures.
    /// Never below -100; 0 rows and frames for an image of the wrong size.
    fn magnitude_db(&self, image: &[f32]) -> Vec<f32>;
}

/// The representation that `config` describes.
///
/// # Errors
/// [`Error::Config`] with the `data.*` key whose value cannot work.
pub fn build(config: &RepresentationConfig) -> Result<Box<dyn Representation>> {
    check(config)?;
    Ok(match config.representation {
        Kind::Complex => Box::new(complex::Complex::new(config)),
        Kind::Logmag => Box::new(logmag::LogMagnitude::new(config)),
        Kind::Mel => Box::new(mel::LogMel::new(config)?),
        Kind::Seed => Box::new(seed::Seed::new(config)),
    })
}

fn check(config: &RepresentationConfig) -> Result<()> {
    let [height, width] = config.image;
    let must = |key: &str, holds: bool, problem: String| {
        if holds { Ok(()) } else { Err(Error::config(format!("data.{key}"), problem)) }
    };
    let (low, high) = (SAMPLE_RATES_HZ.start(), SAMPLE_RATES_HZ.end());
    let rate = config.sample_rate;
    must("sample_rate", SAMPLE_RATES_HZ.contains(&rate), format!("must be {low} to {high} Hz, is {rate}"))?;
    let n_fft = config.n_fft;
    let fits = (16..=MAX_N_FFT).contains(&n_fft) && n_fft.is_multiple_of(2);
    must("n_fft", fits, format!("must be even and 16 to {MAX_N_FFT}, is {n_fft}"))?;
    let hop = config.hop;
    must(
        "hop",
        (1..=n_fft / 2).contains(&hop),
        format!("must be 1 to n_fft/2 = {} samples, is {hop}", n_fft / 2),
    )?;
    must("image", width > 0, "needs at least one frame: image = [H, W] with W > 0".into())?;
    let samples = width.saturating_mul(hop);
    let too_long = format!("{width} frames of {hop} samples are more than one segment can hold; lower W");
    must("image", samples <= MAX_SEGMENT_SAMPLES, too_long)?;
    let (rows, why) = match config.representation {
        Kind::Complex | Kind::Logmag => (n_fft / 2, "n_fft/2"),
        Kind::Mel => (config.mel_bands, "mel_bands"),
        Kind::Seed => (height.clamp(1, n_fft / 2 + 1), "n_fft/2 + 1 at most"),
    };
    must("image", height == rows, format!("must be [{rows}, W]: {rows} rows ({why}), not {height}"))?;
    let p = config.compression;
    must("compression", p > 0.0 && p <= 1.0, format!("must be above 0 and at most 1, is {p}"))?;
    let iterations = config.griffin_lim_iterations;
    must("griffin_lim_iterations", iterations <= 10_000, format!("must be at most 10000, is {iterations}"))?;
    must("mel_bands", config.mel_bands > 0, "must be at least 1".into())
}

/// What all representations share: the transform, the image's size and the checks of their input.
struct Layout {
    stft: Stft,
    /// Sound channels.
    sounds: usize,
    /// Image channels a sound channel.
    parts: usize,
    height: usize,
    width: usize,
    /// Multiplies a spectrum so that a full-scale sine has magnitude 1.
    scale: f32,
}

impl Layout {
    fn new(config: &RepresentationConfig, parts: usize) -> Self {
        let stft = Stft::new(config.n_fft, config.hop, config.window);
        let [height, width] = config.image;
        Self { sounds: config.mix.channels(), parts, height, width, scale: stft.sine_scale(), stft }
    }

    fn channels(&self) -> usize {
        self.sounds * self.parts
    }

    fn segment_samples(&self) -> usize {
        self.width * self.stft.hop()
    }

    /// Values of one sound channel's part of the image.
    fn plane(&self) -> usize {
        self.parts * self.height * self.width
    }

    fn check_audio(&self, audio: &[Vec<f32>]) -> Result<()> {
        let samples = self.segment_samples();
        if audio.len() == self.sounds && audio.iter().all(|channel| channel.len() == samples) {
            return Ok(());
        }
        let got: Vec<usize> = audio.iter().map(Vec::len).collect();
        Err(Error::shape(
            "encode",
            format!("{} channels of {samples} samples", self.sounds),
            format!("{got:?}"),
        ))
    }

    fn check_image(&self, image: &[f32]) -> Result<()> {
        let (channels, height, width) = (self.channels(), self.height, self.width);
        if image.len() == channels * height * width {
            return Ok(());
        }
        let got = format!("{} values", image.len());
        Err(Error::shape("decode", format!("an image [{channels}, {height}, {width}]"), got))
    }

    /// Encodes every sound channel: `part` gets its spectrum (`[W, bins]`, scaled) and its part of the image.
    fn encode(&self, audio: &[Vec<f32>], mut part: impl FnMut(&[Complex32], &mut [f32])) -> Result<Vec<f32>> {
        self.check_audio(audio)?;
        let mut image = vec![0.0; self.channels() * self.height * self.width];
        let (mut scratch, mut spectrum) = (self.stft.scratch(), Vec::new());
        for (channel, plane) in audio.iter().zip(image.chunks_exact_mut(self.plane())) {
            self.stft.forward(channel, &mut spectrum, &mut scratch);
            spectrum.iter_mut().for_each(|value| *value *= self.scale);
            part(&spectrum, plane);
        }
        Ok(image)
    }

    /// Mean over the sound channels of `magnitude(plane, index)`, in dB.
    fn magnitude_db(&self, image: &[f32], magnitude: impl Fn(&[f32], usize) -> f32) -> Vec<f32> {
        if self.check_image(image).is_err() {
            return Vec::new();
        }
        let mean = |index: usize| {
            image.chunks_exact(self.plane()).map(|plane| magnitude(plane, index)).sum::<f32>()
                / self.sounds as f32
        };
        (0..self.height * self.width).map(|index| 20.0 * mean(index).max(DISPLAY_FLOOR).log10()).collect()
    }
}

/// Frames that a transposition handles together, so that what it reads stays in the cache.
const TRANSPOSE_FRAMES: usize = 16;

/// `image[h, t] = value(spectrum[t, h])` for the rows that the image has.
fn rows_from_frames(
    spectrum: &[Complex32],
    bins: usize,
    image: &mut [f32],
    value: impl Fn(Complex32) -> f32,
) {
    let width = spectrum.len() / bins;
    for start in (0..width).step_by(TRANSPOSE_FRAMES) {
        let end = (start + TRANSPOSE_FRAMES).min(width);
        for (h, row) in image.chunks_exact_mut(width).enumerate() {
            for t in start..end {
                row[t] = value(spectrum[t * bins + h]);
            }
        }
    }
}

/// `frames[t, h] = value(h * width + t)` for `height` rows; rows above are zero.
fn frames_from_rows<T: Clone + Default>(
    height: usize,
    width: usize,
    bins: usize,
    value: impl Fn(usize) -> T,
) -> Vec<T> {
    let mut frames = vec![T::default(); width * bins];
    for start in (0..width).step_by(TRANSPOSE_FRAMES) {
        let end = (start + TRANSPOSE_FRAMES).min(width);
        for h in 0..height.min(bins) {
            for t in start..end {
                frames[t * bins + h] = value(h * width + t);
            }
        }
    }
    frames
}
