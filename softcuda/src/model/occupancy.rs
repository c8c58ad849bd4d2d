//! How many blocks an SM holds at once: NVIDIA's occupancy calculator (`cuda_occupancy.h`), at the largest carve-out of
//! shared memory and without clusters.

use serde::{Deserialize, Serialize};

use super::devices::Device;

/// What a block asks of an SM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockNeeds {
    /// Threads of a block.
    pub threads: u32,
    /// Registers of a thread, as ptxas reports them.
    pub registers: u32,
    /// Static and dynamic shared memory of a block, bytes.
    pub shared_bytes: u32,
}

/// What keeps an SM from holding more blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Warps (threads) of an SM.
    Warps,
    /// Blocks of an SM.
    Blocks,
    /// Registers of an SM.
    Registers,
    /// Shared memory of an SM.
    Shared,
}

/// Blocks and warps that an SM holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Occupancy {
    /// Blocks of an SM; 0 when one block asks for more than there is.
    pub blocks_per_sm: u32,
    /// Warps of an SM.
    pub warps_per_sm: u32,
    /// Those over the most that the SM could hold: 0 to 1.
    pub share: f64,
    /// All that limit it: more than one when several run out at the same number of blocks.
    pub limits: Vec<Limit>,
}

/// Occupancy of blocks on an SM of `device`.
///
/// A block of 0 threads, of more than 1024, of more than 255 registers a thread or of more shared memory than a block can
/// opt in to has 0 blocks.
pub fn occupancy(device: &Device, needs: BlockNeeds) -> Occupancy {
    let warps = needs.threads.div_ceil(Device::WARP_SIZE);
    let per_limit = [
        (Limit::Warps, by_warps(device, needs.threads)),
        (Limit::Blocks, device.max_blocks_per_sm),
        (Limit::Registers, by_registers(needs)),
        (Limit::Shared, by_shared(device, needs.shared_bytes)),
    ];
    let blocks = per_limit.iter().map(|(_, blocks)| *blocks).min().unwrap_or(0);
    let limits = per_limit.iter().filter(|(_, limit)| *limit == blocks).map(|(limit, _)| *limit).collect();
    let warps_per_sm = blocks * warps;
    let share = f64::from(warps_per_sm) / f64::from(device.max_warps_per_sm);
    Occupancy { blocks_per_sm: blocks, warps_per_sm, share, limits }
}

fn by_warps(device: &Device, threads: u32) -> u32 {
    if threads == 0 || threads > Device::MAX_THREADS_PER_BLOCK {
        return 0;
    }
    device.max_warps_per_sm / threads.div_ceil(Device::WARP_SIZE)
}

/// Registers belong to warps, in multiples of 256, and a warp's all come from one of the four parts of the SM.
fn by_registers(needs: BlockNeeds) -> u32 {
    if needs.registers > Device::MAX_REGISTERS_PER_THREAD || needs.threads > Device::MAX_THREADS_PER_BLOCK {
        return 0;
    }
    let warps = needs.threads.div_ceil(Device::WARP_SIZE).max(1);
    let per_warp =
        (needs.registers.max(1) * Device::WARP_SIZE).next_multiple_of(Device::REGISTER_GRANULARITY);
    let warps_per_part = Device::REGISTERS_PER_SM / Device::PARTITIONS / per_warp;
    warps_per_part * Device::PARTITIONS / warps
}

fn by_shared(device: &Device, shared_bytes: u32) -> u32 {
    if shared_bytes > device.shared_per_block_optin_bytes {
        return 0;
    }
    let whole = shared_bytes + device.shared_reserved_per_block_bytes;
    match whole.next_multiple_of(device.shared_granularity_bytes) {
        0 => u32::MAX,
        per_block => device.shared_per_sm_bytes / per_block,
    }
}

/// `cuOccupancyMaxPotentialBlockSize`: the largest block, in whole warps, at which an SM holds the most threads, and the
/// smallest grid that fills the device with such blocks. `shared_bytes` gives the shared memory of a block, static and
/// dynamic, by its threads; `limit` is the most threads that the kernel allows, 0 for no limit.
///
/// Returns `(grid, block)`; `(0, 0)` when no block fits.
pub fn max_potential_block_size(
    device: &Device,
    registers: u32,
    shared_bytes: impl Fn(u32) -> u32,
    limit: u32,
) -> (u32, u32) {
    let most =
        if limit == 0 { Device::MAX_THREADS_PER_BLOCK } else { limit.min(Device::MAX_THREADS_PER_BLOCK) };
    let mut best = (0, 0, 0);
    let mut rounded = most.next_multiple_of(Device::WARP_SIZE);
    while rounded > 0 {
        let threads = rounded.min(most);
        let needs = BlockNeeds { threads, registers, shared_bytes: shared_bytes(threads) };
        let blocks = occupancy(device, needs).blocks_per_sm;
        if blocks * threads > best.0 {
            best = (blocks * threads, blocks, threads);
        }
        if best.0 == device.max_threads_per_sm() {
            break;
        }
        rounded -= Device::WARP_SIZE;
    }
    (best.1 * device.sm_count, best.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(name: &str, threads: u32, registers: u32, shared_bytes: u32) -> Occupancy {
        occupancy(Device::by_name(name).unwrap(), BlockNeeds { threads, registers, shared_bytes })
    }

    #[test]
    fn the_best_practices_guide_has_37_registers_give_75_percent_to_128_threads_and_63_to_320() {
        // CUDA C++ Best Practices Guide, "Calculating Occupancy", for 7.0: its 64 warps and 65,536 registers are A100's.
        let small = on("a100", 128, 37, 0);
        assert_eq!((small.blocks_per_sm, small.share), (12, 0.75));
        assert_eq!(small.limits, [Limit::Registers]);
        let large = on("a100", 320, 37, 0);
        assert_eq!((large.blocks_per_sm, large.share), (4, 0.625));
    }

    #[test]
    fn the_programming_guide_has_one_register_more_than_64_halve_the_blocks_of_512_threads() {
        // CUDA C++ Programming Guide, "Maximize Utilization, Multiprocessor Level".
        assert_eq!(on("a100", 512, 64, 0).blocks_per_sm, 2);
        assert_eq!(on("a100", 512, 65, 0).blocks_per_sm, 1);
    }

    #[test]
    fn each_device_fills_up_at_its_own_warps_and_blocks() {
        for (name, blocks) in [("t4", 4), ("a100", 8), ("rtx4090", 6), ("h100", 8)] {
            let found = on(name, 256, 32, 0);
            assert_eq!((found.blocks_per_sm, found.share), (blocks, 1.0), "{name}");
            assert!(found.limits.contains(&Limit::Warps), "{name}");
        }
        for (name, blocks) in [("t4", 16), ("a100", 32), ("rtx4090", 24), ("h100", 32)] {
            let found = on(name, 32, 16, 0);
            assert_eq!((found.blocks_per_sm, found.limits), (blocks, vec![Limit::Blocks]), "{name}");
        }
    }

    #[test]
    fn the_system_takes_a_kibibyte_of_shared_memory_from_each_block_since_ampere() {
        // Four blocks of 16 KiB fit the 64 KiB of a T4; the 164 KiB of an A100 hold 9 of 17 KiB, not 10 of 16.
        assert_eq!(on("t4", 128, 32, 16 << 10).blocks_per_sm, 4);
        assert_eq!(on("a100", 128, 32, 16 << 10).blocks_per_sm, 9);
        assert_eq!(on("a100", 128, 32, 48 << 10).blocks_per_sm, 3);
        assert_eq!(on("rtx4090", 128, 32, 48 << 10).blocks_per_sm, 2);
        assert_eq!(on("h100", 128, 32, 48 << 10).limits, [Limit::Shared]);
        assert_eq!(on("a100", 128, 32, 163 << 10).blocks_per_sm, 1);
        assert_eq!(on("a100", 128, 32, (163 << 10) + 1).blocks_per_sm, 0);
    }

    #[test]
    fn shared_memory_is_rounded_up_to_its_granularity() {
        // With the reserve 5376 bytes, a multiple of 128: 31 fit 164 KiB. 31 of 5400 would too, but they take 5504 each.
        assert_eq!(on("a100", 32, 16, 4352).blocks_per_sm, 31);
        assert_eq!(on("a100", 32, 16, 4376).blocks_per_sm, 30);
    }

    #[test]
    fn a_block_that_cannot_run_has_no_occupancy() {
        assert_eq!(on("a100", 1024, 65, 0).blocks_per_sm, 0);
        assert_eq!(on("a100", 1024, 64, 0).blocks_per_sm, 1);
        assert_eq!(on("a100", 1025, 16, 0).blocks_per_sm, 0);
        assert_eq!(on("a100", 0, 16, 0).blocks_per_sm, 0);
        assert_eq!(on("a100", 32, 256, 0).blocks_per_sm, 0);
    }

    #[test]
    fn the_best_block_is_the_largest_that_holds_the_most_threads() {
        let device = |name| Device::by_name(name).unwrap();
        assert_eq!(max_potential_block_size(device("a100"), 32, |_| 0, 0), (216, 1024));
        // 1536 threads an SM: 1024 would leave a third of it empty.
        assert_eq!(max_potential_block_size(device("rtx4090"), 32, |_| 0, 0), (256, 768));
        // At most 100 threads: 16 blocks of 100 hold 1600, 21 of 96 hold 2016, 32 of 64 hold 2048.
        assert_eq!(max_potential_block_size(device("a100"), 32, |_| 0, 100), (3456, 64));
        // 200 bytes of shared memory a thread: 1024 threads are more than a block can have, one of 832 fits.
        assert_eq!(max_potential_block_size(device("a100"), 32, |threads| threads * 200, 0), (108, 832));
        assert_eq!(max_potential_block_size(device("a100"), 300, |_| 0, 0), (0, 0));
    }
}
