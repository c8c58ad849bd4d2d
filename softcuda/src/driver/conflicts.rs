//! The stream check: accesses of two commands to the same memory that nothing orders.
//!
//! Every executed command leaves what it touched. A later one that is not ordered behind it must not write what it
//! touched, nor touch what it wrote. The check does not depend on the order in which the two happened to run.

use std::sync::Arc;

use super::clock::{Clock, Ticket};
use super::ranges::Ranges;
use super::report;
use crate::checks::{Check, Finding};

/// Ranges that are kept at most; the oldest commands go first.
const KEPT: usize = 1 << 20;

/// What a command touched.
#[derive(Debug)]
pub struct Access {
    /// The command.
    pub ticket: Arc<Ticket>,
    /// `kernel scale`
    pub name: String,
    /// `stream 3`
    pub place: String,
    /// What it read.
    pub reads: Ranges,
    /// What it wrote.
    pub writes: Ranges,
}

/// The accesses that something may still conflict with.
#[derive(Debug, Default)]
pub struct Accesses {
    kept: Vec<Access>,
    ranges: usize,
}

impl Accesses {
    /// Adds what a command touched; the finding names the first command that it conflicts with. `allocation` describes
    /// an address.
    pub fn add(&mut self, access: Access, allocation: impl Fn(u64) -> String) -> Option<Finding> {
        if access.reads.is_empty() && access.writes.is_empty() {
            return None;
        }
        let finding = self
            .kept
            .iter()
            .filter(|earlier| !access.ticket.clock.covers(&earlier.ticket))
            .filter(|earlier| !earlier.ticket.clock.covers(&access.ticket))
            .find_map(|earlier| {
                conflict(earlier, &access).map(|at| between(earlier, &access, at, &allocation))
            });
        self.ranges += access.reads.len() + access.writes.len();
        self.kept.push(access);
        if self.ranges > KEPT {
            let half = self.kept.len().div_ceil(2);
            self.kept.drain(..half);
            self.count();
        }
        finding
    }

    /// An access of the host's, now: the first conflict with a command whose end the host has not seen.
    pub fn host_touches(
        &self,
        host: &Clock,
        name: &str,
        writes: &Ranges,
        allocation: impl Fn(u64) -> String,
    ) -> Option<Finding> {
        self.kept.iter().filter(|earlier| !host.covers(&earlier.ticket)).find_map(|earlier| {
            let at = earlier.writes.meets(writes).or_else(|| earlier.reads.meets(writes))?;
            Some(report::finding(
                Check::Stream,
                format!(
                    "{name} at {at:#x} is not ordered behind {} on {}, which uses it: wait for an event or the stream",
                    earlier.name, earlier.place
                ),
                Some(at),
                allocation(at),
            ))
        })
    }

    /// Forgets what nothing can conflict with any more: what the host has seen the end of and all `waiting` commands are
    /// ordered behind.
    pub fn forget(&mut self, host: &Clock, waiting: &[Arc<Ticket>]) {
        let settled = |access: &Access| {
            host.covers(&access.ticket) && waiting.iter().all(|ticket| ticket.clock.covers(&access.ticket))
        };
        self.kept.retain(|access| !settled(access));
        self.count();
    }

    /// How many commands are remembered.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn count(&mut self) {
        self.ranges = self.kept.iter().map(|access| access.reads.len() + access.writes.len()).sum();
    }
}

fn conflict(earlier: &Access, later: &Access) -> Option<u64> {
    earlier
        .writes
        .meets(&later.writes)
        .or_else(|| earlier.writes.meets(&later.reads))
        .or_else(|| earlier.reads.meets(&later.writes))
}

fn between(earlier: &Access, later: &Access, at: u64, allocation: impl Fn(u64) -> String) -> Finding {
    let verb = |access: &Access| {
        if access.writes.meets(&[(at, at + 1)].into_iter().collect()).is_some() { "writes" } else { "reads" }
    };
    // The same words whichever of the two ran first.
    let (first, second) =
        if earlier.ticket.number < later.ticket.number { (earlier, later) } else { (later, earlier) };
    report::finding(
        Check::Stream,
        format!(
            "{} on {} {} what {} on {} {} at {at:#x}, and nothing orders the two",
            second.name,
            second.place,
            verb(second),
            first.name,
            first.place,
            verb(first)
        ),
        Some(at),
        allocation(at),
    )
}
