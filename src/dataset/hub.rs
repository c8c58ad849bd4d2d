//! `hf:OWNER/NAME[@REV]`: a data set of the Hugging Face hub, downloaded into the hub's own cache, where other programs
//! find it too. What is there is not fetched again; how a file is fetched is in `hub_file`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use serde::Deserialize;

use super::hub_file::{Job, MAX_TEXT_BYTES, RemoteFile, fetch, is_answer};
use super::member::guarded;
use super::prepare::{Phase, Progress};
use super::text::clean;
use crate::error::{Error, Result};

/// What begins the name of such a source.
const PREFIX: &str = "hf:";
const DEFAULT_REVISION: &str = "main";
/// What tells people about a data set.
const CARD: &str = "README.md";
/// What the hub says about a data set is cut off here.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

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
    let place = Place { source, id: &id, cache: &cache, settings };
    let copy = place.cached(&revision);
    if settings.offline {
        let folder =
            copy.ok_or_else(|| failed("is not in the cache, and HF_HUB_OFFLINE is set".to_string()))?;
        return Ok(Snapshot { notices: vec![licence_notice(source, &folder)], folder });
    }
    let about = match (guarded(|| ask(&place.repo(&revision)?)), copy) {
        (Ok(about), _) => about,
        (Err(reason), Some(folder)) if !is_answer(&reason) => {
            let reason = clean(&reason);
            let copied =
                format!("{source}: the hub cannot be asked ({reason}); the copy in the cache is used");
            return Ok(Snapshot { notices: vec![licence_notice(source, &folder), copied], folder });
        }
        (Err(reason), _) => return Err(failed(advice(&id, &revision, &reason))),
    };
    let folder = place.fetch(about, &revision, stop, progress)?;
    Ok(Snapshot { notices: vec![licence_notice(source, &folder)], folder })
}

/// A data set and the cache that it goes to.
struct Place<'a> {
    source: &'a str,
    id: &'a str,
    cache: &'a Cache,
    settings: &'a HubSettings,
}

impl Place<'_> {
    fn cache_repo(&self, revision: &str) -> CacheRepo {
        self.cache.repo(Repo::with_revision(self.id.to_string(), RepoType::Dataset, revision.to_string()))
    }

    fn repo(&self, revision: &str) -> Result<ApiRepo, String> {
        let builder = ApiBuilder::from_cache(self.cache.clone())
            .with_progress(false)
            .with_token(self.settings.token.clone())
            .with_user_agent("dit-engine", env!("CARGO_PKG_VERSION"));
        let builder = match &self.settings.endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.clone()),
            None => builder,
        };
        let api = builder.build().map_err(|error| error.to_string())?;
        Ok(api.repo(Repo::with_revision(self.id.to_string(), RepoType::Dataset, revision.to_string())))
    }

    /// The folder of a revision that was downloaded whole before.
    fn cached(&self, revision: &str) -> Option<PathBuf> {
        let name = Repo::new(self.id.to_string(), RepoType::Dataset).folder_name();
        let commit = fs::read_to_string(self.cache.path().join(name).join("refs").join(revision));
        let commit = commit.unwrap_or_else(|_| revision.to_string());
        Some(self.cache_repo(revision).pointer_path(commit.trim())).filter(|folder| folder.is_dir())
    }

    /// Fetches what is not in the cache yet, the card first.
    fn fetch(
        &self,
        about: About,
        revision: &str,
        stop: &AtomicBool,
        progress: &dyn Progress,
    ) -> Result<PathBuf> {
        let failed = |reason: String| Error::format(self.source, reason);
        let pinned = self.cache_repo(&about.sha);
        let folder = pinned.pointer_path(&about.sha);
        let wanted: Vec<RemoteFile> = about.siblings.into_iter().filter(RemoteFile::is_wanted).collect();
        if wanted.is_empty() {
            return Err(failed("holds no recordings and no tables".to_string()));
        }
        let is_missing = |file: &RemoteFile| !folder.join(&file.rfilename).exists();
        let mut missing: Vec<RemoteFile> = wanted.into_iter().filter(is_missing).collect();
        missing.sort_by_key(|file| file.rfilename != CARD);
        let bytes = missing.iter().map(|file| file.size.unwrap_or(0)).sum();
        if !missing.is_empty() {
            progress.begin(Phase::Download, missing.len(), bytes);
        }
        for file in missing {
            let repo = self.repo(&about.sha).map_err(failed)?;
            let job = Job { file, repo, blobs: pinned.blob_path(""), folder: folder.clone() };
            fetch(job, stop, progress)?.map_err(|(name, reason)| failed(format!("{name}: {reason}")))?;
        }
        // Only now: the name of a revision leads to what is whole.
        self.cache_repo(revision).create_ref(&about.sha).map_err(Error::io("write", &folder))?;
        Ok(folder)
    }
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

fn advice(id: &str, revision: &str, reason: &str) -> String {
    let reason = clean(reason);
    if reason.contains("status: 404") {
        return format!("the hub has no data set {id} with a revision {revision}");
    }
    if is_answer(&reason) {
        return format!(
            "the hub refuses it ({reason}): it is private, gated or not there; accept its terms on its page and set HF_TOKEN"
        );
    }
    format!("the hub cannot be reached or is not understood: {reason}")
}

/// The licence by the card of the data set.
fn licence_notice(source: &str, folder: &Path) -> String {
    let card = folder.join(CARD);
    let mut text = String::new();
    let read = fs::File::open(&card).and_then(|file| file.take(MAX_TEXT_BYTES).read_to_string(&mut text));
    match read.ok().and_then(|_| licence_of(&text)) {
        Some(licence) => format!("{source}: licence {licence}; its card is {}", card.display()),
        None => format!("{source}: its card names no licence; ask its makers before you use it"),
    }
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
    }
}
