//! Log mel magnitude; the inverse is non-negative least squares, then fast Griffin-Lim.
//!
//! ```text
//! encode: y = ln(sum_k M[b, k] |scale X[t, k]| + 1e-5)
//! decode: S = argmin_(S >= 0) ||M S - max(exp(y) - 1e-5, 0)||, |X| = S / scale, Griffin-Lim
//! ```

use super::logmag::{INITIAL_PHASE, LOG_FLOOR, magnitude_of};
use super::{Layout, Representation, RepresentationConfig, frames_from_rows, rows_from_frames};
use crate::audio::griffin_lim::griffin_lim;
use crate::audio::mel::MelFilters;
use crate::error::{Error, Result};

pub(super) struct LogMel {
    layout: Layout,
    filters: MelFilters,
    iterations: usize,
}

impl LogMel {
    /// # Errors
    /// [`Error::Config`] if there are more bands than the FFT can tell apart.
    pub(super) fn new(config: &RepresentationConfig) -> Result<Self> {
        let filters = MelFilters::new(config.mel_bands, config.n_fft, config.sample_rate);
        if let Some(band) = filters.empty_band() {
            let problem = format!(
                "{} bands are too many for data.n_fft {}: band {band} holds no frequency; use fewer bands or a longer FFT",
                config.mel_bands, config.n_fft
            );
            return Err(Error::config("data.mel_bands", problem));
        }
        Ok(Self { layout: Layout::new(config, 1), filters, iterations: config.griffin_lim_iterations })
    }
}

impl Representation for LogMel {
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
        let (bins, width) = (self.layout.stft.bins(), self.layout.width);
        let mut magnitude = vec![0.0; bins * width];
        self.layout.encode(audio, |spectrum, plane| {
            rows_from_frames(spectrum, bins, &mut magnitude, |z| z.norm_sqr().sqrt());
            let mel = self.filters.apply(&magnitude, width);
            plane.iter_mut().zip(&mel).for_each(|(y, &m)| *y = (m + LOG_FLOOR).ln());
        })
    }

    fn decode(&self, image: &[f32]) -> Result<Vec<Vec<f32>>> {
        self.layout.check_image(image)?;
        let Layout { stft, width, scale, .. } = &self.layout;
        let mut scratch = stft.scratch();
        let sound = |plane: &[f32]| {
            let mel: Vec<f32> = plane.iter().map(|&y| magnitude_of(y)).collect();
            let rows = self.filters.invert(&mel, *width);
            let magnitude = frames_from_rows(stft.bins(), *width, stft.bins(), |index| rows[index] / scale);
            let mut signal = Vec::new();
            griffin_lim(stft, &magnitude, self.iterations, INITIAL_PHASE, &mut signal, &mut scratch);
            signal
        };
        Ok(image.chunks_exact(self.layout.plane()).map(sound).collect())
    }

    fn magnitude_db(&self, image: &[f32]) -> Vec<f32> {
        self.layout.magnitude_db(image, |plane, index| magnitude_of(plane[index]))
    }
}
