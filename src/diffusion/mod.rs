//! The diffusion process: noise schedules, training noise, samplers.

pub mod noising;
pub mod sampler;
pub mod schedule;
