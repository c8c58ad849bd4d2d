//! Audio files in, spectrogram representations, audio files out. No tensors here.

pub mod config;
