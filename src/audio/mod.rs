//! Audio files in, spectrogram representations, audio files out. No tensors here.
//!
//! ```text
//! file -> source (symphonia) -> mix -> resample -> representation::encode -> image [C, H, W]
//! file <- wav <- representation::decode <- image [C, H, W]
//! ```

pub mod config;
pub mod decode;
pub mod mix;
pub mod resample;
mod riff;
mod sniff;
mod source;
pub mod stft;

pub use decode::{Audio, AudioReader, SourceInfo, load};
