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

/// The copies of a thread.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Committed groups, oldest first.
    groups: VecDeque<Vec<Copy>>,
    /// Not committed yet.
    open: Vec<Copy>,
}

impl Pending {
    /// Issues a copy.
    pub fn push(&mut self, copy: Copy) {
        self.open.push(copy);
    }

    /// `cp.async.commit_group`
    pub fn commit(&mut self) {
        self.groups.push_back(std::mem::take(&mut self.open));
    }

    /// Takes what has to land for all but the `keep` youngest groups to be complete.
    pub fn take(&mut self, keep: usize) -> Vec<Copy> {
        let count = self.groups.len().saturating_sub(keep);
        self.groups.drain(..count).flatten().collect()
    }

    /// Takes everything, committed or not.
    pub fn take_all(&mut self) -> Vec<Copy> {
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
    /// Marks the target of a copy as under way.
    ///
    /// # Errors
    /// A finding if another copy to it is under way, or if it races with another access: it may land from now on.
    pub fn begin_copy(&mut self, lane: usize, copy: Copy) -> Result<(), Box<Finding>> {
        for word in copy.to / 4..(copy.to + copy.bytes).div_ceil(4) {
            if self.checks(Check::Async) && self.block.shared_written[word as usize] & PENDING != 0 {
                return Err(self.pending(lane, u64::from(word) * 4, "writes"));
            }
            self.block.shared_written[word as usize] |= PENDING;
            if self.checks(Check::Race) {
                self.race_shared(lane, word as usize, 15, true, false, false)?;
            }
        }
        self.warp.pending[lane].push(copy);
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
            let copies = match keep {
                Some(keep) => self.warp.pending[lane].take(keep),
                None => self.warp.pending[lane].take_all(),
            };
            self.block.changes += copies.len() as u64;
            for copy in copies {
                let (to, bytes) = (copy.to as usize, copy.bytes as usize);
                self.block.shared[to..to + bytes].copy_from_slice(&copy.data[..bytes]);
                for word in to / 4..(to + bytes).div_ceil(4) {
                    self.block.shared_written[word] = 15 | COPIED;
                    if check {
                        self.pc = copy.place;
                        self.race_shared(lane, word, 15, true, false, false)?;
                    }
                }
            }
        }
        self.pc = here;
        Ok(())
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
