//! Real and imaginary parts with compressed magnitude; the inverse is exact.
//!
//! ```text
//! encode: y = z |z|^(p - 1),   z = scale X[t, k], rows k = 0..n_fft/2 - 1
//! decode: z = y |y|^(1/p - 1), iSTFT
//! ```
//!
//! The Nyquist row is left out, and decoded as zero: half of one bin's width at the very top of the band.

use realfft::num_complex::Complex32;

use super::{Layout, Representation, RepresentationConfig, frames_from_rows, rows_from_frames};
use crate::error::Result;

/// Magnitude (of a full-scale sine) that decoding does not exceed: keeps a wild image finite.
const MAX_MAGNITUDE: f32 = 1e3;

pub(super) struct Complex {
    layout: Layout,
    compression: f32,
    /// [`MAX_MAGNITUDE`], compressed.
    most: f32,
}

impl Complex {
    pub(super) fn new(config: &RepresentationConfig) -> Self {
        let compression = config.compression;
        Self { layout: Layout::new(config, 2), compression, most: MAX_MAGNITUDE.powf(compression) }
    }

    fn expanded(&self, y: Complex32) -> Complex32 {
        let magnitude = y.norm();
        let bounded = if magnitude > self.most { y * (self.most / magnitude) } else { y };
        with_power(bounded, 1.0 / self.compression)
    }
}

impl Representation for Complex {
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
        let (bins, half) = (self.layout.stft.bins(), self.layout.height * self.layout.width);
        let mut compressed = Vec::new();
        self.layout.encode(audio, |spectrum, plane| {
            compressed.clear();
            compressed.extend(spectrum.iter().map(|&z| with_power(z, self.compression)));
            let (re, im) = plane.split_at_mut(half);
            rows_from_frames(&compressed, bins, re, |y| y.re);
            rows_from_frames(&compressed, bins, im, |y| y.im);
        })
    }

    fn decode(&self, image: &[f32]) -> Result<Vec<Vec<f32>>> {
        self.layout.check_image(image)?;
        let Layout { stft, height, width, scale, .. } = &self.layout;
        let mut scratch = stft.scratch();
        let sound = |plane: &[f32]| {
            let (re, im) = plane.split_at(height * width);
            let spectrum = frames_from_rows(*height, *width, stft.bins(), |index| {
                self.expanded(Complex32::new(re[index], im[index])) / *scale
            });
            let mut signal = Vec::new();
            stft.inverse(&spectrum, &mut signal, &mut scratch);
            signal
        };
        Ok(image.chunks_exact(self.layout.plane()).map(sound).collect())
    }

    fn magnitude_db(&self, image: &[f32]) -> Vec<f32> {
        let half = self.layout.height * self.layout.width;
        self.layout.magnitude_db(image, |plane, index| {
            self.expanded(Complex32::new(plane[index], plane[half + index])).norm()
        })
    }
}

/// `z |z|^(p - 1)`: the magnitude raised to p, the phase kept; 0 stays 0.
fn with_power(z: Complex32, p: f32) -> Complex32 {
    let magnitude = z.norm();
    if magnitude == 0.0 { Complex32::default() } else { z * magnitude.powf(p - 1.0) }
}
