//! The CUDA backend: one file a family, formulas in `backend.rs`, kernels in `kernels/`. A family's file checks what its
//! kernels rely on, chooses among them and says how many blocks run; what runs is on the GPU, or in softcuda.

pub mod adam;
pub mod ahead;
pub mod attention;
mod backend;
pub mod contract;
pub mod devices;
pub mod driver;
pub mod elementwise;
pub mod embed;
mod flat;
pub mod kernels;
pub mod loss;
pub mod matmul;
pub mod memory;
pub mod noise;
pub mod norm;
pub mod patch;
pub mod queue;
pub mod sampler;

use std::cell::RefCell;
use std::rc::Rc;

use crate::backend::*;
use crate::error::{Error, Result};

use ahead::Ahead;
use contract::Kind;
use driver::{Driver, Pinned};
use kernels::{Kernels, OLDEST_BF16_CAPABILITY, OLDEST_CAPABILITY};
use memory::{Buffer, Element, Mut, Pool, Ref, Span};
use queue::{Command, Queue};

/// Counters that last blocks are found by; a launch uses the first so many of them, and leaves them at 0.
const COUNTERS: usize = 1 << 16;

/// Steps that may be on the device before the host reads what came of them.
const STEPS_IN_FLIGHT: usize = 8;

/// Bytes of pinned memory for a download, at least: the losses of a step, whatever the batch.
const SMALLEST_PINNED: usize = 4096;

/// How a device is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Number of the device.
    pub ordinal: usize,
    /// What activations are computed in; `None` for bf16 where the device has it.
    pub precision: Option<Precision>,
    /// Whether steps are captured as graphs and replayed.
    pub graphs: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { ordinal: 0, precision: None, graphs: true }
    }
}

/// A GPU as a device. Cloning shares it.
#[derive(Clone)]
pub struct Cuda {
    driver: Rc<Driver>,
    queue: Rc<Queue>,
    kernels: Rc<Kernels>,
    pool: Pool,
    counters: Rc<Buffer>,
    ahead: Rc<RefCell<Ahead>>,
    /// Pinned memory of downloads that were read.
    idle_pinned: Rc<RefCell<Vec<Pinned>>>,
    precision: Precision,
    name: String,
    multiprocessors: u32,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A pointer, 0 for none, or a large count.
    Wide(u64),
    /// A size, a choice.
    Word(u32),
    /// A number.
    Real(f32),
}

impl Arg {
    fn kind(self) -> Kind {
        match self {
            Arg::Wide(_) => Kind::Wide,
            Arg::Word(_) => Kind::Word,
            Arg::Real(_) => Kind::Real,
        }
    }

    fn bits(self) -> u64 {
        match self {
            Arg::Wide(value) => value,
            Arg::Word(value) => value.into(),
            Arg::Real(value) => value.to_bits().into(),
        }
    }

    /// A count of elements.
    pub fn count(count: usize) -> Arg {
        Arg::Wide(count as u64)
    }

    /// A pointer that may be absent.
    pub fn optional(span: Option<&Span>) -> Arg {
        Arg::Wide(span.map_or(0, |span| span.address))
    }
}

impl From<&Span> for Arg {
    fn from(span: &Span) -> Arg {
        Arg::Wide(span.address)
    }
}

impl From<Ref<'_>> for Arg {
    fn from(view: Ref<'_>) -> Arg {
        Arg::Wide(view.address)
    }
}

impl From<&Mut<'_>> for Arg {
    fn from(view: &Mut<'_>) -> Arg {
        Arg::Wide(view.address)
    }
}

impl From<&Buffer> for Arg {
    fn from(buffer: &Buffer) -> Arg {
        Arg::from(buffer.view(0..buffer.len()))
    }
}

impl From<Write> for Arg {
    fn from(write: Write) -> Arg {
        Arg::Word((write == Write::Add).into())
    }
}

impl From<Activation> for Arg {
    fn from(activation: Activation) -> Arg {
        Arg::Word(activation as u32)
    }
}

impl Cuda {
    /// A device of the driver that is loaded.
    ///
    /// # Errors
    /// [`Error::Device`] when there is no driver, no such device, or one too old for the kernels or the precision.
    pub fn open(options: Options) -> Result<Cuda> {
        let devices = driver::device_count()?;
        if options.ordinal >= devices {
            let problem = format!("there is no device {}; the driver has {devices}", options.ordinal);
            return Err(Error::device(problem));
        }
        let driver = Rc::new(Driver::open(options.ordinal)?);
        let (name, capability) = (driver.name()?, driver.capability()?);
        if capability < OLDEST_CAPABILITY {
            let problem =
                format!("{name} has compute capability {}, the kernels need 7.5", decimal(capability));
            return Err(Error::device(problem));
        }
        let best = if capability >= OLDEST_BF16_CAPABILITY { Precision::Bf16 } else { Precision::F32 };
        let precision = options.precision.unwrap_or(best);
        if precision == Precision::Bf16 && best == Precision::F32 {
            let problem = format!(
                "{name} has compute capability {}, bf16 needs 8.0; use --precision f32",
                decimal(capability)
            );
            return Err(Error::device(problem));
        }
        let pool = Pool::new(driver.clone());
        let counters = pool.take(COUNTERS, Element::F32, false)?;
        let multiprocessors = driver.multiprocessors()?;
        let queue = Rc::new(Queue::new(driver.clone(), options.graphs));
        queue.issue(Command::Clear { to: counters.view(0..COUNTERS).address, bytes: COUNTERS * 4 });
        queue.check()?;
        let (kernels, counters) = (Rc::new(Kernels::new(capability)), Rc::new(counters));
        let (ahead, idle_pinned) = (Rc::default(), Rc::default());
        Ok(Cuda {
            driver,
            queue,
            kernels,
            pool,
            counters,
            ahead,
            idle_pinned,
            precision,
            name,
            multiprocessors,
        })
    }

    /// What activations are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// (kernel launches outside of graphs, steps that were one graph launch)
    pub fn launch_counts(&self) -> (u64, u64) {
        self.queue.counts()
    }

    /// Multiprocessors of the device, to choose how finely work is cut.
    ///
    /// Nothing that changes the order of a sum may depend on it: the same bits come from every device of a kind.
    pub fn multiprocessors(&self) -> u32 {
        self.multiprocessors
    }

    /// The element of activations.
    fn activation_element(&self) -> Element {
        match self.precision {
            Precision::F32 => Element::F32,
            Precision::Bf16 => Element::Bf16,
        }
    }

    /// Puts a kernel of the set for `element` on the stream. A launch without blocks is none.
    fn launch(&self, element: Element, name: &str, grid: [usize; 3], arguments: &[Arg]) {
        if grid.contains(&0) || self.queue.has_failed() {
            return;
        }
        let command = self.kernels.get(&self.driver, element, name).and_then(|kernel| {
            let expected = &kernel.contract().parameters;
            let given: Vec<Kind> = arguments.iter().map(|argument| argument.kind()).collect();
            if *expected != given {
                return Err(Error::device(format!("{name}: takes {expected:?}, was given {given:?}")));
            }
            let side = |side: usize| {
                u32::try_from(side)
                    .map_err(|_| Error::device(format!("{name}: a grid of {grid:?} blocks is too large")))
            };
            let grid = [side(grid[0])?, side(grid[1])?, side(grid[2])?];
            let arguments = arguments.iter().map(|argument| argument.bits()).collect();
            Ok(Command::Launch { kernel, grid, arguments })
        });
        match command {
            Ok(command) => self.queue.issue(command),
            Err(error) => self.queue.note(Err(error)),
        }
    }

    /// A number that a family's kernels state for the host; 1 when that fails, which the next launch reports.
    fn constant(&self, element: Element, name: &str) -> usize {
        match self.kernels.constant(&self.driver, element, name) {
            Ok(value) => value as usize,
            Err(error) => {
                self.queue.note(Err(error));
                1
            }
        }
    }

    /// Threads a block of a kernel; 1 when that fails, which the next launch reports.
    fn block(&self, element: Element, name: &str) -> usize {
        match self.kernels.get(&self.driver, element, name) {
            Ok(kernel) => kernel.contract().block as usize,
            Err(error) => {
                self.queue.note(Err(error));
                1
            }
        }
    }

    /// Memory from the pool. When the device has not enough, what waits in the pool goes back to it, after the commands that
    /// may still use it.
    fn take(&self, len: usize, element: Element, half_copy: bool) -> Result<Buffer> {
        self.pool.take(len, element, half_copy).or_else(|error| {
            self.queue.settle();
            if !self.pool.give_up_idle() {
                return Err(error);
            }
            self.pool.take(len, element, half_copy)
        })
    }

    /// f32 memory that a launch needs for itself; it may be dropped as soon as the launch is on the stream.
    fn workspace(&self, len: usize) -> Option<Buffer> {
        match self.take(len, Element::F32, false) {
            Ok(buffer) => Some(buffer),
            Err(error) => {
                self.queue.note(Err(error));
                None
            }
        }
    }

    /// `count` counters at 0, which the kernel leaves at 0.
    fn counters(&self, count: usize) -> Arg {
        if count > COUNTERS {
            self.fail(&format!(
                "{count} sums over several blocks are more than a launch has room for ({COUNTERS}): a smaller train.batch helps"
            ));
        }
        Arg::from(&*self.counters)
    }

    /// A size as an argument.
    fn word(&self, value: usize) -> Arg {
        let word = u32::try_from(value);
        Arg::Word(word.unwrap_or_else(|_| {
            let most = u32::MAX;
            self.fail(&format!(
                "an array of {value} elements is more than the kernels count to ({most}): a smaller train.batch or model.image helps"
            ));
            0
        }))
    }

    /// The address of parameters as a product of `element` reads them: the f32 values or their bf16 copy.
    fn weights(&self, weights: Ref<'_>, element: Element) -> Arg {
        match (element, weights.element, weights.copy) {
            (Element::F32, Element::F32, _) | (Element::Bf16, Element::Bf16, _) => weights.into(),
            (Element::Bf16, Element::F32, Some(copy)) => Arg::Wide(copy),
            _ => {
                self.fail("these parameters have no bf16 copy: they were not made by alloc_weights");
                Arg::Wide(0)
            }
        }
    }

    /// Remembers what went wrong; nothing runs after it, and [`Backend::check`] says what it was.
    fn fail(&self, problem: &str) {
        self.queue.note(Err(Error::device(problem)));
    }

    fn upload_span(&self, to: &Span, from: &[f32]) {
        assert_eq!(to.len, from.len(), "an upload copies equal lengths");
        if from.is_empty() {
            return;
        }
        if let Some(address) = self.ahead.borrow_mut().take(from) {
            self.queue.issue(Command::Copy { to: to.address, from: address, bytes: to.bytes() });
            return;
        }
        self.queue.issue(Command::Upload { to: to.address, bytes: memory::encode(from, to.element) });
        if let Some(copy) = to.copy {
            self.queue.issue(Command::Upload { to: copy, bytes: memory::encode(from, Element::Bf16) });
        }
    }
}

/// 75 is 7.5.
fn decimal(capability: u32) -> String {
    format!("{}.{}", capability / 10, capability % 10)
}
