//! The Song Describer data set, and its re-uploads: known by its columns, with what its makers ask of its users.
//!
//! Its traps are handled where they arise: file names that the table spells otherwise in `finder`, rows that it marks as
//! not valid in `table`; the `duration` column, which is the full track's, is not used. Its licences are in a text of
//! their own, `audio_licenses.txt`, which is read here.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::sources::lower_name;
use super::table::Table;
use super::text::clean;

const LICENCES: &str = "audio_licenses.txt";
const MAX_LICENCES_BYTES: u64 = 16 << 20;
const MAX_LICENCE_CHARS: usize = 200;
const NOTICE: &str = "Song Describer data set: annotations CC BY-SA 4.0, each recording under its own Creative Commons \
    licence; its datasheet asks for it to be used for evaluation and discourages training on it";

/// What the user should know if the table at `path` is Song Describer's; its tracks get their licences.
pub(super) fn recognise(path: &Path, table: &mut Table) -> Option<String> {
    let is_named = ["song_describer", "song-describer", "song describer"].iter().any(|name| {
        path.components().any(|part| part.as_os_str().to_string_lossy().to_lowercase().contains(name))
    });
    if !is_named && !table.is_song_describer {
        return None;
    }
    let licences = licences_beside(path);
    for row in &mut table.rows {
        if row.facts.licence.is_none() {
            row.facts.licence = licences.get(&lower_name(Path::new(&row.file))).cloned();
        }
    }
    Some(NOTICE.to_string())
}

/// Licences by file name, from lines `34/1004034.mp3: LICENCE / ARTIST`.
fn licences_beside(table: &Path) -> HashMap<String, String> {
    let path = table.with_file_name(LICENCES);
    let is_list = fs::metadata(&path).is_ok_and(|about| about.is_file() && about.len() <= MAX_LICENCES_BYTES);
    let bytes = if is_list { fs::read(&path).unwrap_or_default() } else { Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let licence = |line: &str| {
        let (file, licence) = line.split_once([':', '\t', ','])?;
        let licence: String = clean(licence).chars().take(MAX_LICENCE_CHARS).collect();
        (!licence.is_empty()).then(|| (lower_name(Path::new(file.trim())), licence))
    };
    text.lines().filter_map(licence).collect()
}
