//! The attention family against the whole score matrix in f64.

mod common;
#[path = "reference/attention.rs"]
mod reference;

use common::*;
use dit_engine::backend::{AttentionDims, Backend};
use dit_engine::cpu::{Cpu, scratch};

/// (batch, tokens, heads, head_dim)
type Case = (usize, usize, usize, usize);

const CASES: [Case; 11] = [
    (1, 1, 1, 1),
    (2, 31, 3, 5),
    (1, 33, 1, 64),
    (3, 65, 2, 31),
    (2, 127, 1, 1),
    (1, 257, 2, 33),
    (2, 64, 2, 64),
    (1, 256, 1, 16),
    (1, 513, 1, 65),
    (1, 1100, 1, 8),
    (1, 70, 1, 256),
];

fn dims((batch, tokens, heads, head_dim): Case) -> AttentionDims {
    AttentionDims { batch, tokens, heads, head_dim }
}

fn qkv_len(dims: AttentionDims) -> usize {
    3 * out_len(dims)
}

fn out_len(dims: AttentionDims) -> usize {
    dims.batch * dims.tokens * dims.dim()
}

/// out and lse
fn forward<B: Backend>(backend: &B, qkv: &[f32], dims: AttentionDims) -> (Vec<f32>, Vec<f32>) {
    let qkv = upload(backend, qkv);
    let mut out = poisoned(backend, out_len(dims));
    let mut lse = poisoned(backend, dims.batch * dims.heads * dims.tokens);
    backend.attention_forward(all_mut::<B>(&mut out), all_mut::<B>(&mut lse), all::<B>(&qkv), dims);
    (download(backend, &out), download(backend, &lse))
}

/// dqkv, from what forward saved
fn backward<B: Backend>(
    backend: &B,
    dout: &[f32],
    saved: &(Vec<f32>, Vec<f32>),
    qkv: &[f32],
    dims: AttentionDims,
) -> Vec<f32> {
    let (dout, qkv) = (upload(backend, dout), upload(backend, qkv));
    let (out, lse) = (upload(backend, &saved.0), upload(backend, &saved.1));
    let mut dqkv = poisoned(backend, qkv_len(dims));
    let (dout, qkv) = (all::<B>(&dout), all::<B>(&qkv));
    backend.attention_backward(all_mut::<B>(&mut dqkv), dout, all::<B>(&out), all::<B>(&lse), qkv, dims);
    download(backend, &dqkv)
}

/// `spread` scales q and k: large ones make the softmax nearly one-hot.
fn check<B: Backend>(backend: &B, case: Case, spread: f32) {
    let dims = dims(case);
    let qkv: Vec<f32> = random(1, qkv_len(dims)).iter().map(|x| x * spread).collect();
    let dout = random(2, out_len(dims));
    let name = format!("{case:?} x {spread}");
    let got = forward(backend, &qkv, dims);
    let (want, naive) = (reference::forward(&wide(&qkv), dims), reference::forward(&qkv, dims));
    assert_close(&format!("out {name}"), &got.0, &want.0, &naive.0);
    assert_close(&format!("lse {name}"), &got.1, &want.1, &naive.1);
    let dqkv = backward(backend, &dout, &got, &qkv, dims);
    let want = reference::backward(&wide(&dout), &wide(&qkv), dims);
    assert_close(&format!("dqkv {name}"), &dqkv, &want, &reference::backward(&dout, &qkv, dims));
}

#[test]
fn forward_and_backward_against_the_whole_matrix() {
    for case in CASES {
        check(&Cpu::poisoned(), case, 1.0);
    }
}

#[test]
fn peaked_softmax() {
    check(&Cpu::poisoned(), (1, 300, 1, 33), 6.0);
}

#[test]
fn gradients_against_differences() {
    let dims = dims((2, 33, 2, 7));
    let (qkv, dout) = (random(3, qkv_len(dims)), random(4, out_len(dims)));
    let cpu = Cpu::poisoned();
    let dqkv = backward(&cpu, &dout, &forward(&cpu, &qkv, dims), &qkv, dims);
    assert_gradient("dqkv", &dqkv, &qkv, 2e-6, |qkv| {
        let (out, _) = reference::forward(qkv, dims);
        out.iter().zip(&dout).map(|(out, &g)| out * f64::from(g)).sum()
    });
}

/// Scores of +-10,000 overflow every exp that is not taken relative to the maximum.
#[test]
fn huge_scores_stay_finite() {
    let dims = dims((1, 300, 1, 8));
    let qkv: Vec<f32> = random(5, qkv_len(dims)).iter().map(|x| x * 100.0).collect();
    let cpu = Cpu::poisoned();
    let saved = forward(&cpu, &qkv, dims);
    let dqkv = backward(&cpu, &random(6, out_len(dims)), &saved, &qkv, dims);
    assert!(saved.0.iter().chain(&saved.1).chain(&dqkv).all(|x| x.is_finite()));
}

/// A NaN in must come out, not be hidden by a maximum: training stops on it.
#[test]
fn nan_is_not_hidden() {
    let dims = dims((1, 40, 1, 8));
    for at in [0, 8, 16] {
        let mut qkv = random(7, qkv_len(dims));
        qkv[24 * 3 + at] = f32::NAN;
        let (out, _) = forward(&Cpu::poisoned(), &qkv, dims);
        assert!(out.iter().any(|x| x.is_nan()), "NaN in q, k or v (element {at}) is gone");
    }
}

#[test]
fn no_samples_do_nothing() {
    let dims = dims((0, 31, 2, 5));
    let saved = forward(&Cpu::poisoned(), &[], dims);
    assert!(backward(&Cpu::poisoned(), &[], &saved, &[], dims).is_empty());
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in [(2, 257, 3, 33), (1, 1100, 1, 16)] {
        let dims = dims(case);
        let (qkv, dout) = (random(8, qkv_len(dims)), random(9, out_len(dims)));
        assert_same_bits_for_any_threads(&format!("{case:?}"), || {
            let cpu = Cpu::poisoned();
            let saved = forward(&cpu, &qkv, dims);
            let dqkv = backward(&cpu, &dout, &saved, &qkv, dims);
            [saved.0, saved.1, dqkv].concat()
        });
    }
}

/// Bytes of scratch that forward and backward take on one thread.
fn scratch_bytes(tokens: usize) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread pool");
    pool.install(|| {
        let dims = dims((1, tokens, 1, 4));
        let (qkv, dout) = (random(10, qkv_len(dims)), random(11, out_len(dims)));
        let (mut out, mut lse, mut dqkv) = (dout.clone(), vec![0.0; tokens], qkv.clone());
        dit_engine::cpu::attention::forward(&mut out, &mut lse, &qkv, dims);
        dit_engine::cpu::attention::backward(&mut dqkv, &dout, &out, &lse, &qkv, dims);
        scratch::held_bytes()
    })
}

/// Four times the tokens: a score matrix would take 16 times the memory.
#[test]
fn memory_is_linear_in_tokens() {
    let (short, long) = (scratch_bytes(1024), scratch_bytes(4096));
    assert!(long <= 4 * short, "{short} bytes at 1,024 tokens, {long} at 4,096");
    let all_scores = 4096 * 4096 * size_of::<f32>();
    assert!(long < all_scores / 32, "{long} bytes");
}
