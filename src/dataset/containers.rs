//! The recordings in archives and parquet tables, with what the tables, sidecars and JSON beside them say.
//!
//! In a tar (WebDataset) members belong together that are called the same up to the first dot: `KEY.mp3`, `KEY.txt`,
//! `KEY.json`. In a zip it is the name without its extension, as in a folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Listing, is_archive, list, member_path};
use super::columns::Columns;
use super::finder::{candidates, insides};
use super::member::{Member, size_and_time};
use super::parquet::read_parquet;
use super::row::row_facts;
use super::sources::{
    Collector, MAX_SIDECAR_BYTES, SourceTrack, TABLE_NAMES, absolute, folder_of, is_audio_name, lower_name,
};
use super::table::{Facts, Row, Table, json_cell, parse_table};
use super::text::printable;

/// A table inside an archive is unpacked whole.
const MAX_INNER_TABLE_BYTES: u64 = 256 << 20;
/// How a file is called that holds one side of a data set.
const SIDES: [(&str, &str); 7] = [
    ("train", "train"),
    ("training", "train"),
    ("test", "test"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
];

/// Where a container lies and when it was changed.
struct Container {
    /// Absolute, without links: what makes a recording in it one and the same.
    key: PathBuf,
    shown: PathBuf,
    name: String,
    bytes: u64,
    modified_ns: u64,
    split: Option<String>,
}

impl Collector<'_> {
    /// All recordings of a tar or zip.
    pub fn archive(&mut self, path: &Path, root: &Path) {
        let Some(container) = self.container(path, root) else { return };
        let Some(listing) = self.listing(path) else { return };
        let mut facts = self.sidecars(path, &listing);
        for (name, member) in listing.members.iter().filter(|(name, _)| is_sound(name)) {
            let facts = facts.remove(name).unwrap_or_default();
            self.member(&container, &printable(name), member.clone(), facts);
        }
        for (name, member) in listing.members.iter().filter(|(name, _)| is_table_name(name)) {
            let shown = member_path(path, &printable(name));
            let bytes = member.unpacked(MAX_INNER_TABLE_BYTES);
            match bytes.and_then(|bytes| parse_table(&shown, &bytes, self.options)) {
                Ok(table) => self.inner_rows(&container, &listing, (&shown, name), table),
                Err(reason) => self.problem(&shown, reason),
            }
        }
    }

    /// What a table inside an archive says about the recordings there.
    fn inner_rows(&mut self, container: &Container, listing: &Listing, of: (&Path, &Path), mut table: Table) {
        let (shown, table_name) = of;
        self.notices.extend(super::song_describer::recognise(shown, &mut table));
        self.problems.extend(table.problems);
        self.warnings.extend(table.warnings);
        let folder = table_name.parent().unwrap_or(Path::new(""));
        for Row { line, file, facts } in table.rows {
            let found = insides(&file).map(|insides| find(listing, folder, &insides));
            match found {
                Ok(Some((name, member))) => self.member(container, &printable(name), member.clone(), facts),
                Ok(None) => self
                    .problem(Path::new(&file), format!("line {line} of {}: no such member", shown.display())),
                Err(reason) => {
                    self.problem(Path::new(&file), format!("line {line} of {}: {reason}", shown.display()))
                }
            }
        }
    }

    /// Looks for a file that a table names in the archives of the table's folder; whether it is there.
    pub fn in_archives(&mut self, folder: &Path, root: &Path, file: &str, facts: &Facts) -> bool {
        let Ok(insides) = insides(file) else { return false };
        for archive in self.archives_in(folder) {
            let Some(listing) = self.listing(&archive) else { continue };
            let stem = archive.file_stem().unwrap_or_default();
            let under_stem = insides.iter().filter_map(|inside| inside.strip_prefix(stem).ok());
            let insides: Vec<PathBuf> =
                insides.iter().map(PathBuf::as_path).chain(under_stem).map(PathBuf::from).collect();
            let Some((name, member)) = find(&listing, Path::new(""), &insides) else { continue };
            let Some(container) = self.container(&archive, root) else { continue };
            self.member(&container, &printable(name), member.clone(), facts.clone());
            return true;
        }
        false
    }

    fn archives_in(&mut self, folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut archives: Vec<PathBuf> = entries.filter(|path| is_archive(path)).collect();
        archives.sort();
        archives
    }

    /// The members of an archive; its problems are told once.
    fn listing(&mut self, path: &Path) -> Option<Arc<Listing>> {
        let key = absolute(path);
        if let Some(listing) = self.listings.get(&key) {
            return listing.clone();
        }
        let is_wanted = |name: &Path| is_sound(name) || is_table_name(name) || is_sidecar(name);
        let listed = size_and_time(path).and_then(|_| list(path, &is_wanted));
        let listing = match listed {
            Ok(mut listing) => {
                self.problems.append(&mut listing.problems);
                Some(Arc::new(listing))
            }
            Err(reason) => {
                self.problem(path, reason);
                None
            }
        };
        self.listings.insert(key, listing.clone());
        listing
    }

    /// Facts from the texts and JSON beside the recordings, by the recording's name.
    fn sidecars(&mut self, path: &Path, listing: &Listing) -> HashMap<PathBuf, Facts> {
        let is_tar = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("tar"));
        let mut beside: HashMap<PathBuf, Facts> = HashMap::new();
        for (name, member) in listing.members.iter().filter(|(name, _)| is_sidecar(name)) {
            let shown = member_path(path, &printable(name));
            let facts = match member.unpacked(MAX_SIDECAR_BYTES) {
                Ok(bytes) if has_extension(name, "json") => self.json_facts(&shown, &bytes),
                Ok(bytes) => Facts { captions: self.caption_lines(&shown, &bytes), ..Facts::default() },
                Err(reason) => {
                    self.problem(&shown, reason);
                    continue;
                }
            };
            beside.entry(key_of(name, is_tar)).or_default().merge(facts);
        }
        let sounds = listing.members.iter().filter(|(name, _)| is_sound(name));
        sounds
            .filter_map(|(name, _)| Some((name.clone(), beside.get(&key_of(name, is_tar))?.clone())))
            .collect()
    }

    fn json_facts(&mut self, shown: &Path, bytes: &[u8]) -> Facts {
        let object = match serde_json::from_slice::<serde_json::Value>(bytes) {
            Ok(serde_json::Value::Object(object)) => object,
            Ok(_) => return Facts::default(),
            Err(error) => {
                self.warnings.push(format!("{}: is not JSON ({error})", printable(shown)));
                return Facts::default();
            }
        };
        let names: Vec<String> = object.keys().cloned().collect();
        let values: Vec<&serde_json::Value> = object.values().collect();
        let wanted =
            self.options.caption_column.as_deref().filter(|wanted| names.iter().any(|name| name == wanted));
        let Ok(columns) = Columns::choose(&names, wanted) else { return Facts::default() };
        row_facts(&columns, self.options.caption_template.as_ref(), &|column| json_cell(values[column])).facts
    }

    /// All recordings of a parquet table, or the files that it names.
    pub fn parquet(&mut self, path: &Path, root: &Path) {
        let Some(container) = self.container(path, root) else { return };
        match read_parquet(path, self.options) {
            Ok(mut read) => {
                self.notices.extend(super::song_describer::recognise(path, &mut read.table));
                let table = std::mem::take(&mut read.table);
                for (member, facts) in read.sounds {
                    let name = format!("row {}", member.order());
                    self.member(&container, &name, member, facts);
                }
                self.rows(path, root, table);
            }
            Err(reason) => self.problem(path, reason),
        }
    }

    fn container(&mut self, path: &Path, root: &Path) -> Option<Container> {
        let opened = fs::canonicalize(path).map_err(|error| format!("cannot be read: {error}"));
        match opened.and_then(|key| Ok((size_and_time(&key)?, key))) {
            Ok(((bytes, modified_ns), key)) => Some(Container {
                key,
                shown: absolute(path),
                name: printable(path.strip_prefix(root).unwrap_or(path)),
                bytes,
                modified_ns,
                split: side_of(path),
            }),
            Err(reason) => {
                self.problem(path, reason);
                None
            }
        }
    }

    fn member(&mut self, container: &Container, name: &str, member: Member, mut facts: Facts) {
        let key = member_path(&container.key, name);
        if let Some(track) = self.tracks.get_mut(&key) {
            return track.facts.merge(facts);
        }
        if facts.split.is_none() && container.split.is_some() {
            facts.split.clone_from(&container.split);
            self.guessed_splits.insert(key.clone());
        }
        let track = SourceTrack {
            path: member_path(&container.shown, name),
            name: format!("{}#{name}", container.name),
            bytes: container.bytes,
            modified_ns: container.modified_ns,
            facts,
            member: Some(member),
        };
        self.tracks.insert(key, track);
    }

    /// A data set whose files are all called `train` has no sides: the split is ours to make.
    pub fn drop_guesses_of_one_side(&mut self) {
        let is_train = |track: &SourceTrack| track.facts.split.as_deref() == Some("train");
        if self.tracks.values().all(|track| track.facts.split.is_none() || is_train(track)) {
            for key in std::mem::take(&mut self.guessed_splits) {
                self.tracks.get_mut(&key).into_iter().for_each(|track| track.facts.split = None);
            }
        }
    }
}

/// The member that a row means.
fn find<'a>(listing: &'a Listing, folder: &Path, insides: &[PathBuf]) -> Option<(&'a PathBuf, &'a Member)> {
    let places = insides.iter().flat_map(|inside| candidates(folder, inside));
    let places: Vec<PathBuf> = places.collect();
    places.iter().find_map(|place| listing.find(place))
}

/// What a member shares with those that belong to it.
fn key_of(name: &Path, up_to_first_dot: bool) -> PathBuf {
    if !up_to_first_dot {
        return name.with_extension("");
    }
    let file = name.file_name().unwrap_or_default().to_string_lossy();
    name.with_file_name(file.split('.').next().unwrap_or_default())
}

fn side_of(path: &Path) -> Option<String> {
    let is_mark = |c: char| !c.is_ascii_alphabetic();
    let side = |name: &str| {
        let first = name.split(is_mark).next().unwrap_or_default();
        SIDES.iter().find(|(word, _)| *word == first).map(|(_, side)| side.to_string())
    };
    let folder = folder_of(path);
    side(&lower_name(path)).or_else(|| side(&lower_name(&folder)))
}

fn is_sound(name: &Path) -> bool {
    name.file_name().is_some_and(is_audio_name)
}

fn is_table_name(name: &Path) -> bool {
    TABLE_NAMES.contains(&lower_name(name).as_str())
}

fn is_sidecar(name: &Path) -> bool {
    has_extension(name, "txt") || has_extension(name, "json")
}

fn has_extension(name: &Path, wanted: &str) -> bool {
    name.extension().is_some_and(|end| end.eq_ignore_ascii_case(wanted))
}
