//! dit-engine trains a Diffusion Transformer on spectrograms of music and generates music with it.
//!
//! The layers, top down (each knows only what stands below it; ARCHITECTURE.md is the map):
//!
//! ```text
//! cli -> train, diffusion -> dit -> ops -> tape -> backend <= cpu
//!        dataset, audio, text (no tensors)
//! ```

pub mod audio;
pub mod backend;
pub mod cpu;
pub mod dataset;
pub mod error;
pub mod files;
pub mod random;
pub mod train;

pub use error::{Error, Result};
