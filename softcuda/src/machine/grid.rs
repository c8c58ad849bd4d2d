//! A launch: its blocks over the threads of the host, in time slices, so that blocks may wait for each other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::block::{Block, Turn, mix};
use super::context::{LaunchState, Region, StepCount};
use super::memory::Memory;
use crate::checks::{Check, Checks, DeviceError, Finding};
use crate::model::cost::LaunchShape;
use crate::model::counters::{Class, Counters};
use crate::model::devices::Device;
use crate::model::profile::LineCount;
use crate::program::{Kernel, Step};

/// Warp instructions that a block does before another has a turn.
const SLICE: u64 = 1 << 16;
/// Warp instructions without any change of memory after which a launch counts as hung, even if nothing repeats itself.
const ENDLESS: u64 = 1 << 30;

/// What to run.
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// Dynamic shared memory, bytes.
    pub dynamic_shared_bytes: u32,
    /// Parameters, laid out as the kernel says.
    pub parameters: &'a [u8],
    /// Decides the order of blocks and warps; 0 for the order of their numbers.
    pub seed: u64,
    /// Checks that are on.
    pub checks: Checks,
    /// The device.
    pub device: &'static Device,
}

/// What a launch did to an allocation: a bit a word of 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The allocation's address.
    pub base: u64,
    /// Words read.
    pub read: Vec<u64>,
    /// Words written.
    pub written: Vec<u64>,
}

/// What came of a launch.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What it did.
    pub counters: Counters,
    /// The same by source line.
    pub lines: Vec<LineCount>,
    /// What the checks found: at most one for now, since a launch stops at the first.
    pub findings: Vec<Finding>,
    /// Memory that it touched.
    pub touched: Vec<Touched>,
    /// What it printed.
    pub printed: Vec<u8>,
}

/// Blocks that wait for their turn.
struct Queue {
    /// Blocks that have started.
    started: u64,
    /// Those of them that were interrupted.
    interrupted: VecDeque<Block>,
    /// Those of them that run now.
    running: u64,
    /// Instructions since memory was last seen to change.
    idle: u64,
    /// Counts of those that have ended.
    counts: Vec<StepCount>,
    barriers: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a launch to its end or to the first finding.
///
/// # Panics
/// Never; a kernel that cannot be run (see [`Kernel::steps`]) gives a finding that says why.
pub fn run(launch: &Launch<'_>, memory: &Memory) -> Outcome {
    let kernel = launch.kernel;
    let steps = match &kernel.steps {
        Ok(steps) => steps.as_slice(),
        Err(reason) => return Outcome { findings: vec![not_runnable(kernel, reason)], ..Outcome::default() },
    };
    let regions =
        memory.live().into_iter().map(|allocation| Region { allocation, tracking: OnceLock::new() });
    let state = LaunchState {
        kernel,
        memory,
        regions: regions.collect(),
        grid: launch.grid,
        block: launch.block,
        shared_bytes: kernel.shared_bytes + launch.dynamic_shared_bytes,
        dynamic_shared_bytes: launch.dynamic_shared_bytes,
        parameters: launch.parameters,
        checks: launch.checks,
        device: launch.device,
        published: Mutex::default(),
        any_published: AtomicBool::new(false),
        progress: AtomicU64::new(0),
        stop: AtomicBool::new(false),
        findings: Mutex::default(),
        printed: Mutex::default(),
        clock: AtomicU64::new(0),
    };
    let blocks = launch.grid.iter().map(|&extent| u64::from(extent)).product::<u64>();
    let queue = Mutex::new(Queue {
        started: 0,
        interrupted: VecDeque::new(),
        running: 0,
        idle: 0,
        counts: vec![StepCount::default(); steps.len()],
        barriers: 0,
    });
    // As many blocks as the device holds have started at a time: a block that waits for one beyond them waits for ever.
    let shape = LaunchShape {
        grid: launch.grid,
        block: launch.block,
        shared_bytes: state.shared_bytes,
        registers: Some(kernel.registers),
    };
    let resident =
        u64::from(shape.occupancy(launch.device).blocks_per_sm.max(1)) * u64::from(launch.device.sm_count);
    let work = || worker(launch, &state, steps, &queue, blocks, resident);
    let workers = (rayon::current_num_threads() as u64).min(blocks);
    if workers <= 1 {
        work();
    } else {
        rayon::scope(|scope| (0..workers).for_each(|_| scope.spawn(|_| work())));
    }
    let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    let (counters, lines) = counters(kernel, steps, &queue);
    let mut outcome = Outcome { counters, lines, ..Outcome::default() };
    (outcome.counters.unique_sectors_read, outcome.counters.unique_sectors_written) = unique_sectors(&state);
    outcome.touched = touched(&state);
    outcome.findings = state.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome.printed = state.printed.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcome
}

/// Takes blocks and runs them until there are none.
fn worker(
    launch: &Launch<'_>,
    state: &LaunchState<'_>,
    steps: &[Step],
    queue: &Mutex<Queue>,
    blocks: u64,
    resident: u64,
) {
    loop {
        if state.stop.load(Ordering::Relaxed) {
            return;
        }
        let block = {
            let mut queue = lock(queue);
            let room = queue.running + (queue.interrupted.len() as u64) < resident;
            if queue.started < blocks && room {
                let index = queue.started;
                queue.started += 1;
                queue.running += 1;
                drop(queue);
                let number = shuffled(index, blocks, launch.seed);
                Some(Block::new(state, number, launch.seed, steps.len()))
            } else if let Some(next) = queue.interrupted.iter().position(|block| !block.waits(state)) {
                queue.running += 1;
                queue.interrupted.remove(next)
            } else if queue.running == 0 {
                if let Some(block) = queue.interrupted.front() {
                    let what = "every thread that is left waits for memory to change, and nobody changes it";
                    fail(state, hung(state, block, what, blocks - queue.started));
                }
                return;
            } else {
                None
            }
        };
        let Some(block) = block else {
            // The last blocks run elsewhere, and may be interrupted, or free others.
            std::thread::yield_now();
            std::thread::sleep(std::time::Duration::from_micros(50));
            continue;
        };
        let (turn, rest) = block.run(state, steps, SLICE);
        let mut queue = lock(queue);
        queue.running -= 1;
        match turn {
            Turn::Done(block) => {
                add(&mut queue.counts, &block.counts);
                queue.barriers += block.barriers_passed;
                queue.idle = 0;
            }
            Turn::Fault(finding, block) => {
                add(&mut queue.counts, &block.counts);
                queue.barriers += block.barriers_passed;
                fail(state, *finding);
            }
            Turn::Slice => {
                let Some(mut block) = rest else { continue };
                queue.idle = if block.has_progressed(state) { 0 } else { queue.idle + SLICE };
                if queue.idle > ENDLESS {
                    let what = format!("{ENDLESS} instructions of its warps have changed no memory");
                    fail(state, hung(state, &block, &what, blocks - queue.started));
                }
                queue.interrupted.push_back(block);
            }
        }
    }
}

fn fail(state: &LaunchState<'_>, finding: Finding) {
    let mut findings = lock(&state.findings);
    // Another worker may have been first.
    if findings.is_empty() {
        findings.push(finding);
    }
    drop(findings);
    state.stop.store(true, Ordering::Relaxed);
}

/// The i-th block to start.
fn shuffled(index: u64, blocks: u64, seed: u64) -> u64 {
    if seed == 0 || blocks < 2 {
        return index;
    }
    let gcd = |mut a: u64, mut b: u64| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let mut stride = mix(seed) % blocks;
    while stride == 0 || gcd(stride, blocks) != 1 {
        stride = (stride + 1) % blocks;
    }
    ((u128::from(index) * u128::from(stride) + u128::from(mix(!seed))) % u128::from(blocks)) as u64
}

fn add(to: &mut [StepCount], from: &[StepCount]) {
    for (to, from) in to.iter_mut().zip(from) {
        to.warps += from.warps;
        to.lanes += from.lanes;
        to.sectors += from.sectors;
        to.minimum_sectors += from.minimum_sectors;
        to.passes += from.passes;
        to.conflicts += from.conflicts;
        to.divergent += from.divergent;
    }
}

/// A launch in which nothing changes any more; so many of its blocks have not started.
fn hung(state: &LaunchState<'_>, block: &Block, what: &str, unstarted: u64) -> Finding {
    let (at, place, thread) = block.whereabouts(state);
    let full = match unstarted {
        0 => String::new(),
        count => format!(" ({count} blocks have not started: the device is full)"),
    };
    Finding {
        check: Check::Deadlock,
        error: DeviceError::LaunchTimeout,
        what: format!("the launch hangs: {what}{full}"),
        kernel: state.kernel.name.clone(),
        place,
        other_place: String::new(),
        block: Some(at),
        thread: Some(thread),
        address: None,
        allocation: String::new(),
    }
}

fn not_runnable(kernel: &Kernel, reason: &str) -> Finding {
    Finding {
        check: Check::Launch,
        error: DeviceError::IllegalInstruction,
        what: reason.to_string(),
        kernel: kernel.name.clone(),
        place: String::new(),
        other_place: String::new(),
        block: None,
        thread: None,
        address: None,
        allocation: String::new(),
    }
}

fn counters(kernel: &Kernel, steps: &[Step], queue: &Queue) -> (Counters, Vec<LineCount>) {
    let mut counters = Counters { barriers: queue.barriers, ..Counters::default() };
    let mut lines: BTreeMap<(u32, u32), LineCount> = BTreeMap::new();
    for (step, count) in steps.iter().zip(&queue.counts).filter(|(step, _)| !step.is_hidden) {
        let class = step.work.class;
        counters.warp_instructions[class.index()] += count.warps;
        counters.lane_instructions[class.index()] += count.lanes;
        let flops = count.lanes * u64::from(step.work.flops);
        if class == Class::Tensor {
            counters.tensor_flops += flops;
            counters.tensor_tf32_flops += if step.name.contains(".tf32") { flops } else { 0 };
        } else {
            counters.flops += flops;
        }
        counters.double_flops += count.lanes * u64::from(step.work.double_flops);
        match class {
            Class::StoreGlobal | Class::Atomic => {
                counters.global_store_sectors += count.sectors;
                counters.global_store_sectors_minimum += count.minimum_sectors;
            }
            _ => {
                counters.global_load_sectors += count.sectors;
                counters.global_load_sectors_minimum += count.minimum_sectors;
            }
        }
        counters.shared_passes += count.passes;
        counters.shared_conflicts += count.conflicts;
        counters.divergent_branches += count.divergent;
        if count.warps == 0 {
            continue;
        }
        let position = step.position;
        let at =
            if position.inlined_at.1 != 0 { position.inlined_at } else { (position.file, position.line) };
        let line = lines.entry(at).or_insert_with(|| LineCount {
            file: kernel
                .files
                .iter()
                .find(|file| file.0 == at.0)
                .map(|file| file.1.clone())
                .unwrap_or_default(),
            line: at.1,
            ..LineCount::default()
        });
        line.warp_instructions += count.warps;
        line.lane_instructions += count.lanes;
        line.global_sectors += count.sectors;
        line.minimum_sectors += count.minimum_sectors;
        line.shared_passes += count.passes;
        line.shared_conflicts += count.conflicts;
    }
    (counters, lines.into_values().collect())
}

fn unique_sectors(state: &LaunchState<'_>) -> (u64, u64) {
    let (mut read, mut written) = (0, 0);
    for tracking in state.regions.iter().filter_map(|region| region.tracking.get()) {
        let count = |flags: &[std::sync::atomic::AtomicU8]| {
            flags
                .chunks(8)
                .filter(|sector| sector.iter().any(|flag| flag.load(Ordering::Relaxed) != 0))
                .count() as u64
        };
        read += count(&tracking.read);
        written += count(&tracking.written);
    }
    (read, written)
}

fn touched(state: &LaunchState<'_>) -> Vec<Touched> {
    let bits = |flags: &[std::sync::atomic::AtomicU8]| {
        let word = |chunk: &[std::sync::atomic::AtomicU8]| {
            let set = |(at, flag): (usize, &std::sync::atomic::AtomicU8)| {
                u64::from(flag.load(Ordering::Relaxed) != 0) << at
            };
            chunk.iter().enumerate().map(set).fold(0, |word, bit| word | bit)
        };
        flags.chunks(64).map(word).collect()
    };
    let of = |region: &Region| {
        let tracking = region.tracking.get()?;
        Some(Touched {
            base: region.allocation.base,
            read: bits(&tracking.read),
            written: bits(&tracking.written),
        })
    };
    state.regions.iter().filter_map(of).collect()
}
