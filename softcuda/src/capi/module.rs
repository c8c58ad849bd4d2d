//! Modules.

use std::ffi::{CStr, c_char, c_uint, c_void};

use super::{answer, answer_if_wanted, answer_text, list, text, wanted};
use crate::driver::{DRIVER, Handle, Status, report};

/// The options of the JIT compiler that softcuda knows: the buffers for its log.
#[derive(Default)]
pub(super) struct Options {
    error_log: Log,
    information_log: Log,
}

#[derive(Clone, Copy)]
struct Log {
    buffer: *mut c_char,
    size: usize,
    /// Where to answer how much was written.
    written: *mut *mut c_void,
}

impl Default for Log {
    fn default() -> Log {
        Log { buffer: std::ptr::null_mut(), size: 0, written: std::ptr::null_mut() }
    }
}

impl Log {
    unsafe fn write(&self, text: &str) {
        if self.buffer.is_null() || self.size == 0 {
            return;
        }
        // SAFETY: the program says that the buffer has so many bytes.
        let _ = unsafe { answer_text(text, self.buffer, self.size) };
        if !self.written.is_null() {
            // SAFETY: an element of the program's list of values.
            unsafe { *self.written = text.len().min(self.size - 1) as *mut c_void };
        }
    }
}

impl Options {
    /// From the two lists of `cuModuleLoadDataEx`.
    pub(super) unsafe fn read(
        count: c_uint,
        options: *const c_uint,
        values: *mut *mut c_void,
    ) -> Result<Options, Status> {
        // SAFETY: the program says that both lists have so many elements.
        let options = unsafe { list(options, count as usize) }?;
        if !options.is_empty() && values.is_null() {
            return Err(Status::ERROR_INVALID_VALUE);
        }
        let mut read = Options::default();
        for (index, option) in options.iter().enumerate() {
            // SAFETY: as above.
            let (place, value) = unsafe { (values.add(index), *values.add(index)) };
            match option {
                3 => read.information_log.buffer = value.cast(),
                4 => {
                    (read.information_log.size, read.information_log.written) = (value as u32 as usize, place)
                }
                5 => read.error_log.buffer = value.cast(),
                6 => (read.error_log.size, read.error_log.written) = (value as u32 as usize, place),
                // Settings of the compiler: they have no meaning here.
                0..=33 => {}
                _ => return Err(Status::ERROR_INVALID_VALUE),
            }
        }
        Ok(read)
    }
}

/// Loads what an image holds: PTX; compiled code is refused.
pub(super) unsafe fn load(image: *const c_void, options: &Options) -> Result<Handle, Status> {
    if image.is_null() {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program says that an image lies there: text that ends in NUL, or compiled code with a longer header.
    let bytes = unsafe { CStr::from_ptr(image.cast()) }.to_bytes();
    let compiled = [&b"\x7fELF"[..], b"\x50\xed\x55\xba", b"\xb1\x43\x62\x46"];
    let loaded = if compiled.iter().any(|start| bytes.starts_with(start)) {
        let log = "a module is compiled code (cubin or fatbin): softcuda runs PTX only".to_string();
        Err((Status::ERROR_NO_BINARY_FOR_GPU, log))
    } else {
        DRIVER.load_module(bytes)
    };
    let (result, log) = match loaded {
        Ok(module) => (Ok(module), String::new()),
        Err((status, log)) => (Err(status), log),
    };
    if !log.is_empty() {
        report::line(&format!("a module cannot be loaded: {log}"));
    }
    // SAFETY: the program says how large its buffers are.
    unsafe {
        options.error_log.write(&log);
        options.information_log.write("");
    }
    result
}

/// Loads a file.
pub(super) unsafe fn load_file(path: *const c_char, options: &Options) -> Result<Handle, Status> {
    // SAFETY: the program says that a text lies there.
    let path = unsafe { text(path) }?;
    let mut bytes = std::fs::read(path).map_err(|_| Status::ERROR_FILE_NOT_FOUND)?;
    bytes.push(0);
    // SAFETY: ended by the NUL above; the buffers are the program's.
    unsafe { load(bytes.as_ptr().cast(), options) }
}

/// Address and size of a module's variable.
pub(super) unsafe fn global(
    address: *mut u64,
    bytes: *mut usize,
    module: Handle,
    name: *const c_char,
) -> Result<(), Status> {
    // SAFETY: as the program says.
    unsafe {
        let name = text(name)?;
        let found = DRIVER.in_context(|state, _| {
            state.module(module)?.module.global(name).ok_or(Status::ERROR_NOT_FOUND)
        })?;
        answer_if_wanted(address, found.0);
        answer_if_wanted(bytes, found.1 as usize);
    }
    Ok(())
}

/// The handles of a module's first functions.
pub(super) unsafe fn functions(to: *mut Handle, count: c_uint, module: Handle) -> Result<(), Status> {
    wanted(to)?;
    DRIVER.in_context(|state, _| {
        let names: Vec<String> =
            state.module(module)?.module.kernels().map(|kernel| kernel.name.clone()).collect();
        for (index, name) in names.iter().take(count as usize).enumerate() {
            let function = state.function_of(module, name)?;
            // SAFETY: the program says that there is room for so many.
            unsafe { *to.add(index) = function };
        }
        Ok(())
    })
}

entry_points! {
    fn cuModuleLoad(module: *mut Handle, path: *const c_char) {
        wanted(module)?;
        answer(module, load_file(path, &Options::default())?)
    }

    fn cuModuleLoadData(module: *mut Handle, image: *const c_void) {
        wanted(module)?;
        answer(module, load(image, &Options::default())?)
    }

    fn cuModuleLoadDataEx(
        module: *mut Handle,
        image: *const c_void,
        count: c_uint,
        options: *const c_uint,
        values: *mut *mut c_void,
    ) {
        wanted(module)?;
        let options = Options::read(count, options, values)?;
        answer(module, load(image, &options)?)
    }

    fn cuModuleLoadFatBinary(_module: *mut Handle, _image: *const c_void) {
        report::line("a module is a fatbin: softcuda runs PTX only");
        Err(Status::ERROR_NO_BINARY_FOR_GPU)
    }

    fn cuModuleUnload(module: Handle) {
        DRIVER.unload_module(module)
    }

    fn cuModuleGetLoadingMode(mode: *mut c_uint) {
        // Eager.
        DRIVER.with(|_| answer(mode, 1))
    }

    fn cuModuleGetFunction(function: *mut Handle, module: Handle, name: *const c_char) {
        wanted(function)?;
        let name = text(name)?;
        answer(function, DRIVER.in_context(|state, _| state.function_of(module, name))?)
    }

    fn cuModuleGetFunctionCount(count: *mut c_uint, module: Handle) {
        DRIVER.in_context(|state, _| answer(count, state.module(module)?.module.kernels().count() as c_uint))
    }

    fn cuModuleEnumerateFunctions(to: *mut Handle, count: c_uint, module: Handle) {
        functions(to, count, module)
    }

    fn cuModuleGetGlobal_v2(
        address: *mut u64,
        bytes: *mut usize,
        module: Handle,
        name: *const c_char,
    ) = cuModuleGetGlobal {
        global(address, bytes, module, name)
    }
}
