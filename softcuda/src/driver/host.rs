//! Host memory: pinned, registered and managed, and raw access to what programs point at.
#![allow(unsafe_code)] // reads and writes what the program's pointers point at, as the driver's contract says

use std::alloc::{Layout, alloc_zeroed, dealloc};

use super::{Handle, State, Status};
use crate::checks::Check;

use super::work::{Copy, Place, Work};

/// What fills the destination of a copy until the copy has been executed.
pub const POISON: u8 = 0xdb;
/// Alignment of host allocations: a page.
const PAGE: usize = 4096;

/// Host memory that the device can address.
#[derive(Debug)]
pub struct Pinned {
    /// Bytes.
    pub bytes: u64,
    /// The flags that it was allocated or registered with.
    pub flags: u32,
    /// The context.
    pub context: Handle,
    /// How it came to be.
    pub origin: Origin,
}

/// How pinned memory came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `cuMemHostAlloc`, `cuMemAllocHost`
    Allocated,
    /// `cuMemHostRegister`
    Registered,
    /// `cuMemAllocManaged`
    Managed,
}

/// Bytes that the program points at.
pub(super) fn bytes<'a>(address: u64, bytes: u64) -> &'a [u8] {
    if bytes == 0 {
        return &[];
    }
    // SAFETY: the program promises that so many bytes are readable there until the command has been executed.
    unsafe { std::slice::from_raw_parts(address as *const u8, bytes as usize) }
}

/// Bytes that the program points at, to be written.
pub(super) fn bytes_mut<'a>(address: u64, bytes: u64) -> &'a mut [u8] {
    if bytes == 0 {
        return &mut [];
    }
    // SAFETY: the program promises that so many bytes are writable there until the command has been executed.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes as usize) }
}

fn layout(bytes: u64) -> Option<Layout> {
    Layout::from_size_align(usize::try_from(bytes).ok()?.max(1), PAGE).ok()
}

impl State {
    /// Allocates host memory that the device can address.
    pub fn allocate_pinned(
        &mut self,
        context: Handle,
        bytes: u64,
        flags: u32,
        origin: Origin,
    ) -> Result<u64, Status> {
        let layout = layout(bytes).ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        // SAFETY: the size of the layout is not 0.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() {
            return Err(Status::ERROR_OUT_OF_MEMORY);
        }
        self.pin(context, pointer as u64, bytes, flags, origin);
        Ok(pointer as u64)
    }

    /// Makes the program's own memory addressable for the device.
    pub fn register(&mut self, context: Handle, address: u64, bytes: u64, flags: u32) -> Result<(), Status> {
        let end = address.checked_add(bytes).ok_or(Status::ERROR_INVALID_VALUE)?;
        if address == 0 || bytes == 0 || end > crate::driver::DEVICE_BASE {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if self.pinned.range(..end).next_back().is_some_and(|(base, pinned)| base + pinned.bytes > address) {
            return Err(Status::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        self.pin(context, address, bytes, flags, Origin::Registered);
        Ok(())
    }

    fn pin(&mut self, context: Handle, address: u64, bytes: u64, flags: u32, origin: Origin) {
        // SAFETY: the memory stays valid until it is released: ours until `unpin` frees it, the program's until it
        // unregisters it.
        unsafe { self.memory.register_host(address as *mut u8, bytes.max(1)) }
        self.pinned.insert(address, Pinned { bytes, flags, context, origin });
    }

    /// Takes pinned memory back, by its first address. Nothing that is pending may use it.
    pub fn unpin(&mut self, address: u64) {
        let Some(pinned) = self.pinned.remove(&address) else { return };
        self.memory.release(address);
        if pinned.origin != Origin::Registered
            && let Some(layout) = layout(pinned.bytes)
        {
            // SAFETY: allocated with this layout in `allocate_pinned`.
            unsafe { dealloc(address as *mut u8, layout) }
        }
    }

    /// The pinned memory that holds an address: its base and what it is.
    pub fn pinned_at(&self, address: u64) -> Option<(u64, &Pinned)> {
        let (base, pinned) = self.pinned.range(..=address).next_back()?;
        (address < base + pinned.bytes.max(1)).then_some((*base, pinned))
    }

    /// What kind of memory lies at an address.
    pub fn place(&self, address: u64) -> Place {
        if address >= super::DEVICE_BASE {
            Place::Device(address)
        } else if self.pinned_at(address).is_some() {
            Place::Pinned(address)
        } else {
            Place::Pageable(address)
        }
    }

    /// Reads what a copy must see as it is now, and marks what it will overwrite. `at_once` says that the call does not
    /// return before the copy has been executed.
    pub fn stage(&self, copy: &mut Copy, at_once: bool) {
        let snapshot = |copy: &Copy| {
            let ranges = (0..copy.slices).flat_map(|slice| {
                (0..copy.rows).map(move |row| slice * copy.from.slice + row * copy.from.pitch)
            });
            ranges.flat_map(|offset| bytes(copy.from.place.address() + offset, copy.width)).copied().collect()
        };
        if at_once {
            return;
        }
        let checked = self.settings.checks.has(Check::Host);
        match copy.from.place {
            Place::Pageable(_) => copy.staged = Some(snapshot(copy)),
            Place::Pinned(_) if checked && !self.may_be_used(copy, true) => {
                copy.staged = Some(snapshot(copy))
            }
            _ => {}
        }
        if matches!(copy.to.place, Place::Pinned(_)) && checked && !self.may_be_used(copy, false) {
            for (start, end) in copy.ranges(copy.to).iter() {
                bytes_mut(start, end - start).fill(POISON);
            }
            copy.poisoned = true;
        }
    }

    /// The same when a graph is launched: its nodes read pageable memory when they are executed.
    pub fn stage_in_graph(&self, copy: &mut Copy) {
        if !matches!(copy.from.place, Place::Pageable(_)) {
            self.stage(copy, false);
        }
    }

    /// Whether a pending command writes (or, for a destination, touches) the copy's pinned memory, so that its bytes may
    /// rightly change before the copy.
    fn may_be_used(&self, copy: &Copy, as_source: bool) -> bool {
        let side = if as_source { copy.from } else { copy.to };
        let Some((base, pinned)) = self.pinned_at(side.place.address()) else { return true };
        if pinned.origin == Origin::Managed {
            return true;
        }
        let ranges = copy.ranges(side);
        self.queue.is_running()
            || self.queue.waiting().any(|command| match &command.work {
                Work::Call(..) | Work::Callback(..) => true,
                // A kernel reaches pinned memory through a pointer: as a parameter, most likely.
                Work::Launch(launch) => launch.parameters.chunks_exact(8).any(|word| {
                    let value = u64::from_le_bytes(word.try_into().unwrap_or_default());
                    (base..base + pinned.bytes).contains(&value)
                }),
                work => {
                    ranges.meets(&work.writes()).is_some()
                        || !as_source && ranges.meets(&work.reads()).is_some()
                }
            })
    }
}
