//! A recording inside a container: a member of a tar or zip, or a cell of a parquet table. It is read where it lies;
//! nothing is ever unpacked to disk.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::DeflateDecoder;

use super::parquet::Cells;
use crate::audio::Input;
use crate::error::{Error, Result, human_bytes};

/// What is unpacked into memory for one track may be so large and no larger, whatever an archive claims: 50 minutes of
/// uncompressed CD sound.
pub(super) const MAX_UNPACKED_BYTES: u64 = 512 << 20;

/// Where a recording lies in its container.
#[derive(Clone, Debug)]
pub struct Member {
    /// The tar, zip or parquet file.
    pub container: PathBuf,
    /// Bytes of the recording; of a cell, the mean of its row group.
    pub bytes: u64,
    pub(super) place: Place,
}

/// Where in the container.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// As it is, from this byte on.
    Stored { start: u64 },
    /// Deflated.
    Deflated { start: u64, packed_bytes: u64, crc: u32 },
    /// The cell of this row.
    Row { cells: Arc<Cells>, row: u64 },
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        (&self.container, self.order(), self.bytes) == (&other.container, other.order(), other.bytes)
    }
}

impl Member {
    /// Where it stands among its container's: reading in this order is fastest.
    pub(super) fn order(&self) -> u64 {
        match &self.place {
            Place::Stored { start } | Place::Deflated { start, .. } => *start,
            Place::Row { row, .. } => *row,
        }
    }

    /// What a decoder reads; messages call it `path`.
    ///
    /// # Errors
    /// [`Error::Audio`] with the reason, for what is damaged, too large or not there.
    pub(super) fn input(&self, path: &Path) -> Result<Input> {
        let refused = |reason| Error::audio(path, reason);
        match &self.place {
            Place::Stored { start } => Ok(Input::part(path, &self.container, *start, self.bytes)),
            Place::Deflated { .. } => {
                Ok(Input::memory(path, self.unpacked(MAX_UNPACKED_BYTES).map_err(refused)?))
            }
            Place::Row { cells, row } => Ok(Input::memory(path, cells.read(*row).map_err(refused)?)),
        }
    }

    /// All its bytes, `limit` at most.
    ///
    /// # Errors
    /// The reason in the user's words.
    pub(super) fn unpacked(&self, limit: u64) -> std::result::Result<Vec<u8>, String> {
        if self.bytes > limit {
            let (bytes, limit) = (human_bytes(self.bytes), human_bytes(limit));
            return Err(format!(
                "declares {bytes}, {limit} at most are unpacked; unpack the archive and give its folder"
            ));
        }
        let (start, packed_bytes, crc) = match self.place {
            Place::Stored { start } => (start, self.bytes, None),
            Place::Deflated { start, packed_bytes, crc } => (start, packed_bytes, Some(crc)),
            Place::Row { ref cells, row } => return cells.read(row),
        };
        let failed = |error: std::io::Error| format!("cannot be unpacked: {error}");
        let mut file = File::open(&self.container).map_err(failed)?;
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let packed = file.take(packed_bytes);
        let mut bytes = Vec::new();
        // One byte more than declared is enough to know that the declaration lies.
        match crc {
            None => packed.take(self.bytes).read_to_end(&mut bytes),
            Some(_) => DeflateDecoder::new(packed).take(self.bytes + 1).read_to_end(&mut bytes),
        }
        .map_err(failed)?;
        if bytes.len() as u64 != self.bytes {
            let (real, declared) = (bytes.len(), self.bytes);
            return Err(format!(
                "is damaged: it declares {declared} bytes and holds {}{real}",
                if real as u64 > declared { "more than " } else { "" }
            ));
        }
        let mut sum = flate2::Crc::new();
        sum.update(&bytes);
        match crc {
            Some(crc) if crc != sum.sum() => Err("is damaged (checksum)".to_string()),
            _ => Ok(bytes),
        }
    }
}

/// Size in bytes and last change in nanoseconds since 1970 (0 where the file system does not say) of a regular file.
///
/// # Errors
/// The reason in the user's words.
pub(super) fn size_and_time(path: &Path) -> std::result::Result<(u64, u64), String> {
    let about = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        // A pipe would block for ever, a device would never end.
        return Err("is not a regular file".to_string());
    }
    let modified = about.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok((about.len(), modified.map_or(0, |since| since.as_nanos() as u64)))
}

/// Runs third-party code on a stranger's file; a panic in it is that file's failure, not the program's.
pub(super) fn guarded<T>(
    work: impl FnOnce() -> std::result::Result<T, String>,
) -> std::result::Result<T, String> {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    caught.unwrap_or_else(|_| Err("is damaged in an unusual way (its reader crashed)".to_string()))
}
