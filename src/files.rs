//! Files that survive a kill: written beside their final name, synced, then renamed, so that a reader
//! sees the old content or the new, never half of either.

use std::fs::{self, File, TryLockError};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes a file atomically: `fill` writes into `PATH.tmp`, which is flushed, synced and renamed to
/// `path`; then the folder is synced, so that the rename survives a power cut.
///
/// # Errors
/// [`Error::Io`] with `path`; the temporary file is removed and an older file at `path` is untouched.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let temporary = temporary_name(path);
    let written = write_and_sync(&temporary, fill).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = written {
        let _ = fs::remove_file(&temporary);
        return Err(Error::Io { action: "write", path: path.to_path_buf(), source });
    }
    sync_folder_of(path);
    Ok(())
}

/// [`write_atomic`] for content that is already in memory.
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |out| out.write_all(bytes))
}

/// A file that needs seeking while it is written (a header that is known last) and yet appears whole or not at
/// all: it is `PATH.tmp` until [`commit`](Self::commit), and gone if it is dropped before.
pub struct AtomicFile {
    /// `None` once committed.
    out: Option<BufWriter<File>>,
    temporary: PathBuf,
    path: PathBuf,
}

impl AtomicFile {
    /// Opens `PATH.tmp`.
    ///
    /// # Errors
    /// [`Error::Io`] with `path`.
    pub fn create(path: &Path) -> Result<Self> {
        let temporary = temporary_name(path);
        let file = File::create(&temporary).map_err(Error::io("write", path))?;
        Ok(Self { out: Some(BufWriter::with_capacity(1 << 20, file)), temporary, path: path.to_path_buf() })
    }

    /// Flushes, syncs and renames to the final name.
    ///
    /// # Errors
    /// [`Error::Io`] with the final name; the temporary file is removed.
    pub fn commit(mut self) -> Result<()> {
        let synced = match self.out.take() {
            Some(out) => {
                out.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all())
            }
            None => Ok(()),
        };
        let renamed = synced.and_then(|()| fs::rename(&self.temporary, &self.path));
        if let Err(source) = renamed {
            let _ = fs::remove_file(&self.temporary);
            return Err(Error::Io { action: "write", path: self.path.clone(), source });
        }
        sync_folder_of(&self.path);
        Ok(())
    }

    fn out(&mut self) -> std::io::Result<&mut BufWriter<File>> {
        self.out.as_mut().ok_or_else(|| std::io::Error::other("the file is closed"))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.out()?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out()?.flush()
    }
}

impl Seek for AtomicFile {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.out()?.seek(to)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Not flushed: the content is thrown away.
            drop(out.into_parts());
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// [`Error::Io`] with the folder.
pub fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create", path))
}

/// Held while a program works in a folder; let go of when it is dropped, or when the program ends in whatever way.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Takes a folder, which is made if it is not there, for this program alone (`FOLDER/.lock`, an advisory lock of the
/// operating system). Where the file system knows no locks, nothing is taken.
///
/// # Errors
/// [`Error::Format`] when another program holds it, with its number; [`Error::Io`] when the folder cannot be written to.
pub fn lock_folder(folder: &Path) -> Result<FolderLock> {
    create_folder(folder)?;
    let path = folder.join(".lock");
    let options = || File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options().map_err(Error::io("write", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let reason = format!("is in use by another dit-engine (process {})", holder.trim());
            return Err(Error::format(folder, reason));
        }
        Err(TryLockError::Error(error)) => tracing::debug!(%error, "no locks on this file system"),
        Ok(()) => {}
    }
    let number = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(number.as_bytes())).map_err(Error::io("write", &path))?;
    Ok(FolderLock { _file: file })
}

/// Refuses what would block or never end when it is read: a pipe, a device, a socket; and a folder.
///
/// # Errors
/// [`Error::Io`] when there is nothing at `path`, [`Error::Format`] when it is no regular file.
pub fn require_regular_file(path: &Path) -> Result<()> {
    let about = fs::metadata(path).map_err(Error::io("read", path))?;
    match () {
        () if about.is_file() => Ok(()),
        () if about.is_dir() => Err(Error::format(path, "is a folder; give the path of a file")),
        () => Err(Error::format(path, "is a pipe or a device; save its content to a file and give that")),
    }
}

fn write_and_sync(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    fill(&mut out)?;
    out.into_inner().map_err(|error| error.into_error())?.sync_all()
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Best effort: some file systems refuse to sync a folder, and the rename itself has succeeded.
fn sync_folder_of(path: &Path) {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_debris() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        write_bytes_atomic(&path, b"old").unwrap();
        let failed = write_atomic(&path, |out| {
            out.write_all(b"half of the n")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_seekable_file_appears_on_commit_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard");
        let mut dropped = AtomicFile::create(&path).unwrap();
        dropped.write_all(b"half").unwrap();
        drop(dropped);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"????tail").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(b"head").unwrap();
        assert!(!path.exists());
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"headtail");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
