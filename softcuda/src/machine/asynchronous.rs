//! `cp.async`: copies from global to shared memory that land when their thread waits for them.
//!
//! The source is read when the copy is issued. The target holds what it held until the wait; to read or write it before is a
//! finding.

use std::collections::VecDeque;

use super::context::Context;
use super::registers::lanes;
use super::shadow::{COPIED, PENDING, Stamp};
use crate::checks::{Check, DeviceError, Finding};
use crate::ptx::ast::Space;

/// A copy under way.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    /// Offset in shared memory.
    pub to: u32,
    /// Bytes: 4, 8 or 16.
    pub bytes: u32,
    /// What will be there.
    pub data: [u8; 16],
    /// The instruction that issued it.
    pub place: u32,
}

impl Copy {
    /// The words that it writes.
    pub fn words(&self) -> std::ops::Range<usize> {
        self.to as usize / 4..(self.to + self.bytes).div_ceil(4) as usize
    }
}

/// The copies of a thread.
#[derive(Clone, Debug)]
pub struct Pending<T> {
    /// Committed groups, oldest first.
    groups: VecDeque<Vec<T>>,
    /// Not committed yet.
    open: Vec<T>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Pending { groups: VecDeque::new(), open: Vec::new() }
    }
}

impl<T> Pending<T> {
    /// Issues a copy.
    pub fn push(&mut self, copy: T) {
        self.open.push(copy);
    }

    /// `cp.async.commit_group`
    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.open));
    }

    /// Takes what has to land for all but the `keep` youngest groups to be complete.
    pub fn take(&mut self, keep: usize) -> Vec<T> {
        let count = self.groups.len().saturating_sub(keep);
        self.groups.drain(..count).flatten().collect()
    }

    /// Takes everything, committed or not.
    pub fn take_all(&mut self) -> Vec<T> {
        let mut all = self.take(0);
        all.append(&mut self.open);
        all
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.groups.iter().all(Vec::is_empty)
    }
}

impl Context<'_> {
    /// Issues a copy that its thread waits for.
    ///
    /// # Errors
    /// A finding if another copy to the same place is under way.
    pub fn begin_copy(&mut self, lane: usize, copy: Copy) -> Result<(), Box<Finding>> {
        self.mark_pending(lane, &copy)?;
        self.warp.pending[lane].push(copy);
        Ok(())
    }

    /// Marks the target of a copy as under way.
    ///
    /// # Errors
    /// A finding if another copy to it is under way, or if it races with another access: it may land from now on.
    pub fn mark_pending(&mut self, lane: usize, copy: &Copy) -> Result<(), Box<Finding>> {
        for word in copy.words() {
            if self.checks(Check::Async) && self.block.shared_written[word] & PENDING != 0 {
                return Err(self.pending(lane, word as u64 * 4, "writes"));
            }
            self.block.shared_written[word] |= PENDING;
            if self.checks(Check::Race) {
                self.race_shared(lane, word, 15, true, false, false)?;
            }
        }
        Ok(())
    }

    /// `cp.async.wait_group keep` (`None`: `wait_all`) for the lanes of the mask.
    ///
    /// # Errors
    /// A finding if what lands races with another access.
    pub fn land(&mut self, keep: Option<usize>) -> Result<(), Box<Finding>> {
        let check = self.checks(Check::Race);
        let here = self.pc;
        for lane in lanes(self.mask) {
            self.land_own(lane)?;
            let copies = match keep {
                Some(keep) => self.warp.pending[lane].take(keep),
                None => self.warp.pending[lane].take_all(),
            };
            for copy in copies {
                self.finish_copy(&copy);
                self.pc = copy.place;
                for word in copy.words().filter(|_| check) {
                    self.race_shared(lane, word, 15, true, false, false)?;
                }
            }
        }
        self.pc = here;
        Ok(())
    }

    /// What a copy brings is there.
    pub fn finish_copy(&mut self, copy: &Copy) {
        let (to, bytes) = (copy.to as usize, copy.bytes as usize);
        self.block.changes += 1;
        self.block.shared[to..to + bytes].copy_from_slice(&copy.data[..bytes]);
        self.block.shared_written[copy.words()].fill(15 | COPIED);
    }

    /// An access to what a copy under way writes.
    pub fn pending(&self, lane: usize, offset: u64, verb: &str) -> Box<Finding> {
        let what = format!("{verb} shared memory at {offset:#x} while a cp.async to it is under way");
        let mut finding = self
            .finding(lane, Check::Async, DeviceError::LaunchFailed, what)
            .at(offset, self.surroundings(Space::Shared, offset, 4));
        let issued = self.block.shared_records.place(offset as usize / 4, true);
        finding.other_place = issued.map(|pc| self.place_of(pc)).unwrap_or_default();
        finding
    }

    /// A thread's stamp.
    #[inline(always)]
    pub fn stamp(&self, lane: usize, strong: bool) -> Stamp {
        let number = self.warp.number;
        Stamp::new(self.block.number, number * 32 + lane, self.block.clocks[number].tick, strong)
    }
}
