//! The driver behind the entry points: devices, contexts, memory, streams, graphs.
//!
//! Everything that is given to a stream waits in a [`queue::Queue`]. It is executed when the program waits for something,
//! on the thread that waits, in an order that the seed chooses among those that CUDA allows.
//!
//! | | |
//! |---|---|
//! | `settings`, `status`, `report` | the environment; the error codes; what users are told |
//! | `clock`, `queue`, `random` | which command is behind which; what waits; what comes next |
//! | `work`, `execute` | what commands do |
//! | `contexts`, `streams`, `events` | what commands are given to |
//! | `captures`, `graphs` | commands that are recorded first |
//! | `memory`, `host`, `pools` | device memory; pinned memory; stream-ordered memory |
//! | `modules`, `launches` | kernels and the limits of their launches |
//! | `conflicts`, `ranges` | the stream check |

pub mod captures;
pub mod clock;
pub mod conflicts;
pub mod contexts;
pub mod events;
mod execute;
pub mod graphs;
pub mod host;
pub mod launches;
pub mod memory;
pub mod modules;
pub mod pools;
pub mod queue;
pub mod random;
pub mod ranges;
pub mod report;
pub mod settings;
pub mod status;
pub mod streams;
pub mod work;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::machine::memory::Memory;
use crate::model::devices::Device;
use settings::Settings;
pub use status::Status;

/// What programs hold of an object. No pointer to anything: it only looks like one.
pub type Handle = usize;

/// Device addresses begin here, above everything that the host can address.
pub const DEVICE_BASE: u64 = 1 << 48;
/// Commands that may wait before the driver executes some without being asked, as a real one blocks when its rings
/// are full.
const MOST_WAITING: usize = 1024;

/// All that the driver knows.
pub struct State {
    /// The environment.
    pub settings: Settings,
    /// The device.
    pub device: &'static Device,
    /// Its memory.
    pub memory: Arc<Memory>,
    /// Commands that wait.
    pub queue: queue::Queue,
    /// For the stream check.
    pub accesses: conflicts::Accesses,
    /// For the user.
    pub report: report::Report,
    /// The contexts.
    pub contexts: HashMap<Handle, contexts::Context>,
    /// The primary context.
    pub primary: contexts::Primary,
    /// The streams, default ones included.
    pub streams: HashMap<Handle, streams::Stream>,
    /// The events.
    pub events: HashMap<Handle, events::Event>,
    /// The modules and libraries.
    pub modules: HashMap<Handle, modules::LoadedModule>,
    /// The functions and kernels.
    pub functions: HashMap<Handle, modules::Function>,
    /// The graphs, those of captures under way included.
    pub graphs: HashMap<Handle, graphs::Graph>,
    /// The graph that each node is in.
    pub nodes: HashMap<Handle, Handle>,
    /// The graphs that can be launched.
    pub executables: HashMap<Handle, graphs::Executable>,
    /// The captures under way.
    pub captures: HashMap<u64, captures::Capture>,
    /// Device memory, by its first address.
    pub allocations: BTreeMap<u64, memory::Allocation>,
    /// Host memory that the device can address, by its first address.
    pub pinned: BTreeMap<u64, host::Pinned>,
    /// The memory pools.
    pub pools: HashMap<Handle, pools::Pool>,
    /// The device's default pool and the one in use.
    pub default_pool: Handle,
    /// The pool that `cuMemAllocAsync` takes from.
    pub current_pool: Handle,
    next_handle: Handle,
    next_id: u64,
}

impl State {
    fn new(settings: Settings) -> State {
        let device = settings.device;
        let mut state = State {
            memory: Arc::new(Memory::new(device.total_memory_bytes)),
            queue: queue::Queue::new(settings.seed),
            device,
            settings,
            accesses: conflicts::Accesses::default(),
            report: report::Report::default(),
            contexts: HashMap::new(),
            primary: contexts::Primary::default(),
            streams: HashMap::new(),
            events: HashMap::new(),
            modules: HashMap::new(),
            functions: HashMap::new(),
            graphs: HashMap::new(),
            nodes: HashMap::new(),
            executables: HashMap::new(),
            captures: HashMap::new(),
            allocations: BTreeMap::new(),
            pinned: BTreeMap::new(),
            pools: HashMap::new(),
            default_pool: 0,
            current_pool: 0,
            next_handle: 0,
            next_id: 0,
        };
        state.default_pool = state.create_pool(true);
        state.current_pool = state.default_pool;
        state
    }

    /// A handle that no object has or had. Aligned like a pointer, small values (which name default streams) left out.
    pub fn new_handle(&mut self) -> Handle {
        self.next_handle += 1;
        0x5cda_0000_0000 + self.next_handle * 16
    }

    /// A number that no stream, context or capture has or had.
    pub fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// The driver of this process.
pub struct Driver {
    state: Mutex<Option<State>>,
    /// Told whenever a command has been executed.
    executed: Condvar,
}

/// The one there is.
pub static DRIVER: Driver = Driver { state: Mutex::new(None), executed: Condvar::new() };

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

impl Driver {
    /// `cuInit`: reads the environment, the first time.
    pub fn initialise(&self) -> Result<(), Status> {
        if IN_CALLBACK.get() {
            return Err(Status::ERROR_NOT_PERMITTED);
        }
        let mut state = self.lock();
        if state.is_none() {
            let settings = Settings::from_environment().map_err(|error| {
                report::line(&error);
                Status::ERROR_INVALID_VALUE
            })?;
            *state = Some(State::new(settings));
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a command has been executed.
    fn wait_for_another<'a>(&self, state: MutexGuard<'a, Option<State>>) -> MutexGuard<'a, Option<State>> {
        self.executed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, as if the process had just begun. What is pending is dropped.
    pub fn reset(&self) {
        let mut state = self.lock();
        while state.as_ref().is_some_and(|state| state.queue.is_running()) {
            state = self.wait_for_another(state);
        }
        if let Some(mut state) = state.take() {
            let pinned: Vec<u64> = state.pinned.keys().copied().collect();
            pinned.into_iter().for_each(|address| state.unpin(address));
        }
    }

    /// Something with the state.
    ///
    /// # Errors
    /// Before `cuInit`, and in callbacks of streams, which must not call the driver.
    pub fn with<T>(&self, action: impl FnOnce(&mut State) -> Result<T, Status>) -> Result<T, Status> {
        if IN_CALLBACK.get() {
            return Err(Status::ERROR_NOT_PERMITTED);
        }
        action(self.lock().as_mut().ok_or(Status::ERROR_NOT_INITIALIZED)?)
    }

    /// Something in the current context.
    ///
    /// # Errors
    /// As [`Driver::with`], without a current context, and the sticky error of the context.
    pub fn in_context<T>(
        &self,
        action: impl FnOnce(&mut State, Handle) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.with(|state| {
            let context = state.current_context()?;
            state.sound(context)?;
            action(state, context)
        })
    }

    /// What the state says, where there is one.
    pub fn peek<T>(&self, look: impl FnOnce(&State) -> T) -> Option<T> {
        self.lock().as_ref().map(look)
    }

    /// Executes what waits until `done`, or until nothing waits. Shows what kernels have printed.
    pub fn drain(&'static self, done: impl Fn(&State) -> bool) {
        while self.step(&done, true) {}
        if let Some(state) = self.lock().as_mut() {
            state.report.flush();
        }
    }

    /// Executes one command, unless `done`; `false` if there was nothing to do. Where another thread is executing one,
    /// waits for that or answers `false`.
    fn step(&'static self, done: impl Fn(&State) -> bool, patient: bool) -> bool {
        let mut guard = self.lock();
        let Some(state) = guard.as_mut() else { return false };
        if done(state) {
            return false;
        }
        let Some((command, machine)) = state.take() else {
            let wait = patient && state.queue.is_running();
            if wait {
                drop(self.wait_for_another(guard));
            }
            return wait;
        };
        drop(guard);
        // The program's own functions have a thread of their own: they may wait for what the caller does next.
        if command.work.is_call() {
            let shared = Arc::new((command, machine));
            let own = shared.clone();
            if thread::Builder::new().spawn(move || self.execute(&own.0, &own.1)).is_err() {
                self.execute(&shared.0, &shared.1);
            }
        } else {
            self.execute(&command, &machine);
        }
        true
    }

    fn execute(&self, command: &queue::Command, machine: &execute::Machine) {
        let done = machine.execute(command);
        if let Some(state) = self.lock().as_mut() {
            state.complete(command, done);
        }
        self.executed.notify_all();
    }

    /// Executes some of what waits when too much does.
    pub fn relieve(&'static self) {
        let few = |state: &State| state.queue.len() <= MOST_WAITING;
        while !IN_CALLBACK.get() && self.peek(few) == Some(false) && self.step(few, true) {}
    }
}
