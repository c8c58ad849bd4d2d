//! Stream-ordered memory and its pools.

use std::ffi::{c_int, c_uint, c_void};

use super::device::with_device;
use super::{answer, wanted};
use crate::driver::{DRIVER, Handle, Status};

unsafe fn allocate(
    address: *mut u64,
    bytes: usize,
    pool: Option<Handle>,
    stream: Handle,
) -> Result<(), Status> {
    wanted(address)?;
    let attempt = || {
        DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.allocate_async(stream, bytes as u64, pool.unwrap_or(state.current_pool))
        })
    };
    let found = DRIVER.after_pending_frees(attempt)?;
    // SAFETY: as the program says.
    unsafe { answer(address, found) }
}

/// `CUmemPoolProps`
#[repr(C)]
struct Properties {
    allocation: c_uint,
    handles: c_uint,
    location: [c_int; 2],
    security: *mut c_void,
    most: usize,
    usage: u16,
    reserved: [u8; 54],
}

entry_points! {
    fn cuMemAllocAsync(address: *mut u64, bytes: usize, stream: Handle) {
        allocate(address, bytes, None, stream)
    }

    fn cuMemAllocFromPoolAsync(address: *mut u64, bytes: usize, pool: Handle, stream: Handle) {
        allocate(address, bytes, Some(pool), stream)
    }

    fn cuMemFreeAsync(address: u64, stream: Handle) {
        DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.free_async(stream, address)
        })
    }

    fn cuDeviceGetDefaultMemPool(pool: *mut Handle, device: c_int) {
        with_device(device, |state| answer(pool, state.default_pool))
    }

    fn cuDeviceGetMemPool(pool: *mut Handle, device: c_int) {
        with_device(device, |state| answer(pool, state.current_pool))
    }

    fn cuDeviceSetMemPool(device: c_int, pool: Handle) {
        with_device(device, |state| {
            state.pool(pool)?;
            state.current_pool = pool;
            Ok(())
        })
    }

    fn cuMemPoolCreate(pool: *mut Handle, properties: *const Properties) {
        wanted(pool)?;
        let properties = properties.as_ref().ok_or(Status::ERROR_INVALID_VALUE)?;
        // Pinned memory (1) on the device (1) numbered 0, to be shared with nobody.
        if properties.allocation != 1 || properties.location != [1, 0] {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        if properties.handles != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        answer(pool, DRIVER.with(|state| Ok(state.create_pool(false)))?)
    }

    fn cuMemPoolDestroy(pool: Handle) {
        DRIVER.with(|state| state.destroy_pool(pool))
    }

    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_uint, value: *mut c_void) {
        let (found, bytes) = DRIVER.with(|state| state.pool(pool)?.attribute(attribute))?;
        match bytes {
            4 => answer(value.cast::<c_int>(), found as c_int),
            _ => answer(value.cast::<u64>(), found),
        }
    }

    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_uint, value: *mut c_void) {
        wanted(value)?;
        let value = match attribute {
            1..=3 => value.cast::<c_int>().read_unaligned() as u64,
            _ => value.cast::<u64>().read_unaligned(),
        };
        DRIVER.with(|state| state.pool(pool)?.set_attribute(attribute, value))
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        DRIVER.with(|state| state.pool(pool).map(drop))
    }

    fn cuMemPoolSetAccess(pool: Handle, _accesses: *const c_void, _count: usize) {
        DRIVER.with(|state| state.pool(pool).map(drop))
    }

    fn cuMemPoolGetAccess(flags: *mut c_uint, pool: Handle, _location: *mut c_void) {
        DRIVER.with(|state| {
            state.pool(pool)?;
            answer(flags, 3)
        })
    }
}
