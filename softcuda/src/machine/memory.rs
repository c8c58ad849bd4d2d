//! Device memory: allocations at addresses that no host pointer has, each with a byte of shadow a word.
//!
//! Blocks of a launch run on several threads and may race, as on a device. Every access here is therefore a relaxed
//! atomic of its own size (plain moves on the machines we run on), never a reference to the bytes.
#![allow(unsafe_code)] // raw memory, shared by the threads that run blocks and, for pinned memory, with the host

use std::alloc::Layout;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use crate::checks::{Check, Checks, DeviceError, Finding};

/// Where allocations begin: not canonical on x86-64, so that a host that dereferences one faults.
pub const BASE: u64 = 1 << 48;
/// Where the window of shared memory begins in the generic address space.
pub const SHARED: u64 = 1 << 50;
/// Where the window of local memory begins.
pub const LOCAL: u64 = 1 << 51;
/// Where the window of kernel parameters begins.
pub const PARAMETERS: u64 = 1 << 52;
/// Bytes of such a window.
pub const WINDOW: u64 = 1 << 32;
/// Alignment of allocations, and the least distance between two: the red zone.
const GRANULE: u64 = 512;
/// Allocations up to this size are filled with a pattern, so that what nobody wrote looks wrong.
const POISONED: u64 = 64 << 20;
/// That pattern.
pub const POISON: u8 = 0xcb;
/// Freed allocations that are remembered, to name them when they are used.
const REMEMBERED: usize = 4096;

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Allocated on the device.
    Device,
    /// The host's, at the host's address: pinned or registered.
    Host,
    /// Variables of a module.
    Module,
    /// Constant variables of a module: kernels may not write them.
    Constant,
}

/// Raw bytes from the system: zeros that cost nothing until they are touched.
struct Bytes {
    pointer: *mut u8,
    layout: Option<Layout>,
}

// SAFETY: the bytes are only accessed through atomics.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

impl Bytes {
    fn new(bytes: u64) -> Option<Bytes> {
        // Aligned to no more than malloc does anyway: beyond that Rust writes the zeros itself, and touches every page.
        let layout = Layout::from_size_align(usize::try_from(bytes).ok()?.max(8), 16).ok()?;
        // SAFETY: the layout's size is not 0.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
        (!pointer.is_null()).then_some(Bytes { pointer, layout: Some(layout) })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: allocated with this layout in `new`.
            unsafe { std::alloc::dealloc(self.pointer, layout) }
        }
    }
}

/// One allocation.
pub struct Allocation {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// What it is for.
    pub kind: Kind,
    /// How messages call it.
    pub name: String,
    freed: AtomicBool,
    data: Bytes,
    /// A byte a word of 4 bytes: bit i says that byte i has been written.
    written: Bytes,
}

impl Allocation {
    /// End of the addresses.
    #[inline(always)]
    pub fn end(&self) -> u64 {
        self.base + self.bytes
    }

    /// Whether it has been freed.
    #[inline(always)]
    pub fn is_freed(&self) -> bool {
        self.freed.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn at(&self, offset: u64, bytes: u64) -> *mut u8 {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "inside the allocation");
        // SAFETY: inside the allocation, as just asserted.
        unsafe { self.data.pointer.add(offset as usize) }
    }

    /// Reads 1, 2, 4 or 8 bytes at an offset that is a multiple of them.
    #[inline(always)]
    pub fn load(&self, offset: u64, bytes: u32) -> u64 {
        let pointer = self.at(offset, u64::from(bytes));
        debug_assert_eq!(pointer as usize % bytes as usize, 0);
        // SAFETY: inside the allocation and aligned: allocations are aligned to 16 bytes, offsets as callers promise.
        unsafe {
            match bytes {
                1 => u64::from(AtomicU8::from_ptr(pointer).load(Ordering::Relaxed)),
                2 => u64::from(AtomicU16::from_ptr(pointer.cast()).load(Ordering::Relaxed)),
                4 => u64::from(AtomicU32::from_ptr(pointer.cast()).load(Ordering::Relaxed)),
                _ => AtomicU64::from_ptr(pointer.cast()).load(Ordering::Relaxed),
            }
        }
    }

    /// Writes 1, 2, 4 or 8 bytes at an offset that is a multiple of them.
    #[inline(always)]
    pub fn store(&self, offset: u64, bytes: u32, value: u64) {
        let pointer = self.at(offset, u64::from(bytes));
        // SAFETY: as in `load`.
        unsafe {
            match bytes {
                1 => AtomicU8::from_ptr(pointer).store(value as u8, Ordering::Relaxed),
                2 => AtomicU16::from_ptr(pointer.cast()).store(value as u16, Ordering::Relaxed),
                4 => AtomicU32::from_ptr(pointer.cast()).store(value as u32, Ordering::Relaxed),
                _ => AtomicU64::from_ptr(pointer.cast()).store(value, Ordering::Relaxed),
            }
        }
    }

    /// Replaces 2, 4 or 8 bytes by what `f` makes of them, atomically; gives what was there.
    pub fn update(&self, offset: u64, bytes: u32, mut f: impl FnMut(u64) -> u64) -> u64 {
        let pointer = self.at(offset, u64::from(bytes));
        let order = Ordering::SeqCst;
        // SAFETY: as in `load`.
        unsafe {
            match bytes {
                2 => u64::from(
                    AtomicU16::from_ptr(pointer.cast())
                        .fetch_update(order, order, |old| Some(f(u64::from(old)) as u16))
                        .unwrap_or_else(|old| old),
                ),
                4 => u64::from(
                    AtomicU32::from_ptr(pointer.cast())
                        .fetch_update(order, order, |old| Some(f(u64::from(old)) as u32))
                        .unwrap_or_else(|old| old),
                ),
                _ => AtomicU64::from_ptr(pointer.cast())
                    .fetch_update(order, order, |old| Some(f(old)))
                    .unwrap_or_else(|old| old),
            }
        }
    }

    #[inline(always)]
    fn shadow(&self, word: u64) -> &AtomicU8 {
        assert!(word < self.bytes.div_ceil(4));
        // SAFETY: a byte of the shadow, which has one a word.
        unsafe { AtomicU8::from_ptr(self.written.pointer.add(word as usize)) }
    }

    /// The shadow of a range of words.
    ///
    /// # Panics
    /// If it is not inside the allocation.
    #[inline(always)]
    pub fn shadows(&self, words: std::ops::Range<usize>) -> &[AtomicU8] {
        assert!(words.start <= words.end && words.end as u64 <= self.bytes.div_ceil(4));
        // SAFETY: bytes of the shadow, which has one a word, and are only accessed as atomics.
        unsafe { std::slice::from_raw_parts(self.written.pointer.add(words.start).cast(), words.len()) }
    }

    /// Loads 4 or 8 bytes for each lane, `stride` bytes from lane to lane.
    #[inline(always)]
    pub fn load_run(&self, offset: u64, bytes: u32, stride: u32, into: &mut [u64; 32]) {
        let pointer = self.at(offset, 31 * u64::from(stride) + u64::from(bytes));
        let stride = stride as usize;
        // SAFETY: inside the allocation, as just asserted; aligned as in `load`.
        unsafe {
            if bytes == 4 {
                for (lane, value) in into.iter_mut().enumerate() {
                    *value = u64::from(
                        AtomicU32::from_ptr(pointer.add(lane * stride).cast()).load(Ordering::Relaxed),
                    );
                }
            } else {
                for (lane, value) in into.iter_mut().enumerate() {
                    *value = AtomicU64::from_ptr(pointer.add(lane * stride).cast()).load(Ordering::Relaxed);
                }
            }
        }
    }

    /// Stores 4 or 8 bytes for each lane; gives 0 if nothing changed by it.
    #[inline(always)]
    pub fn store_run(&self, offset: u64, bytes: u32, stride: u32, from: &[u64; 32]) -> u64 {
        let pointer = self.at(offset, 31 * u64::from(stride) + u64::from(bytes));
        let stride = stride as usize;
        let mut changed = 0;
        // SAFETY: as in `load_run`.
        unsafe {
            if bytes == 4 {
                for (lane, &value) in from.iter().enumerate() {
                    let word = AtomicU32::from_ptr(pointer.add(lane * stride).cast());
                    changed |= u64::from(word.load(Ordering::Relaxed)) ^ value;
                    word.store(value as u32, Ordering::Relaxed);
                }
            } else {
                for (lane, &value) in from.iter().enumerate() {
                    let word = AtomicU64::from_ptr(pointer.add(lane * stride).cast());
                    changed |= word.load(Ordering::Relaxed) ^ value;
                    word.store(value, Ordering::Relaxed);
                }
            }
        }
        changed
    }

    /// Whether the bytes have been written: a bit each, from bit 0, for 1 to 8 aligned bytes.
    #[inline(always)]
    pub fn initialised(&self, offset: u64, bytes: u32) -> bool {
        let word = offset / 4;
        match bytes {
            8 => {
                self.shadow(word).load(Ordering::Relaxed) & self.shadow(word + 1).load(Ordering::Relaxed)
                    == 15
            }
            _ => {
                let mask = (((1u32 << bytes) - 1) << (offset % 4)) as u8;
                self.shadow(word).load(Ordering::Relaxed) & mask == mask
            }
        }
    }

    /// Marks 1 to 8 aligned bytes as written.
    #[inline(always)]
    pub fn mark(&self, offset: u64, bytes: u32) {
        let word = offset / 4;
        match bytes {
            4 => self.shadow(word).store(15, Ordering::Relaxed),
            8 => {
                self.shadow(word).store(15, Ordering::Relaxed);
                self.shadow(word + 1).store(15, Ordering::Relaxed);
            }
            _ => {
                let mask = (((1u32 << bytes) - 1) << (offset % 4)) as u8;
                if self.shadow(word).load(Ordering::Relaxed) & mask != mask {
                    self.shadow(word).fetch_or(mask, Ordering::Relaxed);
                }
            }
        }
    }

    /// Marks any range as written or not.
    fn mark_range(&self, offset: u64, bytes: u64, written: bool) {
        let (mut at, end) = (offset, offset + bytes);
        while at < end {
            let word = at / 4;
            let stop = end.min(word * 4 + 4);
            let mask = (((1u32 << (stop - at)) - 1) << (at % 4)) as u8;
            match (mask, written) {
                (15, _) => self.shadow(word).store(if written { 15 } else { 0 }, Ordering::Relaxed),
                (_, true) => _ = self.shadow(word).fetch_or(mask, Ordering::Relaxed),
                (_, false) => _ = self.shadow(word).fetch_and(!mask, Ordering::Relaxed),
            }
            at = stop;
        }
    }

    /// The first byte of the range that nothing has written.
    fn first_unwritten(&self, offset: u64, bytes: u64) -> Option<u64> {
        if self.kind == Kind::Host {
            return None;
        }
        (offset..offset + bytes).find(|at| self.shadow(at / 4).load(Ordering::Relaxed) >> (at % 4) & 1 == 0)
    }

    fn read_bytes(&self, offset: u64, into: &mut [u8]) {
        let pointer = self.at(offset, into.len() as u64);
        // SAFETY: inside the allocation; `into` is the caller's own. Copies are never under way while kernels run.
        unsafe { std::ptr::copy(pointer, into.as_mut_ptr(), into.len()) }
    }

    fn write_bytes(&self, offset: u64, bytes: &[u8]) {
        let pointer = self.at(offset, bytes.len() as u64);
        // SAFETY: as above.
        unsafe { std::ptr::copy(bytes.as_ptr(), pointer, bytes.len()) }
    }
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, Arc<Allocation>>,
    freed: BTreeMap<u64, Arc<Allocation>>,
    order_of_death: std::collections::VecDeque<u64>,
    next: u64,
    used: u64,
    peak: u64,
}

/// The memory of a device.
pub struct Memory {
    capacity: u64,
    state: RwLock<State>,
}

impl Memory {
    /// With so many bytes.
    pub fn new(capacity: u64) -> Memory {
        let state = State { next: BASE + GRANULE, ..State::default() };
        Memory { capacity, state: RwLock::new(state) }
    }

    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn state_mut(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Takes memory: `None` where the device has no more (it gives it in granules of 512 bytes).
    pub fn allocate(&self, bytes: u64, kind: Kind) -> Option<u64> {
        self.allocate_named(bytes, kind, "an allocation")
    }

    /// The same with a name for messages.
    pub fn allocate_named(&self, bytes: u64, kind: Kind, name: &str) -> Option<u64> {
        let whole = bytes.max(1).checked_next_multiple_of(GRANULE)?;
        let mut state = self.state_mut();
        if state.used.checked_add(whole)? > self.capacity {
            return None;
        }
        let base = state.next;
        let data = Bytes::new(bytes)?;
        if bytes <= POISONED && kind == Kind::Device {
            // SAFETY: just allocated, with this size.
            unsafe { data.pointer.write_bytes(POISON, bytes as usize) }
        }
        let written = Bytes::new(bytes.div_ceil(4))?;
        let allocation = Allocation {
            base,
            bytes,
            kind,
            name: name.to_string(),
            freed: AtomicBool::new(false),
            data,
            written,
        };
        if matches!(kind, Kind::Module | Kind::Constant) {
            allocation.mark_range(0, bytes, true);
        }
        state.next += whole + GRANULE;
        state.used += whole;
        state.peak = state.peak.max(state.used);
        state.live.insert(base, Arc::new(allocation));
        Some(base)
    }

    /// Makes host memory addressable, at its own address.
    ///
    /// # Safety
    /// The memory must stay valid until it is released, and until then the host may only touch it while no kernel and no
    /// copy does.
    pub unsafe fn register_host(&self, pointer: *mut u8, bytes: u64) {
        let Some(written) = Bytes::new(bytes.div_ceil(4)) else { return };
        let allocation = Allocation {
            base: pointer as u64,
            bytes,
            kind: Kind::Host,
            name: "pinned host memory".to_string(),
            freed: AtomicBool::new(false),
            data: Bytes { pointer, layout: None },
            written,
        };
        allocation.mark_range(0, bytes, true);
        self.state_mut().live.insert(pointer as u64, Arc::new(allocation));
    }

    /// Gives memory back; `false` if no live allocation starts there.
    pub fn release(&self, address: u64) -> bool {
        let mut state = self.state_mut();
        let Some(allocation) = state.live.remove(&address) else { return false };
        allocation.freed.store(true, Ordering::Relaxed);
        if allocation.kind == Kind::Host {
            return true;
        }
        state.used -= allocation.bytes.max(1).next_multiple_of(GRANULE);
        let grave = Allocation {
            base: allocation.base,
            bytes: allocation.bytes,
            kind: allocation.kind,
            name: allocation.name.clone(),
            freed: AtomicBool::new(true),
            data: Bytes { pointer: std::ptr::null_mut(), layout: None },
            written: Bytes { pointer: std::ptr::null_mut(), layout: None },
        };
        state.freed.insert(address, Arc::new(grave));
        state.order_of_death.push_back(address);
        if state.order_of_death.len() > REMEMBERED
            && let Some(oldest) = state.order_of_death.pop_front()
        {
            state.freed.remove(&oldest);
        }
        true
    }

    /// The live allocation that holds an address.
    pub fn holding(&self, address: u64) -> Option<Arc<Allocation>> {
        let state = self.state();
        let (_, allocation) = state.live.range(..=address).next_back()?;
        (address < allocation.end() || (allocation.bytes == 0 && address == allocation.base))
            .then(|| allocation.clone())
    }

    /// Base and bytes of the live allocation that holds an address.
    pub fn find(&self, address: u64) -> Option<(u64, u64)> {
        self.holding(address).map(|allocation| (allocation.base, allocation.bytes))
    }

    /// All live allocations, by address.
    pub fn live(&self) -> Vec<Arc<Allocation>> {
        self.state().live.values().cloned().collect()
    }

    /// What lies at an address where nothing lives, for a message.
    pub fn describe(&self, address: u64, bytes: u64) -> String {
        let state = self.state();
        let size = |allocation: &Allocation| format!("{} of {} bytes", allocation.name, allocation.bytes);
        if let Some((_, freed)) = state.freed.range(..=address).next_back()
            && address < freed.end()
        {
            return format!("{} bytes into {}, which has been freed", address - freed.base, size(freed));
        }
        let below = state.live.range(..=address).next_back().map(|(_, allocation)| allocation);
        if let Some(allocation) = below
            && address < allocation.end()
        {
            let offset = address - allocation.base;
            return if offset + bytes > allocation.bytes {
                format!("{offset} bytes into {}, and over its end", size(allocation))
            } else {
                format!("{offset} bytes into {}", size(allocation))
            };
        }
        let above = state.live.range(address..).next().map(|(_, allocation)| allocation);
        let behind = below.map(|allocation| (address - allocation.end(), allocation));
        let before = above.map(|allocation| (allocation.base - address, allocation));
        match (behind, before) {
            (_, _) if address < 1 << 16 => "a null pointer".to_string(),
            (Some((gap, allocation)), other) if other.is_none_or(|(distance, _)| gap < distance) => {
                format!("{gap} bytes behind the end of {}", size(allocation))
            }
            (_, Some((gap, allocation))) => format!("{gap} bytes before {}", size(allocation)),
            _ => "no memory has been allocated".to_string(),
        }
    }

    /// A range that must lie in one live allocation.
    fn range(&self, address: u64, bytes: u64, what: &str) -> Result<(Arc<Allocation>, u64), Box<Finding>> {
        let allocation = self.holding(address).filter(|allocation| bytes <= allocation.end() - address);
        allocation.map(|allocation| (allocation.clone(), address - allocation.base)).ok_or_else(|| {
            Box::new(Finding {
                check: Check::Memory,
                error: DeviceError::IllegalAddress,
                what: format!("{what} of {bytes} bytes at {address:#x}"),
                kernel: String::new(),
                place: String::new(),
                other_place: String::new(),
                block: None,
                thread: None,
                address: Some(address),
                allocation: self.describe(address, bytes),
            })
        })
    }

    /// Copies from the host.
    ///
    /// # Errors
    /// A [`Finding`] if the range is not inside one live allocation.
    pub fn write(&self, to: u64, bytes: &[u8]) -> Result<(), Box<Finding>> {
        let (allocation, offset) = self.range(to, bytes.len() as u64, "a copy to the device")?;
        allocation.write_bytes(offset, bytes);
        allocation.mark_range(offset, bytes.len() as u64, true);
        Ok(())
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// A [`Finding`] if the range is not inside one live allocation, or holds bytes that nothing has written.
    pub fn read(&self, from: u64, into: &mut [u8], checks: Checks) -> Result<(), Box<Finding>> {
        let bytes = into.len() as u64;
        let (allocation, offset) = self.range(from, bytes, "a copy to the host")?;
        allocation.read_bytes(offset, into);
        match allocation.first_unwritten(offset, bytes).filter(|_| checks.has(Check::Init)) {
            None => Ok(()),
            Some(at) => Err(Box::new(Finding {
                check: Check::Init,
                error: DeviceError::LaunchFailed,
                what: format!(
                    "a copy to the host reads {bytes} bytes at {from:#x}, which nothing has written in full"
                ),
                kernel: String::new(),
                place: String::new(),
                other_place: String::new(),
                block: None,
                thread: None,
                address: Some(allocation.base + at),
                allocation: format!(
                    "the first such byte is {at} bytes into {} of {} bytes",
                    allocation.name, allocation.bytes
                ),
            })),
        }
    }

    /// Copies on the device; what nothing had written stays so.
    ///
    /// # Errors
    /// A [`Finding`] if a range is not inside one live allocation.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), Box<Finding>> {
        let (source, from) = self.range(from, bytes, "a copy on the device from")?;
        let (target, to) = self.range(to, bytes, "a copy on the device to")?;
        let mut buffer = vec![0; bytes as usize];
        source.read_bytes(from, &mut buffer);
        let written: Vec<bool> = (from..from + bytes)
            .map(|at| {
                source.kind == Kind::Host
                    || source.shadow(at / 4).load(Ordering::Relaxed) >> (at % 4) & 1 != 0
            })
            .collect();
        target.write_bytes(to, &buffer);
        if written.iter().all(|&written| written) {
            target.mark_range(to, bytes, true);
        } else {
            for (at, &written) in (to..).zip(&written) {
                target.mark_range(at, 1, written);
            }
        }
        Ok(())
    }

    /// Fills with a pattern of 1, 2 or 4 bytes, `count` times.
    ///
    /// # Errors
    /// A [`Finding`] if the range is not inside one live allocation.
    pub fn fill(&self, to: u64, pattern: &[u8], count: u64) -> Result<(), Box<Finding>> {
        let bytes = count * pattern.len() as u64;
        let (allocation, offset) = self.range(to, bytes, "a memset")?;
        let chunk: Vec<u8> = pattern.iter().copied().cycle().take(pattern.len() * 4096).collect();
        let mut done = 0;
        while done < bytes {
            let part = (bytes - done).min(chunk.len() as u64);
            allocation.write_bytes(offset + done, &chunk[..part as usize]);
            done += part;
        }
        allocation.mark_range(offset, bytes, true);
        Ok(())
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.state().used
    }

    /// The most that was in use at a time.
    pub fn peak(&self) -> u64 {
        self.state().peak
    }

    /// Bytes in all.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }
}

/// Whether all bytes are one value.
#[inline(always)]
pub fn all_are(bytes: &[AtomicU8], value: u8) -> bool {
    // SAFETY: eight atomic bytes at a multiple of 8 are an atomic word, and nothing but relaxed atomics touches them.
    let (head, words, tail) = unsafe { bytes.align_to::<AtomicU64>() };
    let wide = u64::from_ne_bytes([value; 8]);
    let different = words.iter().fold(0, |different, word| different | (word.load(Ordering::Relaxed) ^ wide));
    let narrow = |bytes: &[AtomicU8]| bytes.iter().all(|byte| byte.load(Ordering::Relaxed) == value);
    different == 0 && narrow(head) && narrow(tail)
}

/// Sets all bytes.
#[inline(always)]
pub fn fill(bytes: &[AtomicU8], value: u8) {
    // SAFETY: as in `all_are`.
    let (head, words, tail) = unsafe { bytes.align_to::<AtomicU64>() };
    let wide = u64::from_ne_bytes([value; 8]);
    words.iter().for_each(|word| word.store(wide, Ordering::Relaxed));
    head.iter().chain(tail).for_each(|byte| byte.store(value, Ordering::Relaxed));
}

/// Zeros that cost nothing until they are touched.
pub fn zeroed_bytes(count: usize) -> Box<[AtomicU8]> {
    let plain = vec![0u8; count].into_boxed_slice();
    // SAFETY: AtomicU8 has the layout of u8.
    unsafe { Box::from_raw(Box::into_raw(plain) as *mut [AtomicU8]) }
}

/// Pairs of stamps and of places, zero, that cost nothing until they are touched.
#[allow(clippy::type_complexity)]
pub fn zeroed_records(count: usize) -> (Box<[[AtomicU64; 2]]>, Box<[[AtomicU32; 2]]>) {
    let stamps = vec![[0u64; 2]; count].into_boxed_slice();
    let places = vec![[0u32; 2]; count].into_boxed_slice();
    // SAFETY: atomics have the layout of the integers that they hold.
    unsafe {
        (
            Box::from_raw(Box::into_raw(stamps) as *mut [[AtomicU64; 2]]),
            Box::from_raw(Box::into_raw(places) as *mut [[AtomicU32; 2]]),
        )
    }
}
