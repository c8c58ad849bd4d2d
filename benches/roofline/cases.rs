//! What is run: presets on devices, each in a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use dit_engine::backend::Precision;
use dit_engine::config::{Config, Overrides};
use softcuda::model::devices::Device;
use softcuda::model::profile::{LaunchProfile, read_json_lines};

use crate::measure;
use crate::project::{Call, Step, calls, project};
use crate::watched::Op;

/// In the environment of a child: the number of its case, and whether it plans the whole step.
const CASE: &str = "ROOFLINE_CASE";
const PLAN: &str = "ROOFLINE_PLAN";
/// The file that it writes the operations to.
const OPS: &str = "ROOFLINE_OPS";

/// A preset on a device, and how much of its batch is run.
pub struct Case {
    pub preset: &'static str,
    precision: Precision,
    /// The device that runs; the others are reckoned from its counts.
    device: &'static str,
    others: &'static [&'static str],
    /// Enough that the same variants of the kernels run as for the whole batch.
    pub batch: usize,
    /// Whether it is not a step of the preset, but the operations that no preset has.
    pub rare: bool,
}

/// All of them.
pub const CASES: [Case; 8] = [
    Case {
        preset: "seed",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 2,
        rare: false,
    },
    Case {
        preset: "base",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 8,
        rare: false,
    },
    Case {
        preset: "large",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 2,
        rare: false,
    },
    Case {
        preset: "small",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 16,
        rare: false,
    },
    Case {
        preset: "demo",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 12,
        rare: false,
    },
    Case { preset: "small", precision: Precision::F32, device: "t4", others: &[], batch: 2, rare: false },
    Case {
        preset: "small",
        precision: Precision::Bf16,
        device: "a100",
        others: &["h100", "rtx4090"],
        batch: 16,
        rare: true,
    },
    Case { preset: "small", precision: Precision::F32, device: "t4", others: &[], batch: 16, rare: true },
];

impl Case {
    /// What it is called.
    pub fn name(&self) -> String {
        let name = if self.rare { "rare" } else { self.preset };
        match self.precision {
            Precision::Bf16 => name.to_string(),
            Precision::F32 => format!("{name}.f32"),
        }
    }

    /// The preset, or what is run of it.
    pub fn config(&self, whole: bool) -> Config {
        let mut config = Config::resolve(self.preset, &Overrides::default()).expect("the name of a preset");
        if !whole {
            // The second block to attend to a caption adds to the gradient that the first one made.
            let depth = if config.text.mode.crosses() { 2 } else { 1 };
            (config.train.batch, config.model.depth) = (self.batch, depth);
        }
        config
    }

    /// The device that runs, and the others.
    pub fn devices(&self) -> Vec<&'static Device> {
        let names = std::iter::once(self.device).chain(self.others.iter().copied());
        names.map(|name| Device::by_name(name).expect("a device of softcuda's")).collect()
    }
}

/// Runs what the parent asked for; `None` in a process that nobody asked.
pub fn run_as_child() -> Option<dit_engine::error::Result<()>> {
    let number: usize = std::env::var(CASE).ok()?.parse().ok()?;
    let ops = PathBuf::from(std::env::var_os(OPS)?);
    let case = &CASES[number];
    let config = case.config(std::env::var_os(PLAN).is_some());
    Some(measure::run(&config, case.precision, case.rare, &ops))
}

/// The whole step of a case; `child` is a command that calls [`run_as_child`].
pub fn step(number: usize, child: &dyn Fn() -> Command) -> Step {
    let run = |plan| run(number, plan, child());
    project(&run(false), &run(true), &CASES[number].devices())
}

/// Runs a case in a process of its own, because softcuda is set up by its environment.
fn run(number: usize, plan: bool, mut child: Command) -> Vec<Call> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ops, launches) = (folder.path().join("ops.jsonl"), folder.path().join("launches.jsonl"));
    child
        .env(CASE, number.to_string())
        .env(OPS, &ops)
        .env("SOFTCUDA_DEVICE", CASES[number].device)
        .env("SOFTCUDA_CHECKS", "none")
        .env("SOFTCUDA_PROFILE", &launches);
    if plan {
        child.env(PLAN, "1").env("SOFTCUDA_SKIP_LAUNCHES", "1");
    }
    let output = child.output().expect("this program runs once more");
    assert!(
        output.status.success(),
        "{} failed: {}",
        CASES[number].name(),
        String::from_utf8_lossy(&output.stderr)
    );
    calls(read_ops(&ops), read_launches(&launches))
}

fn read_ops(path: &Path) -> Vec<Op> {
    let text = std::fs::read_to_string(path).expect("written by the child");
    text.lines().map(|line| serde_json::from_str(line).expect("written by the child")).collect()
}

fn read_launches(path: &Path) -> Vec<LaunchProfile> {
    let text = std::fs::read_to_string(path).expect("written by softcuda");
    read_json_lines(&text).expect("written by softcuda")
}
