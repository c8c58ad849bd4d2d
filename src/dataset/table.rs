//! Tables of captions: CSV (comma, semicolon or tab) and JSON lines, as Hugging Face's AudioFolder has them.
//!
//! A table is somebody else's work, so one bad row costs that row and a line in the report, never the run.

use std::fs;
use std::path::{Path, PathBuf};

use super::columns::{Columns, file_column, listed};
use super::labels::Template;
use super::row::{Cell, RowFacts, row_facts};
use super::text::{MAX_CAPTION_CHARS, clean, printable};

/// What is known about a track besides its sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Captions in the order found, each once.
    pub captions: Vec<String>,
    /// A caption made of labels (genre, mood, tempo), for a track that has no other.
    pub label_caption: Option<String>,
    /// Title.
    pub title: Option<String>,
    /// Artist: a name or an identifier; the split keeps an artist's tracks together.
    pub artist: Option<String>,
    /// Genre.
    pub genre: Option<String>,
    /// Licence.
    pub licence: Option<String>,
    /// The table's own split, such as `train` or `test`.
    pub split: Option<String>,
}

impl Facts {
    /// Adds what `other` knows: captions that are new, and the fields that are still empty.
    pub fn merge(&mut self, other: Facts) {
        for caption in other.captions {
            if !caption.is_empty() && !self.captions.contains(&caption) {
                self.captions.push(caption);
            }
        }
        for (own, new) in [
            (&mut self.label_caption, other.label_caption),
            (&mut self.title, other.title),
            (&mut self.artist, other.artist),
            (&mut self.genre, other.genre),
            (&mut self.licence, other.licence),
            (&mut self.split, other.split),
        ] {
            if own.is_none() {
                *own = new;
            }
        }
    }

    /// Gives a track without a caption the one made of its labels.
    pub fn use_labels(&mut self) {
        if self.captions.is_empty() {
            self.captions.extend(self.label_caption.take());
        }
    }
}

/// How tables are read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableOptions {
    /// The column of the sound or of file names, where it has no usual name.
    pub audio_column: Option<String>,
    /// The column of captions, where it has no usual name.
    pub caption_column: Option<String>,
    /// Makes captions of other columns; `None` for the usual ones.
    pub caption_template: Option<Template>,
    /// Keeps rows that the table itself marks as not valid.
    pub keep_invalid: bool,
}

/// One row: a file name as the table spells it, not yet looked for, and its facts.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// 1-based line in the table.
    pub line: u64,
    /// The file name as the table spells it.
    pub file: String,
    /// Its facts.
    pub facts: Facts,
}

/// Something that had to be left out: a file or a row, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// The file (or the table, for a row without a file).
    pub path: PathBuf,
    /// Why, in the user's words.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", printable(&self.path), self.reason)
    }
}

/// A table that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Rows with a file name.
    pub rows: Vec<Row>,
    /// Rows that cannot be used.
    pub problems: Vec<Problem>,
    /// Oddities that cost nothing.
    pub warnings: Vec<String>,
    /// Its columns are the Song Describer data set's.
    pub(super) is_song_describer: bool,
}

/// A table larger than this is refused: it is read whole, and captions of a million songs need less.
const MAX_TABLE_BYTES: u64 = 1 << 30;

/// Reads a `.jsonl` table as JSON lines and anything else as CSV.
///
/// # Errors
/// The sentence that says why the table as a whole cannot be used (unreadable, empty, no header, no column
/// of file names, no column of a name that `options` has).
pub fn read_table(path: &Path, options: &TableOptions) -> Result<Table, String> {
    let facts = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !facts.is_file() {
        return Err("is not a regular file".to_string());
    }
    if facts.len() > MAX_TABLE_BYTES {
        return Err(format!("is larger than {}", crate::error::human_bytes(MAX_TABLE_BYTES)));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    parse_table(path, &bytes, options)
}

/// [`read_table`] of what is in memory; `path` names it.
///
/// # Errors
/// As [`read_table`].
pub fn parse_table(path: &Path, bytes: &[u8], options: &TableOptions) -> Result<Table, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save it as UTF-8".to_string());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_string());
    }
    let mut reading = Reading::new(path, options);
    let is_json_lines = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl"));
    let names = if is_json_lines { reading.json_lines(bytes)? } else { reading.csv(bytes)? };
    reading.finish(&names);
    let table = reading.table;
    if table.rows.is_empty() && table.problems.is_empty() && reading.invalid_rows == 0 {
        return Err("has a header and no rows".to_string());
    }
    Ok(table)
}

/// A table while it is read.
pub(super) struct Reading<'a> {
    path: &'a Path,
    options: &'a TableOptions,
    pub table: Table,
    pub seen_caption_column: bool,
    has_labels: bool,
    invalid_rows: usize,
}

impl<'a> Reading<'a> {
    pub fn new(path: &'a Path, options: &'a TableOptions) -> Self {
        let (table, seen_caption_column) = (Table::default(), false);
        Self { path, options, table, seen_caption_column, has_labels: false, invalid_rows: 0 }
    }

    /// Says what the table of these columns lacks as a whole.
    pub fn finish(&mut self, names: &[String]) {
        if self.invalid_rows > 0 {
            let count = self.invalid_rows;
            self.warn(
                0,
                &format!("{count} rows that it marks as not valid were left out; --keep-invalid takes them"),
            );
        }
        let lower: Vec<String> = names.iter().map(|name| name.trim().to_lowercase()).collect();
        let is_known = |wanted: &&str| lower.iter().any(|name| name == wanted);
        self.table.is_song_describer = ["caption_id", "track_id", "is_valid_subset"].iter().all(is_known);
        let wanted = self.options.caption_template.iter().flat_map(Template::columns);
        let missing: Vec<&str> = wanted.filter(|name| !lower.iter().any(|own| own == name)).collect();
        if !missing.is_empty() {
            let (missing, listed) = (missing.join(", "), listed(names));
            self.warn(0, &format!("no column {missing} (--caption-template) among {listed}"));
        }
        if !self.seen_caption_column {
            let made = if self.has_labels { "captions are made of its labels; " } else { "" };
            let listed = listed(names);
            self.warn(
                0,
                &format!("no column of captions among {listed}; {made}name one with --caption-column"),
            );
        }
    }

    /// Reads CSV; returns the names of the columns.
    fn csv(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let delimiter = guess_delimiter(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .from_reader(bytes);
        let mut record = csv::ByteRecord::new();
        reader.read_byte_record(&mut record).map_err(|error| error.to_string())?;
        let names: Vec<String> = record.iter().map(|name| clean(&String::from_utf8_lossy(name))).collect();
        let file = file_column(&names, self.options.audio_column.as_deref())?;
        let columns = Columns::choose(&names, self.options.caption_column.as_deref())?;
        self.seen_caption_column = columns.caption.is_some();
        while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != names.len() {
                self.warn(line, &format!("has {} fields, the header {}", record.len(), names.len()));
            }
            if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
                self.warn(line, "is not UTF-8; the bytes that are not were replaced");
            }
            self.row(line, file, &columns, &|column| match record.get(column) {
                None | Some([]) => Cell::Nothing,
                Some(bytes) => Cell::Texts(vec![String::from_utf8_lossy(bytes).into_owned()]),
            });
        }
        if bytes.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
            self.warn(
                0,
                "has an odd number of quotes: if one is never closed, the rows after it are in its cell",
            );
        }
        Ok(names)
    }

    /// Reads JSON lines; returns the names that occur.
    fn json_lines(&mut self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut all_names: Vec<String> = Vec::new();
        let mut last_refusal = None;
        for (index, line_bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = index as u64 + 1;
            if line_bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let text = String::from_utf8_lossy(line_bytes);
            if matches!(text, std::borrow::Cow::Owned(_)) {
                self.warn(line, "is not UTF-8; the bytes that are not were replaced");
            }
            let object = match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(serde_json::Value::Object(object)) => object,
                Ok(_) => {
                    self.problem(line, "is not a JSON object");
                    continue;
                }
                Err(error) => {
                    self.problem(line, &format!("is not JSON ({error})"));
                    continue;
                }
            };
            let names: Vec<String> = object.keys().cloned().collect();
            all_names
                .extend(names.iter().filter(|name| !all_names.contains(name)).cloned().collect::<Vec<_>>());
            // A row without a caption may leave the key out, so the wanted column is optional a row.
            let caption_column = self.options.caption_column.as_deref();
            let wanted = caption_column.filter(|wanted| names.iter().any(|name| name == wanted));
            let file = file_column(&names, self.options.audio_column.as_deref());
            match file.and_then(|file| Ok((file, Columns::choose(&names, wanted)?))) {
                Ok((file, mut columns)) => {
                    if caption_column.is_some() && wanted.is_none() {
                        columns.caption = None;
                    }
                    self.seen_caption_column |= columns.caption.is_some();
                    let values: Vec<&serde_json::Value> = object.values().collect();
                    self.row(line, file, &columns, &|column| json_cell(values[column]));
                }
                Err(refusal) => {
                    self.problem(line, &refusal);
                    last_refusal = Some(refusal);
                }
            }
        }
        match last_refusal {
            Some(refusal) if self.table.rows.is_empty() => Err(refusal),
            _ => Ok(all_names),
        }
    }

    fn row(&mut self, line: u64, file: usize, columns: &Columns, cell: &dyn Fn(usize) -> Cell) {
        let file = match cell(file) {
            Cell::Texts(texts) => texts.into_iter().next().unwrap_or_default(),
            Cell::Nothing | Cell::Other(_) => String::new(),
        };
        let file = file.trim().to_string();
        if file.is_empty() {
            self.problem(line, "has no file name");
            return;
        }
        if let Some(facts) = self.facts(line, columns, cell) {
            self.table.rows.push(Row { line, file, facts });
        }
    }

    /// The facts of a row; `None` if the table says that it is not valid.
    pub fn facts(&mut self, line: u64, columns: &Columns, cell: &dyn Fn(usize) -> Cell) -> Option<Facts> {
        let template = self.options.caption_template.as_ref();
        let RowFacts { facts, is_cut, is_no_text, is_invalid } = row_facts(columns, template, cell);
        if is_invalid && !self.options.keep_invalid {
            self.invalid_rows += 1;
            return None;
        }
        if is_cut {
            let what = format!("has a caption of more than {MAX_CAPTION_CHARS} characters; it was cut");
            self.warn(line, &what);
        }
        if is_no_text {
            self.warn(line, "has a caption that is not text; it was left out");
        }
        self.has_labels |= facts.label_caption.is_some();
        Some(facts)
    }

    fn warn(&mut self, line: u64, what: &str) {
        let place = if line == 0 { String::new() } else { format!("line {line} ") };
        self.table.warnings.push(format!("{}: {place}{what}", printable(self.path)));
    }

    pub fn problem(&mut self, line: u64, what: &str) {
        let reason = format!("line {line} {what}");
        self.table.problems.push(Problem { path: self.path.to_path_buf(), reason });
    }
}

pub(super) fn json_cell(value: &serde_json::Value) -> Cell {
    use serde_json::Value;
    match value {
        Value::Null => Cell::Nothing,
        Value::String(text) => Cell::Texts(vec![text.clone()]),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            Cell::Texts(items.iter().filter_map(Value::as_str).map(String::from).collect())
        }
        Value::Number(number) => Cell::Other(Some(number.to_string())),
        // Hugging Face's decoded audio column: {"path": ..., "bytes": ...}.
        Value::Object(object) => match object.get("path").and_then(Value::as_str) {
            Some(path) => Cell::Texts(vec![path.to_string()]),
            None => Cell::Other(None),
        },
        Value::Bool(_) | Value::Array(_) => Cell::Other(None),
    }
}

/// The delimiter of a CSV file: whichever of comma, tab and semicolon the header has most of, outside quotes;
/// comma when it has none (a table of one column).
fn guess_delimiter(bytes: &[u8]) -> u8 {
    let mut counts = [(b',', 0), (b'\t', 0), (b';', 0)];
    let mut quoted = false;
    for &byte in bytes.iter().take_while(|&&byte| byte != b'\n') {
        quoted ^= byte == b'"';
        for (delimiter, count) in &mut counts {
            *count += usize::from(!quoted && byte == *delimiter);
        }
    }
    counts.into_iter().rev().max_by_key(|&(_, count)| count).map_or(b',', |(delimiter, _)| delimiter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_decides_the_delimiter() {
        assert_eq!(guess_delimiter(b"file_name;caption\na,b,c;d"), b';');
        assert_eq!(guess_delimiter(b"file_name\tcaption\n"), b'\t');
        assert_eq!(guess_delimiter(b"\"a;b;c\",d\n"), b',');
        assert_eq!(guess_delimiter(b"file_name"), b',');
    }
}
