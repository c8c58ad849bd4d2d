//! Commands that have been given to the device and not been executed yet, and the order in which they are.
//!
//! A command waits for those before it: the last one of its stream, events, and what the legacy default stream implies.
//! Of those that wait for nothing any more the seed chooses the next, so that what nothing orders happens in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::Handle;
use super::clock::{Clock, Ticket, Tickets};
use super::random::Random;
use super::work::Work;

/// Something to be executed.
pub struct Command {
    /// Its place in the order.
    pub ticket: Arc<Ticket>,
    /// The context that it belongs to.
    pub context: Handle,
    /// What to do.
    pub work: Work,
    /// Where it was given, for messages: `stream 3`.
    pub place: String,
    /// What it waited for.
    pub after: Tickets,
}

struct Waiting {
    command: Command,
    missing: usize,
    followers: Vec<u64>,
}

/// The commands of the device.
pub struct Queue {
    waiting: BTreeMap<u64, Waiting>,
    ready: BTreeSet<u64>,
    /// The command that is being executed, its context, and those that wait for it.
    running: Option<(Arc<Ticket>, Handle, Vec<u64>)>,
    next: u64,
    random: Random,
    /// Commands that each chain has had.
    chains: Vec<u64>,
    idle_chains: Vec<u32>,
    /// Everything that the host knows to have been executed.
    host: Clock,
}

impl Queue {
    /// Empty; choices follow the seed.
    pub fn new(seed: u64) -> Queue {
        Queue {
            waiting: BTreeMap::new(),
            ready: BTreeSet::new(),
            running: None,
            next: 0,
            random: Random::new(seed),
            chains: Vec::new(),
            idle_chains: Vec::new(),
            host: Clock::default(),
        }
    }

    /// A chain for a new stream or branch.
    pub fn new_chain(&mut self) -> u32 {
        // A chain can be used again once all its commands are ordered before everything new.
        let known = |chain: &&u32| self.host.get(**chain) >= self.chains[**chain as usize];
        if let Some(at) = self.idle_chains.iter().position(|chain| known(&chain)) {
            return self.idle_chains.swap_remove(at);
        }
        self.chains.push(0);
        (self.chains.len() - 1) as u32
    }

    /// Nothing will be added to the chain any more.
    pub fn retire_chain(&mut self, chain: u32) {
        self.idle_chains.push(chain);
    }

    /// Adds a command behind those in `after`.
    pub fn submit(
        &mut self,
        context: Handle,
        chain: u32,
        work: Work,
        place: String,
        after: Tickets,
    ) -> Arc<Ticket> {
        self.next += 1;
        let number = self.next;
        self.chains[chain as usize] += 1;
        let sequence = self.chains[chain as usize];
        let mut clock = self.host.clone();
        after.iter().for_each(|before| clock.join(&before.clock));
        clock.advance(chain, sequence);
        let ticket = Arc::new(Ticket { number, chain, sequence, clock, end: OnceLock::new() });
        let mut missing = 0;
        for before in after.iter().filter(|before| !before.is_done()) {
            if let Some(waiting) = self.waiting.get_mut(&before.number) {
                waiting.followers.push(number);
                missing += 1;
            } else if let Some((running, _, followers)) = &mut self.running
                && running.number == before.number
            {
                followers.push(number);
                missing += 1;
            }
        }
        let command = Command { ticket: ticket.clone(), context, work, place, after };
        self.waiting.insert(number, Waiting { command, missing, followers: Vec::new() });
        if missing == 0 {
            self.ready.insert(number);
        }
        ticket
    }

    /// Takes one of the commands that wait for nothing, to be executed now. There is one whenever anything waits and
    /// nothing is being executed.
    pub fn take(&mut self) -> Option<Command> {
        if self.running.is_some() || self.ready.is_empty() {
            return None;
        }
        let chosen = *self.ready.iter().nth(self.random.below(self.ready.len()))?;
        self.ready.remove(&chosen);
        let waiting = self.waiting.remove(&chosen)?;
        self.running = Some((waiting.command.ticket.clone(), waiting.command.context, waiting.followers));
        Some(waiting.command)
    }

    /// The command that was taken has been executed and took so many picoseconds.
    pub fn complete(&mut self, command: &Command, duration: u64) {
        let start = command.after.iter().filter_map(|before| before.end()).max().unwrap_or(0);
        let _ = command.ticket.end.set(start.saturating_add(duration));
        let Some((_, _, followers)) = self.running.take() else { return };
        for follower in followers {
            if let Some(waiting) = self.waiting.get_mut(&follower) {
                waiting.missing -= 1;
                if waiting.missing == 0 {
                    self.ready.insert(follower);
                }
            }
        }
    }

    /// Commands that have not been executed.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.running.is_some())
    }

    /// Whether everything has been executed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a command is being executed.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Number of the newest command.
    pub fn newest(&self) -> u64 {
        self.next
    }

    /// Whether a context has commands up to this number that have not been executed.
    pub fn has_before(&self, context: Handle, number: u64) -> bool {
        let running = self
            .running
            .as_ref()
            .is_some_and(|(ticket, owner, _)| *owner == context && ticket.number <= number);
        running
            || self
                .waiting
                .values()
                .take_while(|waiting| waiting.command.ticket.number <= number)
                .any(|waiting| waiting.command.context == context)
    }

    /// The commands that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &Command> {
        self.waiting.values().map(|waiting| &waiting.command)
    }

    /// The same, to be changed.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut Command> {
        self.waiting.values_mut().map(|waiting| &mut waiting.command)
    }

    /// The host has seen that these have been executed.
    pub fn host_saw(&mut self, clock: &Clock) {
        self.host.join(clock);
    }

    /// The host has seen that everything has been executed that has been.
    pub fn host_saw_all(&mut self) {
        let mut seen = self.chains.clone();
        let running = self.running.iter().map(|(ticket, ..)| ticket);
        for ticket in running.chain(self.waiting.values().map(|waiting| &waiting.command.ticket)) {
            let seen = &mut seen[ticket.chain as usize];
            *seen = (*seen).min(ticket.sequence - 1);
        }
        for (chain, sequence) in (0..).zip(seen) {
            self.host.advance(chain, sequence);
        }
    }

    /// What the host has seen.
    pub fn host(&self) -> &Clock {
        &self.host
    }

    /// Takes away all commands of a context, which is gone.
    pub fn forget(&mut self, context: Handle) {
        self.waiting.retain(|_, waiting| waiting.command.context != context);
        let waiting = &self.waiting;
        self.ready.retain(|number| waiting.contains_key(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit(queue: &mut Queue, chain: u32, after: &[&Arc<Ticket>]) -> Arc<Ticket> {
        queue.submit(1, chain, Work::Nothing, String::new(), after.iter().map(|&t| t.clone()).collect())
    }

    /// Executes everything; the numbers in the order of their execution.
    fn run(queue: &mut Queue) -> Vec<u64> {
        let mut order = Vec::new();
        while let Some(command) = queue.take() {
            assert!(queue.take().is_none(), "one at a time");
            order.push(command.ticket.number);
            queue.complete(&command, 10);
        }
        assert!(queue.is_empty());
        order
    }

    #[test]
    fn what_nothing_orders_comes_in_any_order_and_the_rest_in_its_own() {
        let mut seen = BTreeSet::new();
        for seed in 0..100 {
            let mut queue = Queue::new(seed);
            let (a, b) = (queue.new_chain(), queue.new_chain());
            let first = submit(&mut queue, a, &[]);
            let second = submit(&mut queue, a, &[&first]);
            let other = submit(&mut queue, b, &[]);
            let last = submit(&mut queue, b, &[&other, &second]);
            assert!(last.clock.covers(&first) && !other.clock.covers(&first) && !second.clock.covers(&other));
            seen.insert(run(&mut queue));
            assert_eq!((second.end(), other.end(), last.end()), (Some(20), Some(10), Some(30)));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [[1, 2, 3, 4], [1, 3, 2, 4], [3, 1, 2, 4]]);
    }

    #[test]
    fn a_command_given_while_its_predecessor_runs_waits_for_it() {
        let mut queue = Queue::new(0);
        let chain = queue.new_chain();
        let first = submit(&mut queue, chain, &[]);
        let running = queue.take().unwrap();
        submit(&mut queue, chain, &[&first]);
        assert!(queue.has_before(1, 1) && !queue.has_before(2, 9));
        queue.complete(&running, 5);
        assert!(!queue.has_before(1, 1) && queue.has_before(1, 2));
        assert_eq!(run(&mut queue), [2]);
    }

    #[test]
    fn chains_are_used_again_only_when_the_host_has_seen_their_end() {
        let mut queue = Queue::new(0);
        let chain = queue.new_chain();
        let ticket = submit(&mut queue, chain, &[]);
        queue.retire_chain(chain);
        assert_ne!(queue.new_chain(), chain);
        run(&mut queue);
        queue.host_saw(&ticket.clock);
        assert_eq!(queue.new_chain(), chain);
        assert!(submit(&mut queue, chain, &[]).clock.covers(&ticket));
    }
}
