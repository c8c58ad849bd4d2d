//! Modules: PTX text to kernels that can be launched, with variables in device memory.

use std::collections::HashMap;
use std::sync::Arc;

use crate::lower::{self, Symbol, Variables, align};
use crate::machine::memory::{Kind, Memory};
use crate::model::devices::Device;
use crate::ptx::ast::{self, Linkage, Space};

pub use crate::program::{Kernel, Parameter};

/// The newest PTX that a driver for CUDA 12.8 takes.
const NEWEST_VERSION: (u32, u32) = (9, 0);

/// Why a module cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadFailure {
    /// The text is not PTX: `CUDA_ERROR_INVALID_PTX`.
    InvalidPtx,
    /// Its version is newer than the driver: `CUDA_ERROR_UNSUPPORTED_PTX_VERSION`.
    UnsupportedVersion,
    /// Its target is newer than the device: `CUDA_ERROR_NO_BINARY_FOR_GPU`.
    NoBinaryForTarget,
    /// Its variables do not fit: `CUDA_ERROR_OUT_OF_MEMORY`.
    OutOfMemory,
    /// It needs something that nobody defines: `CUDA_ERROR_NOT_FOUND`.
    NotFound,
}

/// The same with the text of the JIT log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{log}")]
pub struct LoadError {
    /// Why.
    pub failure: LoadFailure,
    /// What the driver writes to the error log: `ptx, line 7; error: ...`.
    pub log: String,
}

/// A module that has been loaded.
pub struct Module {
    kernels: Vec<Arc<Kernel>>,
    globals: HashMap<String, (u64, u64)>,
    allocations: Vec<u64>,
}

fn failure(failure: LoadFailure, line: u32, message: &str) -> LoadError {
    LoadError { failure, log: format!("ptx, line {line}; error: {message}") }
}

impl Module {
    /// Parses, places variables in memory, lowers every entry. An entry that holds an instruction that is not supported is
    /// loaded; to launch it is an error that names the instruction.
    ///
    /// # Errors
    /// [`LoadError`].
    pub fn load(text: &[u8], device: &'static Device, memory: &Memory) -> Result<Module, LoadError> {
        let module = crate::ptx::parse(text).map_err(|error| {
            let message = format!("{} (column {})", error.message, error.column);
            failure(LoadFailure::InvalidPtx, error.line, &message)
        })?;
        let (major, minor) = module.version;
        if module.version > NEWEST_VERSION {
            let message =
                format!("PTX version {major}.{minor} is newer than 9.0, the newest that this driver takes");
            return Err(failure(LoadFailure::UnsupportedVersion, 1, &message));
        }
        let capability = (device.major * 10 + device.minor) as u32;
        let exact = module.target_suffix == Some('a') && module.target != capability;
        if module.target > capability || exact {
            let suffix = module.target_suffix.map(String::from).unwrap_or_default();
            let message = format!(
                "the module is for sm_{}{suffix}, and {} has compute capability {}.{}",
                module.target, device.name, device.major, device.minor
            );
            return Err(failure(LoadFailure::NoBinaryForTarget, 1, &message));
        }
        let mut loaded = Module { kernels: Vec::new(), globals: HashMap::new(), allocations: Vec::new() };
        match loaded.place(&module, memory) {
            Ok(variables) => {
                let entries =
                    module.functions.iter().filter(|function| function.is_entry && function.body.is_some());
                loaded.kernels =
                    entries.map(|entry| Arc::new(lower::kernel(&module, entry, &variables))).collect();
                Ok(loaded)
            }
            Err(error) => {
                loaded.unload(memory);
                Err(error)
            }
        }
    }

    /// Gives the module's variables their places.
    fn place(&mut self, module: &ast::Module, memory: &Memory) -> Result<Variables, LoadError> {
        let mut variables = Variables { symbols: HashMap::new(), shared_bytes: 0, constant_bytes: 0 };
        let mut dynamic = Vec::new();
        for variable in &module.variables {
            let bytes = variable.bytes.unwrap_or(0);
            match variable.space {
                Space::Shared if variable.linkage == Linkage::Extern || variable.bytes.is_none() => {
                    dynamic.push(variable);
                }
                Space::Shared => {
                    let at = align(variables.shared_bytes, variable.align);
                    variables.shared_bytes = at.saturating_add(bytes);
                    variables.symbols.insert(variable.name.clone(), Symbol::Variable(Space::Shared, at));
                }
                Space::Global | Space::Const => {
                    if variable.linkage == Linkage::Extern {
                        let message = format!("`{}` is declared and not defined", variable.name);
                        return Err(failure(LoadFailure::NotFound, variable.position.ptx_line, &message));
                    }
                    let constant = variable.space == Space::Const;
                    let kind = if constant { Kind::Constant } else { Kind::Module };
                    let name = format!("variable `{}`", variable.name);
                    let address = memory.allocate_named(bytes, kind, &name).ok_or_else(|| {
                        let message = format!("no memory is left for `{}` ({bytes} bytes)", variable.name);
                        failure(LoadFailure::OutOfMemory, variable.position.ptx_line, &message)
                    })?;
                    self.allocations.push(address);
                    self.globals.insert(variable.name.clone(), (address, bytes));
                    variables.constant_bytes += if constant { bytes } else { 0 };
                    variables
                        .symbols
                        .insert(variable.name.clone(), Symbol::Variable(variable.space, address));
                }
                _ => {}
            }
        }
        // Where dynamic shared memory begins differs from kernel to kernel.
        for variable in dynamic {
            variables.symbols.insert(variable.name.clone(), Symbol::Variable(Space::Shared, DYNAMIC));
        }
        self.initialise(module, &variables, memory)?;
        Ok(variables)
    }

    /// Writes initial values, addresses among them.
    fn initialise(
        &self,
        module: &ast::Module,
        variables: &Variables,
        memory: &Memory,
    ) -> Result<(), LoadError> {
        for variable in &module.variables {
            let Some(&(address, bytes)) = self.globals.get(&variable.name) else { continue };
            if variable.init.is_empty() && variable.relocations.is_empty() {
                continue;
            }
            let mut image = vec![0u8; bytes as usize];
            let length = variable.init.len().min(image.len());
            image[..length].copy_from_slice(&variable.init[..length]);
            for relocation in &variable.relocations {
                let target = match variables.symbols.get(&relocation.symbol) {
                    Some(&Symbol::Variable(_, target)) => Some(target),
                    _ => function_address(module, &relocation.symbol),
                };
                let target = target.ok_or_else(|| {
                    let message = format!("`{}` is not declared", relocation.symbol);
                    failure(LoadFailure::InvalidPtx, variable.position.ptx_line, &message)
                })?;
                let value = target.wrapping_add_signed(relocation.addend).to_le_bytes();
                let at = relocation.offset as usize;
                if let Some(place) = image.get_mut(at..at + 8) {
                    place.copy_from_slice(&value);
                }
            }
            memory.write(address, &image).map_err(|finding| {
                failure(LoadFailure::InvalidPtx, variable.position.ptx_line, &finding.to_string())
            })?;
        }
        Ok(())
    }

    /// The entry of a name.
    pub fn kernel(&self, name: &str) -> Option<Arc<Kernel>> {
        self.kernels.iter().find(|kernel| kernel.name == name).cloned()
    }

    /// All entries, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &Arc<Kernel>> {
        self.kernels.iter()
    }

    /// Address and bytes of a variable in global or constant memory.
    pub fn global(&self, name: &str) -> Option<(u64, u64)> {
        self.globals.get(name).copied()
    }

    /// Gives the variables' memory back.
    pub fn unload(&self, memory: &Memory) {
        for &address in &self.allocations {
            memory.release(address);
        }
    }
}

/// Stands for the start of dynamic shared memory until the kernel's static part is known.
pub(crate) const DYNAMIC: u64 = 1 << 40;

/// Addresses of functions: nothing lies there.
const FUNCTIONS: u64 = 1 << 53;

/// What stands for a function where its address is taken.
pub(crate) fn function_address(module: &ast::Module, name: &str) -> Option<u64> {
    let index = module.functions.iter().position(|function| function.name == name && !function.is_entry)?;
    Some(FUNCTIONS + 16 * index as u64)
}
