//! Does the model follow the words, and is it music? Measures of samples, each beside what real music gets and what noise gets,
//! because a number alone says nothing. Nothing here prints; docs/eval.md says what each number means.
//!
//! ```text
//! run ──> reference, clips (listen -> attributes -> features) ──> distance (linear), nearest, named (words), pairs
//!     ──> swap, train::validate                               ──> report
//! ```

pub mod attributes;
pub mod clips;
pub mod distance;
pub mod features;
pub mod linear;
pub mod listen;
pub mod named;
pub mod nearest;
pub mod noise;
pub mod pairs;
pub mod reference;
pub mod report;
pub mod run;
pub mod swap;
pub mod words;

pub use attributes::Attribute;
pub use pairs::PromptPairs;
pub use report::Report;
pub use run::{Evaluation, Options};
