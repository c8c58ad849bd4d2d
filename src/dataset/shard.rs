//! One track's segments as a safetensors file that tells everything about itself.
//!
//! ```text
//! __metadata__.track   JSON: content hash, configuration, seconds, codec, warnings, ...
//! mean, squares        f64 [C, H]        of a row over all segments: mean, sum of squared differences from it
//! segments             f16|f32 [N, C, H, W]
//! ```
//!
//! Segments are appended as they come, so memory does not grow with the track; the header, whose size is
//! fixed and padded with spaces (which the format allows), is filled in at the end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::{Deserialize, Serialize};

use super::config::Storage;
use crate::audio::Statistics;
use crate::error::{Error, Result};
use crate::files::{AtomicFile, require_regular_file};

/// Header with its 8-byte length: room for the facts with every warning that is kept.
const HEADER_BYTES: usize = 16 * 1024;
/// No header that we wrote is larger; a damaged length must not make us allocate.
const MAX_HEADER_BYTES: u64 = 1 << 24;
/// Bytes that are read at a time to verify the checksum.
const VERIFY_BYTES: usize = 1 << 18;

/// What a shard says of its track.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardFacts {
    /// SHA-256 of the audio file, in hexadecimal.
    pub content: String,
    /// Fingerprint of the configuration that made the segments.
    pub config: String,
    /// Sound that was read, in seconds.
    pub seconds: f64,
    pub codec: String,
    /// Of the source, in hertz.
    pub sample_rate: u32,
    /// Of the source.
    pub channels: usize,
    /// Segments left out because they are near silence.
    pub silent_segments: usize,
    /// What the decoder had to say.
    pub warnings: Vec<String>,
    /// The file's own tags.
    pub title: Option<String>,
    pub artist: Option<String>,
    pub genre: Option<String>,
    pub licence: Option<String>,
    /// CRC-32C of the segments' bytes.
    pub crc32c: u32,
}

/// Writes a shard segment by segment.
pub(super) struct ShardWriter {
    file: AtomicFile,
    path: PathBuf,
    shape: [usize; 3],
    storage: Storage,
    segments: usize,
    crc32c: u32,
    statistics: Statistics,
    rounded: Vec<f32>,
    bytes: Vec<u8>,
}

impl ShardWriter {
    /// Starts the file at `path` for segments of `shape` `[C, H, W]`.
    pub fn create(path: &Path, shape: [usize; 3], storage: Storage) -> Result<Self> {
        let rows = shape[0] * shape[1];
        let mut file = AtomicFile::create(path)?;
        let head = vec![0; HEADER_BYTES + 2 * rows * size_of::<f64>()];
        file.write_all(&head).map_err(Error::io("write", path))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            shape,
            storage,
            segments: 0,
            crc32c: 0,
            statistics: Statistics::new(rows),
            rounded: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Appends one segment `[C, H, W]`. The statistics are of the values as they are stored: what
    /// training reads.
    pub fn push(&mut self, segment: &[f32]) -> Result<()> {
        let expected = self.shape.iter().product::<usize>();
        if segment.len() != expected {
            let (expected, got) = (format!("{expected} values"), segment.len().to_string());
            return Err(Error::shape("ShardWriter::push", expected, got));
        }
        self.rounded.clear();
        self.bytes.clear();
        match self.storage {
            Storage::F32 => {
                self.rounded.extend_from_slice(segment);
                self.bytes.extend(segment.iter().flat_map(|x| x.to_le_bytes()));
            }
            Storage::F16 => {
                let limit = half::f16::MAX.to_f32();
                self.rounded.extend(segment.iter().map(|x| x.clamp(-limit, limit)));
                let mut halves = vec![half::f16::ZERO; segment.len()];
                halves.convert_from_f32_slice(&self.rounded);
                halves.convert_to_f32_slice(&mut self.rounded);
                self.bytes.extend(halves.iter().flat_map(|x| x.to_le_bytes()));
            }
        }
        self.statistics.push(&self.rounded)?;
        self.crc32c = crc32c::crc32c_append(self.crc32c, &self.bytes);
        self.segments += 1;
        self.file.write_all(&self.bytes).map_err(Error::io("write", &self.path))
    }

    /// Writes header and statistics and makes the file visible. The facts' checksum is filled in here.
    pub fn finish(mut self, facts: &ShardFacts) -> Result<()> {
        let facts = ShardFacts { crc32c: self.crc32c, ..facts.clone() };
        let [channels, height, width] = self.shape;
        let rows_bytes = channels * height * size_of::<f64>();
        let segment_bytes = channels * height * width * self.storage.bytes();
        let data_end = 2 * rows_bytes + self.segments * segment_bytes;
        let rows =
            |offsets| TensorInfo { dtype: Dtype::F64, shape: vec![channels, height], data_offsets: offsets };
        let segments = TensorInfo {
            dtype: self.storage.dtype(),
            shape: vec![self.segments, channels, height, width],
            data_offsets: (2 * rows_bytes, data_end),
        };
        let tensors = vec![
            ("mean".to_string(), rows((0, rows_bytes))),
            ("squares".to_string(), rows((rows_bytes, 2 * rows_bytes))),
            ("segments".to_string(), segments),
        ];
        let broken = |error: &dyn std::fmt::Display| Error::format(&self.path, format!("header: {error}"));
        let track = serde_json::to_string(&facts).map_err(|error| broken(&error))?;
        let metadata = HashMap::from([("track".to_string(), track)]);
        let header = Metadata::new(Some(metadata), tensors).map_err(|error| broken(&error))?;
        let mut header = serde_json::to_vec(&header).map_err(|error| broken(&error))?;
        let room = HEADER_BYTES - size_of::<u64>();
        if header.len() > room {
            return Err(broken(&format!("{} bytes do not fit into {room}", header.len())));
        }
        header.resize(room, b' ');
        self.write_head(&header).map_err(Error::io("write", &self.path))?;
        self.file.commit()
    }

    fn write_head(&mut self, header: &[u8]) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&(header.len() as u64).to_le_bytes())?;
        self.file.write_all(header)?;
        for value in self.statistics.mean().iter().chain(self.statistics.squares()) {
            self.file.write_all(&value.to_le_bytes())?;
        }
        Ok(())
    }
}

/// A shard's header and statistics; its segments stay on disk.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    pub path: PathBuf,
    pub facts: ShardFacts,
    pub statistics: Statistics,
    pub storage: Storage,
    /// `[N, C, H, W]`.
    pub shape: [usize; 4],
    /// Where the first segment begins in the file.
    segments_offset: u64,
}

impl Shard {
    /// Reads header and statistics, and checks that the file is as long as the header says.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short or no shard of ours.
    pub fn open(path: &Path) -> Result<Self> {
        require_regular_file(path)?;
        let mut file = File::open(path).map_err(Error::io("read", path))?;
        let file_bytes = file.metadata().map_err(Error::io("read", path))?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(Error::io("read", path))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES.min(file_bytes) {
            return Err(Error::format(path, "its header is damaged"));
        }
        let mut header = vec![0; header_bytes as usize];
        file.read_exact(&mut header).map_err(Error::io("read", path))?;
        let header: Metadata = serde_json::from_slice(&header)
            .map_err(|error| Error::format(path, format!("its header is damaged: {error}")))?;
        let (facts, storage, shape) =
            understood(&header).ok_or_else(|| Error::format(path, "is no shard of this program"))?;
        let expected_bytes = 8 + header_bytes + header.data_len() as u64;
        if file_bytes != expected_bytes {
            let reason = format!("is {file_bytes} bytes long and should be {expected_bytes}");
            return Err(Error::format(path, reason));
        }
        let rows = shape[1] * shape[2];
        let mut bytes = vec![0; 2 * rows * size_of::<f64>()];
        file.read_exact(&mut bytes).map_err(Error::io("read", path))?;
        let mut values = bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
        let mean = values.by_ref().take(rows).collect();
        let count = (shape[0] * shape[3]) as u64;
        let statistics = Statistics::from_parts(count, mean, values.collect())?;
        let segments_offset = 8 + header_bytes + (2 * rows * size_of::<f64>()) as u64;
        Ok(Self { path: path.to_path_buf(), facts, statistics, storage, shape, segments_offset })
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.shape[0]
    }

    /// Bytes of one segment as stored.
    pub fn segment_bytes(&self) -> usize {
        self.shape[1..].iter().product::<usize>() * self.storage.bytes()
    }

    /// Reads segment `index` as stored into `bytes`, which is [`segment_bytes`](Self::segment_bytes) long.
    pub fn read_segment(&self, index: usize, bytes: &mut [u8]) -> Result<()> {
        self.read_from(index, bytes).map_err(Error::io("read", &self.path))
    }

    fn read_from(&self, first_segment: usize, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut file = File::open(&self.path)?;
        let offset = (first_segment * self.segment_bytes()) as u64;
        file.seek(SeekFrom::Start(self.segments_offset + offset))?;
        file.read_exact(bytes)
    }

    /// Reads all segments as stored and checks their checksum.
    pub fn read_all(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.segments() * self.segment_bytes()];
        self.read_from(0, &mut bytes).map_err(Error::io("read", &self.path))?;
        self.compare(crc32c::crc32c(&bytes))?;
        Ok(bytes)
    }

    /// Reads all segments, a piece at a time, and checks their checksum.
    pub fn verify(&self) -> Result<()> {
        let checksum = || -> std::io::Result<u32> {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.segments_offset))?;
            let (mut bytes, mut crc32c) = (vec![0; VERIFY_BYTES], 0);
            loop {
                match file.read(&mut bytes)? {
                    0 => return Ok(crc32c),
                    count => crc32c = crc32c::crc32c_append(crc32c, &bytes[..count]),
                }
            }
        };
        self.compare(checksum().map_err(Error::io("read", &self.path))?)
    }

    fn compare(&self, crc32c: u32) -> Result<()> {
        if crc32c == self.facts.crc32c {
            return Ok(());
        }
        let advice = "its content is damaged (checksum); run the same prepare command again to make it anew";
        Err(Error::format(&self.path, advice))
    }
}

/// Opens the shard at `path` and compares its segments with their checksum.
///
/// # Errors
/// As [`Shard::open`], and [`Error::Format`] for segments that are not those that were written.
pub(crate) fn verify(path: &Path) -> Result<()> {
    Shard::open(path)?.verify()
}

/// What a header means, if it is one of ours.
fn understood(header: &Metadata) -> Option<(ShardFacts, Storage, [usize; 4])> {
    let facts: ShardFacts = serde_json::from_str(header.metadata().as_ref()?.get("track")?).ok()?;
    let segments = header.info("segments")?;
    let storage = Storage::of(segments.dtype)?;
    let shape: [usize; 4] = segments.shape.as_slice().try_into().ok()?;
    let rows = [shape[1], shape[2]];
    let statistics_fit = ["mean", "squares"]
        .iter()
        .all(|name| header.info(name).is_some_and(|info| info.dtype == Dtype::F64 && info.shape == rows));
    let in_order = header.offset_keys() == ["mean", "squares", "segments"];
    (statistics_fit && in_order).then_some((facts, storage, shape))
}
