//! Batches that are brought to the device while it computes: from pinned memory, on the second stream, into two buffers
//! that take turns.

use super::driver::{Driver, Event, Pinned};
use super::memory::{Buffer, Element, Pool};
use crate::error::Result;

/// One of the two buffers.
struct Slot {
    pinned: Option<Pinned>,
    device: Buffer,
    /// When the copy that was begun last is done.
    copied: Option<Event>,
    /// Nothing was copied into it yet.
    unused: bool,
}

/// What was brought, and not used yet.
struct Staged {
    slot: usize,
    /// Address and length of the host's values, by which `upload` knows them.
    host: (*const f32, usize),
}

/// The buffers, made when they are first needed.
#[derive(Default)]
pub struct Ahead {
    slots: [Option<Slot>; 2],
    turn: usize,
    staged: Option<Staged>,
    /// Everything that was on the stream when the copy before began: whoever read this turn's buffer is part of it.
    before: Option<Event>,
}

impl Ahead {
    /// Begins to copy `host` into the buffer whose turn it is; the stream goes on when the copy is done.
    pub fn begin(&mut self, driver: &Driver, pool: &Pool, host: &[f32]) -> Result<()> {
        let turn = self.turn;
        self.turn = 1 - turn;
        let fits = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.device.len() == host.len());
        let fresh = !self.slots.iter().all(fits);
        if fresh {
            // Both at once: a step does not find the pool other than the step before did.
            for slot in &mut self.slots {
                let device = pool.take(host.len(), Element::F32, false)?;
                *slot = Some(Slot { pinned: None, device, copied: None, unused: true });
            }
        }
        self.staged = Some(Staged { slot: turn, host: (host.as_ptr(), host.len()) });
        if pool.is_rehearsing() || host.is_empty() {
            return Ok(());
        }
        let slot = self.slots[turn].as_mut().expect("made above, or before");
        if let Some(copied) = slot.copied.take() {
            copied.wait()?;
        }
        let pinned = match &mut slot.pinned {
            Some(pinned) => pinned,
            none => none.insert(driver.pinned(size_of_val(host))?),
        };
        pinned.bytes_mut().copy_from_slice(bytemuck::cast_slice(host));
        let now = driver.event()?;
        let device = slot.device.view(0..host.len());
        // A buffer fresh from the pool may have been anything to the kernels before.
        let after = if std::mem::take(&mut slot.unused) { Some(&now) } else { self.before.as_ref() };
        let copied = driver.copy_ahead(device.address, pinned, device.bytes(), after)?;
        driver.wait_on_stream(&copied)?;
        slot.copied = Some(copied);
        self.before = Some(now);
        Ok(())
    }

    /// The device's copy of `host`, if it was brought; once.
    pub fn take(&mut self, host: &[f32]) -> Option<u64> {
        let staged = self.staged.take_if(|staged| staged.host == (host.as_ptr(), host.len()))?;
        let slot = self.slots[staged.slot].as_ref()?;
        Some(slot.device.view(0..host.len()).address)
    }
}
