//! `cuInit`, versions, error names, `cuGetProcAddress`, the profiler's switches.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::{address_of, answer, answer_if_wanted, text};
use crate::driver::{DRIVER, Status};

/// The version of CUDA that this is the driver of.
const VERSION: c_int = 12_080;

/// Names that headers of CUDA 12 replace, and what stands for them then.
const REPLACED: &[(&str, &str)] = &[
    ("cuGraphInstantiate", "cuGraphInstantiateWithFlags"),
    ("cuGraphAddKernelNode", "cuGraphAddKernelNode_v2"),
    ("cuGraphKernelNodeSetParams", "cuGraphKernelNodeSetParams_v2"),
    ("cuGraphExecKernelNodeSetParams", "cuGraphExecKernelNodeSetParams_v2"),
    ("cuGraphExecUpdate", "cuGraphExecUpdate_v2"),
    ("cuStreamBeginCapture", "cuStreamBeginCapture_v2"),
    ("cuStreamGetCaptureInfo", "cuStreamGetCaptureInfo_v2"),
    ("cuGetProcAddress", "cuGetProcAddress_v2"),
];

/// The newest function of a name up to a version.
fn find(name: &str, version: c_int) -> Option<*const ()> {
    let replaced = REPLACED.iter().find(|(plain, _)| *plain == name && version >= 12_000);
    address_of(replaced.map_or(name, |(_, newer)| *newer))
}

entry_points! {
    fn cuInit(flags: c_uint) {
        if flags != 0 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        DRIVER.initialise()
    }

    fn cuDriverGetVersion(version: *mut c_int) {
        answer(version, VERSION)
    }

    fn cuGetErrorName(error: Status, name: *mut *const c_char) {
        let found = error.name();
        answer(name, found.map_or(std::ptr::null(), |text| text.as_ptr()))?;
        found.map(drop).ok_or(Status::ERROR_INVALID_VALUE)
    }

    fn cuGetErrorString(error: Status, description: *mut *const c_char) {
        let found = error.description();
        answer(description, found.map_or(std::ptr::null(), |text| text.as_ptr()))?;
        found.map(drop).ok_or(Status::ERROR_INVALID_VALUE)
    }

    fn cuGetProcAddress_v2(
        symbol: *const c_char,
        function: *mut *const c_void,
        version: c_int,
        flags: u64,
        status: *mut c_uint,
    ) {
        // Streams of threads by default (2) would need other functions.
        if flags > 2 {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let found = if flags == 2 { None } else { find(text(symbol)?, version) };
        answer(function, found.map_or(std::ptr::null(), <*const ()>::cast))?;
        answer_if_wanted(status, u32::from(found.is_none()));
        found.map(drop).ok_or(Status::ERROR_NOT_FOUND)
    }

    fn cuGetProcAddress(symbol: *const c_char, function: *mut *const c_void, version: c_int, flags: u64) {
        match cuGetProcAddress_v2(symbol, function, version, flags, std::ptr::null_mut()) {
            Status::SUCCESS => Ok(()),
            error => Err(error),
        }
    }

    fn cuProfilerInitialize(_configuration: *const c_char, _output: *const c_char, _mode: c_uint) {
        Err(Status::ERROR_NOT_SUPPORTED)
    }

    fn cuProfilerStart() {
        DRIVER.in_context(|_, _| Ok(()))
    }

    fn cuProfilerStop() {
        DRIVER.in_context(|_, _| Ok(()))
    }
}
