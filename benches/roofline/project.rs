//! From the launches of a reduced step to those of the whole one: what each launch does grows with the work of its
//! operation; how many blocks it has is that of the whole step, which softcuda plans without running it.

use std::collections::BTreeMap;

use dit_engine::cuda::kernels::embedded;
use softcuda::model::cost::{Bound, Command, LaunchShape, SECTOR_BYTES, cost, dram_bytes};
use softcuda::model::counters::{Class, Counters};
use softcuda::model::devices::Device;
use softcuda::model::profile::LaunchProfile;

use crate::watched::Op;

/// An operation with its launches.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub op: Op,
    /// What ran.
    pub launches: Vec<LaunchProfile>,
}

/// What a kernel does in a step.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Launches.
    pub launches: u64,
    /// The least that has to be moved.
    pub minimum_bytes: f64,
    /// Sectors that the kernel asks for, as bytes.
    pub asked_bytes: f64,
    /// Modelled traffic of the memory.
    pub dram_bytes: f64,
    /// All that it does.
    pub counters: Counters,
    /// The lowest share of an SM's warps that it holds, on the first of the devices.
    pub occupancy: f64,
    /// Most registers of a thread, on the first of the devices.
    pub registers: u32,
    /// Modelled time on each of the devices.
    pub time_us: Vec<f64>,
    /// For how much of it the tensor cores of the first of the devices have work.
    pub tensor_us: f64,
    /// What binds its slowest launch on the first of the devices, and that launch's time.
    pub bound: Option<(Bound, f64)>,
    /// The least time that each of the devices needs for the bytes or for the products.
    pub floor_us: Vec<f64>,
    /// Whether it is part of a training step.
    pub in_step: bool,
    /// Another kernel that was measured in its place, where the reduced step runs another one.
    pub measured_as: Option<String>,
}

/// A step on some devices.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// By kernel.
    pub rows: BTreeMap<String, Row>,
    /// Modelled time of fills and copies on each of the devices.
    pub fills_us: Vec<f64>,
}

impl Row {
    /// Passes of shared memory that conflicts add to each pass.
    pub fn conflicts(&self) -> f64 {
        self.counters.shared_conflicts as f64 / self.counters.shared_passes.max(1) as f64
    }

    /// Share of the floating-point operations that tensor cores do.
    pub fn tensor_share(&self) -> f64 {
        let all = self.counters.tensor_flops + self.counters.flops + self.counters.double_flops;
        self.counters.tensor_flops as f64 / all.max(1) as f64
    }

    /// Share of the issue slots that go to mma.
    pub fn mma_share(&self) -> f64 {
        let mma = self.counters.warp_instructions[Class::Tensor.index()];
        mma as f64 / self.counters.all_warp_instructions().max(1) as f64
    }

    /// Share of the modelled time in which tensor cores have work, on the first of the devices.
    pub fn tensor_time(&self) -> f64 {
        self.tensor_us / self.time_us[0]
    }
}

impl Step {
    /// Launches of a training step.
    pub fn launches(&self) -> u64 {
        self.in_step().map(|row| row.launches).sum()
    }

    /// Modelled time of a training step on device number `at`: one launch after the other.
    pub fn time_us(&self, at: usize) -> f64 {
        self.in_step().map(|row| row.time_us[at]).sum::<f64>() + self.fills_us[at]
    }

    /// All kernels of a training step together, without times.
    pub fn whole(&self) -> Row {
        let mut whole = Row { occupancy: 1.0, ..Row::default() };
        for row in self.in_step() {
            whole.launches += row.launches;
            whole.minimum_bytes += row.minimum_bytes;
            whole.asked_bytes += row.asked_bytes;
            whole.counters.add(&row.counters);
            whole.occupancy = whole.occupancy.min(row.occupancy);
        }
        whole
    }

    fn in_step(&self) -> impl Iterator<Item = &Row> {
        self.rows.values().filter(|row| row.in_step)
    }
}

/// Operations with their launches, which are in the same order.
pub fn calls(ops: Vec<Op>, launches: Vec<LaunchProfile>) -> Vec<Call> {
    let mut rest = launches.into_iter();
    let calls: Vec<Call> = ops
        .into_iter()
        .map(|op| Call { launches: rest.by_ref().take(op.launches as usize).collect(), op })
        .collect();
    assert_eq!(rest.count(), 0, "launches that no operation asked for");
    calls
}

/// The whole step `planned`, whose launches have shapes only, from the `measured` reduced one.
pub fn project(measured: &[Call], planned: &[Call], devices: &[&Device]) -> Step {
    let mut step = Step { rows: BTreeMap::new(), fills_us: vec![0.0; devices.len()] };
    let registers = Registers::read();
    for call in planned {
        if call.op.launches == 0 && call.op.in_step {
            for (at, device) in devices.iter().enumerate() {
                step.fills_us[at] += Command::Fill { bytes: call.op.minimum_bytes }.modelled_us(device);
            }
        }
        let same = |other: &&Call| {
            (&other.op.name, &other.op.shape, other.op.bf16) == (&call.op.name, &call.op.shape, call.op.bf16)
        };
        let Some(model) = measured.iter().find(same) else {
            panic!("{} {} is in the whole step only", call.op.name, call.op.shape);
        };
        for (index, launch) in call.launches.iter().enumerate() {
            let run = model.launches.iter().find(|run| run.kernel == launch.kernel);
            let run = run.unwrap_or_else(|| &model.launches[index.min(model.launches.len() - 1)]);
            let set = if call.op.bf16 { "bf16" } else { "f32" };
            let row = step.rows.entry(format!("{} {set}", launch.kernel)).or_default();
            if run.kernel != launch.kernel {
                row.measured_as = Some(run.kernel.clone());
            }
            let counters = scaled(&run.counters, growth(&model.op, &call.op));
            // An operation's bytes count once, however many launches it takes.
            let part = 1.0 / call.launches.len() as f64;
            add(row, &call.op, part, launch, &counters, devices, &registers);
        }
    }
    step
}

fn add(
    row: &mut Row,
    op: &Op,
    part: f64,
    launch: &LaunchProfile,
    counters: &Counters,
    devices: &[&Device],
    registers: &Registers,
) {
    row.in_step |= op.in_step;
    row.launches += 1;
    row.minimum_bytes += op.minimum_bytes as f64 * part;
    row.asked_bytes += (counters.global_sectors() * SECTOR_BYTES) as f64;
    row.dram_bytes += dram_bytes(devices[0], counters);
    row.counters.add(counters);
    row.time_us.resize(devices.len(), 0.0);
    row.floor_us.resize(devices.len(), 0.0);
    for (at, device) in devices.iter().enumerate() {
        let shape = LaunchShape {
            grid: launch.grid,
            block: launch.block,
            registers: registers.of(&launch.kernel, op.bf16, device),
            shared_bytes: launch.shared_bytes,
        };
        let cost = cost(device, &shape, counters);
        row.time_us[at] += cost.total_us;
        row.floor_us[at] += floor_us(op, device) * part;
        if at == 0 {
            let occupancy = shape.occupancy(device).share;
            row.occupancy = if row.launches == 1 { occupancy } else { row.occupancy.min(occupancy) };
            row.registers = row.registers.max(shape.registers.unwrap_or(0));
            row.tensor_us += cost.term_us(Bound::Tensor) * cost.sm_fill;
            if row.bound.is_none_or(|(_, slowest)| cost.total_us > slowest) {
                row.bound = Some((cost.bound, cost.total_us));
            }
        }
    }
}

/// How much more the whole operation does than the measured one.
fn growth(measured: &Op, whole: &Op) -> f64 {
    match measured.flops {
        0 => whole.minimum_bytes as f64 / measured.minimum_bytes.max(1) as f64,
        flops => whole.flops as f64 / flops as f64,
    }
}

/// The least time for the bytes, or for the products at the peak that `mma.sync` (bf16) or the f32 lanes reach.
fn floor_us(op: &Op, device: &Device) -> f64 {
    let peak = if op.bf16 { device.tensor_f16_flops * device.mma_sync_share } else { device.f32_flops() };
    1e6 * (op.minimum_bytes as f64 / device.memory_bytes_per_second).max(op.flops as f64 / peak)
}

fn scaled(counters: &Counters, factor: f64) -> Counters {
    fn scale(value: &mut serde_json::Value, factor: f64) {
        match value {
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| scale(item, factor)),
            serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| scale(field, factor)),
            count => *count = ((count.as_f64().unwrap_or(0.0) * factor).round() as u64).into(),
        }
    }
    let mut value = serde_json::to_value(counters).expect("counts are JSON");
    scale(&mut value, factor);
    serde_json::from_value(value).expect("counts are what they were")
}

/// Registers by (set, architecture, kernel), from the heads of the embedded PTX.
struct Registers(BTreeMap<(String, u32, String), u32>);

impl Registers {
    fn read() -> Registers {
        let mut found = BTreeMap::new();
        for (_, set, ptx) in embedded() {
            for line in ptx.lines().take_while(|line| line.starts_with("//")) {
                // ptxas sm_80 NAME: 32 registers, ..
                let words: Vec<&str> = line.split_whitespace().collect();
                let ["//", "ptxas", machine, kernel, count, ..] = words[..] else { continue };
                let number = |word: &str| word.trim_start_matches("sm_").parse::<u32>().ok();
                if let (Some(machine), Some(count)) = (number(machine), number(count)) {
                    let kernel = kernel.trim_end_matches(':').to_string();
                    found.insert((set.to_string(), machine, kernel), count);
                }
            }
        }
        Registers(found)
    }

    /// On the newest architecture that the device runs.
    fn of(&self, kernel: &str, bf16: bool, device: &Device) -> Option<u32> {
        let capability = (device.major * 10 + device.minor) as u32;
        let set = match (bf16, capability >= 80) {
            (true, _) => "bf16_80",
            (false, true) => "f32_80",
            (false, false) => "f32_75",
        };
        let rows =
            self.0.iter().filter(|((of, arch, name), _)| of == set && name == kernel && *arch <= capability);
        rows.max_by_key(|((_, arch, _), _)| *arch).map(|(_, count)| *count)
    }
}
