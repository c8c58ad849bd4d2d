//! Training: one step, the optimizer's state, the loop, and what a run leaves on disk.

pub mod cost;
pub mod memory;
pub mod optimizer;
pub mod parity;
pub mod step;
