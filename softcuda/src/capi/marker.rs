//! What softcuda exports beside the driver API: how programs tell it from NVIDIA's, and how tests ask for more.

use std::ffi::{c_char, c_uint};

use super::answer_text;
use crate::driver::DRIVER;

/// Version of the four functions here. Its presence tells that this is softcuda.
#[unsafe(no_mangle)]
extern "C" fn softcuda_marker() -> c_uint {
    1
}

/// The most device memory that was in use at a time, bytes; 0 before `cuInit`.
#[unsafe(no_mangle)]
extern "C" fn softcuda_peak_memory() -> u64 {
    DRIVER.peek(|state| state.memory.peak()).unwrap_or(0)
}

/// Writes the findings so far, a line each, into a buffer of so many bytes; answers how many bytes they need with the
/// NUL at the end.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_last_findings(buffer: *mut c_char, size: usize) -> usize {
    let text = DRIVER.peek(|state| state.report.findings()).unwrap_or_default();
    // SAFETY: the caller says that the buffer has so many bytes.
    let _ = unsafe { answer_text(&text, buffer, size) };
    text.len() + 1
}

/// Forgets everything, as if the process had just begun: `cuInit` reads the environment anew. All handles are invalid.
#[unsafe(no_mangle)]
extern "C" fn softcuda_reset() {
    DRIVER.reset();
}
