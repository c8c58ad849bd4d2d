//! Working memory of the kernels: each thread keeps its own and uses it again, so that nothing is allocated
//! after the first step.

use std::cell::RefCell;

use super::memory::Lines;

thread_local! {
    /// A stack, because scratch is used inside scratch, and a thread that waits for others may run a second task
    /// inside the first. What is given back last is lent first, so each depth of nesting keeps its own buffer.
    static FREE: RefCell<Vec<Lines>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` elements of unspecified contents.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with(|free| free.borrow_mut().pop()).unwrap_or_default();
    if buffer.len() < len {
        // Not grown in place: nobody needs what is in it.
        buffer = Lines::new(len);
    }
    let result = work(&mut buffer[..len]);
    FREE.with(|free| free.borrow_mut().push(buffer));
    result
}

/// Bytes that the calling thread's scratch holds.
pub fn held_bytes() -> usize {
    FREE.with(|free| free.borrow().iter().map(|buffer| buffer.bytes()).sum())
}
