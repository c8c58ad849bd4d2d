//! Audio files in, spectrogram representations, audio files out. No tensors here.
//!
//! ```text
//! input -> source (symphonia) -> mix -> resample -> representation::encode -> image [C, H, W]
//! file  <- wav <- representation::decode <- image [C, H, W]
//! ```

pub mod config;
pub mod decode;
pub mod examine;
mod gaps;
pub mod griffin_lim;
pub mod input;
pub mod mel;
pub mod mix;
pub mod normalize;
pub mod picture;
pub mod representation;
pub mod resample;
pub(crate) mod riff;
mod sniff;
mod source;
pub mod stft;
mod tags;
pub mod wav;

pub use config::RepresentationConfig;
pub use decode::{Audio, AudioReader, SourceInfo, load};
pub use input::Input;
pub use normalize::{ANYTHING, Normalizer, Statistics};
pub use representation::Representation;
