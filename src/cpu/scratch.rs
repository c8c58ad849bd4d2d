//! Working memory of the kernels: each thread keeps its own and uses it again, so that nothing is allocated
//! after the first step.

use std::cell::RefCell;

thread_local! {
    /// A stack, not one buffer: a thread that waits for others may run a second task inside the first.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with `len` elements of unspecified contents.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with(|free| take(&mut free.borrow_mut(), len));
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = work(&mut buffer[..len]);
    FREE.with(|free| free.borrow_mut().push(buffer));
    result
}

/// The smallest free buffer that is long enough, else the longest one, to be grown.
fn take(free: &mut Vec<Vec<f32>>, len: usize) -> Vec<f32> {
    let fits = (0..free.len()).filter(|&i| free[i].len() >= len).min_by_key(|&i| free[i].len());
    let longest = || (0..free.len()).max_by_key(|&i| free[i].len());
    fits.or_else(longest).map(|i| free.swap_remove(i)).unwrap_or_default()
}

/// Bytes that the calling thread's scratch holds.
pub fn held_bytes() -> usize {
    FREE.with(|free| free.borrow().iter().map(|buffer| buffer.capacity() * size_of::<f32>()).sum())
}
