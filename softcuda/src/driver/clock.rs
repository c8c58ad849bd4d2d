//! Vector clocks: which command is ordered behind which.
//!
//! Commands form chains (a stream is one, each branch of a graph is one). A clock says, for each chain, up to which of
//! its commands something is ordered behind.

use std::sync::{Arc, OnceLock};

/// For each chain the number of commands that come before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock(Vec<u64>);

impl Clock {
    /// How far along a chain it is.
    pub fn get(&self, chain: u32) -> u64 {
        self.0.get(chain as usize).copied().unwrap_or(0)
    }

    /// Moves it to `sequence` of a chain, if it is not there yet.
    pub fn advance(&mut self, chain: u32, sequence: u64) {
        let chain = chain as usize;
        if self.0.len() <= chain {
            self.0.resize(chain + 1, 0);
        }
        self.0[chain] = self.0[chain].max(sequence);
    }

    /// Is behind everything that either is behind.
    pub fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, other) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*other);
        }
    }

    /// Whether the command is one of those before.
    pub fn covers(&self, ticket: &Ticket) -> bool {
        self.get(ticket.chain) >= ticket.sequence
    }
}

/// What others hold of a command: its place in the order, and when it has been executed the modelled time.
#[derive(Debug)]
pub struct Ticket {
    /// The how manyth command it is of the process, from 1.
    pub number: u64,
    /// Its chain.
    pub chain: u32,
    /// The how manyth it is of its chain, from 1.
    pub sequence: u64,
    /// Itself and everything before it.
    pub clock: Clock,
    pub(super) end: OnceLock<u64>,
}

impl Ticket {
    /// Whether it has been executed.
    pub fn is_done(&self) -> bool {
        self.end.get().is_some()
    }

    /// Modelled time of its end, in picoseconds from the beginning of the process; `None` until it has been executed.
    pub fn end(&self) -> Option<u64> {
        self.end.get().copied()
    }
}

/// What something waits for.
pub type Tickets = Vec<Arc<Ticket>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_covers_what_was_joined_and_nothing_else() {
        let ticket = |chain, sequence| {
            let mut clock = Clock::default();
            clock.advance(chain, sequence);
            Ticket { number: 1, chain, sequence, clock, end: OnceLock::new() }
        };
        let (first, second, other) = (ticket(3, 1), ticket(3, 2), ticket(0, 1));
        let mut clock = Clock::default();
        assert!(!clock.covers(&first));
        clock.join(&first.clock);
        assert!(clock.covers(&first) && !clock.covers(&second) && !clock.covers(&other));
        clock.advance(3, 0);
        assert!(clock.covers(&first));
        clock.join(&other.clock);
        assert!(clock.covers(&first) && clock.covers(&other));
    }
}
