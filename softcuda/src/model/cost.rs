//! How long a launch would take: a model, not a measurement. It is a roofline over exact counters, so the same launch
//! costs the same in every run, and it serves for ratios ("half the sectors, 1.9 times as fast") and for regressions. No
//! number here is a promise about silicon: scheduling, latency chains, L1 hits, DRAM pages and clocks under load are not
//! modelled.
//!
//! ```text
//! time = launch overhead + max over terms of (work / (peak rate * fill))
//! ```
//!
//! with the terms of [`Bound`] and two fills, 0 to 1:
//! - for what each SM has of its own (shared memory, tensor, issue, special, f32, f64): `balance * hiding`, where
//!   `balance = blocks / (SMs * ceil(blocks / SMs))` is the tail (all SMs wait for the one with the most blocks) and
//!   `hiding = min(1, resident warps of an SM / 16)` says that 4 warps a scheduler hide the latency of arithmetic;
//! - for what the SMs share (DRAM, L2): `min(1, resident warps of the device / (16 * SMs))`, as fewer warps cannot keep
//!   enough bytes in flight. A tail does not count here: the SMs that still run get the bandwidth of the others.

use serde::{Deserialize, Serialize};

use super::counters::{Class, Counters};
use super::devices::Device;
use super::occupancy::{BlockNeeds, Occupancy, occupancy};

/// Bytes of a sector of global memory.
pub const SECTOR_BYTES: u64 = 32;

/// Registers of a thread where no ptxas said how many: so few that they limit no block size on any device here. The
/// modelled occupancy is then an upper bound, and the modelled time a lower one.
pub const ASSUMED_REGISTERS: u32 = 32;

/// What a launch costs before its first instruction and after its last, µs. An assumption of the model, the same for all
/// devices: launches in a stream follow each other at about this pace.
pub const LAUNCH_OVERHEAD_US: f64 = 2.0;

/// What a copy or a fill costs besides its bytes, µs. An assumption of the model.
pub const COPY_OVERHEAD_US: f64 = 2.0;

/// Resident warps of an SM at which the model takes latency to be hidden: 4 a scheduler.
pub const WARPS_TO_FILL: u32 = 16;

/// Shape and resources of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchShape {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Registers of a thread; `None` where no ptxas said, then [`ASSUMED_REGISTERS`].
    pub registers: Option<u32>,
    /// Static and dynamic shared memory of a block, bytes.
    pub shared_bytes: u32,
}

impl LaunchShape {
    /// Blocks of the launch; saturates.
    pub fn blocks(&self) -> u64 {
        self.grid.iter().fold(1, |product: u64, &extent| product.saturating_mul(u64::from(extent)))
    }

    /// Threads of a block; saturates, as a shape may be one that no device takes.
    pub fn threads(&self) -> u32 {
        self.block.iter().fold(1, |product: u32, &extent| product.saturating_mul(extent))
    }

    /// Occupancy on `device`, with [`ASSUMED_REGISTERS`] where the registers are unknown.
    pub fn occupancy(&self, device: &Device) -> Occupancy {
        let registers = self.registers.unwrap_or(ASSUMED_REGISTERS);
        occupancy(device, BlockNeeds { threads: self.threads(), registers, shared_bytes: self.shared_bytes })
    }
}

/// What a launch is bound by, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Bandwidth of global memory.
    Memory,
    /// Bandwidth of L2.
    L2,
    /// Passes of shared memory, conflicts included.
    Shared,
    /// Tensor cores.
    Tensor,
    /// Issue slots of the schedulers.
    Issue,
    /// Units for approximate functions.
    Special,
    /// f32 lanes.
    Float,
    /// f64 lanes.
    Double,
    /// The launch itself: its overhead is more than every term.
    Launch,
}

impl Bound {
    /// The terms, in the order of [`Cost::terms_us`].
    pub const TERMS: [Bound; 8] = [
        Bound::Memory,
        Bound::L2,
        Bound::Shared,
        Bound::Tensor,
        Bound::Issue,
        Bound::Special,
        Bound::Float,
        Bound::Double,
    ];

    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Memory => "memory",
            Bound::L2 => "L2",
            Bound::Shared => "shared",
            Bound::Tensor => "tensor",
            Bound::Issue => "issue",
            Bound::Special => "special",
            Bound::Float => "f32",
            Bound::Double => "f64",
            Bound::Launch => "launch",
        }
    }
}

/// The modelled cost of a launch. A model, for ratios and regressions; exact from run to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Modelled µs of each of [`Bound::TERMS`], each already divided by its fill.
    pub terms_us: [f64; 8],
    /// Launch overhead, µs.
    pub overhead_us: f64,
    /// The largest term and the overhead, µs.
    pub total_us: f64,
    /// What binds: the largest term, or the launch when its overhead is larger still.
    pub bound: Bound,
    /// Modelled bytes to and from global memory: [`dram_bytes`].
    pub dram_bytes: f64,
    /// Times that the device is filled with resident blocks.
    pub waves: f64,
    /// Fill for what each SM has of its own, 0 to 1.
    pub sm_fill: f64,
    /// Fill for what the SMs share, 0 to 1.
    pub memory_fill: f64,
    /// Whether the registers were assumed, as no ptxas said how many.
    pub registers_assumed: bool,
}

impl Cost {
    /// The modelled µs of one term; the overhead for [`Bound::Launch`].
    pub fn term_us(&self, bound: Bound) -> f64 {
        Bound::TERMS.iter().position(|term| *term == bound).map_or(self.overhead_us, |at| self.terms_us[at])
    }
}

/// Modelled traffic of global memory, bytes: every sector that the launch touched goes over the bus once for reading and
/// once for writing, and of the repeated accesses the share that an L2 of the device's size would miss, which the model
/// takes to be `max(0, 1 - L2 / working set)`. The working set is all unique sectors; those both read and written count
/// twice, so it is an upper bound.
pub fn dram_bytes(device: &Device, counters: &Counters) -> f64 {
    let unique = counters.unique_sectors_read + counters.unique_sectors_written;
    let repeated = counters.global_sectors().saturating_sub(unique);
    let working_set = (unique * SECTOR_BYTES) as f64;
    let missed =
        if working_set > 0.0 { (1.0 - f64::from(device.l2_bytes) / working_set).max(0.0) } else { 0.0 };
    SECTOR_BYTES as f64 * (unique as f64 + repeated as f64 * missed)
}

/// The modelled cost of a launch that did `counters` in this shape on `device`.
///
/// A launch whose blocks do not fit an SM is costed as if one did: the driver refuses it, and the model has no errors.
pub fn cost(device: &Device, shape: &LaunchShape, counters: &Counters) -> Cost {
    let occupancy = shape.occupancy(device);
    let fill = Fill::of(device, shape, &occupancy);
    let dram_bytes = dram_bytes(device, counters);
    let terms_us = terms_us(device, counters, dram_bytes, &fill);
    let (mut bound, mut largest) = (Bound::Launch, LAUNCH_OVERHEAD_US);
    for (&term, &time_us) in Bound::TERMS.iter().zip(&terms_us) {
        if time_us > largest {
            (bound, largest) = (term, time_us);
        }
    }
    let slowest = terms_us.iter().copied().fold(0.0, f64::max);
    Cost {
        terms_us,
        overhead_us: LAUNCH_OVERHEAD_US,
        total_us: LAUNCH_OVERHEAD_US + slowest,
        bound,
        dram_bytes,
        waves: fill.waves,
        sm_fill: fill.sm,
        memory_fill: fill.memory,
        registers_assumed: shape.registers.is_none(),
    }
}

/// How full the machine is: see the module's text.
struct Fill {
    waves: f64,
    sm: f64,
    memory: f64,
}

impl Fill {
    fn of(device: &Device, shape: &LaunchShape, occupancy: &Occupancy) -> Fill {
        let blocks = shape.blocks().max(1);
        let sms = u64::from(device.sm_count);
        let blocks_of_busiest = blocks.div_ceil(sms);
        let fitting = u64::from(occupancy.blocks_per_sm.max(1));
        let warps = u64::from(shape.threads().div_ceil(Device::WARP_SIZE).max(1));
        let to_fill = u64::from(WARPS_TO_FILL);

        let balance = blocks as f64 / (sms as f64 * blocks_of_busiest as f64);
        let hiding = ratio_to_one(fitting.min(blocks_of_busiest) * warps, to_fill);
        let resident = (fitting * sms).min(blocks) * warps;
        Fill {
            waves: blocks as f64 / (fitting * sms) as f64,
            sm: balance * hiding,
            memory: ratio_to_one(resident, to_fill * sms),
        }
    }
}

fn ratio_to_one(part: u64, whole: u64) -> f64 {
    (part as f64 / whole as f64).min(1.0)
}

/// Modelled µs of [`Bound::TERMS`].
fn terms_us(device: &Device, counters: &Counters, dram_bytes: f64, fill: &Fill) -> [f64; 8] {
    let sm_clocks = f64::from(device.sm_count) * device.sm_hertz();
    // A warp takes its whole turn on a pipe, whichever of its lanes are active.
    let lanes = |classes: &[Class]| {
        let warps: u64 = classes.iter().map(|class| counters.warp_instructions[class.index()]).sum();
        warps as f64 * f64::from(Device::WARP_SIZE)
    };
    let pipe = |classes: &[Class], width: u32| lanes(classes) / (f64::from(width) * sm_clocks);

    let l2 = (counters.global_sectors() * SECTOR_BYTES) as f64 / device.l2_bytes_per_second();
    let passes = (counters.shared_passes + counters.shared_conflicts) as f64;
    let issued = counters.all_warp_instructions() as f64;
    let memory_side = [dram_bytes / device.memory_bytes_per_second, l2];
    let sm_side = [
        passes / (f64::from(device.shared_passes_per_sm) * sm_clocks),
        tensor_seconds(device, counters),
        issued / (f64::from(device.issue_slots_per_sm) * sm_clocks),
        pipe(&[Class::Special], device.special_lanes_per_sm),
        pipe(&[Class::Fma, Class::Float], device.f32_lanes_per_sm),
        pipe(&[Class::Double], device.f64_lanes_per_sm),
    ];

    let memory_side = memory_side.into_iter().map(|seconds| 1e6 * seconds / fill.memory);
    let sm_side = sm_side.into_iter().map(|seconds| 1e6 * seconds / fill.sm);
    let mut terms = [0.0; 8];
    terms.iter_mut().zip(memory_side.chain(sm_side)).for_each(|(term, time_us)| *term = time_us);
    terms
}

/// mma at the peak of its type, as far as `mma.sync` reaches it; tf32 at a quarter of f16 where there is no tf32 (such
/// PTX does not load there).
fn tensor_seconds(device: &Device, counters: &Counters) -> f64 {
    let tf32 = counters.tensor_tf32_flops;
    let f16 = counters.tensor_flops.saturating_sub(tf32);
    let tf32_peak =
        if device.tensor_tf32_flops > 0.0 { device.tensor_tf32_flops } else { device.tensor_f16_flops / 4.0 };
    (f16 as f64 / device.tensor_f16_flops + tf32 as f64 / tf32_peak) / device.mma_sync_share
}

/// A command of a stream, as the clock of events sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// A launch, with its modelled time.
    Launch {
        /// [`Cost::total_us`].
        total_us: f64,
    },
    /// A copy between host and device, either way.
    HostCopy {
        /// Bytes copied.
        bytes: u64,
    },
    /// A copy within the device: each byte is read and written.
    DeviceCopy {
        /// Bytes copied.
        bytes: u64,
    },
    /// A fill of device memory.
    Fill {
        /// Bytes written.
        bytes: u64,
    },
}

impl Command {
    /// The modelled time of the command, µs.
    pub fn modelled_us(&self, device: &Device) -> f64 {
        let copy = |bytes: f64, bandwidth: f64| COPY_OVERHEAD_US + 1e6 * bytes / bandwidth;
        match *self {
            Command::Launch { total_us } => total_us,
            Command::HostCopy { bytes } => copy(bytes as f64, device.host_bytes_per_second),
            Command::DeviceCopy { bytes } => copy(2.0 * bytes as f64, device.memory_bytes_per_second),
            Command::Fill { bytes } => copy(bytes as f64, device.memory_bytes_per_second),
        }
    }
}

/// What `cuEventElapsedTime` answers between two events of a stream: the sum of the modelled times of the commands between
/// them, ms. A model: no two commands overlap in it, and the host's own time does not count.
pub fn elapsed_ms(device: &Device, commands: &[Command]) -> f64 {
    commands.iter().map(|command| command.modelled_us(device)).sum::<f64>() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a100() -> &'static Device {
        Device::by_name("a100").unwrap()
    }

    /// 108 SMs, 8 blocks of 256 threads each, ten times over: an A100 full to the last warp.
    fn full() -> LaunchShape {
        LaunchShape { grid: [8640, 1, 1], block: [256, 1, 1], registers: Some(32), shared_bytes: 0 }
    }

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found}, expected {expected}");
    }

    #[test]
    fn a_stream_through_memory_takes_its_bytes_over_the_bandwidth() {
        // 1.555 GB there and back: 1 ms each way.
        let sectors = 1_555_000_000 / SECTOR_BYTES;
        let counters = Counters {
            global_load_sectors: sectors,
            unique_sectors_read: sectors,
            global_store_sectors: sectors,
            unique_sectors_written: sectors,
            ..Counters::default()
        };
        let cost = cost(a100(), &full(), &counters);
        near(cost.total_us, 2000.0 + LAUNCH_OVERHEAD_US);
        near(cost.dram_bytes, 3.11e9);
        assert_eq!(cost.bound, Bound::Memory);
        assert_eq!((cost.waves, cost.sm_fill, cost.memory_fill), (10.0, 1.0, 1.0));
    }

    #[test]
    fn repeated_sectors_are_free_within_l2_and_cost_their_share_beyond_it() {
        let within = Counters { global_load_sectors: 8000, unique_sectors_read: 1000, ..Counters::default() };
        near(dram_bytes(a100(), &within), 32_000.0);
        // A working set of twice the L2: half of the repeated sectors miss.
        let unique = 2 * u64::from(a100().l2_bytes) / SECTOR_BYTES;
        let beyond =
            Counters { global_load_sectors: 3 * unique, unique_sectors_read: unique, ..Counters::default() };
        near(dram_bytes(a100(), &beyond), (unique * SECTOR_BYTES) as f64 * 2.0);
        assert_eq!(dram_bytes(a100(), &Counters::default()), 0.0);
    }

    #[test]
    fn each_kind_of_work_binds_by_its_own_rate() {
        let sm_clocks_per_us = 108.0 * 1410.0;
        let of_class = |class: Class, warps: u64| {
            let mut counters = Counters::default();
            counters.warp_instructions[class.index()] = warps;
            counters
        };
        let million = 1_000_000_000;
        let warps = million as f64;
        let cases = [
            (of_class(Class::Integer, million), Bound::Issue, warps / 4.0 / sm_clocks_per_us),
            (of_class(Class::Fma, million), Bound::Float, warps / 2.0 / sm_clocks_per_us),
            (of_class(Class::Special, million), Bound::Special, warps * 2.0 / sm_clocks_per_us),
            (of_class(Class::Double, million), Bound::Double, warps / sm_clocks_per_us),
            (
                Counters { shared_passes: million, shared_conflicts: million, ..Counters::default() },
                Bound::Shared,
                2.0 * warps / sm_clocks_per_us,
            ),
            (
                Counters { global_load_sectors: million, unique_sectors_read: 1, ..Counters::default() },
                Bound::L2,
                32.0 * warps / (5120.0 * 1410.0),
            ),
            (Counters { tensor_flops: 312 * million, ..Counters::default() }, Bound::Tensor, 1000.0),
            (
                Counters {
                    tensor_flops: 312 * million,
                    tensor_tf32_flops: 312 * million,
                    ..Counters::default()
                },
                Bound::Tensor,
                2000.0,
            ),
        ];
        for (counters, bound, time_us) in cases {
            let cost = cost(a100(), &full(), &counters);
            assert_eq!(cost.bound, bound);
            near(cost.term_us(bound), time_us);
            near(cost.total_us, time_us + LAUNCH_OVERHEAD_US);
        }
    }

    #[test]
    fn mma_sync_reaches_a_part_of_the_peak_of_an_h100() {
        let shape = LaunchShape { grid: [1320, 1, 1], ..full() };
        let counters = Counters { tensor_flops: 989_400_000_000, ..Counters::default() };
        let cost = cost(Device::by_name("h100").unwrap(), &shape, &counters);
        near(cost.term_us(Bound::Tensor), 1000.0 / 0.63);
    }

    #[test]
    fn one_block_more_than_there_are_sms_makes_all_wait_for_it() {
        let mut counters = Counters::default();
        counters.warp_instructions[Class::Fma.index()] = 1_000_000_000;
        let time_us = |blocks| {
            let shape = LaunchShape { grid: [blocks, 1, 1], block: [512, 1, 1], ..full() };
            cost(a100(), &shape, &counters).term_us(Bound::Float)
        };
        near(time_us(109) / time_us(108), 2.0 * 108.0 / 109.0);
        near(time_us(216), time_us(108));
    }

    #[test]
    fn too_few_warps_hide_no_latency() {
        let counters = Counters { shared_passes: 1_000_000_000, ..Counters::default() };
        let time_us = |threads| {
            let shape = LaunchShape { grid: [108, 1, 1], block: [threads, 1, 1], ..full() };
            cost(a100(), &shape, &counters).term_us(Bound::Shared)
        };
        near(time_us(32) / time_us(512), 16.0);
        near(time_us(1024), time_us(512));
        let starved = LaunchShape { grid: [27, 1, 1], block: [512, 1, 1], ..full() };
        assert_eq!(cost(a100(), &starved, &counters).memory_fill, 0.25);
    }

    #[test]
    fn a_launch_that_does_nothing_costs_its_overhead() {
        let empty = cost(a100(), &full(), &Counters::default());
        assert_eq!((empty.total_us, empty.bound), (LAUNCH_OVERHEAD_US, Bound::Launch));
        assert_eq!(empty.term_us(Bound::Launch), LAUNCH_OVERHEAD_US);
    }

    #[test]
    fn unknown_registers_are_assumed_and_said_to_be() {
        let unknown = LaunchShape { registers: None, ..full() };
        assert!(cost(a100(), &unknown, &Counters::default()).registers_assumed);
        assert!(!cost(a100(), &full(), &Counters::default()).registers_assumed);
        for device in Device::all() {
            assert_eq!(unknown.occupancy(device).share, 1.0, "{}", device.key);
        }
    }

    #[test]
    fn a_shape_beyond_every_device_is_costed_without_a_panic() {
        let absurd = LaunchShape { grid: [u32::MAX; 3], block: [u32::MAX; 3], ..full() };
        assert!(cost(a100(), &absurd, &Counters::default()).total_us.is_finite());
        let nothing = LaunchShape { grid: [0; 3], block: [0; 3], ..full() };
        assert!(cost(a100(), &nothing, &Counters::default()).total_us.is_finite());
    }

    #[test]
    fn time_between_events_is_the_sum_of_the_commands_between() {
        let commands = [
            Command::Launch { total_us: 100.0 },
            Command::HostCopy { bytes: 31_500_000 },
            Command::DeviceCopy { bytes: 1_555_000_000 },
            Command::Fill { bytes: 1_555_000_000 },
        ];
        near(
            elapsed_ms(a100(), &commands),
            (100.0 + 1000.0 + 2000.0 + 1000.0 + 3.0 * COPY_OVERHEAD_US) / 1e3,
        );
        assert_eq!(elapsed_ms(a100(), &[]), 0.0);
    }
}
