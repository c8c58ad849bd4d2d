//! The CUDA driver API in software.

pub mod checks;
pub mod isa;
pub mod model;
pub mod ptx;
