//! Kernels in their textbook form, compiled by nvcc, against what the host computes.

mod common;

use common::{Arguments, Bench, Random, agree};

#[test]
fn vector_add_adds() {
    for n in [1, 31, 1000, 1024] {
        let a: Vec<f32> = (0..n).map(|i| i as f32 * 0.5).collect();
        let b: Vec<f32> = (0..n).map(|i| 1000.0 - i as f32).collect();
        let found = agree("vector_add", |bench| {
            let (x, y, out) = (bench.put(&a), bench.put(&b), bench.room::<f32>(n));
            bench.run(
                "vector_add",
                n.div_ceil(256) as u32,
                256,
                0,
                &Arguments::default().u64(x).u64(y).u64(out).u32(n as u32),
            );
            bench.get::<f32>(out, n)
        });
        assert_eq!(found, a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<f32>>());
    }
}

#[test]
fn vector_add_float4_adds_four_at_a_time() {
    let n = 4 * 77;
    let mut random = Random(1);
    let (a, b) = (random.list(n, Random::unit), random.list(n, Random::unit));
    let found = agree("vector_add", |bench| {
        let (x, y, out) = (bench.put(&a), bench.put(&b), bench.room::<f32>(n));
        let arguments = Arguments::default().u64(x).u64(y).u64(out).u32(n as u32);
        bench.run("vector_add_float4", 1, 256, 0, &arguments);
        bench.get::<f32>(out, n)
    });
    assert_eq!(found, a.iter().zip(&b).map(|(a, b)| a + b).collect::<Vec<f32>>());
}

#[test]
fn saxpy_is_a_fused_multiply_add_in_both_forms() {
    for (kernel, n, grid, block) in
        [("saxpy", 777, 4, 256), ("saxpy_grid_stride", 777, 2, 96), ("saxpy_grid_stride", 5, 3, 33)]
    {
        let mut random = Random(n as u64);
        let (x, y) = (random.list(n, Random::unit), random.list(n, Random::unit));
        let found = agree("vector_add", |bench| {
            let (from, to) = (bench.put(&x), bench.put(&y));
            let arguments = Arguments::default().u32(n as u32).f32(1.3).u64(from).u64(to);
            bench.run(kernel, grid, block, 0, &arguments);
            bench.get::<f32>(to, n)
        });
        let wanted: Vec<f32> = x.iter().zip(&y).map(|(&x, &y)| 1.3f32.mul_add(x, y)).collect();
        assert_eq!(found, wanted, "{kernel}");
    }
}

/// C = A B, each cell by fused multiply-adds in the order of k.
fn product(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f32> {
    let cell = |at: usize| (0..k).fold(0f32, |sum, i| a[at / n * k + i].mul_add(b[i * n + at % n], sum));
    (0..m * n).map(cell).collect()
}

fn multiply(module: &str, [m, n, k]: [usize; 3], grid: [u32; 3], block: [u32; 3]) {
    let mut random = Random((m * n + k) as u64);
    let (a, b) = (random.list(m * k, Random::unit), random.list(k * n, Random::unit));
    let found = agree(module, |bench| {
        let (left, right, out) = (bench.put(&a), bench.put(&b), bench.room::<f32>(m * n));
        let arguments = Arguments::default().u64(left).u64(right).u64(out);
        let arguments = arguments.u32(m as u32).u32(n as u32).u32(k as u32);
        bench.run_in(module, grid, block, 0, &arguments);
        bench.get::<f32>(out, m * n)
    });
    assert_eq!(found, product(&a, &b, [m, n, k]), "{m} x {n} x {k}");
}

#[test]
fn matmul_tiled_multiplies_matrices_of_any_size() {
    for size in [[1, 1, 1], [16, 16, 16], [33, 17, 45], [40, 64, 7]] {
        let [m, n, _] = size;
        multiply("matmul_tiled", size, [n.div_ceil(16) as u32, m.div_ceil(16) as u32, 1], [16, 16, 1]);
    }
}

#[test]
fn matmul_register_multiplies_matrices() {
    for size in [[64, 64, 16], [128, 64, 48], [64, 192, 80]] {
        let [m, n, _] = size;
        multiply("matmul_register", size, [n as u32 / 64, m as u32 / 64, 1], [256, 1, 1]);
    }
}

/// Whole numbers, whose sums are exact in any order.
fn wholes(n: usize) -> Vec<f32> {
    Random(n as u64).list(n, |random| random.below(201) as f32 - 100.0)
}

#[test]
fn reductions_of_a_block_add_its_inputs() {
    for (kernel, n, block) in [
        ("reduce_shared", 1, 256),
        ("reduce_shared", 1000, 256),
        ("reduce_shuffle", 1000, 256),
        ("reduce_shuffle", 97, 32),
        ("reduce_shuffle", 3000, 1024),
        ("reduce_shuffle", 500, 96),
    ] {
        let input = wholes(n);
        let blocks = n.div_ceil(block);
        let found = agree("reduce", |bench| {
            let (from, to) = (bench.put(&input), bench.room::<f32>(blocks));
            let arguments = Arguments::default().u64(from).u64(to).u32(n as u32);
            bench.run(kernel, blocks as u32, block as u32, 0, &arguments);
            bench.get::<f32>(to, blocks)
        });
        let wanted: Vec<f32> = input.chunks(block).map(|chunk| chunk.iter().sum()).collect();
        assert_eq!(found, wanted, "{kernel} of {n}");
    }
}

#[test]
fn the_last_block_adds_what_the_others_left() {
    for (n, grid) in [(1, 1), (10_000, 7), (5000, 40), (100, 300)] {
        let input = wholes(n);
        let found = agree("reduce", |bench| {
            let (from, partial) = (bench.put(&input), bench.room::<f32>(grid));
            let (out, counter) = (bench.room::<f32>(1), bench.put(&[0u32]));
            let arguments = Arguments::default().u64(from).u64(partial).u64(out).u64(counter).u32(n as u32);
            // Twice: the counter must be 0 again.
            for _ in 0..2 {
                bench.run("reduce_last_block", grid as u32, 256, 0, &arguments);
            }
            (bench.get::<f32>(out, 1)[0], bench.get::<u32>(counter, 1)[0])
        });
        assert_eq!(found, (input.iter().sum(), 0), "{n} in {grid} blocks");
    }
}

/// Sums before each element, or with it.
fn scanned(input: &[i32], inclusive: bool) -> Vec<i32> {
    let mut sum = 0i32;
    let step = |&x: &i32| {
        let before = sum;
        sum = sum.wrapping_add(x);
        if inclusive { sum } else { before }
    };
    input.iter().map(step).collect()
}

#[test]
fn scans_of_blocks_and_their_totals_make_a_whole_scan() {
    for (kernel, chunk, inclusive) in [("scan_blelloch", 512, false), ("scan_hillis_steele", 256, true)] {
        for n in [1, 255, 256, 513, 5000] {
            let input = Random(n as u64).list(n, |random| random.bits() as i32);
            let blocks = n.div_ceil(chunk);
            let (pieces, totals, whole) = agree("scan", |bench| {
                let (from, to) = (bench.put(&input), bench.room::<i32>(n));
                let sums = bench.room::<i32>(blocks);
                let arguments = Arguments::default().u64(from).u64(to).u64(sums).u32(n as u32);
                bench.run(kernel, blocks as u32, 256, 0, &arguments);
                let (pieces, totals) = (bench.get::<i32>(to, n), bench.get::<i32>(sums, blocks));
                let offsets = bench.put(&scanned(&totals, false));
                let arguments = Arguments::default().u64(to).u64(offsets).u32(chunk as u32).u32(n as u32);
                bench.run("scan_add_offsets", n.div_ceil(256) as u32, 256, 0, &arguments);
                (pieces, totals, bench.get::<i32>(to, n))
            });
            let wanted: Vec<i32> = input.chunks(chunk).flat_map(|part| scanned(part, inclusive)).collect();
            assert_eq!(pieces, wanted, "{kernel} of {n}");
            let sum = |part: &[i32]| part.iter().fold(0i32, |sum, &x| sum.wrapping_add(x));
            assert_eq!(totals, input.chunks(chunk).map(sum).collect::<Vec<i32>>());
            assert_eq!(whole, scanned(&input, inclusive));
        }
    }
}

#[test]
fn histograms_count_bytes() {
    for (kernel, block) in [("histogram_global", 100), ("histogram_shared", 256)] {
        for n in [1, 999, 20_000] {
            let mut random = Random(n);
            let input = random.list(n as usize, |random| (random.below(16) * random.below(17)) as u8);
            let found = agree("histogram", |bench| {
                let (from, bins) = (bench.put(&input), bench.put(&[0u32; 256]));
                let arguments = Arguments::default().u64(from).u64(bins).u32(n as u32);
                bench.run(kernel, 5, block, 0, &arguments);
                bench.get::<u32>(bins, 256)
            });
            let mut wanted = vec![0; 256];
            input.iter().for_each(|&byte| wanted[usize::from(byte)] += 1);
            assert_eq!(found, wanted, "{kernel} of {n}");
        }
    }
}

#[test]
fn transposes_swap_rows_and_columns() {
    for kernel in ["transpose_naive", "transpose_conflicts", "transpose_padded"] {
        for (width, height) in [(1, 1), (32, 32), (45, 70), (100, 3)] {
            let input: Vec<f32> = (0..width * height).map(|i| i as f32).collect();
            let found = agree("transpose", |bench| {
                let (from, to) = (bench.put(&input), bench.room::<f32>(input.len()));
                let arguments = Arguments::default().u64(from).u64(to).u32(width).u32(height);
                bench.run_in(kernel, [width.div_ceil(32), height.div_ceil(32), 1], [32, 8, 1], 0, &arguments);
                bench.get::<f32>(to, input.len())
            });
            let wanted: Vec<f32> =
                (0..width * height).map(|i| (i % height * width + i / height) as f32).collect();
            assert_eq!(found, wanted, "{kernel} of {width} x {height}");
        }
    }
}

#[test]
fn stencil_2d_weighs_neighbours() {
    for (width, height) in [(1i32, 1i32), (16, 16), (50, 33), (5, 40)] {
        let input = Random(width as u64).list((width * height) as usize, Random::unit);
        let (centre, side) = (0.6f32, 0.1f32);
        let found = agree("stencil", |bench| {
            let (from, to) = (bench.put(&input), bench.room::<f32>(input.len()));
            let arguments = Arguments::default().u64(from).u64(to).i32(width).i32(height);
            let grid = [(width as u32).div_ceil(16), (height as u32).div_ceil(16), 1];
            bench.run_in("stencil_2d", grid, [16, 16, 1], 0, &arguments.f32(centre).f32(side));
            bench.get::<f32>(to, input.len())
        });
        let at = |x: i32, y: i32| {
            let inside = (0..width).contains(&x) && (0..height).contains(&y);
            if inside { input[(y * width + x) as usize] } else { 0.0 }
        };
        for (i, found) in (0..).zip(found) {
            let (x, y) = (i % width, i / width);
            let sides = at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1);
            // The compiler fuses one of the products with the addition.
            let wanted = [centre.mul_add(at(x, y), side * sides), side.mul_add(sides, centre * at(x, y))];
            assert!(wanted.contains(&found), "{found} at ({x}, {y}), not one of {wanted:?}");
        }
    }
}

#[test]
fn bitonic_sort_sorts_every_chunk() {
    let mut random = Random(3);
    let mut keys = random.list(3 * 1024, |random| random.bits() as u32);
    keys[1024..2048].iter_mut().for_each(|key| *key %= 7);
    let found = agree("bitonic_sort", |bench| {
        let at = bench.put(&keys);
        bench.run("bitonic_sort", 3, 512, 0, &Arguments::default().u64(at));
        bench.get::<u32>(at, keys.len())
    });
    keys.chunks_mut(1024).for_each(<[u32]>::sort_unstable);
    assert_eq!(found, keys);
}

#[test]
fn softmax_online_is_a_softmax() {
    for (rows, columns) in [(1, 1), (3, 127), (4, 500), (2, 33)] {
        let x = Random(columns as u64).list(rows * columns, |random| random.unit() * 20.0);
        let found = agree("softmax_online", |bench| {
            let (from, to) = (bench.put(&x), bench.room::<f32>(x.len()));
            let arguments = Arguments::default().u64(from).u64(to).u32(columns as u32);
            bench.run("softmax_online", rows as u32, 128, 0, &arguments);
            bench.get::<f32>(to, x.len())
        });
        for (found, x) in found.chunks(columns).zip(x.chunks(columns)) {
            let max = f64::from(x.iter().copied().fold(f32::MIN, f32::max));
            let powers: Vec<f64> = x.iter().map(|&x| (f64::from(x) - max).exp()).collect();
            let sum: f64 = powers.iter().sum();
            for (&found, power) in found.iter().zip(powers) {
                // Each merge rounds the exponential's argument, up to 40 in magnitude: some 2^-20.
                let wanted = power / sum;
                assert!((f64::from(found) - wanted).abs() <= 4e-6 * wanted, "{found} for {wanted}");
            }
        }
    }
}

/// Philox4x32-10 (Salmon et al. 2011).
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let (p, q) = (u64::from(c[0]) * 0xD251_1F53, u64::from(c[2]) * 0xCD9E_8D57);
        c = [(q >> 32) as u32 ^ c[1] ^ key[0], q as u32, (p >> 32) as u32 ^ c[3] ^ key[1], p as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

#[test]
fn philox_gives_the_known_answers() {
    let bench = Bench::new("philox");
    for (counter, key, wanted) in [
        ([0u32; 4], [0u32; 2], [0x6627_e8d5u32, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
    ] {
        let (out, from, with) = (bench.room::<u32>(4), bench.put(&counter), bench.put(&key));
        bench.run("philox_counter", 1, 1, 0, &Arguments::default().u64(out).u64(from).u64(with));
        assert_eq!(bench.get::<u32>(out, 4), wanted);
        assert_eq!(philox(counter, key), wanted);
    }
}

#[test]
fn philox_words_and_normals_follow_their_counters() {
    let (seed, stream) = (0x0123_4567_89ab_cdefu64, 0xfedc_ba98_0000_0007u64);
    let words = |i: usize| {
        philox([i as u32, 0, stream as u32, (stream >> 32) as u32], [seed as u32, (seed >> 32) as u32])
    };
    let n = 300;
    let launch = |kernel: &str| {
        agree("philox", |bench| {
            let count = if kernel == "philox_words" { n } else { 4 * n };
            let out = bench.room::<u32>(4 * n);
            let arguments = Arguments::default().u64(out).u32(count as u32).u64(seed).u64(stream);
            bench.run(kernel, 3, 64, 0, &arguments);
            bench.get::<u32>(out, 4 * n)
        })
    };
    let wanted: Vec<u32> = (0..n).flat_map(words).collect();
    assert_eq!(launch("philox_words"), wanted);
    let unit = |word: u32| f64::from((word >> 8) + 1) / 16_777_216.0;
    for (found, words) in launch("philox_normal").chunks(2).zip(wanted.chunks(2)) {
        let radius = (-2.0 * unit(words[0]).ln()).sqrt();
        let (sine, cosine) = (2.0 * std::f64::consts::PI * unit(words[1])).sin_cos();
        for (&found, wanted) in found.iter().zip([radius * cosine, radius * sine]) {
            let found = f64::from(f32::from_bits(found));
            assert!((found - wanted).abs() < 2e-6, "{found} for {wanted}");
        }
    }
}

#[test]
fn layernorm_normalises_rows() {
    for (rows, columns) in [(1, 1), (5, 100), (8, 32), (3, 257)] {
        let mut random = Random(columns as u64);
        let x = random.list(rows * columns, |random| random.unit() + 3.0);
        let (gamma, beta) = (random.list(columns, Random::unit), random.list(columns, Random::unit));
        let (y, mean, rstd) = agree("layernorm", |bench| {
            let (y, mean, rstd) =
                (bench.room::<f32>(x.len()), bench.room::<f32>(rows), bench.room::<f32>(rows));
            let arguments =
                Arguments::default().u64(bench.put(&x)).u64(bench.put(&gamma)).u64(bench.put(&beta));
            let arguments =
                arguments.u64(y).u64(mean).u64(rstd).u32(rows as u32).u32(columns as u32).f32(1e-3);
            bench.run_in("layernorm", [rows.div_ceil(4) as u32, 1, 1], [32, 4, 1], 0, &arguments);
            (bench.get::<f32>(y, x.len()), bench.get::<f32>(mean, rows), bench.get::<f32>(rstd, rows))
        });
        for (r, row) in x.chunks(columns).enumerate() {
            let mu = row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mu).powi(2)).sum::<f64>() / columns as f64;
            let scale = 1.0 / (variance + f64::from(1e-3f32)).sqrt();
            let part = |c: usize| (f64::from(row[c]) - mu) * scale * f64::from(gamma[c]) + f64::from(beta[c]);
            let wanted: Vec<f64> = (0..columns).map(part).collect();
            assert!(common::distance(&y[r * columns..][..columns], &wanted) < 1e-5);
            assert!(common::distance(&mean[r..=r], &[mu]) < 1e-6);
            assert!(common::distance(&rstd[r..=r], &[scale]) < 1e-5);
        }
    }
}
