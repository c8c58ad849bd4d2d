//! What a run will take, in one line for people: parameters, operations, memory, time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::backend::{Activation, Backend, MatmulDims};
use crate::config::Config;
use crate::error::{Result, human_bytes};
use crate::train::cost::Cost;

/// How long the device's speed is measured.
const CALIBRATION: Duration = Duration::from_millis(100);
/// Rows of the measured product, at most: its memory stays in the device's pool.
const CALIBRATION_ROWS: usize = 512;
/// Time of a whole step over the time that its products would take at the measured rate.
const STEP_OVERHEAD: f64 = 1.0;
/// A forward pass is a third of a step's operations: each product has two gradients.
const FORWARD_SHARE: f64 = 1.0 / 3.0;

/// What a run will take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Parameters of the model.
    pub parameters: u64,
    /// Floating-point operations a step.
    pub flops_step: u64,
    /// Memory of the whole run.
    pub run_bytes: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Time of a step.
    pub step_seconds: f64,
    /// Time of the run, validation and samples included.
    pub run_seconds: f64,
}

impl Estimate {
    /// Measures the device on a product of the model's shape for about 0.1 s and scales it to the run.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn measure<B: Backend>(backend: &B, config: &Config, cost: &Cost) -> Result<Estimate> {
        let (dim, hidden) = (config.model.dim, config.model.dim * config.model.mlp_ratio);
        let rows = (config.train.batch * config.model.tokens()).min(CALIBRATION_ROWS);
        let rate = matmul_rate(backend, MatmulDims { rows, columns: hidden, inner: dim })?;
        Ok(Self::at_rate(rate, config, cost))
    }

    /// The estimate for a device that does `rate` floating-point operations of a product a second.
    fn at_rate(rate: f64, config: &Config, cost: &Cost) -> Estimate {
        let train = &config.train;
        let step_seconds = cost.flops_step as f64 / rate * STEP_OVERHEAD;
        let forward_seconds = step_seconds * FORWARD_SHARE / train.batch as f64;
        let times = |every: u64| train.steps.div_ceil(every) as f64;
        let validations = times(train.validate_every) * train.validation_samples as f64;
        let samples = times(train.sample_every) * (config.sample.count * config.sample.steps) as f64;
        let run_seconds = train.steps as f64 * step_seconds + (validations + samples) * forward_seconds;
        Estimate {
            parameters: cost.parameters,
            flops_step: cost.flops_step,
            run_bytes: cost.run_bytes,
            steps: train.steps,
            step_seconds,
            run_seconds,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} parameters, {} a step, {} of memory, about {} for {} steps",
            metric(self.parameters as f64, ""),
            metric(self.flops_step as f64, "FLOP"),
            human_bytes(self.run_bytes),
            human_seconds(self.run_seconds),
            self.steps
        )
    }
}

/// Operations a second of `y = x w^T + b`.
fn matmul_rate<B: Backend>(backend: &B, dims: MatmulDims) -> Result<f64> {
    let MatmulDims { rows, columns, inner } = dims;
    let zeros = |len: usize| -> Result<B::Buf> {
        let mut buf = backend.alloc(len)?;
        backend.fill(B::view_mut(&mut buf, 0..len), 0.0);
        Ok(buf)
    };
    let (x, w, bias) = (zeros(rows * inner)?, zeros(columns * inner)?, zeros(columns)?);
    let mut y = zeros(rows * columns)?;
    let mut call = || {
        backend.matmul_forward(
            B::view_mut(&mut y, 0..rows * columns),
            None,
            B::view(&x, 0..rows * inner),
            B::view(&w, 0..columns * inner),
            Some(B::view(&bias, 0..columns)),
            Activation::Identity,
            dims,
        );
        // Waits for the kernel.
        backend.download(&mut [0.0], B::view(&y, 0..1));
    };
    call();
    let start = Instant::now();
    let mut calls = 0;
    while calls == 0 || start.elapsed() < CALIBRATION {
        call();
        calls += 1;
    }
    let flops = 2.0 * calls as f64 * rows as f64 * columns as f64 * inner as f64;
    Ok(flops / start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE))
}

/// `5.39 M`, `171 GFLOP`: three digits, a prefix, a unit.
fn metric(value: f64, unit: &str) -> String {
    let prefixes = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = value;
    let mut prefix = 0;
    while value >= 999.5 && prefix + 1 < prefixes.len() {
        value /= 1000.0;
        prefix += 1;
    }
    let decimals = match value {
        _ if prefix == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {}{unit}", prefixes[prefix]).trim_end().to_string()
}

/// `40 s`, `5 min`, `3 h 20 min`, `6 days`.
fn human_seconds(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 1.0 => "1 s".to_string(),
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 90.0 * 60.0 => format!("{minutes} min"),
        s if s < 48.0 * 3600.0 => format!("{} h {} min", minutes / 60, minutes % 60),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::meter::Meter;
    use crate::train::cost::train_step_cost;

    #[test]
    fn numbers_are_for_people() {
        let texts = [999.0, 1000.0, 5_388_802.0, 12_345.0, 999_949.0, 1.71e11].map(|x| metric(x, ""));
        assert_eq!(metric(1.71e11, "FLOP"), "171 GFLOP");
        assert_eq!(texts, ["999", "1.00 k", "5.39 M", "12.3 k", "1.00 M", "171 G"]);
        assert_eq!(metric(1.71e11, "FLOP"), "171 GFLOP");
        let texts = [0.2, 89.0, 91.0, 300.0, 12_000.0, 600_000.0].map(human_seconds);
        assert_eq!(texts, ["1 s", "89 s", "2 min", "5 min", "3 h 20 min", "7 days"]);
    }

    #[test]
    fn time_grows_with_steps_and_shrinks_with_the_rate() {
        let mut config = Config::resolve("demo", &Overrides::default()).unwrap();
        let cost = train_step_cost(&config).unwrap();
        let slow = Estimate::at_rate(1e9, &config, &cost);
        let fast = Estimate::at_rate(1e12, &config, &cost);
        assert!((slow.run_seconds / fast.run_seconds - 1000.0).abs() < 1e-6);
        assert!(slow.run_seconds > slow.steps as f64 * slow.step_seconds);
        config.train.steps *= 10;
        assert!(Estimate::at_rate(1e9, &config, &cost).run_seconds > 9.0 * slow.run_seconds);
    }

    #[test]
    fn one_line_says_it_all() {
        let config = Config::resolve("seed", &Overrides::default()).unwrap();
        let cost = train_step_cost(&config).unwrap();
        let line = Estimate::measure(&Meter::new(), &config, &cost).unwrap().to_string();
        assert!(line.starts_with("5.39 M parameters, ") && line.contains("FLOP a step, "), "{line}");
        assert!(line.ends_with(" for 4437 steps") && !line.contains('\n'), "{line}");
    }
}
