//! `cuDeviceGetAttribute` by number, for every device. The numbers are CUDA 12.8's `CUdevice_attribute`.

use super::devices::Device;

impl Device {
    /// `cuDeviceGetAttribute`, by the numbers of CUDA 12.8. `None` for a number that CUDA 12.8 does not have: the driver
    /// answers `CUDA_ERROR_INVALID_VALUE`.
    pub fn attribute(&self, attribute: i32) -> Option<i32> {
        limit(self, attribute)
            .or_else(|| texture(attribute))
            .or_else(|| surface(attribute))
            .or_else(|| hardware(self, attribute))
            .or_else(|| feature(self, attribute))
    }
}

/// Attributes about launches and on-chip resources.
fn limit(device: &Device, attribute: i32) -> Option<i32> {
    let value = match attribute {
        1 => Device::MAX_THREADS_PER_BLOCK,
        2..=4 => Device::MAX_BLOCK[attribute as usize - 2],
        5..=7 => Device::MAX_GRID[attribute as usize - 5],
        8 => Device::SHARED_PER_BLOCK_BYTES,
        9 => Device::CONSTANT_BYTES,
        10 => Device::WARP_SIZE,
        11 => 0x7fff_ffff,                 // MAX_PITCH
        12 => Device::REGISTERS_PER_SM,    // MAX_REGISTERS_PER_BLOCK
        16 => device.sm_count,             // MULTIPROCESSOR_COUNT
        39 => device.max_threads_per_sm(), // MAX_THREADS_PER_MULTIPROCESSOR
        81 => device.shared_per_sm_bytes,  // MAX_SHARED_MEMORY_PER_MULTIPROCESSOR
        82 => Device::REGISTERS_PER_SM,    // MAX_REGISTERS_PER_MULTIPROCESSOR
        97 => device.shared_per_block_optin_bytes,
        106 => device.max_blocks_per_sm, // MAX_BLOCKS_PER_MULTIPROCESSOR
        111 => device.shared_reserved_per_block_bytes,
        _ => return None,
    };
    Some(value as i32)
}

/// Attributes about textures: the same for every capability from 6.0 on (`deviceQuery` logs of all four; those that it
/// does not show from a dump of `cudaDeviceProp` on capability 7.5).
fn texture(attribute: i32) -> Option<i32> {
    Some(match attribute {
        14 => 512,              // TEXTURE_ALIGNMENT
        21 => 131_072,          // TEXTURE1D_WIDTH
        22 => 131_072,          // TEXTURE2D_WIDTH
        23 => 65_536,           // TEXTURE2D_HEIGHT
        24..=26 => 16_384,      // TEXTURE3D_WIDTH, HEIGHT, DEPTH
        27 | 28 => 32_768,      // TEXTURE2D_LAYERED_WIDTH, HEIGHT
        29 => 2048,             // TEXTURE2D_LAYERED_LAYERS
        42 => 32_768,           // TEXTURE1D_LAYERED_WIDTH
        43 => 2048,             // TEXTURE1D_LAYERED_LAYERS
        44 => 1,                // CAN_TEX2D_GATHER
        45 | 46 => 32_768,      // TEXTURE2D_GATHER_WIDTH, HEIGHT
        47 | 48 => 8192,        // TEXTURE3D_WIDTH_ALTERNATE, HEIGHT_ALTERNATE
        49 => 32_768,           // TEXTURE3D_DEPTH_ALTERNATE
        51 => 32,               // TEXTURE_PITCH_ALIGNMENT
        52 | 53 => 32_768,      // TEXTURECUBEMAP_WIDTH, LAYERED_WIDTH
        54 => 2046,             // TEXTURECUBEMAP_LAYERED_LAYERS
        69 => 268_435_456,      // TEXTURE1D_LINEAR_WIDTH
        70 => 131_072,          // TEXTURE2D_LINEAR_WIDTH
        71 => 65_000,           // TEXTURE2D_LINEAR_HEIGHT
        72 => 2_097_120,        // TEXTURE2D_LINEAR_PITCH
        73 | 74 | 77 => 32_768, // TEXTURE2D_MIPMAPPED_WIDTH, HEIGHT, TEXTURE1D_MIPMAPPED_WIDTH
        _ => return None,
    })
}

/// Attributes about surfaces; source as for textures.
fn surface(attribute: i32) -> Option<i32> {
    Some(match attribute {
        30 => 512,         // SURFACE_ALIGNMENT
        55 => 32_768,      // SURFACE1D_WIDTH
        56 => 131_072,     // SURFACE2D_WIDTH
        57 => 65_536,      // SURFACE2D_HEIGHT
        58..=60 => 16_384, // SURFACE3D_WIDTH, HEIGHT, DEPTH
        61 => 32_768,      // SURFACE1D_LAYERED_WIDTH
        62 => 2048,        // SURFACE1D_LAYERED_LAYERS
        63 | 64 => 32_768, // SURFACE2D_LAYERED_WIDTH, HEIGHT
        65 => 2048,        // SURFACE2D_LAYERED_LAYERS
        66 | 67 => 32_768, // SURFACECUBEMAP_WIDTH, LAYERED_WIDTH
        68 => 2046,        // SURFACECUBEMAP_LAYERED_LAYERS
        _ => return None,
    })
}

/// Attributes about the chip and the board.
fn hardware(device: &Device, attribute: i32) -> Option<i32> {
    Some(match attribute {
        13 => device.sm_clock_khz as i32,
        18 => 0, // INTEGRATED
        32 => i32::from(device.ecc),
        33 => 1,      // PCI_BUS_ID: one device, the first slot
        34 | 50 => 0, // PCI_DEVICE_ID (the slot, not the model), PCI_DOMAIN_ID
        36 => device.memory_clock_khz as i32,
        37 => device.bus_width_bits as i32,
        38 => device.l2_bytes as i32,
        40 => device.async_engines as i32,
        75 => device.major,
        76 => device.minor,
        84 | 85 => 0, // MULTI_GPU_BOARD, its group
        87 => device.single_to_double_ratio,
        108 => device.persisting_l2_bytes as i32,
        109 => device.access_window_bytes as i32,
        130 => 0,  // NUMA_CONFIG: none
        131 => -1, // NUMA_ID: no node of its own
        134 => 0,  // HOST_NUMA_ID
        139 => device.pci_device_id,
        140 => device.pci_subsystem_id,
        _ => return None,
    })
}

/// Attributes that say yes or no, and the masks.
fn feature(device: &Device, attribute: i32) -> Option<i32> {
    let ampere = device.capability_at_least(8, 0);
    let hopper = device.capability_at_least(9, 0);
    let yes = match attribute {
        15 | 19 | 31 | 41 => true, // GPU_OVERLAP, CAN_MAP_HOST_MEMORY, CONCURRENT_KERNELS, UNIFIED_ADDRESSING
        17 | 20 | 35 => false,     // KERNEL_EXEC_TIMEOUT, COMPUTE_MODE (default), TCC_DRIVER
        78..=80 | 83 => true,      // STREAM_PRIORITIES, GLOBAL_L1, LOCAL_L1, MANAGED_MEMORY
        86 | 88 => false,          // HOST_NATIVE_ATOMIC, PAGEABLE_MEMORY_ACCESS (no HMM)
        89..=91 => true, // CONCURRENT_MANAGED_ACCESS, COMPUTE_PREEMPTION, CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM
        92..=94 => false, // the V1 stream memory operations, off by default
        95 | 96 | 99 => true, // COOPERATIVE_LAUNCH, COOPERATIVE_MULTI_DEVICE_LAUNCH, HOST_REGISTER
        98 | 100 | 101 => false, // CAN_FLUSH_REMOTE_WRITES, host page tables, DIRECT_MANAGED_MEM_ACCESS_FROM_HOST
        102 | 103 => true,       // VIRTUAL_ADDRESS_MANAGEMENT, HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
        104 | 105 => false,      // Windows handles
        107 => ampere,           // GENERIC_COMPRESSION
        110 | 116 | 117 | 124 => device.data_center, // GPU_DIRECT_RDMA (VMM, plain, flush by host), DMA_BUF
        112..=115 => true, // SPARSE_CUDA_ARRAY, READ_ONLY_HOST_REGISTER, TIMELINE_SEMAPHORE, MEMORY_POOLS
        119 => true,       // MEMPOOL_SUPPORTED_HANDLE_TYPES: POSIX file descriptors, bit 0
        120 | 127 => hopper, // CLUSTER_LAUNCH, TENSOR_MAP_ACCESS
        121..=123 | 125 => true, // DEFERRED_MAPPING_CUDA_ARRAY, 64_BIT_STREAM_MEM_OPS, WAIT_VALUE_NOR, IPC_EVENT
        128 | 129 | 132 | 133 => false, // HANDLE_TYPE_FABRIC, UNIFIED_FUNCTION_POINTERS, MULTICAST, MPS_ENABLED
        135..=137 | 143 => false,       // D3D12_CIG, MEM_DECOMPRESS (mask, length), HOST_NUMA_MULTINODE_IPC
        118 => return Some(if device.data_center && ampere { 100 } else { 0 }), // RDMA_WRITES_ORDERING: owner, none
        126 => return Some(if hopper { 4 } else { 1 }), // MEM_SYNC_DOMAIN_COUNT (programming guide)
        _ => return None,
    };
    Some(i32::from(yes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::driver::sys::CUdevice_attribute as Attribute;

    #[test]
    fn every_attribute_of_cuda_12_8_has_a_value_and_no_other_number_has() {
        // 138, 141 and 142 are gaps in the enumeration of 12.8; 144 is its end.
        let gaps = [138, 141, 142];
        for device in Device::all() {
            for number in -1..=200 {
                let expected = (1..Attribute::CU_DEVICE_ATTRIBUTE_MAX as i32).contains(&number);
                let expected = expected && !gaps.contains(&number);
                assert_eq!(device.attribute(number).is_some(), expected, "{} {number}", device.key);
            }
        }
    }

    #[test]
    fn attributes_have_the_numbers_that_cudarc_asks_for() {
        use Attribute::*;
        let expected = [
            (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024),
            (CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64),
            (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, i32::MAX),
            (CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65_535),
            (CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 108),
            (CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32),
            (CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512),
            (CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32),
            (CU_DEVICE_ATTRIBUTE_SURFACE_ALIGNMENT, 512),
            (CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE2D_LINEAR_HEIGHT, 65_000),
            (CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE3D_DEPTH_ALTERNATE, 32_768),
            (CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65_536),
            (CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1),
            (CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1),
            (CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS, 0),
            (CU_DEVICE_ATTRIBUTE_INTEGRATED, 0),
            (CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1_410_000),
            (CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 1_215_000),
            (CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120),
            (CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 41_943_040),
            (CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048),
            (CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3),
            (CU_DEVICE_ATTRIBUTE_MAXIMUM_SURFACE2D_LAYERED_LAYERS, 2048),
            (CU_DEVICE_ATTRIBUTE_MAXIMUM_TEXTURE1D_LINEAR_WIDTH, 268_435_456),
            (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 8),
            (CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0),
            (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 167_936),
            (CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 166_912),
            (CU_DEVICE_ATTRIBUTE_SINGLE_TO_DOUBLE_PRECISION_PERF_RATIO, 2),
            (CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32),
            (CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024),
            (CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1),
            (CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0),
            (CU_DEVICE_ATTRIBUTE_NUMA_ID, -1),
            (CU_DEVICE_ATTRIBUTE_GPU_PCI_DEVICE_ID, 0x20b0_10de),
        ];
        let a100 = Device::by_name("a100").unwrap();
        for (attribute, value) in expected {
            assert_eq!(a100.attribute(attribute as i32), Some(value), "{attribute:?}");
        }
    }

    #[test]
    fn features_follow_the_capability_and_the_market() {
        use Attribute::*;
        // In the order t4, a100, rtx4090, h100.
        let expected = [
            (CU_DEVICE_ATTRIBUTE_ECC_ENABLED, [1, 1, 0, 1]),
            (CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, [1, 1, 0, 1]),
            (CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, [0, 0, 0, 1]),
            (CU_DEVICE_ATTRIBUTE_TENSOR_MAP_ACCESS_SUPPORTED, [0, 0, 0, 1]),
            (CU_DEVICE_ATTRIBUTE_GENERIC_COMPRESSION_SUPPORTED, [0, 1, 1, 1]),
            (CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, [0, 1024, 1024, 1024]),
            (CU_DEVICE_ATTRIBUTE_MEM_SYNC_DOMAIN_COUNT, [1, 1, 1, 4]),
        ];
        for (attribute, values) in expected {
            let found: Vec<i32> =
                Device::all().iter().filter_map(|device| device.attribute(attribute as i32)).collect();
            assert_eq!(found, values, "{attribute:?}");
        }
    }
}
