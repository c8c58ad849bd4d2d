//! Contexts.

use std::ffi::{c_int, c_uint, c_void};

use super::device::with_device;
use super::{answer, answer_if_wanted, wanted};
use crate::driver::{DRIVER, Handle, Status, contexts};

/// Creates a context and makes it current.
unsafe fn create(context: *mut Handle, flags: c_uint, device: c_int) -> Result<(), Status> {
    wanted(context)?;
    if flags & !contexts::VALID_FLAGS != 0 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    let handle = with_device(device, |state| Ok(state.create_context(None, flags)))?;
    contexts::push(handle);
    // SAFETY: as the program says.
    unsafe { answer(context, handle) }
}

entry_points! {
    fn cuCtxCreate_v2(context: *mut Handle, flags: c_uint, device: c_int) = cuCtxCreate {
        create(context, flags, device)
    }

    fn cuCtxCreate_v3(context: *mut Handle, _affinity: *mut c_void, count: c_int, flags: c_uint, device: c_int) {
        if count != 0 {
            return Err(Status::ERROR_UNSUPPORTED_EXEC_AFFINITY);
        }
        create(context, flags, device)
    }

    fn cuCtxCreate_v4(context: *mut Handle, parameters: *mut [usize; 3], flags: c_uint, device: c_int) {
        // Pointer to affinities, how many, pointer to what to share with graphics.
        if !parameters.is_null() && (*parameters)[1] as c_int != 0 {
            return Err(Status::ERROR_UNSUPPORTED_EXEC_AFFINITY);
        }
        if !parameters.is_null() && (*parameters)[2] != 0 {
            return Err(Status::ERROR_NOT_SUPPORTED);
        }
        create(context, flags, device)
    }

    fn cuCtxDestroy_v2(context: Handle) = cuCtxDestroy {
        DRIVER.with(|state| match state.contexts.contains_key(&context) {
            true if context != state.primary.handle => Ok(()),
            _ => Err(Status::ERROR_INVALID_CONTEXT),
        })?;
        DRIVER.destroy(context)?;
        if contexts::current() == Some(context) {
            contexts::pop();
        }
        Ok(())
    }

    fn cuCtxPushCurrent_v2(context: Handle) = cuCtxPushCurrent {
        DRIVER.with(|state| if context == 0 { Ok(()) } else { state.context(context).map(drop) })?;
        contexts::push(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(context: *mut Handle) = cuCtxPopCurrent {
        DRIVER.with(|_| Ok(()))?;
        let popped = contexts::pop().ok_or(Status::ERROR_INVALID_CONTEXT)?;
        answer_if_wanted(context, popped);
        Ok(())
    }

    fn cuCtxSetCurrent(context: Handle) {
        DRIVER.with(|state| if context == 0 { Ok(()) } else { state.context(context).map(drop) })?;
        contexts::set_current(context);
        Ok(())
    }

    fn cuCtxGetCurrent(context: *mut Handle) {
        DRIVER.with(|_| answer(context, contexts::current().unwrap_or(0)))
    }

    fn cuCtxGetDevice(device: *mut c_int) {
        DRIVER.with(|state| {
            state.current_context()?;
            answer(device, 0)
        })
    }

    fn cuCtxGetId(context: Handle, id: *mut u64) {
        DRIVER.with(|state| answer(id, state.context(context)?.id))
    }

    fn cuCtxGetFlags(flags: *mut c_uint) {
        DRIVER.with(|state| answer(flags, state.context(0)?.flags))
    }

    fn cuCtxSetFlags(flags: c_uint) {
        DRIVER.in_context(|state, context| {
            if flags & !contexts::VALID_FLAGS != 0 {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            state.context(context)?.flags = flags;
            Ok(())
        })
    }

    fn cuCtxGetApiVersion(context: Handle, version: *mut c_uint) {
        DRIVER.with(|state| {
            state.context(context)?;
            answer(version, 3020)
        })
    }

    fn cuCtxSynchronize() {
        let context = DRIVER.in_context(|state, context| {
            state.forbid_while_capturing(context)?;
            state.unsafe_in_captures()?;
            Ok(context)
        })?;
        DRIVER.synchronise(context)
    }

    fn cuCtxGetLimit(value: *mut usize, limit: c_uint) {
        DRIVER.in_context(|state, context| {
            let limits = &state.context(context)?.limits;
            match limits.get(limit as usize) {
                None => Err(Status::ERROR_INVALID_VALUE),
                Some(_) if matches!(limit, 3 | 7..) => Err(Status::ERROR_UNSUPPORTED_LIMIT),
                Some(found) => answer(value, *found as usize),
            }
        })
    }

    fn cuCtxSetLimit(limit: c_uint, value: usize) {
        DRIVER.in_context(|state, context| {
            let device = state.device;
            let limits = &mut state.context(context)?.limits;
            match limits.get_mut(limit as usize) {
                None => Err(Status::ERROR_INVALID_VALUE),
                Some(_) if matches!(limit, 3 | 7..) => Err(Status::ERROR_UNSUPPORTED_LIMIT),
                Some(own) if contexts::limit_allows(limit as usize, value as u64, device) => {
                    // Programs may ask for more than there is of L2, and get what there is.
                    *own = if limit == 6 {
                        (value as u64).min(u64::from(device.persisting_l2_bytes))
                    } else {
                        value as u64
                    };
                    Ok(())
                }
                Some(_) => Err(Status::ERROR_INVALID_VALUE),
            }
        })
    }

    fn cuCtxGetCacheConfig(config: *mut c_uint) {
        DRIVER.in_context(|state, context| answer(config, state.context(context)?.cache_config))
    }

    fn cuCtxSetCacheConfig(config: c_uint) {
        DRIVER.in_context(|state, context| {
            if config > 3 {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            state.context(context)?.cache_config = config;
            Ok(())
        })
    }

    fn cuCtxGetSharedMemConfig(config: *mut c_uint) {
        // Banks of four bytes: the devices have no other.
        DRIVER.in_context(|_, _| answer(config, 1))
    }

    fn cuCtxSetSharedMemConfig(config: c_uint) {
        DRIVER.in_context(|_, _| if config > 2 { Err(Status::ERROR_INVALID_VALUE) } else { Ok(()) })
    }

    fn cuCtxGetStreamPriorityRange(least: *mut c_int, greatest: *mut c_int) {
        DRIVER.in_context(|_, _| {
            answer_if_wanted(least, 0);
            answer_if_wanted(greatest, super::stream::GREATEST_PRIORITY);
            Ok(())
        })
    }

    fn cuCtxResetPersistingL2Cache() {
        DRIVER.in_context(|_, _| Ok(()))
    }

    fn cuCtxEnablePeerAccess(_peer: Handle, _flags: c_uint) {
        DRIVER.in_context(|_, _| Err(Status::ERROR_PEER_ACCESS_UNSUPPORTED))
    }

    fn cuCtxDisablePeerAccess(_peer: Handle) {
        DRIVER.in_context(|_, _| Err(Status::ERROR_PEER_ACCESS_NOT_ENABLED))
    }
}
