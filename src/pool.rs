//! The rule by which a backend keeps memory, without the memory: shelves keyed by exact length. A buffer that
//! is given back waits on its shelf for the next of that length and never returns to the system, so that a
//! training step allocates nothing after the first one.
//!
//! The CPU keeps its vectors here; the meter keeps nothing (`T = ()`) and so predicts the CPU's footprint to
//! the byte.

use std::collections::HashMap;

use crate::backend::MemoryUse;

/// Free buffers by length, and the account of all of them.
#[derive(Debug)]
pub struct Shelves<T> {
    free: HashMap<usize, Vec<T>>,
    usage: MemoryUse,
}

impl<T> Default for Shelves<T> {
    fn default() -> Self {
        Self { free: HashMap::new(), usage: MemoryUse::default() }
    }
}

impl<T> Shelves<T> {
    /// A free buffer of exactly `len` elements; `None` when the caller has to get one from the system.
    pub fn take(&mut self, len: usize) -> Option<T> {
        let reused = self.free.get_mut(&len).and_then(Vec::pop);
        let usage = &mut self.usage;
        usage.live_bytes = usage.live_bytes.saturating_add(bytes(len));
        usage.peak_bytes = usage.peak_bytes.max(usage.live_bytes);
        if reused.is_none() {
            usage.fresh_allocations += 1;
            usage.held_bytes = usage.held_bytes.saturating_add(bytes(len));
        }
        reused
    }

    /// A buffer of `len` elements that is no longer used.
    pub fn give_back(&mut self, len: usize, buffer: T) {
        self.usage.live_bytes = self.usage.live_bytes.saturating_sub(bytes(len));
        self.free.entry(len).or_default().push(buffer);
    }

    /// The account.
    pub fn usage(&self) -> MemoryUse {
        self.usage
    }
}

/// Bytes of `len` elements; a length that no machine has counts as the largest number.
fn bytes(len: usize) -> u64 {
    (len as u64).saturating_mul(size_of::<f32>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_buffer_of_the_very_length_is_used_again() {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.take(10), None);
        shelves.give_back(10, 'a');
        assert_eq!(shelves.take(9), None);
        assert_eq!(shelves.take(10), Some('a'));
        let expected =
            MemoryUse { live_bytes: 4 * 19, peak_bytes: 4 * 19, held_bytes: 4 * 19, fresh_allocations: 2 };
        assert_eq!(shelves.usage(), expected);
    }

    #[test]
    fn what_waits_on_a_shelf_is_held_but_not_live() {
        let mut shelves = Shelves::default();
        for len in [3, 5, 3] {
            shelves.take(len);
            shelves.give_back(len, ());
        }
        let expected = MemoryUse { live_bytes: 0, peak_bytes: 20, held_bytes: 32, fresh_allocations: 2 };
        assert_eq!(shelves.usage(), expected);
    }
}
