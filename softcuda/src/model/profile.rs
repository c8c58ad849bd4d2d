//! What a launch did and would cost, as one line of JSON, and sums of that over the launches of a kernel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cost::{Bound, Cost, LaunchShape, cost};
use super::counters::Counters;
use super::devices::Device;
use super::occupancy::Occupancy;

/// What one source line did in a launch. Sectors are of 32 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LineCount {
    /// Source file, as the PTX names it (`-lineinfo`); empty where the PTX has no line information.
    pub file: String,
    /// Line in it, from 1.
    pub line: u32,
    /// Warp instructions issued.
    pub warp_instructions: u64,
    /// Lanes active in them.
    pub lane_instructions: u64,
    /// Sectors of global memory asked for, loads and stores.
    pub global_sectors: u64,
    /// The fewest that could hold their bytes.
    pub minimum_sectors: u64,
    /// Passes of shared memory without conflicts.
    pub shared_passes: u64,
    /// Passes beyond those.
    pub shared_conflicts: u64,
}

impl LineCount {
    /// Adds what the same line did elsewhere.
    pub fn add(&mut self, other: &LineCount) {
        self.warp_instructions += other.warp_instructions;
        self.lane_instructions += other.lane_instructions;
        self.global_sectors += other.global_sectors;
        self.minimum_sectors += other.minimum_sectors;
        self.shared_passes += other.shared_passes;
        self.shared_conflicts += other.shared_conflicts;
    }

    /// How hot the line is: issue slots and the passes and sectors that its accesses take beyond one each. An order for
    /// tables, not a time.
    pub fn weight(&self) -> u64 {
        self.warp_instructions + self.global_sectors + self.shared_passes + self.shared_conflicts
    }
}

/// One launch: what was launched, what it did (exact) and what it would cost (modelled).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchProfile {
    /// Name of the kernel, as in the PTX.
    pub kernel: String,
    /// Key of the device that the driver presented itself as.
    pub device: String,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads along x, y, z.
    pub block: [u32; 3],
    /// Static and dynamic shared memory of a block, bytes.
    pub shared_bytes: u32,
    /// Registers of a thread; `None` where no ptxas said.
    pub registers: Option<u32>,
    /// What it did.
    pub counters: Counters,
    /// Blocks that an SM holds.
    pub occupancy: Occupancy,
    /// What it would cost: a model.
    pub cost: Cost,
    /// What each source line did; in no order that means anything.
    #[serde(default)]
    pub lines: Vec<LineCount>,
}

/// A profile that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no launch profile: {reason}")]
pub struct ProfileError {
    /// Line of the file, from 1.
    pub line: usize,
    /// What the parser says.
    pub reason: String,
}

impl LaunchProfile {
    /// The profile of a launch that did `counters`: occupancy and cost come from the model.
    pub fn new(
        device: &Device,
        kernel: &str,
        shape: LaunchShape,
        counters: Counters,
        lines: Vec<LineCount>,
    ) -> LaunchProfile {
        LaunchProfile {
            kernel: kernel.to_string(),
            device: device.key.to_string(),
            grid: shape.grid,
            block: shape.block,
            shared_bytes: shape.shared_bytes,
            registers: shape.registers,
            occupancy: shape.occupancy(device),
            cost: cost(device, &shape, &counters),
            counters,
            lines,
        }
    }

    /// One line of JSON, without a line end.
    pub fn to_json_line(&self) -> String {
        serde_json::to_string(self).expect("plain strings and numbers are JSON")
    }
}

/// Reads profiles, one a line; empty lines are passed over.
///
/// # Errors
/// [`ProfileError`] for the first line that is none, such as one cut off by a kill.
pub fn read_json_lines(text: &str) -> Result<Vec<LaunchProfile>, ProfileError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|error| ProfileError { line: at + 1, reason: error.to_string() })
        })
        .collect()
}

/// All launches of one kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelSummary {
    /// Name of the kernel.
    pub kernel: String,
    /// Launches.
    pub launches: u64,
    /// What they did, summed. Unique sectors are summed too, launch by launch.
    pub counters: Counters,
    /// Modelled bytes to and from global memory.
    pub dram_bytes: f64,
    /// Modelled time, µs, launch overheads included.
    pub total_us: f64,
    /// Share of the warps that an SM could hold, 0 to 1: the mean over launches, weighted by modelled time.
    pub occupancy: f64,
    /// What binds most of the modelled time.
    pub bound: Bound,
    /// Whether registers were assumed in any of the launches.
    pub registers_assumed: bool,
    /// What each source line did, the hottest first.
    pub lines: Vec<LineCount>,
}

impl KernelSummary {
    /// Active lanes over 32 a warp instruction, 0 to 1; 1 for nothing.
    pub fn lane_efficiency(&self) -> f64 {
        let lanes = 32 * self.counters.all_warp_instructions();
        ratio(self.counters.all_lane_instructions(), lanes).unwrap_or(1.0)
    }

    /// Sectors asked for over the fewest that could hold the bytes; `None` without global accesses. 1 is best.
    pub fn sectors_over_minimum(&self) -> Option<f64> {
        ratio(self.counters.global_sectors(), self.counters.global_sectors_minimum())
    }

    /// Share of the floating-point operations that tensor cores did; `None` without any.
    pub fn tensor_share(&self) -> Option<f64> {
        let counters = &self.counters;
        ratio(counters.tensor_flops, counters.tensor_flops + counters.flops + counters.double_flops)
    }
}

/// A quotient; `None` for a denominator of 0.
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Sums launches by kernel; the kernel with the most modelled time comes first, names decide between equals.
pub fn by_kernel(launches: &[LaunchProfile]) -> Vec<KernelSummary> {
    let mut groups: BTreeMap<&str, Vec<&LaunchProfile>> = BTreeMap::new();
    for launch in launches {
        groups.entry(&launch.kernel).or_default().push(launch);
    }
    let mut summaries: Vec<KernelSummary> =
        groups.into_iter().map(|(kernel, launches)| summary(kernel, &launches)).collect();
    summaries.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
    summaries
}

fn summary(kernel: &str, launches: &[&LaunchProfile]) -> KernelSummary {
    let mut counters = Counters::default();
    let mut by_bound: BTreeMap<Bound, f64> = BTreeMap::new();
    for launch in launches {
        counters.add(&launch.counters);
        *by_bound.entry(launch.cost.bound).or_default() += launch.cost.total_us;
    }
    let total_us: f64 = launches.iter().map(|launch| launch.cost.total_us).sum();
    let weighted: f64 = launches.iter().map(|launch| launch.occupancy.share * launch.cost.total_us).sum();
    KernelSummary {
        kernel: kernel.to_string(),
        launches: launches.len() as u64,
        counters,
        dram_bytes: launches.iter().map(|launch| launch.cost.dram_bytes).sum(),
        total_us,
        occupancy: if total_us > 0.0 { weighted / total_us } else { 0.0 },
        bound: by_bound
            .into_iter()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map_or(Bound::Launch, |(bound, _)| bound),
        registers_assumed: launches.iter().any(|launch| launch.cost.registers_assumed),
        lines: hottest_lines(launches),
    }
}

fn hottest_lines(launches: &[&LaunchProfile]) -> Vec<LineCount> {
    let mut lines: BTreeMap<(&str, u32), LineCount> = BTreeMap::new();
    for line in launches.iter().flat_map(|launch| &launch.lines) {
        let empty = || LineCount { file: line.file.clone(), line: line.line, ..LineCount::default() };
        lines.entry((&line.file, line.line)).or_insert_with(empty).add(line);
    }
    let mut lines: Vec<LineCount> = lines.into_values().collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.weight()));
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::counters::Class;

    /// A launch of `blocks` blocks on an A100 with a little of everything.
    pub fn launch(kernel: &str, blocks: u32) -> LaunchProfile {
        let count = u64::from(blocks) * 1000;
        let mut counters = Counters {
            global_load_sectors: 6 * count,
            global_load_sectors_minimum: 3 * count,
            global_store_sectors: 2 * count,
            global_store_sectors_minimum: count,
            unique_sectors_read: 3 * count,
            unique_sectors_written: count,
            shared_passes: 10 * count,
            shared_conflicts: 5 * count,
            tensor_flops: 300 * count,
            flops: 90 * count,
            double_flops: 10 * count,
            ..Counters::default()
        };
        counters.warp_instructions[Class::Fma.index()] = count;
        counters.lane_instructions[Class::Fma.index()] = 24 * count;
        let line = |line, warps| LineCount {
            file: "/home/me/kernels/norm.cu".to_string(),
            line,
            warp_instructions: warps,
            lane_instructions: 16 * warps,
            global_sectors: warps,
            minimum_sectors: warps / 2,
            shared_passes: 0,
            shared_conflicts: 0,
        };
        let shape = LaunchShape {
            grid: [blocks, 1, 1],
            block: [256, 1, 1],
            registers: (blocks > 1).then_some(64),
            shared_bytes: 4096,
        };
        let lines = vec![line(7, 10), line(31, count)];
        LaunchProfile::new(Device::by_name("a100").unwrap(), kernel, shape, counters, lines)
    }

    #[test]
    fn a_profile_survives_its_line_of_json_to_the_last_bit() {
        let launches = [launch("norm \"quoted\"\n", 1), launch("matmul", 777)];
        let text: String = launches.iter().map(|launch| launch.to_json_line() + "\n").collect();
        assert_eq!(text.lines().count(), 2);
        assert_eq!(read_json_lines(&text).unwrap(), launches);
    }

    #[test]
    fn a_line_that_is_cut_off_is_named() {
        let whole = launch("norm", 2).to_json_line();
        let text = format!("{whole}\n\n{}", &whole[..whole.len() / 2]);
        let error = read_json_lines(&text).unwrap_err();
        assert_eq!(error.line, 3);
        assert!(error.to_string().starts_with("line 3 is no launch profile: EOF"), "{error}");
        assert_eq!(read_json_lines("").unwrap(), []);
    }

    #[test]
    fn launches_of_a_kernel_add_up_and_the_slowest_kernel_comes_first() {
        let launches = [launch("small", 2), launch("large", 5000), launch("small", 3)];
        let summaries = by_kernel(&launches);
        let names: Vec<&str> = summaries.iter().map(|summary| summary.kernel.as_str()).collect();
        assert_eq!(names, ["large", "small"]);
        let small = &summaries[1];
        assert_eq!((small.launches, small.counters.all_warp_instructions()), (2, 5000));
        assert_eq!(small.total_us, launches[0].cost.total_us + launches[2].cost.total_us);
        assert_eq!(small.dram_bytes, 5000.0 * 4.0 * 32.0);
        assert_eq!(small.lane_efficiency(), 0.75);
        assert_eq!(small.sectors_over_minimum(), Some(2.0));
        assert_eq!(small.tensor_share(), Some(0.75));
    }

    #[test]
    fn lines_are_merged_over_launches_the_hottest_first() {
        let summaries = by_kernel(&[launch("norm", 2), launch("norm", 3)]);
        let lines = &summaries[0].lines;
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].line, lines[0].warp_instructions), (31, 5000));
        assert_eq!((lines[1].line, lines[1].lane_instructions), (7, 320));
    }

    #[test]
    fn occupancy_is_weighted_by_time_and_assumed_registers_are_remembered() {
        let (short, long) = (launch("norm", 1), launch("norm", 20_000));
        let summary = &by_kernel(&[short.clone(), long.clone()])[0];
        let expected = (short.occupancy.share * short.cost.total_us
            + long.occupancy.share * long.cost.total_us)
            / (short.cost.total_us + long.cost.total_us);
        assert_eq!(summary.occupancy, expected);
        assert!(short.occupancy.share > long.occupancy.share, "64 registers hold fewer blocks");
        assert!(summary.registers_assumed);
        assert!(!by_kernel(&[long])[0].registers_assumed);
    }

    #[test]
    fn what_binds_a_kernel_is_what_binds_most_of_its_time() {
        // Four small launches that are all overhead, and a large one that takes longer than they do together.
        let mut launches = vec![launch("norm", 20_000)];
        let mut empty = launch("norm", 1);
        empty.cost.bound = Bound::Launch;
        empty.cost.total_us = 2.0;
        launches.resize(5, empty);
        assert_ne!(launches[0].cost.bound, Bound::Launch);
        assert_eq!(by_kernel(&launches)[0].bound, launches[0].cost.bound);
        assert_eq!(by_kernel(&launches[1..])[0].bound, Bound::Launch);
    }

    #[test]
    fn nothing_divides_by_nothing() {
        let mut launch = launch("empty", 1);
        launch.counters = Counters::default();
        let summary = &by_kernel(&[launch])[0];
        assert_eq!(summary.lane_efficiency(), 1.0);
        assert_eq!((summary.sectors_over_minimum(), summary.tensor_share()), (None, None));
        assert_eq!(by_kernel(&[]), []);
    }
}
