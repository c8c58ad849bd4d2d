//! Devices: there is one, number 0.

use std::ffi::{c_char, c_int, c_uint};

use super::{answer, answer_if_wanted, answer_text, text};
use crate::driver::{DRIVER, Handle, State, Status};
use crate::model::devices::Device;

/// Something with the device of that number.
pub(super) fn with_device<T>(
    device: c_int,
    action: impl FnOnce(&mut State) -> Result<T, Status>,
) -> Result<T, Status> {
    DRIVER.with(|state| if device == 0 { action(state) } else { Err(Status::ERROR_INVALID_DEVICE) })
}

const PCI_BUS_ID: &str = "0000:01:00.0";

/// `CUdevprop`
#[repr(C)]
struct Properties {
    max_threads_per_block: c_int,
    max_block: [c_int; 3],
    max_grid: [c_int; 3],
    shared_per_block: c_int,
    constant_bytes: c_int,
    warp: c_int,
    pitch: c_int,
    registers: c_int,
    clock: c_int,
    texture_alignment: c_int,
}

entry_points! {
    fn cuDeviceGet(device: *mut c_int, ordinal: c_int) {
        with_device(ordinal, |_| answer(device, 0))
    }

    fn cuDeviceGetCount(count: *mut c_int) {
        DRIVER.with(|_| answer(count, 1))
    }

    fn cuDeviceGetName(name: *mut c_char, size: c_int, device: c_int) {
        with_device(device, |state| answer_text(state.device.name, name, usize::try_from(size).unwrap_or(0)))
    }

    fn cuDeviceGetUuid_v2(uuid: *mut [u8; 16], device: c_int) = cuDeviceGetUuid {
        with_device(device, |state| answer(uuid, state.device.uuid()))
    }

    fn cuDeviceGetLuid(_luid: *mut c_char, _mask: *mut c_uint, device: c_int) {
        // Windows only.
        with_device(device, |_| Err(Status::ERROR_NOT_SUPPORTED))
    }

    fn cuDeviceTotalMem_v2(bytes: *mut usize, device: c_int) = cuDeviceTotalMem {
        with_device(device, |state| answer(bytes, state.device.total_memory_bytes as usize))
    }

    fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) {
        with_device(device, |state| {
            let found = state.device.attribute(attribute).ok_or(Status::ERROR_INVALID_VALUE)?;
            answer(value, found)
        })
    }

    fn cuDeviceComputeCapability(major: *mut c_int, minor: *mut c_int, device: c_int) {
        with_device(device, |state| {
            answer(major, state.device.major)?;
            answer(minor, state.device.minor)
        })
    }

    fn cuDeviceGetProperties(properties: *mut Properties, device: c_int) {
        with_device(device, |state| {
            let extents = |extents: [u32; 3]| extents.map(|extent| extent as c_int);
            answer(properties, Properties {
                max_threads_per_block: Device::MAX_THREADS_PER_BLOCK as c_int,
                max_block: extents(Device::MAX_BLOCK),
                max_grid: extents(Device::MAX_GRID),
                shared_per_block: Device::SHARED_PER_BLOCK_BYTES as c_int,
                constant_bytes: Device::CONSTANT_BYTES as c_int,
                warp: Device::WARP_SIZE as c_int,
                pitch: c_int::MAX,
                registers: Device::REGISTERS_PER_SM as c_int,
                clock: state.device.sm_clock_khz as c_int,
                texture_alignment: 512,
            })
        })
    }

    fn cuDeviceGetPCIBusId(id: *mut c_char, size: c_int, device: c_int) {
        with_device(device, |_| answer_text(PCI_BUS_ID, id, usize::try_from(size).unwrap_or(0)))
    }

    fn cuDeviceGetByPCIBusId(device: *mut c_int, id: *const c_char) {
        let id = text(id)?;
        let same = PCI_BUS_ID == id || PCI_BUS_ID.strip_prefix("0000:") == Some(id);
        DRIVER.with(|_| if same { answer(device, 0) } else { Err(Status::ERROR_INVALID_DEVICE) })
    }

    fn cuDeviceCanAccessPeer(can: *mut c_int, device: c_int, peer: c_int) {
        with_device(device, |_| if peer == 0 { answer(can, 0) } else { Err(Status::ERROR_INVALID_DEVICE) })
    }

    fn cuDeviceGetP2PAttribute(_value: *mut c_int, _attribute: c_uint, device: c_int, _peer: c_int) {
        // There is no other device.
        with_device(device, |_| Err(Status::ERROR_INVALID_DEVICE))
    }

    fn cuDeviceGetExecAffinitySupport(supported: *mut c_int, _kind: c_uint, device: c_int) {
        with_device(device, |_| answer(supported, 0))
    }

    fn cuDevicePrimaryCtxRetain(context: *mut Handle, device: c_int) {
        with_device(device, |state| {
            let handle = state.retain_primary();
            answer(context, handle)
        })
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) = cuDevicePrimaryCtxRelease {
        let destroyed = with_device(device, |state| {
            let primary = &mut state.primary;
            primary.references = primary.references.checked_sub(1).ok_or(Status::ERROR_INVALID_CONTEXT)?;
            Ok((primary.references == 0).then_some(primary.handle))
        })?;
        destroyed.map_or(Ok(()), |context| DRIVER.destroy(context))
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) = cuDevicePrimaryCtxReset {
        let alive = with_device(device, |state| {
            let handle = state.primary.handle;
            Ok(state.contexts.contains_key(&handle).then_some(handle))
        })?;
        if let Some(context) = alive {
            DRIVER.destroy(context)?;
            with_device(device, |state| {
                let flags = state.primary.flags;
                if state.primary.references > 0 {
                    state.create_context(Some(context), flags);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) = cuDevicePrimaryCtxSetFlags {
        with_device(device, |state| {
            if flags & !crate::driver::contexts::VALID_FLAGS != 0 {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            state.primary.flags = flags;
            let handle = state.primary.handle;
            if let Some(context) = state.contexts.get_mut(&handle) {
                context.flags = flags;
            }
            Ok(())
        })
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: *mut c_uint, active: *mut c_int) {
        with_device(device, |state| {
            answer_if_wanted(flags, state.primary.flags);
            let alive = state.contexts.contains_key(&state.primary.handle);
            answer_if_wanted(active, c_int::from(alive));
            Ok(())
        })
    }
}
