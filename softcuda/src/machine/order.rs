//! What happened before what: vector clocks over the warps of a block and the lanes of a warp, and what blocks tell each
//! other through fences and atomics (Lamport 1978; the compact form follows Flanagan and Freund, "FastTrack", 2009).
//!
//! A warp's `tick` counts its synchronisations. An access carries its warp's tick; it happened before another access if the
//! other's warp (or, within a warp, its lane) knows that tick or a later one.

use std::sync::Arc;

/// What a warp knows.
#[derive(Clone, Debug)]
pub struct Clock {
    /// Its own tick, from 1.
    pub tick: u32,
    /// The last tick of each warp of the block that it knows.
    pub warps: [u32; 32],
    /// All lanes know of each other up to this tick.
    pub all_lanes: u32,
    /// What lane i knows of lane j beyond that; empty until lanes synchronise in part.
    pub lanes: Vec<[u32; 32]>,
    /// What it knew at its last fence.
    pub fenced: Option<Arc<Snapshot>>,
    /// What it has read from other blocks: address and number of entries published there.
    pub acquired: Arc<Vec<(u64, usize)>>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            tick: 1,
            warps: [0; 32],
            all_lanes: 0,
            lanes: Vec::new(),
            fenced: None,
            acquired: Arc::default(),
        }
    }
}

/// What a warp knew at a time.
#[derive(Debug)]
pub struct Snapshot {
    /// Its block.
    pub block: u64,
    /// Ticks of that block's warps.
    pub warps: [u32; 32],
    /// What it had acquired.
    pub acquired: Arc<Vec<(u64, usize)>>,
}

/// What an atomic left at its address.
pub type Published = Arc<Snapshot>;

impl Clock {
    /// Whether what lane `other` of this warp did at a tick is known to `lane`.
    pub fn lane_knows(&self, lane: usize, other: usize, tick: u32) -> bool {
        tick <= self.all_lanes || self.lanes.get(lane).is_some_and(|known| tick <= known[other])
    }

    /// The lanes of the mask, out of those launched, have synchronised.
    pub fn synchronise_lanes(&mut self, mask: u32, launched: u32) {
        if mask & launched == launched {
            self.all_lanes = self.tick;
            self.lanes.clear();
        } else {
            if self.lanes.is_empty() {
                self.lanes = vec![[0; 32]; 32];
            }
            let mut joined = [0; 32];
            for lane in super::registers::lanes(mask) {
                joined
                    .iter_mut()
                    .zip(&self.lanes[lane])
                    .for_each(|(known, &other)| *known = other.max(*known));
            }
            super::registers::lanes(mask).for_each(|lane| joined[lane] = self.tick);
            super::registers::lanes(mask).for_each(|lane| self.lanes[lane] = joined);
        }
        self.tick += 1;
    }

    /// What it knows, itself included.
    pub fn knowledge(&self, number: usize) -> [u32; 32] {
        let mut warps = self.warps;
        warps[number] = self.tick;
        warps
    }

    /// Adds what another knows.
    pub fn learn(&mut self, warps: &[u32; 32]) {
        self.warps.iter_mut().zip(warps).for_each(|(known, &other)| *known = other.max(*known));
    }

    /// Adds what others have acquired.
    pub fn learn_acquired(&mut self, acquired: &Arc<Vec<(u64, usize)>>) {
        if Arc::ptr_eq(acquired, &self.acquired) || acquired.is_empty() {
            return;
        }
        if self.acquired.is_empty() {
            self.acquired = acquired.clone();
            return;
        }
        for &(address, entries) in acquired.iter() {
            self.acquire(address, entries);
        }
    }

    /// It has seen the first entries that were published at an address.
    pub fn acquire(&mut self, address: u64, entries: usize) {
        match self.acquired.iter().position(|known| known.0 == address) {
            Some(at) if self.acquired[at].1 >= entries => {}
            Some(at) => Arc::make_mut(&mut self.acquired)[at].1 = entries,
            None => Arc::make_mut(&mut self.acquired).push((address, entries)),
        }
    }

    /// Lanes of the mask, out of those launched, learn what all lanes did up to a tick.
    pub fn lanes_learn(&mut self, mask: u32, launched: u32, tick: u32) {
        if mask & launched == launched {
            self.all_lanes = self.all_lanes.max(tick);
        } else if tick > self.all_lanes {
            if self.lanes.is_empty() {
                self.lanes = vec![[0; 32]; 32];
            }
            for lane in super::registers::lanes(mask) {
                self.lanes[lane].iter_mut().for_each(|known| *known = tick.max(*known));
            }
        }
    }

    /// A fence: what was done up to here can be published from now on.
    pub fn fence(&mut self, number: usize, block: u64) {
        let warps = self.knowledge(number);
        self.fenced = Some(Arc::new(Snapshot { block, warps, acquired: self.acquired.clone() }));
        self.tick += 1;
    }
}

/// Whether `acquired` leads to a snapshot of `block` in which the tick of `warp` is known.
pub fn leads_to(
    published: &std::collections::HashMap<u64, Vec<Published>>,
    acquired: &Arc<Vec<(u64, usize)>>,
    block: u64,
    warp: usize,
    tick: u32,
) -> bool {
    let mut seen: std::collections::HashMap<u64, usize> = std::collections::HashMap::new();
    let mut open: Vec<(u64, usize)> = acquired.to_vec();
    while let Some((address, entries)) = open.pop() {
        let done = seen.insert(address, entries).unwrap_or(0).min(entries);
        let Some(list) = published.get(&address) else { continue };
        for snapshot in &list[done..entries.min(list.len())] {
            if snapshot.block & super::shadow::BLOCK_MASK == block && snapshot.warps[warp] >= tick {
                return true;
            }
            open.extend(
                snapshot.acquired.iter().filter(|(to, count)| seen.get(to).is_none_or(|known| known < count)),
            );
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_synchronisation_makes_all_lanes_know_what_came_before_and_not_what_follows() {
        let mut clock = Clock::default();
        assert!(!clock.lane_knows(3, 4, clock.tick));
        let before = clock.tick;
        clock.synchronise_lanes(u32::MAX, u32::MAX);
        assert!(clock.lane_knows(3, 4, before) && !clock.lane_knows(3, 4, clock.tick));
    }

    #[test]
    fn a_partial_one_concerns_its_lanes_only_and_is_transitive() {
        let mut clock = Clock::default();
        let first = clock.tick;
        clock.synchronise_lanes(0b0011, u32::MAX);
        clock.synchronise_lanes(0b0110, u32::MAX);
        assert!(clock.lane_knows(0, 1, first) && clock.lane_knows(2, 0, first));
        assert!(!clock.lane_knows(0, 2, first) && !clock.lane_knows(3, 0, first));
    }

    #[test]
    fn blocks_learn_through_chains_of_published_snapshots() {
        let mut writer = Clock::default();
        let tick = writer.tick;
        writer.fence(0, 7);
        let mut published = std::collections::HashMap::from([(64, vec![writer.fenced.clone().unwrap()])]);
        let mut relay = Clock::default();
        relay.acquire(64, 1);
        relay.fence(2, 8);
        published.insert(128, vec![relay.fenced.clone().unwrap()]);
        let mut reader = Clock::default();
        assert!(!leads_to(&published, &reader.acquired, 7, 0, tick));
        reader.acquire(128, 1);
        assert!(leads_to(&published, &reader.acquired, 7, 0, tick));
        assert!(!leads_to(&published, &reader.acquired, 7, 0, writer.tick), "what came after the fence");
    }
}
