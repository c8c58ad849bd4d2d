//! The kernels that pass over memory once, with GB/s: `cargo bench --bench passes [-- FILTER]`. Bytes are what a
//! kernel must read and write at least; compare with `copy`, which does nothing else.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;

/// The activations of one layer: 8 samples of 1024 tokens, 384 wide; 12 MiB an array, more than a core's cache.
const DIMS: TokenDims = TokenDims { batch: 8, tokens: 1024, dim: 384 };
const SLOTS: usize = 6;
const KEY: NoiseKey = NoiseKey { seed: 1, step: 2, purpose: Purpose::Noise };

/// Measures `work`, which passes over `passes` arrays of the size of the activations.
fn run(criterion: &mut Criterion, name: &str, passes: usize, mut work: impl FnMut()) {
    let mut group = criterion.benchmark_group("passes");
    group.sample_size(15).warm_up_time(Duration::from_millis(100));
    group.measurement_time(Duration::from_millis(500));
    group.throughput(Throughput::BytesDecimal((passes * DIMS.len() * size_of::<f32>()) as u64));
    group.bench_function(name, |bencher| bencher.iter(&mut work));
    group.finish();
}

/// Numbers in [-1, 1], different for each `seed`.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + seed) as f32 * 12.9898).sin()).collect()
}

fn slot(index: usize) -> Slots {
    Slots { count: SLOTS, index }
}

fn norm(c: &mut Criterion) {
    let cpu = Cpu::new();
    let (x, dy) = (numbers(DIMS.len(), 0), numbers(DIMS.len(), 1));
    let (mut y, mut stats) = (x.clone(), vec![0.0; 2 * DIMS.rows()]);
    let (w, mut dw, mut dbias) = (numbers(DIMS.dim, 2), numbers(DIMS.dim, 3), numbers(DIMS.dim, 4));
    let modulation = numbers(DIMS.batch * SLOTS * DIMS.dim, 5);
    let mut dmodulation = modulation.clone();
    run(c, "norm_affine_forward", 2, || {
        cpu.norm_affine_forward(&mut y, &mut stats, &x, &w, &w, 1e-5, DIMS);
    });
    run(c, "norm_affine_backward", 3, || {
        cpu.norm_affine_backward(&mut y, Write::Replace, &mut dw, &mut dbias, &dy, &x, &stats, &w, DIMS);
    });
    run(c, "norm_modulated_forward", 2, || {
        cpu.norm_modulated_forward(&mut y, &mut stats, &x, &modulation, slot(0), slot(1), 1e-5, DIMS);
    });
    run(c, "norm_modulated_backward, adding", 4, || {
        let (shift, scale) = (slot(0), slot(1));
        let d = &mut dmodulation;
        cpu.norm_modulated_backward(&mut y, Write::Add, d, &dy, &x, &stats, &modulation, shift, scale, DIMS);
    });
}

fn elementwise(c: &mut Criterion) {
    let cpu = Cpu::new();
    let (x, dy, mut y) = (numbers(DIMS.len(), 0), numbers(DIMS.len(), 1), numbers(DIMS.len(), 2));
    let modulation = numbers(DIMS.batch * SLOTS * DIMS.dim, 3);
    let mut dmodulation = modulation.clone();
    let mut position = numbers(DIMS.tokens * DIMS.dim, 4);
    run(c, "copy", 2, || cpu.copy(&mut y, &x));
    run(c, "find_non_finite", 1, || assert_eq!(cpu.find_non_finite(black_box(&x)), None));
    for activation in [Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Gelu] {
        run(c, &format!("activation_forward {activation:?}"), 2, || {
            cpu.activation_forward(&mut y, &x, activation)
        });
        run(c, &format!("activation_backward {activation:?}"), 3, || {
            cpu.activation_backward(&mut y, Write::Replace, &dy, &x, activation);
        });
    }
    run(c, "add_rows_forward over tokens", 2, || {
        cpu.add_rows_forward(&mut y, &x, &modulation, Repeat::OverTokens, DIMS);
    });
    run(c, "add_rows_backward over tokens", 1, || {
        cpu.add_rows_backward(&mut dmodulation, &dy, Repeat::OverTokens, DIMS);
    });
    run(c, "add_rows_backward over batch", 1, || {
        cpu.add_rows_backward(&mut position, &dy, Repeat::OverBatch, DIMS);
    });
    run(c, "residual_forward", 3, || cpu.residual_forward(&mut y, &x, &dy));
    run(c, "gated_residual_forward", 3, || {
        cpu.gated_residual_forward(&mut y, &x, &dy, &modulation, slot(2), DIMS);
    });
    run(c, "gated_residual_backward", 3, || {
        cpu.gated_residual_backward(&mut y, &mut dmodulation, &dy, &x, &modulation, slot(2), DIMS);
    });
}

fn diffusion(c: &mut Criterion) {
    let cpu = Cpu::new();
    let (x0, eps) = (numbers(DIMS.len(), 0), numbers(DIMS.len(), 1));
    let (mut x, mut target) = (x0.clone(), x0.clone());
    run(c, "normal", 1, || cpu.normal(&mut x, KEY, 0));
    let row = [0.6, 0.8, 0.0, DIMS.dim as f32];
    let rows = row.repeat(DIMS.batch);
    run(c, "noise_mix V, all frames", 4, || {
        cpu.noise_mix(&mut x, &mut target, &x0, &eps, &rows, Objective::V, DIMS.dim);
    });
    let rows = [0.6, 0.8, 100.0, 300.0].repeat(DIMS.batch);
    run(c, "noise_mix V, a range", 4, || {
        cpu.noise_mix(&mut x, &mut target, &x0, &eps, &rows, Objective::V, DIMS.dim);
    });
    let mut losses = vec![0.0; DIMS.batch];
    run(c, "mse", 3, || cpu.mse(&mut losses, &mut x, &x0, &eps, &[1.0; DIMS.batch]));
    let step = SamplerStep {
        from_x: 1.0,
        from_prediction: 0.1,
        clip: 1.0,
        keep: 0.3,
        to_x0: 0.5,
        noise: 0.1,
        ..SamplerStep::default()
    };
    run(c, "sampler_step", 4, || cpu.sampler_step(&mut x, None, &x0, Some(&eps), step));
}

fn adam(c: &mut Criterion) {
    let cpu = Cpu::new();
    let gradient = numbers(DIMS.len(), 0);
    let (mut weights, mut ema) = (numbers(DIMS.len(), 1), numbers(DIMS.len(), 1));
    let (mut first, mut second) = (vec![0.0; DIMS.len()], vec![0.0; DIMS.len()]);
    let mut norm2 = [0.0];
    let step = AdamStep {
        lr: 1e-4,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.01,
        decayed: DIMS.len() / 2,
        step: 3,
        max_norm: 1.0,
        ema_decay: 0.999,
    };
    run(c, "sum_of_squares", 1, || cpu.sum_of_squares(&mut norm2, &gradient));
    run(c, "adam", 9, || {
        cpu.adam(&mut weights, &mut first, &mut second, &mut ema, &gradient, &[1.0], step);
    });
}

criterion_group!(benches, norm, elementwise, diffusion, adam);
criterion_main!(benches);
