//! What an instruction sees when it runs: the lanes, its warp, its block, its launch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use super::arrivals::Deferred;
use super::asynchronous::{Copy, Pending};
use super::barriers::Barriers;
use super::bulk::Store;
use super::calls::Frame;
use super::cluster::ClusterBarrier;
use super::memory::{Allocation, Memory};
use super::order::{Clock, Published};
use super::registers::Registers;
use super::shadow::{Records, Tracking};
use crate::checks::{Check, Checks, DeviceError, Finding};
use crate::model::devices::Device;
use crate::program::Kernel;

/// What follows an instruction.
pub enum Flow {
    /// The next one.
    Next,
    /// For the lanes of the mask the step with the index; for the others the next one.
    Jump(u32, u32),
    /// Each mask of lanes goes to its step; for the others the next one.
    Scatter(Vec<(u32, u32)>),
    /// The lanes of the mask have ended.
    Exit(u32),
    /// The lanes wait at a barrier.
    Barrier(Arrival),
    /// The lanes do the same again, after others had a turn.
    Again,
    /// The next one, after others had a turn.
    Yield,
    /// The launch has failed.
    Fault(Box<Finding>),
}

/// Lanes that arrive at a barrier.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Number of the barrier: 0 to 15, or [`super::cluster::CLUSTER`] for lanes that are known to it already.
    pub barrier: u32,
    /// Threads that it waits for; 0 for all of the block.
    pub threads: u32,
    /// `bar.arrive`: they go on at once.
    pub passing: bool,
    /// `.aligned`: the warp counts as a whole.
    pub aligned: bool,
    /// `bar.red`: lanes whose predicate holds, and where the result goes.
    pub reduction: Option<Reduction>,
}

/// What `bar.red` combines.
#[derive(Clone, Copy, Debug)]
pub struct Reduction {
    /// How.
    pub kind: ReductionKind,
    /// Lanes whose predicate holds.
    pub votes: u32,
    /// Slot of the result: narrow for `popc`, else a predicate.
    pub slot: u32,
}

/// `bar.red.popc`, `.and`, `.or`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReductionKind {
    /// How many hold.
    Count,
    /// Whether all hold.
    And,
    /// Whether one holds.
    Or,
}

/// What an instruction counted, all its executions together.
#[derive(Clone, Copy, Debug, Default)]
pub struct StepCount {
    /// Warp instructions.
    pub warps: u64,
    /// Lanes active in them.
    pub lanes: u64,
    /// Sectors of global memory.
    pub sectors: u64,
    /// The fewest that could hold the bytes.
    pub minimum_sectors: u64,
    /// Passes of shared memory without conflicts.
    pub passes: u64,
    /// Passes beyond those.
    pub conflicts: u64,
    /// Branches that parted lanes.
    pub divergent: u64,
}

/// An allocation as a launch sees it.
pub struct Region {
    /// The allocation.
    pub allocation: Arc<Allocation>,
    /// What the launch did to it.
    pub tracking: OnceLock<Tracking>,
}

/// What the threads of a launch share.
pub struct LaunchState<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Device memory.
    pub memory: &'a Memory,
    /// Its allocations, by address.
    pub regions: Vec<Region>,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads along each axis.
    pub block: [u32; 3],
    /// Static and dynamic shared memory of a block.
    pub shared_bytes: u32,
    /// The dynamic part of it.
    pub dynamic_shared_bytes: u32,
    /// Kernel parameters.
    pub parameters: &'a [u8],
    /// Checks that are on.
    pub checks: Checks,
    /// The device it presents itself as.
    pub device: &'static Device,
    /// What atomics have published, by address.
    pub published: Mutex<HashMap<u64, Vec<Published>>>,
    /// Whether anything has been published.
    pub any_published: AtomicBool,
    /// Counts up whenever memory changes or a block ends.
    pub progress: AtomicU64,
    /// Set by the first finding: everybody stops.
    pub stop: AtomicBool,
    /// What the checks found.
    pub findings: Mutex<Vec<Finding>>,
    /// What the kernel printed.
    pub printed: Mutex<Vec<u8>>,
    /// Warp instructions issued so far, roughly: the clock that kernels read.
    pub clock: AtomicU64,
}

/// What the warps of a block share.
pub struct BlockState {
    /// Number of the block in its grid.
    pub number: u64,
    /// Its coordinates.
    pub at: [u32; 3],
    /// Shared memory.
    pub shared: Vec<u8>,
    /// A byte a word: which of its bytes have been written, and [`super::shadow::PENDING`].
    pub shared_written: Vec<u8>,
    /// Who accessed each word.
    pub shared_records: Records,
    /// Barriers.
    pub barriers: Barriers,
    /// The barrier of its cluster.
    pub cluster: ClusterBarrier,
    /// What the warps know of each other.
    pub clocks: Vec<Clock>,
    /// Clocks that mbarriers and flags in shared memory carry, by address.
    pub shared_clocks: HashMap<u64, [u32; 32]>,
    /// Counts up whenever shared memory changes.
    pub changes: u64,
    /// Copies that mbarriers will hear of, by the mbarrier's address.
    pub deferred: HashMap<u64, Vec<Deferred>>,
    /// A read of what nothing had written, until it is clear that it is no race.
    pub kept_back: Option<Box<Finding>>,
    /// What steps counted.
    pub counts: Vec<StepCount>,
    /// Barriers passed.
    pub barriers_passed: u64,
    /// The region that was used last.
    pub last_region: usize,
}

/// What belongs to a warp besides registers and lanes' whereabouts.
pub struct WarpState {
    /// Its number in the block.
    pub number: usize,
    /// Lanes that it was launched with.
    pub launched: u32,
    /// Lanes that have ended.
    pub exited: u32,
    /// Local memory of all lanes, one behind the other.
    pub local: Vec<u8>,
    /// Bytes of it that have been written.
    pub local_written: Vec<bool>,
    /// Copies under way, a list a lane.
    pub pending: Vec<Pending<Copy>>,
    /// Bulk copies to global memory under way, a list a lane.
    pub bulk: Vec<Pending<Store>>,
    /// Calls of functions that are not inlined, a stack a lane.
    pub calls: Vec<Vec<Frame>>,
    /// The carry flag of extended-precision arithmetic.
    pub carry: u32,
}

/// An instruction's surroundings.
pub struct Context<'a> {
    /// Registers of the warp.
    pub registers: &'a mut Registers,
    /// Lanes that execute.
    pub mask: u32,
    /// The instruction's index.
    pub pc: u32,
    /// The warp.
    pub warp: &'a mut WarpState,
    /// The block.
    pub block: &'a mut BlockState,
    /// The launch.
    pub launch: &'a LaunchState<'a>,
}

impl Context<'_> {
    /// Whether a check is on.
    #[inline(always)]
    pub fn checks(&self, check: Check) -> bool {
        self.launch.checks.has(check)
    }

    /// Counters of this instruction.
    #[inline(always)]
    pub fn count(&mut self) -> &mut StepCount {
        &mut self.block.counts[self.pc as usize]
    }

    /// Coordinates of a lane's thread in its block.
    pub fn thread(&self, lane: usize) -> [u32; 3] {
        thread(self.launch.block, self.warp.number * 32 + lane)
    }

    /// A finding at this instruction.
    pub fn finding(&self, lane: usize, check: Check, error: DeviceError, what: String) -> Box<Finding> {
        let kernel = self.launch.kernel;
        let position = kernel.steps.as_ref().ok().map(|steps| steps[self.pc as usize].position);
        Box::new(Finding {
            check,
            error,
            what,
            kernel: kernel.name.clone(),
            place: position.map(|position| kernel.place(position)).unwrap_or_default(),
            other_place: String::new(),
            block: Some(self.block.at),
            thread: Some(self.thread(lane)),
            address: None,
            allocation: String::new(),
        })
    }

    /// Where another instruction stands.
    pub fn place_of(&self, pc: u32) -> String {
        let steps = self.launch.kernel.steps.as_ref().ok();
        let step = steps.and_then(|steps| steps.get(pc as usize));
        step.map(|step| self.launch.kernel.place(step.position)).unwrap_or_default()
    }
}

/// Coordinates of the n-th thread of a block.
pub fn thread(block: [u32; 3], number: usize) -> [u32; 3] {
    let number = number as u32;
    [number % block[0], number / block[0] % block[1], number / (block[0] * block[1])]
}
