//! What is put on the stream, and when.
//!
//! Outside of a step every command runs at once. In a step commands are collected first. When a step's commands are those
//! of an earlier step (the same kernels with the same arguments: the pool hands out the same addresses in the same order),
//! they are captured as a CUDA graph, and from then on a step is one launch. What differs from step to step comes in
//! through uploads, which the graph reads from pinned memory. Two graphs take turns, so that the host can fill one's pinned
//! memory while the other runs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::driver::{Driver, Event, Graph, Kernel, Pinned};
use crate::error::{Error, Result};

/// Something for the device to do.
pub enum Command {
    /// Run a kernel.
    Launch {
        /// The kernel.
        kernel: Rc<Kernel>,
        /// Blocks.
        grid: [u32; 3],
        /// The bits of its arguments.
        arguments: Vec<u64>,
    },
    /// Host to device.
    Upload {
        /// Address.
        to: u64,
        /// What to write there.
        bytes: Vec<u8>,
    },
    /// Device to device.
    Copy {
        /// Address.
        to: u64,
        /// Address.
        from: u64,
        /// How many.
        bytes: usize,
    },
    /// Zero memory.
    Clear {
        /// Address.
        to: u64,
        /// How many.
        bytes: usize,
    },
}

impl Command {
    /// Whether a graph that has the one can stand for the other: all but the contents of uploads is equal.
    fn same(&self, other: &Command) -> bool {
        match (self, other) {
            (
                Command::Launch { kernel, grid, arguments },
                Command::Launch { kernel: other_kernel, grid: other_grid, arguments: other_arguments },
            ) => Rc::ptr_eq(kernel, other_kernel) && grid == other_grid && arguments == other_arguments,
            (Command::Upload { to, bytes }, Command::Upload { to: other_to, bytes: other_bytes }) => {
                to == other_to && bytes.len() == other_bytes.len()
            }
            (
                Command::Copy { to, from, bytes },
                Command::Copy { to: other_to, from: other_from, bytes: other_bytes },
            ) => (to, from, bytes) == (other_to, other_from, other_bytes),
            (Command::Clear { to, bytes }, Command::Clear { to: other_to, bytes: other_bytes }) => {
                (to, bytes) == (other_to, other_bytes)
            }
            _ => false,
        }
    }
}

fn same(some: &[Command], others: &[Command]) -> bool {
    some.len() == others.len() && some.iter().zip(others).all(|(one, other)| one.same(other))
}

/// A step as a graph.
struct Captured {
    graph: Graph,
    commands: Vec<Command>,
    uploads: Pinned,
    /// When the launch before is done, and the pinned memory may be filled again.
    done: Option<Event>,
}

/// The commands of a device.
pub struct Queue {
    driver: Rc<Driver>,
    /// Whether commands are collected: inside of a step, until something has to be known on the host.
    collecting: Cell<bool>,
    pending: RefCell<Vec<Command>>,
    /// Of each turn, what it issued last.
    previous: RefCell<[Vec<Command>; 2]>,
    graphs: RefCell<[Option<Captured>; 2]>,
    turn: Cell<usize>,
    /// Steps are captured at all; off in tests that compare.
    graphs_wanted: bool,
    rehearsing: bool,
    replays: Cell<u64>,
    launches: Cell<u64>,
    /// The first thing that went wrong; nothing runs after it.
    failed: RefCell<Option<String>>,
}

impl Queue {
    /// An empty queue.
    pub fn new(driver: Rc<Driver>, graphs_wanted: bool) -> Queue {
        Queue {
            driver,
            collecting: Cell::new(false),
            pending: RefCell::default(),
            previous: RefCell::default(),
            graphs: RefCell::default(),
            turn: Cell::new(0),
            graphs_wanted,
            rehearsing: false,
            replays: Cell::new(0),
            launches: Cell::new(0),
            failed: RefCell::default(),
        }
    }

    /// A queue that drops everything.
    pub fn rehearsing(driver: Rc<Driver>) -> Queue {
        Queue { rehearsing: true, ..Queue::new(driver, false) }
    }

    /// Whether nothing runs.
    pub fn is_rehearsing(&self) -> bool {
        self.rehearsing
    }

    /// Runs a command, or keeps it for the end of the step.
    pub fn issue(&self, command: Command) {
        if self.rehearsing || self.failed.borrow().is_some() {
            return;
        }
        if self.collecting.get() {
            self.pending.borrow_mut().push(command);
        } else {
            self.note(self.run(&command));
        }
    }

    /// Remembers the first failure.
    pub fn note(&self, outcome: Result<()>) {
        if let Err(error) = outcome {
            self.failed.borrow_mut().get_or_insert(error.to_string());
        }
    }

    /// The first failure, if any.
    pub fn check(&self) -> Result<()> {
        match &*self.failed.borrow() {
            None => Ok(()),
            Some(problem) => Err(Error::Device { problem: problem.clone() }),
        }
    }

    /// Whether something went wrong: the device's memory is worth nothing then.
    pub fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    /// Runs what was collected, because the host has to see a result; the rest of the step is not collected.
    pub fn settle(&self) {
        self.collecting.set(false);
        let pending = self.pending.take();
        self.run_all(&pending);
    }

    /// Runs a step: collects its commands while `work` runs, then puts them on the stream.
    pub fn step(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.collecting.set(self.graphs_wanted);
        let outcome = work();
        if !self.collecting.replace(false) {
            // Eager, or settled half-way.
            self.pending.take();
            return outcome.and(self.check());
        }
        let pending = self.pending.take();
        match outcome {
            Err(error) => Err(error),
            Ok(()) => {
                self.note(self.run_step(pending));
                self.check()
            }
        }
    }

    /// (kernel launches outside of graphs, steps that were one graph launch)
    pub fn counts(&self) -> (u64, u64) {
        (self.launches.get(), self.replays.get())
    }

    fn run_step(&self, pending: Vec<Command>) -> Result<()> {
        let turn = self.turn.replace(1 - self.turn.get());
        let captured = &mut self.graphs.borrow_mut()[turn];
        if captured.as_ref().is_none_or(|captured| !same(&captured.commands, &pending)) {
            let previous = &mut self.previous.borrow_mut()[turn];
            if !same(previous, &pending) {
                *captured = None;
                self.run_all(&pending);
                *previous = pending;
                return Ok(());
            }
            *captured = Some(self.capture(std::mem::take(previous))?);
        }
        let captured = captured.as_mut().expect("captured just now, or before");
        captured.fill(&pending)?;
        captured.graph.launch()?;
        captured.done = Some(self.driver.event()?);
        self.replays.set(self.replays.get() + 1);
        Ok(())
    }

    /// The commands as a graph; of uploads only place and length matter.
    fn capture(&self, commands: Vec<Command>) -> Result<Captured> {
        let uploads = self.driver.pinned(commands.iter().map(Command::upload_bytes).sum())?;
        let graph = self.driver.capture(|| {
            let mut offset = 0;
            for command in &commands {
                match command {
                    Command::Upload { to, bytes } => {
                        self.driver.copy_pinned(*to, &uploads, offset, bytes.len())?;
                        offset += command.upload_bytes();
                    }
                    other => self.run(other)?,
                }
            }
            Ok(())
        })?;
        Ok(Captured { graph, commands, uploads, done: None })
    }

    fn run_all(&self, commands: &[Command]) {
        for command in commands {
            if self.has_failed() {
                return;
            }
            self.note(self.run(command));
        }
    }

    fn run(&self, command: &Command) -> Result<()> {
        match command {
            Command::Launch { kernel, grid, arguments } => {
                self.launches.set(self.launches.get() + 1);
                self.driver.launch(kernel, *grid, arguments)
            }
            Command::Upload { to, bytes } => self.driver.copy_to_device(*to, bytes),
            Command::Copy { to, from, bytes } => self.driver.copy_within(*to, *from, *bytes),
            Command::Clear { to, bytes } => self.driver.set_bytes(*to, 0, *bytes),
        }
    }
}

impl Captured {
    /// Puts the content of this step's uploads into the pinned memory, when the graph no longer reads it.
    fn fill(&mut self, commands: &[Command]) -> Result<()> {
        if let Some(done) = self.done.take() {
            done.wait()?;
        }
        let mut offset = 0;
        for command in commands {
            if let Command::Upload { bytes, .. } = command {
                self.uploads.bytes_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
                offset += command.upload_bytes();
            }
        }
        Ok(())
    }
}

/// Uploads start at multiples of this in pinned memory.
const UPLOAD_ALIGN: usize = 256;

impl Command {
    fn upload_bytes(&self) -> usize {
        match self {
            Command::Upload { bytes, .. } => bytes.len().next_multiple_of(UPLOAD_ALIGN),
            _ => 0,
        }
    }
}
