//! `hf:OWNER/NAME[@REV]`: a data set of the Hugging Face hub, downloaded into the hub's own cache, where other programs
//! find it too. What is there is not fetched again, an interrupted file goes on where it stopped, and every file is
//! compared with the size and hash that the hub declares.

use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;

use super::identify::sha256;
use super::member::guarded;
use super::prepare::{Phase, Progress};
use super::sources::is_audio_name;
use super::text::clean;
use crate::audio::Input;
use crate::error::{Error, Result};

/// What begins the name of such a source.
const PREFIX: &str = "hf:";
const DEFAULT_REVISION: &str = "main";
/// Files that are fetched besides recordings: tables, containers, captions, the card, licences.
const EXTENSIONS: [&str; 9] = ["csv", "tsv", "jsonl", "parquet", "zip", "tar", "txt", "md", "json"];
/// Texts larger than this are no captions and no card.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// Attempts at one file; each goes on where the one before stopped.
const ATTEMPTS: u32 = 5;
/// What the hub says about a data set is cut off here.
const MAX_ANSWER_BYTES: u64 = 256 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the hub is and how to enter it.
#[derive(Clone, Default)]
pub struct HubSettings {
    /// Address, where it is not the usual one.
    pub endpoint: Option<String>,
    /// Folder of the cache (`~/.cache/huggingface/hub`).
    pub cache: Option<PathBuf>,
    /// Token for what is private or gated.
    pub token: Option<String>,
    /// Only what the cache holds.
    pub offline: bool,
}

impl HubSettings {
    /// From `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` (else the token file that `hf auth login` wrote) and
    /// `HF_HUB_OFFLINE`, as all programs of the hub.
    pub fn from_env() -> Self {
        let text = |name: &str| {
            std::env::var(name).ok().map(|text| text.trim().to_string()).filter(|t| !t.is_empty())
        };
        let home = text("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = text("XDG_CACHE_HOME").map(PathBuf::from);
            Some(cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("huggingface"))
        });
        let token_file = home.as_ref().map(|home| home.join("token"));
        let of_file =
            || Some(fs::read_to_string(token_file?).ok()?.trim().to_string()).filter(|t| !t.is_empty());
        Self {
            endpoint: text("HF_ENDPOINT").map(|address| address.trim_end_matches('/').to_string()),
            token: text("HF_TOKEN").or_else(of_file),
            cache: text("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.map(|home| home.join("hub"))),
            offline: text("HF_HUB_OFFLINE").is_some_and(|value| value != "0"),
        }
    }
}

/// What was fetched.
#[derive(Debug)]
pub struct Snapshot {
    /// The folder of the files.
    pub folder: PathBuf,
    /// What the user should know: the licence; that the hub could not be asked.
    pub notices: Vec<String>,
}

/// Whether a source is one of the hub's.
pub fn is_hub_source(source: &Path) -> bool {
    source.to_str().is_some_and(|source| source.starts_with(PREFIX))
}

/// What a source of the hub is called, without its owner and revision.
pub fn hub_name(source: &Path) -> Option<String> {
    let (id, _) = parse(source.to_str().filter(|_| is_hub_source(source))?).ok()?;
    id.rsplit('/').next().map(str::to_string)
}

/// Replaces each source of the hub by the folder that it was downloaded to; what the user should know goes to
/// `progress`.
///
/// # Errors
/// [`Error::Format`] with what to do, for a name that is none, a data set that is not there or private, a hub that
/// does not answer; [`Error::Interrupted`] once `stop` is set. The next call goes on.
pub fn resolve(
    sources: &[PathBuf],
    settings: &HubSettings,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<PathBuf>> {
    let folder = |source: &PathBuf| {
        if !is_hub_source(source) {
            return Ok(source.clone());
        }
        let snapshot = download(&source.to_string_lossy(), settings, stop, progress)?;
        snapshot.notices.iter().for_each(|notice| progress.notice(notice));
        Ok(snapshot.folder)
    };
    sources.iter().map(folder).collect()
}

/// Downloads `hf:OWNER/NAME[@REV]`.
///
/// # Errors
/// As [`resolve`].
pub fn download(
    source: &str,
    settings: &HubSettings,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    let (id, revision) = parse(source)?;
    let failed = |reason: String| Error::format(source, reason);
    let no_cache = || failed("there is no folder for the hub's cache; set HF_HOME".to_string());
    let cache = Cache::new(settings.cache.clone().ok_or_else(no_cache)?);
    let named = cache.repo(Repo::with_revision(id.clone(), RepoType::Dataset, revision.clone()));
    if settings.offline {
        let folder = cached(&named, &cache, &id, &revision);
        let folder =
            folder.ok_or_else(|| failed("is not in the cache, and HF_HUB_OFFLINE is set".to_string()))?;
        return Ok(Snapshot { notices: notices(source, &folder), folder });
    }
    let repo = |revision: &str| -> Result<ApiRepo, String> {
        let builder = ApiBuilder::from_cache(cache.clone()).with_progress(false);
        let builder = builder
            .with_token(settings.token.clone())
            .with_user_agent("dit-engine", env!("CARGO_PKG_VERSION"));
        let builder = settings.endpoint.iter().fold(builder, |builder, to| builder.with_endpoint(to.clone()));
        let api = builder.build().map_err(|error| error.to_string())?;
        Ok(api.repo(Repo::with_revision(id.clone(), RepoType::Dataset, revision.to_string())))
    };
    let asked = guarded(|| ask(&repo(&revision)?));
    let about = match (asked, cached(&named, &cache, &id, &revision)) {
        (Ok(about), _) => about,
        (Err(reason), Some(folder)) if !is_answer(&reason) => {
            let mut notices = notices(source, &folder);
            notices.push(format!(
                "{source}: the hub cannot be asked ({}); the copy in the cache is used",
                clean(&reason)
            ));
            return Ok(Snapshot { folder, notices });
        }
        (Err(reason), _) => return Err(failed(advice(&id, &revision, &reason))),
    };
    let pinned = cache.repo(Repo::with_revision(id.clone(), RepoType::Dataset, about.sha.clone()));
    let folder = pinned.pointer_path(&about.sha);
    let blobs = pinned.blob_path("");
    let files: Vec<RemoteFile> = about.siblings.into_iter().filter(RemoteFile::is_wanted).collect();
    if files.is_empty() {
        return Err(failed("holds no recordings and no tables".to_string()));
    }
    let missing: Vec<RemoteFile> =
        files.into_iter().filter(|file| !folder.join(&file.rfilename).exists()).collect();
    if !missing.is_empty() {
        let bytes = missing.iter().map(|file| file.size.unwrap_or(0)).sum();
        progress.begin(Phase::Download, missing.len(), bytes);
    }
    for file in missing {
        let repo = repo(&about.sha).map_err(failed)?;
        let job = Job { file, repo, blobs: blobs.clone(), folder: folder.clone() };
        fetch(job, stop, progress)?.map_err(|(name, reason)| failed(format!("{name}: {reason}")))?;
    }
    // Only now: the name of a revision leads to what is whole.
    named.create_ref(&about.sha).map_err(Error::io("write", &folder))?;
    Ok(Snapshot { notices: notices(source, &folder), folder })
}

/// `hf:OWNER/NAME[@REV]`, taken apart.
fn parse(source: &str) -> Result<(String, String)> {
    let rest = source.strip_prefix(PREFIX).unwrap_or(source);
    let (id, revision) = rest.split_once('@').unwrap_or((rest, DEFAULT_REVISION));
    let is_part = |part: &str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(is_name)
    };
    let parts: Vec<&str> = id.split('/').collect();
    if !(1..=2).contains(&parts.len()) || !parts.into_iter().chain(revision.split('/')).all(is_part) {
        return Err(Error::format(
            source,
            "is no data set's name; write hf:OWNER/NAME or hf:OWNER/NAME@REVISION",
        ));
    }
    Ok((id.to_string(), revision.to_string()))
}

/// What the hub says about a data set.
#[derive(Deserialize)]
struct About {
    sha: String,
    siblings: Vec<RemoteFile>,
}

#[derive(Clone, Deserialize)]
struct RemoteFile {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Clone, Deserialize)]
struct LargeFile {
    sha256: Option<String>,
}

impl RemoteFile {
    fn is_wanted(&self) -> bool {
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

fn ask(repo: &ApiRepo) -> Result<About, String> {
    let answer = repo.info_request().query("blobs", "true").call().map_err(|error| error.to_string())?;
    let body = answer.into_body().into_reader().take(MAX_ANSWER_BYTES);
    let about: About =
        serde_json::from_reader(body).map_err(|error| format!("its answer is not understood: {error}"))?;
    if about.sha.is_empty() || !about.sha.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err("its answer names no commit".to_string());
    }
    Ok(about)
}

/// Whether the hub itself said no, which no copy can answer.
fn is_answer(reason: &str) -> bool {
    ["401", "403", "404"].iter().any(|code| reason.contains(code))
}

fn advice(id: &str, revision: &str, reason: &str) -> String {
    let reason = clean(reason);
    if reason.contains("404") {
        return format!("the hub has no data set {id} with a revision {revision}");
    }
    if is_answer(&reason) {
        return format!(
            "the hub refuses it ({reason}): it is private, gated or not there; accept its terms on its page and set HF_TOKEN"
        );
    }
    format!("the hub cannot be reached or is not understood: {reason}")
}

/// The folder of a revision that was downloaded whole before.
fn cached(named: &CacheRepo, cache: &Cache, id: &str, revision: &str) -> Option<PathBuf> {
    let folder_name =
        Repo::with_revision(id.to_string(), RepoType::Dataset, revision.to_string()).folder_name();
    let commit = fs::read_to_string(cache.path().join(folder_name).join("refs").join(revision));
    let commit = commit.unwrap_or_else(|_| revision.to_string());
    Some(named.pointer_path(commit.trim())).filter(|folder| folder.is_dir())
}

/// One file to fetch.
struct Job {
    file: RemoteFile,
    repo: ApiRepo,
    /// Where the contents are, by their hash.
    blobs: PathBuf,
    /// Where the commit's files are.
    folder: PathBuf,
}

/// Fetches a file in a thread of its own, so that Ctrl-C need not wait for it: what came so far stays for the next run.
fn fetch(job: Job, stop: &AtomicBool, progress: &dyn Progress) -> Result<Result<(), (String, String)>> {
    let name = job.file.rfilename.clone();
    let bytes = Arc::new(AtomicU64::new(0));
    let (done, finished) = channel();
    let counted = bytes.clone();
    std::thread::spawn(move || {
        let result =
            (0..ATTEMPTS).fold(Err(String::new()), |result: Result<(), String>, attempt| match result {
                Ok(()) => Ok(()),
                Err(reason) if attempt > 0 && is_answer(&reason) => Err(reason),
                Err(_) => {
                    // Nothing before the first attempt, then 0.2 s, 0.4 s, ...
                    std::thread::sleep(Duration::from_millis(if attempt == 0 { 0 } else { 100 << attempt }));
                    guarded(|| job.attempt(&counted))
                }
            });
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

/// The licence by the card of the data set.
fn notices(source: &str, folder: &Path) -> Vec<String> {
    let card = folder.join("README.md");
    let mut text = String::new();
    let read = fs::File::open(&card).and_then(|file| file.take(MAX_TEXT_BYTES).read_to_string(&mut text));
    let licence = read.ok().and_then(|_| licence_of(&text));
    vec![match licence {
        Some(licence) => format!("{source}: licence {licence}; its card is {}", card.display()),
        None => format!("{source}: its card names no licence; ask its makers before you use it"),
    }]
}

/// `license:` in the head of a card, one or a list.
fn licence_of(card: &str) -> Option<String> {
    let head = card.trim_start_matches('\u{feff}').strip_prefix("---")?;
    let head = head.split("\n---").next()?;
    let mut lines = head.lines().skip_while(|line| !line.starts_with("license:"));
    let first = lines.next()?["license:".len()..].trim().to_string();
    let items = lines.map_while(|line| line.trim_start().strip_prefix("- ").map(str::to_string));
    let all: Vec<String> = if first.is_empty() { items.collect() } else { vec![first] };
    let text = clean(&all.join(", ")).trim_matches(['"', '\'', '[', ']']).to_string();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_sets() {
        assert_eq!(parse("hf:a/b").unwrap(), ("a/b".to_string(), "main".to_string()));
        assert_eq!(parse("hf:gtzan@refs/convert/parquet").unwrap().1, "refs/convert/parquet");
        for wrong in ["hf:", "hf:a/b/c", "hf:a/../b", "hf:a b/c", "hf:a/b@", "hf:a/b@../x"] {
            assert!(parse(wrong).unwrap_err().to_string().contains("hf:OWNER/NAME"), "{wrong}");
        }
    }

    #[test]
    fn the_licence_stands_in_the_head_of_the_card() {
        assert_eq!(
            licence_of("---\ntags:\n- x\nlicense: cc-by-4.0\n---\n# Set").as_deref(),
            Some("cc-by-4.0")
        );
        assert_eq!(licence_of("---\nlicense:\n- a\n- b\ntags: x\n---\n").as_deref(), Some("a, b"));
        assert_eq!(licence_of("# Set\nlicense: x"), None);
        assert_eq!(percent_encoded("a b/é.wav"), "a%20b/%C3%A9.wav");
    }
}
