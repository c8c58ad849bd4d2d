//! Training: one step, the optimizer's state, the loop, and what a run leaves on disk.

pub mod captions;
pub mod checkpoint;
pub mod cost;
pub mod estimate;
pub mod journal;
pub mod log;
pub mod optimizer;
pub mod parity;
pub mod run;
pub mod step;
pub mod tensorboard;
pub mod tensors;
pub mod validate;
