//! Progress: a bar on a terminal, a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::time::{Duration, Instant};

use dit_engine::render::{Written, complaints};
use dit_engine::train::journal::StepLog;
use dit_engine::train::run::Observer;
use dit_engine::train::validate::Validation;
use indicatif::{HumanDuration, ProgressBar, ProgressFinish, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Between two looks of a bar that does not move.
const TICK: Duration = Duration::from_millis(200);

/// How far something is, in whatever unit: a bar on a terminal, a line now and then elsewhere.
pub struct Meter {
    bar: ProgressBar,
    what: String,
    lines: Lines,
}

impl Meter {
    /// At the beginning of `len`.
    pub fn new(what: impl Into<String>, len: u64) -> Meter {
        let what = what.into();
        let bar = bar(len, "{msg} [{bar:30}] {percent:>3}%, {eta} left").with_message(what.clone());
        bar.enable_steady_tick(TICK);
        Meter { bar, what, lines: Lines::new(0, len) }
    }

    /// `position` of the length is done.
    pub fn advance_to(&mut self, position: u64) {
        self.bar.set_position(position);
        if let Some(left) = self.lines.due(position, Instant::now()) {
            let percent = 100 * u128::from(position) / u128::from(self.lines.len.max(1));
            eprintln!("{}: {percent}%, {left} left", self.what);
        }
    }

    /// `more` than before is done.
    pub fn advance_by(&mut self, more: u64) {
        self.advance_to(self.bar.position().saturating_add(more));
    }

    /// Prints something, without the bar.
    pub fn suspend<R>(&self, print: impl FnOnce() -> R) -> R {
        self.bar.suspend(print)
    }
}

/// A bar that goes away when it is dropped.
fn bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a constant template that was tried");
    ProgressBar::new(len).with_style(style.progress_chars("=> ")).with_finish(ProgressFinish::AndClear)
}

/// When a line is due in place of a bar.
struct Lines {
    terminal: bool,
    start: Instant,
    last: Instant,
    first: u64,
    len: u64,
}

impl Lines {
    /// For what goes from `first` to `len`.
    fn new(first: u64, len: u64) -> Lines {
        let now = Instant::now();
        Lines { terminal: stderr().is_terminal(), start: now, last: now, first, len }
    }

    /// If it is time for a line: how long the rest will take, as it went so far.
    fn due(&mut self, position: u64, now: Instant) -> Option<String> {
        if self.terminal || now.duration_since(self.last) < LINE_EVERY {
            return None;
        }
        self.last = now;
        let done = position.saturating_sub(self.first).max(1) as f64;
        let rest = self.len.saturating_sub(position) as f64;
        let seconds = now.duration_since(self.start).as_secs_f64() / done * rest;
        let left = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
        Some(format!("{:#}", HumanDuration(left)))
    }
}

/// Shows a training run.
pub struct TrainProgress {
    bar: ProgressBar,
    lines: Lines,
}

impl TrainProgress {
    /// For a run that goes from `first_step` to `steps`.
    pub fn new(first_step: u64, steps: u64) -> Self {
        let bar = bar(steps, "step {pos}/{len} [{bar:24}] {msg}  {eta} left").with_position(first_step);
        bar.reset_eta();
        TrainProgress { bar, lines: Lines::new(first_step, steps) }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn say(&self, line: String) {
        if self.lines.terminal { self.bar.println(line) } else { eprintln!("{line}") }
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
        if let Some(left) = self.lines.due(log.step, Instant::now()) {
            eprintln!("step {}/{}  {numbers}  {left} left", log.step, self.lines.len);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_every_15_seconds_where_there_is_no_terminal() {
        let mut lines = Lines { terminal: false, ..Lines::new(100, 400) };
        let at = |seconds| lines.start + Duration::from_secs(seconds);
        let times = [at(14), at(15), at(29), at(30), at(300)];
        let said = times.map(|now| lines.due(200, now));
        let expected = [None, Some("30s"), None, Some("60s"), Some("10m")];
        assert_eq!(said.each_ref().map(|left| left.as_deref()), expected);
        lines.terminal = true;
        assert_eq!(lines.due(200, times[4] + LINE_EVERY), None);
    }

    #[test]
    fn what_has_no_length_or_overshoots_is_no_trouble() {
        let mut lines = Lines { terminal: false, ..Lines::new(0, 0) };
        let now = lines.start + LINE_EVERY;
        assert_eq!(lines.due(0, now).as_deref(), Some("0s"));
        assert_eq!(lines.due(7, now + LINE_EVERY).as_deref(), Some("0s"));
        let mut meter = Meter::new("nothing", 0);
        meter.lines =
            Lines { terminal: false, start: now - 2 * LINE_EVERY, last: now - 2 * LINE_EVERY, ..lines };
        meter.advance_by(7);
        meter.advance_by(u64::MAX);
    }
}
