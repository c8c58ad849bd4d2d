//! dit-engine trains a Diffusion Transformer on spectrograms of music and generates music with it.
//!
//! The layers, top down (each knows only what stands below it; ARCHITECTURE.md is the map):
//!
//! ```text
//! cli -> eval -> train, diffusion -> dit -> ops -> tape -> backend <= cpu
//!                dataset, audio, text (no tensors)
//! ```

pub mod audio;
pub mod backend;
pub mod bert;
pub mod config;
pub mod control;
pub mod cpu;
pub mod cuda;
pub mod dataset;
pub mod diffusion;
pub mod dit;
pub mod error;
pub mod eval;
pub mod files;
pub mod inspect;
pub mod memory;
pub mod meter;
pub mod ops;
pub mod params;
pub mod pool;
pub mod random;
pub mod render;
pub mod tape;
pub mod text;
pub mod train;

pub use error::{Error, Result};
