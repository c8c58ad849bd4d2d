//! The step embedding, rows of a table, means over tokens: values, gradients, bits.

mod common;
#[path = "reference/embed.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{Cuda, driver};

fn step_embedding<B: Backend>(b: &B, t: &[f32], half: usize, max_period: f32) -> Vec<f32> {
    let (mut out, t) = (poisoned(b, t.len() * 2 * half), upload(b, t));
    b.step_embedding(all_mut::<B>(&mut out), all::<B>(&t), half, max_period);
    download(b, &out)
}

fn check_step_embedding<B: Backend>(b: &B) {
    for (half, max_period) in [(1, 10_000.0), (31, 1000.0), (33, 10_000.0), (128, 1000.0), (257, 1000.0)] {
        let t = [0.0, 1.0, 0.5, 17.0, 499.0, 999.0];
        let want = reference::step_embedding(&wide(&t), half, f64::from(max_period));
        let naive = reference::step_embedding(&t, half, f64::from(max_period));
        assert_close(
            &format!("{half} {max_period}"),
            &step_embedding(b, &t, half, max_period),
            &want,
            &naive,
        );
    }
}

/// (rows of the table, dim, indices): repeated, first, last and missing rows.
fn tables() -> Vec<(usize, usize, Vec<u32>)> {
    vec![
        (1, 1, vec![0]),
        (7, 33, vec![6, 0, 3, 3, 6, 3]),
        (65, 127, (0..257).map(|i| i * i % 64).collect()),
        (3, 257, vec![]),
    ]
}

fn lookup_backward<B: Backend>(b: &B, before: &[f32], dout: &[f32], indices: &[u32], dim: usize) -> Vec<f32> {
    let (mut dtable, dout) = (upload(b, before), upload_activation(b, dout));
    b.lookup_backward(all_mut::<B>(&mut dtable), all::<B>(&dout), indices, dim);
    download(b, &dtable)
}

fn check_lookup<B: Backend>(b: &B) {
    for (rows, dim, indices) in tables() {
        let table = random(1, rows * dim);
        let len = indices.len() * dim;
        let want = reference::lookup(&table, &indices, dim);
        let device_table = upload_weights(b, &table);
        for (mut out, want) in
            [(poisoned(b, len), want.clone()), (poisoned_activation(b, len), rounded(b, &want))]
        {
            b.lookup_forward(all_mut::<B>(&mut out), all::<B>(&device_table), &indices, dim);
            assert_eq!(download(b, &out), want);
        }

        let (before, dout) = (random(2, table.len()), rounded(b, &random(3, len)));
        let (mut want, mut naive) = (wide(&before), before.clone());
        reference::lookup_backward(&mut want, &wide(&dout), &indices, dim);
        reference::lookup_backward(&mut naive, &dout, &indices, dim);
        let got = lookup_backward(b, &before, &dout, &indices, dim);
        assert_close(&format!("dtable {rows} {dim}"), &got, &want, &naive);
    }
}

fn check_differences<B: Backend>(b: &B) {
    let (rows, dim, indices) = tables().remove(1);
    let (table, dout) = (random(1, rows * dim), random(3, indices.len() * dim));
    let dtable = lookup_backward(b, &vec![0.0; table.len()], &dout, &indices, dim);
    assert_gradient("dtable", &dtable, &table, 1e-5, |table| {
        let out = reference::lookup(table, &indices, dim);
        out.iter().zip(&dout).map(|(out, &dout)| out * f64::from(dout)).sum()
    });
}

/// (tokens, dim, tokens of each sample)
const POOLS: [(usize, usize, &[usize]); 4] =
    [(1, 1, &[1]), (7, 33, &[7, 1, 3]), (48, 127, &[31, 48]), (65, 257, &[64, 1, 65])];

/// Padding holds NaN: it is not to be read.
fn check_pool<B: Backend>(b: &B) {
    for (tokens, dim, lengths) in POOLS {
        let dims = TokenDims { batch: lengths.len(), tokens, dim };
        let mut x = rounded(b, &random(1, dims.len()));
        for (sample, &length) in x.chunks_exact_mut(tokens * dim).zip(lengths) {
            sample[length * dim..].fill(f32::NAN);
        }
        let on_device = upload(b, &lengths.iter().map(|&length| length as f32).collect::<Vec<_>>());
        let (mut out, x_there) = (poisoned(b, lengths.len() * dim), upload_activation(b, &x));
        b.pool_forward(all_mut::<B>(&mut out), all::<B>(&x_there), all::<B>(&on_device), dims);
        let (want, naive) =
            (reference::pool(&wide(&x), lengths, tokens, dim), reference::pool(&x, lengths, tokens, dim));
        assert_close(&format!("pool {tokens} {dim}"), &download(b, &out), &want, &naive);

        let dout = random(2, lengths.len() * dim);
        let before = rounded(b, &random(3, dims.len()));
        let dout_there = upload(b, &dout);
        let gradient = |before: Option<&[f32]>| {
            let (mut dx, write) = match before {
                None => (poisoned_activation(b, dims.len()), Write::Replace),
                Some(before) => (upload_activation(b, before), Write::Add),
            };
            b.pool_backward(all_mut::<B>(&mut dx), write, all::<B>(&dout_there), all::<B>(&on_device), dims);
            download(b, &dx)
        };
        for before in [None, Some(&before[..])] {
            let start = before.map_or(vec![0.0; dims.len()], <[f32]>::to_vec);
            let mut want = wide(&start);
            reference::pool_backward(&mut want, &wide(&dout), lengths, tokens, dim);
            let mut naive = start;
            reference::pool_backward(&mut naive, &dout, lengths, tokens, dim);
            let name = format!("dpool {tokens} {dim} {}", before.is_some());
            assert_close(&name, &gradient(before), &want, &rounded(b, &naive));
        }
    }
}

/// Sines first, slowest frequency last.
fn check_order<B: Backend>(b: &B) {
    let out = step_embedding(b, &[1.0], 2, 10_000.0);
    let want = [1.0_f32.sin(), 0.01_f32.sin(), 1.0_f32.cos(), 0.01_f32.cos()];
    out.iter().zip(want).for_each(|(out, want)| assert!((out - want).abs() < 1e-6, "{out} {want}"));
}

/// Far steps are as accurate as near ones: the angle must not be rounded to f32.
fn check_accuracy<B: Backend>(b: &B) {
    let t: Vec<f32> = (0..1000).map(|t| t as f32).collect();
    let want = reference::step_embedding(&wide(&t), 16, 10_000.0);
    let got = step_embedding(b, &t, 16, 10_000.0);
    got.iter()
        .zip(want)
        .for_each(|(&got, want)| assert!((f64::from(got) - want).abs() < 3e-7, "{got} {want}"));
}

/// Runs a check on softcuda, which must have nothing to say about the kernels.
fn on_cuda(precision: Precision, check: impl FnOnce(&Cuda)) {
    let device = cuda::cuda(precision);
    check(&device);
    device.check().expect("nothing went wrong");
    assert_eq!(driver::findings(), "");
}

#[test]
fn step_embeddings_cpu() {
    check_step_embedding(&Cpu::poisoned());
}

#[test]
fn step_embeddings_f32() {
    on_cuda(Precision::F32, check_step_embedding);
}

#[test]
fn step_embeddings_bf16() {
    on_cuda(Precision::Bf16, check_step_embedding);
}

#[test]
fn step_embeddings_of_far_steps_cpu() {
    check_accuracy(&Cpu::poisoned());
}

#[test]
fn step_embeddings_of_far_steps_f32() {
    on_cuda(Precision::F32, check_accuracy);
}

#[test]
fn step_embeddings_of_far_steps_bf16() {
    on_cuda(Precision::Bf16, check_accuracy);
}

#[test]
fn order_of_the_step_embedding_cpu() {
    check_order(&Cpu::poisoned());
}

#[test]
fn order_of_the_step_embedding_f32() {
    on_cuda(Precision::F32, check_order);
}

#[test]
fn order_of_the_step_embedding_bf16() {
    on_cuda(Precision::Bf16, check_order);
}

#[test]
fn lookups_cpu() {
    check_lookup(&Cpu::poisoned());
}

#[test]
fn lookups_f32() {
    on_cuda(Precision::F32, check_lookup);
}

#[test]
fn lookups_bf16() {
    on_cuda(Precision::Bf16, check_lookup);
}

#[test]
fn lookup_gradients_are_the_differences_cpu() {
    check_differences(&Cpu::poisoned());
}

#[test]
fn lookup_gradients_are_the_differences_f32() {
    on_cuda(Precision::F32, check_differences);
}

#[test]
fn pools_cpu() {
    check_pool(&Cpu::poisoned());
}

#[test]
fn pools_f32() {
    on_cuda(Precision::F32, check_pool);
}

#[test]
fn pools_bf16() {
    on_cuda(Precision::Bf16, check_pool);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (rows, dim, indices) = tables().remove(2);
    let (before, dout) = (random(2, rows * dim), random(3, indices.len() * dim));
    assert_same_bits_for_any_threads("lookup", || {
        lookup_backward(&Cpu::poisoned(), &before, &dout, &indices, dim)
    });
}
