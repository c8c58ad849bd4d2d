//! The matmul family against plain loops in f64.

mod common;
#[path = "reference/matmul.rs"]
mod reference;

use common::*;
use dit_engine::backend::{Activation, Backend, MatmulDims, Write};
use dit_engine::cpu::Cpu;

const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Gelu];

/// Odd sizes around the edges of every tile: (rows, columns, inner).
const SIZES: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (1, 33, 31),
    (31, 1, 65),
    (33, 31, 1),
    (7, 16, 257),
    (65, 127, 33),
    (127, 65, 300),
    (100, 48, 64),
    (257, 33, 127),
    (397, 17, 19),
    (1031, 13, 40),
    (193, 129, 513),
];

fn dims((rows, columns, inner): (usize, usize, usize)) -> MatmulDims {
    MatmulDims { rows, columns, inner }
}

struct Forward {
    y: Vec<f32>,
    pre: Vec<f32>,
}

fn forward<B: Backend>(
    backend: &B,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    activation: Activation,
    save: bool,
    dims: MatmulDims,
) -> Forward {
    let (x, w) = (upload(backend, x), upload(backend, w));
    let bias = bias.map(|bias| upload(backend, bias));
    let mut y = poisoned(backend, dims.rows * dims.columns);
    let mut pre = poisoned(backend, dims.rows * dims.columns);
    let saved = save.then(|| all_mut::<B>(&mut pre));
    let bias = bias.as_ref().map(|bias| all::<B>(bias));
    backend.matmul_forward(all_mut::<B>(&mut y), saved, all::<B>(&x), all::<B>(&w), bias, activation, dims);
    Forward { y: download(backend, &y), pre: download(backend, &pre) }
}

fn check_forward<B: Backend>(
    backend: &B,
    size: (usize, usize, usize),
    activation: Activation,
    with_bias: bool,
) {
    let dims = dims(size);
    let (x, w) = (random(1, dims.rows * dims.inner), random(2, dims.columns * dims.inner));
    let bias = with_bias.then(|| random(3, dims.columns));
    let wide_bias = bias.as_deref().map(wide);
    let want = reference::forward(&wide(&x), &wide(&w), wide_bias.as_deref(), activation, dims);
    let naive = reference::forward(&x, &w, bias.as_deref(), activation, dims);
    let name = format!("{size:?} {activation:?}");
    let saving = forward(backend, &x, &w, bias.as_deref(), activation, true, dims);
    assert_close(&format!("h {name}"), &saving.pre, &want.0, &naive.0);
    assert_close(&format!("y {name}"), &saving.y, &want.1, &naive.1);
    let plain = forward(backend, &x, &w, bias.as_deref(), activation, false, dims);
    assert_eq!(plain.y, saving.y, "y {name}: saving h changes y");
    assert!(plain.pre.iter().all(|h| h.is_nan()), "h {name}: written without being asked for");
}

fn backward_input<B: Backend>(
    backend: &B,
    before: Option<&[f32]>,
    dh: &[f32],
    w: &[f32],
    dims: MatmulDims,
) -> Vec<f32> {
    let (dh, w) = (upload(backend, dh), upload(backend, w));
    let write = if before.is_some() { Write::Add } else { Write::Replace };
    let mut dx =
        before.map_or_else(|| poisoned(backend, dims.rows * dims.inner), |before| upload(backend, before));
    backend.matmul_backward_input(all_mut::<B>(&mut dx), write, all::<B>(&dh), all::<B>(&w), dims);
    download(backend, &dx)
}

fn check_backward_input<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let (dh, w) = (random(4, dims.rows * dims.columns), random(5, dims.columns * dims.inner));
    let mut want = reference::backward_input(&wide(&dh), &wide(&w), dims);
    let mut naive = reference::backward_input(&dh, &w, dims);
    assert_close(&format!("dx {size:?}"), &backward_input(backend, None, &dh, &w, dims), &want, &naive);
    let before = random(6, want.len());
    for ((want, naive), &before) in want.iter_mut().zip(&mut naive).zip(&before) {
        *want += f64::from(before);
        *naive += before;
    }
    let got = backward_input(backend, Some(&before), &dh, &w, dims);
    assert_close(&format!("dx += {size:?}"), &got, &want, &naive);
}

/// dw and dbias, each added to what was there before.
fn backward_weight<B: Backend>(
    backend: &B,
    before: (&[f32], Option<&[f32]>),
    dh: &[f32],
    x: &[f32],
    dims: MatmulDims,
) -> (Vec<f32>, Vec<f32>) {
    let (dh, x) = (upload(backend, dh), upload(backend, x));
    let mut dw = upload(backend, before.0);
    let mut dbias = before.1.map(|before| upload(backend, before));
    let dbias_view = dbias.as_mut().map(|dbias| all_mut::<B>(dbias));
    backend.matmul_backward_weight(all_mut::<B>(&mut dw), dbias_view, all::<B>(&dh), all::<B>(&x), dims);
    (download(backend, &dw), dbias.map_or_else(Vec::new, |dbias| download(backend, &dbias)))
}

fn check_backward_weight<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let (dh, x) = (random(7, dims.rows * dims.columns), random(8, dims.rows * dims.inner));
    let before = (random(9, dims.columns * dims.inner), random(10, dims.columns));
    let mut want = reference::backward_weight(&wide(&dh), &wide(&x), dims);
    let mut naive = reference::backward_weight(&dh, &x, dims);
    for ((want, naive), &before) in want.0.iter_mut().zip(&mut naive.0).zip(&before.0) {
        *want += f64::from(before);
        *naive += before;
    }
    for ((want, naive), &before) in want.1.iter_mut().zip(&mut naive.1).zip(&before.1) {
        *want += f64::from(before);
        *naive += before;
    }
    let (dw, dbias) = backward_weight(backend, (&before.0, Some(&before.1)), &dh, &x, dims);
    assert_close(&format!("dw {size:?}"), &dw, &want.0, &naive.0);
    assert_close(&format!("dbias {size:?}"), &dbias, &want.1, &naive.1);
    let (without_bias, _) = backward_weight(backend, (&before.0, None), &dh, &x, dims);
    assert_eq!(without_bias, dw, "dw {size:?}: asking for dbias changes dw");
}

/// Gradients of the sum of `c * h` against central differences, c random.
fn check_gradients<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let (x, w) = (random(11, dims.rows * dims.inner), random(12, dims.columns * dims.inner));
    let (bias, c) = (random(13, dims.columns), random(14, dims.rows * dims.columns));
    let loss = |x: &[f64], w: &[f64], bias: &[f64]| {
        let (h, _) = reference::forward(x, w, Some(bias), Activation::Identity, dims);
        h.iter().zip(&c).map(|(h, &c)| h * f64::from(c)).sum::<f64>()
    };
    let (wide_x, wide_w, wide_bias) = (wide(&x), wide(&w), wide(&bias));
    let dx = backward_input(backend, None, &c, &w, dims);
    let zeros = (vec![0.0; w.len()], vec![0.0; bias.len()]);
    let (dw, dbias) = backward_weight(backend, (&zeros.0, Some(&zeros.1)), &c, &x, dims);
    assert_gradient("dx", &dx, &x, 1e-6, |x| loss(x, &wide_w, &wide_bias));
    assert_gradient("dw", &dw, &w, 1e-6, |w| loss(&wide_x, w, &wide_bias));
    assert_gradient("dbias", &dbias, &bias, 1e-6, |bias| loss(&wide_x, &wide_w, bias));
}

#[test]
fn forward_with_every_activation() {
    for (i, size) in SIZES.into_iter().enumerate() {
        check_forward(&Cpu::poisoned(), size, ACTIVATIONS[i % 5], i % 2 == 0);
    }
    for activation in ACTIVATIONS {
        check_forward(&Cpu::poisoned(), (65, 33, 31), activation, true);
    }
}

#[test]
fn gradient_of_the_input() {
    SIZES.into_iter().for_each(|size| check_backward_input(&Cpu::poisoned(), size));
}

#[test]
fn gradient_of_weight_and_bias() {
    SIZES.into_iter().for_each(|size| check_backward_weight(&Cpu::poisoned(), size));
}

#[test]
fn gradients_against_differences() {
    check_gradients(&Cpu::poisoned(), (33, 17, 31));
}

#[test]
fn nothing_to_sum_gives_the_bias() {
    let dims = dims((5, 3, 0));
    let got = forward(&Cpu::poisoned(), &[], &[], Some(&[1.0, 2.0, 3.0]), Activation::Identity, false, dims);
    assert_eq!(got.y, [1.0, 2.0, 3.0].repeat(5));
}

#[test]
fn no_rows_do_nothing() {
    let dims = dims((0, 3, 4));
    let (w, before) = (random(15, 12), random(16, 12));
    assert!(forward(&Cpu::poisoned(), &[], &w, None, Activation::Gelu, true, dims).y.is_empty());
    assert_eq!(backward_weight(&Cpu::poisoned(), (&before, None), &[], &[], dims).0, before);
}

#[test]
fn bits_do_not_depend_on_threads() {
    for size in [(2050, 33, 65), (517, 257, 100), (3000, 20, 30)] {
        let dims = dims(size);
        let (x, w) = (random(17, dims.rows * dims.inner), random(18, dims.columns * dims.inner));
        let (dh, zeros) = (random(19, dims.rows * dims.columns), vec![0.0; dims.columns * dims.inner]);
        assert_same_bits_for_any_threads(&format!("{size:?}"), || {
            let cpu = Cpu::poisoned();
            let mut all = forward(&cpu, &x, &w, None, Activation::Gelu, false, dims).y;
            all.extend(backward_input(&cpu, None, &dh, &w, dims));
            let (dw, dbias) = backward_weight(&cpu, (&zeros, Some(&zeros[..dims.columns])), &dh, &x, dims);
            all.extend(dw);
            all.extend(dbias);
            all
        });
    }
}
