//! Temporary: replaced by the real machine at merge.
#![allow(missing_docs, unsafe_code)]
use crate::checks::{Checks, Finding};
use crate::model::counters::Counters;
use crate::model::devices::Device;
use crate::model::profile::LineCount;
use crate::module::Kernel;
use memory::Memory;

pub struct Launch<'a> {
    pub kernel: &'a Kernel,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub dynamic_shared_bytes: u32,
    pub parameters: &'a [u8],
    pub seed: u64,
    pub checks: Checks,
    pub device: &'static Device,
}
#[derive(Default)]
pub struct Outcome {
    pub counters: Counters,
    pub lines: Vec<LineCount>,
    pub findings: Vec<Finding>,
    pub touched: Vec<Touched>,
    pub printed: Vec<u8>,
}
pub struct Touched {
    pub base: u64,
    pub read: Vec<u64>,
    pub written: Vec<u64>,
}
/// Only `fill_seven(pointer, words)` does something: writes 7 to the words.
pub fn run(launch: &Launch<'_>, memory: &Memory) -> Outcome {
    let mut outcome = Outcome::default();
    if launch.kernel.name != "fill_seven" {
        return outcome;
    }
    let to = u64::from_le_bytes(launch.parameters[..8].try_into().unwrap());
    let words = u32::from_le_bytes(launch.parameters[8..12].try_into().unwrap());
    if let Err(finding) = memory.fill(to, &7u32.to_le_bytes(), u64::from(words)) {
        outcome.findings.push(finding);
        return outcome;
    }
    let (base, _) = memory.find(to).unwrap();
    let mut written = vec![0; ((to - base) / 4 + u64::from(words)).div_ceil(64) as usize];
    for word in (to - base) / 4..(to - base) / 4 + u64::from(words) {
        written[word as usize / 64] |= 1 << (word % 64);
    }
    outcome.touched.push(Touched { base, read: Vec::new(), written });
    outcome
}

pub mod memory {
    use super::{Checks, Finding};
    use crate::checks::{Check, DeviceError};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Kind {
        Device,
        Host,
        Module,
        Constant,
    }
    #[derive(Default)]
    struct State {
        live: BTreeMap<u64, (Vec<u8>, Vec<bool>)>,
        host: BTreeMap<u64, u64>,
        next: u64,
        used: u64,
        peak: u64,
    }
    pub struct Memory {
        capacity: u64,
        state: Mutex<State>,
    }
    impl Memory {
        pub fn new(capacity: u64) -> Memory {
            Memory { capacity, state: Mutex::new(State { next: 1 << 48, ..State::default() }) }
        }
        pub fn allocate(&self, bytes: u64, _kind: Kind) -> Option<u64> {
            let mut state = self.state.lock().unwrap();
            let whole = bytes.next_multiple_of(512);
            if state.used + whole > self.capacity {
                return None;
            }
            let base = state.next;
            state.next += whole + 512;
            state.used += whole;
            state.peak = state.peak.max(state.used);
            state.live.insert(base, (vec![0xcb; bytes as usize], vec![false; bytes as usize]));
            Some(base)
        }
        /// # Safety
        /// valid until released
        pub unsafe fn register_host(&self, pointer: *mut u8, bytes: u64) {
            self.state.lock().unwrap().host.insert(pointer as u64, bytes);
        }
        pub fn release(&self, address: u64) -> bool {
            let mut state = self.state.lock().unwrap();
            if state.host.remove(&address).is_some() {
                return true;
            }
            let Some((bytes, _)) = state.live.remove(&address) else { return false };
            state.used -= (bytes.len() as u64).next_multiple_of(512);
            true
        }
        pub fn find(&self, address: u64) -> Option<(u64, u64)> {
            let state = self.state.lock().unwrap();
            let live =
                state.live.range(..=address).next_back().map(|(base, data)| (*base, data.0.len() as u64));
            let host = state.host.range(..=address).next_back().map(|(base, bytes)| (*base, *bytes));
            [live, host].into_iter().flatten().find(|(base, bytes)| address < base + bytes)
        }
        fn range(&self, at: u64, bytes: u64, what: &str) -> Result<u64, Finding> {
            match self.find(at) {
                Some((base, size)) if at + bytes <= base + size => Ok(base),
                _ => Err(finding(Check::Memory, DeviceError::IllegalAddress, what.to_string(), at)),
            }
        }
        pub fn write(&self, to: u64, bytes: &[u8]) -> Result<(), Finding> {
            let base = self.range(to, bytes.len() as u64, "write")?;
            if to < 1 << 47 {
                unsafe { std::ptr::copy(bytes.as_ptr(), to as *mut u8, bytes.len()) };
                return Ok(());
            }
            let mut state = self.state.lock().unwrap();
            let (data, written) = state.live.get_mut(&base).unwrap();
            let at = (to - base) as usize;
            data[at..at + bytes.len()].copy_from_slice(bytes);
            written[at..at + bytes.len()].fill(true);
            Ok(())
        }
        pub fn read(&self, from: u64, into: &mut [u8], checks: Checks) -> Result<(), Finding> {
            let base = self.range(from, into.len() as u64, "read")?;
            if from < 1 << 47 {
                unsafe { std::ptr::copy(from as *const u8, into.as_mut_ptr(), into.len()) };
                return Ok(());
            }
            let state = self.state.lock().unwrap();
            let (data, written) = &state.live[&base];
            let at = (from - base) as usize;
            into.copy_from_slice(&data[at..at + into.len()]);
            if checks.has(Check::Init) && written[at..at + into.len()].contains(&false) {
                return Err(finding(Check::Init, DeviceError::LaunchFailed, "uninitialised".into(), from));
            }
            Ok(())
        }
        pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), Finding> {
            let mut buffer = vec![0; bytes as usize];
            self.read(from, &mut buffer, Checks::none())?;
            self.write(to, &buffer)
        }
        pub fn fill(&self, to: u64, pattern: &[u8], count: u64) -> Result<(), Finding> {
            self.write(to, &pattern.repeat(count as usize))
        }
        pub fn used(&self) -> u64 {
            self.state.lock().unwrap().used
        }
        pub fn peak(&self) -> u64 {
            self.state.lock().unwrap().peak
        }
        pub fn capacity(&self) -> u64 {
            self.capacity
        }
    }
    fn finding(check: Check, error: DeviceError, what: String, address: u64) -> Finding {
        Finding {
            check,
            error,
            what,
            kernel: String::new(),
            place: String::new(),
            other_place: String::new(),
            block: None,
            thread: None,
            address: Some(address),
            allocation: String::new(),
        }
    }
}
