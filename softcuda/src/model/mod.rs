//! What devices have and what a launch would cost on them: a documented, simple model, exact from run to run.

mod attributes;
pub mod cost;
pub mod counters;
pub mod devices;
pub mod occupancy;
pub mod profile;
pub mod table;
