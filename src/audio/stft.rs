//! The short-time Fourier transform and its exact inverse.
//!
//! `W` frames come from exactly `W * hop` samples: frame t is centred on sample `t hop + hop/2`, so that
//! both ends of a segment are covered alike, and what lies outside the segment is its mirror image.
//!
//! ```text
//! X[t, k] = sum_n w[n] x[t hop + hop/2 - n_fft/2 + n] exp(-2 pi i k n / n_fft),  k = 0..n_fft/2
//! ```

use std::f64::consts::TAU;
use std::sync::Arc;

use realfft::{ComplexToReal, RealFftPlanner, RealToComplex, num_complex::Complex32};

use super::config::Window;

/// Window energy at a sample, relative to the window's mean square, below which a sample counts as not
/// covered by any frame and the inverse gives 0.
const MIN_COVERAGE: f64 = 1e-6;

/// Plans and window for one `(n_fft, hop, window)`; shared between threads, each with its own [`Scratch`].
#[derive(Clone)]
pub struct Stft {
    n_fft: usize,
    hop: usize,
    window: Vec<f32>,
    forward: Arc<dyn RealToComplex<f32>>,
    inverse: Arc<dyn ComplexToReal<f32>>,
}

/// Buffers that one thread reuses from call to call.
pub struct Scratch {
    frame: Vec<f32>,
    padded: Vec<f32>,
    bins: Vec<Complex32>,
    fft: Vec<Complex32>,
    /// `1 / (n_fft sum_t w^2)` for every sample of a segment of `envelope_frames` frames.
    envelope: Vec<f32>,
    envelope_frames: usize,
}

impl Window {
    /// `length` samples of the periodic window, in f64: one period of a cosine series.
    pub fn samples(self, length: usize) -> Vec<f64> {
        let series: [f64; 3] = match self {
            Window::Hann => [0.5, 0.5, 0.0],
            Window::Hamming => [0.54, 0.46, 0.0],
            Window::Blackman => [0.42, 0.5, 0.08],
        };
        let angle = |n: usize| TAU * n as f64 / length as f64;
        (0..length)
            .map(|n| series[0] - series[1] * angle(n).cos() + series[2] * (2.0 * angle(n)).cos())
            .collect()
    }
}

impl Stft {
    /// A transform with `n_fft` (even, at least 2) samples a frame and `hop` (1..=n_fft) samples between
    /// frames.
    ///
    /// # Panics
    /// If they are not; [`super::representation::build`] checks a configuration before.
    pub fn new(n_fft: usize, hop: usize, window: Window) -> Self {
        assert!(n_fft >= 2 && n_fft.is_multiple_of(2), "n_fft must be even, is {n_fft}");
        assert!((1..=n_fft).contains(&hop), "hop must be in 1..={n_fft}, is {hop}");
        let mut planner = RealFftPlanner::new();
        Self {
            n_fft,
            hop,
            window: window.samples(n_fft).into_iter().map(|w| w as f32).collect(),
            forward: planner.plan_fft_forward(n_fft),
            inverse: planner.plan_fft_inverse(n_fft),
        }
    }

    /// Frequency bins of a frame: `n_fft / 2 + 1`.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// Samples between frames.
    pub fn hop(&self) -> usize {
        self.hop
    }

    /// `2 / sum w`: a factor that makes |X| of a full-scale sine 1.
    pub fn sine_scale(&self) -> f32 {
        2.0 / self.window.iter().sum::<f32>()
    }

    /// Buffers for one thread.
    pub fn scratch(&self) -> Scratch {
        let fft = self.forward.get_scratch_len().max(self.inverse.get_scratch_len());
        Scratch {
            frame: vec![0.0; self.n_fft],
            padded: Vec::new(),
            bins: vec![Complex32::default(); self.bins()],
            fft: vec![Complex32::default(); fft],
            envelope: Vec::new(),
            envelope_frames: 0,
        }
    }

    /// The spectrum of `signal`: `signal.len() / hop` frames (a rest shorter than a hop is left out) of
    /// [`bins`](Self::bins) values, frame after frame; `spectrum` is replaced.
    pub fn forward(&self, signal: &[f32], spectrum: &mut Vec<Complex32>, scratch: &mut Scratch) {
        let frames = signal.len() / self.hop;
        self.pad(&signal[..frames * self.hop], &mut scratch.padded);
        spectrum.resize(frames * self.bins(), Complex32::default());
        let Scratch { frame, padded, fft, .. } = scratch;
        let fft = &mut fft[..self.forward.get_scratch_len()];
        for (t, bins) in spectrum.chunks_exact_mut(self.bins()).enumerate() {
            let source = &padded[t * self.hop..][..self.n_fft];
            for ((y, &x), &w) in frame.iter_mut().zip(source).zip(&self.window) {
                *y = x * w;
            }
            self.forward
                .process_with_scratch(frame, bins, fft)
                .expect("the buffers are the plan's own sizes");
        }
    }

    /// The signal whose spectrum is nearest to `spectrum` in the least-squares sense (Griffin and Lim 1984,
    /// equation 6); the exact inverse where `spectrum` is the spectrum of a signal:
    ///
    /// ```text
    /// x[n] = sum_t w[n - t hop] ifft(X[t])[n - t hop] / sum_t w^2[n - t hop]
    /// ```
    ///
    /// `signal` is replaced by `frames * hop` samples. The imaginary parts of the first and the last bin,
    /// which no real signal has, are taken as zero.
    pub fn inverse(&self, spectrum: &[Complex32], signal: &mut Vec<f32>, scratch: &mut Scratch) {
        let frames = spectrum.len() / self.bins();
        self.prepare_envelope(frames, scratch);
        let Scratch { frame, padded, bins, fft, envelope, .. } = scratch;
        padded.clear();
        padded.resize(frames * self.hop + self.n_fft, 0.0);
        let fft = &mut fft[..self.inverse.get_scratch_len()];
        for (t, source) in spectrum.chunks_exact(self.bins()).enumerate() {
            bins.copy_from_slice(source);
            bins[0].im = 0.0;
            bins[self.n_fft / 2].im = 0.0;
            self.inverse
                .process_with_scratch(bins, frame, fft)
                .expect("the buffers are the plan's own sizes");
            let target = &mut padded[t * self.hop..][..self.n_fft];
            for ((sum, &y), &w) in target.iter_mut().zip(&*frame).zip(&self.window) {
                *sum += y * w;
            }
        }
        signal.clear();
        signal.extend(padded[self.lead()..].iter().zip(&*envelope).map(|(&sum, &weight)| sum * weight));
    }

    /// Samples before the segment that the first frame reaches: `n_fft/2 - hop/2`.
    fn lead(&self) -> usize {
        self.n_fft / 2 - self.hop / 2
    }

    /// The segment with its mirror images on both sides, as long as the frames reach.
    fn pad(&self, signal: &[f32], padded: &mut Vec<f32>) {
        padded.clear();
        if signal.is_empty() {
            return;
        }
        let (lead, total) = (self.lead(), signal.len() + self.n_fft);
        padded.extend((0..lead).map(|n| signal[mirrored(n as isize - lead as isize, signal.len())]));
        padded.extend_from_slice(signal);
        let after = signal.len()..total - lead;
        padded.extend(after.map(|n| signal[mirrored(n as isize, signal.len())]));
    }

    fn prepare_envelope(&self, frames: usize, scratch: &mut Scratch) {
        if scratch.envelope_frames == frames {
            return;
        }
        let mut sum = vec![0.0f64; frames * self.hop + self.n_fft];
        for t in 0..frames {
            for (sum, &w) in sum[t * self.hop..].iter_mut().zip(&self.window) {
                *sum += f64::from(w).powi(2);
            }
        }
        let mean_square = self.window.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / self.n_fft as f64;
        let weight = |sum: f64| {
            if sum > MIN_COVERAGE * mean_square { (1.0 / (sum * self.n_fft as f64)) as f32 } else { 0.0 }
        };
        scratch.envelope.clear();
        scratch.envelope.extend(sum[self.lead()..][..frames * self.hop].iter().map(|&sum| weight(sum)));
        scratch.envelope_frames = frames;
    }
}

/// Index `n` (any) reflected into `0..length`, the edge samples not repeated: -1 is 1, `length` is
/// `length - 2`.
fn mirrored(n: isize, length: usize) -> usize {
    let period = (2 * length as isize - 2).max(1);
    let n = n.rem_euclid(period) as usize;
    n.min(period as usize - n).min(length - 1)
}
