//! From files on disk to batches: sources, tables, shards, manifest, split, loader. No tensors here.
//!
//! ```text
//! sources (folders, files, tables, sidecars) -> prepare (decode, cut, encode, on all cores)
//!     -> OUT/shards/HASH.safetensors   one track's segments and their sums, written once
//!     -> OUT/manifest.jsonl            one line a track: source, captions, licence, split, shard
//!     -> OUT/dataset.json              representation, statistics, counts, fingerprint
//! store (read a prepared folder) -> loader (shuffled batches, addressed by seed and step)
//! ```

mod assemble;
mod columns;
pub mod config;
pub mod demo;
mod encode;
mod finder;
mod identify;
pub mod loader;
pub mod manifest;
pub mod prepare;
mod segments;
pub(crate) mod shard;
pub mod shuffle;
pub mod sources;
pub mod split;
pub mod store;
pub mod summary;
pub mod table;
mod text;

pub use loader::{Batch, Batches, Plan};
pub use prepare::{PrepareOptions, Progress, prepare};
pub use split::Split;
pub use store::Dataset;
pub use summary::Summary;
