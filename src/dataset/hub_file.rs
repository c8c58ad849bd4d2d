//! One file of the hub: an interrupted one goes on where it stopped, and what came is compared with the size and the
//! SHA-256 that the hub declares.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hf_hub::api::sync::ApiRepo;
use serde::Deserialize;

use super::identify::sha256;
use super::member::guarded;
use super::prepare::Progress;
use super::sources::is_audio_name;
use super::text::clean;
use crate::audio::Input;
use crate::error::{Error, Result};

/// Files that are fetched besides recordings: tables, containers, captions, the card, licences.
const EXTENSIONS: [&str; 9] = ["csv", "tsv", "jsonl", "parquet", "zip", "tar", "txt", "md", "json"];
/// Texts larger than this are no captions and no card.
pub(super) const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Attempts at one file; each goes on where the one before stopped.
const ATTEMPTS: u32 = 5;
/// Between two looks at how far a file is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A file as the hub lists it.
#[derive(Clone, Deserialize)]
pub(super) struct RemoteFile {
    /// Its path in the data set.
    pub rfilename: String,
    /// In bytes.
    pub size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Clone, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
}

impl RemoteFile {
    /// Whether it is a recording, or says something about recordings; what has another place than it says is not.
    pub fn is_wanted(&self) -> bool {
        let path = Path::new(&self.rfilename);
        let is_inside = path.components().all(|part| match part {
            Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
            _ => false,
        });
        let end = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let is_known = EXTENSIONS.contains(&end.as_str()) || path.file_name().is_some_and(is_audio_name);
        let is_text = ["txt", "md", "json"].contains(&end.as_str());
        let size = self.size.unwrap_or(1);
        is_inside && is_known && size > 0 && !(is_text && size > MAX_TEXT_BYTES)
    }

    /// The name of its content in the cache.
    fn etag(&self) -> Option<&str> {
        let etag = self.lfs.as_ref().and_then(|lfs| lfs.sha256.as_deref()).or(self.blob_id.as_deref())?;
        (!etag.is_empty() && etag.chars().all(|c| c.is_ascii_alphanumeric())).then_some(etag)
    }
}

/// Whether the hub itself said no, which no copy can answer.
pub(super) fn is_answer(reason: &str) -> bool {
    ["401", "403", "404"].iter().any(|code| reason.contains(&format!("status: {code}")))
}

/// One file to fetch.
pub(super) struct Job {
    pub file: RemoteFile,
    pub repo: ApiRepo,
    /// Where the contents are, by their hash.
    pub blobs: PathBuf,
    /// Where the commit's files are.
    pub folder: PathBuf,
}

/// Fetches a file in a thread of its own, so that Ctrl-C need not wait for it: what came so far stays for the next run.
pub(super) fn fetch(
    job: Job,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Result<(), (String, String)>> {
    let name = job.file.rfilename.clone();
    let bytes = Arc::new(AtomicU64::new(0));
    let (done, finished) = channel();
    let counted = bytes.clone();
    std::thread::spawn(move || {
        let result = job.attempts(&counted);
        // Nobody listens any more after Ctrl-C.
        let _ = done.send(result);
    });
    let mut told = 0;
    loop {
        let result = finished.recv_timeout(LOOK_EVERY);
        let now = bytes.load(Ordering::Relaxed);
        progress.advance(now.saturating_sub(told));
        told = told.max(now);
        match result {
            Ok(result) => return Ok(result.map_err(|reason| (name, clean(&reason)))),
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err((name, "its download ended early".to_string())));
            }
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Err(Error::Interrupted),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

impl Job {
    fn attempts(&self, bytes: &Arc<AtomicU64>) -> Result<(), String> {
        let mut result = guarded(|| self.attempt(bytes));
        for number in 1..ATTEMPTS {
            match &result {
                Err(reason) if !is_answer(reason) => {}
                _ => break,
            }
            // 0.2 s, 0.4 s, ...
            std::thread::sleep(Duration::from_millis(100 << number));
            result = guarded(|| self.attempt(bytes));
        }
        result
    }

    fn attempt(&self, bytes: &Arc<AtomicU64>) -> Result<(), String> {
        let target = self.folder.join(&self.file.rfilename);
        if let (Some(etag), Some(size)) = (self.file.etag(), self.file.size) {
            let blob = self.blobs.join(etag);
            // A part that is whole cannot go on; a kill between its last byte and its renaming leaves one.
            let part = blob.with_extension("part");
            if fs::metadata(&part).is_ok_and(|part| part.len() >= size) {
                fs::remove_file(&part).map_err(|error| error.to_string())?;
            }
            // Another revision may have brought the same content.
            if fs::metadata(&blob).is_ok_and(|blob| blob.len() == size) && link(&blob, &target).is_ok() {
                return self.verify(&target);
            }
        }
        let counter = Counter(bytes.clone());
        let encoded = percent_encoded(&self.file.rfilename);
        let got = self.repo.download_with_progress(&encoded, counter).map_err(|error| error.to_string())?;
        if !got.starts_with(&self.folder) {
            return Err("was changed on the hub meanwhile; run again".to_string());
        }
        if got != target {
            fs::create_dir_all(target.parent().unwrap_or(&target)).map_err(|error| error.to_string())?;
            fs::rename(&got, &target).map_err(|error| error.to_string())?;
        }
        self.verify(&target)
    }

    /// Compares with the size and the hash that the hub declares; what differs is removed.
    fn verify(&self, target: &Path) -> Result<(), String> {
        let size = fs::metadata(target).map_err(|error| error.to_string())?.len();
        let declared = self.file.lfs.as_ref().and_then(|lfs| lfs.sha256.clone());
        let is_size = self.file.size.is_none_or(|declared| declared == size);
        let go = AtomicBool::new(false);
        let is_same = is_size
            && declared.is_none_or(|hash| sha256(&Input::file(target), &go).is_ok_and(|own| own == hash));
        if is_same {
            return Ok(());
        }
        let blob = fs::canonicalize(target);
        for path in [Some(target.to_path_buf()), blob.ok()].into_iter().flatten() {
            let _ = fs::remove_file(path);
        }
        Err("arrived damaged: it is not what the hub declares; run again".to_string())
    }
}

#[cfg(unix)]
fn link(blob: &Path, target: &Path) -> std::io::Result<()> {
    fs::create_dir_all(target.parent().unwrap_or(target))?;
    std::os::unix::fs::symlink(fs::canonicalize(blob)?, target)
}

#[cfg(not(unix))]
fn link(_blob: &Path, _target: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Counts what came.
struct Counter(Arc<AtomicU64>);

impl hf_hub::api::Progress for Counter {
    fn init(&mut self, _size: usize, _filename: &str) {}
    fn update(&mut self, size: usize) {
        self.0.fetch_add(size as u64, Ordering::Relaxed);
    }
    fn finish(&mut self) {}
}

/// A path as an address has it.
fn percent_encoded(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_of_use_and_stays_inside_is_wanted() {
        let is_wanted = |name: &str, size: u64| {
            let file = RemoteFile { rfilename: name.to_string(), size: Some(size), blob_id: None, lfs: None };
            file.is_wanted()
        };
        assert!(is_wanted("data/train-0.parquet", 9) && is_wanted("a/b.MP3", 9) && is_wanted("README.md", 9));
        assert!(!is_wanted("model.bin", 9) && !is_wanted(".gitattributes", 9) && !is_wanted("a/.b/c.wav", 9));
        assert!(!is_wanted("../a.wav", 9) && !is_wanted("/etc/a.wav", 9) && !is_wanted("a.wav", 0));
        assert!(!is_wanted("tokens.json", MAX_TEXT_BYTES + 1));
        assert_eq!(percent_encoded("a b/é.wav"), "a%20b/%C3%A9.wav");
    }
}
