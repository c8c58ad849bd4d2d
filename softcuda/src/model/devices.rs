//! The devices that the driver can present itself as: what `cuDeviceGetAttribute`, `cuDeviceGetName` and
//! `cuDeviceTotalMem` answer, and the rates that the cost model divides by.
//!
//! Sources, named at each figure: the architecture white papers (Turing, A100, H100, Ada), the data sheets, the CUDA C++
//! programming guide ("Features and Technical Specifications" and "Throughput of Native Arithmetic Instructions"), and
//! `deviceQuery` logs of the real cards for what only the driver knows (total memory, clocks, copy engines).

use std::sync::OnceLock;

/// One device. Byte counts are bytes, clocks are kHz (as the driver reports them), rates "per SM" are per clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// What `SOFTCUDA_DEVICE` calls it.
    pub key: &'static str,
    /// What NVIDIA's driver calls it.
    pub name: &'static str,
    /// Compute capability, major.
    pub major: i32,
    /// Compute capability, minor.
    pub minor: i32,
    /// Streaming multiprocessors.
    pub sm_count: u32,
    /// Warps that an SM can hold.
    pub max_warps_per_sm: u32,
    /// Blocks that an SM can hold.
    pub max_blocks_per_sm: u32,
    /// Shared memory of an SM at the largest carve-out.
    pub shared_per_sm_bytes: u32,
    /// Shared memory that a block can have after `cuFuncSetAttribute`.
    pub shared_per_block_optin_bytes: u32,
    /// Shared memory that the system takes from each block.
    pub shared_reserved_per_block_bytes: u32,
    /// Shared memory is given to blocks in multiples of this.
    pub shared_granularity_bytes: u32,
    /// Global memory, as `cuDeviceTotalMem` reports it.
    pub total_memory_bytes: u64,
    /// L2 cache.
    pub l2_bytes: u32,
    /// The part of L2 that can be set aside for persisting accesses.
    pub persisting_l2_bytes: u32,
    /// Largest access policy window.
    pub access_window_bytes: u32,
    /// Width of the memory bus.
    pub bus_width_bits: u32,
    /// Peak bandwidth of global memory, bytes a second.
    pub memory_bytes_per_second: f64,
    /// Peak bandwidth of L2, bytes a clock, all SMs together. The least certain figure here: see each device.
    pub l2_bytes_per_clock: f64,
    /// Bandwidth of the bus to the host, bytes a second, one direction.
    pub host_bytes_per_second: f64,
    /// Highest SM clock, as the driver reports it.
    pub sm_clock_khz: u32,
    /// Memory clock, as the driver reports it.
    pub memory_clock_khz: u32,
    /// f32 lanes of an SM: fused multiply-adds a clock.
    pub f32_lanes_per_sm: u32,
    /// f64 lanes of an SM.
    pub f64_lanes_per_sm: u32,
    /// Lanes for approximate functions of an SM.
    pub special_lanes_per_sm: u32,
    /// Warp instructions that an SM can issue a clock: one a scheduler.
    pub issue_slots_per_sm: u32,
    /// Passes that the shared memory of an SM serves a clock: 32 banks of 4 bytes each.
    pub shared_passes_per_sm: u32,
    /// Peak of mma on f16 and bf16 with f32 accumulation, dense, FLOP a second.
    pub tensor_f16_flops: f64,
    /// Peak of mma on tf32, dense, FLOP a second; 0 where there is no tf32.
    pub tensor_tf32_flops: f64,
    /// The part of those peaks that `mma.sync` reaches (the rest needs `wgmma`).
    pub mma_sync_share: f64,
    /// Copy engines.
    pub async_engines: u32,
    /// PCI device and vendor, `device << 16 | vendor`.
    pub pci_device_id: i32,
    /// PCI subsystem and its vendor, `subsystem << 16 | vendor`.
    pub pci_subsystem_id: i32,
    /// f32 over f64 throughput, as the driver reports it.
    pub single_to_double_ratio: i32,
    /// Whether its memory has error correction switched on.
    pub ecc: bool,
    /// A data-centre card: GPUDirect RDMA and dma-buf.
    pub data_center: bool,
}

/// A name that is none of the devices'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no device is called `{name}`; there are {known}")]
pub struct UnknownDevice {
    /// The name that was asked for.
    pub name: String,
    /// The names that there are, separated by commas.
    pub known: String,
}

impl Device {
    /// Threads of a warp.
    pub const WARP_SIZE: u32 = 32;
    /// Threads of a block, at most (programming guide, all capabilities here).
    pub const MAX_THREADS_PER_BLOCK: u32 = 1024;
    /// Extents of a block, at most.
    pub const MAX_BLOCK: [u32; 3] = [1024, 1024, 64];
    /// Extents of a grid, at most.
    pub const MAX_GRID: [u32; 3] = [0x7fff_ffff, 65_535, 65_535];
    /// Shared memory of a block without opting in.
    pub const SHARED_PER_BLOCK_BYTES: u32 = 48 * 1024;
    /// 32-bit registers of an SM, and of a block at most.
    pub const REGISTERS_PER_SM: u32 = 65_536;
    /// Registers of a thread, at most.
    pub const MAX_REGISTERS_PER_THREAD: u32 = 255;
    /// Registers are given to warps in multiples of this (NVIDIA's occupancy calculator).
    pub const REGISTER_GRANULARITY: u32 = 256;
    /// Parts of an SM, each with its own scheduler and a quarter of the registers.
    pub const PARTITIONS: u32 = 4;
    /// Constant memory.
    pub const CONSTANT_BYTES: u32 = 64 * 1024;

    /// All devices, in the order of their compute capability.
    pub fn all() -> &'static [Device] {
        static ALL: OnceLock<Vec<Device>> = OnceLock::new();
        ALL.get_or_init(|| vec![t4(), a100(), rtx4090(), h100()])
    }

    /// The device that `SOFTCUDA_DEVICE` names, in any case.
    ///
    /// # Errors
    /// [`UnknownDevice`], which lists the names that there are.
    pub fn by_name(name: &str) -> Result<&'static Device, UnknownDevice> {
        Self::all().iter().find(|device| device.key.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<&str> = Self::all().iter().map(|device| device.key).collect();
            UnknownDevice { name: name.to_string(), known: known.join(", ") }
        })
    }

    /// Threads that an SM can hold.
    pub fn max_threads_per_sm(&self) -> u32 {
        self.max_warps_per_sm * Self::WARP_SIZE
    }

    /// SM clock in Hz.
    pub fn sm_hertz(&self) -> f64 {
        f64::from(self.sm_clock_khz) * 1e3
    }

    /// Peak of f32, FLOP a second: two a lane and clock.
    pub fn f32_flops(&self) -> f64 {
        2.0 * f64::from(self.f32_lanes_per_sm * self.sm_count) * self.sm_hertz()
    }

    /// Peak of f64 without tensor cores, FLOP a second.
    pub fn f64_flops(&self) -> f64 {
        2.0 * f64::from(self.f64_lanes_per_sm * self.sm_count) * self.sm_hertz()
    }

    /// Peak bandwidth of L2, bytes a second.
    pub fn l2_bytes_per_second(&self) -> f64 {
        self.l2_bytes_per_clock * self.sm_hertz()
    }

    /// The UUID: the same for a device's key in every process, of version 8 (custom) so that no real card has it.
    pub fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&fnv1a(0, self.key).to_be_bytes());
        uuid[8..].copy_from_slice(&fnv1a(1, self.key).to_be_bytes());
        uuid[6] = (uuid[6] & 0x0f) | 0x80;
        uuid[8] = (uuid[8] & 0x3f) | 0x80;
        uuid
    }

    /// Whether the compute capability is this or a later one.
    pub fn capability_at_least(&self, major: i32, minor: i32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

/// 64-bit FNV-1a over a salt and a text.
fn fnv1a(salt: u8, text: &str) -> u64 {
    let bytes = std::iter::once(salt).chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Tesla T4: TU104, capability 7.5.
fn t4() -> Device {
    Device {
        key: "t4",
        name: "Tesla T4",
        major: 7,
        minor: 5,
        sm_count: 40,                            // T4 data sheet: 2560 cores of 64 an SM
        max_warps_per_sm: 32,                    // programming guide, 7.5
        max_blocks_per_sm: 16,                   // programming guide, 7.5
        shared_per_sm_bytes: 64 * 1024,          // programming guide, 7.5
        shared_per_block_optin_bytes: 64 * 1024, // programming guide, 7.5
        shared_reserved_per_block_bytes: 0,      // cudaDeviceProp, 7.5
        shared_granularity_bytes: 256,           // occupancy calculator, 7.5
        total_memory_bytes: 15_843_721_216,      // deviceQuery, with ECC
        l2_bytes: 4 << 20,                       // deviceQuery
        persisting_l2_bytes: 0,                  // cudaDeviceProp, 7.5
        access_window_bytes: 0,                  // cudaDeviceProp, 7.5
        bus_width_bits: 256,                     // deviceQuery
        memory_bytes_per_second: 320e9,          // T4 data sheet
        l2_bytes_per_clock: 1024.0, // estimate: 16 slices of 64 B; Jia et al. measured 1.27 TB/s of it
        host_bytes_per_second: 15.75e9, // PCIe 3.0 x16
        sm_clock_khz: 1_590_000,    // deviceQuery
        memory_clock_khz: 5_001_000, // deviceQuery
        f32_lanes_per_sm: 64,       // programming guide, throughput table, 7.5
        f64_lanes_per_sm: 2,        // the same
        special_lanes_per_sm: 16,   // the same
        issue_slots_per_sm: 4,      // Turing white paper
        shared_passes_per_sm: 1,    // programming guide, 7.x: 32 banks of 32 bits a clock
        tensor_f16_flops: 65e12,    // T4 data sheet, mixed precision
        tensor_tf32_flops: 0.0,
        mma_sync_share: 1.0,
        async_engines: 3, // cudaDeviceProp, 7.5
        pci_device_id: 0x1eb8_10de,
        pci_subsystem_id: 0x12a2_10de,
        single_to_double_ratio: 32, // cudaDeviceProp, 7.5
        ecc: true,
        data_center: true,
    }
}

/// A100 SXM4 with 40 GB: GA100, capability 8.0.
fn a100() -> Device {
    Device {
        key: "a100",
        name: "NVIDIA A100-SXM4-40GB",
        major: 8,
        minor: 0,
        sm_count: 108,                            // A100 white paper
        max_warps_per_sm: 64,                     // programming guide, 8.0
        max_blocks_per_sm: 32,                    // programming guide, 8.0
        shared_per_sm_bytes: 164 * 1024,          // programming guide, 8.0
        shared_per_block_optin_bytes: 163 * 1024, // programming guide, 8.0
        shared_reserved_per_block_bytes: 1024,    // Ampere tuning guide
        shared_granularity_bytes: 128,            // occupancy calculator, 8.0
        total_memory_bytes: 42_505_273_344,       // deviceQuery, matrixMul_nvrtc logs
        l2_bytes: 40 << 20,                       // A100 white paper, deviceQuery
        persisting_l2_bytes: 26_214_400,          // 10/16 of L2, not verified in a log
        access_window_bytes: 134_213_632,         // cudaDeviceProp, 8.x, not verified for this card
        bus_width_bits: 5120,                     // A100 white paper
        memory_bytes_per_second: 1555e9,          // A100 data sheet, 40 GB
        l2_bytes_per_clock: 5120.0,               // A100 white paper
        host_bytes_per_second: 31.5e9,            // PCIe 4.0 x16
        sm_clock_khz: 1_410_000,                  // A100 white paper, deviceQuery
        memory_clock_khz: 1_215_000,              // A100 white paper
        f32_lanes_per_sm: 64,                     // programming guide, throughput table, 8.0
        f64_lanes_per_sm: 32,                     // the same
        special_lanes_per_sm: 16,                 // the same
        issue_slots_per_sm: 4,                    // A100 white paper
        shared_passes_per_sm: 1,                  // programming guide, 8.x as 5.x
        tensor_f16_flops: 312e12,                 // A100 data sheet, dense
        tensor_tf32_flops: 156e12,                // A100 data sheet, dense
        mma_sync_share: 1.0,
        async_engines: 3, // deviceQuery, 80 GB card
        pci_device_id: 0x20b0_10de,
        pci_subsystem_id: 0x134f_10de,
        single_to_double_ratio: 2, // A100 white paper: 19.5 over 9.7 TFLOP/s
        ecc: true,
        data_center: true,
    }
}

/// GeForce RTX 4090: AD102, capability 8.9.
fn rtx4090() -> Device {
    Device {
        key: "rtx4090",
        name: "NVIDIA GeForce RTX 4090",
        major: 8,
        minor: 9,
        sm_count: 128,                           // Ada white paper
        max_warps_per_sm: 48,                    // programming guide, 8.9
        max_blocks_per_sm: 24,                   // programming guide, 8.9
        shared_per_sm_bytes: 100 * 1024,         // programming guide, 8.9
        shared_per_block_optin_bytes: 99 * 1024, // programming guide, 8.9
        shared_reserved_per_block_bytes: 1024,   // Ada tuning guide
        shared_granularity_bytes: 128,           // occupancy calculator, 8.9
        total_memory_bytes: 25_250_627_584,      // deviceQuery, driver 580
        l2_bytes: 72 << 20,                      // Ada white paper, deviceQuery
        persisting_l2_bytes: 51_904_512,         // cudaDeviceProp
        access_window_bytes: 134_213_632,        // cudaDeviceProp, 8.x, not verified for this card
        bus_width_bits: 384,                     // Ada white paper
        memory_bytes_per_second: 1008e9,         // Ada white paper
        l2_bytes_per_clock: 2048.0,              // estimate; measurements give about 5 TB/s
        host_bytes_per_second: 31.5e9,           // PCIe 4.0 x16
        sm_clock_khz: 2_520_000,                 // Ada white paper, deviceQuery
        memory_clock_khz: 10_501_000,            // deviceQuery
        f32_lanes_per_sm: 128,                   // programming guide, throughput table, 8.9
        f64_lanes_per_sm: 2,                     // the same
        special_lanes_per_sm: 16,                // the same
        issue_slots_per_sm: 4,                   // Ada white paper
        shared_passes_per_sm: 1,                 // programming guide, 8.x as 5.x
        tensor_f16_flops: 165.2e12,              // Ada white paper, dense, f32 accumulation
        tensor_tf32_flops: 82.6e12,              // Ada white paper, dense
        mma_sync_share: 1.0,
        async_engines: 2, // cudaDeviceProp
        pci_device_id: 0x2684_10de,
        pci_subsystem_id: 0x167c_10de, // Founders Edition; partners' cards differ
        single_to_double_ratio: 64,    // Ada white paper: 82.6 over 1.29 TFLOP/s
        ecc: false,
        data_center: false,
    }
}

/// H100 SXM5 with 80 GB of HBM3: GH100, capability 9.0.
fn h100() -> Device {
    Device {
        key: "h100",
        name: "NVIDIA H100 80GB HBM3",
        major: 9,
        minor: 0,
        sm_count: 132,                            // H100 white paper, SXM5
        max_warps_per_sm: 64,                     // programming guide, 9.0
        max_blocks_per_sm: 32,                    // programming guide, 9.0
        shared_per_sm_bytes: 228 * 1024,          // programming guide, 9.0
        shared_per_block_optin_bytes: 227 * 1024, // programming guide, 9.0
        shared_reserved_per_block_bytes: 1024,    // Hopper tuning guide
        shared_granularity_bytes: 128,            // occupancy calculator, 9.0
        total_memory_bytes: 85_028_896_768,       // deviceQuery, driver 570
        l2_bytes: 50 << 20,                       // H100 white paper, deviceQuery
        persisting_l2_bytes: 32_768_000,          // 10/16 of L2, not verified in a log
        access_window_bytes: 134_213_632,         // cudaDeviceProp, 8.x, not verified for this card
        bus_width_bits: 5120,                     // H100 white paper, deviceQuery
        memory_bytes_per_second: 3352e9,          // H100 data sheet (3.35 TB/s): 5120 bits x 2 x 2619 MHz
        l2_bytes_per_clock: 5120.0,               // estimate: as A100; NVIDIA does not say
        host_bytes_per_second: 63e9,              // PCIe 5.0 x16
        sm_clock_khz: 1_980_000,                  // deviceQuery
        memory_clock_khz: 2_619_000,              // deviceQuery
        f32_lanes_per_sm: 128,                    // programming guide, throughput table, 9.0
        f64_lanes_per_sm: 64,                     // the same
        special_lanes_per_sm: 16,                 // the same
        issue_slots_per_sm: 4,                    // H100 white paper
        shared_passes_per_sm: 1,                  // programming guide, 9.0 as 5.x
        tensor_f16_flops: 989.4e12,               // H100 white paper, SXM5, dense
        tensor_tf32_flops: 494.7e12,              // H100 white paper, SXM5, dense
        mma_sync_share: 0.63, // Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU"
        async_engines: 3,     // deviceQuery
        pci_device_id: 0x2330_10de,
        pci_subsystem_id: 0x16c1_10de, // PCI configuration space of a card
        single_to_double_ratio: 2,     // H100 white paper: 66.9 over 33.5 TFLOP/s
        ecc: true,
        data_center: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> &'static Device {
        Device::by_name(name).unwrap()
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let message = Device::by_name("a1000").unwrap_err().to_string();
        assert_eq!(message, "no device is called `a1000`; there are t4, a100, rtx4090, h100");
        assert_eq!(device("H100").name, "NVIDIA H100 80GB HBM3");
    }

    #[test]
    fn lanes_and_clocks_make_the_peaks_of_the_data_sheets() {
        // TFLOP/s: T4 8.1 and 1/32, A100 19.5 and 9.7, RTX 4090 82.6 and 1/64, H100 66.9 and 33.5.
        let peaks = [("t4", 8.1, 0.254), ("a100", 19.5, 9.7), ("rtx4090", 82.6, 1.29), ("h100", 66.9, 33.5)];
        for (name, f32_peak, f64_peak) in peaks {
            let device = device(name);
            assert!(
                (device.f32_flops() / 1e12 / f32_peak - 1.0).abs() < 0.01,
                "{name}: {}",
                device.f32_flops()
            );
            assert!(
                (device.f64_flops() / 1e12 / f64_peak - 1.0).abs() < 0.01,
                "{name}: {}",
                device.f64_flops()
            );
        }
    }

    #[test]
    fn bus_and_memory_clock_make_the_bandwidth() {
        for device in Device::all() {
            let transfers = 2.0 * f64::from(device.memory_clock_khz) * 1e3;
            let bytes = transfers * f64::from(device.bus_width_bits) / 8.0;
            assert!((bytes / device.memory_bytes_per_second - 1.0).abs() < 0.001, "{}: {bytes}", device.key);
        }
    }

    #[test]
    fn a_block_that_opts_in_to_everything_fits_an_sm_exactly() {
        for device in Device::all() {
            let whole = device.shared_per_block_optin_bytes + device.shared_reserved_per_block_bytes;
            assert_eq!(whole, device.shared_per_sm_bytes, "{}", device.key);
        }
    }

    #[test]
    fn uuids_differ_between_devices_and_never_change() {
        let uuids: std::collections::HashSet<[u8; 16]> = Device::all().iter().map(Device::uuid).collect();
        assert_eq!(uuids.len(), Device::all().len());
        let text: String = device("a100").uuid().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "d8e3bdc65bd481b9b9825ec20e903dc2");
    }
}
