//! The kernels that a train step is made of, with GFLOP/s and the fraction of the machine's FMA peak:
//! `cargo bench --bench kernels [-- FILTER]`. What the shapes are: docs/performance.md.

mod peak;

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;

/// (inner, columns) of the linear layers of the 256 and 384 wide models: qkv, out, MLP up, MLP down.
const LAYERS: [(usize, usize); 8] =
    [(256, 768), (256, 256), (256, 1024), (1024, 256), (384, 1152), (384, 384), (384, 1536), (1536, 384)];
const TOKENS: [usize; 2] = [2048, 4096];

/// Seconds that all threads of this process have spent on a core; on a machine that others use too, what a kernel
/// costs is told by these and not by the clock. Linux only; elsewhere none.
fn core_seconds() -> Option<f64> {
    let mut nanoseconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split(' ').next()?.parse::<f64>().ok()?;
    }
    Some(nanoseconds * 1e-9)
}

/// Benchmarks of one run, with the peak they are held against.
struct Bench<'a> {
    criterion: &'a mut Criterion,
    /// Of one core.
    peak: f64,
}

impl Bench<'_> {
    /// Measures `work`, which does `flops` operations, and prints its speed below criterion's lines.
    fn run(&mut self, name: &str, flops: f64, mut work: impl FnMut()) {
        let times: RefCell<Vec<f64>> = RefCell::default();
        let cores = Cell::new(Some(0.0));
        let mut group = self.criterion.benchmark_group("kernels");
        group.sample_size(15).warm_up_time(Duration::from_millis(200));
        group.measurement_time(Duration::from_millis(800)).throughput(Throughput::Elements(flops as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                let before = core_seconds();
                for _ in 0..iterations {
                    let start = Instant::now();
                    work();
                    let time = start.elapsed();
                    times.borrow_mut().push(time.as_secs_f64());
                    total += time;
                }
                let spent = core_seconds().zip(before).map(|(after, before)| after - before);
                cores.set(cores.get().zip(spent).map(|(sum, spent)| sum + spent));
                total
            });
        });
        group.finish();
        let mut times = times.into_inner();
        if times.is_empty() {
            return; // filtered out
        }
        times.sort_by(f64::total_cmp);
        let (median, best) = (times[times.len() / 2], times[0]);
        let speed = |seconds: f64| flops / seconds / 1e9;
        print!("RESULT {name}: median {:.3} ms, {:.1} GFLOP/s", median * 1e3, speed(median));
        print!("; best {:.3} ms, {:.1} GFLOP/s", best * 1e3, speed(best));
        let all_cores = self.peak * rayon::current_num_threads() as f64 / 1e9;
        print!(", {:.0}% of the FMA peak", 100.0 * speed(best) / all_cores);
        if let Some(seconds) = cores.get().map(|seconds| seconds / times.len() as f64) {
            let part = 100.0 * speed(seconds) * 1e9 / self.peak;
            print!("; {:.1} GFLOP per core second, {part:.0}% of a core's peak", speed(seconds));
        }
        println!();
    }
}

/// Numbers in [-1, 1], different for each `seed`.
fn random(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + seed) as f32 * 12.9898).sin()).collect()
}

fn matmul(bench: &mut Bench, cpu: &Cpu) {
    for rows in TOKENS {
        for (inner, columns) in LAYERS {
            let dims = MatmulDims { rows, columns, inner };
            let flops = 2.0 * (rows * columns * inner) as f64;
            let (x, w) = (random(rows * inner, 0), random(columns * inner, 1));
            let (mut y, mut dx, mut dw) = (random(rows * columns, 2), x.clone(), w.clone());
            let (mut bias, shape) = (vec![0.0; columns], format!("{rows}x{inner}x{columns}"));
            bench.run(&format!("matmul_forward {shape}"), flops, || {
                cpu.matmul_forward(&mut y, None, &x, &w, Some(&bias), Activation::Identity, dims);
            });
            bench.run(&format!("matmul_backward_input {shape}"), flops, || {
                cpu.matmul_backward_input(&mut dx, Write::Replace, &y, &w, dims);
            });
            bench.run(&format!("matmul_backward_weight {shape}"), flops, || {
                cpu.matmul_backward_weight(&mut dw, Some(&mut bias), &y, &x, dims);
            });
            check_beside_library(cpu, &x, &w, dims);
            library(bench, [&mut y, &mut dx, &mut dw], &x, &w, dims);
        }
    }
}

/// The same three products by `matrixmultiply`, the fastest library in Rust on these shapes; without bias.
fn library(bench: &mut Bench, [y, dx, dw]: [&mut Vec<f32>; 3], x: &[f32], w: &[f32], dims: MatmulDims) {
    let MatmulDims { rows, columns, inner } = dims;
    let (flops, shape) = (2.0 * (rows * columns * inner) as f64, format!("{rows}x{inner}x{columns}"));
    let [row, column] = [inner, columns].map(|stride| [stride, 1]);
    let turned = |[a, b]: [usize; 2]| [b, a];
    bench.run(&format!("library_forward {shape}"), flops, || {
        library_product(y, x, w, [rows, inner, columns], [row, turned(row)], 0.0);
    });
    bench.run(&format!("library_backward_input {shape}"), flops, || {
        library_product(dx, y, w, [rows, columns, inner], [column, row], 0.0);
    });
    bench.run(&format!("library_backward_weight {shape}"), flops, || {
        library_product(dw, y, x, [columns, rows, inner], [turned(column), row], 1.0);
    });
}

/// Ours and the library's forward product are the same but for rounding.
fn check_beside_library(cpu: &Cpu, x: &[f32], w: &[f32], dims: MatmulDims) {
    let MatmulDims { rows, columns, inner } = dims;
    let (mut ours, mut theirs) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
    cpu.matmul_forward(&mut ours, None, x, w, None, Activation::Identity, dims);
    library_product(&mut theirs, x, w, [rows, inner, columns], [[inner, 1], [1, inner]], 0.0);
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5 * inner as f32;
    assert!(!ours.iter().zip(&theirs).any(far), "{dims:?}: not what the library gives");
}

/// `c = beta c + a b`; a `[m, k]`, b `[k, n]` with distances between rows and between columns.
fn library_product(
    c: &mut [f32],
    a: &[f32],
    b: &[f32],
    [m, k, n]: [usize; 3],
    [a_strides, b_strides]: [[usize; 2]; 2],
    beta: f32,
) {
    assert!(c.len() == m * n && a.len() == m * k && b.len() == k * n);
    let [a_strides, b_strides] = [a_strides, b_strides].map(|strides| strides.map(|stride| stride as isize));
    let [ar, ac] = a_strides;
    let [br, bc] = b_strides;
    #[expect(unsafe_code, reason = "the library's interface")]
    // SAFETY: the arrays are dense and as long as asserted.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            ar,
            ac,
            b.as_ptr(),
            br,
            bc,
            beta,
            c.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

/// The first layer of an MLP with its activation, saving what backward needs.
fn matmul_fused(bench: &mut Bench, cpu: &Cpu) {
    let dims = MatmulDims { rows: 2048, columns: 1024, inner: 256 };
    let (x, w) = (random(dims.rows * dims.inner, 0), random(dims.columns * dims.inner, 1));
    let (mut y, mut pre) = (vec![0.0; dims.rows * dims.columns], vec![0.0; dims.rows * dims.columns]);
    let bias = vec![0.1; dims.columns];
    let flops = 2.0 * (dims.rows * dims.columns * dims.inner) as f64;
    bench.run("matmul_forward_gelu 2048x256x1024", flops, || {
        cpu.matmul_forward(&mut y, Some(&mut pre), &x, &w, Some(&bias), Activation::Gelu, dims);
    });
}

fn attention(bench: &mut Bench, cpu: &Cpu) {
    for (batch, heads, tokens) in [(4, 4, 256), (8, 4, 256), (4, 6, 1024), (1, 4, 6592)] {
        let dims = AttentionDims { batch, tokens, heads, head_dim: 64 };
        let len = batch * tokens * dims.dim();
        let (qkv, dout) = (random(3 * len, 0), random(len, 1));
        let (mut out, mut lse) = (vec![0.0; len], vec![0.0; batch * heads * tokens]);
        let (mut dqkv, product) = (qkv.clone(), 2.0 * (len * tokens) as f64);
        let name = format!("B{batch} H{heads} N{tokens} D64");
        bench.run(&format!("attention_forward {name}"), 2.0 * product, || {
            cpu.attention_forward(&mut out, &mut lse, &qkv, dims);
        });
        bench.run(&format!("attention_backward {name}"), 5.0 * product, || {
            cpu.attention_backward(&mut dqkv, &dout, &out, &lse, &qkv, dims);
        });
    }
}

fn patch(bench: &mut Bench, cpu: &Cpu) {
    let large = PatchDims {
        batch: 8,
        channels: 2,
        height: 512,
        width: 512,
        patch_height: 32,
        patch_width: 32,
        dim: 256,
    };
    let wide = PatchDims {
        batch: 4,
        channels: 2,
        height: 512,
        width: 256,
        patch_height: 16,
        patch_width: 8,
        dim: 384,
    };
    let seed = PatchDims {
        batch: 1,
        channels: 2,
        height: 412,
        width: 256,
        patch_height: 4,
        patch_width: 4,
        dim: 256,
    };
    for (name, dims) in [("32x32", large), ("16x8", wide), ("4x4", seed)] {
        let flops = 2.0 * (dims.batch * dims.tokens() * dims.dim * dims.patch_len()) as f64;
        let mut image = random(dims.image_len(), 0);
        let mut tokens = random(dims.batch * dims.tokens() * dims.dim, 1);
        let mut weight = random(dims.dim * dims.patch_len(), 2);
        let (mut bias, mut channel_bias) = (vec![0.0; dims.dim], vec![0.0; dims.channels]);
        bench.run(&format!("patch_embed_forward {name}"), flops, || {
            cpu.patch_embed_forward(&mut tokens, &image, &weight, &bias, dims);
        });
        bench.run(&format!("patch_embed_backward_weight {name}"), flops, || {
            cpu.patch_embed_backward_weight(&mut weight, &mut bias, &tokens, &image, dims);
        });
        weight.fill(0.01);
        bench.run(&format!("patch_deembed_forward {name}"), flops, || {
            cpu.patch_deembed_forward(&mut image, &tokens, &weight, &channel_bias, dims);
        });
        bench.run(&format!("patch_deembed_backward_weight {name}"), flops, || {
            cpu.patch_deembed_backward_weight(&mut weight, &mut channel_bias, &image, &tokens, dims);
        });
        weight.fill(0.01);
        bench.run(&format!("patch_deembed_backward_input {name}"), flops, || {
            cpu.patch_deembed_backward_input(&mut tokens, Write::Replace, &image, &weight, dims);
        });
    }
}

fn kernels(criterion: &mut Criterion) {
    let (cpu, peak) = (Cpu::new(), peak::fma_flops_per_second());
    println!("RESULT {}: FMA peak of a core {:.1} GFLOP/s", cpu.name(), peak / 1e9);
    let mut bench = Bench { criterion, peak };
    matmul(&mut bench, &cpu);
    matmul_fused(&mut bench, &cpu);
    attention(&mut bench, &cpu);
    patch(&mut bench, &cpu);
}

criterion_group!(benches, kernels);
criterion_main!(benches);
