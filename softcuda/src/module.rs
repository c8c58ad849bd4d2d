//! Temporary: replaced by the real loader at merge.
#![allow(missing_docs)]
use crate::machine::memory::{Kind, Memory};
use crate::model::devices::Device;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    InvalidPtx,
    UnsupportedVersion,
    NoBinaryForTarget,
    OutOfMemory,
    NotFound,
}
#[derive(Debug)]
pub struct LoadError {
    pub failure: LoadFailure,
    pub log: String,
}
#[derive(Clone, Debug)]
pub struct Parameter {
    pub offset: u32,
    pub bytes: u32,
    pub align: u32,
}
#[derive(Clone, Debug)]
pub struct Kernel {
    pub name: String,
    pub parameters: Vec<Parameter>,
    pub parameter_bytes: u32,
    pub shared_bytes: u32,
    pub local_bytes: u32,
    pub constant_bytes: u32,
    pub max_threads: Option<[u32; 3]>,
    pub required_threads: Option<[u32; 3]>,
    pub registers: u32,
    pub target: u32,
    pub version: (u32, u32),
}
pub struct Module {
    kernels: BTreeMap<String, Arc<Kernel>>,
    globals: BTreeMap<String, (u64, u64)>,
}
impl Module {
    /// Reads lines `entry NAME parameter sizes... [max=N] [req=N] [shared=N] [regs=N]` and `global NAME BYTES`.
    pub fn load(ptx: &[u8], device: &'static Device, memory: &Memory) -> Result<Module, LoadError> {
        let fail = |failure, log: &str| Err(LoadError { failure, log: log.to_string() });
        let text = std::str::from_utf8(ptx).unwrap_or_default();
        let mut module = Module { kernels: BTreeMap::new(), globals: BTreeMap::new() };
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["target", n] if n.parse::<i32>().unwrap_or(0) > device.major * 10 + device.minor => {
                    return fail(LoadFailure::NoBinaryForTarget, "a newer target");
                }
                ["target", ..] | [] => {}
                ["global", name, bytes] => {
                    let bytes = bytes.parse().unwrap();
                    let address = memory.allocate(bytes, Kind::Module).unwrap();
                    module.globals.insert((*name).to_string(), (address, bytes));
                }
                ["entry", name, rest @ ..] => {
                    let mut kernel = Kernel {
                        name: (*name).to_string(),
                        parameters: Vec::new(),
                        parameter_bytes: 0,
                        shared_bytes: 0,
                        local_bytes: 0,
                        constant_bytes: 0,
                        max_threads: None,
                        required_threads: None,
                        registers: 32,
                        target: 80,
                        version: (7, 8),
                    };
                    for word in rest {
                        match word.split_once('=') {
                            Some(("max", n)) => kernel.max_threads = Some([n.parse().unwrap(), 1, 1]),
                            Some(("req", n)) => kernel.required_threads = Some([n.parse().unwrap(), 1, 1]),
                            Some(("shared", n)) => kernel.shared_bytes = n.parse().unwrap(),
                            Some(("regs", n)) => kernel.registers = n.parse().unwrap(),
                            _ => {
                                let bytes: u32 = word.parse().unwrap();
                                let offset = kernel.parameter_bytes.next_multiple_of(bytes);
                                kernel.parameters.push(Parameter { offset, bytes, align: bytes });
                                kernel.parameter_bytes = offset + bytes;
                            }
                        }
                    }
                    module.kernels.insert((*name).to_string(), Arc::new(kernel));
                }
                _ => return fail(LoadFailure::InvalidPtx, "line 1: no PTX"),
            }
        }
        Ok(module)
    }
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.get(name).cloned()
    }
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.values()
    }
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }
    pub fn unload(&self, memory: &Memory) {
        for (address, _) in self.globals.values() {
            memory.release(*address);
        }
    }
}
