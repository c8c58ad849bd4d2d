//! The folder of a training run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde_json::{Value, json};

use super::{Report, grouped};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::train::checkpoint::Checkpoint;
use crate::train::log::{Line, StepLog};
use crate::train::tensors::TensorFile;

/// What a log says.
#[derive(Default)]
struct Log {
    last: Option<StepLog>,
    /// Step and loss of the best and of the last validation.
    best: Option<(u64, f64)>,
    validation: Option<(u64, f64)>,
    /// Lines that say nothing that is understood.
    unreadable: usize,
}

pub(super) fn inspect(path: &Path) -> Result<Report> {
    let config_path = path.join("config.toml");
    let text = fs::read_to_string(&config_path).map_err(Error::io("read", &config_path))?;
    let config = Config::from_toml(&text).map_err(|error| Error::format(&config_path, error.to_string()))?;
    let mut report = Report::new("run", path);
    let log = read_log(&path.join("log.jsonl"), u64::MAX).unwrap_or_default();
    describe_progress(&mut report, &log, config.train.steps);
    report.add_config(&config);
    describe_checkpoints(&mut report, &path.join("checkpoints"));
    let samples = entries(&path.join("samples"));
    report.add("samples", format!("{} folders in samples/", samples.len()), json!(samples));
    if log.unreadable > 0 {
        report.problems.push(format!("{} lines of log.jsonl cannot be read", log.unreadable));
    }
    Ok(report)
}

/// The smoothed loss at a step, from the log of the run that a checkpoint lies in, if it does.
pub(super) fn loss_at(checkpoint: &Path, step: u64) -> Option<f64> {
    let log = read_log(&checkpoint.parent()?.parent()?.join("log.jsonl"), step)?;
    log.last.filter(|last| last.step == step).map(|last| last.smoothed_loss)
}

fn describe_progress(report: &mut Report, log: &Log, steps: u64) {
    let done = log.last.as_ref().map_or(0, |line| line.step);
    let state = match done {
        0 => "not a step is logged",
        _ if done >= steps => "finished",
        _ => "running or stopped",
    };
    report.add("step", format!("{} of {}: {state}", grouped(done), grouped(steps)), done);
    if let Some(line) = &log.last {
        let StepLog { loss, smoothed_loss: smoothed, samples_per_second: speed, .. } = *line;
        report.add(
            "loss",
            format!("{loss:.5}, smoothed {smoothed:.5}"),
            json!({ "last": loss, "smoothed": smoothed }),
        );
        report.add("speed", format!("{speed:.1} samples/s"), json!(speed));
    }
    if let (Some((best_step, best)), Some((step, loss))) = (log.best, log.validation) {
        report.add(
            "validation",
            format!("{loss:.5} at step {}, best {best:.5} at step {}", grouped(step), grouped(best_step)),
            json!({ "step": step, "loss": loss, "best_step": best_step, "best_loss": best }),
        );
    }
}

fn describe_checkpoints(report: &mut Report, folder: &Path) {
    let mut texts = Vec::new();
    let mut values = Vec::new();
    for name in entries(folder).into_iter().filter(|name| name.ends_with(".safetensors")) {
        match TensorFile::open(&folder.join(&name)).and_then(|file| Checkpoint::without_state(&file)) {
            Ok(head) => {
                texts.push(format!("{name} (step {})", grouped(head.step)));
                values.push(json!({ "file": name, "step": head.step, "best_loss": head.best_loss }));
            }
            Err(error) => report.problems.push(error.to_string()),
        }
    }
    let text = if texts.is_empty() { "none".to_string() } else { texts.join(", ") };
    report.add("checkpoints", text, Value::Array(values));
}

/// Names in a folder, sorted; none when there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Reads a log up to a step; `None` when there is none.
fn read_log(path: &Path, step: u64) -> Option<Log> {
    let mut log = Log::default();
    for line in BufReader::new(File::open(path).ok()?).split(b'\n') {
        let Ok(line) = serde_json::from_slice::<Line>(&line.ok()?) else {
            log.unreadable += 1;
            continue;
        };
        match line {
            Line::Step(line) if line.step <= step => log.last = Some(line),
            Line::Validation { step: at, validation } if at <= step => {
                log.validation = Some((at, validation.loss));
                if log.best.is_none_or(|(_, best)| validation.loss < best) {
                    log.best = log.validation;
                }
            }
            _ => break,
        }
    }
    Some(log)
}
