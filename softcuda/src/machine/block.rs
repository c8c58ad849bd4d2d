//! A block: its warps, run one after the other until all have ended or none can go on.

use std::sync::atomic::Ordering;

use super::barriers::Barriers;
use super::cluster::{CLUSTER, ClusterBarrier};
use super::context::{Arrival, BlockState, Context, LaunchState, ReductionKind, StepCount, WarpState};
use super::memory::POISON;
use super::order::Clock;
use super::registers::{Registers, lanes};
use super::shadow::Records;
use super::warp::{Split, Stop, Wait, Warp};
use crate::checks::{Check, DeviceError, Finding};
use crate::program::{LaneMask, Special, Step};

/// Warp instructions that a warp does before another of its block has a turn.
const WARP_SLICE: u64 = 1 << 12;

/// A block that runs.
pub struct Block {
    warps: Vec<Warp>,
    state: BlockState,
    /// The order in which warps have their turns.
    order: Vec<usize>,
    /// Slices in which no memory changed, the last ones.
    idle: u32,
    /// Progress of the launch and of the block when that was seen.
    seen: (u64, u64),
    /// Progress of the launch at which the block was seen to do nothing but wait.
    waits_since: Option<u64>,
}

/// How a turn of a block ended.
pub enum Turn {
    /// All threads have ended.
    Done(Box<BlockState>),
    /// It has done what it was given.
    Slice,
    /// A fault; the counts up to it.
    Fault(Box<Finding>, Box<BlockState>),
}

/// A small mixing function (splitmix64, Steele et al. 2014).
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Block {
    /// The block of a number, at its start.
    pub fn new(launch: &LaunchState<'_>, number: u64, seed: u64, steps: usize) -> Block {
        let [x, y, _] = launch.grid.map(u64::from);
        let at = [(number % x) as u32, (number / x % y) as u32, (number / (x * y)) as u32];
        let threads = launch.block.iter().product::<u32>() as usize;
        let count = threads.div_ceil(32);
        let warps = (0..count)
            .map(|warp| {
                let lanes = (threads - warp * 32).min(32);
                let launched = if lanes == 32 { u32::MAX } else { (1 << lanes) - 1 };
                let local = launch.kernel.local_bytes as usize * 32;
                let state = WarpState {
                    number: warp,
                    launched,
                    exited: 0,
                    local: vec![POISON; local],
                    local_written: vec![false; local],
                    pending: vec![Default::default(); 32],
                    bulk: vec![Default::default(); 32],
                    calls: vec![Vec::new(); 32],
                    carry: 0,
                };
                Warp::new(registers(launch, at, number, warp), state)
            })
            .collect();
        let shared = launch.shared_bytes as usize;
        let words = shared.div_ceil(4);
        let state = BlockState {
            number,
            at,
            shared: vec![POISON; shared],
            shared_written: vec![0; words],
            shared_records: Records::new(if launch.checks.has(Check::Race) { words } else { 0 }, false),
            barriers: Barriers::new(count),
            cluster: ClusterBarrier::new(count),
            clocks: vec![Clock::default(); count],
            shared_clocks: Default::default(),
            changes: 0,
            deferred: Default::default(),
            kept_back: None,
            counts: vec![StepCount::default(); steps],
            barriers_passed: 0,
            last_region: 0,
        };
        let mut order: Vec<usize> = (0..count).collect();
        if seed != 0 {
            order.sort_by_key(|&warp| mix(seed ^ mix(number ^ mix(warp as u64))));
        }
        Block { warps, state, order, idle: 0, seen: (0, 0), waits_since: None }
    }

    fn any_ready(&self) -> bool {
        self.warps.iter().any(|warp| warp.splits.iter().any(|split| split.wait == Wait::Ready))
    }

    /// Whether it does nothing but wait for a change of memory, and there was none.
    pub fn waits(&self, launch: &LaunchState<'_>) -> bool {
        self.waits_since == Some(launch.progress.load(Ordering::Acquire))
    }

    /// Notes at the end of a slice whether any memory has changed since the last; gives that.
    pub fn has_progressed(&mut self, launch: &LaunchState<'_>) -> bool {
        let now = (launch.progress.load(Ordering::Acquire), self.state.changes);
        let changed = now != self.seen;
        (self.idle, self.seen) = if changed { (0, now) } else { (self.idle + 1, now) };
        changed
    }

    /// Runs a little of each warp to see whether all do nothing but wait.
    fn watch(&mut self, launch: &LaunchState<'_>, steps: &[Step]) -> Result<(), Box<Finding>> {
        let before = (launch.progress.load(Ordering::Acquire), self.state.changes);
        if !self.any_ready() {
            return Ok(());
        }
        for turn in 0..self.order.len() {
            let index = self.order[turn];
            if self.warps[index].is_done() {
                continue;
            }
            let (waits, stop) = self.warps[index].watch(&mut self.state, launch, steps);
            self.stopped(launch, index, stop)?;
            if !waits {
                return Ok(());
            }
        }
        if before == (launch.progress.load(Ordering::Acquire), self.state.changes) {
            self.waits_since = Some(before.0);
        }
        self.state.kept_back.take().map_or(Ok(()), Err)
    }

    /// What follows when a warp stops.
    fn stopped(&mut self, launch: &LaunchState<'_>, index: usize, stop: Stop) -> Result<(), Box<Finding>> {
        match stop {
            Stop::Slice | Stop::Idle => {
                self.release();
                Ok(())
            }
            Stop::Barrier(arrival, mask) => self.arrive(launch, index, arrival, mask),
            Stop::Fault(fault) => Err(self.first_fault(fault)),
        }
    }

    /// Runs for `budget` warp instructions or to the end.
    pub fn run(mut self, launch: &LaunchState<'_>, steps: &[Step], budget: u64) -> (Turn, Option<Block>) {
        let mut left = budget;
        self.waits_since = None;
        if self.idle.is_power_of_two() {
            if let Err(fault) = self.watch(launch, steps) {
                return (Turn::Fault(fault, Box::new(self.state)), None);
            }
            if self.waits_since.is_some() {
                return (Turn::Slice, Some(self));
            }
        }
        loop {
            let mut ran = false;
            for turn in 0..self.order.len() {
                let index = self.order[turn];
                if self.warps[index].is_done() {
                    continue;
                }
                let passed = self.state.barriers_passed;
                let mut slice = WARP_SLICE.min(left);
                let given = slice;
                let stop = self.warps[index].run(&mut self.state, launch, steps, &mut slice);
                ran |= slice < given;
                left -= given - slice;
                ran |= matches!(stop, Stop::Barrier(..));
                if let Err(fault) = self.stopped(launch, index, stop) {
                    return (Turn::Fault(fault, Box::new(self.state)), None);
                }
                if (left == 0 || self.state.barriers_passed != passed)
                    && let Some(fault) = self.state.kept_back.take()
                {
                    return (Turn::Fault(fault, Box::new(self.state)), None);
                }
                if left == 0 {
                    launch.clock.fetch_add(budget, Ordering::Relaxed);
                    return (Turn::Slice, Some(self));
                }
            }
            if self.warps.iter().all(Warp::is_done) {
                if let Some(fault) = self.state.kept_back.take() {
                    return (Turn::Fault(fault, Box::new(self.state)), None);
                }
                if let Err(fault) = self.end_bulk(launch) {
                    return (Turn::Fault(fault, Box::new(self.state)), None);
                }
                launch.clock.fetch_add(budget - left, Ordering::Relaxed);
                launch.progress.fetch_add(1, Ordering::Release);
                return (Turn::Done(Box::new(self.state)), None);
            }
            if !ran && !self.any_ready() {
                let fault = self.stuck(launch);
                let fault = self.first_fault(fault);
                return (Turn::Fault(fault, Box::new(self.state)), None);
            }
            if launch.stop.load(Ordering::Relaxed) {
                return (Turn::Slice, Some(self));
            }
        }
    }

    /// What becomes of bulk copies that nobody has waited for.
    fn end_bulk(&mut self, launch: &LaunchState<'_>) -> Result<(), Box<Finding>> {
        let block = &mut self.state;
        self.warps.iter_mut().try_for_each(|Warp { registers, state: warp, .. }| {
            let mask = warp.launched;
            Context { registers, mask, pc: 0, warp, block: &mut *block, launch }.end_bulk()
        })
    }

    /// Of a fault and one that was kept back before it, the one to tell: the earlier one, unless the later one is the race that
    /// explains it.
    fn first_fault(&mut self, fault: Box<Finding>) -> Box<Finding> {
        let Some(earlier) = self.state.kept_back.take() else { return fault };
        let same = [&fault.place, &fault.other_place].contains(&&earlier.place);
        if fault.check == Check::Race && same { fault } else { earlier }
    }

    /// Lanes of a warp have arrived at a barrier.
    fn arrive(
        &mut self,
        launch: &LaunchState<'_>,
        index: usize,
        arrival: Arrival,
        mask: u32,
    ) -> Result<(), Box<Finding>> {
        if arrival.barrier == CLUSTER {
            self.release();
            return Ok(());
        }
        let knowledge = self.state.clocks[index].knowledge(index);
        let clock = &mut self.state.clocks[index];
        if arrival.aligned || mask == self.warps[index].live() {
            // Lanes that arrive together have synchronised among themselves, too.
            clock.synchronise_lanes(u32::MAX, u32::MAX);
        } else {
            clock.tick += 1;
        }
        let live = self.warps[index].live();
        let acquired = &self.state.clocks[index].acquired;
        let differs = self.state.barriers.arrive(index, mask, live, arrival, &knowledge, acquired);
        if let Some(threads) = differs.filter(|_| launch.checks.has(Check::Sync)) {
            let what = format!(
                "barrier {} is waited for with {} threads here and {threads} elsewhere (0: all of the block)",
                arrival.barrier, arrival.threads
            );
            return Err(self.at_wait(launch, index, Check::Sync, DeviceError::LaunchFailed, what));
        }
        self.release();
        Ok(())
    }

    /// Lets go whoever waits at barriers that are complete.
    fn release(&mut self) {
        let live = self.warps.iter().filter(|warp| !warp.is_done()).count() as u32;
        self.release_cluster();
        let used: Vec<usize> = self.state.barriers.used().collect();
        for number in used {
            let Some(barrier) = self.state.barriers.complete(number, live) else { continue };
            self.state.barriers_passed += 1;
            let votes: u32 =
                barrier.reductions.iter().map(|(_, mask, r)| (r.votes & mask).count_ones()).sum();
            let all = barrier.reductions.iter().all(|(_, mask, reduction)| reduction.votes & mask == *mask);
            for (index, warp) in self.warps.iter_mut().enumerate() {
                if barrier.waiting[index] == 0 {
                    continue;
                }
                let clock = &mut self.state.clocks[index];
                clock.learn(&barrier.clock);
                barrier.acquired.iter().for_each(|acquired| clock.learn_acquired(acquired));
                for split in &mut warp.splits {
                    if split.wait == Wait::Barrier(number as u32) {
                        split.wait = Wait::Ready;
                    }
                }
                for (_, mask, reduction) in barrier.reductions.iter().filter(|entry| entry.0 == index) {
                    let slot = reduction.slot as usize;
                    match reduction.kind {
                        ReductionKind::Count => {
                            lanes(*mask).for_each(|lane| warp.registers.narrow[slot][lane] = votes);
                        }
                        kind => {
                            let holds = if kind == ReductionKind::And { all } else { votes > 0 };
                            let register = &mut warp.registers.predicates[slot];
                            *register = *register & !mask | if holds { *mask } else { 0 };
                        }
                    }
                }
            }
        }
    }

    /// The same for the cluster's barrier.
    fn release_cluster(&mut self) {
        let warps = &mut self.warps;
        let Some((waiting, released)) = self.state.cluster.complete(|warp| warps[warp].live()) else {
            return;
        };
        self.state.barriers_passed += 1;
        for (index, mask) in waiting.into_iter().enumerate().filter(|entry| entry.1 != 0) {
            let clock = &mut self.state.clocks[index];
            clock.learn(&released);
            clock.lanes_learn(mask, warps[index].state.launched, released[index]);
            for split in &mut warps[index].splits {
                if split.wait == Wait::Barrier(CLUSTER) {
                    split.wait = Wait::Ready;
                }
            }
        }
    }

    /// A finding at the barrier or instruction at which a warp waits.
    fn at_wait(
        &mut self,
        launch: &LaunchState<'_>,
        index: usize,
        check: Check,
        error: DeviceError,
        what: String,
    ) -> Box<Finding> {
        let warp = &mut self.warps[index];
        let waits = |split: &&Split| split.wait != Wait::Ready;
        let split = warp.splits.iter().find(waits).copied();
        let split = split.unwrap_or(Split { pc: 0, mask: 1, wait: Wait::Ready });
        let pc = match split.wait {
            Wait::Barrier(_) => split.pc.saturating_sub(1),
            _ => split.pc,
        };
        let registers = &mut warp.registers;
        let context = Context {
            registers,
            mask: split.mask,
            pc,
            warp: &mut warp.state,
            block: &mut self.state,
            launch,
        };
        context.finding(split.mask.trailing_zeros() as usize & 31, check, error, what)
    }

    /// The block, the place of its first warp that has not ended, and a thread there.
    pub fn whereabouts(&self, launch: &LaunchState<'_>) -> ([u32; 3], String, [u32; 3]) {
        let ready = |split: &&Split| split.wait == Wait::Ready;
        let of = |warp: &Warp, awake: bool| warp.splits.iter().find(|split| !awake || ready(split)).copied();
        let found = [true, false]
            .iter()
            .find_map(|&awake| self.warps.iter().find_map(|warp| Some((warp, of(warp, awake)?))));
        let Some((warp, split)) = found else { return (self.state.at, String::new(), [0; 3]) };
        let lane = split.mask.trailing_zeros() as usize & 31;
        let steps = launch.kernel.steps.as_ref().ok();
        let step = steps.and_then(|steps| steps.get(split.pc as usize));
        let place = step.map(|step| launch.kernel.place(step.position)).unwrap_or_default();
        (self.state.at, place, super::context::thread(launch.block, warp.state.number * 32 + lane))
    }

    /// Nobody can go on: says who waits for whom.
    fn stuck(&mut self, launch: &LaunchState<'_>) -> Box<Finding> {
        for index in 0..self.warps.len() {
            let splits = &self.warps[index].splits;
            if let Some(waiting) = splits.iter().find(|split| split.wait == Wait::Lanes).copied() {
                let other = splits.iter().find(|split| split.mask != waiting.mask).copied();
                let (absent, pc) = match other {
                    Some(split) => (split.mask, split.pc.saturating_sub(1)),
                    None => (self.warps[index].state.launched & !waiting.mask, waiting.pc),
                };
                let warp = &mut self.warps[index];
                let (at, here) = (waiting.pc, waiting.mask);
                let mut fault = warp.missing(&mut self.state, launch, at, here, absent, pc);
                if !launch.checks.has(Check::Sync) {
                    (fault.check, fault.error) = (Check::Deadlock, DeviceError::LaunchTimeout);
                }
                return fault;
            }
        }
        let mut waits: Vec<String> = self
            .state
            .barriers
            .used()
            .map(|number| {
                let barrier = self.state.barriers.get(number);
                let wanted = match barrier.threads {
                    0 => "all".to_string(),
                    threads => threads.to_string(),
                };
                format!("{} of {wanted} threads have arrived at barrier {number}", barrier.arrived)
            })
            .collect();
        let (waiting, arrived) = self.state.cluster.counts();
        if waiting > 0 {
            waits.push(format!("{arrived} threads have arrived at the cluster's barrier"));
        }
        let index = (0..self.warps.len()).find(|&index| !self.warps[index].is_done()).unwrap_or(0);
        let what = format!("the block waits for ever: {}", waits.join(", "));
        self.at_wait(launch, index, Check::Deadlock, DeviceError::LaunchTimeout, what)
    }
}

/// The registers of a warp at its start.
fn registers(launch: &LaunchState<'_>, at: [u32; 3], number: u64, warp: usize) -> Registers {
    let layout = &launch.kernel.layout;
    let mut registers = Registers {
        predicates: vec![0; layout.predicates as usize],
        narrow: vec![[0; 32]; layout.narrow as usize],
        wide: vec![[0; 32]; layout.wide as usize],
    };
    registers.predicates[1] = u32::MAX;
    layout.narrow_constants.iter().for_each(|&(slot, value)| registers.narrow[slot as usize] = [value; 32]);
    layout.wide_constants.iter().for_each(|&(slot, value)| registers.wide[slot as usize] = [value; 32]);
    for &(slot, special) in &layout.specials {
        registers.narrow[slot as usize] = std::array::from_fn(|lane| match special {
            Special::Thread(axis) => {
                super::context::thread(launch.block, warp * 32 + lane)[usize::from(axis)]
            }
            Special::Threads(axis) => launch.block[usize::from(axis)],
            Special::Block(axis) => at[usize::from(axis)],
            Special::Blocks(axis) => launch.grid[usize::from(axis)],
            Special::Lane => lane as u32,
            Special::Warp => warp as u32,
            Special::Warps => launch.device.max_warps_per_sm,
            Special::Multiprocessor => (number % u64::from(launch.device.sm_count)) as u32,
            Special::Multiprocessors => launch.device.sm_count,
            Special::Grid => 1,
            Special::LaneMask(mask) => {
                let equal = 1u32 << lane;
                match mask {
                    LaneMask::Equal => equal,
                    LaneMask::Less => equal - 1,
                    LaneMask::LessEqual => equal | (equal - 1),
                    LaneMask::Greater => !(equal | (equal - 1)),
                    LaneMask::GreaterEqual => !(equal - 1),
                }
            }
            Special::Fixed(value) => value,
            Special::DynamicShared => launch.dynamic_shared_bytes,
            Special::TotalShared => launch.shared_bytes,
        });
    }
    registers
}
