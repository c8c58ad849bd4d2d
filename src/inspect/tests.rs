use std::fs;
use std::path::Path;

use super::*;
use crate::audio::Normalizer;
use crate::audio::wav::{self, WavNotes};
use crate::config::Overrides;
use crate::dataset::config::{CutConfig, DatasetConfig};
use crate::dataset::manifest::{DatasetInfo, write_manifest};
use crate::dit::Dit;
use crate::train::checkpoint::Checkpoint;

fn config() -> Config {
    let mut overrides = Overrides::default();
    for setting in [
        "model.image=[8,12]",
        "model.patch=[4,4]",
        "model.dim=12",
        "model.heads=3",
        "model.depth=1",
        "train.steps=1000",
    ] {
        overrides.add_setting(setting).unwrap();
    }
    Config::resolve("demo", &overrides).unwrap()
}

fn checkpoint(step: u64) -> (Checkpoint, Dit) {
    let config = config();
    let dit = Dit::new(&config.model, &config.text).unwrap();
    let weights = dit.layout().initial_values(0);
    let checkpoint = Checkpoint {
        step,
        hearing: None,
        fingerprint: "feed".to_string(),
        mean: vec![0.0; 8],
        deviation: vec![1.0; 8],
        range: Vec::new(),
        best_loss: Some(0.25),
        ema: weights.iter().map(|w| 1.5 * w).collect(),
        first: vec![0.0; weights.len()],
        second: vec![0.0; weights.len()],
        weights,
        config,
    };
    (checkpoint, dit)
}

fn save(path: &Path, step: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (checkpoint, dit) = checkpoint(step);
    checkpoint.save(path, dit.layout()).unwrap();
}

fn text_of<'a>(report: &'a Report, name: &str) -> &'a str {
    &report.facts.iter().find(|fact| fact.name == name).unwrap_or_else(|| panic!("no {name}: {report}")).text
}

#[test]
fn a_checkpoint_tells_its_step_model_and_norms() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints/last.safetensors");
    save(&path, 300);
    let report = inspect(&path).unwrap();
    assert_eq!((report.kind, report.problems.len()), ("checkpoint", 0));
    assert_eq!(text_of(&report, "step"), "300 of 1,000");
    assert!(text_of(&report, "model").starts_with("1 blocks (adaln_zero) of 12 features, 3 heads"));
    assert_eq!(text_of(&report, "best loss"), "0.25000 (validation)");
    // The EMA is 1.5 times the weights.
    let json = report.to_json();
    assert!((json["ema"]["distance"].as_f64().unwrap() - 0.5).abs() < 1e-6);
    assert_eq!(json["parameters"], checkpoint(0).1.layout().count());
    assert_eq!(json["complete"], true);
    assert!(report.to_string().lines().count() > 10);
}

#[test]
fn numbers_that_are_none_are_counted_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.safetensors");
    let (mut bad, dit) = checkpoint(1);
    let span = dit.layout().find("blocks.0.mlp.0.weight").unwrap();
    bad.ema[span.range.start] = f32::NAN;
    bad.ema[span.range.end - 1] = f32::INFINITY;
    bad.save(&path, dit.layout()).unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!(report.problems, ["2 values of ema.blocks.0.mlp.0.weight are NaN or infinite"]);
    assert_eq!(report.to_json()["complete"], false);
    assert!(
        report.to_string().ends_with("PROBLEM: 2 values of ema.blocks.0.mlp.0.weight are NaN or infinite")
    );
}

#[test]
fn a_run_tells_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("config.toml"), config().to_toml()).unwrap();
    let log = [
        r#"{"kind":"step","step":1,"loss":2.0,"smoothed_loss":2.0,"gradient_norm":1.0,"lr":0.1,"samples_per_second":9.0,"wait_ms":0.0}"#,
        r#"{"kind":"validation","step":1,"loss":0.5,"bins":[null],"samples":3}"#,
        r#"{"kind":"step","step":2,"loss":1.0,"smoothed_loss":1.9,"gradient_norm":1.0,"lr":0.1,"samples_per_second":8.0,"wait_ms":0.0}"#,
        r#"{"kind":"validation","step":2,"loss":0.75,"bins":[null],"samples":3}"#,
        r#"{"kind":"st"#,
    ];
    fs::write(path.join("log.jsonl"), log.join("\n")).unwrap();
    save(&path.join("checkpoints/last.safetensors"), 2);
    fs::create_dir_all(path.join("samples/step-000002")).unwrap();
    fs::write(path.join("checkpoints/broken.safetensors"), "nothing").unwrap();
    let report = inspect(path).unwrap();
    assert_eq!(report.kind, "run");
    assert_eq!(text_of(&report, "step"), "2 of 1,000: running or stopped");
    assert_eq!(text_of(&report, "loss"), "1.00000, smoothed 1.90000");
    assert_eq!(text_of(&report, "validation"), "0.75000 at step 2, best 0.50000 at step 1");
    assert_eq!(text_of(&report, "checkpoints"), "last.safetensors (step 2)");
    assert_eq!(report.problems.len(), 2, "{report}");
    assert!(report.problems[0].ends_with("broken.safetensors: is not a safetensors file"));
    let checkpoint = inspect(&path.join("checkpoints/last.safetensors")).unwrap();
    assert_eq!(text_of(&checkpoint, "loss"), "1.90000 (smoothed, from the run's log)");
}

#[test]
fn a_data_set_tells_what_is_in_it_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let config = DatasetConfig { representation: config().data, cut: CutConfig::default() };
    let mut info = DatasetInfo::unfinished(config, 0.1, [1, 8, 12]);
    info.write(path).unwrap();
    let report = inspect(path).unwrap();
    assert_eq!((report.kind, text_of(&report, "complete")), ("data set", "no"));
    assert_eq!(report.problems.len(), 1);

    let track = serde_json::from_value(json!({
        "file": "a.mp3", "sources": [], "content": "00", "captions": ["calm"], "licence": "CC0", "split": "train",
        "seconds": 30.0, "segments": 7, "silent_segments": 2, "codec": "mp3", "sample_rate": 44100, "channels": 2,
        "shard": "shards/00.safetensors"
    }));
    info.manifest_sha256 = write_manifest(path, &[track.unwrap()]).unwrap();
    (info.complete, info.fingerprint) = (true, "feed".to_string());
    (info.train.tracks, info.train.seconds) = (1, 30.0);
    info.statistics = Normalizer { mean: vec![0.0; 8], deviation: vec![1.0; 8], range: Vec::new() };
    info.write(path).unwrap();
    let report = inspect(path).unwrap();
    assert!(text_of(&report, "train").starts_with("1 tracks, 0 segments, 30.0 s of sound"));
    assert_eq!((text_of(&report, "codecs"), text_of(&report, "licences")), ("mp3 (1)", "CC0 (1)"));
    assert_eq!(report.problems, ["1 shards are missing; run the same prepare command again"]);
}

#[test]
fn a_sound_tells_its_recipe_and_its_faults() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let recipe = json!({ "version": "0.1.0", "seed": 7, "number": 3, "sampler": "ddim", "config": "long" });
    let notes = WavNotes { recipe: Some(recipe.to_string()), ..WavNotes::default() };
    let sine: Vec<f32> = (0..8000).map(|i| 0.5 * (i as f32 * 0.1).sin()).collect();
    wav::write(&path, &[sine.clone(), sine], 16_000, wav::SampleFormat::Pcm16, &notes).unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!((report.kind, report.problems.len()), ("sound", 0));
    assert_eq!((text_of(&report, "length"), text_of(&report, "channels")), ("0.5 s", "2"));
    assert_eq!(text_of(&report, "recipe"), "version 0.1.0, seed 7, number 3, sampler ddim");
    assert!(text_of(&report, "level").starts_with("-9.0 dBFS, peak 0.500"), "{report}");
    assert_eq!(report.to_json()["recipe"], recipe);

    wav::write(&path, &[vec![0.0; 100]], 16_000, wav::SampleFormat::Float32, &WavNotes::default()).unwrap();
    let report = inspect(&path).unwrap();
    assert!(text_of(&report, "recipe").starts_with("none"));
    assert!(report.problems[0].starts_with("silent"), "{report}");
    let text = report.to_json().to_string();
    assert!(text.contains("\"rms_dbfs\":null"), "{text}");

    wav::write(&path, &[vec![2.0, f32::NAN]], 16_000, wav::SampleFormat::Float32, &WavNotes::default())
        .unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!(report.problems.len(), 2, "{report}");
}

/// As other programs write them: a chunk of odd length before the sound, a size that is not known or not true.
#[test]
fn sounds_of_others_are_read_whatever_their_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8000,
        bits_per_sample: 24,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    (0..800).for_each(|n| writer.write_sample((n % 80 - 40) << 16).unwrap());
    writer.finalize().unwrap();
    let whole = fs::read(&path).unwrap();
    let data = whole.windows(4).position(|name| name == b"data").unwrap();
    let facts = |bytes: &[&[u8]]| {
        fs::write(&path, bytes.concat()).unwrap();
        let report = inspect(&path).unwrap();
        let names = ["length", "samples", "level"];
        (names.map(|name| text_of(&report, name).to_string()), report.problems)
    };
    let expected = facts(&[&whole]);
    assert_eq!((expected.0[0].as_str(), expected.1.len()), ("0.1 s", 0), "{expected:?}");
    let (before, after) = whole.split_at(data);
    assert_eq!(facts(&[before, b"junk\x03\0\0\0abc\0", after]), expected);
    assert_eq!(facts(&[before, b"data\xff\xff\xff\xff", &after[8..]]), expected);
    assert_eq!(facts(&[before, after, b"LIST\x05\0\0\0INFOx\0"]), expected);
    let (cut, problems) = facts(&[&whole[..whole.len() - 1201]]);
    assert_eq!((cut[0].as_str(), problems.len()), ("0.0 s", 1));
    assert!(
        problems[0].starts_with("cut short: the header promises 2400 bytes of sound, 1199"),
        "{problems:?}"
    );
}

#[test]
fn absurd_levels_are_told_in_few_digits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loud.wav");
    let mut sound = vec![0.1; 100_000];
    sound[7] = 1e30;
    wav::write(&path, &[sound], 16_000, wav::SampleFormat::Float32, &WavNotes::default()).unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!(report.problems, ["less than 0.01% of samples clip (peak 1.0e30)"]);
    assert!(text_of(&report, "level").ends_with("dBFS, peak 1.0e30"), "{report}");
}

/// The value stays finite, so that only the checksum can tell.
#[test]
fn a_flipped_bit_in_a_checkpoint_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    save(&path, 1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 8 * 4;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.problems[0].contains("damaged (checksum)"), "{report}");
    assert_eq!(report.to_json()["complete"], false);
    let error = Checkpoint::load(&path).unwrap_err().to_string();
    assert!(error.contains("last.safetensors: its content is damaged (checksum)"), "{error}");
}

#[test]
fn tensors_of_others_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let values = [1.0; 6];
    let tensor =
        crate::train::tensors::Named { name: "a.weight".to_string(), shape: &[2, 3], values: &values };
    crate::train::tensors::write(&path, &Default::default(), &[tensor]).unwrap();
    let report = inspect(&path).unwrap();
    assert_eq!((report.kind, text_of(&report, "elements")), ("weights", "6"));
    assert_eq!(text_of(&report, "names"), "a.weight");
}

#[test]
fn what_is_not_known_gives_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let line = |path: &Path| {
        let line = inspect(path).unwrap_err().to_string();
        assert!(line.contains(&path.display().to_string()) && !line.contains('\n'), "{line}");
        line
    };
    assert!(line(path).contains("neither a data set"));
    assert!(line(&path.join("nothing")).starts_with("cannot read"));
    for content in [&b""[..], b"hello", b"RIFF", b"RIFFxxxxWAVEfmt ", b"{}{}{}{}{}", b"\x02\0\0\0\0\0\0\0{"] {
        fs::write(path.join("file"), content).unwrap();
        line(&path.join("file"));
    }
    fs::write(path.join("config.toml"), "model = 3").unwrap();
    line(path);
    fs::write(path.join("dataset.json"), "{}").unwrap();
    line(path);
}

#[test]
fn numbers_and_times_are_for_people() {
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    assert_eq!([0.04, 59.9, 245.0, 3723.0].map(duration), ["0.0 s", "59.9 s", "4:05 min", "1:02:03 h"]);
}
