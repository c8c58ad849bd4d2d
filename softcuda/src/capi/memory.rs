//! Device memory, managed memory, and what pointers point at.

use std::ffi::{c_int, c_uint, c_void};

use super::{answer, answer_if_wanted, list, wanted};
use crate::driver::host::Origin;
use crate::driver::work::Place;
use crate::driver::{DRIVER, Handle, State, Status};

/// The pitch of rows that `cuMemAllocPitch` chooses.
const PITCH: usize = 512;

/// The answers of `cuPointerGetAttribute`: value and bytes.
fn attribute(state: &State, attribute: c_uint, address: u64) -> Result<(u64, usize), Status> {
    let place = state.place(address);
    let (base, bytes) = match place {
        Place::Pageable(_) => return Err(Status::ERROR_INVALID_VALUE),
        _ => state.memory.find(address).ok_or(Status::ERROR_INVALID_VALUE)?,
    };
    let on_host = matches!(place, Place::Pinned(_));
    let pinned = state.pinned_at(address).map(|(_, pinned)| pinned);
    let managed = pinned.is_some_and(|pinned| pinned.origin == Origin::Managed);
    let allocation = state.allocations.get(&base);
    let context = pinned.map(|pinned| pinned.context).or(allocation.map(|allocation| allocation.context));
    let pool = allocation.and_then(|allocation| allocation.pool);
    Ok(match attribute {
        1 => (context.unwrap_or(0) as u64, 8),
        2 => (if on_host && !managed { 1 } else { 2 }, 4),
        3 => (address, 8),
        4 if on_host => (address, 8),
        4 => return Err(Status::ERROR_INVALID_VALUE),
        6 | 10 | 14 | 15 | 21 => (0, if attribute == 14 { 8 } else { 4 }),
        7 => (allocation.map_or(base, |allocation| allocation.id), 8),
        8 => (u64::from(managed), 4),
        9 => (0, 4),
        11 => (base, 8),
        12 => (bytes, 8),
        13 => (1, 4),
        16 => (3, 4),
        17 => (pool.unwrap_or(0) as u64, 8),
        _ => return Err(Status::ERROR_INVALID_VALUE),
    })
}

unsafe fn write(to: *mut c_void, (value, bytes): (u64, usize)) -> Result<(), Status> {
    // SAFETY: the program says that there is room for the attribute.
    unsafe {
        match bytes {
            4 => answer(to.cast::<u32>(), value as u32),
            _ => answer(to.cast::<u64>(), value),
        }
    }
}

/// `CUmemLocation` and other things by which programs say where managed memory should be: it is where it is.
fn managed(address: u64, bytes: usize) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let whole = state.pinned_at(address).is_some_and(|(base, pinned)| {
            pinned.origin == Origin::Managed && address + bytes as u64 <= base + pinned.bytes
        });
        if whole && bytes > 0 { Ok(()) } else { Err(Status::ERROR_INVALID_VALUE) }
    })
}

entry_points! {
    fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) = cuMemGetInfo {
        DRIVER.in_context(|state, _| {
            let (capacity, used) = (state.memory.capacity(), state.memory.used());
            answer_if_wanted(free, capacity.saturating_sub(used) as usize);
            answer_if_wanted(total, capacity as usize);
            Ok(())
        })
    }

    fn cuMemAlloc_v2(address: *mut u64, bytes: usize) = cuMemAlloc {
        wanted(address)?;
        answer(address, DRIVER.allocate(bytes as u64)?)
    }

    fn cuMemAllocPitch_v2(
        address: *mut u64,
        pitch: *mut usize,
        width: usize,
        height: usize,
        element: c_uint,
    ) = cuMemAllocPitch {
        wanted(address)?;
        wanted(pitch)?;
        if !matches!(element, 4 | 8 | 16) || width == 0 || height == 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let row = width.checked_next_multiple_of(PITCH).ok_or(Status::ERROR_INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(Status::ERROR_OUT_OF_MEMORY)?;
        answer(address, DRIVER.allocate(bytes as u64)?)?;
        answer(pitch, row)
    }

    fn cuMemFree_v2(address: u64) = cuMemFree {
        DRIVER.free(address)
    }

    fn cuMemAllocManaged(address: *mut u64, bytes: usize, flags: c_uint) {
        wanted(address)?;
        if bytes == 0 || !matches!(flags, 1 | 2) {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        answer(address, DRIVER.in_context(|state, context| {
            state.unsafe_in_captures()?;
            state.allocate_pinned(context, bytes as u64, flags, Origin::Managed)
        })?)
    }

    fn cuMemPrefetchAsync(address: u64, bytes: usize, _device: c_int, stream: Handle) {
        managed(address, bytes)?;
        DRIVER.in_context(|state, context| state.stream(context, stream).map(drop))
    }

    fn cuMemPrefetchAsync_v2(address: u64, bytes: usize, _location: u64, _flags: c_uint, stream: Handle) {
        managed(address, bytes)?;
        DRIVER.in_context(|state, context| state.stream(context, stream).map(drop))
    }

    fn cuMemAdvise(address: u64, bytes: usize, _advice: c_uint, _device: c_int) {
        managed(address, bytes)
    }

    fn cuMemAdvise_v2(address: u64, bytes: usize, _advice: c_uint, _location: u64) {
        managed(address, bytes)
    }

    fn cuMemGetAddressRange_v2(base: *mut u64, bytes: *mut usize, address: u64) = cuMemGetAddressRange {
        DRIVER.in_context(|state, _| {
            let found = state.memory.find(address).ok_or(Status::ERROR_NOT_FOUND)?;
            answer_if_wanted(base, found.0);
            answer_if_wanted(bytes, found.1 as usize);
            Ok(())
        })
    }

    fn cuPointerGetAttribute(data: *mut c_void, which: c_uint, address: u64) {
        let found = DRIVER.in_context(|state, _| attribute(state, which, address))?;
        write(data, found)
    }

    fn cuPointerGetAttributes(
        count: c_uint,
        attributes: *const c_uint,
        data: *const *mut c_void,
        address: u64,
    ) {
        let (attributes, data) = (list(attributes, count as usize)?, list(data, count as usize)?);
        for (which, to) in attributes.iter().zip(data) {
            let found = DRIVER.in_context(|state, _| match attribute(state, *which, address) {
                // For pointers that the driver does not know this call, other than the one above, answers with zeros.
                Err(Status::ERROR_INVALID_VALUE) if (1..=21).contains(which) => {
                    Ok((0, if matches!(which, 2 | 6 | 8 | 9 | 10 | 13 | 15 | 16 | 21) { 4 } else { 8 }))
                }
                other => other,
            })?;
            write(*to, found)?;
        }
        Ok(())
    }

    fn cuPointerSetAttribute(_value: *const c_void, which: c_uint, address: u64) {
        DRIVER.in_context(|state, _| {
            attribute(state, which, address)?;
            // Only CU_POINTER_ATTRIBUTE_SYNC_MEMOPS can be set.
            if which == 6 { Ok(()) } else { Err(Status::ERROR_INVALID_VALUE) }
        })
    }
}
