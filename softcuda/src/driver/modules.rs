//! Modules, libraries and their functions.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::Arc;

use super::{Driver, Handle, State, Status};
use crate::model::devices::Device;
use crate::module::{Kernel, LoadError, Module};

/// A module that has been loaded.
pub struct LoadedModule {
    /// Its context; a library's is that in which it was loaded.
    pub context: Handle,
    /// What is in it.
    pub module: Module,
    /// The handles of its functions.
    functions: HashMap<String, Handle>,
}

/// A function of a module.
pub struct Function {
    /// Its module.
    pub module: Handle,
    /// What it does.
    pub kernel: Arc<Kernel>,
    /// Registers of a thread as ptxas allotted them; `None` where nobody said.
    pub registers: Option<u32>,
    /// Its name.
    pub name: CString,
    /// Dynamic shared memory that launches may have, bytes.
    pub max_dynamic_shared: u32,
    /// `CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT`
    pub carveout: i32,
}

impl Function {
    /// Threads that a block may have: by the kernel's own bound and by its registers.
    pub fn max_threads(&self) -> u32 {
        let kernel = &self.kernel;
        let bound = kernel.required_threads.or(kernel.max_threads);
        let bound = bound.map_or(Device::MAX_THREADS_PER_BLOCK, |extents| {
            extents.iter().fold(1u32, |product, extent| product.saturating_mul((*extent).max(1)))
        });
        bound.min(Device::MAX_THREADS_PER_BLOCK).min(self.most_threads_by_registers())
    }

    /// Threads of a block whose registers an SM has: whole warps, registers in multiples of 256 a warp. All that there
    /// can be where nobody said how many registers there are.
    pub fn most_threads_by_registers(&self) -> u32 {
        let Some(registers) = self.registers else { return Device::MAX_THREADS_PER_BLOCK };
        let per_warp = (registers.max(1).saturating_mul(Device::WARP_SIZE))
            .checked_next_multiple_of(Device::REGISTER_GRANULARITY)
            .unwrap_or(u32::MAX);
        Device::REGISTERS_PER_SM / per_warp * Device::WARP_SIZE
    }

    /// Registers of a thread, estimated where nobody said.
    pub fn estimated_registers(&self) -> u32 {
        self.registers.unwrap_or(self.kernel.registers)
    }
}

impl State {
    /// A module by its handle.
    pub fn module(&self, handle: Handle) -> Result<&LoadedModule, Status> {
        self.modules.get(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// A function by its handle.
    pub fn function(&mut self, handle: Handle) -> Result<&mut Function, Status> {
        self.functions.get_mut(&handle).ok_or(Status::ERROR_INVALID_HANDLE)
    }

    /// `cuModuleGetFunction`: the same handle each time.
    pub fn function_of(&mut self, module: Handle, name: &str) -> Result<Handle, Status> {
        let loaded = self.module(module)?;
        if let Some(function) = loaded.functions.get(name) {
            return Ok(*function);
        }
        let kernel = loaded.module.kernel(name).ok_or(Status::ERROR_NOT_FOUND)?;
        let handle = self.new_handle();
        let registers = self.settings.registers.get(name).copied();
        let function = Function {
            module,
            registers,
            name: CString::new(name).map_err(|_| Status::ERROR_NOT_FOUND)?,
            max_dynamic_shared: Device::SHARED_PER_BLOCK_BYTES.saturating_sub(kernel.shared_bytes),
            carveout: -1,
            kernel,
        };
        self.functions.insert(handle, function);
        if let Some(loaded) = self.modules.get_mut(&module) {
            loaded.functions.insert(name.to_string(), handle);
        }
        Ok(handle)
    }

    /// Takes a module away. Nothing that is pending may use its variables.
    pub fn unload_module(&mut self, handle: Handle) -> Result<(), Status> {
        let loaded = self.modules.remove(&handle).ok_or(Status::ERROR_INVALID_HANDLE)?;
        loaded.functions.values().for_each(|function| _ = self.functions.remove(function));
        loaded.module.unload(&self.memory);
        Ok(())
    }
}

impl Driver {
    /// Loads PTX; the state is not locked meanwhile.
    ///
    /// # Errors
    /// Why not, with the text of the log.
    pub fn load_module(&'static self, ptx: &[u8]) -> Result<Handle, (Status, String)> {
        let plain = |status| (status, String::new());
        let (memory, device, context) = self
            .in_context(|state, context| Ok((state.memory.clone(), state.device, context)))
            .map_err(plain)?;
        let loaded = Module::load(ptx, device, &memory);
        let module = loaded.map_err(|LoadError { failure, log }| (Status::from(failure), log))?;
        self.in_context(|state, _| {
            let handle = state.new_handle();
            state.modules.insert(handle, LoadedModule { context, module, functions: HashMap::new() });
            Ok(handle)
        })
        .map_err(plain)
    }

    /// `cuModuleUnload`, `cuLibraryUnload`: waits for everything pending.
    ///
    /// # Errors
    /// `ERROR_INVALID_HANDLE`
    pub fn unload_module(&'static self, handle: Handle) -> Result<(), Status> {
        let context = self.in_context(|state, _| Ok(state.module(handle)?.context))?;
        self.drain_context(context);
        self.in_context(|state, _| state.unload_module(handle))
    }
}
