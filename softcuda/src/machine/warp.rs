//! A warp: 32 lanes that part at branches and meet again.
//!
//! Lanes at the same step form a split. The split that is furthest behind runs (which makes lanes meet at the end of
//! branches and loops, as compilers lay out code); splits that reach the same step become one. A split that others starve
//! gets a turn after 20,000 instructions, so that lanes may wait for each other.

use super::context::{Arrival, BlockState, Context, Flow, LaunchState, WarpState};
use super::registers::{Registers, lanes};
use crate::checks::{Check, DeviceError, Finding};
use crate::program::{Gather, Step};

/// Instructions after which another split of the warp gets a turn.
pub(super) const PATIENCE: u32 = 20_000;
/// Instructions that an attempt to go on costs.
const WAITING: u64 = 100;

/// What a split waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing.
    Ready,
    /// Other lanes of the warp, at the same step.
    Lanes,
    /// A barrier.
    Barrier(u32),
}

/// Lanes at the same step.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// The step that they execute next.
    pub pc: u32,
    /// The lanes.
    pub mask: u32,
    /// What they wait for.
    pub wait: Wait,
}

/// A warp.
pub struct Warp {
    /// Its registers.
    pub registers: Registers,
    /// Its local memory and the like.
    pub state: WarpState,
    /// Its lanes, but for those that have ended.
    pub splits: Vec<Split>,
    /// Instructions that the present split may still execute before others get a turn.
    pub(super) turn: u32,
    /// The split that has the turn, by its lowest lane, when it is not the one furthest behind.
    pub(super) favoured: Option<u32>,
}

/// Why a warp stopped running.
pub enum Stop {
    /// It has done as many instructions as it was given.
    Slice,
    /// All its lanes have ended, or wait.
    Idle,
    /// Lanes have arrived at a barrier (and wait there unless they pass).
    Barrier(Arrival, u32),
    /// A fault.
    Fault(Box<Finding>),
}

impl Warp {
    /// All lanes at the first step.
    pub fn new(registers: Registers, state: WarpState) -> Warp {
        let splits = vec![Split { pc: 0, mask: state.launched, wait: Wait::Ready }];
        Warp { registers, state, splits, turn: PATIENCE, favoured: None }
    }

    /// Lanes that have not ended.
    pub fn live(&self) -> u32 {
        self.state.launched & !self.state.exited
    }

    /// Whether all lanes have ended.
    pub fn is_done(&self) -> bool {
        self.splits.is_empty()
    }

    /// Joins splits at the same step; those that wait for lanes look again whenever one has joined.
    pub(super) fn merge(&mut self) {
        let mut at = 0;
        while at < self.splits.len() {
            let mut other = at + 1;
            while other < self.splits.len() {
                let (a, b) = (self.splits[at], self.splits[other]);
                let open = |wait| !matches!(wait, Wait::Barrier(_));
                if a.pc == b.pc && open(a.wait) && open(b.wait) {
                    self.splits[at].mask |= b.mask;
                    self.splits[at].wait = Wait::Ready;
                    self.splits.swap_remove(other);
                } else {
                    other += 1;
                }
            }
            at += 1;
        }
    }

    /// The split to run, and how many instructions at most.
    fn pick(&mut self) -> Option<usize> {
        self.merge();
        if self.turn == 0 && self.splits.len() > 1 {
            self.turn = PATIENCE;
            // The next ready one behind the one that had the turn, by step.
            let ready = |split: &&Split| split.wait == Wait::Ready;
            let least = self.splits.iter().filter(ready).map(|split| split.pc).min()?;
            let had =
                self.favoured.and_then(|lane| self.splits.iter().find(|split| split.mask >> lane & 1 != 0));
            let had = had.map_or(least, |split| split.pc);
            let next =
                self.splits.iter().filter(ready).filter(|split| split.pc > had).min_by_key(|split| split.pc);
            self.favoured = next.map(|split| split.mask.trailing_zeros());
        }
        if let Some(lane) = self.favoured {
            let found =
                self.splits.iter().position(|split| split.mask >> lane & 1 != 0 && split.wait == Wait::Ready);
            if found.is_some() {
                return found;
            }
            self.favoured = None;
        }
        let ready = self.splits.iter().enumerate().filter(|(_, split)| split.wait == Wait::Ready);
        ready.min_by_key(|(_, split)| split.pc).map(|(index, _)| index)
    }

    /// Runs until something stops it, `budget` warp instructions at most.
    pub fn run(
        &mut self,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
        steps: &[Step],
        budget: &mut u64,
    ) -> Stop {
        loop {
            let Some(index) = self.pick() else { return Stop::Idle };
            let alone = self.splits.len() == 1;
            // Behind this step others wait to be joined.
            let next = self
                .splits
                .iter()
                .enumerate()
                .filter(|&(other, _)| other != index)
                .map(|(_, split)| split.pc);
            let limit = next.filter(|&pc| pc > self.splits[index].pc).min().unwrap_or(u32::MAX);
            let Split { mut pc, mask, .. } = self.splits[index];
            loop {
                if *budget == 0 {
                    self.splits[index].pc = pc;
                    return Stop::Slice;
                }
                *budget -= 1;
                if !alone {
                    self.turn = self.turn.saturating_sub(1);
                }
                let step = &steps[pc as usize];
                let mut active = mask;
                if let Some(guard) = step.guard {
                    active &= self.registers.mask(guard);
                }
                let flow = if active == 0 {
                    // It is issued all the same.
                    block.counts[pc as usize].warps += 1;
                    Flow::Next
                } else {
                    if step.gather != Gather::None {
                        match self.gather(block, launch, step, index, pc, active) {
                            Ok(true) => {}
                            Ok(false) => break,
                            Err(fault) => return Stop::Fault(fault),
                        }
                    }
                    let count = &mut block.counts[pc as usize];
                    count.warps += 1;
                    count.lanes += u64::from(active.count_ones());
                    let registers = &mut self.registers;
                    let mut context = Context {
                        registers,
                        mask: active,
                        pc,
                        warp: &mut self.state,
                        block: &mut *block,
                        launch,
                    };
                    (step.action)(&mut context)
                };
                match flow {
                    Flow::Next => pc += 1,
                    Flow::Jump(taken, target) if taken == mask => {
                        pc = target;
                        if !alone {
                            self.splits[index].pc = pc;
                            break;
                        }
                    }
                    Flow::Jump(taken, target) => {
                        if taken == 0 {
                            pc += 1;
                            continue;
                        }
                        block.counts[pc as usize].divergent += 1;
                        self.part(index, pc + 1, &[(taken, target)], steps, block);
                        break;
                    }
                    Flow::Scatter(targets) => {
                        block.counts[pc as usize].divergent += u64::from(targets.len() > 1);
                        self.part(index, pc + 1, &targets, steps, block);
                        break;
                    }
                    Flow::Exit(ended) => {
                        self.splits[index].pc = pc + 1;
                        if let Err(fault) = self.end(index, ended, pc, block, launch) {
                            return Stop::Fault(fault);
                        }
                        break;
                    }
                    Flow::Again => {
                        self.splits[index].pc = pc;
                        self.turn = 0;
                        *budget = budget.saturating_sub(WAITING);
                        break;
                    }
                    Flow::Yield => {
                        self.splits[index].pc = pc + 1;
                        self.turn = 0;
                        // Who waits in vain must not hold up those that it waits for.
                        *budget = budget.saturating_sub(WAITING);
                        return Stop::Slice;
                    }
                    Flow::Barrier(arrival) => {
                        self.splits[index].pc = pc + 1;
                        if !arrival.passing {
                            self.splits[index].wait = Wait::Barrier(arrival.barrier);
                            if active != mask {
                                self.splits[index].mask = active;
                                self.splits.push(Split {
                                    pc: pc + 1,
                                    mask: mask & !active,
                                    wait: Wait::Ready,
                                });
                            }
                        }
                        return Stop::Barrier(arrival, active);
                    }
                    Flow::Fault(fault) => return Stop::Fault(fault),
                }
                if pc >= limit || self.turn == 0 {
                    self.splits[index].pc = pc;
                    if self.turn == 0 || self.splits.iter().any(|split| split.pc == pc) {
                        break;
                    }
                }
            }
        }
    }

    /// Lanes go to their targets, the rest of the split to `next`. Lanes that only go to end are ended there and then: a
    /// thread that returns early is gone before others wait for it.
    fn part(
        &mut self,
        index: usize,
        next: u32,
        targets: &[(u32, u32)],
        steps: &[Step],
        block: &mut BlockState,
    ) {
        let gone = targets.iter().fold(0, |all, target| all | target.0);
        let rest = self.splits[index].mask & !gone;
        self.splits.swap_remove(index);
        let mut parts: Vec<(u32, u32)> = targets.iter().copied().filter(|part| part.0 != 0).collect();
        if rest != 0 {
            parts.push((rest, next));
        }
        let awaited = self.splits.iter().any(|split| split.wait == Wait::Lanes);
        for (mask, pc) in parts {
            if steps[pc as usize].is_exit && mask != self.live() && !awaited {
                self.state.exited |= mask;
                let count = &mut block.counts[pc as usize];
                count.warps += 1;
                count.lanes += u64::from(mask.count_ones());
            } else {
                self.splits.push(Split { pc, mask, wait: Wait::Ready });
            }
        }
    }

    /// Lanes end. It is a fault if others wait for them.
    fn end(
        &mut self,
        index: usize,
        ended: u32,
        pc: u32,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
    ) -> Result<(), Box<Finding>> {
        self.splits[index].mask &= !ended;
        self.state.exited |= ended;
        if self.splits[index].mask == 0 {
            self.splits.swap_remove(index);
        }
        let waiting = self.splits.iter().position(|split| split.wait == Wait::Lanes);
        if let Some(waiting) = waiting
            && launch.checks.has(Check::Sync)
        {
            let Split { pc: at, mask, .. } = self.splits[waiting];
            return Err(self.missing(block, launch, at, mask, ended, pc));
        }
        // Without the check, those that wait go on without the ones that have ended.
        self.splits
            .iter_mut()
            .filter(|split| split.wait == Wait::Lanes)
            .for_each(|split| split.wait = Wait::Ready);
        Ok(())
    }

    /// Lanes of a warp that are missing where others wait.
    #[cold]
    pub fn missing(
        &mut self,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
        at: u32,
        here: u32,
        absent: u32,
        their_pc: u32,
    ) -> Box<Finding> {
        let name =
            launch.kernel.steps.as_ref().map(|steps| steps[at as usize].name.clone()).unwrap_or_default();
        let context = Context {
            registers: &mut self.registers,
            mask: here,
            pc: at,
            warp: &mut self.state,
            block,
            launch,
        };
        let lane = here.trailing_zeros() as usize & 31;
        let what = format!(
            "{name} is executed by {} of a warp while {} {}",
            list(here),
            list(absent),
            if absent.count_ones() == 1 { "does something else" } else { "do something else" }
        );
        let mut finding = context.finding(lane, Check::Sync, DeviceError::LaunchFailed, what);
        finding.other_place = context.place_of(their_pc);
        finding
    }

    /// Whether all lanes that a step needs are here. If not, those that are here wait for the others.
    fn gather(
        &mut self,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
        step: &Step,
        index: usize,
        pc: u32,
        active: u32,
    ) -> Result<bool, Box<Finding>> {
        let strict = launch.checks.has(Check::Sync);
        let needed = match step.gather {
            Gather::None => return Ok(true),
            Gather::Warp => self.state.launched,
            Gather::Members(source) => {
                let masks = self.registers.narrow[source.slot as usize];
                let mut needed = 0;
                for lane in lanes(active) {
                    needed |= masks[lane];
                    if strict && masks[lane] >> lane & 1 == 0 {
                        let registers = &mut self.registers;
                        let context =
                            Context { registers, mask: active, pc, warp: &mut self.state, block, launch };
                        let what = format!(
                            "{} is executed by lane {lane}, which its mask {:#010x} does not name",
                            step.name, masks[lane]
                        );
                        return Err(context.finding(lane, Check::Sync, DeviceError::LaunchFailed, what));
                    }
                }
                needed & !self.state.exited
            }
        };
        let absent = needed & !active;
        if absent == 0 {
            return Ok(true);
        }
        // Those that could still come: lanes of other splits. Not those that pass over this step, nor those that have ended.
        let passing = self.splits[index].mask & !active;
        let hopeless = absent & (passing | self.state.exited | !self.state.launched);
        if hopeless != 0 && strict {
            return Err(self.missing(block, launch, pc, active, hopeless, pc));
        }
        if absent & !hopeless == 0 {
            return Ok(true);
        }
        self.splits[index] = Split { pc, mask: self.splits[index].mask, wait: Wait::Lanes };
        Ok(false)
    }
}

/// `lane 5`, `lanes 0-15`, `lanes 0, 3, 4`
pub fn list(mask: u32) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut lane = 0;
    while lane < 32 {
        if mask >> lane & 1 == 0 {
            lane += 1;
            continue;
        }
        let first = lane;
        while lane < 32 && mask >> lane & 1 != 0 {
            lane += 1;
        }
        parts.push(if lane - first == 1 { first.to_string() } else { format!("{first}-{}", lane - 1) });
    }
    let word = if mask.count_ones() == 1 { "lane" } else { "lanes" };
    format!("{word} {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::list;

    #[test]
    fn lanes_are_listed_as_ranges() {
        assert_eq!(list(1 << 5), "lane 5");
        assert_eq!(list(0xffff), "lanes 0-15");
        assert_eq!(list(0b1011), "lanes 0-1, 3");
        assert_eq!(list(u32::MAX), "lanes 0-31");
    }
}
