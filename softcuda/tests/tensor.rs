//! Kernels on tensor cores against plain loops. Inputs are whole numbers where not said otherwise: their sums are exact in any
//! order and in every accumulator.

mod common;

use common::{Arguments, Bench, Plain, Random, agree};
use half::{bf16, f16};

/// Whole numbers from -8 to 8.
fn wholes(seed: u64, n: usize) -> Vec<f64> {
    Random(seed).list(n, |random| random.below(17) as f64 - 8.0)
}

/// A B^T + C, where rows of A and B have k cells.
fn product(a: &[f64], b: &[f64], c: impl Fn(usize) -> f64, [m, n, k]: [usize; 3]) -> Vec<f64> {
    let dot = |at: usize| (0..k).map(|i| a[at / n * k + i] * b[at % n * k + i]).sum::<f64>();
    (0..m * n).map(|at| dot(at) + c(at)).collect()
}

fn to<T>(values: &[f64], f: impl Fn(f64) -> T) -> Vec<T> {
    values.iter().map(|&value| f(value)).collect()
}

fn gemm<T: Plain>(kernel: &str, a: &[T], b: &[T], [m, n, k]: [usize; 3]) -> Vec<f32> {
    agree("mma_gemm", |bench| {
        let out = bench.room::<f32>(m * n);
        let arguments = Arguments::default().u64(bench.put(a)).u64(bench.put(b)).u64(out);
        let arguments = arguments.u32(m as u32).u32(n as u32).u32(k as u32);
        bench.run_in(kernel, [n as u32 / 64, m as u32 / 64, 1], [128, 1, 1], 0, &arguments);
        bench.get::<f32>(out, m * n)
    })
}

#[test]
fn pipelined_products_are_exact_on_whole_numbers() {
    for size in [[64, 64, 32], [128, 64, 96], [64, 192, 160]] {
        let [m, n, k] = size;
        let (a, b) = (wholes(1, m * k), wholes(2, n * k));
        let wanted = to(&product(&a, &b, |_| 0.0, size), |x| x as f32);
        assert_eq!(gemm("gemm_f16", &to(&a, f16::from_f64), &to(&b, f16::from_f64), size), wanted);
        assert_eq!(gemm("gemm_bf16", &to(&a, bf16::from_f64), &to(&b, bf16::from_f64), size), wanted);
        assert_eq!(gemm("gemm_tf32", &to(&a, |x| x as f32), &to(&b, |x| x as f32), size), wanted);
    }
}

/// Rounded to the 10 bits of tf32, ties away from zero.
fn tf32(x: f32) -> f64 {
    f64::from(f32::from_bits(x.to_bits().wrapping_add(0x1000) & !0x1fff))
}

#[test]
fn tf32_products_round_their_inputs_only() {
    let size @ [m, n, k] = [64, 64, 48];
    let mut random = Random(3);
    let (a, b) = (random.list(m * k, Random::unit), random.list(n * k, Random::unit));
    let rounded = |x: &[f32]| x.iter().map(|&x| tf32(x)).collect::<Vec<f64>>();
    let wanted = product(&rounded(&a), &rounded(&b), |_| 0.0, size);
    let error = common::distance(&gemm("gemm_tf32", &a, &b, size), &wanted);
    assert!(error < 2e-6, "{error}");
}

/// A kernel of one warp: (A, B, C, D).
fn shape<A: Plain, C: Plain + PartialEq + std::fmt::Debug>(
    module: &str,
    kernel: &str,
    a: &[A],
    b: &[A],
    c: &[C],
) -> Vec<C> {
    agree(module, |bench| {
        let out = bench.room::<C>(c.len());
        let arguments = Arguments::default().u64(bench.put(a)).u64(bench.put(b)).u64(bench.put(c));
        bench.run(kernel, 1, 32, 0, &arguments.u64(out));
        bench.get::<C>(out, c.len())
    })
}

#[test]
fn shapes_of_mma_multiply_and_add() {
    let of = |m: usize, n: usize, k: usize| {
        let (a, b, c) = (wholes(4, m * k), wholes(5, n * k), wholes(6, m * n));
        let d = product(&a, &b, |at| c[at], [m, n, k]);
        (a, b, c, d)
    };
    let (a, b, c, d) = of(16, 8, 16);
    let halves = |list: &[f64]| to(list, f16::from_f64);
    assert_eq!(shape("mma_shapes", "mma_f16_f16", &halves(&a), &halves(&b), &halves(&c)), halves(&d));
    let (a, b, c, d) = of(16, 8, 8);
    let singles = |list: &[f64]| to(list, |x| x as f32);
    for (module, kernel) in [("mma_shapes", "mma_m16n8k8_f16"), ("turing", "mma_turing")] {
        assert_eq!(shape(module, kernel, &halves(&a), &halves(&b), &singles(&c)), singles(&d), "{kernel}");
    }
    let (a, b, c, d) = of(8, 8, 4);
    assert_eq!(shape("mma_shapes", "mma_m8n8k4_f64", &a, &b, &c), d);
    let mut random = Random(7);
    let mut bytes = |n: usize| random.list(n, |random| f64::from(random.bits() as i8));
    let (a, b) = (bytes(16 * 32), bytes(8 * 32));
    let c = to(&wholes(8, 128), |x| x * 1e6);
    let d = product(&a, &b, |at| c[at], [16, 8, 32]);
    let (bytes, words) = (|list: &[f64]| to(list, |x| x as i8), |list: &[f64]| to(list, |x| x as i32));
    assert_eq!(shape("mma_shapes", "mma_s8", &bytes(&a), &bytes(&b), &words(&c)), words(&d));
}

#[test]
fn ldmatrix_hands_out_rows_and_columns() {
    let input = Random(9).list(256, |random| random.bits() as u16);
    let found = agree("mma_shapes", |bench| {
        let out = bench.room::<u32>(7 * 32);
        bench.run("ldmatrix_forms", 1, 32, 0, &Arguments::default().u64(bench.put(&input)).u64(out));
        bench.get::<u32>(out, 7 * 32)
    });
    // Lane l holds cells 2 (l % 4) and the next of row l / 4 of an 8 x 8 matrix; of its transpose, the same of column l / 4.
    let cells = |matrix: usize, transposed: bool| -> Vec<u32> {
        let cell = |row: usize, column: usize| {
            let (row, column) = if transposed { (column, row) } else { (row, column) };
            u32::from(input[(8 * matrix + row) * 8 + column])
        };
        (0..32).map(|l| cell(l / 4, l % 4 * 2) | cell(l / 4, l % 4 * 2 + 1) << 16).collect()
    };
    let wanted = [(0, false), (0, false), (1, false), (0, true), (0, true), (1, true), (0, true)];
    for ((row, found), (matrix, transposed)) in found.chunks(32).enumerate().zip(wanted) {
        assert_eq!(found, cells(matrix, transposed), "row {row}");
    }
}

#[test]
fn wmma_multiplies_tiles() {
    for size @ [m, n, k] in [[16, 16, 16], [32, 48, 64]] {
        let (a, b) = (wholes(10, m * k), wholes(11, n * k));
        let transposed: Vec<f64> = (0..n * k).map(|at| b[at % n * k + at / n]).collect();
        let wanted = product(&a, &b, |_| 0.0, size);
        let halves = |list: &[f64]| to(list, f16::from_f64);
        let launch = |bench: &Bench, kernel: &str, b: &[f64], out: u64| {
            let arguments = Arguments::default().u64(bench.put(&halves(&a))).u64(bench.put(&halves(b)));
            let arguments = arguments.u64(out).u32(m as u32).u32(n as u32).u32(k as u32);
            bench.run_in(kernel, [n as u32 / 16, m as u32 / 16, 1], [32, 1, 1], 0, &arguments)
        };
        let found = agree("wmma", |bench| {
            let out = bench.room::<f32>(m * n);
            let flops = launch(bench, "wmma_f16", &transposed, out).counters.tensor_flops;
            assert_eq!(flops, 2 * (m * n * k) as u64);
            bench.get::<f32>(out, m * n)
        });
        assert_eq!(found, to(&wanted, |x| x as f32));
        let found = agree("wmma", |bench| {
            let out = bench.room::<f16>(m * n);
            launch(bench, "wmma_f16_transposed", &b, out);
            bench.get::<f16>(out, m * n)
        });
        // Sums of up to 64 products of up to 64: f16 holds whole numbers up to 2048.
        assert!(wanted.iter().all(|x| x.abs() <= 2048.0));
        assert_eq!(found, halves(&wanted));
    }
}
