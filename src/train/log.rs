//! `log.jsonl`: one JSON object a line, one consistent history whatever was interrupted and resumed.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_bytes_atomic;
use crate::train::validate::Validation;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Line {
    /// A training step.
    Step(StepLog),
    /// A validation after a step.
    Validation {
        /// Steps done.
        step: u64,
        /// The losses.
        #[serde(flatten)]
        validation: Validation,
    },
}

/// A training step, in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Steps done, this one included.
    pub step: u64,
    /// What was minimised.
    pub loss: f64,
    /// Exponential mean of the losses.
    pub smoothed_loss: f64,
    /// Norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Training speed of this step.
    pub samples_per_second: f64,
    /// Time spent waiting for the loader so far, in milliseconds.
    pub wait_ms: f64,
}

impl Line {
    fn step(&self) -> u64 {
        match self {
            Line::Step(log) => log.step,
            Line::Validation { step, .. } => *step,
        }
    }
}

/// The open log of a run.
pub struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    /// Opens `path` for a run that goes on after `step` steps: lines of later steps, and a line that was cut off by a
    /// kill, are dropped. Returns the last step that remains.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path, step: u64) -> Result<(Log, Option<StepLog>)> {
        let old = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let kept = lines(&old).into_iter().filter(|line| line.step() <= step);
        let mut text = String::new();
        let mut last = None;
        for line in kept {
            text.push_str(&to_json(&line));
            if let Line::Step(log) = line {
                last = Some(log);
            }
        }
        if text != old {
            write_bytes_atomic(path, text.as_bytes())?;
        }
        let file =
            OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
        Ok((Log { path: path.to_path_buf(), file }, last))
    }

    /// Appends a line; it is in the file when this returns.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, line: &Line) -> Result<()> {
        self.file.write_all(to_json(line).as_bytes()).map_err(Error::io("write", &self.path))
    }
}

/// The lines of a log; a line that cannot be read (cut off by a kill) is left out.
pub fn lines(text: &str) -> Vec<Line> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn to_json(line: &Line) -> String {
    let mut json = serde_json::to_string(line).expect("numbers and names are JSON");
    json.push('\n');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Line {
        Line::Step(StepLog {
            step,
            loss: 1.0 / step as f64,
            smoothed_loss: 0.1 + 0.2,
            gradient_norm: 3.0,
            lr: 1e-3,
            samples_per_second: 7.5,
            wait_ms: 0.25,
        })
    }

    #[test]
    fn a_resumed_log_is_one_history() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let (mut log, last) = Log::open(&path, 0).unwrap();
        assert!(last.is_none());
        (1..=5).for_each(|n| log.write(&step(n)).unwrap());
        fs::write(&path, fs::read_to_string(&path).unwrap() + "{\"kind\":\"step\",\"st").unwrap();

        let (mut log, last) = Log::open(&path, 3).unwrap();
        let Line::Step(expected) = step(3) else { unreachable!() };
        assert_eq!(last, Some(expected));
        log.write(&step(4)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(lines(&text), (1..=4).map(step).collect::<Vec<_>>());
    }
}
