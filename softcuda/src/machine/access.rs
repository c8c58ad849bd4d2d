//! Loads and stores of a warp: 32 addresses at a time, in any state space, with every check on the way.

use std::sync::atomic::{Ordering, fence};

use super::context::{Context, LaunchState};
use super::memory::{Kind, LOCAL, PARAMETERS, SHARED, WINDOW};
use super::registers::lanes;
use super::shadow::{PENDING, Tracking};
use crate::checks::{Check, DeviceError, Finding};
use crate::ptx::ast::Space;

/// How memory is accessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Volatile, relaxed or stronger: races with weak accesses only.
    pub strong: bool,
    /// `ld.global.nc`: data that nobody writes during the launch.
    pub constant: bool,
    /// Learns what others have published there.
    pub acquire: bool,
    /// Publishes what came before, fenced or not.
    pub release: bool,
}

/// Result of an access.
pub type Checked = Result<(), Box<Finding>>;

/// Least and greatest of the lanes of a mask, and the bits in which any is odd.
#[allow(clippy::needless_range_loop)] // a loop that vectorises
#[inline(always)]
fn span(addresses: &[u64; 32], mask: u32) -> (u64, u64, u64) {
    let (mut low, mut high, mut bits) = (u64::MAX, 0, 0);
    for lane in 0..32 {
        if mask >> lane & 1 != 0 {
            low = low.min(addresses[lane]);
            high = high.max(addresses[lane]);
            bits |= addresses[lane];
        }
    }
    (low, high, bits)
}

impl LaunchState<'_> {
    /// The region that holds an address; `last` is tried first, and set.
    #[inline(always)]
    pub fn region(&self, address: u64, last: &mut usize) -> Option<usize> {
        let inside = |at: usize| {
            self.regions
                .get(at)
                .is_some_and(|region| address.wrapping_sub(region.allocation.base) < region.allocation.bytes)
        };
        if inside(*last) {
            return Some(*last);
        }
        let at = self.regions.partition_point(|region| region.allocation.base <= address).checked_sub(1)?;
        inside(at).then(|| {
            *last = at;
            at
        })
    }

    /// What the launch did to a region.
    #[inline(always)]
    pub fn tracking(&self, region: usize) -> &Tracking {
        let region = &self.regions[region];
        let races = self.checks.has(Check::Race);
        region.tracking.get_or_init(|| Tracking::new(region.allocation.bytes, races))
    }
}

/// The state space that a generic address lies in, and the address there.
#[inline(always)]
pub fn resolve(address: u64) -> (Space, u64) {
    if address < SHARED {
        (Space::Global, address)
    } else if address - SHARED < WINDOW {
        (Space::Shared, address - SHARED)
    } else if address >= LOCAL && address - LOCAL < WINDOW {
        (Space::Local, address - LOCAL)
    } else if address >= PARAMETERS && address - PARAMETERS < WINDOW {
        (Space::Param, address - PARAMETERS)
    } else {
        (Space::Global, address)
    }
}

impl Context<'_> {
    /// Calls `each` with the lanes that address one state space, and their addresses in it.
    fn by_space(
        &mut self,
        space: Space,
        addresses: &[u64; 32],
        mut each: impl FnMut(&mut Self, Space, &[u64; 32]) -> Checked,
    ) -> Checked {
        if space != Space::Generic {
            return each(self, if space == Space::Const { Space::Global } else { space }, addresses);
        }
        let whole = self.mask;
        let mut rest = whole;
        while rest != 0 {
            let (space, _) = resolve(addresses[rest.trailing_zeros() as usize]);
            let mut group = 0;
            let mut inside = [0; 32];
            for lane in lanes(rest) {
                let (other, address) = resolve(addresses[lane]);
                if other == space {
                    group |= 1 << lane;
                    inside[lane] = address;
                }
            }
            self.mask = group;
            let result = each(self, space, &inside);
            self.mask = whole;
            result?;
            rest &= !group;
        }
        Ok(())
    }

    /// Loads `into.len()` elements of `bytes` each, one behind the other, for each lane of the mask.
    ///
    /// # Errors
    /// What a check found.
    #[inline(always)]
    pub fn load(
        &mut self,
        space: Space,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        into: &mut [[u64; 32]],
    ) -> Checked {
        self.by_space(space, addresses, |context, space, addresses| match space {
            Space::Shared if context.load_shared_run(addresses, bytes, how, into) => Ok(()),
            Space::Shared => context.load_shared(addresses, bytes, how, into),
            Space::Local => context.load_local(addresses, bytes, into),
            Space::Param => context.load_parameters(addresses, bytes, into),
            _ if context.load_global_run(addresses, bytes, how, into) => Ok(()),
            _ => context.load_global(addresses, bytes, how, into),
        })
    }

    /// Stores elements; the reverse of [`Context::load`].
    ///
    /// # Errors
    /// What a check found.
    #[inline(always)]
    pub fn store(
        &mut self,
        space: Space,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        from: &[[u64; 32]],
    ) -> Checked {
        self.by_space(space, addresses, |context, space, addresses| match space {
            Space::Shared if context.store_shared_run(addresses, bytes, how, from) => Ok(()),
            Space::Shared => context.store_shared(addresses, bytes, how, from),
            Space::Local => context.store_local(addresses, bytes, from),
            Space::Param => {
                Err(context.outside(context.first_lane(), "writes", Space::Param, addresses, bytes))
            }
            _ if context.store_global_run(addresses, bytes, how, from) => Ok(()),
            _ => context.store_global(addresses, bytes, how, from),
        })
    }

    /// Replaces the element at each lane's address by what `f` makes of it, lane by lane; gives what was there.
    ///
    /// # Errors
    /// What a check found.
    pub fn update(
        &mut self,
        space: Space,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        f: &dyn Fn(usize, u64) -> u64,
        old: &mut [u64; 32],
    ) -> Checked {
        self.by_space(space, addresses, |context, space, addresses| match space {
            Space::Shared => context.update_shared(addresses, bytes, how, f, old),
            Space::Global => context.update_global(addresses, bytes, how, f, old),
            _ => Err(context.outside(context.first_lane(), "updates", space, addresses, bytes)),
        })
    }

    fn first_lane(&self) -> usize {
        self.mask.trailing_zeros() as usize & 31
    }

    /// An access that is outside or not allowed.
    #[cold]
    pub fn outside(
        &self,
        lane: usize,
        verb: &str,
        space: Space,
        addresses: &[u64; 32],
        bytes: u32,
    ) -> Box<Finding> {
        let address = addresses[lane];
        let error = match space {
            Space::Param => DeviceError::InvalidAddressSpace,
            _ => DeviceError::IllegalAddress,
        };
        let what = format!("{verb} {bytes} bytes of {} memory at {address:#x}", space_name(space));
        self.finding(lane, Check::Memory, error, what).at(address, self.surroundings(space, address, bytes))
    }

    /// What lies at an address.
    #[cold]
    pub(super) fn surroundings(&self, space: Space, address: u64, bytes: u32) -> String {
        match space {
            Space::Shared => format!("the block has {} bytes of it", self.launch.shared_bytes),
            Space::Local => format!("the thread has {} bytes of it", self.launch.kernel.local_bytes),
            Space::Param => {
                format!("the kernel has {} bytes of it, read only", self.launch.kernel.parameter_bytes)
            }
            _ => self.launch.memory.describe(address, u64::from(bytes)),
        }
    }

    #[cold]
    pub(super) fn misaligned(
        &self,
        verb: &str,
        space: Space,
        addresses: &[u64; 32],
        bytes: u32,
        mask: u32,
    ) -> Box<Finding> {
        let odd = lanes(mask).find(|&lane| !addresses[lane].is_multiple_of(u64::from(bytes)));
        let lane = odd.unwrap_or(mask.trailing_zeros() as usize);
        let mut finding = self.outside(lane, verb, space, addresses, bytes);
        finding.error = DeviceError::MisalignedAddress;
        finding.what += &format!(", which is not a multiple of {bytes}");
        finding
    }

    /// A read of what nothing has written. Where another thread may still write it, unordered, the race is what is wrong: the
    /// block keeps the finding until its next barrier.
    #[cold]
    fn unwritten(&mut self, lane: usize, space: Space, address: u64, bytes: u32) -> Checked {
        if self.block.kept_back.is_some() {
            return Ok(());
        }
        let what = format!(
            "reads {bytes} bytes of {} memory at {address:#x}, which nothing has written in full",
            space_name(space)
        );
        let finding = self
            .finding(lane, Check::Init, DeviceError::LaunchFailed, what)
            .at(address, self.surroundings(space, address, bytes));
        if space == Space::Local || !self.checks(Check::Race) {
            return Err(finding);
        }
        self.block.kept_back = Some(finding);
        Ok(())
    }

    // ---- global ----

    /// Calls `each` with the lanes that address one region, after the checks that all accesses have in common.
    #[inline(always)]
    fn by_region(
        &mut self,
        verb: &str,
        addresses: &[u64; 32],
        bytes: u32,
        mut each: impl FnMut(&mut Self, usize, u32) -> Checked,
    ) -> Checked {
        let (low, high, bits) = span(addresses, self.mask);
        if bits & u64::from(bytes - 1) != 0 {
            return Err(self.misaligned(verb, Space::Global, addresses, bytes, self.mask));
        }
        let mut rest = self.mask;
        while rest != 0 {
            let lane = rest.trailing_zeros() as usize;
            let region = self.launch.region(addresses[lane], &mut self.block.last_region);
            let Some(region) = region else {
                return Err(self.outside(lane, verb, Space::Global, addresses, bytes));
            };
            let allocation = &self.launch.regions[region].allocation;
            let fits =
                |address: u64| address >= allocation.base && address + u64::from(bytes) <= allocation.end();
            let group = if rest == self.mask && fits(low) && fits(high) {
                rest
            } else if fits(addresses[lane]) {
                lanes(rest).filter(|&lane| fits(addresses[lane])).fold(0, |group, lane| group | 1 << lane)
            } else {
                return Err(self.outside(lane, verb, Space::Global, addresses, bytes));
            };
            if allocation.is_freed() {
                return Err(self.outside(lane, verb, Space::Global, addresses, bytes));
            }
            each(self, region, group)?;
            rest &= !group;
        }
        Ok(())
    }

    fn load_global(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        into: &mut [[u64; 32]],
    ) -> Checked {
        let whole = bytes * into.len() as u32;
        self.count_sectors(addresses, whole);
        let (init, race) = (self.checks(Check::Init), self.checks(Check::Race));
        let result = self.by_region("reads", addresses, whole, |context, region, group| {
            let launch = context.launch;
            let allocation = &launch.regions[region].allocation;
            let tracking = launch.tracking(region);
            for (index, element) in into.iter_mut().enumerate() {
                let shift = u64::from(bytes) * index as u64;
                for lane in lanes(group) {
                    element[lane] = allocation.load(addresses[lane] - allocation.base + shift, bytes);
                }
            }
            for lane in lanes(group) {
                let offset = addresses[lane] - allocation.base;
                if init {
                    for part in 0..whole.div_ceil(8) {
                        let size = (whole - part * 8).min(8);
                        if !allocation.initialised(offset + u64::from(part) * 8, size) {
                            context.unwritten(lane, Space::Global, addresses[lane], whole)?;
                        }
                    }
                }
                for word in offset / 4..(offset + u64::from(whole)).div_ceil(4) {
                    let flag = &tracking.read[word as usize];
                    let seen = flag.load(Ordering::Relaxed);
                    if seen != 3 && (seen == 0 || how.constant) {
                        flag.store(if how.constant { 3 } else { 1 }, Ordering::Relaxed);
                        if how.constant && race {
                            tracking.records.note_reader(word as usize, context.pc);
                        }
                    }
                }
            }
            if how.constant && context.checks(Check::ReadOnly) {
                context.check_constant(region, addresses, whole, group)?;
            }
            if race && !how.constant {
                context.race_global(region, addresses, whole, group, false, how.strong, None)?;
            }
            Ok(())
        });
        if how.acquire && result.is_ok() {
            self.acquire_what_was_read(addresses);
        }
        result
    }

    /// Another block may have published, and then written, while the access was under way.
    fn acquire_what_was_read(&mut self, addresses: &[u64; 32]) {
        // With the fence of `publish_ahead`: whoever reads a value also sees what was published before it.
        fence(Ordering::Acquire);
        self.acquire(addresses);
    }

    /// Publishes before the value is there that tells others of it.
    fn publish_ahead(&mut self, addresses: &[u64; 32], release: bool) {
        self.publish(addresses, release);
        fence(Ordering::Release);
    }

    fn store_global(&mut self, addresses: &[u64; 32], bytes: u32, how: How, from: &[[u64; 32]]) -> Checked {
        let whole = bytes * from.len() as u32;
        self.count_sectors(addresses, whole);
        let race = self.checks(Check::Race);
        if how.strong {
            self.publish_ahead(addresses, how.release);
        }
        self.by_region("writes", addresses, whole, |context, region, group| {
            let launch = context.launch;
            let allocation = &launch.regions[region].allocation;
            if allocation.kind == Kind::Constant {
                let mut finding = context.outside(
                    group.trailing_zeros() as usize,
                    "writes",
                    Space::Global,
                    addresses,
                    whole,
                );
                finding.what += ", which is constant";
                return Err(finding);
            }
            context.mark_written(region, addresses, whole, group)?;
            if race {
                let values = (from, bytes);
                context.race_global(region, addresses, whole, group, true, how.strong, Some(values))?;
            }
            let mut changed = false;
            for (index, element) in from.iter().enumerate() {
                let shift = u64::from(bytes) * index as u64;
                for lane in lanes(group) {
                    let offset = addresses[lane] - allocation.base + shift;
                    changed |= allocation.load(offset, bytes) != element[lane];
                    allocation.store(offset, bytes, element[lane]);
                    allocation.mark(offset, bytes);
                }
            }
            if changed {
                launch.progress.fetch_add(1, Ordering::Release);
            }
            Ok(())
        })
    }

    fn update_global(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        f: &dyn Fn(usize, u64) -> u64,
        old: &mut [u64; 32],
    ) -> Checked {
        self.count_sectors(addresses, bytes);
        let (init, race) = (self.checks(Check::Init), self.checks(Check::Race));
        self.acquire(addresses);
        self.publish_ahead(addresses, how.release);
        let result = self.by_region("updates", addresses, bytes, |context, region, group| {
            let launch = context.launch;
            let allocation = &launch.regions[region].allocation;
            context.mark_written(region, addresses, bytes, group)?;
            if race {
                context.race_global(region, addresses, bytes, group, false, true, None)?;
                context.race_global(region, addresses, bytes, group, true, true, None)?;
            }
            let mut changed = false;
            for lane in lanes(group) {
                let offset = addresses[lane] - allocation.base;
                if init && !allocation.initialised(offset, bytes) {
                    context.unwritten(lane, Space::Global, addresses[lane], bytes)?;
                }
                let mut new = 0;
                old[lane] = allocation.update(offset, bytes, |old| {
                    new = f(lane, old);
                    new
                });
                changed |= new != old[lane];
                allocation.mark(offset, bytes);
            }
            if changed {
                launch.progress.fetch_add(1, Ordering::Release);
            }
            Ok(())
        });
        if result.is_ok() {
            self.acquire_what_was_read(addresses);
        }
        result
    }

    /// Notes what the launch wrote; it must not be what the launch reads as constant.
    fn mark_written(&mut self, region: usize, addresses: &[u64; 32], bytes: u32, group: u32) -> Checked {
        let launch = self.launch;
        let tracking = launch.tracking(region);
        let base = launch.regions[region].allocation.base;
        for lane in lanes(group) {
            let offset = addresses[lane] - base;
            for word in offset / 4..(offset + u64::from(bytes)).div_ceil(4) {
                tracking.written[word as usize].store(1, Ordering::Relaxed);
                if tracking.read[word as usize].load(Ordering::Relaxed) == 3 && self.checks(Check::ReadOnly) {
                    let place = tracking.records.place(word as usize, false);
                    return Err(self.not_constant(lane, "writes", addresses[lane], bytes, place));
                }
            }
        }
        Ok(())
    }

    /// What is read as constant must not have been written by this launch.
    fn check_constant(&mut self, region: usize, addresses: &[u64; 32], bytes: u32, group: u32) -> Checked {
        let tracking = self.launch.tracking(region);
        let base = self.launch.regions[region].allocation.base;
        for lane in lanes(group) {
            let offset = addresses[lane] - base;
            let mut words = offset / 4..(offset + u64::from(bytes)).div_ceil(4);
            let written = |&word: &u64| tracking.written[word as usize].load(Ordering::Relaxed) != 0;
            if let Some(word) = words.find(written) {
                let place = tracking.records.place(word as usize, true);
                return Err(self.not_constant(lane, "reads", addresses[lane], bytes, place));
            }
        }
        Ok(())
    }

    #[cold]
    fn not_constant(
        &self,
        lane: usize,
        verb: &str,
        address: u64,
        bytes: u32,
        other: Option<u32>,
    ) -> Box<Finding> {
        let what = match verb {
            "reads" => format!(
                "reads {bytes} bytes at {address:#x} through ld.global.nc, which is for data that the launch does not write"
            ),
            _ => format!(
                "writes {bytes} bytes at {address:#x}, which the same launch reads through ld.global.nc"
            ),
        };
        let mut finding = self
            .finding(lane, Check::ReadOnly, DeviceError::LaunchFailed, what)
            .at(address, self.surroundings(Space::Global, address, bytes));
        finding.other_place = other.map(|pc| self.place_of(pc)).unwrap_or_default();
        finding
    }

    // ---- shared ----

    /// Bounds and alignment of accesses to shared memory; counts their passes.
    ///
    /// # Errors
    /// What is outside or not aligned.
    pub fn check_shared(&mut self, verb: &str, addresses: &[u64; 32], bytes: u32) -> Checked {
        self.check_inside(Space::Shared, verb, addresses, bytes, self.launch.shared_bytes)?;
        self.count_passes(addresses, bytes);
        Ok(())
    }

    /// Bounds and alignment of accesses to a space that ends at `end`.
    fn check_inside(&self, space: Space, verb: &str, addresses: &[u64; 32], bytes: u32, end: u32) -> Checked {
        let (_, high, bits) = span(addresses, self.mask);
        if bits & u64::from(bytes - 1) != 0 {
            return Err(self.misaligned(verb, space, addresses, bytes, self.mask));
        }
        let is_outside =
            |address: u64| address.checked_add(u64::from(bytes)).is_none_or(|last| last > u64::from(end));
        if is_outside(high) {
            let lane = lanes(self.mask).find(|&lane| is_outside(addresses[lane])).unwrap_or(0);
            return Err(self.outside(lane, verb, space, addresses, bytes));
        }
        Ok(())
    }

    fn load_shared(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        how: How,
        into: &mut [[u64; 32]],
    ) -> Checked {
        let whole = bytes * into.len() as u32;
        self.check_shared("reads", addresses, whole)?;
        let (init, race) = (self.checks(Check::Init), self.checks(Check::Race));
        let pending = self.checks(Check::Async);
        for lane in lanes(self.mask) {
            let offset = addresses[lane] as usize;
            for (index, element) in into.iter_mut().enumerate() {
                let at = offset + bytes as usize * index;
                element[lane] = read(&self.block.shared, at, bytes);
            }
            for (word, bits) in words(addresses[lane], whole) {
                let shadow = self.block.shared_written[word];
                if pending && shadow & PENDING != 0 {
                    return Err(self.pending(lane, addresses[lane], "reads"));
                }
                if init && shadow & bits != bits {
                    self.unwritten(lane, Space::Shared, addresses[lane], whole)?;
                }
                if race {
                    self.race_shared(lane, word, bits, false, how.strong, false)?;
                }
            }
        }
        Ok(())
    }

    fn store_shared(&mut self, addresses: &[u64; 32], bytes: u32, how: How, from: &[[u64; 32]]) -> Checked {
        let whole = bytes * from.len() as u32;
        self.check_shared("writes", addresses, whole)?;
        let (race, pending) = (self.checks(Check::Race), self.checks(Check::Async));
        for lane in lanes(self.mask) {
            let offset = addresses[lane] as usize;
            let mut unchanged = true;
            for (index, element) in from.iter().enumerate() {
                let at = offset + bytes as usize * index;
                unchanged &= read(&self.block.shared, at, bytes) == element[lane];
                write(&mut self.block.shared, at, bytes, element[lane]);
            }
            self.block.changes += u64::from(!unchanged);
            for (word, bits) in words(addresses[lane], whole) {
                let shadow = self.block.shared_written[word];
                if shadow & PENDING != 0 && pending {
                    return Err(self.pending(lane, addresses[lane], "writes"));
                }
                let unchanged = unchanged && shadow & bits == bits;
                self.block.shared_written[word] = (shadow | bits) & 15;
                if race {
                    self.race_shared(lane, word, bits, true, how.strong, unchanged)?;
                }
            }
        }
        Ok(())
    }

    fn update_shared(
        &mut self,
        addresses: &[u64; 32],
        bytes: u32,
        _how: How,
        f: &dyn Fn(usize, u64) -> u64,
        old: &mut [u64; 32],
    ) -> Checked {
        self.check_shared("updates", addresses, bytes)?;
        let (init, race) = (self.checks(Check::Init), self.checks(Check::Race));
        let pending = self.checks(Check::Async);
        for lane in lanes(self.mask) {
            let offset = addresses[lane] as usize;
            old[lane] = read(&self.block.shared, offset, bytes);
            for (word, bits) in words(addresses[lane], bytes) {
                let shadow = self.block.shared_written[word];
                if pending && shadow & PENDING != 0 {
                    return Err(self.pending(lane, addresses[lane], "updates"));
                }
                if init && shadow & bits != bits {
                    self.unwritten(lane, Space::Shared, addresses[lane], bytes)?;
                }
                if race {
                    self.race_shared(lane, word, bits, false, true, false)?;
                    self.race_shared(lane, word, bits, true, true, false)?;
                }
            }
            let new = f(lane, old[lane]);
            write(&mut self.block.shared, offset, bytes, new);
            self.block.changes += u64::from(read(&self.block.shared, offset, bytes) != old[lane]);
        }
        Ok(())
    }

    // ---- local and parameters ----

    fn load_local(&mut self, addresses: &[u64; 32], bytes: u32, into: &mut [[u64; 32]]) -> Checked {
        let whole = bytes * into.len() as u32;
        self.check_inside(Space::Local, "reads", addresses, whole, self.launch.kernel.local_bytes)?;
        let init = self.checks(Check::Init);
        for lane in lanes(self.mask) {
            let start = lane * self.launch.kernel.local_bytes as usize + addresses[lane] as usize;
            for (index, element) in into.iter_mut().enumerate() {
                element[lane] = read(&self.warp.local, start + bytes as usize * index, bytes);
            }
            if init && !self.warp.local_written[start..start + whole as usize].iter().all(|&written| written)
            {
                self.unwritten(lane, Space::Local, addresses[lane], whole)?;
            }
        }
        Ok(())
    }

    fn store_local(&mut self, addresses: &[u64; 32], bytes: u32, from: &[[u64; 32]]) -> Checked {
        let whole = bytes * from.len() as u32;
        self.check_inside(Space::Local, "writes", addresses, whole, self.launch.kernel.local_bytes)?;
        for lane in lanes(self.mask) {
            let start = lane * self.launch.kernel.local_bytes as usize + addresses[lane] as usize;
            for (index, element) in from.iter().enumerate() {
                write(&mut self.warp.local, start + bytes as usize * index, bytes, element[lane]);
            }
            self.warp.local_written[start..start + whole as usize].fill(true);
        }
        Ok(())
    }

    fn load_parameters(&mut self, addresses: &[u64; 32], bytes: u32, into: &mut [[u64; 32]]) -> Checked {
        let whole = bytes * into.len() as u32;
        for lane in lanes(self.mask) {
            let end = addresses[lane].checked_add(u64::from(whole));
            if end.is_none_or(|end| end > self.launch.parameters.len() as u64) {
                return Err(self.outside(lane, "reads", Space::Param, addresses, whole));
            }
            for (index, element) in into.iter_mut().enumerate() {
                let at = addresses[lane] as usize + bytes as usize * index;
                element[lane] = read(self.launch.parameters, at, bytes);
            }
        }
        Ok(())
    }
}

/// How messages call a state space.
pub(super) fn space_name(space: Space) -> &'static str {
    match space {
        Space::Shared => "shared",
        Space::Local => "local",
        Space::Param => "parameter",
        _ => "global",
    }
}

/// The words that an access touches, with the bytes of each.
#[inline(always)]
fn words(address: u64, bytes: u32) -> impl Iterator<Item = (usize, u8)> {
    let first = (address / 4) as usize;
    let part = if bytes < 4 { ((1u8 << bytes) - 1) << (address % 4) } else { 15 };
    (first..first + bytes.div_ceil(4) as usize).map(move |word| (word, part))
}

/// Reads 1, 2, 4 or 8 bytes.
#[inline(always)]
pub fn read(memory: &[u8], at: usize, bytes: u32) -> u64 {
    match bytes {
        1 => u64::from(memory[at]),
        2 => u64::from(u16::from_le_bytes(memory[at..at + 2].try_into().unwrap_or_default())),
        4 => u64::from(u32::from_le_bytes(memory[at..at + 4].try_into().unwrap_or_default())),
        _ => u64::from_le_bytes(memory[at..at + 8].try_into().unwrap_or_default()),
    }
}

/// Writes 1, 2, 4 or 8 bytes.
#[inline(always)]
pub fn write(memory: &mut [u8], at: usize, bytes: u32, value: u64) {
    let bytes = bytes as usize;
    memory[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
}
