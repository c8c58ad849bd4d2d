//! Parquet tables: Hugging Face's audio data sets (a struct of `bytes` and `path`, or plain bytes) and AudioFolder's
//! `metadata.parquet`. The columns of text are read when the table is listed; a recording's cell only when it is its
//! turn, from a cursor that holds one page (a row group at most) in memory.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::{Type, TypePtr};

use super::columns::{Columns, file_column};
use super::labels::label_names;
use super::member::{MAX_UNPACKED_BYTES, Member, Place, guarded};
use super::parquet_schema::{ClassNames, Sound, class_names, sound_column};
use super::row::Cell;
use super::table::{Facts, Reading, Row, Table, TableOptions};
use super::text::clean;
use crate::error::human_bytes;

/// Cells that were passed on the way to a later row and may still be asked for: as many as threads may be apart.
const KEPT_CELLS: u64 = 64;
/// A column of recordings, which hardly compress, that claims to unpack to more than so many times its size lies.
const MAX_COMPRESSION: i64 = 200;

/// A table that was read.
#[derive(Default)]
pub(super) struct ParquetTable {
    /// Rows with a recording in them.
    pub sounds: Vec<(Member, Facts)>,
    /// Problems and warnings; and the rows, where they name files instead of holding recordings.
    pub table: Table,
}

/// Reads what a parquet file says about its recordings, without the recordings.
///
/// # Errors
/// The sentence that says why it cannot be used.
pub(super) fn read_parquet(path: &Path, options: &TableOptions) -> Result<ParquetTable, String> {
    guarded(|| Listing::open(path)?.read(path, options))
}

/// Takes a row: its number, and a function that gives the cell of a column.
type Take<'a> = dyn FnMut(u64, &dyn Fn(usize) -> Cell) + 'a;

struct Listing {
    reader: SerializedFileReader<File>,
    fields: Vec<TypePtr>,
    names: Vec<String>,
    features: serde_json::Value,
}

impl Listing {
    fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
        let reader = SerializedFileReader::new(file).map_err(failure)?;
        let about = reader.metadata().file_metadata();
        let fields = about.schema_descr().root_schema().get_fields().to_vec();
        let names = fields.iter().map(|field| field.name().to_string()).collect();
        let pairs = about.key_value_metadata().into_iter().flatten();
        let text = pairs.filter(|pair| pair.key == "huggingface").find_map(|pair| pair.value.as_deref());
        let about = text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let features = about.map_or(serde_json::Value::Null, |about| about["info"]["features"].clone());
        Ok(Self { reader, fields, names, features })
    }

    fn read(self, path: &Path, options: &TableOptions) -> Result<ParquetTable, String> {
        let sound = sound_column(&self.fields, &self.features, options.audio_column.as_deref())?;
        let columns = Columns::choose(&self.names, options.caption_column.as_deref())?;
        let mut reading = Reading::new(path, options);
        reading.seen_caption_column = columns.caption.is_some();
        let mut sounds = Vec::new();
        match sound {
            Some(sound) => {
                let cells = Arc::new(Cells::new(path, &self.reader, sound)?);
                let used = used_fields(&columns, options, None);
                self.rows(&used, &mut |row, cell| {
                    let Some(facts) = reading.facts(row, &columns, cell) else { return };
                    let bytes = cells.mean_bytes(row);
                    let place = Place::Row { cells: cells.clone(), row };
                    sounds.push((Member { container: path.to_path_buf(), bytes, place }, facts));
                })?;
            }
            None => {
                let file = file_column(&self.names, options.audio_column.as_deref())?;
                let used = used_fields(&columns, options, Some(file));
                self.rows(&used, &mut |row, cell| match cell(file) {
                    Cell::Texts(texts) if !texts.is_empty() => {
                        let facts = reading.facts(row, &columns, cell);
                        let rows =
                            facts.map(|facts| Row { line: row, file: texts[0].trim().to_string(), facts });
                        reading.table.rows.extend(rows);
                    }
                    _ => reading.problem(row, "has no file name"),
                })?;
            }
        }
        reading.finish(&self.names);
        if sounds.is_empty() && reading.table.rows.is_empty() && reading.table.problems.is_empty() {
            return Err("has no rows that can be used".to_string());
        }
        Ok(ParquetTable { sounds, table: reading.table })
    }

    /// Gives every row's cells of the columns in `used` to `take`, with the row's number.
    fn rows(&self, used: &[usize], take: &mut Take<'_>) -> Result<(), String> {
        let used: Vec<usize> = used.iter().copied().filter(|&at| is_text_like(&self.fields[at])).collect();
        let rows = u64::try_from(self.reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        if used.is_empty() {
            (0..rows).for_each(|row| take(row, &|_| Cell::Nothing));
            return Ok(());
        }
        let classes: HashMap<usize, ClassNames> =
            used.iter().filter_map(|&at| Some((at, class_names(&self.features, &self.names[at])?))).collect();
        // A projection has to be called what the schema is.
        let root = self.reader.metadata().file_metadata().schema_descr().root_schema();
        let fields = used.iter().map(|&at| self.fields[at].clone()).collect();
        let projection =
            Type::group_type_builder(root.name()).with_fields(fields).build().map_err(failure)?;
        for (row, cells) in (0..).zip(self.reader.get_row_iter(Some(projection)).map_err(failure)?) {
            let cells = cells.map_err(failure)?;
            let fields: Vec<&Field> = cells.get_column_iter().map(|(_, field)| field).collect();
            take(row, &|column| {
                let at = used.iter().position(|&at| at == column);
                let field = at.and_then(|at| fields.get(at).copied());
                field.map_or(Cell::Nothing, |field| cell_of(field, classes.get(&column)))
            });
        }
        Ok(())
    }
}

/// The columns that are looked at.
fn used_fields(columns: &Columns, options: &TableOptions, file: Option<usize>) -> Vec<usize> {
    let labels = label_names(options.caption_template.as_ref()).filter_map(|name| columns.find(name));
    let Columns { caption, title, artist, genre, licence, split, valid, .. } = columns;
    let known = [caption, title, artist, genre, licence, split, valid].into_iter().filter_map(|at| *at);
    let mut used: Vec<usize> = labels.chain(known).chain(file).collect();
    used.sort_unstable();
    used.dedup();
    used
}

fn cell_of(field: &Field, classes: Option<&ClassNames>) -> Cell {
    let class = || classes?.get(usize::try_from(whole(field)?).ok()?).cloned();
    if let Some(name) = class() {
        return Cell::Texts(vec![name]);
    }
    match field {
        Field::Null => Cell::Nothing,
        Field::Str(text) if text.trim().is_empty() => Cell::Nothing,
        Field::Str(text) => Cell::Texts(vec![text.clone()]),
        // Text that its writer did not declare as such.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => Cell::Texts(vec![text.to_string()]),
            Err(_) => Cell::Other(None),
        },
        Field::ListInternal(list) => {
            let cells = list.elements().iter().map(|field| cell_of(field, classes));
            let texts =
                cells.filter_map(|cell| if let Cell::Texts(texts) = cell { Some(texts) } else { None });
            Cell::Texts(texts.flatten().collect())
        }
        Field::Group(_) | Field::MapInternal(_) => Cell::Other(None),
        Field::Float(number) => Cell::Other(number.is_finite().then(|| number.to_string())),
        Field::Double(number) => Cell::Other(number.is_finite().then(|| number.to_string())),
        other => Cell::Other(Some(other.to_string())),
    }
}

fn whole(field: &Field) -> Option<i64> {
    match *field {
        Field::Long(number) => Some(number),
        Field::Int(number) => Some(i64::from(number)),
        Field::Short(number) => Some(i64::from(number)),
        Field::Byte(number) => Some(i64::from(number)),
        Field::UByte(number) => Some(i64::from(number)),
        Field::UShort(number) => Some(i64::from(number)),
        Field::UInt(number) => Some(i64::from(number)),
        _ => None,
    }
}

/// The first line of what the library says.
fn failure(error: ParquetError) -> String {
    let text = clean(&error.to_string());
    let text = text.trim_start_matches("Parquet error: ");
    format!("cannot be read as a parquet table ({text}); get it again if it was cut short")
}

/// The cells of one column, read from a file one after another.
pub(super) struct Cells {
    path: PathBuf,
    /// Of the schema's leaves.
    leaf: usize,
    /// Rows and mean bytes of a recording, a row group.
    groups: Vec<(u64, u64)>,
    cursor: Mutex<Option<Cursor>>,
}

impl std::fmt::Debug for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cells({}, {})", self.path.display(), self.leaf)
    }
}

/// Where reading stands.
struct Cursor {
    group: usize,
    /// The next row of the group.
    next: u64,
    reader: ColumnReaderImpl<ByteArrayType>,
    /// Cells that were passed and not asked for yet.
    passed: BTreeMap<u64, Option<ByteArray>>,
}

impl Cells {
    fn new(path: &Path, reader: &dyn FileReader, sound: Sound) -> Result<Self, String> {
        let mut groups = Vec::new();
        for group in reader.metadata().row_groups() {
            let column = group.column(sound.leaf);
            let (packed, unpacked) = (column.compressed_size().max(1), column.uncompressed_size());
            if unpacked as u64 > MAX_UNPACKED_BYTES && unpacked / packed > MAX_COMPRESSION {
                let [packed, unpacked] = [packed, unpacked].map(|bytes| human_bytes(bytes as u64));
                return Err(format!("claims that {packed} of recordings unpack to {unpacked}; refused"));
            }
            let rows = u64::try_from(group.num_rows()).map_err(|_| "claims less than no rows; refused")?;
            groups.push((rows, unpacked.max(0) as u64 / rows.max(1)));
        }
        Ok(Self { path: path.to_path_buf(), leaf: sound.leaf, groups, cursor: Mutex::new(None) })
    }

    /// The row group of a row, and its place in it.
    fn place(&self, row: u64) -> Option<(usize, u64)> {
        let mut left = row;
        for (group, (rows, _)) in self.groups.iter().enumerate() {
            if left < *rows {
                return Some((group, left));
            }
            left -= rows;
        }
        None
    }

    fn mean_bytes(&self, row: u64) -> u64 {
        self.place(row).map_or(0, |(group, _)| self.groups[group].1)
    }

    /// The recording in a row.
    ///
    /// # Errors
    /// The reason in the user's words.
    pub fn read(&self, row: u64) -> Result<Vec<u8>, String> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = guarded(|| self.cell(&mut cursor, row));
        if cell.is_err() {
            *cursor = None;
        }
        drop_when_done(&mut cursor, &self.groups);
        drop(cursor);
        match cell? {
            None => Err("holds no recording: its bytes are missing".to_string()),
            Some(cell) if cell.len() as u64 > MAX_UNPACKED_BYTES => {
                let [bytes, limit] = [cell.len() as u64, MAX_UNPACKED_BYTES].map(human_bytes);
                Err(format!("is {bytes} long; {limit} at most are read from a table"))
            }
            Some(cell) => Ok(cell.data().to_vec()),
        }
    }

    fn cell(&self, cursor: &mut Option<Cursor>, row: u64) -> Result<Option<ByteArray>, String> {
        let (group, at) = self.place(row).ok_or("has no such row any more; it was changed meanwhile")?;
        let fits = cursor.as_ref().is_some_and(|cursor| {
            cursor.group == group && (cursor.next <= at || cursor.passed.contains_key(&at))
        });
        if !fits {
            *cursor = Some(self.open(group)?);
        }
        let Some(cursor) = cursor else { return Err("has no cursor".to_string()) };
        if let Some(cell) = cursor.passed.remove(&at) {
            return Ok(cell);
        }
        let far = (at - cursor.next).saturating_sub(KEPT_CELLS);
        if far > 0 {
            cursor.reader.skip_records(far as usize).map_err(failure)?;
            cursor.next += far;
        }
        while cursor.next < at {
            let passed = cursor.read()?;
            cursor.passed.insert(cursor.next - 1, passed);
        }
        while cursor.passed.len() as u64 > KEPT_CELLS {
            cursor.passed.pop_first();
        }
        cursor.read()
    }

    fn open(&self, group: usize) -> Result<Cursor, String> {
        let file = File::open(&self.path).map_err(|error| format!("cannot be read: {error}"))?;
        let reader = SerializedFileReader::new(file).map_err(failure)?;
        if reader.metadata().num_row_groups() != self.groups.len() {
            return Err("was changed meanwhile".to_string());
        }
        let group_reader = reader.get_row_group(group).map_err(failure)?;
        let column = group_reader.get_column_reader(self.leaf).map_err(failure)?;
        let reader = get_typed_column_reader::<ByteArrayType>(column);
        Ok(Cursor { group, next: 0, reader, passed: BTreeMap::new() })
    }
}

impl Cursor {
    fn read(&mut self) -> Result<Option<ByteArray>, String> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let read = self.reader.read_records(1, Some(&mut levels), None, &mut values);
        let (records, _, _) = read.map_err(failure)?;
        if records == 0 {
            return Err("ends before this row; get it again if it was cut short".to_string());
        }
        self.next += 1;
        Ok(values.pop())
    }
}

/// The last row of a group frees its page.
fn drop_when_done(cursor: &mut Option<Cursor>, groups: &[(u64, u64)]) {
    let is_done = |cursor: &Cursor| cursor.next == groups[cursor.group].0 && cursor.passed.is_empty();
    if cursor.as_ref().is_some_and(is_done) {
        *cursor = None;
    }
}

/// Whether a column can be looked at without reading recordings or arrays of numbers.
fn is_text_like(field: &Type) -> bool {
    match field {
        Type::PrimitiveType { .. } => field.get_physical_type() != PhysicalType::FIXED_LEN_BYTE_ARRAY,
        Type::GroupType { fields, .. } => match fields.as_slice() {
            [one] => is_text_like(one),
            _ => false,
        },
    }
}
