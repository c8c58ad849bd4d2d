//! The entry points: thin. They check arguments, find the objects that handles stand for, and answer with a
//! [`Status`]; what happens is in [`crate::driver`].
//!
//! All are written with `entry_points!`, which exports them and puts them into the table that `cuGetProcAddress`
//! reads, so that none can be forgotten there. Handles are integers here; to C they look like pointers.

#![allow(unsafe_code)] // a C interface

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::driver::{DRIVER, Status, report};

/// An exported function.
struct Entry {
    name: &'static str,
    address: *const (),
}

// SAFETY: the address of a function, which never changes.
unsafe impl Sync for Entry {}

/// Defines exported functions with the aliases behind `=`, and a table of them all. The bodies are unsafe and answer
/// `Result<(), Status>`.
macro_rules! entry_points {
    ($(fn $name:ident $arguments:tt $(= $alias:ident)* $body:block)*) => {
        $(entry_points!(@define $name $arguments $body);)*
        $($(entry_points!(@alias $alias $name $arguments);)*)*
        pub(super) const TABLE: &[$crate::capi::Entry] = &[$(
            $crate::capi::Entry { name: stringify!($name), address: $name as *const () },
            $($crate::capi::Entry { name: stringify!($alias), address: $alias as *const () },)*
        )*];
    };
    (@define $name:ident ($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        #[allow(non_snake_case, clippy::too_many_arguments, unused_unsafe)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $crate::driver::Status {
            // SAFETY: as the CUDA driver API says.
            $crate::capi::guard(stringify!($name), || unsafe { $body })
        }
    };
    (@alias $alias:ident $name:ident ($($argument:ident: $type:ty),* $(,)?)) => {
        #[allow(non_snake_case, clippy::too_many_arguments)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $alias($($argument: $type),*) -> $crate::driver::Status {
            // SAFETY: as the CUDA driver API says.
            unsafe { $name($($argument),*) }
        }
    };
}

mod capture;
mod context;
mod copy;
mod device;
mod event;
mod function;
mod general;
mod graph;
mod graph_nodes;
mod host;
mod launch;
mod library;
mod marker;
mod memory;
mod module;
mod pool;
mod stream;
mod unsupported;

/// All tables.
const TABLES: &[&[Entry]] = &[
    capture::TABLE,
    context::TABLE,
    copy::TABLE,
    device::TABLE,
    event::TABLE,
    function::TABLE,
    general::TABLE,
    graph::TABLE,
    graph_nodes::TABLE,
    host::TABLE,
    launch::TABLE,
    library::TABLE,
    memory::TABLE,
    module::TABLE,
    pool::TABLE,
    stream::TABLE,
    unsupported::TABLE,
];

/// The address of an exported function.
fn address_of(name: &str) -> Option<*const ()> {
    TABLES.iter().copied().flatten().find(|entry| entry.name == name).map(|entry| entry.address)
}

/// Runs the body of an entry point. A panic must not reach the program.
fn guard(name: &str, body: impl FnOnce() -> Result<(), Status>) -> Status {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let result = body();
        DRIVER.relieve();
        result
    }));
    match result {
        Ok(Ok(())) => Status::SUCCESS,
        Ok(Err(status)) => status,
        Err(_) => {
            report::line(&format!("{name} failed inside softcuda: please report it"));
            Status::ERROR_UNKNOWN
        }
    }
}

/// Writes where the program wants an answer.
unsafe fn answer<T>(to: *mut T, value: T) -> Result<(), Status> {
    if to.is_null() {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program says that there is room for the answer.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Writes an answer that the program may do without.
unsafe fn answer_if_wanted<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the program says that there is room for the answer.
        unsafe { to.write_unaligned(value) };
    }
}

/// Requires a pointer for an answer before anything is done.
fn wanted<T>(to: *mut T) -> Result<(), Status> {
    if to.is_null() { Err(Status::ERROR_INVALID_VALUE) } else { Ok(()) }
}

/// A text that the program passes.
unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a str, Status> {
    if pointer.is_null() {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program says that a text ending in NUL lies there.
    unsafe { CStr::from_ptr(pointer) }.to_str().map_err(|_| Status::ERROR_INVALID_VALUE)
}

/// Writes a text into a buffer of the program's, cut off where it does not fit, always ended.
unsafe fn answer_text(text: &str, to: *mut c_char, size: usize) -> Result<(), Status> {
    if to.is_null() || size == 0 {
        return Err(Status::ERROR_INVALID_VALUE);
    }
    let bytes = text.len().min(size - 1);
    // SAFETY: the program says that there is room for `size` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), bytes);
        *to.add(bytes) = 0;
    }
    Ok(())
}

/// A list that the program passes.
unsafe fn list<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Status> {
    match (pointer.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Status::ERROR_INVALID_VALUE),
        // SAFETY: the program says that so many lie there.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(pointer, count) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once() {
        let names: Vec<&str> = TABLES.iter().copied().flatten().map(|entry| entry.name).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), distinct.len());
        assert!(address_of("cuMemAlloc").is_some() && address_of("cuMemAlloc_v3").is_none());
    }

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guard("cuTest", || panic!("a test")), Status::ERROR_UNKNOWN);
    }
}
