//! One track's segments as a safetensors file that tells everything about itself.
//!
//! ```text
//! __metadata__.track   JSON: content hash, configuration, seconds, codec, warnings, ...
//! mean, squares        f64 [C, H]        of a row over all segments: mean, sum of squared differences from it
//! range                f32 [C, H, 2]     smallest and largest value (older shards lack it)
//! segments             f16|f32 [N, C, H, W]
//! checksums            u32 [N]           CRC-32C of each segment, so that it can be verified whenever it is read
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
use crate::audio::{ANYTHING, Statistics};
use crate::error::{Error, Result};
use crate::files::{AtomicFile, require_regular_file};

/// Header with its 8-byte length: room for the facts with every warning that is kept.
const HEADER_BYTES: usize = 16 * 1024;
/// No header that we wrote is larger; a damaged length must not make us allocate.
const MAX_HEADER_BYTES: u64 = 1 << 24;

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
    /// CRC-32C of statistics and checksums.
    pub crc32c: u32,
}

/// Writes a shard segment by segment.
pub(super) struct ShardWriter {
    file: AtomicFile,
    path: PathBuf,
    shape: [usize; 3],
    storage: Storage,
    /// Of the segments so far.
    checksums: Vec<u32>,
    statistics: Statistics,
    rounded: Vec<f32>,
    bytes: Vec<u8>,
}

impl ShardWriter {
    /// Starts the file at `path` for segments of `shape` `[C, H, W]`.
    pub fn create(path: &Path, shape: [usize; 3], storage: Storage) -> Result<Self> {
        let rows = shape[0] * shape[1];
        let mut file = AtomicFile::create(path)?;
        let head = vec![0; HEADER_BYTES + statistics_bytes(rows, true)];
        file.write_all(&head).map_err(Error::io("write", path))?;
        Ok(Self {
            file,
            path: path.to_path_buf(),
            shape,
            storage,
            checksums: Vec::new(),
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
        self.checksums.push(crc32c::crc32c(&self.bytes));
        self.file.write_all(&self.bytes).map_err(Error::io("write", &self.path))
    }

    /// Writes header, statistics and checksums and makes the file visible. The facts' checksum is filled in here.
    pub fn finish(mut self, facts: &ShardFacts) -> Result<()> {
        let sums = self.statistics.mean().iter().chain(self.statistics.squares());
        let mut statistics: Vec<u8> = sums.flat_map(|value| value.to_le_bytes()).collect();
        statistics.extend(self.statistics.range().iter().flatten().flat_map(|value| value.to_le_bytes()));
        let checksums: Vec<u8> = self.checksums.iter().flat_map(|value| value.to_le_bytes()).collect();
        let crc32c = crc32c::crc32c_append(crc32c::crc32c(&statistics), &checksums);
        let facts = ShardFacts { crc32c, ..facts.clone() };
        let [channels, height, width] = self.shape;
        let tensors = described([self.checksums.len(), channels, height, width], self.storage, true);
        let tensors = tensors.into_iter().map(|(name, info)| (name.to_string(), info)).collect();
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
        let mut write = || -> std::io::Result<()> {
            self.file.write_all(&checksums)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&(header.len() as u64).to_le_bytes())?;
            self.file.write_all(&header)?;
            self.file.write_all(&statistics)
        };
        write().map_err(Error::io("write", &self.path))?;
        self.file.commit()
    }
}

/// Bytes before the segments, of shards that keep the rows' range or not.
fn statistics_bytes(rows: usize, with_range: bool) -> usize {
    2 * rows * size_of::<f64>() + if with_range { rows * size_of::<[f32; 2]>() } else { 0 }
}

/// The tensors of a shard whose segments have this shape, in their order on disk.
fn described(shape: [usize; 4], storage: Storage, with_range: bool) -> Vec<(&'static str, TensorInfo)> {
    let [segments, channels, height, width] = shape;
    let mut end = 0;
    let mut tensor = |name, dtype, element_bytes: usize, shape: &[usize]| {
        let start = end;
        end = shape
            .iter()
            .fold(element_bytes, |bytes, &extent| bytes.saturating_mul(extent))
            .saturating_add(start);
        (name, TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) })
    };
    let mut tensors = vec![
        tensor("mean", Dtype::F64, size_of::<f64>(), &[channels, height]),
        tensor("squares", Dtype::F64, size_of::<f64>(), &[channels, height]),
    ];
    if with_range {
        tensors.push(tensor("range", Dtype::F32, size_of::<f32>(), &[channels, height, 2]));
    }
    tensors.push(tensor("segments", storage.dtype(), storage.bytes(), &[segments, channels, height, width]));
    tensors.push(tensor("checksums", Dtype::U32, size_of::<u32>(), &[segments]));
    tensors
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
    /// Of each segment.
    checksums: Vec<u32>,
    /// Where the first segment begins in the file.
    segments_offset: u64,
}

impl Shard {
    /// Reads header, statistics and checksums, verifies those, and checks that the file is as long as the header says.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file that is cut short, damaged or no shard of ours.
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
        let with_range = header.info("range").is_some();
        let mut bytes = vec![0; statistics_bytes(rows, with_range)];
        file.read_exact(&mut bytes).map_err(Error::io("read", path))?;
        let mut checksums = vec![0; shape[0] * size_of::<u32>()];
        file.seek(SeekFrom::Start(file_bytes - checksums.len() as u64)).map_err(Error::io("read", path))?;
        file.read_exact(&mut checksums).map_err(Error::io("read", path))?;
        if crc32c::crc32c_append(crc32c::crc32c(&bytes), &checksums) != facts.crc32c {
            return Err(Error::format(path, "its statistics are damaged (checksum)"));
        }
        let checksums = checksums.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        let (sums, range) = bytes.split_at(statistics_bytes(rows, false));
        let mut values = sums.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes));
        let mean = values.by_ref().take(rows).collect();
        let mut limits = range.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let mut limit = |unknown| if with_range { limits.next().unwrap_or(unknown) } else { unknown };
        let range = (0..rows).map(|_| ANYTHING.map(&mut limit)).collect();
        let count = (shape[0] * shape[3]) as u64;
        let statistics = Statistics::from_parts(count, mean, values.collect(), range)?;
        let segments_offset = 8 + header_bytes + bytes.len() as u64;
        Ok(Self { path: path.to_path_buf(), facts, statistics, storage, shape, checksums, segments_offset })
    }

    /// Number of segments.
    pub fn segments(&self) -> usize {
        self.shape[0]
    }

    /// Bytes of one segment as stored.
    pub fn segment_bytes(&self) -> usize {
        self.shape[1..].iter().product::<usize>() * self.storage.bytes()
    }

    /// Reads segment `index` as stored into `bytes`, which is [`segment_bytes`](Self::segment_bytes) long, and
    /// verifies it.
    pub fn read_segment(&self, index: usize, bytes: &mut [u8]) -> Result<()> {
        self.read_from(index, bytes).map_err(Error::io("read", &self.path))?;
        self.compare(index, bytes)
    }

    fn read_from(&self, first_segment: usize, bytes: &mut [u8]) -> std::io::Result<()> {
        let mut file = File::open(&self.path)?;
        let offset = (first_segment * self.segment_bytes()) as u64;
        file.seek(SeekFrom::Start(self.segments_offset + offset))?;
        file.read_exact(bytes)
    }

    /// Reads all segments as stored and verifies them.
    pub fn read_all(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.segments() * self.segment_bytes()];
        self.read_from(0, &mut bytes).map_err(Error::io("read", &self.path))?;
        for (index, segment) in bytes.chunks_exact(self.segment_bytes()).enumerate() {
            self.compare(index, segment)?;
        }
        Ok(bytes)
    }

    /// Reads all segments, one at a time, and verifies them.
    pub fn verify(&self) -> Result<()> {
        let mut segment = vec![0; self.segment_bytes()];
        (0..self.segments()).try_for_each(|index| self.read_segment(index, &mut segment))
    }

    fn compare(&self, index: usize, segment: &[u8]) -> Result<()> {
        if crc32c::crc32c(segment) == self.checksums[index] {
            return Ok(());
        }
        let again = "run the same prepare command again to make it anew";
        Err(Error::format(&self.path, format!("its segment {index} is damaged (checksum); {again}")))
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
    let is_as_described = |(name, expected): (&str, TensorInfo)| {
        header.info(name).is_some_and(|info| {
            (info.dtype, &info.shape, info.data_offsets)
                == (expected.dtype, &expected.shape, expected.data_offsets)
        })
    };
    let with_range = header.info("range").is_some();
    described(shape, storage, with_range).into_iter().all(is_as_described).then_some((facts, storage, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same shard as older programs wrote it: without the rows' range.
    fn without_range(path: &Path) {
        let bytes = std::fs::read(path).unwrap();
        let (head, data) = bytes.split_at(HEADER_BYTES);
        let mut header: serde_json::Value = serde_json::from_slice(&head[8..]).unwrap();
        let [from, to] = [0, 1].map(|i| header["range"]["data_offsets"][i].as_u64().unwrap() as usize);
        let mut data = data.to_vec();
        data.drain(from..to);
        header.as_object_mut().unwrap().remove("range");
        for tensor in ["segments", "checksums"] {
            for i in [0, 1] {
                let offset = &mut header[tensor]["data_offsets"][i];
                *offset = (offset.as_u64().unwrap() as usize - (to - from)).into();
            }
        }
        let checksums = header["checksums"]["data_offsets"][0].as_u64().unwrap() as usize;
        let mut facts: ShardFacts =
            serde_json::from_str(header["__metadata__"]["track"].as_str().unwrap()).unwrap();
        facts.crc32c = crc32c::crc32c_append(crc32c::crc32c(&data[..from]), &data[checksums..]);
        header["__metadata__"]["track"] = serde_json::to_string(&facts).unwrap().into();
        let mut head = serde_json::to_vec(&header).unwrap();
        head.resize(HEADER_BYTES - 8, b' ');
        let length = ((HEADER_BYTES - 8) as u64).to_le_bytes();
        std::fs::write(path, [&length[..], &head, &data].concat()).unwrap();
    }

    #[test]
    fn a_shard_keeps_each_rows_range_and_an_older_one_is_read_without() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        let mut writer = ShardWriter::create(&path, [1, 2, 3], Storage::F16).unwrap();
        for segment in [[1.0, 2.0, 3.0, -4.0, 5.0, 6.0], [0.5, 2.0, 9.0, 1.0, 1.0, 1.0]] {
            writer.push(&segment).unwrap();
        }
        writer.finish(&ShardFacts::default()).unwrap();
        let now = Shard::open(&path).unwrap();
        assert_eq!(now.statistics.range(), [[0.5, 9.0], [-4.0, 6.0]]);

        let segments = now.read_all().unwrap();
        without_range(&path);
        let older = Shard::open(&path).unwrap();
        older.verify().unwrap();
        assert_eq!(older.read_all().unwrap(), segments);
        let sums = |shard: &Shard| (shard.statistics.mean().to_vec(), shard.statistics.squares().to_vec());
        assert_eq!(sums(&older), sums(&now));
        assert_eq!(older.statistics.range(), [ANYTHING; 2]);
    }
}
