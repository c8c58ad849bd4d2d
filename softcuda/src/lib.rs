//! The CUDA driver API in software.

pub mod model;
pub mod ptx;
