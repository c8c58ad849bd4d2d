//! `prepare --check`: everything that is wrong with a data set is found, and nothing else.

mod dataset_common;

use std::f64::consts::TAU;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use dataset_common::{RATE, options, song_bytes, write_song};
use dit_engine::dataset::doctor::{CheckOptions, check};
use dit_engine::dataset::health::{Finding, Health, Severity};
use dit_engine::dataset::manifest::read_manifest;
use dit_engine::dataset::prepare;

static GO: AtomicBool = AtomicBool::new(false);

fn look(sources: &[PathBuf]) -> Health {
    let options = options(Path::new(""), Path::new(""));
    let options = CheckOptions { sources: sources.to_vec(), tables: options.tables, config: options.config };
    check(&options, &GO, &()).unwrap()
}

fn finding<'a>(health: &'a Health, check: &str) -> &'a Finding {
    health.findings.iter().find(|finding| finding.check == check).unwrap()
}

/// Which checks found something, and how bad.
fn told(health: &Health) -> Vec<(&'static str, Severity)> {
    let found = health.findings.iter().filter(|finding| finding.severity != Severity::Ok);
    found.map(|finding| (finding.check, finding.severity)).collect()
}

/// Tones that change every 0.4 s, at random by `seed`; every sample goes through `change`.
fn write_melody(path: &Path, rate: u32, seconds: f64, seed: u64, change: &dyn Fn(f64) -> f64) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let tone = |note: u64, voice: u64| {
        let mixed = (note * 7 + voice + 1 + seed * 1009).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let drawn = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        220.0 * (drawn as f64 / f64::from(1 << 24) * 3.8).exp2()
    };
    for n in 0..(seconds * f64::from(rate)) as usize {
        let time = n as f64 / f64::from(rate);
        let note = (time / 0.4) as u64;
        let sum: f64 = (0..3).map(|voice| (TAU * tone(note, voice) * time).sin()).sum();
        writer.write_sample((change(0.3 * sum).clamp(-1.0, 1.0) * 32767.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}

/// Three songs by two artists, with captions and licences.
fn healthy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut table = String::from("file_name,caption,artist,license,genre,split\n");
    for (n, artist, side) in [(0, "Ann", "train"), (1, "Ann", "train"), (2, "Ben", "test")] {
        write_melody(&folder.path().join(format!("{n}.wav")), RATE, 12.0, n, &|x| x);
        table += &format!("{n}.wav,song {n},{artist},CC0,rock,{side}\n");
    }
    fs::write(folder.path().join("metadata.csv"), table).unwrap();
    folder
}

#[test]
fn a_healthy_data_set_has_no_findings_before_and_after() {
    let folder = healthy();
    let source = folder.path().to_path_buf();
    let health = look(std::slice::from_ref(&source));
    assert_eq!(told(&health), [], "{health}");
    assert_eq!((health.tracks, health.captions, health.artists), (3, 3, 2));
    assert_eq!(told(&look(&[source.join("metadata.csv")])), []);
    assert_eq!((health.licences["CC0"], health.genres["rock"]), (3, 3));
    let out = tempfile::tempdir().unwrap();
    prepare(&options(&source, out.path()), &GO, &()).unwrap();
    let prepared = look(&[out.path().to_path_buf()]);
    assert_eq!(told(&prepared), [], "{prepared}");
    assert_eq!((prepared.tracks, prepared.captions), (3, 3));
}

#[test]
fn what_is_wrong_with_recordings_is_found_by_name() {
    let folder = healthy();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("text.mp3"), "this is no music\n".repeat(100)).unwrap();
    fs::copy(at("0.wav"), at("copy.wav")).unwrap();
    write_song(&at("silent.wav"), 30.0, 0.0, 1);
    write_melody(&at("loud.wav"), RATE, 13.5, 70, &|x| 3.0 * x);
    write_song(&at("short.wav"), 0.3, 0.8, 5);
    // The same music at another rate, level and place, with noise.
    write_melody(&at("again.wav"), 11_025, 12.03, 1, &|x| 0.4 * (x + 0.02 * (x * 9e6).sin()));
    let health = look(&[folder.path().to_path_buf()]);
    let lines = |check: &str| finding(&health, check).items.join("\n");
    for (check, name) in [
        ("readable", "text.mp3: is text, not audio"),
        ("copies", "copy.wav = 0.wav"),
        ("same music", "again.wav ~ 1.wav ("),
        ("silence", "silent.wav"),
        ("clipping", "loud.wav: "),
        ("length", "short.wav: 0.0"),
    ] {
        assert!(lines(check).contains(name), "{check}: {health}");
        assert_eq!(finding(&health, check).items.len(), 1, "{check}: {health}");
    }
    let problems = ["readable", "same music", "silence", "clipping", "length"];
    for found in &health.findings {
        assert_eq!(found.severity == Severity::Problem, problems.contains(&found.check), "{health}");
    }
}

#[test]
fn captions_artists_and_sides_that_spoil_training_are_found() {
    let folder = healthy();
    let rows = "file_name,caption,artist,genre,split\n0.wav,a song,Ann,rock,train\n1.wav,A song,ann ,rock,test\n2.wav,,,jazz,train,odd\n";
    fs::write(folder.path().join("metadata.csv"), rows).unwrap();
    for n in 3..8 {
        write_melody(&folder.path().join(format!("{n}.wav")), RATE, 12.0, n, &|x| x);
        fs::write(folder.path().join(format!("{n}.txt")), "a song").unwrap();
    }
    let health = look(&[folder.path().to_path_buf()]);
    assert!(finding(&health, "damage").items[0].contains("line 4 has 6 fields, the header 5"), "{health}");
    assert_eq!(finding(&health, "leakage").items, ["ann: 1 train, 1 held out"]);
    assert_eq!(finding(&health, "repeated captions").items, ["7 tracks: a song"]);
    assert_eq!(
        finding(&health, "captions").items,
        Vec::<String>::new(),
        "jazz is a caption of labels: {health}"
    );
    assert_eq!(finding(&health, "balance").items, ["2 rock", "1 jazz"]);
    assert_eq!(finding(&health, "artists").items.len(), 6);
    assert_eq!(finding(&health, "licences").items.len(), 8);
    use Severity::{Note, Problem};
    let expected = [
        ("damage", Note),
        ("repeated captions", Problem),
        ("balance", Note),
        ("leakage", Problem),
        ("artists", Note),
        ("licences", Note),
    ];
    assert_eq!(told(&health), expected, "{health}");
}

#[test]
fn a_prepared_folder_is_looked_over_too() {
    let folder = healthy();
    // The same music twice, on both sides.
    write_melody(&folder.path().join("again.wav"), RATE, 12.03, 1, &|x| 0.5 * x);
    let table = fs::read_to_string(folder.path().join("metadata.csv")).unwrap();
    fs::write(folder.path().join("metadata.csv"), table + "again.wav,again,Ann,CC0,rock,test\n").unwrap();
    let out = tempfile::tempdir().unwrap();
    let options = options(folder.path(), out.path());
    prepare(&options, &GO, &()).unwrap();
    let prepared = || look(&[out.path().to_path_buf()]);
    let health = prepared();
    assert_eq!(finding(&health, "leakage").items, ["ann: 2 train, 1 held out"], "{health}");
    let same = finding(&health, "same music").items.join("\n");
    assert!(same.contains("again.wav") && same.contains("1.wav") && same.contains("both sides"), "{health}");
    assert_eq!(health.problems(), 2, "{health}");
    let shard = out.path().join(&read_manifest(out.path()).unwrap().0[0].shard);
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&shard, bytes).unwrap();
    let damaged = finding(&prepared(), "readable").items.join("\n");
    assert!(damaged.contains(&shard.display().to_string()), "{damaged}");
    fs::write(out.path().join("manifest.jsonl"), "").unwrap();
    assert!(finding(&prepared(), "readable").items[0].contains("was not finished"));
}

#[test]
fn the_program_prints_a_table_writes_json_and_its_exit_code_says_whether_there_is_a_problem() {
    let folder = healthy();
    let json = folder.path().join("health.json");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dit-engine"));
        let command = command.arg("prepare").arg("--check").arg(folder.path()).arg("--json").arg(&json);
        let output = command.output().unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), written)
    };
    let (code, table, written) = run();
    assert_eq!(code, Some(0), "{table}");
    assert!(
        table.contains("3 tracks, 0.6 minutes, 3 captions, 2 artists") && table.ends_with("no problems\n"),
        "{table}"
    );
    assert_eq!(written["findings"].as_array().unwrap().len(), 13);
    fs::write(folder.path().join("cut.wav"), &song_bytes(3.0, 9)[..20]).unwrap();
    let (code, table, written) = run();
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("cut.wav: ") && table.ends_with("1 check found a problem\n"), "{table}");
    assert_eq!(written["findings"][0]["severity"], "problem");
    let nothing = Command::new(env!("CARGO_BIN_EXE_dit-engine"))
        .args(["prepare", "--check", "/no/such"])
        .output()
        .unwrap();
    assert_eq!(nothing.status.code(), Some(1));
}
