//! From files on disk to batches: sources, tables, shards, manifest, split, loader. No tensors here.
//!
//! ```text
//! sources (folders, files, tables, sidecars) -> prepare (decode, cut, encode, on all cores)
//!     -> OUT/shards/HASH.safetensors   one track's segments and their sums, written once
//!     -> OUT/manifest.jsonl            one line a track: source, captions, licence, split, shard
//!     -> OUT/dataset.json              representation, statistics, counts, fingerprint
//! store (read a prepared folder) -> loader (shuffled batches, addressed by seed and step)
//! ```

mod archive;
mod assemble;
mod checks;
mod columns;
pub mod config;
mod containers;
pub mod demo;
pub mod doctor;
mod encode;
mod finder;
pub mod fingerprint;
pub mod health;
pub mod hub;
mod hub_file;
mod identify;
pub mod labels;
pub mod loader;
pub mod manifest;
mod member;
mod parquet;
mod parquet_schema;
pub mod prepare;
mod row;
mod segments;
pub(crate) mod shard;
pub mod shuffle;
mod song_describer;
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
