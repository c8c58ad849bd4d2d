//! What devices have and what a launch would cost on them: a documented, simple model, exact from run to run.

pub mod counters;
