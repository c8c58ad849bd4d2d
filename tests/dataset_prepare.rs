//! The pipeline: shards, statistics, reuse, interruption, damage.

mod dataset_common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use dataset_common::{SEGMENT_SAMPLES, options, write_song};
use dit_engine::dataset::config::Storage;
use dit_engine::dataset::manifest::{DatasetInfo, read_manifest};
use dit_engine::dataset::prepare::Phase;
use dit_engine::dataset::{PrepareOptions, Progress, Split, Summary, prepare};
use dit_engine::inspect::inspect;
use dit_engine::{Error, Result};

static GO: AtomicBool = AtomicBool::new(false);

fn run(options: &PrepareOptions) -> Result<Summary> {
    prepare(options, &GO, &())
}

/// Eight songs of different lengths with captions, in DIR/music; the data set goes to DIR/out.
fn studio() -> (tempfile::TempDir, PrepareOptions) {
    let folder = tempfile::tempdir().unwrap();
    let music = folder.path().join("music");
    fs::create_dir(&music).unwrap();
    let mut table = String::from("file_name,caption\n");
    for n in 0..8 {
        write_song(&music.join(format!("song{n}.wav")), 2.0 + f64::from(n), 0.8, n);
        table += &format!("song{n}.wav,song number {n}\n");
    }
    fs::write(music.join("metadata.csv"), table).unwrap();
    let options = options(&music, &folder.path().join("out"));
    (folder, options)
}

/// Every file under the folder with its content.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for folder in [dir.to_path_buf(), dir.join("shards")] {
        for entry in
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file())
        {
            files.insert(entry.strip_prefix(dir).unwrap().display().to_string(), fs::read(&entry).unwrap());
        }
    }
    files
}

fn shard_times(dir: &Path) -> BTreeMap<String, SystemTime> {
    let entries = fs::read_dir(dir.join("shards")).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().modified().unwrap()))
        .collect()
}

#[test]
fn shards_hold_what_the_manifest_says() {
    let (_folder, options) = studio();
    let summary = run(&options).unwrap();
    assert_eq!((summary.tracks(), summary.encoded, summary.reused), (8, 8, 0));
    assert_eq!(summary.segments(), (2..10).sum::<usize>());
    let (tracks, _) = read_manifest(&options.out).unwrap();
    for track in &tracks {
        let bytes = fs::read(options.out.join(&track.shard)).unwrap();
        let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let segments = shard.tensor("segments").unwrap();
        assert_eq!(segments.shape(), [track.segments, 1, 16, 16]);
        assert_eq!(segments.dtype(), safetensors::Dtype::F16);
        let number: usize = track.file["song".len()..][..1].parse().unwrap();
        assert_eq!(track.captions, [format!("song number {number}")]);
        assert_eq!(track.segments, number + 2);
        assert_eq!((track.codec.as_str(), track.sample_rate, track.channels), ("pcm_s16le", 8000, 1));
    }
}

#[test]
fn statistics_are_those_of_the_training_segments() {
    let (_folder, mut options) = studio();
    options.config.cut.storage = Storage::F32;
    run(&options).unwrap();
    let info = DatasetInfo::read(&options.out).unwrap().unwrap();
    let mut rows = vec![Vec::new(); 16];
    for track in read_manifest(&options.out).unwrap().0.iter().filter(|track| track.split == Split::Train) {
        let bytes = fs::read(options.out.join(&track.shard)).unwrap();
        let shard = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let values = shard.tensor("segments").unwrap();
        let values = values.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        values.enumerate().for_each(|(n, value)| rows[n / 16 % 16].push(f64::from(value)));
    }
    for (row, values) in rows.iter().enumerate() {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
        approx::assert_relative_eq!(f64::from(info.statistics.mean[row]), mean, max_relative = 1e-6);
        approx::assert_relative_eq!(
            f64::from(info.statistics.deviation[row]),
            variance.sqrt(),
            max_relative = 1e-6
        );
    }
}

#[test]
fn a_second_run_touches_no_shard_and_changes_no_bit() {
    let (_folder, options) = studio();
    run(&options).unwrap();
    let (files, times) = (contents(&options.out), shard_times(&options.out));
    let summary = run(&options).unwrap();
    assert_eq!((summary.encoded, summary.reused), (0, 8));
    assert_eq!(contents(&options.out), files);
    assert_eq!(shard_times(&options.out), times);
}

#[test]
fn only_what_is_new_is_encoded_and_the_old_keeps_its_side() {
    let (_folder, options) = studio();
    run(&options).unwrap();
    let (before, times) = (read_manifest(&options.out).unwrap().0, shard_times(&options.out));
    write_song(&options.sources[0].join("new.wav"), 3.0, 0.8, 99);
    let summary = run(&options).unwrap();
    assert_eq!((summary.encoded, summary.reused), (1, 8));
    let after = read_manifest(&options.out).unwrap().0;
    assert_eq!(after.len(), 9);
    assert!(before.iter().all(|track| after.contains(track)));
    let times_after = shard_times(&options.out);
    assert!(times.iter().all(|(name, time)| times_after[name] == *time));
}

/// Stops the run once so many bytes are done.
struct StopAfter<'a> {
    bytes: AtomicU64,
    limit: u64,
    stop: &'a AtomicBool,
}

impl Progress for StopAfter<'_> {
    fn begin(&self, _: Phase, _: usize, _: u64) {}

    fn advance(&self, bytes: u64) {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.limit {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn stopped_anywhere_and_run_again_gives_the_same_bits() {
    let (folder, options) = studio();
    run(&options).unwrap();
    let whole = contents(&options.out);
    // Two phases over the same bytes: points in the hashing, in the encoding, and (the last) after both.
    let total: u64 = 2 * (2..10).map(|segments| segments * SEGMENT_SAMPLES as u64 * 2).sum::<u64>();
    for part in 1..12 {
        let options = PrepareOptions { out: folder.path().join(format!("out{part}")), ..options.clone() };
        let stop = AtomicBool::new(false);
        let progress = StopAfter { bytes: AtomicU64::new(0), limit: total * part / 12, stop: &stop };
        let stopped = prepare(&options, &stop, &progress);
        assert!(matches!(stopped, Err(Error::Interrupted)), "part {part}: {stopped:?}");
        assert!(!contents(&options.out).keys().any(|name| name.ends_with(".tmp")));
        let made = fs::read_dir(options.out.join("shards")).unwrap().count();
        let summary = run(&options).unwrap();
        assert_eq!((summary.reused, summary.encoded), (made, 8 - made), "part {part}");
        assert_eq!(contents(&options.out), whole, "part {part}");
    }
}

#[test]
fn damage_and_debris_are_repaired() {
    let (_folder, options) = studio();
    run(&options).unwrap();
    let whole = contents(&options.out);
    let shards: Vec<&String> = whole.keys().filter(|name| name.starts_with("shards/")).collect();
    let at = |name: &str| options.out.join(name);
    fs::remove_file(at(shards[0])).unwrap();
    fs::write(at(shards[1]), &whole[shards[1]][..whole[shards[1]].len() - 1]).unwrap();
    fs::write(at(shards[2]), b"").unwrap();
    fs::write(at(shards[3]), [0xff; 100]).unwrap();
    let mut flipped = whole[shards[4]].clone();
    *flipped.last_mut().unwrap() ^= 1;
    fs::write(at(shards[4]), flipped).unwrap();
    fs::write(at("shards/x.safetensors.tmp"), b"half").unwrap();
    fs::write(at("manifest.jsonl"), b"{half a line").unwrap();
    fs::remove_file(at("dataset.json")).unwrap();
    let summary = run(&options).unwrap();
    assert_eq!((summary.encoded, summary.reused), (5, 3));
    assert_eq!(contents(&options.out), whole);
}

#[test]
fn inspect_names_a_shard_with_a_flipped_bit() {
    let (_folder, options) = studio();
    run(&options).unwrap();
    assert_eq!(inspect(&options.out).unwrap().problems, Vec::<String>::new());
    let (tracks, _) = read_manifest(&options.out).unwrap();
    let shard = options.out.join(&tracks[3].shard);
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let problems = inspect(&options.out).unwrap().problems;
    let expected =
        format!("1 shards are damaged, the first is {}; run the same prepare command again", tracks[3].shard);
    assert_eq!(problems, [expected]);
    assert!(inspect(&shard).unwrap().problems[0].contains("damaged (checksum)"));
}

#[test]
fn another_configuration_is_refused_with_the_key() {
    let (_folder, options) = studio();
    run(&options).unwrap();
    let whole = contents(&options.out);
    let mut other = options.clone();
    other.config.representation.hop = 64;
    let error = run(&other).unwrap_err().to_string();
    assert!(error.contains("hop") && error.contains("128") && error.contains("64"), "{error}");
    assert!(error.contains("--out"), "{error}");
    assert_eq!(contents(&options.out), whole);
    // What only matters for decoding may change, and so may the split.
    other = options.clone();
    other.config.representation.griffin_lim_iterations += 1;
    other.validation = 0.5;
    assert_eq!(run(&other).unwrap().reused, 8);
}

#[test]
fn copies_are_kept_once_with_all_captions() {
    let (_folder, options) = studio();
    let music = &options.sources[0];
    fs::copy(music.join("song3.wav"), music.join("copy.wav")).unwrap();
    fs::write(music.join("copy.txt"), "the copy").unwrap();
    let summary = run(&options).unwrap();
    assert_eq!(summary.tracks(), 8);
    assert_eq!(summary.copies, ["song3.wav = copy.wav"]);
    let tracks = read_manifest(&options.out).unwrap().0;
    let track = tracks.iter().find(|track| track.sources.len() == 2).unwrap();
    assert_eq!(track.captions, ["the copy", "song number 3"]);
}

#[test]
fn what_cannot_be_used_is_named_and_strict_refuses_it() {
    let (_folder, mut options) = studio();
    let music = options.sources[0].clone();
    fs::write(music.join("text.mp3"), "this is no music\n".repeat(100)).unwrap();
    write_song(&music.join("silent.wav"), 3.0, 0.0, 1);
    let summary = run(&options).unwrap();
    assert_eq!((summary.tracks(), summary.skipped.len()), (8, 2));
    let lines = summary.to_string();
    assert!(lines.contains("text.mp3: "), "{lines}");
    assert!(lines.contains("silent.wav: is silent"), "{lines}");
    assert_eq!(run(&options).unwrap().encoded, 0);
    options.strict = true;
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("text.mp3") && error.contains("--strict"), "{error}");
    fs::remove_file(music.join("text.mp3")).unwrap();
    assert!(run(&options).unwrap_err().to_string().contains("silent.wav"));
}

#[test]
fn nothing_usable_is_an_error_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), &folder.path().join("out"));
    assert!(run(&options).unwrap_err().to_string().contains("no audio files found"));
    fs::write(folder.path().join("a.wav"), b"").unwrap();
    let error = run(&options).unwrap_err().to_string();
    assert!(error.contains("a.wav"), "{error}");
}

#[test]
fn segments_overlap_are_padded_and_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let song = folder.path().join("song.wav");
    let segments = |length: f64, change: &dyn Fn(&mut PrepareOptions)| {
        write_song(&song, length, 0.8, 5);
        let out = tempfile::tempdir().unwrap();
        let mut options = options(&song, out.path());
        change(&mut options);
        run(&options).unwrap().segments()
    };
    let plain = |_: &mut PrepareOptions| {};
    let half = |options: &mut PrepareOptions| options.config.cut.overlap = 0.5;
    let three = |options: &mut PrepareOptions| options.config.cut.max_segments_per_track = Some(3);
    assert_eq!(segments(4.0, &plain), 4);
    assert_eq!(segments(4.6, &plain), 5);
    assert_eq!(segments(4.4, &plain), 4);
    assert_eq!(segments(0.1, &plain), 1);
    assert_eq!(segments(4.0, &half), 7);
    assert_eq!(segments(4.3, &half), 8);
    assert_eq!(segments(20.0, &three), 3);
    assert_eq!(segments(2.0, &three), 2);
}

#[test]
fn shards_of_lost_tracks_are_kept_until_pruned() {
    let (_folder, mut options) = studio();
    run(&options).unwrap();
    fs::remove_file(options.sources[0].join("song7.wav")).unwrap();
    let summary = run(&options).unwrap();
    assert_eq!((summary.tracks(), shard_times(&options.out).len()), (7, 8));
    assert!(summary.to_string().contains("--prune"), "{summary}");
    options.prune = true;
    run(&options).unwrap();
    assert_eq!(shard_times(&options.out).len(), 7);
}
