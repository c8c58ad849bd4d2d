//! What the CUDA kernels do in a training step of each preset, and how far a model of a device says that they are from its
//! roofline: `cargo bench --bench roofline [-- --cases seed,base --check | --write]`. It needs no GPU.
//!
//! softcuda runs a step of one block of the model (two, where captions are attended to) on a part of the batch and counts; the whole step (all blocks, the whole
//! batch) is planned without running it, and the counts of each launch grow with the work of its operation. Counts are exact
//! and the same in every run; times are a model's, for ratios. Columns:
//! - asked/min: bytes of the sectors that a kernel asks for, over those of its operation's inputs and outputs, each once;
//!   DRAM/min: the same for what the model says of it comes from memory and not from L2
//! - conflicts: passes of shared memory that bank conflicts add to each pass
//! - tensor, mma: share of the floating-point operations on tensor cores, share of the issue slots that start them
//! - pipe: share of the first device's modelled time in which its tensor cores have work
//! - occup: warps that an SM holds, of those it could hold
//! - bound: what the time of the slowest launch comes from, in the model of the first device
//! - time and floor: the model's time, and that over the least time for the bytes or for the products (at the rate of
//!   `mma.sync` in bf16, of f32 lanes in f32)
//!
//! In brackets: kernels that no training step runs; in the cases called `rare` those that no preset reaches, on small shapes.
//! `~`: the reduced step runs another kernel, which was measured instead.

mod cases;
mod measure;
mod project;
mod rare;
mod table;
mod watched;

use std::process::{Command, ExitCode};

use clap::Parser;

use cases::{CASES, Case};
use project::Step;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/roofline.tsv");
/// Samples a second of the program that this project began from, on the one GPU that it had.
const SEED_SAMPLES_PER_SECOND: f64 = 31.6;

#[derive(Parser)]
struct Args {
    /// Cases (`seed`, or `small.f32`), separated by commas; all without it
    #[arg(long)]
    cases: Option<String>,
    /// Fail when a count is worse than in docs/roofline.tsv
    #[arg(long)]
    check: bool,
    /// Write docs/roofline.tsv
    #[arg(long)]
    write: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match cases::run_as_child() {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let args = Args::parse();
    let wanted = |case: &Case| {
        args.cases.as_ref().is_none_or(|names| names.split(',').any(|name| name == case.name()))
    };
    let child = || Command::new(std::env::current_exe().expect("a bench has a path"));
    let mut lines = String::new();
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| wanted(case)) {
        let step = cases::step(number, &child);
        show(case, &step);
        lines += &table::lines(&case.name(), &step);
    }
    if args.write {
        std::fs::write(TABLE, table::whole(&lines)).expect("docs can be written");
    }
    if args.check {
        let committed = std::fs::read_to_string(TABLE).unwrap_or_default();
        let problems = table::regressions(&committed, &table::whole(&lines));
        problems.iter().for_each(|problem| eprintln!("worse: {problem}"));
        if !problems.is_empty() {
            eprintln!(
                "what is worse on purpose is written down with `cargo bench --bench roofline -- --write`"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn show(case: &Case, step: &Step) {
    if case.rare {
        println!("\n{}: operations that no preset has\n", case.name());
        return print!("{}", table::readable(step, &case.devices()));
    }
    let config = case.config(true);
    println!(
        "\n{}: batch {}, {} blocks (counted: batch {}, 1 block)\n",
        case.name(),
        config.train.batch,
        config.model.depth,
        case.batch
    );
    print!("{}", table::readable(step, &case.devices()));
    let tensor = 100.0 * step.whole().tensor_share();
    println!(
        "\n{} launches a step, {tensor:.2}% of its floating-point operations on tensor cores",
        step.launches()
    );
    for (at, device) in case.devices().iter().enumerate() {
        let time_us = step.time_us(at);
        let samples = config.train.batch as f64 / time_us * 1e6;
        let beside = match case.preset {
            "seed" => format!(", the seed's program: {SEED_SAMPLES_PER_SECOND} (on its own GPU)"),
            _ => String::new(),
        };
        println!(
            "{}: {:.2} ms a step by the model, {samples:.0} samples/s{beside}",
            device.key,
            time_us / 1e3
        );
    }
}
