//! `log.jsonl`: one JSON object a line and training step, whole at any moment, one consistent history over resumes.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::write_bytes_atomic;

/// What is logged of a training step. A number that is not finite stands as `null` in the file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LogLine {
    /// The step, from 0.
    pub step: u64,
    /// Loss of the step's batch.
    pub loss: f32,
    /// Moving average of the loss.
    pub smoothed_loss: f32,
    /// Learning rate.
    pub lr: f32,
    /// Norm of the gradient before clipping.
    pub grad_norm: f32,
    /// Training samples a second.
    pub samples_per_s: f32,
    /// How long the step waited for its batch, in milliseconds.
    pub wait_ms: f32,
    /// Seconds since 1970.
    pub time: f64,
}

/// Of an older line only the step matters; other fields may come and go between versions.
#[derive(Deserialize)]
struct Stamp {
    step: u64,
}

/// Appends to a log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    out: File,
}

impl Log {
    /// Opens the log of a run whose next step is `first_step` (0 for a new run): lines of an older run from that step
    /// on are dropped, and so is a last line that a kill has cut off. The file is replaced in one go.
    ///
    /// # Errors
    /// [`Error::Io`] with the file; [`Error::Format`] if a whole line of it is no JSON object with a step.
    pub fn open(path: &Path, first_step: u64) -> Result<Self> {
        let old = match std::fs::read(path) {
            Ok(old) => old,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let kept = lines_before(&old, first_step).map_err(|reason| Error::format(path, reason))?;
        if kept != old {
            write_bytes_atomic(path, &kept)?;
        }
        let out = OpenOptions::new().append(true).create(true).open(path).map_err(Error::io("open", path))?;
        Ok(Self { path: path.to_path_buf(), out })
    }

    /// Appends a line; it is with the operating system when this returns.
    ///
    /// # Errors
    /// [`Error::Io`] with the file.
    pub fn write(&mut self, line: &LogLine) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|error| Error::io("write", &self.path)(error.into()))?;
        text.push(b'\n');
        // One call for the whole line: a kill leaves all of it, or at worst a part that `open` recognises.
        self.out.write_all(&text).map_err(Error::io("write", &self.path))
    }
}

/// The lines with a step below `first_step`, or what is wrong with one.
fn lines_before(old: &[u8], first_step: u64) -> Result<Vec<u8>, String> {
    let mut kept = Vec::with_capacity(old.len());
    for (index, line) in old.split_inclusive(|&byte| byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break; // cut off by a kill
        }
        let stamp: Stamp = serde_json::from_slice(line)
            .map_err(|error| format!("line {} is no log line ({error}); delete it or the file", index + 1))?;
        if stamp.step < first_step {
            kept.extend_from_slice(line);
        }
    }
    Ok(kept)
}
