//! Progress: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use dit_engine::render::{Written, complaints};
use dit_engine::train::journal::StepLog;
use dit_engine::train::run::Observer;
use dit_engine::train::validate::Validation;
use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// A bar with position, message and time left.
pub fn bar(len: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(len).with_message(what);
    let style = "{msg} {bar:30} {pos}/{len}  {elapsed} gone, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a constant template that was tried"));
    bar
}

/// Shows a training run.
pub struct TrainProgress {
    bar: ProgressBar,
    terminal: bool,
    start: Instant,
    first_step: u64,
    steps: u64,
    last_line: Instant,
}

impl TrainProgress {
    /// For a run that goes from `first_step` to `steps`.
    pub fn new(first_step: u64, steps: u64) -> Self {
        let bar = ProgressBar::new(steps).with_position(first_step);
        let style = "step {pos}/{len} {bar:24} {msg}  {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("a constant template that was tried"));
        bar.reset_eta();
        let now = Instant::now();
        TrainProgress { bar, terminal: stderr().is_terminal(), start: now, first_step, steps, last_line: now }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: String) {
        if self.terminal { self.bar.println(line) } else { eprintln!("{line}") }
    }

    fn seconds_left(&self, step: u64) -> u64 {
        let done = (step - self.first_step).max(1) as f64;
        (self.start.elapsed().as_secs_f64() / done * (self.steps - step) as f64) as u64
    }
}

impl Observer for TrainProgress {
    fn step(&mut self, log: &StepLog) {
        let numbers = format!(
            "loss {:.4} (smoothed {:.4})  {:.1} samples/s",
            log.loss, log.smoothed_loss, log.samples_per_second
        );
        self.bar.set_position(log.step);
        self.bar.set_message(numbers.clone());
        if !self.terminal && self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let left = indicatif::HumanDuration(Duration::from_secs(self.seconds_left(log.step)));
            eprintln!("step {}/{}  {numbers}  {left:#} left", log.step, self.steps);
        }
    }

    fn validated(&mut self, step: u64, validation: &Validation, best: bool) {
        let bins: Vec<String> =
            validation.bins.iter().map(|bin| bin.map_or("-".into(), |loss| format!("{loss:.3}"))).collect();
        let mark = if best { ", the best so far" } else { "" };
        let loss = validation.loss;
        self.say(format!("step {step}: validation loss {loss:.4}{mark} (by timestep: {})", bins.join(" ")));
    }

    fn sampled(&mut self, step: u64, folder: &Path, written: &[Written]) {
        self.say(format!("step {step}: {} samples in {}", written.len(), folder.display()));
        for complaint in complaints(written) {
            self.say(format!("warning: {complaint}"));
        }
    }

    fn saved(&mut self, _step: u64, _path: &Path) {}
}
