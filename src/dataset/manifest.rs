//! The two readable files of a prepared folder: `manifest.jsonl` (one line a track) and `dataset.json`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config::{DatasetConfig, FORMAT_VERSION, hex};
use super::split::Split;
use crate::audio::Normalizer;
use crate::error::{Error, Result};
use crate::files::{write_atomic, write_bytes_atomic};
use crate::text::Tokenizer;

const FORMAT: &str = "dit-engine dataset";

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// The file as a person would name it, relative to the source it was found in.
    pub file: String,
    /// Where it was found (more than one place if there are copies), bytes that are not UTF-8 replaced.
    pub sources: Vec<SourceRecord>,
    /// SHA-256 of the file, in hexadecimal.
    pub content: String,
    /// Captions in the order found.
    pub captions: Vec<String>,
    /// Title, from the table or the file's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Artist, from the table or the file's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// Genre, from the table or the file's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genre: Option<String>,
    /// Licence, from the table or the file's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Training or validation.
    pub split: Split,
    /// Sound that was read, in seconds.
    pub seconds: f64,
    /// Segments in the shard.
    pub segments: usize,
    /// Segments left out because they are near silence.
    pub silent_segments: usize,
    /// The source's codec.
    pub codec: String,
    /// The source's sample rate in hertz.
    pub sample_rate: u32,
    /// The source's channels.
    pub channels: usize,
    /// What the decoder had to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The shard, relative to the prepared folder.
    pub shard: String,
}

/// One place of a track; size and time let the next run trust the hash without reading the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Absolute path.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change in nanoseconds since 1970.
    pub modified_ns: u64,
}

/// Counts of one split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Tracks.
    pub tracks: usize,
    /// Captions.
    pub captions: usize,
    /// Segments.
    pub segments: usize,
    /// Sound in seconds.
    pub seconds: f64,
}

/// `dataset.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetInfo {
    /// Always "dit-engine dataset".
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub version: u32,
    /// False from the start of the first run to its end.
    pub complete: bool,
    /// What made the shards.
    pub config: DatasetConfig,
    /// Part of the artists held out by hash.
    pub validation: f64,
    /// Shape of one segment: `[C, H, W]`.
    pub shape: [usize; 3],
    /// The training side.
    pub train: Counts,
    /// The validation side.
    pub validation_set: Counts,
    /// SHA-256 over configuration and sorted tracks (content, split, captions): what a training run saw.
    pub fingerprint: String,
    /// SHA-256 of `manifest.jsonl`, which is written first: a kill between the two is noticed.
    pub manifest_sha256: String,
    /// Mean and deviation of the training set a row, `[C * H]`. `write` puts them at the end itself, a row a line would be a thousand lines.
    #[serde(default, skip_serializing)]
    pub statistics: Normalizer,
}

impl DatasetInfo {
    /// What stands in the folder while the first run is under way.
    pub fn unfinished(config: DatasetConfig, validation: f64, shape: [usize; 3]) -> Self {
        Self {
            format: FORMAT.to_string(),
            version: FORMAT_VERSION,
            complete: false,
            config,
            validation,
            shape,
            train: Counts::default(),
            validation_set: Counts::default(),
            fingerprint: String::new(),
            manifest_sha256: String::new(),
            statistics: Normalizer::default(),
        }
    }

    /// Reads `DIR/dataset.json`; `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] for a file of another kind or version.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = info_path(dir);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let refused = |reason: String| Error::format(&path, reason);
        let header: Header = serde_json::from_slice(&bytes)
            .map_err(|error| refused(format!("is no dataset of this program ({error})")))?;
        if header.format != FORMAT || header.version != FORMAT_VERSION {
            let Header { format, version } = header;
            return Err(refused(format!(
                "is {format:?} version {version}; this program reads {FORMAT:?} version {FORMAT_VERSION}: \
                 prepare the sources again into another folder"
            )));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| refused(format!("is damaged ({error})")))
    }

    /// Writes `DIR/dataset.json`, indented, with the statistics on one line at the end.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, dir: &Path) -> Result<()> {
        let path = info_path(dir);
        let broken = |error: serde_json::Error| Error::format(&path, error.to_string());
        let head = serde_json::to_string_pretty(self).map_err(broken)?;
        let statistics = serde_json::to_string(&self.statistics).map_err(broken)?;
        let head = head.strip_suffix("\n}").unwrap_or(&head);
        write_bytes_atomic(&path, format!("{head},\n  \"statistics\": {statistics}\n}}\n").as_bytes())
    }
}

/// What has to be understood before the rest is.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
}

/// Where the folder's description lies.
pub fn info_path(dir: &Path) -> PathBuf {
    dir.join("dataset.json")
}

/// Where the list of tracks lies.
pub fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("manifest.jsonl")
}

/// Where the tokenizer lies.
pub fn tokenizer_path(dir: &Path) -> PathBuf {
    dir.join("tokenizer.json")
}

/// A tokenizer for the captions of the training side, of at most `vocabulary` tokens; `None` when there are none.
///
/// # Errors
/// [`Error::Config`] for a vocabulary that is too small.
pub fn tokenizer_of(tracks: &[TrackRecord], vocabulary: usize) -> Result<Option<Tokenizer>> {
    let train = tracks.iter().filter(|track| track.split == Split::Train);
    let captions: Vec<&str> = train.flat_map(|track| track.captions.iter().map(String::as_str)).collect();
    (!captions.is_empty()).then(|| Tokenizer::train(captions, vocabulary)).transpose()
}

/// Writes `DIR/manifest.jsonl` and returns its SHA-256.
///
/// # Errors
/// [`Error::Io`].
pub fn write_manifest(dir: &Path, tracks: &[TrackRecord]) -> Result<String> {
    let path = manifest_path(dir);
    let mut digest = Sha256::new();
    write_atomic(&path, |out| {
        for track in tracks {
            let mut line = serde_json::to_vec(track)?;
            line.push(b'\n');
            digest.update(&line);
            out.write_all(&line)?;
        }
        Ok(())
    })?;
    Ok(hex(&digest.finalize()))
}

/// Reads `DIR/manifest.jsonl`; also its SHA-256.
///
/// # Errors
/// [`Error::Io`], or [`Error::Format`] with the line.
pub fn read_manifest(dir: &Path) -> Result<(Vec<TrackRecord>, String)> {
    let path = manifest_path(dir);
    let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
    let mut tracks = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let track = serde_json::from_slice(line);
        tracks.push(track.map_err(|error| Error::format(&path, format!("line {}: {error}", index + 1)))?);
    }
    Ok((tracks, hex(&Sha256::digest(&bytes))))
}

/// What a training run on these tracks would see, as one hash: configuration, and of every track content, side
/// and captions; not names, places or times.
pub fn fingerprint(config: &DatasetConfig, tracks: &[TrackRecord]) -> String {
    let mut digest = Sha256::new();
    digest.update(config.fingerprint());
    let mut sorted: Vec<&TrackRecord> = tracks.iter().collect();
    sorted.sort_by(|a, b| a.content.cmp(&b.content));
    for track in sorted {
        // A caption holds no line break (it was cleaned), so the lines cannot be confused.
        digest.update(format!("\n{} {:?}", track.content, track.split));
        track.captions.iter().for_each(|caption| digest.update(format!("\n\t{caption}")));
    }
    hex(&digest.finalize())
}
