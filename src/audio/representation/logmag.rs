//! Log magnitude; the phase is found again by fast Griffin-Lim.
//!
//! ```text
//! encode: y = ln(|scale X[t, k]| + 1e-5),  rows k = 0..n_fft/2 - 1
//! decode: |X| = max(exp(y) - 1e-5, 0) / scale, Griffin-Lim
//! ```
//!
//! The Nyquist row is left out, and decoded as zero magnitude.

use super::{Layout, Representation, RepresentationConfig, frames_from_rows, rows_from_frames};
use crate::audio::griffin_lim::{InitialPhase, griffin_lim};
use crate::error::Result;

/// Added to a magnitude before its logarithm: -100 dB below a full-scale sine, so that silence is -11.5.
pub(super) const LOG_FLOOR: f32 = 1e-5;
/// ln of 1000 times a full-scale sine: decoding does not exceed it, so that a wild image stays finite.
const MAX_LOG: f32 = 6.9;
/// The phase that Griffin-Lim starts from; the same for all channels, which keeps a stereo image together.
pub(super) const INITIAL_PHASE: InitialPhase = InitialPhase::Random(0x6469_7465);

pub(super) struct LogMagnitude {
    layout: Layout,
    iterations: usize,
}

impl LogMagnitude {
    pub(super) fn new(config: &RepresentationConfig) -> Self {
        Self { layout: Layout::new(config, 1), iterations: config.griffin_lim_iterations }
    }
}

impl Representation for LogMagnitude {
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
        let bins = self.layout.stft.bins();
        self.layout.encode(audio, |spectrum, plane| {
            rows_from_frames(spectrum, bins, plane, |z| (z.norm_sqr().sqrt() + LOG_FLOOR).ln());
        })
    }

    fn decode(&self, image: &[f32]) -> Result<Vec<Vec<f32>>> {
        self.layout.check_image(image)?;
        let Layout { stft, height, width, scale, .. } = &self.layout;
        let mut scratch = stft.scratch();
        let sound = |plane: &[f32]| {
            let value = |index: usize| magnitude_of(plane[index]) / scale;
            let magnitude = frames_from_rows(*height, *width, stft.bins(), value);
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

/// The magnitude whose logarithm is `y`. A NaN stays one, to be reported, which f32::min and max would hide.
pub(super) fn magnitude_of(y: f32) -> f32 {
    let magnitude = if y > MAX_LOG { MAX_LOG } else { y }.exp() - LOG_FLOOR;
    if magnitude < 0.0 { 0.0 } else { magnitude }
}
