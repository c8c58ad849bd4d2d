//! The race check: each access against the records of its words, with what the warp knows as the order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::access::{Checked, space_name};
use super::context::{Context, thread};
use super::order::{Clock, leads_to};
use super::registers::lanes;
use super::shadow::{BLOCK_MASK, Conflict, Stamp};
use crate::checks::{Check, DeviceError};
use crate::ptx::ast::Space;

/// Whether what a thread of the same block did is known to a lane.
#[inline(always)]
fn known(clock: &Clock, number: usize, lane: usize, earlier: Stamp) -> bool {
    let (warp, other) = (earlier.thread() / 32, earlier.thread() % 32);
    if warp == number {
        clock.lane_knows(lane, other, earlier.tick())
    } else {
        earlier.tick() <= clock.warps[warp]
    }
}

impl Context<'_> {
    /// An access to bytes of a word of shared memory.
    ///
    /// # Errors
    /// A race.
    #[inline(always)]
    pub fn race_shared(
        &mut self,
        lane: usize,
        word: usize,
        bytes: u8,
        write: bool,
        strong: bool,
        unchanged: bool,
    ) -> Checked {
        if strong {
            self.exchange_shared(word as u64 * 4, write);
        }
        let me = self.stamp(lane, strong).on(bytes);
        let number = self.warp.number;
        let clock = &self.block.clocks[number];
        let ordered = |earlier: Stamp| known(clock, number, lane, earlier);
        let records = &self.block.shared_records;
        let conflict = if write {
            records.write(word, me, self.pc, unchanged, ordered)
        } else {
            records.read(word, me, self.pc, ordered)
        };
        match conflict {
            None => Ok(()),
            Some(conflict) => Err(self.race(lane, Space::Shared, word as u64 * 4, write, conflict)),
        }
    }

    /// Accesses of lanes to a region of global memory. `values` are what they write: elements, and bytes of each.
    ///
    /// # Errors
    /// A race.
    #[allow(clippy::too_many_arguments)]
    pub fn race_global(
        &mut self,
        region: usize,
        addresses: &[u64; 32],
        bytes: u32,
        group: u32,
        write: bool,
        strong: bool,
        values: Option<(&[[u64; 32]], u32)>,
    ) -> Checked {
        let launch = self.launch;
        let allocation = &launch.regions[region].allocation;
        let records = &launch.tracking(region).records;
        let number = self.warp.number;
        let block = self.block.number & BLOCK_MASK;
        for lane in lanes(group) {
            let offset = addresses[lane] - allocation.base;
            let stamp = self.stamp(lane, strong);
            let clock = &self.block.clocks[number];
            let ordered = |earlier: Stamp| {
                if earlier.block() == block {
                    known(clock, number, lane, earlier)
                } else if clock.acquired.is_empty() {
                    false
                } else {
                    let published =
                        launch.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    leads_to(
                        &published,
                        &clock.acquired,
                        earlier.block(),
                        earlier.thread() / 32,
                        earlier.tick(),
                    )
                }
            };
            let unchanged = values.is_some_and(|(elements, size)| {
                elements.iter().zip(0..).all(|(element, index)| {
                    let at = offset + index * u64::from(size);
                    allocation.initialised(at, size) && allocation.load(at, size) == element[lane]
                })
            });
            let part = if bytes < 4 { ((1u8 << bytes) - 1) << (offset % 4) } else { 15 };
            for word in offset / 4..(offset + u64::from(bytes)).div_ceil(4) {
                let me = stamp.on(part);
                let conflict = if write {
                    records.write(word as usize, me, self.pc, unchanged, ordered)
                } else {
                    records.read(word as usize, me, self.pc, ordered)
                };
                if let Some(conflict) = conflict {
                    let address = allocation.base + word * 4;
                    return Err(self.race(lane, Space::Global, address, write, conflict));
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn race(
        &self,
        lane: usize,
        space: Space,
        address: u64,
        write: bool,
        conflict: Conflict,
    ) -> Box<crate::checks::Finding> {
        let earlier = conflict.earlier;
        let [x, y, z] = thread(self.launch.block, earlier.thread());
        let who = if earlier.block() == self.block.number & BLOCK_MASK {
            format!("thread ({x}, {y}, {z})")
        } else {
            format!("thread ({x}, {y}, {z}) of block {}", earlier.block())
        };
        let what = format!(
            "{} {} memory at {address:#x} that {who} {}, and nothing orders the two",
            if write { "writes" } else { "reads" },
            space_name(space),
            match (conflict.wrote, earlier.others()) {
                (true, _) => "wrote",
                (false, false) => "read",
                (false, true) => "and others read",
            }
        );
        let mut finding = self
            .finding(lane, Check::Race, DeviceError::LaunchFailed, what)
            .at(address, self.surroundings(space, address, 4));
        finding.other_place = self.place_of(conflict.place);
        finding
    }

    /// Strong accesses to shared memory carry what their warp fenced.
    fn exchange_shared(&mut self, address: u64, write: bool) {
        let clock = &mut self.block.clocks[self.warp.number];
        if write {
            if let Some(fenced) = &clock.fenced {
                let carried = self.block.shared_clocks.entry(address).or_insert([0; 32]);
                carried.iter_mut().zip(&fenced.warps).for_each(|(known, &other)| *known = other.max(*known));
            }
        } else if let Some(carried) = self.block.shared_clocks.get(&address) {
            clock.learn(carried);
        }
    }

    /// The warp learns what others have published at the addresses.
    pub fn acquire(&mut self, addresses: &[u64; 32]) {
        if !self.checks(Check::Race) || !self.launch.any_published.load(Ordering::Relaxed) {
            return;
        }
        let published = self.launch.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let clock = &mut self.block.clocks[self.warp.number];
        let mut last = None;
        for lane in lanes(self.mask) {
            let address = addresses[lane];
            if last.replace(address) == Some(address) {
                continue;
            }
            if let Some(list) = published.get(&address) {
                clock.acquire(address, list.len());
                let mine = list.iter().rev().take(64).filter(|snapshot| snapshot.block == self.block.number);
                mine.for_each(|snapshot| clock.learn(&snapshot.warps));
            }
        }
    }

    /// The warp leaves what it knew at its last fence (with `release`: now) at the addresses.
    pub fn publish(&mut self, addresses: &[u64; 32], release: bool) {
        if !self.checks(Check::Race) {
            return;
        }
        let number = self.warp.number;
        let clock = &mut self.block.clocks[number];
        if release {
            clock.fence(number, self.block.number);
        }
        let Some(fenced) = &clock.fenced else { return };
        let mut published = self.launch.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.launch.any_published.store(true, Ordering::Relaxed);
        for lane in lanes(self.mask) {
            let list = published.entry(addresses[lane]).or_default();
            if !list.last().is_some_and(|last| Arc::ptr_eq(last, fenced)) {
                list.push(fenced.clone());
            }
        }
    }
}
