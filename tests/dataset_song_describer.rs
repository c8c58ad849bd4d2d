//! The Song Describer data set and its re-uploads, with all their traps.

mod dataset_common;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use dataset_common::{options, write_song};
use dit_engine::dataset::manifest::{TrackRecord, read_manifest};
use dit_engine::dataset::prepare::Phase;
use dit_engine::dataset::table::TableOptions;
use dit_engine::dataset::{PrepareOptions, Progress, prepare};

static GO: AtomicBool = AtomicBool::new(false);

const TABLE: &str = "caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,duration\n\
    1,1004034,\"A calm song.\nIt has a piano.\",True,0,7,70,34/1004034.mp3,312.5\n\
    2,1004034,\"Une chanson très calme\",,1,7,70,34/1004034.mp3,312.5\n\
    3,1004034,not about this song,False,0,7,70,34/1004034.mp3,312.5\n\
    4,205,loud drums,True,0,7,71,05/205.mp3,200\n\
    5,99,only a wrong caption,False,0,8,72,99/99.mp3,100\n";

/// The official layout (`audio`), or a re-upload's (`music`, `music_data.csv`).
fn lay_out(folder: &Path, audio: &str, table: &str) {
    for (n, name) in ["34/1004034", "05/205", "99/99"].into_iter().enumerate() {
        let path = folder.join(audio).join(format!("{name}.2min.mp3"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Decoded by content, so that a WAV serves for the MP3.
        write_song(&path, 3.0, 0.8, n as u32);
    }
    fs::write(folder.join(table), TABLE).unwrap();
    fs::write(folder.join("audio_licenses.txt"), "34/1004034.mp3: CC BY-NC 3.0 / Ann\n05/205.mp3: CC0\n")
        .unwrap();
}

/// Keeps what it is told before the work begins.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn begin(&self, phase: Phase, _: usize, _: u64) {
        self.0.lock().unwrap().push(format!("{phase:?}"));
    }
    fn advance(&self, _: u64) {}
    fn notice(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_string());
    }
}

fn run(options: &PrepareOptions) -> (Vec<TrackRecord>, Vec<String>, Vec<String>) {
    let told = Told::default();
    let summary = prepare(options, &GO, &told).unwrap();
    let tracks = read_manifest(&options.out).unwrap().0;
    (tracks, summary.warnings, told.0.into_inner().unwrap())
}

#[test]
fn both_layouts_give_valid_captions_artists_and_licences() {
    for (audio, table) in [("audio", "song_describer.csv"), ("music", "music_data.csv")] {
        let folder = tempfile::tempdir().unwrap();
        lay_out(folder.path(), audio, table);
        let options = options(folder.path(), &folder.path().join("out"));
        let (tracks, warnings, told) = run(&options);
        let find = |name: &str| {
            tracks.iter().find(|track| track.file == format!("{audio}/{name}.2min.mp3")).unwrap()
        };
        let first = find("34/1004034");
        assert_eq!(first.captions, ["A calm song. It has a piano.", "Une chanson très calme"]);
        assert_eq!(
            (first.artist.as_deref(), first.licence.as_deref()),
            (Some("7"), Some("CC BY-NC 3.0 / Ann"))
        );
        // The file's own length, not the full track's of the table.
        assert!(first.seconds < 1.0, "{}", first.seconds);
        assert_eq!(first.split, find("05/205").split);
        // Its caption is not valid; its sound is there all the same.
        assert!(find("99/99").captions.is_empty());
        let left_out =
            warnings.iter().filter(|line| line.contains("2 rows that it marks as not valid were left out"));
        assert_eq!(left_out.count(), 1, "{warnings:?}");
        assert!(told[0].contains("discourages training on it") && told[1] == "Identify", "{told:?}");
    }
}

#[test]
fn rows_that_are_not_valid_are_taken_on_request() {
    let folder = tempfile::tempdir().unwrap();
    lay_out(folder.path(), "audio", "song_describer.csv");
    let mut options = options(&folder.path().join("song_describer.csv"), &folder.path().join("out"));
    assert_eq!(run(&options).0.len(), 2);
    options.tables = TableOptions { keep_invalid: true, ..TableOptions::default() };
    let (tracks, warnings, _) = run(&options);
    assert_eq!(tracks.iter().map(|track| track.captions.len()).sum::<usize>(), 5);
    assert!(!warnings.iter().any(|line| line.contains("not valid")), "{warnings:?}");
}

#[test]
fn another_table_is_not_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    write_song(&folder.path().join("a.wav"), 3.0, 0.8, 1);
    fs::write(folder.path().join("metadata.csv"), "file_name,caption\na.wav,calm\n").unwrap();
    let (_, _, told) = run(&options(folder.path(), &folder.path().join("out")));
    assert_eq!(told[0], "Identify");
}
