//! Tables of captions: CSV (comma, semicolon or tab) and JSON lines, as Hugging Face's AudioFolder has them.
//!
//! A table is somebody else's work, so one bad row costs that row and a line in the report, never the run.

use std::fs;
use std::path::{Path, PathBuf};

use super::columns::{Columns, listed};
use super::text::{MAX_CAPTION_CHARS, clean, clean_caption, printable};

/// What is known about a track besides its sound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Captions in the order found, each once.
    pub captions: Vec<String>,
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
            if !self.captions.contains(&caption) {
                self.captions.push(caption);
            }
        }
        for (own, new) in [
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
}

/// A table larger than this is refused: it is read whole, and captions of a million songs need less.
const MAX_TABLE_BYTES: u64 = 1 << 30;

/// Reads a `.jsonl` table as JSON lines and anything else as CSV.
///
/// # Errors
/// The sentence that says why the table as a whole cannot be used (unreadable, empty, no header, no column
/// of file names, no column named `caption_column`).
pub fn read_table(path: &Path, caption_column: Option<&str>) -> Result<Table, String> {
    let facts = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !facts.is_file() {
        return Err("is not a regular file".to_string());
    }
    if facts.len() > MAX_TABLE_BYTES {
        return Err(format!("is larger than {}", crate::error::human_bytes(MAX_TABLE_BYTES)));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16; save it as UTF-8".to_string());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_string());
    }
    let mut reading = Reading { path, caption_column, table: Table::default(), seen_caption_column: false };
    let is_json_lines = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("jsonl"));
    let names = if is_json_lines { reading.json_lines(bytes)? } else { reading.csv(bytes)? };
    let mut table = reading.table;
    if table.rows.is_empty() && table.problems.is_empty() {
        return Err("has a header and no rows".to_string());
    }
    if !reading.seen_caption_column {
        table.warnings.push(format!(
            "{}: no column of captions among {}; name one with --caption-column",
            printable(path),
            listed(&names)
        ));
    }
    Ok(table)
}

struct Reading<'a> {
    path: &'a Path,
    caption_column: Option<&'a str>,
    table: Table,
    seen_caption_column: bool,
}

/// One cell, as far as its type matters.
enum Cell {
    Nothing,
    Texts(Vec<String>),
    /// Not text (a number, an object): usable as an identifier if the string is there, never as a caption.
    Other(Option<String>),
}

impl Reading<'_> {
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
        let columns = Columns::choose(&names, self.caption_column)?;
        self.seen_caption_column = columns.caption.is_some();
        while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != names.len() {
                self.warn(line, &format!("has {} fields, the header {}", record.len(), names.len()));
            }
            if record.iter().any(|field| std::str::from_utf8(field).is_err()) {
                self.warn(line, "is not UTF-8; the bytes that are not were replaced");
            }
            self.row(line, &columns, |column| match record.get(column) {
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
            let wanted = self.caption_column.filter(|wanted| names.iter().any(|name| name == wanted));
            match Columns::choose(&names, wanted) {
                Ok(mut columns) => {
                    if self.caption_column.is_some() && wanted.is_none() {
                        columns.caption = None;
                    }
                    self.seen_caption_column |= columns.caption.is_some();
                    let values: Vec<&serde_json::Value> = object.values().collect();
                    self.row(line, &columns, |column| json_cell(values[column]));
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

    fn row(&mut self, line: u64, columns: &Columns, cell: impl Fn(usize) -> Cell) {
        let one = |column: Option<usize>| match column.map(&cell) {
            Some(Cell::Texts(texts)) => texts.iter().map(|text| clean(text)).find(|text| !text.is_empty()),
            Some(Cell::Other(text)) => text,
            _ => None,
        };
        let file = match cell(columns.file) {
            Cell::Texts(texts) => texts.into_iter().next().unwrap_or_default(),
            Cell::Nothing | Cell::Other(_) => String::new(),
        };
        let file = file.trim().to_string();
        if file.is_empty() {
            self.problem(line, "has no file name");
            return;
        }
        let mut facts = Facts {
            captions: Vec::new(),
            title: one(columns.title),
            artist: one(columns.artist),
            genre: one(columns.genre),
            licence: one(columns.licence),
            split: one(columns.split),
        };
        match columns.caption.map(cell) {
            Some(Cell::Texts(texts)) => {
                for text in texts {
                    self.caption(line, &text, &mut facts.captions);
                }
            }
            Some(Cell::Other(_)) => self.warn(line, "has a caption that is not text; it was left out"),
            Some(Cell::Nothing) | None => {}
        }
        self.table.rows.push(Row { line, file, facts });
    }

    fn caption(&mut self, line: u64, text: &str, captions: &mut Vec<String>) {
        let (caption, cut) = clean_caption(text);
        if cut {
            self.warn(
                line,
                &format!("has a caption of more than {MAX_CAPTION_CHARS} characters; it was cut"),
            );
        }
        if !caption.is_empty() && !captions.contains(&caption) {
            captions.push(caption);
        }
    }

    fn warn(&mut self, line: u64, what: &str) {
        let place = if line == 0 { String::new() } else { format!("line {line} ") };
        self.table.warnings.push(format!("{}: {place}{what}", printable(self.path)));
    }

    fn problem(&mut self, line: u64, what: &str) {
        let reason = format!("line {line} {what}");
        self.table.problems.push(Problem { path: self.path.to_path_buf(), reason });
    }
}

fn json_cell(value: &serde_json::Value) -> Cell {
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
