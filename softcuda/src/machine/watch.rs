//! Whether a warp only waits: its lanes come back to the same step with the same registers, and nothing that could change
//! memory has done so. Then nothing but another warp can free them.

use super::calls::Frame;
use super::context::{BlockState, LaunchState};
use super::registers::Registers;
use super::warp::{PATIENCE, Split, Stop, Wait, Warp};
use crate::program::Step;

/// Instructions for which lanes are watched: loops up to half as long are recognised.
const WATCHED: u32 = 1 << 12;

/// What decides what lanes do next, besides their step.
struct Held {
    registers: Registers,
    local: Vec<u8>,
    calls: Vec<Vec<Frame>>,
}

impl Warp {
    /// Runs the lanes that do not wait at a barrier for a while. Whether all of them repeat themselves, and why the warp
    /// stopped.
    pub fn watch(
        &mut self,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
        steps: &[Step],
    ) -> (bool, Stop) {
        self.merge();
        let ready = |split: &&Split| split.wait == Wait::Ready;
        let first: Vec<u32> =
            self.splits.iter().filter(ready).map(|split| split.mask.trailing_zeros()).collect();
        for lane in first {
            let repeats = self.repeats(lane, block, launch, steps);
            (self.favoured, self.turn) = (None, PATIENCE);
            match repeats {
                Ok(true) => {}
                Ok(false) => return (false, Stop::Slice),
                Err(stop) => return (false, stop),
            }
        }
        (true, Stop::Slice)
    }

    /// Whether the lanes that go with this one repeat themselves.
    fn repeats(
        &mut self,
        lane: u32,
        block: &mut BlockState,
        launch: &LaunchState<'_>,
        steps: &[Step],
    ) -> Result<bool, Stop> {
        let whose = |warp: &Warp| warp.splits.iter().find(|split| split.mask >> lane & 1 != 0).copied();
        let Some(start) = whose(self) else { return Ok(false) };
        // Compared with a state that is taken anew ever more rarely (Brent's way to find cycles).
        let mut saved = (start.pc, self.held());
        for count in 1..=WATCHED {
            (self.favoured, self.turn) = (Some(lane), u32::MAX);
            match self.run(block, launch, steps, &mut 1) {
                Stop::Slice => {}
                stop => return Err(stop),
            }
            let Some(now) = whose(self).filter(|now| now.mask == start.mask) else { return Ok(false) };
            if now.pc == saved.0 && self.holds(&saved.1) {
                return Ok(true);
            }
            if count.is_power_of_two() {
                saved = (now.pc, self.held());
            }
        }
        Ok(false)
    }

    fn held(&self) -> Held {
        let (local, calls) = (self.state.local.clone(), self.state.calls.clone());
        Held { registers: self.registers.clone(), local, calls }
    }

    fn holds(&self, held: &Held) -> bool {
        let state = &self.state;
        self.registers == held.registers && state.local == held.local && state.calls == held.calls
    }
}
