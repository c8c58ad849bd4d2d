//! What decides the content of a prepared folder.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::audio::config::RepresentationConfig;
use crate::error::{Error, Result};

/// Version of the folder's layout and of the meaning of its numbers.
pub const FORMAT_VERSION: u32 = 1;

/// Element type of the stored segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Half precision: half the space; a relative error of 2^-11, some 50 dB below the spread of a
    /// log-magnitude row.
    #[default]
    F16,
    /// Single precision.
    F32,
}

impl Storage {
    pub(super) fn bytes(self) -> usize {
        match self {
            Storage::F16 => 2,
            Storage::F32 => 4,
        }
    }

    pub(super) fn dtype(self) -> safetensors::Dtype {
        match self {
            Storage::F16 => safetensors::Dtype::F16,
            Storage::F32 => safetensors::Dtype::F32,
        }
    }

    pub(super) fn of(dtype: safetensors::Dtype) -> Option<Self> {
        [Storage::F16, Storage::F32].into_iter().find(|storage| storage.dtype() == dtype)
    }
}

/// How tracks are cut and stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutConfig {
    /// Part of a segment that the next one repeats, 0 <= overlap < 1.
    pub overlap: f64,
    /// At most so many segments a track, spread over it; `None` for all.
    pub max_segments_per_track: Option<usize>,
    /// Element type of the stored segments.
    pub storage: Storage,
}

/// Everything that decides the content of the shards: folders with equal configurations can be added to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// The image of a segment.
    pub representation: RepresentationConfig,
    /// How tracks are cut.
    pub cut: CutConfig,
}

/// A key of the representation that only matters when images are turned back into sound.
const DECODING_KEY: &str = "griffin_lim_iterations";

impl CutConfig {
    /// # Errors
    /// [`Error::Config`] for an overlap outside 0..1, or a maximum of 0.
    pub fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.overlap) {
            return Err(Error::config("--segments-overlap", format!("{} is not in 0..1", self.overlap)));
        }
        if self.max_segments_per_track == Some(0) {
            return Err(Error::config("--max-segments-per-track", "0 would leave nothing"));
        }
        Ok(())
    }
}

impl DatasetConfig {
    /// SHA-256, in hexadecimal, of everything that decides the shards' content.
    pub fn fingerprint(&self) -> String {
        let keys: Vec<String> = self.keys().iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        hex(&Sha256::digest(format!("version={FORMAT_VERSION}\n{}", keys.concat())))
    }

    /// The first key in which `other` differs, as `(key, own value, other's value)`.
    pub fn difference(&self, other: &DatasetConfig) -> Option<(String, String, String)> {
        let pairs = self.keys().into_iter().zip(other.keys());
        pairs.into_iter().find(|(own, other)| own != other).map(|((key, own), (_, other))| (key, own, other))
    }

    /// Every key that decides the shards' content, in a fixed order, with its value as JSON.
    fn keys(&self) -> Vec<(String, String)> {
        let value = serde_json::to_value(self).unwrap_or_default();
        let groups = value.as_object().into_iter().flatten();
        let keys = groups.flat_map(|(group, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            keys.map(move |(key, value)| (format!("{group}.{key}"), value.to_string()))
        });
        keys.filter(|(key, _)| !key.ends_with(DECODING_KEY)).collect()
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
