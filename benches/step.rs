//! Whole training steps: milliseconds, GFLOP/s by the products' FLOPs, share of the machine's FMA peak, memory.
//!
//! `cargo bench --bench step [-- --configs a,b,c,demo --steps 7]` prints one JSON line a configuration; a, b, c and d are
//! those of benches/compare/pytorch_step.py, for turns with PyTorch on the same machine. `-- --scaling` prints a table of how
//! time and memory grow. On a GPU steps follow each other as in training: waited for some steps late.

mod peak;

use std::collections::VecDeque;
use std::time::Instant;

use clap::Parser;
use dit_engine::backend::{Backend, Precision};
use dit_engine::config::{BlockKind, Config, Objective, Overrides, Position, SampleConfig, TextMode};
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{Cuda, Options};
use dit_engine::diffusion::noising::Levels;
use dit_engine::diffusion::sampler::{Model, Order, draw, path};
use dit_engine::diffusion::schedule::Schedule;
use dit_engine::dit::Dit;
use dit_engine::train::cost::train_step_cost;
use dit_engine::train::estimate::Estimate;
use dit_engine::train::optimizer::{State, adam_step};
use dit_engine::train::step::{StepInput, evaluate, forward_backward};

#[derive(Parser)]
struct Args {
    /// Configurations, separated by commas
    #[arg(long, default_value = "a,b,demo")]
    configs: String,
    /// Steps that count
    #[arg(long, default_value_t = 7)]
    steps: u64,
    /// Steps before
    #[arg(long, default_value_t = 2)]
    warmup: u64,
    /// Instead of configurations: how time and memory grow with tokens, batch, depth and width
    #[arg(long)]
    scaling: bool,
    /// cpu, or cuda for the first GPU
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32 or bf16, on a GPU; its own choice unless given
    #[arg(long)]
    precision: Option<String>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let precision = match args.precision.as_deref() {
        None => None,
        Some("f32") => Some(Precision::F32),
        Some("bf16") => Some(Precision::Bf16),
        Some(other) => {
            eprintln!("--precision: there is no `{other}`; there are f32 and bf16");
            std::process::exit(2);
        }
    };
    let open_gpu = || open_gpu(precision);
    match args.device.as_str() {
        "cpu" if args.scaling => scaling(Cpu::new, &args),
        "cuda" if args.scaling => scaling(open_gpu, &args),
        "cpu" => {
            let peak = peak::fma_flops_per_second() * rayon::current_num_threads() as f64;
            measure_all(Cpu::new, &args, Some(peak));
        }
        "cuda" => measure_all(open_gpu, &args, None),
        other => {
            eprintln!("--device: there is no `{other}`; there are cpu and cuda");
            std::process::exit(2);
        }
    }
}

fn open_gpu(precision: Option<Precision>) -> Cuda {
    Cuda::open(Options { precision, ..Options::default() }).unwrap_or_else(|error| {
        eprintln!("--device cuda: {error}");
        std::process::exit(1);
    })
}

/// Each configuration on a fresh device: the memory of the one before is not its own.
fn measure_all<B: Backend>(fresh: impl Fn() -> B, args: &Args, peak: Option<f64>) {
    for name in args.configs.split(',') {
        let Some(config) = configuration(name) else {
            eprintln!("--configs: there is no `{name}`; there are a, b, c, d and the presets");
            std::process::exit(2);
        };
        println!("{}", measured(&fresh(), name, &config, args, peak));
    }
}

/// `peak` is what the device can do in operations a second, where that is known.
fn measured<B: Backend>(
    backend: &B,
    name: &str,
    config: &Config,
    args: &Args,
    peak: Option<f64>,
) -> serde_json::Value {
    let dit = Dit::new(&config.model, &config.text).expect("a configuration that fits together");
    let schedule = Schedule::new(&config.diffusion);
    let cost = train_step_cost(config).expect("a configuration that fits together");
    let mut state = State::new(backend, &dit.layout().initial_values(0)).expect("memory");
    let x0: Vec<f32> = (0..config.train.batch * dit.image_len()).map(|i| (i as f32 * 0.37).sin()).collect();
    let levels_of = |step| {
        let (batch, width) = (config.train.batch, config.model.image[1]);
        Levels::draw(&schedule, &config.diffusion, 0, step, batch, width)
    };
    let mut times_ms = Vec::new();
    let mut in_flight = VecDeque::new();
    for step in 0..args.warmup + args.steps {
        let start = Instant::now();
        let levels = levels_of(step);
        let input = step_input(config, &x0, step, &levels);
        backend.upload_ahead(&x0);
        backend
            .run_step(&mut || {
                forward_backward(backend, &dit, &mut state, &input, None)?;
                state.measure_gradients(backend);
                state.update(backend, adam_step(&config.train, dit.layout(), step));
                Ok(())
            })
            .expect("a step");
        in_flight.push_back(backend.download_later(state.norm2()));
        if in_flight.len() >= backend.steps_in_flight() {
            in_flight.pop_front().expect("just put there")().expect("a step that went well");
        }
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for result in in_flight {
        result().expect("a step that went well");
    }
    let mut forward_ms = Vec::new();
    for step in 0..args.warmup + args.steps {
        let levels = levels_of(step);
        let start = Instant::now();
        backend.upload_ahead(&x0);
        let output = evaluate(backend, &dit, &state.weights, &step_input(config, &x0, step, &levels))
            .expect("a forward pass");
        output.losses(backend);
        forward_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let median = |times: &mut Vec<f64>| {
        times.drain(..args.warmup as usize);
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let (step, forward) = (median(&mut times_ms), median(&mut forward_ms));
    let sampling = sampling_step_ms(backend, &dit, &state.weights, &schedule, config);
    let estimate = Estimate::measure(backend, config, &cost).expect("memory for the measurement");
    let gflops = cost.flops_step as f64 / step / 1e6;
    serde_json::json!({
        "config": name,
        "device": backend.name(),
        "median_ms": hundredths(step),
        "fastest_ms": hundredths(times_ms[0]),
        "estimated_ms": hundredths(estimate.step_seconds * 1e3),
        "forward_ms": hundredths(forward),
        "sampling_step_ms": hundredths(sampling),
        "gflop_step": (cost.flops_step as f64 / 1e8).round() / 10.0,
        "gflop_per_second": gflops.round(),
        "share_of_fma_peak": peak.map(|peak| (gflops * 1e9 / peak * 1e3).round() / 1e3),
        "parameters": cost.parameters,
        "held_mib": backend.memory().held_bytes >> 20,
        "threads": rayon::current_num_threads(),
    })
}

fn step_input<'a>(config: &Config, x0: &'a [f32], step: u64, levels: &'a Levels) -> StepInput<'a> {
    StepInput {
        x0,
        captions: None,
        noise: StepInput::training_noise(0, step),
        levels,
        objective: Objective::X0,
        recompute: config.train.recompute,
    }
}

fn hundredths(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

/// A step of the sampler for as many samples as are in a batch, without guidance, whose two halves are a batch twice as large.
fn sampling_step_ms<B: Backend>(
    backend: &B,
    dit: &Dit,
    weights: &B::Buf,
    schedule: &Schedule,
    config: &Config,
) -> f64 {
    const STEPS: usize = 5;
    let sample = SampleConfig { steps: STEPS, ..config.sample.clone() };
    let moves = path(schedule, &config.diffusion, &sample, schedule.steps() - 1);
    let order = Order::plain(dit, 0, 0, config.train.batch);
    let mut ends = vec![Instant::now()];
    let model = Model { backend, dit, weights, schedule };
    draw(&model, &moves, &order, &mut |_| {
        backend.download(&mut [0.0], B::view(weights, 0..1)); // Waits for it.
        ends.push(Instant::now());
        true
    })
    .expect("samples");
    // The first step finds no memory to use again.
    let mut times_ms: Vec<f64> = ends[1..].windows(2).map(|t| (t[1] - t[0]).as_secs_f64() * 1e3).collect();
    times_ms.sort_by(f64::total_cmp);
    times_ms[times_ms.len() / 2]
}

/// Step time and memory against tokens, batch, depth and width, one at a time: a line each, and the exponent of a power law
/// through the last three.
fn scaling<B: Backend>(fresh: impl Fn() -> B, args: &Args) {
    let base = || {
        let mut config = configuration("b").expect("one of ours");
        (config.model.image, config.model.patch, config.model.channels) = ([64, 256], [8, 8], 1);
        config.train.batch = 4;
        config
    };
    type Change = fn(&mut Config, usize);
    let axes: [(&str, &[usize], Change); 4] = [
        ("tokens", &[64, 128, 256, 512, 1024, 2048], |config, n| config.model.image[1] = n),
        ("batch", &[1, 2, 4, 8, 16], |config, n| config.train.batch = n),
        ("depth", &[1, 2, 4, 8, 16], |config, n| config.model.depth = n),
        ("width", &[64, 128, 256, 512, 768], |config, n| {
            (config.model.dim, config.model.heads) = (n, n / 64)
        }),
    ];
    println!("| | | ms a step | exponent | MiB | exponent | GFLOP/s |");
    println!("|---|---|---|---|---|---|---|");
    for (axis, values, change) in axes {
        let mut seen: Vec<[f64; 3]> = Vec::new();
        for &value in values {
            let mut config = base();
            change(&mut config, value);
            let line = measured(&fresh(), axis, &config, args, None);
            let figure = |key: &str| line[key].as_f64().expect("a number");
            seen.push([value as f64, figure("median_ms"), figure("held_mib")]);
            let exponents = [1, 2].map(|column| exponent(&seen, column));
            println!(
                "| {axis} | {value} | {:.1} | {} | {:.0} | {} | {:.0} |",
                seen[seen.len() - 1][1],
                exponents[0],
                seen[seen.len() - 1][2],
                exponents[1],
                figure("gflop_per_second")
            );
        }
    }
}

/// Slope of the logarithm of a column against that of the first, by least squares over the last three rows.
fn exponent(rows: &[[f64; 3]], column: usize) -> String {
    let Some(last) = rows.len().checked_sub(3).map(|first| &rows[first..]) else { return String::new() };
    let points: Vec<[f64; 2]> = last.iter().map(|row| [row[0].ln(), row[column].ln()]).collect();
    let mean = |i: usize| points.iter().map(|point| point[i]).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(0), mean(1));
    let over = points.iter().map(|point| (point[0] - x) * (point[1] - y)).sum::<f64>();
    format!("{:.2}", over / points.iter().map(|point| (point[0] - x).powi(2)).sum::<f64>())
}

fn configuration(name: &str) -> Option<Config> {
    let base = || Config::resolve("small", &Overrides::default()).expect("a preset");
    let mut config = match name {
        "a" | "b" | "c" | "d" => base(),
        preset => return Config::resolve(preset, &Overrides::default()).ok(),
    };
    // As PyTorch's models are: without words.
    config.text.mode = TextMode::None;
    let model = &mut config.model;
    (model.channels, model.dim, model.depth, model.heads) = (2, 256, 4, 4);
    match name {
        "a" => {
            (model.image, model.patch) = ([128, 128], [4, 4]);
            (model.block, model.position) = (BlockKind::Seed, Position::Learned);
            config.train.batch = 4;
        }
        "b" => {
            (model.image, model.patch) = ([512, 512], [32, 32]);
            config.train.batch = 8;
        }
        "d" => {
            (model.image, model.patch) = ([512, 512], [16, 16]);
            (model.dim, model.depth, model.heads) = (384, 12, 6);
            config.train.batch = 32;
        }
        _ => {
            (model.image, model.patch) = ([512, 256], [16, 8]);
            (model.dim, model.depth, model.heads) = (384, 8, 6);
            config.train.batch = 2;
        }
    }
    Some(config)
}
