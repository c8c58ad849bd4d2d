//! What a command does.

use std::ffi::c_void;
use std::sync::Arc;

use super::Handle;
use super::host;
use super::ranges::Ranges;
use super::report::finding;
use super::status::Status;
use crate::checks::{Check, Checks, Finding};
use crate::machine::memory::Memory;
use crate::model::cost;
use crate::module::Kernel;

/// One end of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Device memory.
    Device(u64),
    /// Host memory that the device can address: pinned, registered or managed.
    Pinned(u64),
    /// Any other host memory.
    Pageable(u64),
}

impl Place {
    /// The address.
    pub fn address(self) -> u64 {
        match self {
            Place::Device(address) | Place::Pinned(address) | Place::Pageable(address) => address,
        }
    }

    /// The same kind of place at another address.
    pub fn at(self, address: u64) -> Place {
        match self {
            Place::Device(_) => Place::Device(address),
            Place::Pinned(_) => Place::Pinned(address),
            Place::Pageable(_) => Place::Pageable(address),
        }
    }
}

/// One end of a copy and how its rows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Its first byte.
    pub place: Place,
    /// Bytes from one row to the next.
    pub pitch: u64,
    /// Bytes from one slice to the next.
    pub slice: u64,
}

/// A copy of rows of bytes, one, two or three-dimensional.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Where to.
    pub to: Side,
    /// Where from.
    pub from: Side,
    /// Bytes of a row.
    pub width: u64,
    /// Rows of a slice.
    pub rows: u64,
    /// Slices.
    pub slices: u64,
    /// What lay in pageable memory when the copy was given, or in pinned memory, which must not change.
    pub staged: Option<Vec<u8>>,
    /// Whether the pinned destination was filled with [`host::POISON`] when the copy was given.
    pub poisoned: bool,
}

impl Copy {
    /// Of consecutive bytes.
    pub fn line(to: Place, from: Place, bytes: u64) -> Copy {
        let side = |place| Side { place, pitch: bytes, slice: bytes };
        Copy {
            to: side(to),
            from: side(from),
            width: bytes,
            rows: 1,
            slices: 1,
            staged: None,
            poisoned: false,
        }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.width * self.rows * self.slices
    }

    /// The first byte of each row.
    fn starts(&self, side: Side) -> impl Iterator<Item = u64> {
        let (rows, slices) = (self.rows, self.slices);
        (0..slices).flat_map(move |slice| {
            (0..rows).map(move |row| side.place.address() + slice * side.slice + row * side.pitch)
        })
    }

    /// The bytes at one end, as ranges of addresses.
    pub fn ranges(&self, side: Side) -> Ranges {
        self.starts(side).map(|start| (start, start + self.width)).collect()
    }

    fn execute(&self, memory: &Memory, checks: Checks) -> Result<(), Box<Finding>> {
        let rows = self.starts(self.to).zip(self.starts(self.from));
        for (row, (to, from)) in rows.enumerate() {
            let part = row * self.width as usize..(row + 1) * self.width as usize;
            match (self.to.place, self.from.place, &self.staged) {
                (Place::Device(_), Place::Device(_), _) => memory.copy(to, from, self.width)?,
                (Place::Device(_), Place::Pageable(_), Some(staged)) => memory.write(to, &staged[part])?,
                (Place::Device(_), _, _) => memory.write(to, host::bytes(from, self.width))?,
                (_, Place::Device(_), _) => memory.read(from, host::bytes_mut(to, self.width), checks)?,
                (_, Place::Pageable(_), Some(staged)) => {
                    host::bytes_mut(to, self.width).copy_from_slice(&staged[part]);
                }
                _ => {
                    let bytes = host::bytes(from, self.width).to_vec();
                    host::bytes_mut(to, self.width).copy_from_slice(&bytes);
                }
            }
        }
        Ok(())
    }

    /// What the host did to pinned memory between the call and now.
    fn host_finding(&self) -> Option<Finding> {
        let changed = |what: &str, address: u64| {
            finding(
                Check::Host,
                what.to_string(),
                Some(address),
                format!("pinned host memory at {address:#x}"),
            )
        };
        if let (Place::Pinned(_), Some(staged)) = (self.from.place, &self.staged) {
            let mut rows = self.starts(self.from).zip(staged.chunks(self.width.max(1) as usize));
            if let Some((at, _)) = rows.find(|(at, row)| host::bytes(*at, self.width) != *row) {
                return Some(changed("the host changed the source of a copy that was still pending", at));
            }
        }
        if self.poisoned {
            let mut rows = self.starts(self.to);
            let touched = |at: &u64| host::bytes(*at, self.width).iter().any(|&byte| byte != host::POISON);
            if let Some(at) = rows.find(touched) {
                return Some(changed(
                    "the host wrote to the destination of a copy that was still pending",
                    at,
                ));
            }
        }
        None
    }
}

/// A fill of rows with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The first byte.
    pub to: u64,
    /// Bytes from one row to the next.
    pub pitch: u64,
    /// The pattern.
    pub value: u32,
    /// How many of its bytes count: 1, 2 or 4.
    pub element: u32,
    /// Elements of a row.
    pub width: u64,
    /// Rows.
    pub rows: u64,
}

impl Fill {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.width * u64::from(self.element) * self.rows
    }

    /// The bytes, as ranges of addresses.
    pub fn ranges(&self) -> Ranges {
        let bytes = self.width * u64::from(self.element);
        (0..self.rows).map(|row| self.to + row * self.pitch).map(|start| (start, start + bytes)).collect()
    }
}

/// A launch, checked.
#[derive(Clone)]
pub struct LaunchWork {
    /// The kernel.
    pub kernel: Arc<Kernel>,
    /// Its registers as ptxas allotted them, for the cost model.
    pub registers: Option<u32>,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory, bytes.
    pub shared: u32,
    /// The parameters, as the kernel sees them.
    pub parameters: Vec<u8>,
}

/// `CUhostFn`
pub type HostFunction = unsafe extern "C" fn(*mut c_void);
/// `CUstreamCallback`
pub type StreamCallback = unsafe extern "C" fn(usize, Status, *mut c_void);

/// What a command does.
#[derive(Clone)]
pub enum Work {
    /// Nothing: events, joins.
    Nothing,
    /// Runs a kernel.
    Launch(LaunchWork),
    /// Copies.
    Copy(Copy),
    /// Fills device memory.
    Fill(Fill),
    /// Calls the program (`cuLaunchHostFunc`).
    Call(HostFunction, usize),
    /// Calls the program, also after an error (`cuStreamAddCallback`): function, stream, data.
    Callback(StreamCallback, usize, usize),
    /// Memory becomes usable: base and bytes.
    Allocate(u64, u64),
    /// Memory is freed: base and bytes.
    Free(u64, u64),
    /// Graph-owned memory ends its life in a launch of the graph: base and bytes.
    GraphFree(u64, u64),
    /// Records an event (graphs only).
    Record(Handle),
    /// Waits for an event (graphs only).
    Wait(Handle),
}

impl Work {
    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Work::Nothing | Work::Record(_) | Work::Wait(_) => "an event".to_string(),
            Work::Launch(launch) => format!("kernel {}", launch.kernel.name),
            Work::Copy(copy) => {
                let way = match (copy.to.place, copy.from.place) {
                    (Place::Device(_), Place::Device(_)) => "on the device",
                    (Place::Device(_), _) => "to the device",
                    (_, Place::Device(_)) => "to the host",
                    _ => "on the host",
                };
                format!("a copy of {} bytes {way}", copy.bytes())
            }
            Work::Fill(fill) => format!("a memset of {} bytes", fill.bytes()),
            Work::Call(..) | Work::Callback(..) => "a host function".to_string(),
            Work::Allocate(_, bytes) => format!("the allocation of {bytes} bytes"),
            Work::Free(_, bytes) | Work::GraphFree(_, bytes) => format!("the free of {bytes} bytes"),
        }
    }

    /// Whether it calls the program.
    pub fn is_call(&self) -> bool {
        matches!(self, Work::Call(..) | Work::Callback(..))
    }

    /// What the clock of events sees; `None` for what takes no time.
    pub fn cost(&self) -> Option<cost::Command> {
        match self {
            Work::Copy(copy) => Some(match (copy.to.place, copy.from.place) {
                (Place::Device(_), Place::Device(_)) => cost::Command::DeviceCopy { bytes: copy.bytes() },
                _ => cost::Command::HostCopy { bytes: copy.bytes() },
            }),
            Work::Fill(fill) => Some(cost::Command::Fill { bytes: fill.bytes() }),
            _ => None,
        }
    }

    /// The addresses that it reads, as far as they are known beforehand: all but a kernel's.
    pub fn reads(&self) -> Ranges {
        match self {
            Work::Copy(copy) if !matches!(copy.from.place, Place::Pageable(_)) => copy.ranges(copy.from),
            _ => Ranges::default(),
        }
    }

    /// The addresses that it writes, as far as they are known beforehand.
    pub fn writes(&self) -> Ranges {
        match self {
            Work::Copy(copy) if !matches!(copy.to.place, Place::Pageable(_)) => copy.ranges(copy.to),
            Work::Fill(fill) => fill.ranges(),
            Work::Allocate(base, bytes) | Work::Free(base, bytes) | Work::GraphFree(base, bytes) => {
                [(*base, base + bytes)].into_iter().collect()
            }
            _ => Ranges::default(),
        }
    }

    /// Moves the bytes of copies and fills; nothing for everything else.
    ///
    /// # Errors
    /// What the memory found, or what the host did to pinned memory meanwhile.
    pub fn move_bytes(&self, memory: &Memory, checks: Checks) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self {
            Work::Copy(copy) => {
                findings.extend(copy.host_finding().filter(|_| checks.has(Check::Host)));
                findings.extend(copy.execute(memory, checks).err().map(|finding| *finding));
            }
            Work::Fill(fill) => {
                let pattern = &fill.value.to_le_bytes()[..fill.element as usize];
                let rows = (0..fill.rows).map(|row| fill.to + row * fill.pitch);
                findings.extend(
                    rows.filter_map(|to| memory.fill(to, pattern, fill.width).err())
                        .map(|finding| *finding)
                        .next(),
                );
            }
            _ => {}
        }
        findings
    }
}
