//! Parquet tables as sources: Hugging Face's audio data sets in several shards, and files that lie.

mod dataset_common;

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dataset_common::{options, song_bytes};
use dit_engine::dataset::manifest::read_manifest;
use dit_engine::dataset::sources::{Collection, collect};
use dit_engine::dataset::table::TableOptions;
use dit_engine::dataset::{PrepareOptions, Summary, prepare};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

static GO: AtomicBool = AtomicBool::new(false);

/// A column's cells, in the order of the schema's leaves.
enum Cells {
    Bytes(Vec<Option<Vec<u8>>>),
    Numbers(Vec<Option<i64>>),
}

fn texts(texts: &[&str]) -> Cells {
    Cells::Bytes(texts.iter().map(|text| Some(text.as_bytes().to_vec())).collect())
}

/// Writes `columns`, `rows_a_group` rows to a row group; every column is optional, definition level `levels`.
fn write(path: &Path, schema: &str, features: &str, rows_a_group: usize, columns: &[(i16, Cells)]) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let described = KeyValue::new("huggingface".to_string(), features.to_string());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .set_key_value_metadata(Some(vec![described]))
        .build();
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let rows = match &columns[0].1 {
        Cells::Bytes(cells) => cells.len(),
        Cells::Numbers(cells) => cells.len(),
    };
    for first in (0..rows).step_by(rows_a_group) {
        let range = first..(first + rows_a_group).min(rows);
        let mut group = writer.next_row_group().unwrap();
        for (level, cells) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match cells {
                Cells::Bytes(cells) => {
                    let cells = &cells[range.clone()];
                    let levels: Vec<i16> =
                        cells.iter().map(|cell| if cell.is_some() { *level } else { 0 }).collect();
                    let values: Vec<ByteArray> =
                        cells.iter().flatten().map(|cell| cell.clone().into()).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Cells::Numbers(cells) => {
                    let cells = &cells[range.clone()];
                    let levels: Vec<i16> =
                        cells.iter().map(|cell| if cell.is_some() { *level } else { 0 }).collect();
                    let values: Vec<i64> = cells.iter().flatten().copied().collect();
                    column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
            }
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

const SCHEMA: &str = "message schema {
    optional binary caption (UTF8);
    optional group audio { optional binary bytes; optional binary path (UTF8); }
    optional binary artist_id (UTF8);
    optional int64 genre;
}";
const FEATURES: &str = r#"{"info": {"features": {"audio": {"_type": "Audio"}, "genre": {"names": ["blues", "disco"], "_type": "ClassLabel"}}}}"#;

/// One shard: a song a seed, `seed` as its caption; three rows to a group.
fn write_shard(path: &Path, seeds: &[u32]) {
    let captions: Vec<String> =
        seeds.iter().map(|seed| if *seed == 4 { String::new() } else { format!("song {seed}") }).collect();
    let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
    let artists: Vec<String> = seeds.iter().map(|seed| format!("artist {}", seed % 3)).collect();
    let artists: Vec<&str> = artists.iter().map(String::as_str).collect();
    let sounds = seeds.iter().map(|&seed| Some(song_bytes(2.0 + f64::from(seed % 4), seed))).collect();
    let columns = [
        (1, texts(&captions)),
        (2, Cells::Bytes(sounds)),
        (2, texts(&vec!["x.wav"; seeds.len()])),
        (1, texts(&artists)),
        (1, Cells::Numbers(seeds.iter().map(|&seed| Some(i64::from(seed % 2))).collect())),
    ];
    write(path, SCHEMA, FEATURES, 3, &columns);
}

fn run(options: &PrepareOptions) -> Summary {
    prepare(options, &GO, &()).unwrap()
}

fn of(source: &Path, options: &TableOptions) -> Collection {
    collect(&[source.to_path_buf()], options).unwrap()
}

fn reasons(collection: &Collection) -> String {
    let all = collection.problems.iter().map(ToString::to_string);
    all.chain(collection.warnings.iter().cloned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn shards_of_a_hub_data_set_become_tracks_with_captions_and_artists() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    write_shard(&data.join("train-00000-of-00002.parquet"), &[0, 1, 2, 3, 4, 5, 6]);
    // The same recording with another caption is the same track.
    write_shard(&data.join("train-00001-of-00002.parquet"), &[7, 8, 0]);
    let options = options(&data, &folder.path().join("out"));
    let summary = run(&options);
    assert_eq!((summary.tracks(), summary.encoded, summary.skipped.len()), (9, 9, 0), "{summary}");
    assert_eq!(summary.split_by_table, 0);
    let tracks = read_manifest(&options.out).unwrap().0;
    for track in &tracks {
        let row: usize = track.file.rsplit_once("#row ").unwrap().1.parse().unwrap();
        let seed = if track.file.contains("00000") { row } else { [7, 8, 0][row] };
        let caption = if seed == 4 { "blues".to_string() } else { format!("song {seed}") };
        assert_eq!(track.captions, [caption]);
        assert_eq!(track.artist.as_deref(), Some(format!("artist {}", seed % 3).as_str()));
        assert_eq!(track.segments, 2 + seed % 4);
        assert!(track.sources[0].path.ends_with(&format!(".parquet#row {row}")), "{}", track.sources[0].path);
    }
    // The split keeps artists together.
    for artist in 0..3 {
        let name = format!("artist {artist}");
        let sides: Vec<_> =
            tracks.iter().filter(|t| t.artist.as_deref() == Some(&name)).map(|t| t.split).collect();
        assert!(sides.windows(2).all(|pair| pair[0] == pair[1]), "{sides:?}");
    }
    assert_eq!((run(&options).encoded, run(&options).reused), (0, 9));
    // A changed shard is read again; what it still holds is not encoded again.
    write_shard(&data.join("train-00001-of-00002.parquet"), &[7, 9, 0]);
    let summary = run(&options);
    assert_eq!((summary.encoded, summary.reused), (1, 8));
}

#[test]
fn any_order_of_reading_gives_the_right_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let rows = 200;
    let cells: Vec<Option<Vec<u8>>> =
        (0..rows).map(|n| (n % 7 != 3).then(|| vec![n as u8; 1 + n * 11])).collect();
    write(&path, "message schema { optional binary audio; }", "", 80, &[(1, Cells::Bytes(cells.clone()))]);
    let tracks = of(&path, &TableOptions::default()).tracks;
    assert_eq!(tracks.len(), rows);
    let by_row =
        |row: usize| tracks.iter().find(|track| track.name == format!("x.parquet#row {row}")).unwrap();
    let mut at = 0;
    for _ in 0..300 {
        at = (at * 5 + 17) % rows;
        for row in [at, (at + 3) % rows, (at + 1) % rows] {
            match (&cells[row], by_row(row).bytes()) {
                (Some(cell), Ok(bytes)) => assert_eq!(&bytes, cell, "row {row}"),
                (None, Err(error)) => assert!(error.to_string().contains("holds no recording"), "{error}"),
                (cell, got) => panic!("row {row}: {cell:?} {got:?}"),
            }
        }
    }
}

#[test]
fn columns_that_cannot_be_guessed_are_named_by_the_error_and_taken_from_the_flags() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let schema =
        "message schema { optional binary left; optional binary right; optional binary words (UTF8); }";
    let sound = |n: u8| Cells::Bytes(vec![Some(vec![n; 4])]);
    write(&path, schema, "", 9, &[(1, sound(1)), (1, sound(2)), (1, texts(&["loud"]))]);
    let guessed = reasons(&of(&path, &TableOptions::default()));
    assert!(
        guessed.contains(
            "several columns that may be recordings among left, right, words; name one with --audio-column"
        ),
        "{guessed}"
    );
    let column = |audio: &str, caption: Option<&str>| TableOptions {
        audio_column: Some(audio.to_string()),
        caption_column: caption.map(String::from),
        ..TableOptions::default()
    };
    let right = of(&path, &column("Right", Some("words")));
    assert_eq!(right.tracks[0].facts.captions, ["loud"]);
    assert_eq!(right.tracks[0].bytes().unwrap(), [2; 4]);
    for (options, why) in [
        (
            column("middle", None),
            "has no column \"middle\" (--audio-column); its columns are left, right, words",
        ),
        (
            column("left", Some("text")),
            "has no column \"text\" (--caption-column); its columns are left, right, words",
        ),
    ] {
        let reasons = reasons(&of(&path, &options));
        assert!(reasons.contains(why), "{reasons}");
    }
    let schema = "message schema { optional binary a (UTF8); optional int64 b; }";
    write(&path, schema, "", 9, &[(1, texts(&["x"])), (1, Cells::Numbers(vec![None]))]);
    let none = reasons(&of(&path, &TableOptions::default()));
    assert!(none.contains("no column of recordings or file names among a, b"), "{none}");
}

#[test]
fn a_metadata_parquet_names_files() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.wav"), b"sound").unwrap();
    let schema = "message schema { optional binary file_name (UTF8); optional binary text (UTF8); }";
    let rows = [(1, texts(&["a.wav", "../b.wav"])), (1, texts(&["calm", "evil"]))];
    write(&folder.path().join("metadata.parquet"), schema, "", 9, &rows);
    let found = of(folder.path(), &TableOptions::default());
    assert_eq!(found.tracks[0].facts.captions, ["calm"]);
    assert!(reasons(&found).contains("leads out of the table's folder"), "{}", reasons(&found));
}

#[test]
fn damaged_tables_and_cells_cost_one_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    write_shard(&path, &[0, 1, 2, 3, 5]);
    let good = fs::read(&path).unwrap();
    for (name, bytes) in [
        ("cut", &good[..good.len() / 2]),
        ("tail", &good[good.len() / 2..]),
        ("noise", &[7; 4096][..]),
        ("magic", b"PAR1PAR1"),
        ("empty", b""),
    ] {
        fs::write(&path, bytes).unwrap();
        let found = of(&path, &TableOptions::default());
        let line = reasons(&found);
        assert_eq!((found.tracks.len(), found.problems.len()), (0, 1), "{name}: {line}");
        assert!(line.contains("cannot be read as a parquet table") && !line.contains('\n'), "{name}: {line}");
    }
    // Every byte of the beginning and of the footer changed in turn: never a panic, and the other rows survive a bad cell.
    let footer = good.len() - 400;
    for at in (4..200).step_by(13).chain((footer..good.len()).step_by(7)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x5a;
        fs::write(&path, bytes).unwrap();
        for track in of(&path, &TableOptions::default()).tracks {
            let _ = track.bytes();
        }
    }
    let mut bytes = good.clone();
    let pages = bytes.windows(4).position(|bytes| bytes == b"RIFF").unwrap();
    bytes[pages..pages + 40].fill(0xff);
    fs::write(&path, bytes).unwrap();
    let summary = run(&options(&path, &folder.path().join("out")));
    assert!(!summary.skipped.is_empty() && summary.tracks() > 0, "{summary}");
    assert!(
        summary.skipped.iter().all(|problem| problem.to_string().contains("x.parquet#row ")),
        "{summary}"
    );
}
