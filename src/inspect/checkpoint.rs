//! Checkpoints, and other safetensors files.

use std::path::Path;

use serde_json::{Value, json};

use super::{Report, grouped, run};
use crate::config::TrainConfig;
use crate::dataset::shard;
use crate::error::{Error, Result, human_bytes};
use crate::params::Layout;
use crate::train::checkpoint::{self, Checkpoint, WeightsHash};
use crate::train::optimizer::ema_decay;
use crate::train::tensors::TensorFile;

/// Tensors of a foreign file that are named.
const NAMES_SHOWN: usize = 8;
/// Steps after which the mean age of an EMA no longer changes, for any decay worth having.
const AGE_STEPS: u64 = 1_000_000;

pub(super) fn inspect(path: &Path) -> Result<Report> {
    let mut file = TensorFile::open(path)?;
    match (file.fact("format"), file.fact("track")) {
        (Some(checkpoint::FORMAT), _) => of_checkpoint(&mut file),
        (_, Some(track)) => Ok(of_shard(&file, track)),
        _ => Ok(of_weights(&mut file)),
    }
}

fn of_checkpoint(file: &mut TensorFile) -> Result<Report> {
    let path = file.path().to_path_buf();
    let head = Checkpoint::without_state(file)?;
    let layout = checkpoint::layout_of(&head.config, file)?;
    let mut report = Report::new("checkpoint", &path);
    let hash = checkpoint::short_hash(&path)?;
    report.add("written by", file.fact("program").unwrap_or("unknown"), json!(file.fact("program")));
    report.add("hash", &hash, json!(hash));
    let train = &head.config.train;
    report.add("step", format!("{} of {}", grouped(head.step), grouped(train.steps)), head.step);
    report.add("parameters", grouped(layout.count() as u64), layout.count());
    report.add_config(&head.config);
    report.add("data set", &head.fingerprint, json!(head.fingerprint));
    match head.best_loss {
        Some(loss) => report.add("best loss", format!("{loss:.5} (validation)"), json!(loss)),
        None => report.add("best loss", "no validation yet", Value::Null),
    }
    if let Some(loss) = run::loss_at(&path, head.step) {
        report.add("loss", format!("{loss:.5} (smoothed, from the run's log)"), json!(loss));
    }
    add_damage(&mut report, file);
    let state = State::read(file, &layout, &mut report)?;
    state.describe(&mut report, train, head.step);
    report.add("size", human_bytes(file.data_bytes()), file.data_bytes());
    report.add(
        "complete",
        if report.problems.is_empty() { "yes: every tensor is there, undamaged and finite" } else { "no" },
        report.problems.is_empty(),
    );
    Ok(report)
}

/// Sizes of the state's parts.
#[derive(Default)]
struct State {
    /// Sums of squares of weights, EMA, first and second moments.
    squares: [f64; 4],
    /// Sum of squares of EMA minus weights.
    drift: f64,
    /// Of weights and EMA, as recipes name them.
    hashes: [WeightsHash; 2],
}

impl State {
    /// Reads all tensors, one name at a time; what is missing or not finite becomes a problem.
    fn read(file: &mut TensorFile, layout: &Layout, report: &mut Report) -> Result<State> {
        let mut state = State::default();
        let missing = checkpoint::PREFIXES
            .iter()
            .filter_map(|prefix| checkpoint::check_tensors(file, prefix, layout).err())
            .map(|error| error.to_string());
        let before = report.problems.len();
        report.problems.extend(missing);
        if report.problems.len() > before {
            return Ok(state);
        }
        let mut values: [Vec<f32>; 4] = Default::default();
        for span in layout.spans() {
            for (part, prefix) in checkpoint::PREFIXES.iter().enumerate() {
                let name = format!("{prefix}{}", span.name);
                values[part].resize(span.range.len(), 0.0);
                file.read(&name, &span.shape, &mut values[part])?;
                let bad = values[part].iter().filter(|value| !value.is_finite()).count();
                if bad > 0 {
                    report.problems.push(format!("{bad} values of {name} are NaN or infinite"));
                }
                state.squares[part] += values[part].iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
            }
            state.hashes.iter_mut().zip(&values).for_each(|(hash, values)| hash.update(values));
            let pairs = values[0].iter().zip(&values[1]);
            state.drift += pairs.map(|(&w, &e)| (f64::from(w) - f64::from(e)).powi(2)).sum::<f64>();
        }
        Ok(state)
    }

    fn describe(self, report: &mut Report, train: &TrainConfig, step: u64) {
        let [weights, ema, first, second] = self.squares.map(f64::sqrt);
        let drift = self.drift.sqrt() / weights.max(f64::MIN_POSITIVE);
        let age = mean_age(train, step);
        let [weights_hash, ema_hash] = self.hashes.map(WeightsHash::finish);
        report.add(
            "weights",
            format!("norm {weights:.4}, hash {weights_hash}"),
            json!({ "norm": weights, "hash": weights_hash }),
        );
        report.add(
            "ema",
            format!(
                "norm {ema:.4}, hash {ema_hash}, {:.2}% from the weights, {age:.0} steps old on average",
                100.0 * drift
            ),
            json!({ "norm": ema, "hash": ema_hash, "distance": drift, "age_steps": age, "decay": train.ema }),
        );
        report.add(
            "moments",
            format!("norms {first:.3e} and {second:.3e}"),
            json!({ "first_norm": first, "second_norm": second }),
        );
    }
}

/// Mean age, in steps, of the weights that the EMA averages.
fn mean_age(train: &TrainConfig, step: u64) -> f64 {
    (0..step.min(AGE_STEPS)).fold(0.0, |age, step| ema_decay(train, step) * (age + 1.0))
}

fn of_shard(file: &TensorFile, track: &str) -> Report {
    let mut report = Report::new("shard", file.path());
    match serde_json::from_str::<Value>(track) {
        Ok(facts) => {
            for name in ["content", "codec", "seconds"] {
                let value = facts[name].clone();
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
                report.add(name, text, value);
            }
        }
        Err(error) => report.problems.push(format!("the facts about its track cannot be read: {error}")),
    }
    let shape = file.shape("segments").unwrap_or_default().to_vec();
    report.add("segments", format!("{shape:?}"), json!(shape));
    if let Err(Error::Format { reason, .. }) = shard::verify(file.path()) {
        report.problems.push(reason);
    }
    report
}

/// A checksum that does not fit is a problem to be told with all the others.
fn add_damage(report: &mut Report, file: &mut TensorFile) {
    if let Err(Error::Format { reason, .. }) = file.verify() {
        report.problems.push(reason);
    }
}

fn of_weights(file: &mut TensorFile) -> Report {
    let mut report = Report::new("weights", file.path());
    add_damage(&mut report, file);
    let names = file.names();
    let shapes = names.iter().map(|name| file.shape(name).unwrap_or_default());
    let elements: u64 = shapes.map(|shape| shape.iter().product::<usize>() as u64).sum();
    report.add("tensors", grouped(names.len() as u64), names.len());
    report.add("elements", grouped(elements), elements);
    report.add("size", human_bytes(file.data_bytes()), file.data_bytes());
    let mut text = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_SHOWN {
        text.push_str(", ...");
    }
    report.add("names", text, json!(names));
    report
}
