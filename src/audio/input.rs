//! Where a recording's bytes are: a file of its own, a part of a larger file (a member of a tar), or memory (a cell
//! of a table, a member that had to be unpacked). Whoever decodes need not know.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// What a decoder reads from.
pub(crate) trait Stream: Read + Seek + Send + Sync {}

impl<T: Read + Seek + Send + Sync> Stream for T {}

/// A recording that has not been opened yet; it may be opened more than once.
#[derive(Clone, Debug)]
pub struct Input {
    /// As messages name it; the end of it is a hint of what it holds.
    path: PathBuf,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    File,
    Part { file: PathBuf, start: u64, bytes: u64 },
    Memory(Memory),
}

/// Bytes that several readers share.
#[derive(Clone, Debug)]
struct Memory(Arc<Vec<u8>>);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Input {
    /// The file at `path`.
    pub fn file(path: &Path) -> Self {
        Self { path: path.to_path_buf(), place: Place::File }
    }

    /// `bytes` bytes of `file` from `start` on, called `path` in messages.
    pub fn part(path: &Path, file: &Path, start: u64, bytes: u64) -> Self {
        Self { path: path.to_path_buf(), place: Place::Part { file: file.to_path_buf(), start, bytes } }
    }

    /// Bytes in memory, called `path` in messages.
    pub fn memory(path: &Path, bytes: Vec<u8>) -> Self {
        Self { path: path.to_path_buf(), place: Place::Memory(Memory(Arc::new(bytes))) }
    }

    /// As messages name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it at its beginning, without ever waiting (a FIFO would block, a device would never end); also its length.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses, [`Error::Audio`] for what is no regular file.
    pub(crate) fn open(&self) -> Result<(Box<dyn Stream>, u64)> {
        match &self.place {
            Place::File => {
                let (file, bytes) = self.regular_file(&self.path)?;
                Ok((Box::new(file), bytes))
            }
            Place::Part { file, start, bytes } => {
                let (file, _) = self.regular_file(file)?;
                let part = Part { file, start: *start, bytes: *bytes, position: 0 };
                Ok((Box::new(part), *bytes))
            }
            Place::Memory(memory) => Ok((Box::new(Cursor::new(memory.clone())), memory.0.len() as u64)),
        }
    }

    fn regular_file(&self, file: &Path) -> Result<(File, u64)> {
        let not_regular = || Error::audio(&self.path, "is not a regular file");
        if !fs::metadata(file).map_err(Error::io("open", &self.path))?.is_file() {
            return Err(not_regular());
        }
        let file = open_without_waiting(file).map_err(Error::io("open", &self.path))?;
        let metadata = file.metadata().map_err(Error::io("open", &self.path))?;
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_regular()) }
    }
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).open(path)
}

/// A stretch of a file as if it were a file.
struct Part {
    file: File,
    start: u64,
    bytes: u64,
    position: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.bytes.saturating_sub(self.position).min(buffer.len() as u64) as usize;
        if left == 0 {
            return Ok(0);
        }
        self.file.seek(SeekFrom::Start(self.start + self.position))?;
        let count = self.file.read(&mut buffer[..left])?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_file_reads_like_a_file_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("whole");
        fs::write(&file, b"..sound...").unwrap();
        let (mut part, bytes) = Input::part(Path::new("whole#sound"), &file, 2, 5).open().unwrap();
        let mut text = String::new();
        part.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), bytes), ("sound", 5));
        assert_eq!(part.seek(SeekFrom::End(-2)).unwrap(), 3);
        text.clear();
        part.read_to_string(&mut text).unwrap();
        assert_eq!(text, "nd");
        assert!(part.seek(SeekFrom::Current(-9)).is_err());
        assert_eq!(part.seek(SeekFrom::Start(99)).unwrap(), 99);
        assert_eq!(part.read(&mut [0; 4]).unwrap(), 0);
    }
}
