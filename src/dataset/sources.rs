//! What the user points at, as a list of recordings with their captions: folders, single files, Hugging
//! Face AudioFolder tables, `clip.wav` + `clip.txt` sidecars; what lies in containers is listed by `containers`.
//! Nothing is decoded here.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Listing, is_archive};
use super::finder::Finder;
use super::member::{Member, size_and_time};
use super::song_describer;
use super::table::{Facts, Problem, Row, Table, TableOptions, read_table};
use super::text::{MAX_CAPTION_CHARS, clean_caption, printable};
use crate::audio::Input;
use crate::error::{Error, Result};

/// One recording, found once however often it is named.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceTrack {
    /// Canonical path: absolute, no links; for what lies in a container `x.tar#KEY.mp3`, `x.parquet#row 17`.
    pub path: PathBuf,
    /// As a person would name it: relative to the source, on one line.
    pub name: String,
    /// Size of the file, or of the container, in bytes.
    pub bytes: u64,
    /// Last change of it in nanoseconds since 1970; 0 where the file system does not say.
    pub modified_ns: u64,
    /// Captions and the like.
    pub facts: Facts,
    /// Where in a container it lies; `None` for a file of its own.
    pub member: Option<Member>,
}

impl SourceTrack {
    /// Bytes of the recording itself.
    pub fn sound_bytes(&self) -> u64 {
        self.member.as_ref().map_or(self.bytes, |member| member.bytes)
    }

    /// What a decoder reads.
    ///
    /// # Errors
    /// [`Error::Audio`] for a member that cannot be got out of its container.
    pub fn input(&self) -> Result<Input> {
        match &self.member {
            Some(member) => member.input(&self.path),
            None => Ok(Input::file(&self.path)),
        }
    }

    /// The recording's bytes, whole.
    ///
    /// # Errors
    /// As [`input`](Self::input), and [`Error::Io`].
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let (mut stream, _) = self.input()?.open()?;
        stream.read_to_end(&mut bytes).map_err(Error::io("read", &self.path))?;
        Ok(bytes)
    }

    /// The order in which recordings are read fastest: a container's in the order in which they lie.
    pub(super) fn reading_order(&self) -> (&Path, u64) {
        match &self.member {
            Some(member) => (&member.container, member.order()),
            None => (&self.path, 0),
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Collection {
    /// Audio files by canonical path, so in the same order on every run.
    pub tracks: Vec<SourceTrack>,
    /// What had to be left out, each with its reason.
    pub problems: Vec<Problem>,
    /// Oddities that cost nothing.
    pub warnings: Vec<String>,
    /// What the user should know before a data set is used: its licence, what its makers ask for.
    pub notices: Vec<String>,
}

/// Extensions that a folder scan takes for audio; which of them can be decoded is the decoder's business, so
/// that a file that cannot is named in the report instead of passed over.
const AUDIO_EXTENSIONS: [&str; 35] = [
    "wav", "wave", "w64", "rf64", "mp1", "mp2", "mp3", "mpga", "flac", "ogg", "oga", "opus", "spx", "m4a",
    "m4b", "mp4", "mov", "aac", "adts", "alac", "aif", "aiff", "aifc", "caf", "mka", "mkv", "webm", "weba",
    "wma", "wv", "ape", "ac3", "au", "snd", "tta",
];
/// Tables that a folder scan reads by itself; any other table is read when it is given as a source.
pub(super) const TABLE_NAMES: [&str; 5] =
    ["metadata.csv", "metadata.jsonl", "metadata.tsv", "song_describer.csv", "music_data.csv"];
const TABLE_EXTENSIONS: [&str; 3] = ["csv", "tsv", "jsonl"];
/// A sidecar larger than this is no list of captions.
pub(super) const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// Whether a name looks like an audio file, by its extension.
pub fn is_audio_name(name: &OsStr) -> bool {
    extension(Path::new(name)).is_some_and(|e| AUDIO_EXTENSIONS.contains(&e.as_str()))
}

/// Lists the recordings of `sources`.
///
/// Folders are walked recursively, following links; a link loop ends, hidden files and macOS's `._` files are
/// skipped. In a folder, `metadata.csv`, `metadata.jsonl`, `metadata.tsv`, Song Describer's tables, parquet tables and
/// archives are read, and every audio file counts, listed or not.
///
/// # Errors
/// [`Error::Config`] when there is no source, [`Error::Io`] for one that does not exist. Whatever is wrong inside a source is
/// a [`Problem`].
pub fn collect(sources: &[PathBuf], options: &TableOptions) -> Result<Collection> {
    if sources.is_empty() {
        return Err(Error::config("SOURCE", "name a folder, an audio file or a table (metadata.csv)"));
    }
    let mut collector = Collector::new(options);
    for source in sources {
        let facts = fs::metadata(source).map_err(Error::io("read", source))?;
        if facts.is_dir() {
            collector.folder(source);
        } else if is_table(source) {
            collector.table(source, &folder_of(source));
        } else if is_archive(source) {
            collector.archive(source, &folder_of(source));
        } else if is_parquet(source) {
            collector.parquet(source, &folder_of(source));
        } else {
            let name = source.file_name().map_or_else(|| printable(source), |name| printable(name.as_ref()));
            collector.file(source, &name, Facts::default());
        }
    }
    Ok(collector.finish())
}

/// What was found so far.
pub(super) struct Collector<'a> {
    pub options: &'a TableOptions,
    pub tracks: BTreeMap<PathBuf, SourceTrack>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    pub notices: Vec<String>,
    /// Archives that were listed, by the path that they were named by.
    pub listings: BTreeMap<PathBuf, Option<Arc<Listing>>>,
    /// Tracks whose side is only guessed from their container's name.
    pub guessed_splits: HashSet<PathBuf>,
}

impl<'a> Collector<'a> {
    fn new(options: &'a TableOptions) -> Self {
        let (tracks, listings) = (BTreeMap::new(), BTreeMap::new());
        let (problems, warnings, notices) = (Vec::new(), Vec::new(), Vec::new());
        let guessed_splits = HashSet::new();
        Self { options, tracks, problems, warnings, notices, listings, guessed_splits }
    }

    fn finish(mut self) -> Collection {
        self.drop_guesses_of_one_side();
        let Collector { tracks, problems, warnings, mut notices, .. } = self;
        notices.sort();
        notices.dedup();
        Collection { tracks: tracks.into_values().collect(), problems, warnings, notices }
    }

    fn folder(&mut self, root: &Path) {
        let visible = |entry: &walkdir::DirEntry| {
            entry.depth() == 0 || !entry.file_name().as_encoded_bytes().starts_with(b".")
        };
        let mut other_tables = Vec::new();
        let walk = walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(visible) {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) if TABLE_NAMES.contains(&lower_name(entry.path()).as_str()) => {
                    self.table(entry.path(), root);
                }
                Ok(entry) if is_archive(entry.path()) => self.archive(entry.path(), root),
                Ok(entry) if is_parquet(entry.path()) => self.parquet(entry.path(), root),
                Ok(entry) if is_audio_name(entry.file_name()) => {
                    let name = printable(entry.path().strip_prefix(root).unwrap_or(entry.path()));
                    self.file(entry.path(), &name, Facts::default());
                }
                Ok(entry) if is_table(entry.path()) && !is_manifest(entry.path()) => {
                    other_tables.push(printable(entry.path().strip_prefix(root).unwrap_or(entry.path())));
                }
                Ok(_) => {}
                Err(error) => self.walk_error(&error),
            }
        }
        if !other_tables.is_empty() {
            self.warnings.push(format!(
                "{}: tables that were not read: {} (in a folder only {} are; give others as sources of their own)",
                printable(root),
                other_tables.join(", "),
                TABLE_NAMES[..3].join(", ")
            ));
        }
    }

    /// A loop of links is no loss: what it leads to is listed where it really is.
    fn walk_error(&mut self, error: &walkdir::Error) {
        if error.loop_ancestor().is_some() {
            return;
        }
        let path = error.path().unwrap_or(Path::new(""));
        let is_unreadable_folder = path.is_dir();
        if is_unreadable_folder || path.file_name().is_some_and(is_audio_name) {
            let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
            self.problem(path, format!("cannot be read: {reason}"));
        }
    }

    /// `root` is what the tracks' names are relative to.
    fn table(&mut self, path: &Path, root: &Path) {
        match read_table(path, self.options) {
            Ok(table) => self.rows(path, root, table),
            Err(reason) => self.problem(path, reason),
        }
    }

    /// Finds the files that a table names, beside it or in the archives beside it.
    pub fn rows(&mut self, path: &Path, root: &Path, mut table: Table) {
        self.notices.extend(song_describer::recognise(path, &mut table));
        self.problems.extend(table.problems);
        self.warnings.extend(table.warnings);
        let table_name = path.file_name().map_or_else(String::new, |name| printable(name.as_ref()));
        let mut finder = Finder::new(folder_of(path));
        let mut refused = HashSet::new();
        for Row { line, file, facts } in table.rows {
            match finder.find(&file) {
                Ok(found) => {
                    let name = printable(found.strip_prefix(root).unwrap_or(&found));
                    self.file(&found, &name, facts);
                }
                Err(_) if refused.contains(&file) => {}
                Err(_) if self.in_archives(&folder_of(path), root, &file, &facts) => {}
                Err(reason) => {
                    self.problem(Path::new(&file), format!("line {line} of {table_name}: {reason}"));
                    refused.insert(file);
                }
            }
        }
    }

    fn file(&mut self, named: &Path, name: &str, facts: Facts) {
        let opened = fs::canonicalize(named).map_err(|error| format!("cannot be read: {error}"));
        let (path, (bytes, modified_ns)) =
            match opened.and_then(|path| Ok((path.clone(), size_and_time(&path)?))) {
                Ok(found) => found,
                Err(reason) => return self.problem(named, reason),
            };
        if let Some(track) = self.tracks.get_mut(&path) {
            return track.facts.merge(facts);
        }
        let mut facts = facts;
        facts.merge(Facts { captions: self.sidecar(named), ..Facts::default() });
        facts.merge(Facts { captions: self.sidecar(&path), ..Facts::default() });
        // In the hub's cache a link says what a file is, and leads to a name that does not.
        let is_named = path.extension().is_some() || named.extension().is_none();
        let shown = if is_named { path.clone() } else { absolute(named) };
        let name = name.to_string();
        let track = SourceTrack { name, bytes, modified_ns, facts, path: shown, member: None };
        self.tracks.insert(path, track);
    }

    /// Captions from `clip.txt` beside `clip.wav`, one a line.
    fn sidecar(&mut self, audio: &Path) -> Vec<String> {
        let path = audio.with_extension("txt");
        let is_list =
            fs::metadata(&path).is_ok_and(|facts| facts.is_file() && facts.len() <= MAX_SIDECAR_BYTES);
        let mut bytes = Vec::new();
        if !is_list || fs::File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)).is_err() {
            return Vec::new();
        }
        self.caption_lines(&path, &bytes)
    }

    /// The captions in a list of them.
    pub fn caption_lines(&mut self, path: &Path, bytes: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(bytes);
        let mut captions: Vec<String> = Vec::new();
        for line in text.lines() {
            let (caption, cut) = clean_caption(line);
            if cut {
                let what = format!("has a caption of more than {MAX_CAPTION_CHARS} characters; it was cut");
                self.warnings.push(format!("{}: {what}", printable(path)));
            }
            if !caption.is_empty() && !captions.contains(&caption) {
                captions.push(caption);
            }
        }
        captions
    }

    pub fn problem(&mut self, path: &Path, reason: String) {
        self.problems.push(Problem { path: path.to_path_buf(), reason });
    }
}

/// The folder of a file, `.` for a bare name.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

fn is_parquet(path: &Path) -> bool {
    extension(path).is_some_and(|end| end == "parquet")
}

fn is_table(path: &Path) -> bool {
    extension(path).is_some_and(|e| TABLE_EXTENSIONS.contains(&e.as_str()))
}

/// Whether this is our own list of tracks, of a folder prepared inside the source.
fn is_manifest(path: &Path) -> bool {
    lower_name(path) == "manifest.jsonl" && path.with_file_name("dataset.json").exists()
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_string_lossy().to_lowercase())
}

pub(super) fn lower_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}
