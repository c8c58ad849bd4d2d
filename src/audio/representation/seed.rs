//! The seed's representation: real and imaginary parts of a long transform (its preset: n_fft 8192, hop
//! 4096, Blackman), the 4,097 frequency rows resized to the image's 412. One frame is one column.
//!
//! ```text
//! encode: y[h, t] = mean over row h's span of bins of z[t, k],  z = (-1)^k scale X[t, k]
//! decode: z[t, k] = linear interpolation between the row centres, iSTFT
//! ```
//!
//! The factor (-1)^k measures the phase at the frame's centre instead of its beginning: without it, the
//! phases of neighbouring bins are opposite, and their mean cancels. Resizing loses what lies between the
//! rows: this representation is kept for comparison with the seed, not for its sound.

use realfft::num_complex::Complex32;

use super::{Layout, Representation, RepresentationConfig, rows_from_frames};
use crate::error::Result;

pub(super) struct Seed {
    layout: Layout,
    /// For every row, the bins that it covers and their shares, which sum to 1.
    shrink: Vec<Vec<(usize, f32)>>,
    /// For every bin, the row below, the row above, and the share of the latter.
    stretch: Vec<(usize, usize, f32)>,
}

impl Seed {
    pub(super) fn new(config: &RepresentationConfig) -> Self {
        let layout = Layout::new(config, 2);
        let (bins, rows) = (layout.stft.bins(), layout.height);
        let span = bins as f64 / rows as f64;
        Self {
            shrink: (0..rows).map(|row| shares(row as f64 * span, (row + 1) as f64 * span, bins)).collect(),
            stretch: (0..bins).map(|bin| neighbours(bin, span, rows)).collect(),
            layout,
        }
    }
}

impl Representation for Seed {
    fn channels(&self) -> usize {
        self.layout.channels()
    }

    fn height(&self) -> usize {
        self.layout.height
    }

    fn width(&self) -> usize {
        self.layout.width
    }

    fn segment_samples(&self) -> usize {
        self.layout.segment_samples()
    }

    fn encode(&self, audio: &[Vec<f32>]) -> Result<Vec<f32>> {
        let Layout { stft, height, width, .. } = &self.layout;
        let mut resized = vec![Complex32::default(); height * width];
        self.layout.encode(audio, |spectrum, plane| {
            for (frame, rows) in spectrum.chunks_exact(stft.bins()).zip(resized.chunks_exact_mut(*height)) {
                for (row, shares) in rows.iter_mut().zip(&self.shrink) {
                    *row = shares.iter().map(|&(bin, share)| frame[bin] * (share * sign(bin))).sum();
                }
            }
            let (re, im) = plane.split_at_mut(height * width);
            rows_from_frames(&resized, *height, re, |y| y.re);
            rows_from_frames(&resized, *height, im, |y| y.im);
        })
    }

    fn decode(&self, image: &[f32]) -> Result<Vec<Vec<f32>>> {
        self.layout.check_image(image)?;
        let Layout { stft, height, width, scale, .. } = &self.layout;
        let mut scratch = stft.scratch();
        let sound = |plane: &[f32]| {
            let (re, im) = plane.split_at(height * width);
            let at = |row: usize, t: usize| Complex32::new(re[row * width + t], im[row * width + t]);
            let mut spectrum = Vec::with_capacity(width * stft.bins());
            for t in 0..*width {
                spectrum.extend(self.stretch.iter().enumerate().map(|(bin, &(below, above, share))| {
                    (at(below, t) * (1.0 - share) + at(above, t) * share) * (sign(bin) / scale)
                }));
            }
            let mut signal = Vec::new();
            stft.inverse(&spectrum, &mut signal, &mut scratch);
            signal
        };
        Ok(image.chunks_exact(self.layout.plane()).map(sound).collect())
    }

    fn magnitude_db(&self, image: &[f32]) -> Vec<f32> {
        let half = self.layout.height * self.layout.width;
        self.layout
            .magnitude_db(image, |plane, index| Complex32::new(plane[index], plane[half + index]).norm())
    }
}

/// `(-1)^bin`.
fn sign(bin: usize) -> f32 {
    if bin.is_multiple_of(2) { 1.0 } else { -1.0 }
}

/// The bins that overlap `from..to` (bin k covers k..k+1), with their shares of it.
fn shares(from: f64, to: f64, bins: usize) -> Vec<(usize, f32)> {
    let last = (to.ceil() as usize).min(bins);
    (from.floor() as usize..last)
        .map(|bin| (bin, (to.min(bin as f64 + 1.0) - from.max(bin as f64)) / (to - from)))
        .filter(|&(_, share)| share > 0.0)
        .map(|(bin, share)| (bin, share as f32))
        .collect()
}

/// Where the centre of `bin` lies between the centres of two rows; the edges are held.
fn neighbours(bin: usize, span: f64, rows: usize) -> (usize, usize, f32) {
    let position = ((bin as f64 + 0.5) / span - 0.5).clamp(0.0, (rows - 1) as f64);
    let below = position.floor() as usize;
    (below, (below + 1).min(rows - 1), (position - below as f64) as f32)
}
