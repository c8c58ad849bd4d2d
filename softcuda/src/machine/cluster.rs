//! `barrier.cluster` for clusters of one block: a barrier of the block whose arrival and wait are two instructions.

/// Its number: behind those of the block.
pub const CLUSTER: u32 = 16;

/// The barrier.
#[derive(Clone, Debug)]
pub struct ClusterBarrier {
    /// Lanes that have arrived in the present phase, a mask a warp.
    arrived: Vec<u32>,
    /// Lanes that have arrived and have not come to wait.
    owing: Vec<u32>,
    /// Lanes that wait for the end of the present phase.
    waiting: Vec<u32>,
    /// What those who arrived knew.
    present: [u32; 32],
    /// The same of the phase before.
    past: [u32; 32],
}

impl ClusterBarrier {
    /// For a block of so many warps.
    pub fn new(warps: usize) -> ClusterBarrier {
        let none = vec![0; warps];
        let (arrived, owing, waiting) = (none.clone(), none.clone(), none);
        ClusterBarrier { arrived, owing, waiting, present: [0; 32], past: [0; 32] }
    }

    /// Lanes of a warp arrive.
    ///
    /// # Errors
    /// Lanes that should wait first.
    pub fn arrive(&mut self, warp: usize, mask: u32, knowledge: &[u32; 32]) -> Result<(), u32> {
        match mask & self.owing[warp] {
            0 => {}
            twice => return Err(twice),
        }
        self.arrived[warp] |= mask;
        self.owing[warp] |= mask;
        self.present.iter_mut().zip(knowledge).for_each(|(known, &other)| *known = other.max(*known));
        Ok(())
    }

    /// Lanes of a warp come to wait: what their phase released, if it is over.
    ///
    /// # Errors
    /// Lanes that have not arrived.
    pub fn wait(&mut self, warp: usize, mask: u32) -> Result<Option<[u32; 32]>, u32> {
        match mask & !self.owing[warp] {
            0 => {}
            missing => return Err(missing),
        }
        self.owing[warp] &= !mask;
        if mask & self.arrived[warp] == 0 {
            return Ok(Some(self.past));
        }
        self.waiting[warp] |= mask;
        Ok(None)
    }

    /// Ends the phase if all lanes that live have arrived: who waited, and what was released.
    pub fn complete(&mut self, live: impl Fn(usize) -> u32) -> Option<(Vec<u32>, [u32; 32])> {
        let nobody = self.arrived.iter().all(|&mask| mask == 0);
        if nobody || self.arrived.iter().enumerate().any(|(warp, &mask)| live(warp) & !mask != 0) {
            return None;
        }
        self.arrived.fill(0);
        self.past = std::mem::take(&mut self.present);
        let none = vec![0; self.waiting.len()];
        Some((std::mem::replace(&mut self.waiting, none), self.past))
    }

    /// Threads that wait, and threads that have arrived.
    pub fn counts(&self) -> (u32, u32) {
        let count = |masks: &[u32]| masks.iter().map(|mask| mask.count_ones()).sum();
        (count(&self.waiting), count(&self.arrived))
    }
}
