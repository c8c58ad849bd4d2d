//! One command: doing it, and what follows from it.

#![allow(unsafe_code)] // calls the functions that programs give to streams

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::conflicts::Access;
use super::queue::Command;
use super::ranges::Ranges;
use super::work::{LaunchWork, Work};
use super::{DEVICE_BASE, IN_CALLBACK, State, Status, report};
use crate::checks::{Check, Checks, Finding};
use crate::machine::{self, Launch, memory::Memory};
use crate::model::cost::{self, LaunchShape};
use crate::model::counters::Counters;
use crate::model::devices::Device;
use crate::model::profile::LaunchProfile;

/// What executing needs of the state, which is not locked meanwhile.
pub(super) struct Machine {
    memory: Arc<Memory>,
    checks: Checks,
    seed: u64,
    device: &'static Device,
    skip_launches: bool,
    /// The sticky error of the context: nothing is done any more.
    error: Option<Status>,
}

/// What became of a command.
#[derive(Default)]
pub(super) struct Done {
    findings: Vec<Finding>,
    reads: Ranges,
    writes: Ranges,
    printed: Vec<u8>,
    cost: Option<cost::Command>,
    profile: Option<LaunchProfile>,
}

impl Machine {
    /// Does what the command says. Does not panic.
    pub(super) fn execute(&self, command: &Command) -> Done {
        catch_unwind(AssertUnwindSafe(|| self.attempt(command))).unwrap_or_else(|_| Done {
            findings: vec![report::finding(
                Check::Launch,
                format!("softcuda itself failed in {}: please report it", command.work.name()),
                None,
                String::new(),
            )],
            ..Done::default()
        })
    }

    fn attempt(&self, command: &Command) -> Done {
        match (&command.work, self.error) {
            (Work::Callback(function, stream, data), error) => {
                let status = error.unwrap_or(Status::SUCCESS);
                call(|| {
                    // SAFETY: the program gave the function with this data.
                    unsafe { function(*stream, status, *data as *mut c_void) }
                });
                Done::default()
            }
            (_, Some(_)) => Done::default(),
            (Work::Call(function, data), None) => {
                call(|| {
                    // SAFETY: the program gave the function with this data.
                    unsafe { function(*data as *mut c_void) }
                });
                Done::default()
            }
            (Work::Launch(launch), None) => self.launch(launch, command.ticket.number),
            (work, None) => Done {
                findings: work.move_bytes(&self.memory, self.checks),
                reads: work.reads(),
                writes: work.writes(),
                cost: work.cost(),
                ..Done::default()
            },
        }
    }

    fn launch(&self, work: &LaunchWork, number: u64) -> Done {
        let LaunchWork { kernel, registers, grid, block, shared, parameters } = work;
        let shape = LaunchShape {
            grid: *grid,
            block: *block,
            registers: *registers,
            shared_bytes: kernel.shared_bytes.saturating_add(*shared),
        };
        let profile = |counters, lines| LaunchProfile::new(self.device, &kernel.name, shape, counters, lines);
        if self.skip_launches {
            let profile = profile(Counters::default(), Vec::new());
            let cost = Some(cost::Command::Launch { total_us: profile.cost.total_us });
            return Done { cost, profile: Some(profile), ..Done::default() };
        }
        // Another order in every launch, but for seed 0, which has blocks in the order of their numbers.
        let seed = if self.seed == 0 { 0 } else { self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let launch = Launch {
            kernel,
            grid: *grid,
            block: *block,
            dynamic_shared_bytes: *shared,
            parameters,
            seed,
            checks: self.checks,
            device: self.device,
        };
        let outcome = machine::run(&launch, &self.memory);
        let profile = profile(outcome.counters, outcome.lines);
        let touched = outcome.touched.iter().filter(|_| self.checks.has(Check::Stream));
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for allocation in touched {
            reads.extend(Ranges::from_words(allocation.base, &allocation.read));
            writes.extend(Ranges::from_words(allocation.base, &allocation.written));
        }
        Done {
            findings: outcome.findings,
            reads: reads.into_iter().collect(),
            writes: writes.into_iter().collect(),
            printed: outcome.printed,
            cost: Some(cost::Command::Launch { total_us: profile.cost.total_us }),
            profile: Some(profile),
        }
    }
}

/// Calls the program, which must not call the driver meanwhile.
fn call(function: impl FnOnce()) {
    IN_CALLBACK.set(true);
    function();
    IN_CALLBACK.set(false);
}

impl State {
    /// The next command and what executing it needs.
    pub(super) fn take(&mut self) -> Option<(Command, Machine)> {
        let command = self.queue.take()?;
        let machine = Machine {
            memory: self.memory.clone(),
            checks: self.settings.checks,
            seed: self.settings.seed,
            device: self.device,
            skip_launches: self.settings.skip_launches,
            error: self.contexts.get(&command.context).and_then(|context| context.sticky),
        };
        Some((command, machine))
    }

    /// What follows from a command that has been executed.
    pub(super) fn complete(&mut self, command: &Command, done: Done) {
        let microseconds = done.cost.map_or(0.0, |cost| cost::elapsed_ms(self.device, &[cost]) * 1e3);
        self.queue.complete(command, (microseconds * 1e6).round() as u64);
        self.report.print(&done.printed);
        if let Some(profile) = &done.profile {
            report::profile(&mut self.settings, profile);
        }
        for finding in &done.findings {
            self.found(command.context, finding);
        }
        self.void_host_checks(&done.writes);
        if self.settings.checks.has(Check::Stream) {
            let access = Access {
                ticket: command.ticket.clone(),
                name: command.work.name(),
                place: command.place.clone(),
                reads: done.reads,
                writes: done.writes,
            };
            let memory = &self.memory;
            let described = |at| describe(memory, at);
            if let Some(finding) = self.accesses.add(access, described) {
                self.found(command.context, &finding);
            }
        }
        if let Work::Free(base, _) = command.work {
            self.release(base);
        }
    }

    /// Tells of a finding, which is the context's error from now on if it had none.
    pub fn found(&mut self, context: super::Handle, finding: &Finding) {
        self.report.find(finding);
        if let Some(context) = self.contexts.get_mut(&context) {
            context.sticky.get_or_insert(Status::from(finding.error));
        }
    }

    /// What the host may rightly find changed, as a command wrote it.
    fn void_host_checks(&mut self, writes: &Ranges) {
        if writes.iter().next().is_none_or(|(start, _)| start >= DEVICE_BASE) {
            return;
        }
        for command in self.queue.waiting_mut() {
            if let Work::Copy(copy) = &mut command.work {
                let pinned = matches!(copy.from.place, super::work::Place::Pinned(_));
                if pinned && writes.meets(&copy.ranges(copy.from)).is_some() {
                    copy.staged = None;
                }
                copy.poisoned &= writes.meets(&copy.ranges(copy.to)).is_none();
            }
        }
    }
}

/// Where an address lies.
pub(super) fn describe(memory: &Memory, address: u64) -> String {
    match memory.find(address) {
        Some((base, bytes)) => format!("{} bytes into an allocation of {bytes} bytes", address - base),
        None => String::new(),
    }
}
