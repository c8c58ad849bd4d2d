//! From files on disk to batches: sources, tables, shards, manifest, split, loader. No tensors here.

pub mod demo;
