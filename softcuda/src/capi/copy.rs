//! Copies and fills.

use std::ffi::{c_uchar, c_uint, c_ushort, c_void};

use crate::driver::memory::{Wait, extent};
use crate::driver::streams::LEGACY;
use crate::driver::work::{Copy, Fill, Place, Side};
use crate::driver::{DRIVER, Handle, State, Status};

/// Gives a copy to a stream, or to the default stream where the call has none, and waits where the call does.
fn give(stream: Option<Handle>, make: impl FnOnce(&State) -> Result<Copy, Status>) -> Result<(), Status> {
    let (context, ticket) = DRIVER.in_context(|state, context| {
        if stream.is_none() {
            state.unsafe_in_captures()?;
        }
        let handle = state.stream(context, stream.unwrap_or(LEGACY))?;
        let copy = make(state)?;
        let how = if stream.is_some() { Wait::AsMemorySays } else { Wait::Always };
        Ok((context, state.copy(handle, copy, how)?))
    })?;
    ticket.map_or(Ok(()), |ticket| DRIVER.wait(context, &ticket))
}

fn to_device(to: u64, from: *const c_void, bytes: usize, stream: Option<Handle>) -> Result<(), Status> {
    let bytes = bytes as u64;
    give(stream, |state| {
        Ok(Copy::line(state.device_side(to, bytes)?, state.host_side(from as u64, bytes)?, bytes))
    })
}

fn to_host(to: *mut c_void, from: u64, bytes: usize, stream: Option<Handle>) -> Result<(), Status> {
    let bytes = bytes as u64;
    give(stream, |state| {
        Ok(Copy::line(state.host_side(to as u64, bytes)?, state.device_side(from, bytes)?, bytes))
    })
}

fn on_device(to: u64, from: u64, bytes: usize, stream: Option<Handle>) -> Result<(), Status> {
    let bytes = bytes as u64;
    give(stream, |state| {
        Ok(Copy::line(state.device_side(to, bytes)?, state.device_side(from, bytes)?, bytes))
    })
}

/// Between any two places: the addresses say which.
fn anywhere(to: u64, from: u64, bytes: usize, stream: Option<Handle>) -> Result<(), Status> {
    let bytes = bytes as u64;
    give(stream, |state| {
        let copy = Copy::line(state.place(to), state.place(from), bytes);
        state.whole(&copy, copy.to)?;
        state.whole(&copy, copy.from)?;
        Ok(copy)
    })
}

/// One end of `CUDA_MEMCPY2D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Plane {
    x: usize,
    y: usize,
    kind: c_uint,
    host: u64,
    device: u64,
    array: usize,
    pitch: usize,
}

/// `CUDA_MEMCPY2D`
#[repr(C)]
pub(super) struct Copy2d {
    from: Plane,
    to: Plane,
    width: usize,
    height: usize,
}

/// One end of `CUDA_MEMCPY3D`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Volume {
    x: usize,
    y: usize,
    z: usize,
    level: usize,
    kind: c_uint,
    host: u64,
    device: u64,
    array: usize,
    reserved: usize,
    pitch: usize,
    height: usize,
}

/// `CUDA_MEMCPY3D`
#[repr(C)]
pub(super) struct Copy3d {
    from: Volume,
    to: Volume,
    width: usize,
    height: usize,
    depth: usize,
}

impl Copy2d {
    fn as_3d(&self) -> Copy3d {
        let volume = |plane: Plane| Volume {
            x: plane.x,
            y: plane.y,
            z: 0,
            level: 0,
            kind: plane.kind,
            host: plane.host,
            device: plane.device,
            array: plane.array,
            reserved: 0,
            pitch: plane.pitch,
            height: 0,
        };
        let (from, to) = (volume(self.from), volume(self.to));
        Copy3d { from, to, width: self.width, height: self.height, depth: 1 }
    }
}

/// Bytes from the start of the memory to the first that is copied.
fn extent_of(volume: &Volume, pitch: usize, slice: usize) -> Option<usize> {
    let (slices, rows) = (volume.z.checked_mul(slice)?, volume.y.checked_mul(pitch)?);
    slices.checked_add(rows)?.checked_add(volume.x)
}

impl Copy3d {
    /// The copy that this describes.
    pub(super) fn copy(&self, state: &State) -> Result<Copy, Status> {
        let side = |volume: &Volume| {
            let pitch = if volume.pitch == 0 { self.width } else { volume.pitch };
            let height = if volume.height == 0 { self.height } else { volume.height };
            if pitch < self.width.saturating_add(volume.x) && (self.height > 1 || self.depth > 1) {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            let slice = pitch.checked_mul(height).ok_or(Status::ERROR_INVALID_VALUE)?;
            extent(self.width as u64, pitch as u64, self.height as u64, slice as u64, self.depth as u64)?;
            let offset = extent_of(volume, pitch, slice).ok_or(Status::ERROR_INVALID_VALUE)?;
            // Host, device, array, unified.
            let start = match volume.kind {
                1 => volume.host,
                2 | 4 => volume.device,
                _ => return Err(Status::ERROR_NOT_SUPPORTED),
            };
            let place = state.place(start);
            if volume.kind == 1 && matches!(place, Place::Device(_)) {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            if volume.kind == 2 && matches!(place, Place::Pageable(_)) {
                return Err(Status::ERROR_INVALID_VALUE);
            }
            let place = place.at(start.checked_add(offset as u64).ok_or(Status::ERROR_INVALID_VALUE)?);
            Ok(Side { place, pitch: pitch as u64, slice: slice as u64 })
        };
        let (width, rows, slices) = (self.width as u64, self.height as u64, self.depth as u64);
        let (to, from) = (side(&self.to)?, side(&self.from)?);
        let copy = Copy { to, from, width, rows, slices, staged: None, poisoned: false };
        state.whole(&copy, copy.to)?;
        state.whole(&copy, copy.from)?;
        Ok(copy)
    }
}

unsafe fn planes(copy: *const Copy2d, stream: Option<Handle>) -> Result<(), Status> {
    // SAFETY: as the program says.
    let copy = unsafe { copy.as_ref() }.ok_or(Status::ERROR_INVALID_VALUE)?;
    give(stream, |state| copy.as_3d().copy(state))
}

unsafe fn volumes(copy: *const Copy3d, stream: Option<Handle>) -> Result<(), Status> {
    // SAFETY: as the program says.
    let copy = unsafe { copy.as_ref() }.ok_or(Status::ERROR_INVALID_VALUE)?;
    give(stream, |state| copy.copy(state))
}

/// A fill of rows: where, pitch, the value and its bytes, elements of a row, rows.
fn fill(
    to: u64,
    pitch: usize,
    (value, element): (u32, u32),
    (width, rows): (usize, usize),
    stream: Option<Handle>,
) -> Result<(), Status> {
    let fill = Fill { to, pitch: pitch as u64, value, element, width: width as u64, rows: rows as u64 };
    DRIVER.in_context(|state, context| {
        if stream.is_none() {
            state.unsafe_in_captures()?;
        }
        let stream = state.stream(context, stream.unwrap_or(LEGACY))?;
        state.fill(stream, fill)
    })
}

entry_points! {
    fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) = cuMemcpyHtoD {
        to_device(to, from, bytes, None)
    }

    fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: Handle) = cuMemcpyHtoDAsync {
        to_device(to, from, bytes, Some(stream))
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) = cuMemcpyDtoH {
        to_host(to, from, bytes, None)
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: Handle) = cuMemcpyDtoHAsync {
        to_host(to, from, bytes, Some(stream))
    }

    fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) = cuMemcpyDtoD {
        on_device(to, from, bytes, None)
    }

    fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: Handle) = cuMemcpyDtoDAsync {
        on_device(to, from, bytes, Some(stream))
    }

    fn cuMemcpy(to: u64, from: u64, bytes: usize) {
        anywhere(to, from, bytes, None)
    }

    fn cuMemcpyAsync(to: u64, from: u64, bytes: usize, stream: Handle) {
        anywhere(to, from, bytes, Some(stream))
    }

    fn cuMemcpyPeer(to: u64, to_context: Handle, from: u64, from_context: Handle, bytes: usize) {
        DRIVER.with(|state| state.context(to_context).map(drop).and(state.context(from_context).map(drop)))?;
        on_device(to, from, bytes, None)
    }

    fn cuMemcpyPeerAsync(
        to: u64,
        to_context: Handle,
        from: u64,
        from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        DRIVER.with(|state| state.context(to_context).map(drop).and(state.context(from_context).map(drop)))?;
        on_device(to, from, bytes, Some(stream))
    }

    fn cuMemcpy2D_v2(copy: *const Copy2d) = cuMemcpy2D = cuMemcpy2DUnaligned_v2 = cuMemcpy2DUnaligned {
        planes(copy, None)
    }

    fn cuMemcpy2DAsync_v2(copy: *const Copy2d, stream: Handle) = cuMemcpy2DAsync {
        planes(copy, Some(stream))
    }

    fn cuMemcpy3D_v2(copy: *const Copy3d) = cuMemcpy3D {
        volumes(copy, None)
    }

    fn cuMemcpy3DAsync_v2(copy: *const Copy3d, stream: Handle) = cuMemcpy3DAsync {
        volumes(copy, Some(stream))
    }

    fn cuMemsetD8_v2(to: u64, value: c_uchar, count: usize) = cuMemsetD8 {
        fill(to, count, (u32::from(value), 1), (count, 1), None)
    }

    fn cuMemsetD8Async(to: u64, value: c_uchar, count: usize, stream: Handle) {
        fill(to, count, (u32::from(value), 1), (count, 1), Some(stream))
    }

    fn cuMemsetD16_v2(to: u64, value: c_ushort, count: usize) = cuMemsetD16 {
        fill(to, count.saturating_mul(2), (u32::from(value), 2), (count, 1), None)
    }

    fn cuMemsetD16Async(to: u64, value: c_ushort, count: usize, stream: Handle) {
        fill(to, count.saturating_mul(2), (u32::from(value), 2), (count, 1), Some(stream))
    }

    fn cuMemsetD32_v2(to: u64, value: c_uint, count: usize) = cuMemsetD32 {
        fill(to, count.saturating_mul(4), (value, 4), (count, 1), None)
    }

    fn cuMemsetD32Async(to: u64, value: c_uint, count: usize, stream: Handle) {
        fill(to, count.saturating_mul(4), (value, 4), (count, 1), Some(stream))
    }

    fn cuMemsetD2D8_v2(to: u64, pitch: usize, value: c_uchar, width: usize, height: usize) = cuMemsetD2D8 {
        fill(to, pitch, (u32::from(value), 1), (width, height), None)
    }

    fn cuMemsetD2D8Async(
        to: u64,
        pitch: usize,
        value: c_uchar,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(to, pitch, (u32::from(value), 1), (width, height), Some(stream))
    }

    fn cuMemsetD2D16_v2(to: u64, pitch: usize, value: c_ushort, width: usize, height: usize) = cuMemsetD2D16 {
        fill(to, pitch, (u32::from(value), 2), (width, height), None)
    }

    fn cuMemsetD2D16Async(
        to: u64,
        pitch: usize,
        value: c_ushort,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(to, pitch, (u32::from(value), 2), (width, height), Some(stream))
    }

    fn cuMemsetD2D32_v2(to: u64, pitch: usize, value: c_uint, width: usize, height: usize) = cuMemsetD2D32 {
        fill(to, pitch, (value, 4), (width, height), None)
    }

    fn cuMemsetD2D32Async(
        to: u64,
        pitch: usize,
        value: c_uint,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        fill(to, pitch, (value, 4), (width, height), Some(stream))
    }
}
