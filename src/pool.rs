//! The rule by which a backend keeps memory, without the memory: shelves keyed by exact size. A buffer that
//! is given back waits on its shelf for the next of that size and does not return to the system, so that a
//! training step allocates nothing after the first one.
//!
//! The CPU keeps its vectors here, CUDA its addresses; the meter keeps nothing (`T = ()`) and so predicts their
//! footprint to the byte.

use std::collections::HashMap;

use crate::backend::MemoryUse;

/// Free buffers by size in bytes, and the account of all of them.
#[derive(Debug)]
pub struct Shelves<T> {
    free: HashMap<u64, Vec<T>>,
    usage: MemoryUse,
}

impl<T> Default for Shelves<T> {
    fn default() -> Self {
        Self { free: HashMap::new(), usage: MemoryUse::default() }
    }
}

impl<T> Shelves<T> {
    /// A free buffer of exactly `bytes`; `None` when the caller has to get one from the system.
    pub fn take(&mut self, bytes: u64) -> Option<T> {
        let reused = self.free.get_mut(&bytes).and_then(Vec::pop);
        self.account(bytes, reused)
    }

    /// A buffer of `bytes` that is no longer used.
    pub fn give_back(&mut self, bytes: u64, buffer: T) {
        self.usage.live_bytes = self.usage.live_bytes.saturating_sub(bytes);
        self.free.entry(bytes).or_default().push(buffer);
    }

    /// The system did not give the `bytes` that [`Self::take`] promised.
    pub fn forget(&mut self, bytes: u64) {
        self.usage.live_bytes = self.usage.live_bytes.saturating_sub(bytes);
        self.usage.held_bytes = self.usage.held_bytes.saturating_sub(bytes);
    }

    /// Takes all free buffers away, for the system to have them back.
    pub fn clear(&mut self) -> Vec<T> {
        let free = std::mem::take(&mut self.free);
        let idle: u64 = free.iter().map(|(bytes, buffers)| bytes * buffers.len() as u64).sum();
        self.usage.held_bytes = self.usage.held_bytes.saturating_sub(idle);
        free.into_values().flatten().collect()
    }

    /// The account.
    pub fn usage(&self) -> MemoryUse {
        self.usage
    }

    fn account(&mut self, bytes: u64, reused: Option<T>) -> Option<T> {
        let usage = &mut self.usage;
        usage.live_bytes = usage.live_bytes.saturating_add(bytes);
        usage.peak_bytes = usage.peak_bytes.max(usage.live_bytes);
        if reused.is_none() {
            usage.fresh_allocations += 1;
            usage.held_bytes = usage.held_bytes.saturating_add(bytes);
        }
        reused
    }
}

impl<T: Ord> Shelves<T> {
    /// As [`Self::take`], but of several free buffers it is always the least: whoever takes the same sizes in the same
    /// order then gets the same buffers, whatever the order was in which they came back.
    pub fn take_least(&mut self, bytes: u64) -> Option<T> {
        let shelf = self.free.get_mut(&bytes);
        let reused = shelf.and_then(|shelf| {
            let least = (0..shelf.len()).min_by_key(|&place| &shelf[place])?;
            Some(shelf.swap_remove(least))
        });
        self.account(bytes, reused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_buffer_of_the_very_size_is_used_again() {
        let mut shelves = Shelves::default();
        assert_eq!(shelves.take(10), None);
        shelves.give_back(10, 'a');
        assert_eq!(shelves.take(9), None);
        assert_eq!(shelves.take(10), Some('a'));
        let expected = MemoryUse { live_bytes: 19, peak_bytes: 19, held_bytes: 19, fresh_allocations: 2 };
        assert_eq!(shelves.usage(), expected);
    }

    #[test]
    fn the_least_buffer_is_taken_whatever_came_back_last() {
        let mut shelves = Shelves::default();
        for buffer in [3, 1, 2] {
            shelves.give_back(10, buffer);
        }
        assert_eq!([shelves.take_least(10), shelves.take_least(10)], [Some(1), Some(2)]);
    }

    #[test]
    fn what_waits_on_a_shelf_is_held_but_not_live() {
        let mut shelves = Shelves::default();
        for len in [3, 5, 3] {
            shelves.take(len);
            shelves.give_back(len, ());
        }
        let expected = MemoryUse { live_bytes: 0, peak_bytes: 5, held_bytes: 8, fresh_allocations: 2 };
        assert_eq!(shelves.usage(), expected);
    }
}
