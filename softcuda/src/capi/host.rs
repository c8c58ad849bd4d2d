//! Pinned and registered host memory.

use std::ffi::{c_uint, c_void};

use super::{answer, wanted};
use crate::driver::host::Origin;
use crate::driver::{DRIVER, Status};

unsafe fn allocate(to: *mut *mut c_void, bytes: usize, flags: c_uint) -> Result<(), Status> {
    wanted(to)?;
    if flags > 7 || bytes == 0 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    let address = DRIVER.in_context(|state, context| {
        state.unsafe_in_captures()?;
        state.allocate_pinned(context, bytes as u64, flags, Origin::Allocated)
    })?;
    // SAFETY: as the program says.
    unsafe { answer(to, address as *mut c_void) }
}

entry_points! {
    fn cuMemHostAlloc(to: *mut *mut c_void, bytes: usize, flags: c_uint) {
        allocate(to, bytes, flags)
    }

    fn cuMemAllocHost_v2(to: *mut *mut c_void, bytes: usize) = cuMemAllocHost {
        allocate(to, bytes, 0)
    }

    fn cuMemFreeHost(pointer: *mut c_void) {
        DRIVER.unpin(pointer as u64, Origin::Allocated)
    }

    fn cuMemHostRegister_v2(pointer: *mut c_void, bytes: usize, flags: c_uint) = cuMemHostRegister {
        if flags > 15 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        DRIVER.in_context(|state, context| {
            state.unsafe_in_captures()?;
            state.register(context, pointer as u64, bytes as u64, flags)
        })
    }

    fn cuMemHostUnregister(pointer: *mut c_void) {
        DRIVER.unpin(pointer as u64, Origin::Registered)
    }

    fn cuMemHostGetDevicePointer_v2(
        address: *mut u64,
        pointer: *mut c_void,
        flags: c_uint,
    ) = cuMemHostGetDevicePointer {
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        DRIVER.in_context(|state, _| {
            state.pinned_at(pointer as u64).ok_or(Status::ERROR_INVALID_VALUE)?;
            answer(address, pointer as u64)
        })
    }

    fn cuMemHostGetFlags(flags: *mut c_uint, pointer: *mut c_void) {
        DRIVER.in_context(|state, _| {
            let (_, pinned) = state.pinned_at(pointer as u64).ok_or(Status::ERROR_INVALID_VALUE)?;
            // Memory is always mapped where addresses are unified.
            answer(flags, pinned.flags | 2)
        })
    }
}
