//! A prepared folder, opened for training: segments by number, normalised.

use std::path::{Path, PathBuf};

use super::config::{DatasetConfig, Storage};
use super::manifest::{
    DatasetInfo, TrackRecord, info_path, manifest_path, read_manifest, tokenizer_of, tokenizer_path,
};
use super::shard::Shard;
use super::split::Split;
use crate::audio::Normalizer;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// Memory that [`Dataset::open`] plans with.
pub const DEFAULT_RAM_LIMIT_BYTES: u64 = 4 << 30;

/// A prepared folder. Reading needs no lock: share it between threads in an `Arc`.
pub struct Dataset {
    dir: PathBuf,
    info: DatasetInfo,
    tracks: Vec<TrackRecord>,
    shards: Vec<Shard>,
    /// Segments as stored, a track; empty if they are read from disk when needed.
    in_memory: Vec<Vec<u8>>,
    train: Side,
    validation: Side,
}

/// Segment numbers of one split.
#[derive(Default)]
struct Side {
    /// `(number of the track's first segment, track)`, ascending.
    starts: Vec<(usize, usize)>,
    segments: usize,
}

impl Dataset {
    /// Opens what `prepare` made, planning with [`DEFAULT_RAM_LIMIT_BYTES`].
    ///
    /// # Errors
    /// As [`open_within`](Self::open_within).
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_within(dir, DEFAULT_RAM_LIMIT_BYTES)
    }

    /// Opens what `prepare` made. If the segments take at most a quarter of `ram_limit_bytes` they are kept
    /// in memory, else read from the shards when needed. Either way a segment is compared with its checksum when it
    /// is read from its shard.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a folder that is none of ours, whose preparation was not
    /// finished, or whose files do not fit together; each says what to do.
    pub fn open_within(dir: &Path, ram_limit_bytes: u64) -> Result<Self> {
        let Some(info) = DatasetInfo::read(dir)? else {
            return Err(Error::format(
                dir,
                "holds no dataset.json; make it with: dit-engine prepare SOURCE --out",
            ));
        };
        let again = "run the same prepare command again to complete it";
        if !info.complete {
            return Err(Error::format(info_path(dir), format!("the preparation was not finished; {again}")));
        }
        let (tracks, sha256) = read_manifest(dir)?;
        if sha256 != info.manifest_sha256 {
            let reason = format!("is not the manifest that dataset.json describes; {again}");
            return Err(Error::format(manifest_path(dir), reason));
        }
        let shards: Vec<Shard> =
            tracks.iter().map(|track| open_shard(dir, track, &info, again)).collect::<Result<_>>()?;
        let total_bytes: u64 =
            shards.iter().map(|shard| (shard.segments() * shard.segment_bytes()) as u64).sum();
        let fits = total_bytes <= ram_limit_bytes / 4;
        let in_memory =
            if fits { shards.iter().map(Shard::read_all).collect::<Result<_>>()? } else { Vec::new() };
        let (train, validation) = (Side::of(&tracks, Split::Train), Side::of(&tracks, Split::Validation));
        Ok(Self { dir: dir.to_path_buf(), info, tracks, shards, in_memory, train, validation })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Representation and cut.
    pub fn config(&self) -> &DatasetConfig {
        &self.info.config
    }

    /// `dataset.json`.
    pub fn info(&self) -> &DatasetInfo {
        &self.info
    }

    /// The tracks, by content hash.
    pub fn tracks(&self) -> &[TrackRecord] {
        &self.tracks
    }

    /// What makes numbers of its captions, of at most `vocabulary` tokens: the one that `prepare` made, or, where that is larger
    /// or not there, a new one; `None` when no track to train on has a caption.
    ///
    /// # Errors
    /// [`Error::Format`] for a damaged `tokenizer.json`; [`Error::Config`] for a vocabulary that is too small.
    pub fn tokenizer(&self, vocabulary: usize) -> Result<Option<Tokenizer>> {
        let path = tokenizer_path(&self.dir);
        if let Ok(json) = std::fs::read_to_string(&path) {
            let tokenizer = Tokenizer::from_json(&json, &path)?;
            if tokenizer.vocabulary() <= vocabulary {
                return Ok(Some(tokenizer));
            }
        }
        tokenizer_of(&self.tracks, vocabulary)
    }

    /// A caption of track number `track`, the `draw`-th of them, counted round; empty where it has none.
    pub fn caption(&self, track: usize, draw: u64) -> &str {
        let all = &self.tracks[track].captions;
        let index = draw % (all.len() as u64).max(1);
        all.get(index as usize).map_or("", String::as_str)
    }

    /// What brings images to mean 0 and deviation 1 a row, and back.
    pub fn normalizer(&self) -> &Normalizer {
        &self.info.statistics
    }

    /// Hash of configuration, tracks, sides and captions: a checkpoint names it.
    pub fn fingerprint(&self) -> &str {
        &self.info.fingerprint
    }

    /// `[C, H, W]` of a segment.
    pub fn shape(&self) -> [usize; 3] {
        self.info.shape
    }

    /// Whether the segments are kept in memory.
    pub fn is_in_memory(&self) -> bool {
        !self.in_memory.is_empty()
    }

    /// Bytes of the segments that are kept in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.in_memory.iter().map(|segments| segments.len() as u64).sum()
    }

    /// Number of segments of a split.
    pub fn len(&self, split: Split) -> usize {
        self.side(split).segments
    }

    /// Whether a split has no segment.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// The track (its place in [`tracks`](Self::tracks)) and the segment in it of number `index` of a split.
    ///
    /// # Errors
    /// [`Error::Shape`] when `index` is not below [`len`](Self::len).
    pub fn locate(&self, split: Split, index: usize) -> Result<(usize, usize)> {
        let side = self.side(split);
        if index >= side.segments {
            let expected = format!("a segment below {}", side.segments);
            return Err(Error::shape("Dataset::locate", expected, index.to_string()));
        }
        let (start, track) = side.starts[side.starts.partition_point(|&(start, _)| start <= index) - 1];
        Ok((track, index - start))
    }

    /// Reads segment `index` of a split into `out` `[C, H, W]`, normalised to mean 0 and deviation 1 a row
    /// over the training set. Returns the track.
    ///
    /// # Errors
    /// [`Error::Shape`] for an `index` or `out` that does not fit, [`Error::Io`] when the shard cannot be read,
    /// [`Error::Format`] when the segment is not the one that was written.
    pub fn read_segment(&self, split: Split, index: usize, out: &mut [f32]) -> Result<usize> {
        let (track, segment) = self.locate(split, index)?;
        let expected = self.info.shape.iter().product::<usize>();
        if out.len() != expected {
            let (expected, got) = (format!("{expected} values"), out.len().to_string());
            return Err(Error::shape("Dataset::read_segment", expected, got));
        }
        let shard = &self.shards[track];
        let bytes = shard.segment_bytes();
        match self.in_memory.get(track) {
            Some(stored) => unpack(&stored[segment * bytes..][..bytes], shard.storage, out),
            None => {
                let mut stored = vec![0; bytes];
                shard.read_segment(segment, &mut stored)?;
                unpack(&stored, shard.storage, out);
            }
        }
        self.info.statistics.apply(out, self.info.shape[2])?;
        Ok(track)
    }

    fn side(&self, split: Split) -> &Side {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
        }
    }
}

impl Side {
    fn of(tracks: &[TrackRecord], split: Split) -> Self {
        let mut side = Side::default();
        for (track, record) in tracks.iter().enumerate().filter(|(_, record)| record.split == split) {
            side.starts.push((side.segments, track));
            side.segments += record.segments;
        }
        side
    }
}

fn open_shard(dir: &Path, track: &TrackRecord, info: &DatasetInfo, again: &str) -> Result<Shard> {
    let path = dir.join(&track.shard);
    let shard = Shard::open(&path).map_err(|error| match error {
        Error::Format { path, reason } => Error::format(path, format!("{reason}; {again}")),
        Error::Io { path, source, .. } => Error::format(path, format!("cannot be read: {source}; {again}")),
        other => other,
    })?;
    if shard.facts.content != track.content
        || shard.segments() != track.segments
        || shard.shape[1..] != info.shape
    {
        return Err(Error::format(path, format!("is not the shard that the manifest describes; {again}")));
    }
    Ok(shard)
}

/// Stored little-endian values as f32.
pub(super) fn unpack(bytes: &[u8], storage: Storage, out: &mut [f32]) {
    match storage {
        Storage::F16 => {
            for (out, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *out = half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
            }
        }
        Storage::F32 => {
            for (out, quad) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *out = f32::from_le_bytes([quad[0], quad[1], quad[2], quad[3]]);
            }
        }
    }
}
