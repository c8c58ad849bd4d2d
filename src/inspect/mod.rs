//! What a file or folder is: checkpoint, data set, run, sound. Facts for people and for machines, and problems
//! that are said rather than passed over.

mod checkpoint;
mod dataset;
mod run;
mod sound;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::files::require_regular_file;

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// "checkpoint", "weights", "data set", "shard", "run" or "sound".
    pub kind: &'static str,
    /// What was looked at.
    pub path: PathBuf,
    /// The facts, in the order in which they are shown.
    pub facts: Vec<Fact>,
    /// What is wrong, a line each; empty when all is well.
    pub problems: Vec<String>,
}

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// One or two words.
    pub name: &'static str,
    /// For people.
    pub text: String,
    /// For machines.
    pub value: Value,
}

/// Looks at a file or folder.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for what this program knows nothing about, or what is too damaged to describe.
pub fn inspect(path: &Path) -> Result<Report> {
    let about = path.metadata().map_err(Error::io("read", path))?;
    if about.is_dir() {
        return match () {
            () if path.join("dataset.json").exists() => dataset::inspect(path),
            () if path.join("config.toml").exists() => run::inspect(path),
            () => Err(Error::format(
                path,
                "is neither a data set (there is no dataset.json in it) nor a run (there is no config.toml)",
            )),
        };
    }
    require_regular_file(path)?;
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(9).read_to_end(&mut start))
        .map_err(Error::io("read", path))?;
    match start.as_slice() {
        [b'R', b'I', b'F', b'F', ..] => sound::inspect(path),
        [_, _, _, _, _, _, _, _, b'{'] => checkpoint::inspect(path),
        _ => Err(Error::format(path, "is neither a checkpoint (safetensors) nor a WAV file")),
    }
}

impl Report {
    fn new(kind: &'static str, path: &Path) -> Self {
        Report { kind, path: path.to_path_buf(), facts: Vec::new(), problems: Vec::new() }
    }

    fn add(&mut self, name: &'static str, text: impl Into<String>, value: impl Into<Value>) {
        self.facts.push(Fact { name, text: text.into(), value: value.into() });
    }

    /// What the configuration decides about model and data.
    fn add_config(&mut self, config: &Config) {
        let (model, data, diffusion, train) = (&config.model, &config.data, &config.diffusion, &config.train);
        let ([height, width], [patch_height, patch_width]) = (model.image, model.patch);
        self.add(
            "model",
            format!(
                "{} blocks ({}) of {} features, {} heads, MLP x{}, {} positions",
                model.depth,
                word(model.block),
                model.dim,
                model.heads,
                model.mlp_ratio,
                word(model.position)
            ),
            json!(model),
        );
        self.add(
            "image",
            format!(
                "{} x {height} x {width} in patches of {patch_height} x {patch_width}: {} tokens",
                model.channels,
                grouped(model.tokens() as u64)
            ),
            json!([model.channels, height, width]),
        );
        let seconds = (width * data.hop) as f64 / f64::from(data.sample_rate.max(1));
        self.add(
            "sound",
            format!(
                "{} at {} Hz, {}, {seconds:.1} s an image",
                word(data.representation),
                data.sample_rate,
                word(data.mix)
            ),
            json!(data),
        );
        self.add(
            "diffusion",
            format!(
                "{} schedule, {} steps, predicts {}",
                word(diffusion.schedule),
                diffusion.steps,
                word(diffusion.objective)
            ),
            json!(diffusion),
        );
        self.add(
            "training",
            format!(
                "{} steps of {} samples, learning rate {:e} ({}), seed {}",
                grouped(train.steps),
                train.batch,
                train.lr,
                word(train.schedule),
                train.seed
            ),
            json!(train),
        );
    }

    /// Everything as one object: kind, path, the facts by name, problems.
    pub fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("kind".into(), self.kind.into());
        object.insert("path".into(), self.path.display().to_string().into());
        for fact in &self.facts {
            object.insert(fact.name.replace(' ', "_"), fact.value.clone());
        }
        object.insert("problems".into(), json!(self.problems));
        Value::Object(object)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.kind)?;
        let width = self.facts.iter().map(|fact| fact.name.len()).max().unwrap_or(0);
        for fact in &self.facts {
            write!(f, "\n  {:width$}  {}", fact.name, fact.text)?;
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  PROBLEM: {problem}"))
    }
}

/// The word that a value of a configuration is written as.
fn word(value: impl serde::Serialize) -> String {
    match json!(value) {
        Value::String(word) => word,
        other => other.to_string(),
    }
}

/// `1,234,567`
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 s`, `4:05 min`, `1:02:03 h`
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 60.0 => format!("{seconds:.1} s"),
        s if s < 3600 => format!("{}:{:02} min", s / 60, s % 60),
        s => format!("{}:{:02}:{:02} h", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests;
