//! What a launch may ask for, and how its parameters are read.

#![allow(unsafe_code)] // reads parameters where the program says they are

use std::ffi::c_void;

use super::modules::Function;
use super::work::LaunchWork;
use super::{Handle, State, Status, host, report};
use crate::checks::Check;
use crate::model::devices::Device;
use crate::model::occupancy::{BlockNeeds, occupancy};

/// What a program asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// The function.
    pub function: Handle,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory, bytes.
    pub shared: u32,
    /// `kernelParams`
    pub parameters: *mut *mut c_void,
    /// `extra`
    pub extra: *mut *mut c_void,
    /// Whether all blocks must run at the same time.
    pub cooperative: bool,
}

/// Bytes of parameters, at most.
const MOST_PARAMETERS: u32 = 4096;
/// The same for kernels of PTX 8.1 and later on capability 7.0 and later.
const MOST_PARAMETERS_NEWER: u32 = 32_764;

impl State {
    /// Checks a launch against the limits of the device and the kernel, and reads its parameters.
    ///
    /// # Errors
    /// What the driver gives, with a line for the user.
    pub fn prepare_launch(&mut self, request: &Request) -> Result<LaunchWork, Status> {
        let device = self.device;
        let context = self.current_context()?;
        let module = self.function(request.function)?.module;
        if self.module(module)?.context != context {
            return Err(Status::ERROR_INVALID_HANDLE);
        }
        let told = self.settings.checks.has(Check::Launch);
        let function = self.function(request.function)?;
        let refused = |(status, why): (Status, String)| {
            if told {
                report::line(&format!("launch check: {why}, in a launch of {}", function.kernel.name));
            }
            status
        };
        limits(device, function, request).map_err(refused)?;
        let parameters = read_parameters(function, request).map_err(refused)?;
        Ok(LaunchWork {
            kernel: function.kernel.clone(),
            registers: function.registers,
            grid: request.grid,
            block: request.block,
            shared: request.shared,
            parameters,
        })
    }
}

/// What is wrong with the shape of a launch.
fn limits(device: &Device, function: &Function, request: &Request) -> Result<(), (Status, String)> {
    let Request { grid, block, shared, .. } = *request;
    let kernel = &function.kernel;
    let invalid = |why: String| Err((Status::ERROR_INVALID_VALUE, why));
    for (name, extents, most) in [("grid", grid, Device::MAX_GRID), ("block", block, Device::MAX_BLOCK)] {
        for (axis, (extent, most)) in "xyz".chars().zip(extents.into_iter().zip(most)) {
            if extent == 0 || extent > most {
                return invalid(format!("the {name} is {extent} along {axis}, the limit is 1 to {most}"));
            }
        }
    }
    let threads = block.iter().map(|extent| u64::from(*extent)).product::<u64>();
    if threads > u64::from(Device::MAX_THREADS_PER_BLOCK) {
        return invalid(format!(
            "a block has {threads} threads, the limit is {}",
            Device::MAX_THREADS_PER_BLOCK
        ));
    }
    if let Some(required) = kernel.required_threads
        && required != block
    {
        return invalid(format!("a block is {block:?} threads, the kernel requires {required:?}"));
    }
    if let Some(most) = kernel.max_threads {
        let most = most.iter().map(|extent| u64::from((*extent).max(1))).product::<u64>();
        if threads > most {
            return invalid(format!("a block has {threads} threads, the kernel's bound is {most}"));
        }
    }
    if shared > function.max_dynamic_shared {
        let allowed = function.max_dynamic_shared;
        return invalid(format!(
            "{shared} bytes of dynamic shared memory, {allowed} are allowed: \
             CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES raises that up to {}",
            device.shared_per_block_optin_bytes.saturating_sub(kernel.shared_bytes)
        ));
    }
    let resources = |why: String| Err((Status::ERROR_LAUNCH_OUT_OF_RESOURCES, why));
    let most = function.most_threads_by_registers();
    if threads > u64::from(most) {
        let registers = function.estimated_registers();
        return resources(format!("{threads} threads of {registers} registers, an SM has them for {most}"));
    }
    if request.cooperative {
        let needs = BlockNeeds {
            threads: threads as u32,
            registers: function.estimated_registers(),
            shared_bytes: kernel.shared_bytes.saturating_add(shared),
        };
        let blocks = grid.iter().map(|extent| u64::from(*extent)).product::<u64>();
        let most = u64::from(occupancy(device, needs).blocks_per_sm) * u64::from(device.sm_count);
        if blocks > most {
            return Err((
                Status::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE,
                format!("{blocks} blocks must run at the same time, the device holds {most}"),
            ));
        }
    }
    Ok(())
}

/// `CU_LAUNCH_PARAM_BUFFER_POINTER`
const BUFFER_POINTER: usize = 1;
/// `CU_LAUNCH_PARAM_BUFFER_SIZE`
const BUFFER_SIZE: usize = 2;

/// The parameters as the kernel sees them, from either form.
fn read_parameters(function: &Function, request: &Request) -> Result<Vec<u8>, (Status, String)> {
    let kernel = &function.kernel;
    let invalid = |why: String| (Status::ERROR_INVALID_VALUE, why);
    let most = if kernel.version >= (8, 1) { MOST_PARAMETERS_NEWER } else { MOST_PARAMETERS };
    if kernel.parameter_bytes > most {
        return Err(invalid(format!("{} bytes of parameters, the limit is {most}", kernel.parameter_bytes)));
    }
    if !request.parameters.is_null() && !request.extra.is_null() {
        return Err(invalid("both kernelParams and extra are given".to_string()));
    }
    let mut buffer = vec![0; kernel.parameter_bytes as usize];
    if !request.extra.is_null() {
        let (pointer, bytes) = buffer_of(request.extra)
            .ok_or_else(|| invalid("extra holds no buffer of parameters".to_string()))?;
        let given = host::bytes(pointer as u64, bytes as u64);
        // Programs leave out padding at the end; what the last parameter needs must be there.
        let needed = kernel.parameters.last().map_or(0, |last| (last.offset + last.bytes) as usize);
        if given.len() < needed {
            return Err(invalid(format!("{} bytes of parameters are given, {needed} needed", given.len())));
        }
        let common = given.len().min(buffer.len());
        buffer[..common].copy_from_slice(&given[..common]);
        return Ok(buffer);
    }
    if request.parameters.is_null() && !kernel.parameters.is_empty() {
        return Err(invalid(format!("no parameters are given, the kernel has {}", kernel.parameters.len())));
    }
    for (index, parameter) in kernel.parameters.iter().enumerate() {
        // SAFETY: the program gives as many pointers as the kernel has parameters.
        let pointer = unsafe { *request.parameters.add(index) };
        if pointer.is_null() {
            return Err(invalid(format!("parameter {index} is a null pointer")));
        }
        let (start, bytes) = (parameter.offset as usize, parameter.bytes as usize);
        buffer[start..start + bytes].copy_from_slice(host::bytes(pointer as u64, bytes as u64));
    }
    Ok(buffer)
}

/// The buffer that `extra` describes: pointer and bytes.
fn buffer_of(extra: *mut *mut c_void) -> Option<(usize, usize)> {
    let (mut pointer, mut bytes) = (None, None);
    for at in 0..8 {
        // SAFETY: the program ends the list with CU_LAUNCH_PARAM_END, and gives a value behind each other word.
        let (key, value) = unsafe {
            let key = *extra.add(2 * at) as usize;
            if key == 0 {
                break;
            }
            (key, *extra.add(2 * at + 1) as usize)
        };
        match key {
            BUFFER_POINTER => pointer = Some(value),
            // SAFETY: the value is the address of the size.
            BUFFER_SIZE => bytes = (value != 0).then(|| unsafe { *(value as *const usize) }),
            _ => return None,
        }
    }
    Some((pointer.filter(|&pointer| pointer != 0 || bytes == Some(0))?, bytes?))
}
