//! Short ways for what most accesses are: all 32 lanes, one behind the other, nothing wrong.
//!
//! Each function here either does the whole access, checks and counts included, and says so, or changes nothing that the
//! long way in [`super::access`] would not change as well, and leaves the access to that.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::access::How;
use super::context::Context;
use super::memory::{Kind, all_are, fill};
use super::shadow::Stamp;
use super::simd::vectorised;
use crate::checks::Check;

/// Whether all lanes access `bytes` each, one behind the other, words at their alignment.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // a loop that vectorises
pub fn is_run(addresses: &[u64; 32], mask: u32, bytes: u32) -> bool {
    let first = addresses[0];
    if mask != u32::MAX
        || !bytes.is_multiple_of(4)
        || !first.is_multiple_of(u64::from(bytes))
        || first > u64::MAX - 4096
    {
        return false;
    }
    vectorised(
        #[inline(always)]
        || {
            let mut different = 0;
            for lane in 0..32 {
                different |= addresses[lane] ^ (first + lane as u64 * u64::from(bytes));
            }
            different == 0
        },
    )
}

impl Context<'_> {
    /// Counts the sectors of a run.
    #[inline(always)]
    fn count_run(&mut self, first: u64, bytes: u32) {
        let count = self.count();
        let whole = 32 * u64::from(bytes);
        count.sectors += (first + whole).div_ceil(32) - first / 32;
        count.minimum_sectors += whole / 32;
    }

    /// The stamp of lane 0; that of lane i is `i << 27` more.
    #[inline(always)]
    fn first_stamp(&self) -> Stamp {
        self.stamp(0, false).on(15)
    }

    /// The region of a run in global memory, its offset there, and its words.
    #[inline(always)]
    fn global_run(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        whole: u32,
        how: How,
    ) -> Option<(usize, u64, Range<usize>)> {
        if how.strong || bytes < 4 || !is_run(addresses, self.mask, whole) {
            return None;
        }
        let launch = self.launch;
        let region = launch.region(addresses[0], &mut self.block.last_region)?;
        let allocation = &launch.regions[region].allocation;
        let offset = addresses[0] - allocation.base;
        let first = (offset / 4) as usize;
        let is_inside = offset + 32 * u64::from(whole) <= allocation.bytes && !allocation.is_freed();
        is_inside.then_some((region, offset, first..first + 8 * whole as usize))
    }

    /// The bytes of a run in shared memory.
    #[inline(always)]
    fn shared_run(&self, addresses: &[u64; 32], bytes: u32, whole: u32, how: How) -> Option<Range<usize>> {
        if how.strong || bytes < 4 || !is_run(addresses, self.mask, whole) {
            return None;
        }
        let first = addresses[0] as usize;
        let end = first + 32 * whole as usize;
        (end <= self.block.shared.len()).then_some(first..end)
    }

    /// Loads a run from global memory.
    #[inline(always)]
    pub(super) fn load_global_run(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        into: &mut [[u64; 32]],
    ) -> bool {
        let whole = bytes * into.len() as u32;
        let Some((region, offset, words)) = self.global_run(addresses, bytes, whole, how) else {
            return false;
        };
        let launch = self.launch;
        let allocation = &launch.regions[region].allocation;
        if self.checks(Check::Init) && !all_are(allocation.shadows(words.clone()), 15) {
            return false;
        }
        let tracking = launch.tracking(region);
        let read = &tracking.read[words.clone()];
        if how.constant {
            if !all_are(&tracking.written[words.clone()], 0) {
                return false;
            }
            if !all_are(read, 3) {
                fill(read, 3);
                if self.checks(Check::Race) {
                    words.clone().for_each(|word| tracking.records.note_reader(word, self.pc));
                }
            }
        } else {
            if self.checks(Check::Race)
                && !tracking.records.read_run(words.start, whole as usize / 4, self.first_stamp(), self.pc)
            {
                return false;
            }
            if !all_are(read, 1) && read.iter().any(|flag| flag.load(Ordering::Relaxed) == 0) {
                read.iter().for_each(|flag| {
                    if flag.load(Ordering::Relaxed) == 0 {
                        flag.store(1, Ordering::Relaxed);
                    }
                });
            }
        }
        for (index, element) in into.iter_mut().enumerate() {
            let start = offset + u64::from(bytes) * index as u64;
            allocation.load_run(start, bytes, whole, element);
        }
        self.count_run(addresses[0], whole);
        true
    }

    /// Stores a run to global memory.
    #[inline(always)]
    pub(super) fn store_global_run(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        from: &[[u64; 32]],
    ) -> bool {
        let whole = bytes * from.len() as u32;
        let Some((region, offset, words)) = self.global_run(addresses, bytes, whole, how) else {
            return false;
        };
        let launch = self.launch;
        let allocation = &launch.regions[region].allocation;
        if allocation.kind == Kind::Constant {
            return false;
        }
        let tracking = launch.tracking(region);
        let read = &tracking.read[words.clone()];
        if !all_are(read, 0) && read.iter().any(|flag| flag.load(Ordering::Relaxed) == 3) {
            return false;
        }
        if self.checks(Check::Race)
            && !tracking.records.write_run(words.start, whole as usize / 4, self.first_stamp(), self.pc)
        {
            return false;
        }
        fill(&tracking.written[words.clone()], 1);
        fill(allocation.shadows(words), 15);
        let mut changed = 0;
        for (index, element) in from.iter().enumerate() {
            let start = offset + u64::from(bytes) * index as u64;
            changed |= allocation.store_run(start, bytes, whole, element);
        }
        if changed != 0 {
            launch.progress.fetch_add(1, Ordering::Release);
        }
        self.count_run(addresses[0], whole);
        true
    }

    /// Counts the passes of a run: as many as it has groups of 128 bytes.
    #[inline(always)]
    fn count_shared_run(&mut self, bytes: u32) {
        self.count().passes += u64::from(bytes / 4);
    }

    /// Loads a run from shared memory.
    #[inline(always)]
    pub(super) fn load_shared_run(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        into: &mut [[u64; 32]],
    ) -> bool {
        let whole = bytes * into.len() as u32;
        let Some(range) = self.shared_run(addresses, bytes, whole, how) else { return false };
        let words = range.start / 4..range.end / 4;
        if (self.checks(Check::Init) || self.checks(Check::Async))
            && self.block.shared_written[words.clone()].iter().fold(0, |odd, shadow| odd | (shadow & 31 ^ 15))
                != 0
        {
            return false;
        }
        if self.checks(Check::Race)
            && !self.block.shared_records.read_run(
                words.start,
                whole as usize / 4,
                self.first_stamp(),
                self.pc,
            )
        {
            return false;
        }
        let memory = &self.block.shared[range];
        vectorised(
            #[inline(always)]
            || {
                if let ([element], 4) = (&mut *into, bytes) {
                    // The usual form, without a choice for each lane.
                    for (value, word) in element.iter_mut().zip(memory.as_chunks::<4>().0) {
                        *value = u64::from(u32::from_le_bytes(*word));
                    }
                    return;
                }
                for (index, element) in into.iter_mut().enumerate() {
                    let start = bytes as usize * index;
                    for (lane, value) in element.iter_mut().enumerate() {
                        *value = super::access::read(memory, start + lane * whole as usize, bytes);
                    }
                }
            },
        );
        self.count_shared_run(whole);
        true
    }

    /// Stores a run to shared memory.
    #[inline(always)]
    pub(super) fn store_shared_run(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        from: &[[u64; 32]],
    ) -> bool {
        let whole = bytes * from.len() as u32;
        let Some(range) = self.shared_run(addresses, bytes, whole, how) else { return false };
        let words = range.start / 4..range.end / 4;
        let shadows = self.block.shared_written[words.clone()].iter();
        if shadows.fold(0, |all, shadow| all | shadow) & super::shadow::PENDING != 0 {
            return false;
        }
        if self.checks(Check::Race)
            && !self.block.shared_records.write_run(
                words.start,
                whole as usize / 4,
                self.first_stamp(),
                self.pc,
            )
        {
            return false;
        }
        self.block.shared_written[words].fill(15);
        self.block.changes += 1;
        let memory = &mut self.block.shared[range];
        for (index, element) in from.iter().enumerate() {
            let start = bytes as usize * index;
            for (lane, &value) in element.iter().enumerate() {
                super::access::write(memory, start + lane * whole as usize, bytes, value);
            }
        }
        self.count_shared_run(whole);
        true
    }
}
