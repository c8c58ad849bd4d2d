//! The whole program as a user runs it, and what there is to run it on.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Settings of a run of seconds.
pub const TINY: [&str; 12] = [
    "model.patch=[8,8]",
    "model.dim=32",
    "model.depth=1",
    "model.heads=2",
    "train.batch=2",
    "train.warmup=1",
    "train.validate_every=2",
    "train.validation_samples=4",
    "train.sample_every=4",
    "train.checkpoint_every=2",
    "sample.steps=3",
    "sample.count=2",
];

/// The program, in a folder.
pub fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dit-engine"));
    command.current_dir(folder).stdin(Stdio::null());
    command
}

/// A line of arguments without spaces in them.
pub fn run(folder: &Path, line: &str) -> Output {
    program(folder).args(line.split_whitespace()).output().unwrap()
}

/// `train` with [`TINY`].
pub fn train_tiny(folder: &Path, line: &str) -> Command {
    let mut command = program(folder);
    command.arg("train").args(line.split_whitespace());
    TINY.iter().for_each(|setting| {
        command.args(["--set", setting]);
    });
    command
}

/// Everything that it said.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// It worked; its output.
pub fn good(output: Output) -> String {
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    text
}

/// It failed with this code and one line that holds every one of `needles`.
pub fn bad(output: Output, code: i32, needles: &[&str]) {
    let (text, stderr) = (text(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = errors[..] else { panic!("{} lines begin with `error: `: {text}", errors.len()) };
    let is_logged = |line: &&str| {
        let start = line.trim_start();
        ["\x1b", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "20"].iter().any(|&mark| start.starts_with(mark))
    };
    assert_eq!(stderr.lines().find(is_logged), None, "a library's log: {text}");
    for needle in needles {
        assert!(line.contains(needle), "`{needle}` is not in: {line}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// Eight songs of 3 s, one file that is no sound, and a table with two captions for the first.
pub fn songs(folder: &Path) {
    let songs = folder.join("songs");
    fs::create_dir_all(&songs).unwrap();
    for song in 0..8 {
        let spec = hound::WavSpec {
            channels: 2,
            sample_rate: 22_050,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut wav = hound::WavWriter::create(songs.join(format!("song{song}.wav")), spec).unwrap();
        for i in 0..3 * 22_050 {
            let time = i as f32 / 22_050.0;
            let tone = (time * 2_000.0 * (1.0 + 0.2 * song as f32)).sin() * (1.0 - (4.0 * time).fract());
            wav.write_sample((tone * 9_000.0) as i16).unwrap();
            wav.write_sample((tone * 7_000.0) as i16).unwrap();
        }
        wav.finalize().unwrap();
    }
    fs::write(songs.join("broken.mp3"), "<html>404 not found</html>").unwrap();
    let rows = "file_name,caption\nsong0.wav,a falling tone\nsong0.wav,beeps\nsong1.wav,a higher tone\n";
    fs::write(songs.join("metadata.csv"), rows).unwrap();
}
