//! What a run will take, in one line for people: parameters, operations, memory, time.

use std::fmt;
use std::time::{Duration, Instant};

use crate::backend::{Activation, AttentionDims, Backend, MatmulDims};
use crate::config::Config;
use crate::error::{Result, human_bytes};
use crate::meter::Family;
use crate::train::cost::Cost;

/// How long each speed is measured.
const CALIBRATION: Duration = Duration::from_millis(100);
/// Rows of the product, and tokens of the attention, that are measured first.
const CALIBRATION_ROWS: usize = 512;
/// A call that is quicker than this says little of a fast device, which it does not fill: a larger one is measured in its place.
const QUICK: Duration = Duration::from_millis(1);
/// By how much it is larger.
const GROWTH: usize = 8;
/// Launches of next to nothing, one after the other, by which the time of one is measured.
const CALIBRATION_LAUNCHES: u32 = 64;
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
    /// Measures the device on a product and an attention of the model's shape, for about 0.1 s each (as large as they have to be
    /// to keep it busy, at most a training step's), on a pass over memory and on launches of next to nothing, and scales them to
    /// the run.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn measure<B: Backend>(backend: &B, config: &Config, cost: &Cost) -> Result<Estimate> {
        let model = &config.model;
        let (batch, tokens) = (config.train.batch, model.tokens());
        let matmul = busy_rate(batch * tokens, |rows| {
            let (columns, inner) = (model.dim * model.mlp_ratio, model.dim);
            matmul_rate(backend, MatmulDims { rows, columns, inner })
        })?;
        let attention = busy_rate(batch * tokens, |rows| {
            let tokens = rows.min(tokens);
            let (heads, head_dim) = (model.heads, model.dim / model.heads);
            attention_rate(backend, AttentionDims { batch: rows / tokens, tokens, heads, head_dim })
        })?;
        let bytes = memory_rate(backend, (cost.parameters as usize).clamp(1, CALIBRATION_FLOATS))?;
        let rates = Rates { matmul, attention, bytes, launches: launch_rate(backend)? };
        Ok(Self::at_rates(rates, config, cost))
    }

    fn at_rates(rates: Rates, config: &Config, cost: &Cost) -> Estimate {
        let train = &config.train;
        let attention = cost.families.get(&Family::Attention).map_or(0, |tally| tally.flops);
        let rest = (cost.flops_step - attention) as f64 / rates.matmul * PASSES_OVERHEAD;
        let state = cost.parameters as f64 * STATE_BYTES / rates.bytes;
        let launches = cost.launches as f64 / rates.launches;
        let step_seconds = attention as f64 / rates.attention + rest + state + launches;
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

/// What a device does in a second: floating-point operations, bytes moved, launches.
#[derive(Clone, Copy)]
struct Rates {
    matmul: f64,
    attention: f64,
    bytes: f64,
    launches: f64,
}

/// A speed on as many rows as keep the device busy for [`QUICK`], at most `all`.
fn busy_rate(all: usize, mut measure: impl FnMut(usize) -> Result<Speed>) -> Result<f64> {
    let mut rows = all.min(CALIBRATION_ROWS);
    loop {
        let speed = measure(rows)?;
        if speed.call >= QUICK || rows >= all {
            return Ok(speed.rate);
        }
        rows = rows.saturating_mul(GROWTH).min(all);
    }
}

/// Rate of launches that have next to nothing to do.
fn launch_rate<B: Backend>(backend: &B) -> Result<f64> {
    let mut x = zeros(backend, 1)?;
    let speed = speed(f64::from(CALIBRATION_LAUNCHES), || {
        (0..CALIBRATION_LAUNCHES).for_each(|_| backend.fill(B::view_mut(&mut x, 0..1), 1.0));
        backend.download(&mut [0.0], B::view(&x, 0..1)); // Waits for the kernels.
    });
    Ok(speed.rate)
}

/// Rate of `x += y` on `len` floats: two reads and a write.
fn memory_rate<B: Backend>(backend: &B, len: usize) -> Result<f64> {
    let (mut x, y) = (zeros(backend, len)?, zeros(backend, len)?);
    let speed = speed(3.0 * len as f64 * size_of::<f32>() as f64, || {
        backend.add(B::view_mut(&mut x, 0..len), B::view(&y, 0..len));
        backend.download(&mut [0.0], B::view(&x, 0..1)); // Waits for the kernel.
    });
    Ok(speed.rate)
}

/// Rate of `y = x w^T + b`.
fn matmul_rate<B: Backend>(backend: &B, dims: MatmulDims) -> Result<Speed> {
    let MatmulDims { rows, columns, inner } = dims;
    let activations = |len| zeroed(backend, backend.alloc_activation(len)?);
    let (x, mut y) = (activations(rows * inner)?, activations(rows * columns)?);
    let (w, bias) = (zeroed(backend, backend.alloc_weights(columns * inner)?)?, zeros(backend, columns)?);
    let flops = 2.0 * rows as f64 * columns as f64 * inner as f64;
    Ok(speed(flops, || {
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
fn attention_rate<B: Backend>(backend: &B, dims: AttentionDims) -> Result<Speed> {
    let len = dims.batch * dims.tokens * dims.dim();
    let rows = dims.batch * dims.heads * dims.tokens;
    let activations = |len| zeroed(backend, backend.alloc_activation(len)?);
    let (qkv, mut dqkv, dout) = (activations(3 * len)?, activations(3 * len)?, activations(len)?);
    let (mut out, mut lse) = (activations(len)?, zeros(backend, rows)?);
    let flops = 14.0 * dims.tokens as f64 * len as f64;
    Ok(speed(flops, || {
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

/// How fast calls are.
struct Speed {
    /// Operations a second.
    rate: f64,
    /// Time of a call.
    call: Duration,
}

/// Speed of a call that does so many operations; the first call is not timed.
fn speed(operations: f64, mut call: impl FnMut()) -> Speed {
    call();
    let start = Instant::now();
    let mut calls = 0u32;
    while calls == 0 || start.elapsed() < CALIBRATION {
        call();
        calls += 1;
    }
    let call = start.elapsed() / calls;
    Speed { rate: operations / call.as_secs_f64().max(f64::MIN_POSITIVE), call }
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
            let unlimited = f64::INFINITY;
            let rates = Rates { matmul: rate, attention: rate, bytes: unlimited, launches: unlimited };
            Estimate::at_rates(rates, config, &cost)
        };
        let slow = at_rate(1e9, &config);
        let fast = at_rate(1e12, &config);
        assert!((slow.run_seconds / fast.run_seconds - 1000.0).abs() < 1e-6);
        assert!(slow.run_seconds > slow.steps as f64 * slow.step_seconds);
        config.train.steps *= 10;
        assert!(at_rate(1e9, &config).run_seconds > 9.0 * slow.run_seconds);
    }

    #[test]
    fn a_fast_device_is_measured_on_more_rows() {
        let measured = |all, seconds_a_row: f64| {
            let mut seen = Vec::new();
            let rate = busy_rate(all, |rows| {
                seen.push(rows);
                Ok(Speed { rate: rows as f64, call: Duration::from_secs_f64(seconds_a_row * rows as f64) })
            });
            (seen, rate.unwrap())
        };
        assert_eq!(measured(100_000, 1e-5), (vec![512], 512.0));
        assert_eq!(measured(100_000, 1e-7), (vec![512, 4096, 32768], 32768.0));
        assert_eq!(measured(5_000, 1e-9), (vec![512, 4096, 5000], 5000.0));
        assert_eq!(measured(64, 1e-9), (vec![64], 64.0));
    }

    #[test]
    fn launches_take_time_too() {
        let config = Config::resolve("demo", &Overrides::default()).unwrap();
        let cost = train_step_cost(&config).unwrap();
        let rates = Rates { matmul: 1e12, attention: 1e12, bytes: 1e12, launches: f64::INFINITY };
        let free = Estimate::at_rates(rates, &config, &cost).step_seconds;
        let dear = Estimate::at_rates(Rates { launches: 1e5, ..rates }, &config, &cost).step_seconds;
        assert!((dear - free - cost.launches as f64 * 1e-5).abs() < 1e-9);
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
