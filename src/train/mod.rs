//! Training: what a run writes while it goes.

pub mod log;
pub mod tensorboard;
