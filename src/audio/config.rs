//! How sound becomes the image that the model sees: the `data.*` keys of a configuration.

use serde::{Deserialize, Serialize};

/// The representation: which image is made of a waveform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Real and imaginary parts, magnitude compressed to |X|^p; inverse is the exact iSTFT.
    Complex,
    /// ln(|X| + floor); inverse by fast Griffin-Lim.
    Logmag,
    /// ln(mel + floor); inverse by non-negative least squares, then Griffin-Lim.
    Mel,
    /// The seed's: n_fft 8192, hop 4096, Blackman, real and imaginary parts, resized to the image.
    Seed,
}

/// The analysis window of the STFT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// Periodic Hann.
    Hann,
    /// Periodic Hamming.
    Hamming,
    /// Periodic Blackman.
    Blackman,
}

/// What the mixer makes of the source's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mix {
    /// One channel: the mean of all (LFE left out).
    Mono,
    /// Two channels; a mono source is doubled, surround is folded down.
    Stereo,
}

/// Everything that decides the image of a segment. Two data sets with equal `RepresentationConfig` hold
/// interchangeable tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RepresentationConfig {
    /// Which representation.
    pub representation: Kind,
    /// Sample rate after resampling, in hertz.
    pub sample_rate: u32,
    /// Mono or stereo.
    pub mix: Mix,
    /// Image size `[H, W]`: frequency rows and time frames. Rows: what the representation gives
    /// (`n_fft / 2` for complex and logmag, with the Nyquist row left out; `mel_bands` for mel), or a resized
    /// image for `seed`. Frames decide the segment's length: `W * hop / sample_rate` seconds.
    pub image: [usize; 2],
    /// FFT length in samples.
    pub n_fft: usize,
    /// Samples between frames.
    pub hop: usize,
    /// Analysis window, `n_fft` long.
    pub window: Window,
    /// Mel bands (`mel` only).
    pub mel_bands: usize,
    /// Exponent p of the magnitude compression |X|^p (`complex` only).
    pub compression: f32,
    /// Iterations of fast Griffin-Lim when decoding (`logmag`, `mel`).
    pub griffin_lim_iterations: usize,
}

impl Default for RepresentationConfig {
    fn default() -> Self {
        Self {
            representation: Kind::Logmag,
            sample_rate: 16_000,
            mix: Mix::Mono,
            image: [512, 256],
            n_fft: 1024,
            hop: 256,
            window: Window::Hann,
            mel_bands: 80,
            compression: 0.3,
            griffin_lim_iterations: 32,
        }
    }
}
