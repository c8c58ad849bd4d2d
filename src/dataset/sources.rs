//! What the user points at, as a list of audio files with their captions: folders, single files, Hugging
//! Face AudioFolder tables, `clip.wav` + `clip.txt` sidecars. Nothing is decoded here.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::finder::Finder;
use super::table::{Facts, Problem, Row, read_table};
use super::text::{MAX_CAPTION_CHARS, clean_caption, printable};
use crate::error::{Error, Result};

/// One audio file, found once however often it is named.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceTrack {
    /// Canonical path: absolute, no links.
    pub path: PathBuf,
    /// As a person would name it: relative to the source, on one line.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Last change in nanoseconds since 1970; 0 where the file system does not say.
    pub modified_ns: u64,
    /// Captions and the like.
    pub facts: Facts,
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
}

/// Extensions that a folder scan takes for audio; which of them can be decoded is the decoder's business, so
/// that a file that cannot is named in the report instead of passed over.
const AUDIO_EXTENSIONS: [&str; 35] = [
    "wav", "wave", "w64", "rf64", "mp1", "mp2", "mp3", "mpga", "flac", "ogg", "oga", "opus", "spx", "m4a",
    "m4b", "mp4", "mov", "aac", "adts", "alac", "aif", "aiff", "aifc", "caf", "mka", "mkv", "webm", "weba",
    "wma", "wv", "ape", "ac3", "au", "snd", "tta",
];
/// Tables that a folder scan reads by itself; any other table is read when it is given as a source.
const TABLE_NAMES: [&str; 5] =
    ["metadata.csv", "metadata.jsonl", "metadata.tsv", "song_describer.csv", "music_data.csv"];
const TABLE_EXTENSIONS: [&str; 3] = ["csv", "tsv", "jsonl"];
/// A sidecar larger than this is no list of captions.
const MAX_SIDECAR_BYTES: u64 = 1 << 20;

/// Whether a name looks like an audio file, by its extension.
pub fn is_audio_name(name: &OsStr) -> bool {
    extension(Path::new(name)).is_some_and(|e| AUDIO_EXTENSIONS.contains(&e.as_str()))
}

/// Lists the audio files of `sources`. `caption_column` names the tables' column of captions where it has no
/// usual name.
///
/// Folders are walked recursively, following links; a link loop ends, hidden files and macOS's `._` files are
/// skipped. In a folder, `metadata.csv`, `metadata.jsonl`, `metadata.tsv` and Song Describer's tables are
/// read, and every audio file counts, listed or not.
///
/// # Errors
/// [`Error::Config`] when there is no source, [`Error::Io`] for one that does not exist. Whatever is wrong inside a source is
/// a [`Problem`].
pub fn collect(sources: &[PathBuf], caption_column: Option<&str>) -> Result<Collection> {
    if sources.is_empty() {
        return Err(Error::config("SOURCE", "name a folder, an audio file or a table (metadata.csv)"));
    }
    let mut collector = Collector { caption_column, ..Collector::default() };
    for source in sources {
        let facts = fs::metadata(source).map_err(Error::io("read", source))?;
        if facts.is_dir() {
            collector.folder(source);
        } else if is_table(source) {
            collector.table(source, &folder_of(source));
        } else {
            let name = source.file_name().map_or_else(|| printable(source), |name| printable(name.as_ref()));
            collector.file(source, &name, Facts::default());
        }
    }
    let Collector { tracks, problems, warnings, .. } = collector;
    Ok(Collection { tracks: tracks.into_values().collect(), problems, warnings })
}

#[derive(Default)]
struct Collector<'a> {
    caption_column: Option<&'a str>,
    tracks: BTreeMap<PathBuf, SourceTrack>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Collector<'_> {
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
        let table = match read_table(path, self.caption_column) {
            Ok(table) => table,
            Err(reason) => return self.problem(path, reason),
        };
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
                Err(reason) => {
                    self.problem(Path::new(&file), format!("line {line} of {table_name}: {reason}"));
                    refused.insert(file);
                }
            }
        }
    }

    fn file(&mut self, named: &Path, name: &str, facts: Facts) {
        let opened = fs::canonicalize(named).and_then(|path| Ok((fs::metadata(&path)?, path)));
        let (metadata, path) = match opened {
            Ok(found) => found,
            Err(error) => return self.problem(named, format!("cannot be read: {error}")),
        };
        if !metadata.is_file() {
            // A pipe would block for ever, a device would never end.
            return self.problem(named, "is not a regular file".to_string());
        }
        if let Some(track) = self.tracks.get_mut(&path) {
            return track.facts.merge(facts);
        }
        let mut facts = facts;
        facts.merge(Facts { captions: self.sidecar(&path), ..Facts::default() });
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let track = SourceTrack {
            name: name.to_string(),
            bytes: metadata.len(),
            modified_ns: modified.map_or(0, |since| since.as_nanos() as u64),
            facts,
            path: path.clone(),
        };
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
        let text = String::from_utf8_lossy(&bytes);
        let mut captions: Vec<String> = Vec::new();
        for line in text.lines() {
            let (caption, cut) = clean_caption(line);
            if cut {
                let what = format!("has a caption of more than {MAX_CAPTION_CHARS} characters; it was cut");
                self.warnings.push(format!("{}: {what}", printable(&path)));
            }
            if !caption.is_empty() && !captions.contains(&caption) {
                captions.push(caption);
            }
        }
        captions
    }

    fn problem(&mut self, path: &Path, reason: String) {
        self.problems.push(Problem { path: path.to_path_buf(), reason });
    }
}

/// The folder of a file, `.` for a bare name.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
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

fn lower_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().to_lowercase()
}
