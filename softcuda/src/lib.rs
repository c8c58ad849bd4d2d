//! The CUDA driver API in software.

pub mod capi;
pub mod checks;
pub mod driver;
pub mod isa;
pub mod lower;
pub mod machine;
pub mod model;
pub mod module;
pub mod program;
pub mod ptx;
