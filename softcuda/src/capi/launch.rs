//! Launches of kernels and of functions of the host.

use std::ffi::{c_uint, c_void};

use super::list;
use crate::driver::launches::Request;
use crate::driver::work::{HostFunction, Work};
use crate::driver::{DRIVER, Handle, Status};

fn launch(request: &Request, stream: Handle) -> Result<(), Status> {
    DRIVER.in_context(|state, context| {
        let stream = state.stream(context, stream)?;
        if state.streams[&stream].context != context {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let work = state.prepare_launch(request)?;
        state.submit(stream, Work::Launch(work), Vec::new()).map(drop)
    })
}

/// `CUlaunchConfig`
#[repr(C)]
pub(super) struct Configuration {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: Handle,
    attributes: *const Attribute,
    count: c_uint,
}

/// `CUlaunchAttribute`
#[repr(C)]
struct Attribute {
    id: c_uint,
    padding: [u8; 4],
    value: [u32; 16],
}

/// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`
const COOPERATIVE: c_uint = 2;
/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`
const CLUSTER: c_uint = 4;

entry_points! {
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch(&Request { function, grid, block, shared, parameters, extra, cooperative: false }, stream)
    }

    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared: c_uint,
        stream: Handle,
        parameters: *mut *mut c_void,
    ) {
        let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        let extra = std::ptr::null_mut();
        launch(&Request { function, grid, block, shared, parameters, extra, cooperative: true }, stream)
    }

    fn cuLaunchKernelEx(
        configuration: *const Configuration,
        function: Handle,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) {
        let configuration = configuration.as_ref().ok_or(Status::ERROR_INVALID_VALUE)?;
        let Configuration { grid, block, shared, stream, attributes, count } = *configuration;
        let mut cooperative = false;
        for attribute in list(attributes, count as usize)? {
            match attribute.id {
                COOPERATIVE => cooperative = attribute.value[0] != 0,
                CLUSTER if attribute.value[..3] != [1, 1, 1] => return Err(Status::ERROR_NOT_SUPPORTED),
                _ => {}
            }
        }
        launch(&Request { function, grid, block, shared, parameters, extra, cooperative }, stream)
    }

    fn cuLaunchHostFunc(stream: Handle, function: Option<HostFunction>, data: *mut c_void) {
        let function = function.ok_or(Status::ERROR_INVALID_VALUE)?;
        DRIVER.in_context(|state, context| {
            let stream = state.stream(context, stream)?;
            state.submit(stream, Work::Call(function, data as usize), Vec::new()).map(drop)
        })
    }
}
