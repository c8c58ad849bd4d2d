//! Functions and their attributes, and occupancy.

use std::ffi::{c_char, c_int, c_uint, c_void};

use super::{answer, answer_if_wanted, wanted};
use crate::driver::modules::Function;
use crate::driver::{DRIVER, Handle, Status};
use crate::model::devices::Device;
use crate::model::occupancy::{BlockNeeds, max_potential_block_size, occupancy};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
const MAX_DYNAMIC_SHARED: c_uint = 8;
/// `CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT`
const CARVEOUT: c_uint = 9;

pub(super) unsafe fn get_attribute(
    value: *mut c_int,
    attribute: c_uint,
    function: Handle,
) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let device = state.device;
        let function = state.function(function)?;
        let kernel = &function.kernel;
        let found = match attribute {
            0 => function.max_threads() as c_int,
            1 => kernel.shared_bytes as c_int,
            2 => kernel.constant_bytes as c_int,
            3 => kernel.local_bytes as c_int,
            4 => function.estimated_registers() as c_int,
            5 => kernel.target as c_int,
            6 => device.major * 10 + device.minor,
            MAX_DYNAMIC_SHARED => function.max_dynamic_shared as c_int,
            CARVEOUT => function.carveout,
            7 | 10..=15 => 0,
            _ => return Err(Status::ERROR_INVALID_VALUE),
        };
        // SAFETY: as the program says.
        unsafe { answer(value, found) }
    })
}

pub(super) fn set_attribute(function: Handle, attribute: c_uint, value: c_int) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let device = state.device;
        let function = state.function(function)?;
        match attribute {
            MAX_DYNAMIC_SHARED => {
                let most = device.shared_per_block_optin_bytes.saturating_sub(function.kernel.shared_bytes);
                let value = u32::try_from(value).ok().filter(|&value| value <= most);
                function.max_dynamic_shared = value.ok_or(Status::ERROR_INVALID_VALUE)?;
            }
            CARVEOUT if (-1..=100).contains(&value) => function.carveout = value,
            // Clusters larger than portable; how clusters are scheduled.
            14 | 15 if device.major >= 9 => {}
            _ => return Err(Status::ERROR_INVALID_VALUE),
        }
        Ok(())
    })
}

pub(super) fn set_cache_config(function: Handle, config: c_uint) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        state.function(function)?;
        if config > 3 { Err(Status::ERROR_INVALID_VALUE) } else { Ok(()) }
    })
}

fn needs(function: &Function, threads: u32, dynamic_shared: usize) -> BlockNeeds {
    let dynamic = u32::try_from(dynamic_shared).unwrap_or(u32::MAX);
    let shared_bytes = function.kernel.shared_bytes.saturating_add(dynamic);
    BlockNeeds { threads, registers: function.estimated_registers(), shared_bytes }
}

/// Blocks of a function that an SM holds.
unsafe fn active_blocks(
    blocks: *mut c_int,
    function: Handle,
    threads: c_int,
    dynamic_shared: usize,
) -> Result<(), Status> {
    DRIVER.in_context(|state, _| {
        let device = state.device;
        let function = state.function(function)?;
        let threads = u32::try_from(threads).ok().filter(|&threads| threads > 0);
        let threads = threads.ok_or(Status::ERROR_INVALID_VALUE)?;
        let fits = threads <= function.max_threads();
        let found =
            if fits { occupancy(device, needs(function, threads, dynamic_shared)).blocks_per_sm } else { 0 };
        // SAFETY: as the program says.
        unsafe { answer(blocks, found as c_int) }
    })
}

/// `CUoccupancyB2DSize`
type DynamicShared = Option<unsafe extern "C" fn(c_int) -> usize>;

unsafe fn potential_block_size(
    grid: *mut c_int,
    block: *mut c_int,
    function: Handle,
    by_threads: DynamicShared,
    dynamic_shared: usize,
    limit: c_int,
) -> Result<(), Status> {
    wanted(grid)?;
    wanted(block)?;
    let (device, kernel, registers, most) = DRIVER.in_context(|state, _| {
        let device = state.device;
        let function = state.function(function)?;
        Ok((device, function.kernel.clone(), function.estimated_registers(), function.max_threads()))
    })?;
    let limit = u32::try_from(limit).map_err(|_| Status::ERROR_INVALID_VALUE)?;
    let limit = if limit == 0 { most } else { limit.min(most) };
    // Not under the lock: the program's own function is called.
    let shared = |threads: u32| {
        // SAFETY: the program's function takes a number of threads.
        let dynamic = by_threads.map_or(dynamic_shared, |size| unsafe { size(threads as c_int) });
        kernel.shared_bytes.saturating_add(u32::try_from(dynamic).unwrap_or(u32::MAX))
    };
    let (blocks, threads) = max_potential_block_size(device, registers, shared, limit);
    // SAFETY: as the program says.
    unsafe {
        answer(grid, blocks as c_int)?;
        answer(block, threads as c_int)
    }
}

/// The most dynamic shared memory at which so many blocks fit an SM.
fn available_dynamic_shared(
    device: &Device,
    function: &Function,
    blocks: u32,
    threads: u32,
) -> Option<usize> {
    let fits = |dynamic: usize| occupancy(device, needs(function, threads, dynamic)).blocks_per_sm >= blocks;
    let most = device.shared_per_block_optin_bytes.saturating_sub(function.kernel.shared_bytes) as usize;
    if !fits(0) {
        return None;
    }
    let (mut low, mut high) = (0, most + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    Some(low)
}

entry_points! {
    fn cuFuncGetAttribute(value: *mut c_int, attribute: c_uint, function: Handle) {
        get_attribute(value, attribute, function)
    }

    fn cuFuncSetAttribute(function: Handle, attribute: c_uint, value: c_int) {
        set_attribute(function, attribute, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, config: c_uint) {
        set_cache_config(function, config)
    }

    fn cuFuncSetSharedMemConfig(function: Handle, config: c_uint) {
        set_cache_config(function, config)
    }

    fn cuFuncGetName(name: *mut *const c_char, function: Handle) = cuKernelGetName {
        DRIVER.in_context(|state, _| answer(name, state.function(function)?.name.as_ptr()))
    }

    fn cuFuncGetModule(module: *mut Handle, function: Handle) {
        DRIVER.in_context(|state, _| answer(module, state.function(function)?.module))
    }

    fn cuFuncGetParamInfo(
        function: Handle,
        index: usize,
        offset: *mut usize,
        bytes: *mut usize,
    ) = cuKernelGetParamInfo {
        DRIVER.in_context(|state, _| {
            let kernel = &state.function(function)?.kernel;
            let parameter = kernel.parameters.get(index).ok_or(Status::ERROR_INVALID_VALUE)?;
            answer(offset, parameter.offset as usize)?;
            answer_if_wanted(bytes, parameter.bytes as usize);
            Ok(())
        })
    }

    fn cuFuncIsLoaded(state: *mut c_uint, function: Handle) {
        DRIVER.in_context(|driver, _| {
            driver.function(function)?;
            answer(state, 1)
        })
    }

    fn cuFuncLoad(function: Handle) {
        DRIVER.in_context(|state, _| state.function(function).map(drop))
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        blocks: *mut c_int,
        function: Handle,
        threads: c_int,
        dynamic_shared: usize,
    ) {
        active_blocks(blocks, function, threads, dynamic_shared)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        blocks: *mut c_int,
        function: Handle,
        threads: c_int,
        dynamic_shared: usize,
        _flags: c_uint,
    ) {
        active_blocks(blocks, function, threads, dynamic_shared)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        grid: *mut c_int,
        block: *mut c_int,
        function: Handle,
        by_threads: DynamicShared,
        dynamic_shared: usize,
        limit: c_int,
    ) {
        potential_block_size(grid, block, function, by_threads, dynamic_shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        grid: *mut c_int,
        block: *mut c_int,
        function: Handle,
        by_threads: DynamicShared,
        dynamic_shared: usize,
        limit: c_int,
        _flags: c_uint,
    ) {
        potential_block_size(grid, block, function, by_threads, dynamic_shared, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        bytes: *mut usize,
        function: Handle,
        blocks: c_int,
        threads: c_int,
    ) {
        DRIVER.in_context(|state, _| {
            let device = state.device;
            let function = state.function(function)?;
            let count = |count: c_int| u32::try_from(count).ok().filter(|&count| count > 0);
            let (blocks, threads) = count(blocks).zip(count(threads)).ok_or(Status::ERROR_INVALID_VALUE)?;
            let available = available_dynamic_shared(device, function, blocks, threads);
            answer(bytes, available.ok_or(Status::ERROR_INVALID_VALUE)?)
        })
    }

    fn cuOccupancyMaxActiveClusters(_clusters: *mut c_int, _function: Handle, _configuration: *const c_void) {
        DRIVER.in_context(|_, _| Err(Status::ERROR_NOT_SUPPORTED))
    }

    fn cuOccupancyMaxPotentialClusterSize(_size: *mut c_int, _function: Handle, _configuration: *const c_void) {
        DRIVER.in_context(|_, _| Err(Status::ERROR_NOT_SUPPORTED))
    }
}
