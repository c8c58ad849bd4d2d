//! `cp.async.bulk`: copies of any multiple of 16 bytes, issued by one thread.
//!
//! Those to shared memory read their source when they are issued and land when an mbarrier is asked (see `arrivals`). Those to
//! global memory are written when their thread waits for them; what they read must not have changed by then. A wait for the
//! reads alone (`.read`) writes, too.

use super::access::How;
use super::asynchronous::Copy;
use super::context::Context;
use super::mbarrier::Change;
use super::registers::lanes;
use crate::checks::{Check, DeviceError, Finding};
use crate::ptx::ast::Space;

/// What bulk copies are aligned to, and a multiple of.
const UNIT: u64 = 16;

/// A bulk copy to global memory.
#[derive(Clone, Debug)]
pub struct Store {
    /// Where it goes.
    to: u64,
    /// Offset in shared memory of where it comes from.
    from: u64,
    /// What lay there when it was issued.
    data: Vec<[u64; 2]>,
    /// Its instruction.
    pc: u32,
}

/// Addresses and size of a bulk copy.
#[derive(Clone, Copy, Debug)]
pub struct Bulk {
    /// Address of the target in its space.
    pub to: u64,
    /// Address of the source in its space.
    pub from: u64,
    /// Bytes.
    pub bytes: u32,
}

type Checked<T = ()> = Result<T, Box<Finding>>;

impl Context<'_> {
    fn check_bulk(&self, lane: usize, bulk: Bulk, shared: u64) -> Checked {
        let odd = [bulk.to, bulk.from, u64::from(bulk.bytes)].into_iter().any(|part| part % UNIT != 0);
        if odd {
            let what = format!(
                "copies {} bytes from {:#x} to {:#x}: all three have to be multiples of {UNIT}",
                bulk.bytes, bulk.from, bulk.to
            );
            return Err(self.finding(lane, Check::Memory, DeviceError::MisalignedAddress, what));
        }
        if shared
            .checked_add(u64::from(bulk.bytes))
            .is_none_or(|end| end > u64::from(self.launch.shared_bytes))
        {
            return Err(self.outside(lane, "copies", Space::Shared, &[shared; 32], bulk.bytes));
        }
        Ok(())
    }

    /// Loads or stores for one lane, 16 bytes at a time, without counting them.
    fn units(
        &mut self,
        lane: usize,
        count: usize,
        mut each: impl FnMut(&mut Self, usize) -> Checked,
    ) -> Checked {
        let whole = std::mem::replace(&mut self.mask, 1 << lane);
        let counted = *self.count();
        let result = (0..count).try_for_each(|unit| each(self, unit));
        *self.count() = counted;
        self.mask = whole;
        result
    }

    fn read_units(&mut self, lane: usize, space: Space, bulk: Bulk) -> Checked<Vec<[u64; 2]>> {
        let mut data = Vec::with_capacity(bulk.bytes as usize / UNIT as usize);
        self.units(lane, bulk.bytes as usize / UNIT as usize, |context, unit| {
            let mut words = [[0; 32]; 2];
            let at = bulk.from.wrapping_add(UNIT * unit as u64);
            context.load(space, &[at; 32], 8, How::default(), &mut words)?;
            data.push([words[0][lane], words[1][lane]]);
            Ok(())
        })?;
        Ok(data)
    }

    /// Counts the sectors of a range of global memory.
    fn count_range(&mut self, start: u64, bytes: u32) {
        let (first, end) = (start / 32, start.saturating_add(u64::from(bytes)).div_ceil(32));
        let count = self.count();
        count.sectors += end - first.min(end);
        count.minimum_sectors += u64::from(bytes).div_ceil(32);
    }

    /// From global to shared memory; its bytes complete a transaction of the mbarrier at an address.
    ///
    /// # Errors
    /// What a check found.
    pub fn bulk_load(&mut self, lane: usize, bulk: Bulk, mbarrier: u64) -> Checked {
        self.check_bulk(lane, bulk, bulk.to)?;
        self.count_range(bulk.from, bulk.bytes);
        let mut copies = Vec::new();
        for ([low, high], at) in self.read_units(lane, Space::Global, bulk)?.into_iter().zip(0..) {
            let data = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
            let copy =
                Copy { to: bulk.to as u32 + UNIT as u32 * at, bytes: UNIT as u32, data, place: self.pc };
            self.mark_pending(lane, &copy)?;
            copies.push(copy);
        }
        self.defer(lane, mbarrier, copies, Change::Complete(bulk.bytes))
    }

    /// From shared to global memory, in the thread's open group.
    ///
    /// # Errors
    /// What a check found.
    pub fn bulk_store(&mut self, lane: usize, bulk: Bulk) -> Checked {
        self.check_bulk(lane, bulk, bulk.from)?;
        self.count_range(bulk.to, bulk.bytes);
        let data = self.read_units(lane, Space::Shared, bulk)?;
        let store = Store { to: bulk.to, from: bulk.from, data, pc: self.pc };
        self.warp.bulk[lane].push(store);
        Ok(())
    }

    /// `cp.async.bulk.wait_group keep`
    ///
    /// # Errors
    /// What a check found.
    pub fn bulk_wait(&mut self, keep: usize) -> Checked {
        for lane in lanes(self.mask) {
            for store in self.warp.bulk[lane].take(keep) {
                self.finish_store(lane, &store)?;
            }
        }
        Ok(())
    }

    fn finish_store(&mut self, lane: usize, store: &Store) -> Checked {
        let start = store.from as usize;
        let source = self.block.shared[start..start + store.data.len() * UNIT as usize].chunks_exact(8);
        let same = source.zip(store.data.as_flattened()).all(|(now, then)| now == then.to_le_bytes());
        if !same && self.checks(Check::Async) {
            let what =
                format!("shared memory at {start:#x} has changed while a bulk copy from it was under way");
            let mut finding = self.finding(lane, Check::Async, DeviceError::LaunchFailed, what);
            finding.other_place = self.place_of(store.pc);
            return Err(finding);
        }
        self.units(lane, store.data.len(), |context, unit| {
            let at = store.to.wrapping_add(UNIT * unit as u64);
            let words = store.data[unit].map(|word| [word; 32]);
            context.store(Space::Global, &[at; 32], 8, How::default(), &words)
        })
    }

    /// The block ends: its shared memory is gone, and copies from it have to be over.
    ///
    /// # Errors
    /// That they are not.
    pub fn end_bulk(&mut self) -> Checked {
        for lane in lanes(self.mask) {
            for store in self.warp.bulk[lane].take_all() {
                if self.checks(Check::Async) {
                    self.pc = store.pc;
                    let what = "nobody waits for a bulk copy from shared memory before its block ends";
                    let error = DeviceError::LaunchFailed;
                    return Err(self.finding(lane, Check::Async, error, what.to_string()));
                }
                self.finish_store(lane, &store)?;
            }
        }
        Ok(())
    }
}
