//! Libraries: modules that belong to no context. Here they are modules of the context that is current when they are
//! loaded, and their kernels are functions.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::module::{Options, functions, global, load, load_file};
use super::{answer, text, wanted};
use crate::driver::{DRIVER, Handle, Status};

entry_points! {
    fn cuLibraryLoadData(
        library: *mut Handle,
        image: *const c_void,
        options: *const c_uint,
        values: *mut *mut c_void,
        count: c_uint,
        _library_options: *const c_uint,
        _library_values: *mut *mut c_void,
        _library_count: c_uint,
    ) {
        wanted(library)?;
        let options = Options::read(count, options, values)?;
        answer(library, load(image, &options)?)
    }

    fn cuLibraryLoadFromFile(
        library: *mut Handle,
        path: *const c_char,
        options: *const c_uint,
        values: *mut *mut c_void,
        count: c_uint,
        _library_options: *const c_uint,
        _library_values: *mut *mut c_void,
        _library_count: c_uint,
    ) {
        wanted(library)?;
        let options = Options::read(count, options, values)?;
        answer(library, load_file(path, &options)?)
    }

    fn cuLibraryUnload(library: Handle) {
        DRIVER.unload_module(library)
    }

    fn cuLibraryGetKernel(kernel: *mut Handle, library: Handle, name: *const c_char) {
        wanted(kernel)?;
        let name = text(name)?;
        answer(kernel, DRIVER.in_context(|state, _| state.function_of(library, name))?)
    }

    fn cuLibraryGetKernelCount(count: *mut c_uint, library: Handle) {
        DRIVER.in_context(|state, _| answer(count, state.module(library)?.module.kernels().count() as c_uint))
    }

    fn cuLibraryEnumerateKernels(kernels: *mut Handle, count: c_uint, library: Handle) {
        functions(kernels, count, library)
    }

    fn cuLibraryGetModule(module: *mut Handle, library: Handle) {
        DRIVER.in_context(|state, _| {
            state.module(library)?;
            answer(module, library)
        })
    }

    fn cuLibraryGetGlobal(address: *mut u64, bytes: *mut usize, library: Handle, name: *const c_char) {
        global(address, bytes, library, name)
    }

    fn cuLibraryGetManaged(_address: *mut u64, _bytes: *mut usize, library: Handle, _name: *const c_char) {
        // PTX that is accepted has no managed variables.
        DRIVER.in_context(|state, _| state.module(library).map(drop))?;
        Err(Status::ERROR_NOT_FOUND)
    }

    fn cuKernelGetFunction(function: *mut Handle, kernel: Handle) {
        DRIVER.in_context(|state, _| {
            state.function(kernel)?;
            answer(function, kernel)
        })
    }

    fn cuKernelGetLibrary(library: *mut Handle, kernel: Handle) {
        DRIVER.in_context(|state, _| answer(library, state.function(kernel)?.module))
    }

    fn cuKernelGetAttribute(value: *mut c_int, attribute: c_uint, kernel: Handle, _device: c_int) {
        super::function::get_attribute(value, attribute, kernel)
    }

    fn cuKernelSetAttribute(attribute: c_uint, value: c_int, kernel: Handle, _device: c_int) {
        super::function::set_attribute(kernel, attribute, value)
    }

    fn cuKernelSetCacheConfig(kernel: Handle, config: c_uint, _device: c_int) {
        super::function::set_cache_config(kernel, config)
    }
}
