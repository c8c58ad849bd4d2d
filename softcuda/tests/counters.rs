//! Counters of kernels against what follows from their PTX by hand.

mod common;

use common::{Arguments, Bench, agree};
use softcuda::model::counters::{Class, Counters};

/// Counters of a launch, which do not depend on the order of blocks and warps.
fn counted(
    module: &str,
    kernel: &str,
    grid: [u32; 3],
    block: [u32; 3],
    arguments: impl Fn(&Bench) -> Arguments,
) -> Counters {
    agree(module, |bench| bench.run_in(kernel, grid, block, 0, &arguments(bench)).counters)
}

#[test]
fn vector_add_by_hand() {
    let n = 1000;
    let found = counted("vector_add", "vector_add", [4, 1, 1], [256, 1, 1], |bench| {
        let (a, b) = (bench.put(&vec![1f32; n]), bench.put(&vec![2f32; n]));
        Arguments::default().u64(a).u64(b).u64(bench.room::<f32>(n)).u32(n as u32)
    });
    // 31 full warps, and one of which 8 lanes are inside: the others leave by a `ret` of their own.
    let (warps, lanes) = (32, 1024);
    let inside = n as u64;
    let class =
        |class: Class| (found.warp_instructions[class.index()], found.lane_instructions[class.index()]);
    assert_eq!(class(Class::Constant), (4 * warps, 4 * lanes)); // ld.param
    assert_eq!(class(Class::Predicate), (warps, lanes)); // setp
    assert_eq!(class(Class::Integer), (4 * warps + 7 * warps, 4 * lanes + 7 * inside));
    assert_eq!(class(Class::LoadGlobal), (2 * warps, 2 * inside));
    assert_eq!(class(Class::Float), (warps, inside));
    assert_eq!(class(Class::StoreGlobal), (warps, inside));
    // The branch is issued by every warp and taken by 24 lanes; all end.
    assert_eq!(class(Class::Control), (warps + warps + 1, 24 + lanes));
    assert_eq!(found.all_warp_instructions(), 22 * warps + 1);
    assert_eq!(found.divergent_branches, 1);
    assert_eq!((found.global_load_sectors, found.global_load_sectors_minimum), (250, 250));
    assert_eq!((found.global_store_sectors, found.global_store_sectors_minimum), (125, 125));
    assert_eq!((found.unique_sectors_read, found.unique_sectors_written), (250, 125));
    assert_eq!((found.flops, found.double_flops, found.tensor_flops), (inside, 0, 0));
    assert_eq!((found.barriers, found.shared_passes, found.shared_conflicts), (0, 0, 0));
}

#[test]
fn transposes_by_hand() {
    // 4 blocks of 8 warps, each with four rows of 32 cells: 128 loads and 128 stores.
    let of = |kernel: &str| {
        let found = counted("transpose", kernel, [2, 2, 1], [32, 8, 1], |bench| {
            Arguments::default().u64(bench.put(&[1f32; 4096])).u64(bench.room::<f32>(4096)).u32(64).u32(64)
        });
        assert_eq!((found.global_load_sectors, found.global_load_sectors_minimum), (512, 512));
        assert_eq!(found.global_store_sectors_minimum, 512);
        assert_eq!((found.unique_sectors_read, found.unique_sectors_written), (512, 512));
        assert_eq!((found.divergent_branches, found.flops), (0, 0));
        found
    };
    let naive = of("transpose_naive");
    assert_eq!(naive.global_store_sectors, 128 * 32);
    assert_eq!((naive.shared_passes, naive.shared_conflicts, naive.barriers), (0, 0, 0));
    for (kernel, conflicts) in [("transpose_conflicts", 128 * 31), ("transpose_padded", 0)] {
        let tiled = of(kernel);
        assert_eq!(tiled.global_store_sectors, 512);
        assert_eq!((tiled.shared_passes, tiled.shared_conflicts, tiled.barriers), (256, conflicts, 4));
    }
}

#[test]
fn reductions_by_hand() {
    let found = counted("reduce", "reduce_shared", [2, 1, 1], [256, 1, 1], |bench| {
        Arguments::default().u64(bench.put(&[1f32; 512])).u64(bench.room::<f32>(2)).u32(512)
    });
    // 255 additions a block; a barrier before the tree and one behind each of its 8 levels. The first warp parts at the five
    // levels below a warp and where thread 0 writes.
    assert_eq!((found.flops, found.barriers, found.divergent_branches), (2 * 255, 2 * 9, 2 * 6));
    // 8 warps store their inputs. Levels of 128, 64, 32 cells take 4, 2, 1 warps and the others one: 12 times two loads and a
    // store. Thread 0 reads the sum.
    assert_eq!((found.shared_passes, found.shared_conflicts), (2 * (8 + 12 * 3 + 1), 0));
    let found = counted("reduce", "reduce_shuffle", [1, 1, 1], [128, 1, 1], |bench| {
        Arguments::default().u64(bench.put(&[1f32; 128])).u64(bench.room::<f32>(1)).u32(128)
    });
    // Five shuffles a warp, and five more of the first.
    assert_eq!(found.warp_instructions[Class::Warp.index()], 5 * 4 + 5);
    assert_eq!(found.lane_instructions[Class::Warp.index()], 32 * (5 * 4 + 5));
    assert_eq!((found.flops, found.barriers), (32 * 5 * 5, 1));
    assert_eq!((found.global_load_sectors, found.global_store_sectors), (16, 1));
}

/// Counters of a product, by matrices of which bytes.
fn product(
    module: &str,
    kernel: &str,
    cell: u64,
    [m, n, k]: [u64; 3],
    grid: [u32; 3],
    block: [u32; 3],
) -> Counters {
    counted(module, kernel, grid, block, |bench| {
        let (a, b) =
            (bench.put(&vec![0u8; (m * k * cell) as usize]), bench.put(&vec![0u8; (n * k * cell) as usize]));
        let arguments = Arguments::default().u64(a).u64(b).u64(bench.room::<f32>((m * n) as usize));
        arguments.u32(m as u32).u32(n as u32).u32(k as u32)
    })
}

#[test]
fn products_of_matrices_by_hand() {
    let found = product("matmul_tiled", "matmul_tiled", 4, [32, 48, 64], [3, 2, 1], [16, 16, 1]);
    assert_eq!(found.flops, 2 * 32 * 48 * 64);
    // Two barriers for each of 4 tiles in each of 6 blocks.
    assert_eq!((found.barriers, found.divergent_branches), (2 * 4 * 6, 0));
    // Half a warp reads or writes a row of 16 cells: two sectors. A is read once for every column of blocks, B for every row.
    assert_eq!(found.global_load_sectors, (32 * 64 * 3 + 64 * 48 * 2) * 4 / 32);
    assert_eq!(found.unique_sectors_read, (32 * 64 + 64 * 48) * 4 / 32);
    assert_eq!((found.global_store_sectors, found.unique_sectors_written), (192, 192));
    // Padded to tiles, all 32 x 32 threads multiply 3 tiles.
    let found = product("matmul_tiled", "matmul_tiled", 4, [17, 20, 40], [2, 2, 1], [16, 16, 1]);
    assert_eq!(found.flops, 2 * 32 * 32 * 48);
    let found = product("matmul_register", "matmul_register", 4, [128, 64, 32], [1, 2, 1], [256, 1, 1]);
    assert_eq!((found.flops, found.barriers, found.divergent_branches), (2 * 128 * 64 * 32, 2 * 2, 0));
}

#[test]
fn tensor_products_by_hand() {
    for (kernel, cell) in [("gemm_f16", 2), ("gemm_bf16", 2), ("gemm_tf32", 4)] {
        let (m, n, k) = (128, 64, 64);
        let found = product("mma_gemm", kernel, cell, [m, n, k], [1, 2, 1], [128, 1, 1]);
        let flops = 2 * m * n * k;
        assert_eq!((found.tensor_flops, found.flops), (flops, 0));
        assert_eq!(found.tensor_tf32_flops, if kernel == "gemm_tf32" { flops } else { 0 });
        // A step of the pipeline takes 64 bytes of each row. Two barriers a step and block.
        let steps = 2 * k * cell / 64;
        assert_eq!((found.barriers, found.divergent_branches), (2 * steps, 0));
        // 128 rows of two sectors a step.
        assert_eq!(
            (found.global_load_sectors, found.global_load_sectors_minimum),
            (256 * steps, 256 * steps)
        );
        assert_eq!(found.global_store_sectors, m * n * 4 / 32);
        // cp.async: 4 warps, 4 copies of 512 bytes. The pitch of 80 bytes makes the two rows of each 128 bytes overlap in four
        // banks. ldmatrix: 4 warps, 8 loads of 512 bytes, without conflicts.
        assert_eq!(found.shared_passes, steps * (4 * 4 * 4 + 4 * 8 * 4));
        assert_eq!(found.shared_conflicts, steps * 4 * 4 * 4);
    }
}

#[test]
fn counts_add_up_over_lines() {
    let bench = Bench::new("vector_add");
    let (x, y) = (bench.put(&[1f32; 100]), bench.put(&[2f32; 100]));
    let arguments = Arguments::default().u64(x).u64(y).u64(bench.room::<f32>(100)).u32(100);
    let outcome = bench.run("vector_add", 1, 128, 0, &arguments);
    let sum = |f: fn(&softcuda::model::profile::LineCount) -> u64| outcome.lines.iter().map(f).sum::<u64>();
    assert_eq!(sum(|line| line.warp_instructions), outcome.counters.all_warp_instructions());
    assert_eq!(sum(|line| line.lane_instructions), outcome.counters.all_lane_instructions());
    assert_eq!(sum(|line| line.global_sectors), outcome.counters.global_sectors());
    let of = |number: u32| outcome.lines.iter().find(|line| line.line == number).unwrap();
    // The sum: two loads and a store of 13 sectors each.
    assert_eq!(of(14).global_sectors, 3 * 13);
    assert!(of(14).file.ends_with("vector_add.cu"));
}
