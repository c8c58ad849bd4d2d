//! Correct kernels from which one barrier has been taken: the checks must see each of them missing.

mod common;

use common::{Arguments, Bench};
use softcuda::checks::Check;

/// The PTX of a module with the n-th line that holds `barrier`, out of a kernel's, left out; `None` if there are fewer.
fn without(module: &str, kernel: &str, barrier: &str, index: usize) -> Option<String> {
    let path = format!("{}/tests/ptx/{module}.ptx", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let start = text.find(&format!(".entry {kernel}(")).unwrap();
    let end = start + text[start..].find("\n}").unwrap();
    let (at, _) = text[start..end].match_indices(barrier).nth(index)?;
    let line = text[start + at..].find(';').unwrap();
    Some(format!("{}{}", &text[..start + at], &text[start + at + line + 1..]))
}

/// Launches without each of the barriers in turn; each must be missed, as a race. Says how many there were.
fn missed(
    module: &str,
    kernel: &str,
    barrier: &str,
    shape: [[u32; 3]; 2],
    arguments: impl Fn(&Bench) -> Arguments,
) -> usize {
    let mut count = 0;
    while let Some(text) = without(module, kernel, barrier, count) {
        for seed in 0..3 {
            let bench = Bench { seed, ..Bench::of(text.as_bytes()) };
            let outcome = bench.launch(kernel, shape[0], shape[1], 0, &arguments(&bench));
            let found: Vec<Check> = outcome.findings.iter().map(|finding| finding.check).collect();
            // What the first turn reads may not have been written at all.
            assert!(
                matches!(found[..], [Check::Race | Check::Init]),
                "{kernel} without {barrier} {count}, seed {seed}: {:?}",
                outcome.findings
            );
        }
        count += 1;
    }
    count
}

#[test]
fn no_barrier_can_be_spared() {
    let singles = |bench: &Bench, n: usize| bench.put(&(0..n).map(|i| i as f32).collect::<Vec<f32>>());
    let two = |bench: &Bench, n: usize| Arguments::default().u64(singles(bench, n)).u64(singles(bench, n));
    let line = |block: u32| [[2, 1, 1], [block, 1, 1]];
    let tile = |x: u32, y: u32| [[2, 2, 1], [x, y, 1]];
    let count = missed("transpose", "transpose_padded", "bar.sync", tile(32, 8), |bench| {
        two(bench, 4096).u32(64).u32(64)
    });
    assert_eq!(count, 1);
    let count = missed("matmul_tiled", "matmul_tiled", "bar.sync", tile(16, 16), |bench| {
        two(bench, 1024).u64(singles(bench, 1024)).u32(32).u32(32).u32(32)
    });
    assert_eq!(count, 2);
    let count = missed("stencil", "stencil_2d", "bar.sync", tile(16, 16), |bench| {
        two(bench, 1024).u32(32).u32(32).f32(0.5).f32(0.1)
    });
    assert_eq!(count, 1);
    let count = missed("reduce", "reduce_shared", "bar.sync", line(256), |bench| two(bench, 512).u32(512));
    assert_eq!(count, 2);
    let count =
        missed("softmax_online", "softmax_online", "bar.sync", line(128), |bench| two(bench, 400).u32(200));
    assert_eq!(count, 1);
    let count = missed("bitonic_sort", "bitonic_sort", "bar.sync", line(512), |bench| {
        Arguments::default().u64(bench.put(&(0..2048u32).rev().collect::<Vec<u32>>()))
    });
    assert!(count >= 2, "{count}");
    let count =
        missed("warp", "warp_syncwarp", "bar.warp.sync", [[1, 1, 1], [64, 1, 1]], |bench| two(bench, 64));
    assert_eq!(count, 1);
}

#[test]
fn no_fence_between_blocks_can_be_spared() {
    let path = format!("{}/tests/ptx/reduce.ptx", env!("CARGO_MANIFEST_DIR"));
    // Volatile accesses do not race with each other; plain ones need the fence.
    let plain = std::fs::read_to_string(path).unwrap().replace(".volatile.global", ".global");
    let bare = plain.replace("membar.gl;", "");
    assert_ne!(plain, bare);
    for seed in 0..3 {
        for (text, wanted) in [(&plain, None), (&bare, Some(Check::Race))] {
            let bench = Bench { seed, ..Bench::of(text.as_bytes()) };
            let (input, partial) = (bench.put(&[1f32; 5000]), bench.room::<f32>(5));
            let arguments = Arguments::default().u64(input).u64(partial).u64(bench.room::<f32>(1));
            let arguments = arguments.u64(bench.put(&[0u32])).u32(5000);
            let outcome = bench.launch("reduce_last_block", [5, 1, 1], [256, 1, 1], 0, &arguments);
            let found = outcome.findings.first().map(|finding| finding.check);
            assert_eq!(found, wanted, "seed {seed}: {:?}", outcome.findings);
        }
    }
}
