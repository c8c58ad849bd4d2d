//! `log.jsonl`: what stands in it, and that resumes leave one consistent history.

use std::fs;
use std::path::Path;

use dit_engine::train::log::{Log, LogLine};

fn line(step: u64, loss: f32) -> LogLine {
    LogLine {
        step,
        loss,
        smoothed_loss: 0.5,
        lr: 1e-4,
        grad_norm: 2.0,
        samples_per_s: 31.5,
        wait_ms: 0.25,
        time: 1.76e9,
    }
}

fn write(path: &Path, first_step: u64, steps: std::ops::Range<u64>, loss: f32) {
    let mut log = Log::open(path, first_step).unwrap();
    steps.for_each(|step| log.write(&line(step, loss)).unwrap());
}

/// (step, loss) of every line.
fn read(path: &Path) -> Vec<(u64, f64)> {
    let parse = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        (line["step"].as_u64().unwrap(), line["loss"].as_f64().unwrap())
    };
    fs::read_to_string(path).unwrap().lines().map(parse).collect()
}

#[test]
fn a_line_holds_every_field_and_is_there_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    let mut log = Log::open(&path, 0).unwrap();
    log.write(&line(0, 1.5)).unwrap();
    let text = fs::read_to_string(&path).unwrap(); // while the log is still open
    let want = r#"{"step":0,"loss":1.5,"smoothed_loss":0.5,"lr":0.0001,"grad_norm":2.0,"samples_per_s":31.5,"wait_ms":0.25,"time":1760000000.0}"#;
    assert_eq!(text, format!("{want}\n"));
    log.write(&line(1, f32::NAN)).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(r#""loss":null"#), "still JSON");
}

#[test]
fn a_resume_drops_what_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    write(&path, 0, 0..8, 1.0);
    write(&path, 5, 5..7, 2.0);
    let want = [(0, 1.0), (1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 2.0), (6, 2.0)];
    assert_eq!(read(&path), want);
    write(&path, 7, 7..8, 3.0);
    assert_eq!(read(&path), [&want[..], &[(7, 3.0)]].concat());
    write(&path, 0, 0..1, 4.0);
    assert_eq!(read(&path), [(0, 4.0)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the log");
}

#[test]
fn a_line_cut_off_by_a_kill_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    write(&path, 0, 0..3, 1.0);
    let whole = fs::read(&path).unwrap();
    let line_length = whole.len() / 3;
    for missing in 1..line_length {
        fs::write(&path, &whole[..whole.len() - missing]).unwrap();
        write(&path, 9, 9..10, 2.0);
        assert_eq!(read(&path), [(0, 1.0), (1, 1.0), (9, 2.0)], "{missing} bytes missing");
    }
}

#[test]
fn a_foreign_line_is_named_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.jsonl");
    fs::write(&path, "{\"step\":0,\"older\":true}\nnot JSON\n").unwrap();
    let message = Log::open(&path, 5).unwrap_err().to_string();
    assert!(message.contains("log.jsonl: line 2") && message.contains("delete"), "{message}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":0,\"older\":true}\nnot JSON\n");
    fs::write(&path, "{\"step\":0,\"older\":true}\n").unwrap();
    write(&path, 5, 5..5, 1.0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":0,\"older\":true}\n", "lines stay as they are");
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = Log::open(&folder.path().join("missing/log.jsonl"), 0).unwrap_err().to_string();
    assert!(message.contains("missing"), "{message}");
}
