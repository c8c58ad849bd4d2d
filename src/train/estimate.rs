//! What a run will take, in one line for people: parameters, operations, memory, time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::backend::{Activation, AttentionDims, Backend, MatmulDims};
use crate::config::Config;
use crate::error::{Result, human_bytes};
use crate::meter::Family;
use crate::train::cost::Cost;

/// How long each of the two speeds is measured.
const CALIBRATION: Duration = Duration::from_millis(100);
/// Rows of the measured product and tokens of the measured attention, at most: their memory stays in the device's pool.
const CALIBRATION_ROWS: usize = 512;
/// Time of all that is not attention over the time that its products alone would take: norms, activations, residuals and
/// the backward products. From `cargo bench --bench step` on 2 cores, which prints both times.
const PASSES_OVERHEAD: f64 = 1.25;
/// Floats of the measured sum, at most.
const CALIBRATION_FLOATS: usize = 1 << 22;
/// Bytes that a step moves for each parameter outside the products: Adam reads five and writes four arrays, the
/// gradients are cleared, added to (a read and a write), and squared.
const STATE_BYTES: f64 = 13.0 * 4.0;
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
    /// Measures the device on a product and an attention of the model's shape for about 0.1 s each and scales them
    /// to the run.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn measure<B: Backend>(backend: &B, config: &Config, cost: &Cost) -> Result<Estimate> {
        let model = &config.model;
        let rows = (config.train.batch * model.tokens()).min(CALIBRATION_ROWS);
        let products = MatmulDims { rows, columns: model.dim * model.mlp_ratio, inner: model.dim };
        let tokens = model.tokens().min(CALIBRATION_ROWS);
        let heads = AttentionDims { batch: 1, tokens, heads: model.heads, head_dim: model.dim / model.heads };
        let rates = Rates {
            matmul: matmul_rate(backend, products)?,
            attention: attention_rate(backend, heads)?,
            bytes: memory_rate(backend, (cost.parameters as usize).clamp(1, CALIBRATION_FLOATS))?,
        };
        Ok(Self::at_rates(rates, config, cost))
    }

    fn at_rates(rates: Rates, config: &Config, cost: &Cost) -> Estimate {
        let train = &config.train;
        let attention = cost.families.get(&Family::Attention).map_or(0, |tally| tally.flops);
        let rest = (cost.flops_step - attention) as f64 / rates.matmul * PASSES_OVERHEAD;
        let state = cost.parameters as f64 * STATE_BYTES / rates.bytes;
        let step_seconds = attention as f64 / rates.attention + rest + state;
        let forward_seconds = (step_seconds - state) * FORWARD_SHARE / train.batch as f64;
        let times = |every: u64| train.steps.div_ceil(every) as f64;
        let validations = times(train.validate_every) * train.validation_samples as f64;
        let samples = times(train.sample_every) * (config.sample.count * config.sample.steps) as f64;
        let run_seconds = train.steps as f64 * step_seconds + (validations + samples) * forward_seconds;
        Estimate {
            parameters: cost.parameters,
            flops_step: cost.flops_step,
            run_bytes: cost.memory.run_bytes,
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

/// What a device does in a second: floating-point operations, and bytes moved.
#[derive(Clone, Copy)]
struct Rates {
    matmul: f64,
    attention: f64,
    bytes: f64,
}

/// Rate of `x += y` on `len` floats: two reads and a write.
fn memory_rate<B: Backend>(backend: &B, len: usize) -> Result<f64> {
    let (mut x, y) = (zeros(backend, len)?, zeros(backend, len)?);
    Ok(rate(3.0 * len as f64 * size_of::<f32>() as f64, || {
        backend.add(B::view_mut(&mut x, 0..len), B::view(&y, 0..len));
        backend.download(&mut [0.0], B::view(&x, 0..1)); // Waits for the kernel.
    }))
}

/// Rate of `y = x w^T + b`.
fn matmul_rate<B: Backend>(backend: &B, dims: MatmulDims) -> Result<f64> {
    let MatmulDims { rows, columns, inner } = dims;
    let activations = |len| zeroed(backend, backend.alloc_activation(len)?);
    let (x, mut y) = (activations(rows * inner)?, activations(rows * columns)?);
    let (w, bias) = (zeroed(backend, backend.alloc_weights(columns * inner)?)?, zeros(backend, columns)?);
    let flops = 2.0 * rows as f64 * columns as f64 * inner as f64;
    Ok(rate(flops, || {
        backend.matmul_forward(
            B::view_mut(&mut y, 0..rows * columns),
            None,
            B::view(&x, 0..rows * inner),
            B::view(&w, 0..columns * inner),
            Some(B::view(&bias, 0..columns)),
            Activation::Identity,
            dims,
        );
        backend.download(&mut [0.0], B::view(&y, 0..1)); // Waits for the kernel.
    }))
}

/// Rate of attention, forward and backward.
fn attention_rate<B: Backend>(backend: &B, dims: AttentionDims) -> Result<f64> {
    let len = dims.batch * dims.tokens * dims.dim();
    let rows = dims.batch * dims.heads * dims.tokens;
    let activations = |len| zeroed(backend, backend.alloc_activation(len)?);
    let (qkv, mut dqkv, dout) = (activations(3 * len)?, activations(3 * len)?, activations(len)?);
    let (mut out, mut lse) = (activations(len)?, zeros(backend, rows)?);
    let flops = 14.0 * dims.tokens as f64 * len as f64;
    Ok(rate(flops, || {
        let qkv = B::view(&qkv, 0..3 * len);
        backend.attention_forward(B::view_mut(&mut out, 0..len), B::view_mut(&mut lse, 0..rows), qkv, dims);
        backend.attention_backward(
            B::view_mut(&mut dqkv, 0..3 * len),
            B::view(&dout, 0..len),
            B::view(&out, 0..len),
            B::view(&lse, 0..rows),
            qkv,
            dims,
        );
        backend.download(&mut [0.0], B::view(&dqkv, 0..1)); // Waits for the kernels.
    }))
}

fn zeros<B: Backend>(backend: &B, len: usize) -> Result<B::Buf> {
    zeroed(backend, backend.alloc(len)?)
}

fn zeroed<B: Backend>(backend: &B, mut buf: B::Buf) -> Result<B::Buf> {
    let len = B::len(&buf);
    backend.fill(B::view_mut(&mut buf, 0..len), 0.0);
    Ok(buf)
}

/// Operations a second, when a call does `flops`; the first call is not timed.
fn rate(flops: f64, mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let mut calls = 0u32;
    while calls == 0 || start.elapsed() < CALIBRATION {
        call();
        calls += 1;
    }
    flops * f64::from(calls) / start.elapsed().as_secs_f64().max(f64::MIN_POSITIVE)
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
        let at_rate = |rate, config: &Config| {
            Estimate::at_rates(Rates { matmul: rate, attention: rate, bytes: f64::INFINITY }, config, &cost)
        };
        let slow = at_rate(1e9, &config);
        let fast = at_rate(1e12, &config);
        assert!((slow.run_seconds / fast.run_seconds - 1000.0).abs() < 1e-6);
        assert!(slow.run_seconds > slow.steps as f64 * slow.step_seconds);
        config.train.steps *= 10;
        assert!(at_rate(1e9, &config).run_seconds > 9.0 * slow.run_seconds);
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
