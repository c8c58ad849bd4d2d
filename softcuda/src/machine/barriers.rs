//! The sixteen barriers of a block.

use std::sync::Arc;

use super::context::{Arrival, Reduction};

/// One barrier, between two releases.
#[derive(Clone, Debug, Default)]
pub struct Barrier {
    /// Threads that have arrived; aligned warps count 32 each.
    pub arrived: u32,
    /// Threads that it waits for; 0 for all of the block that have not exited.
    pub threads: u32,
    /// Lanes that wait, a mask a warp.
    pub waiting: Vec<u32>,
    /// What those who arrived know.
    pub clock: [u32; 32],
    /// What they have acquired from other blocks, as `Clock` has it.
    pub acquired: Vec<Arc<Vec<(u64, usize)>>>,
    /// What `bar.red` combines, a warp's lanes at a time.
    pub reductions: Vec<(usize, u32, Reduction)>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Barriers {
    list: Vec<Barrier>,
}

impl Barriers {
    /// For a block of so many warps.
    pub fn new(warps: usize) -> Barriers {
        Barriers { list: vec![Barrier { waiting: vec![0; warps], ..Barrier::default() }; 16] }
    }

    /// The barrier of a number below 16.
    pub fn get(&self, number: usize) -> &Barrier {
        &self.list[number]
    }

    /// Lanes of a warp arrive, out of those that live there. Gives the number of threads that others wait for there, if that
    /// is another one.
    pub fn arrive(
        &mut self,
        warp: usize,
        mask: u32,
        live: u32,
        arrival: Arrival,
        knowledge: &[u32; 32],
        acquired: &Arc<Vec<(u64, usize)>>,
    ) -> Option<u32> {
        let barrier = &mut self.list[arrival.barrier as usize];
        let differs = (barrier.arrived > 0 && barrier.threads != arrival.threads).then_some(barrier.threads);
        barrier.threads = arrival.threads;
        let before = barrier.waiting[warp];
        let whole = arrival.aligned || (before | mask) & live == live;
        // A warp that is here in full counts 32, whatever it counted for its first lanes.
        barrier.arrived += if whole { 32 - before.count_ones().min(32) } else { mask.count_ones() };
        if !arrival.passing {
            barrier.waiting[warp] |= mask;
        }
        barrier.clock.iter_mut().zip(knowledge).for_each(|(known, &other)| *known = other.max(*known));
        if !acquired.is_empty() && !barrier.acquired.iter().any(|known| Arc::ptr_eq(known, acquired)) {
            barrier.acquired.push(acquired.clone());
        }
        if let Some(reduction) = arrival.reduction {
            barrier.reductions.push((warp, mask, reduction));
        }
        differs
    }

    /// Takes a barrier that is complete, with `live` warps of the block left.
    pub fn complete(&mut self, number: usize, live: u32) -> Option<Barrier> {
        let barrier = &mut self.list[number];
        let wanted = if barrier.threads == 0 { live * 32 } else { barrier.threads };
        if barrier.arrived == 0 || barrier.arrived < wanted {
            return None;
        }
        let fresh = Barrier { waiting: vec![0; barrier.waiting.len()], ..Barrier::default() };
        Some(std::mem::replace(barrier, fresh))
    }

    /// Numbers of those at which somebody has arrived.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        (0..16).filter(|&number| self.list[number].arrived > 0)
    }
}
