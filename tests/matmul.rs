//! The matmul family against plain loops in f64.

mod common;
#[path = "reference/elementwise.rs"]
#[allow(dead_code)] // only the derivatives of activations are needed here
mod elementwise;
#[path = "reference/matmul.rs"]
mod reference;

use common::*;
use dit_engine::backend::{Activation, Backend, Gate, MatmulDims, Slots, Write};
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

/// Sizes that packs of 16 bytes divide, for both elements of activations: what the kernels of a GPU are made for.
const ALIGNED_SIZES: [(usize, usize, usize); 6] =
    [(1, 8, 16), (33, 72, 40), (129, 64, 128), (300, 136, 96), (16, 72, 1_200), (2_500, 72, 24)];
/// Few rows, as layers on a sample's vectors have: one tile and several, one block's terms and those of several.
const FEW_SIZES: [(usize, usize, usize); 9] = [
    (1, 4, 4),
    (7, 36, 20),
    (16, 32, 64),
    (17, 68, 132),
    (31, 100, 12),
    (32, 260, 384),
    (12, 132, 2_068),
    (32, 4_100, 4),
    (33, 36, 20),
];
/// A result with more tiles than a GPU has multiprocessors, and a weight whose gradient is shared by more blocks than that.
const WIDE_SIZES: [(usize, usize, usize); 2] = [(1_800, 1_032, 16), (1_700, 264, 264)];

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
    let (x, w) = (upload_activation(backend, x), upload_weights(backend, w));
    let bias = bias.map(|bias| upload(backend, bias));
    let mut y = poisoned_activation(backend, dims.rows * dims.columns);
    let mut pre = poisoned_activation(backend, dims.rows * dims.columns);
    let saved = save.then(|| all_mut::<B>(&mut pre));
    let bias = bias.as_ref().map(|bias| all::<B>(bias));
    backend.matmul_forward(all_mut::<B>(&mut y), saved, all::<B>(&x), all::<B>(&w), bias, activation, dims);
    Forward { y: download(backend, &y), pre: download(backend, &pre) }
}

/// Random numbers that the backend's activations, or its copy of parameters, hold exactly.
fn exact<B: Backend>(backend: &B, seed: u64, len: usize) -> Vec<f32> {
    rounded(backend, &random(seed, len))
}

/// An f32 result as the backend's activations hold it.
fn stored<B: Backend>(backend: &B, (h, y): (Vec<f32>, Vec<f32>)) -> (Vec<f32>, Vec<f32>) {
    (rounded(backend, &h), rounded(backend, &y))
}

fn check_forward<B: Backend>(
    backend: &B,
    size: (usize, usize, usize),
    activation: Activation,
    with_bias: bool,
) {
    let dims = dims(size);
    let x = exact(backend, 1, dims.rows * dims.inner);
    let w = exact(backend, 2, dims.columns * dims.inner);
    let bias = with_bias.then(|| random(3, dims.columns));
    let wide_bias = bias.as_deref().map(wide);
    let want = reference::forward(&wide(&x), &wide(&w), wide_bias.as_deref(), activation, dims);
    let naive = stored(backend, reference::forward(&x, &w, bias.as_deref(), activation, dims));
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
    let (dh, w) = (upload_activation(backend, dh), upload_weights(backend, w));
    let write = if before.is_some() { Write::Add } else { Write::Replace };
    let mut dx = match before {
        Some(before) => upload_activation(backend, before),
        None => poisoned_activation(backend, dims.rows * dims.inner),
    };
    backend.matmul_backward_input(all_mut::<B>(&mut dx), write, all::<B>(&dh), all::<B>(&w), dims);
    download(backend, &dx)
}

fn check_backward_input<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let dh = exact(backend, 4, dims.rows * dims.columns);
    let w = exact(backend, 5, dims.columns * dims.inner);
    let mut want = reference::backward_input(&wide(&dh), &wide(&w), dims);
    let mut naive = reference::backward_input(&dh, &w, dims);
    let got = backward_input(backend, None, &dh, &w, dims);
    assert_close(&format!("dx {size:?}"), &got, &want, &rounded(backend, &naive));
    let before = exact(backend, 6, want.len());
    for ((want, naive), &before) in want.iter_mut().zip(&mut naive).zip(&before) {
        *want += f64::from(before);
        *naive += before;
    }
    let got = backward_input(backend, Some(&before), &dh, &w, dims);
    assert_close(&format!("dx += {size:?}"), &got, &want, &rounded(backend, &naive));
}

/// dw and dbias, each added to what was there before.
fn backward_weight<B: Backend>(
    backend: &B,
    before: (&[f32], Option<&[f32]>),
    dh: &[f32],
    x: &[f32],
    dims: MatmulDims,
) -> (Vec<f32>, Vec<f32>) {
    let (dh, x) = (upload_activation(backend, dh), upload_activation(backend, x));
    let mut dw = upload(backend, before.0);
    let mut dbias = before.1.map(|before| upload(backend, before));
    let dbias_view = dbias.as_mut().map(|dbias| all_mut::<B>(dbias));
    backend.matmul_backward_weight(all_mut::<B>(&mut dw), dbias_view, all::<B>(&dh), all::<B>(&x), dims);
    (download(backend, &dw), dbias.map_or_else(Vec::new, |dbias| download(backend, &dbias)))
}

fn check_backward_weight<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let dh = exact(backend, 7, dims.rows * dims.columns);
    let x = exact(backend, 8, dims.rows * dims.inner);
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

/// dpre of a linear layer whose input is `activation(pre)`.
fn check_backward_input_activated<B: Backend>(
    backend: &B,
    size: (usize, usize, usize),
    activation: Activation,
) {
    let dims = dims(size);
    let dh = exact(backend, 4, dims.rows * dims.columns);
    let w = exact(backend, 5, dims.columns * dims.inner);
    let pre = exact(backend, 6, dims.rows * dims.inner);
    let mut want = reference::backward_input(&wide(&dh), &wide(&w), dims);
    let mut naive = reference::backward_input(&dh, &w, dims);
    for ((want, naive), &pre) in want.iter_mut().zip(&mut naive).zip(&pre) {
        let slope = elementwise::derivative(f64::from(pre), activation);
        *want *= slope;
        *naive *= slope as f32;
    }
    let mut dpre = poisoned_activation(backend, want.len());
    let (dh, w) = (upload_activation(backend, &dh), upload_weights(backend, &w));
    let pre = upload_activation(backend, &pre);
    let (to, dh, w) = (all_mut::<B>(&mut dpre), all::<B>(&dh), all::<B>(&w));
    backend.matmul_backward_input_activated(to, dh, w, all::<B>(&pre), activation, dims);
    let name = format!("dpre {size:?} {activation:?}");
    assert_close(&name, &download(backend, &dpre), &want, &rounded(backend, &naive));
}

/// Without a gate, with one, and with one whose h is kept.
fn check_residual<B: Backend>(backend: &B, size: (usize, usize, usize)) {
    let dims = dims(size);
    let batch = [3, 2, 1].into_iter().find(|batch| dims.rows.is_multiple_of(*batch)).unwrap_or(1);
    let (tokens, slot) = (dims.rows / batch, Slots { count: 3, index: 1 });
    let x = exact(backend, 1, dims.rows * dims.inner);
    let w = exact(backend, 2, dims.columns * dims.inner);
    let bias = random(3, dims.columns);
    let residual = exact(backend, 4, dims.rows * dims.columns);
    let modulation = random(5, batch * slot.count * dims.columns);
    let gate = |i: usize| {
        let sample = i / dims.columns / tokens;
        modulation[(sample * slot.count + slot.index) * dims.columns + i % dims.columns]
    };
    let (want_h, _) =
        reference::forward(&wide(&x), &wide(&w), Some(&wide(&bias)), Activation::Identity, dims);
    let (naive_h, _) = reference::forward(&x, &w, Some(&bias), Activation::Identity, dims);

    let (x, w) = (upload_activation(backend, &x), upload_weights(backend, &w));
    let (bias, modulation) = (upload(backend, &bias), upload(backend, &modulation));
    let residual_buf = upload_activation(backend, &residual);
    for (gated, kept) in [(false, false), (true, false), (true, true)] {
        let factor = |i: usize| if gated { gate(i) } else { 1.0 };
        let (all_h, with) = (want_h.iter().enumerate(), |i: usize| f64::from(residual[i]));
        let want: Vec<f64> = all_h.map(|(i, h)| with(i) + f64::from(factor(i)) * h).collect();
        let naive: Vec<f32> = naive_h.iter().enumerate().map(|(i, h)| residual[i] + factor(i) * h).collect();
        let mut y = poisoned_activation(backend, want.len());
        let mut h = poisoned_activation(backend, want.len());
        let gate = gated.then(|| Gate { modulation: all::<B>(&modulation), slot, tokens });
        backend.matmul_residual_forward(
            all_mut::<B>(&mut y),
            kept.then(|| all_mut::<B>(&mut h)),
            all::<B>(&x),
            all::<B>(&w),
            all::<B>(&bias),
            all::<B>(&residual_buf),
            gate,
            dims,
        );
        let name = format!("residual {size:?}, gated: {gated}, kept: {kept}");
        assert_close(&name, &download(backend, &y), &want, &rounded(backend, &naive));
        let h = download(backend, &h);
        match kept {
            true => assert_close(&format!("h of {name}"), &h, &want_h, &rounded(backend, &naive_h)),
            false => assert!(h.iter().all(|h| h.is_nan()), "h of {name}: written without being asked for"),
        }
    }
}

/// Gradients of the sum of `c * h` against central differences, c random.
fn check_gradients<B: Backend>(backend: &B, size: (usize, usize, usize), relative: f64) {
    let dims = dims(size);
    let x = exact(backend, 11, dims.rows * dims.inner);
    let w = exact(backend, 12, dims.columns * dims.inner);
    let (bias, c) = (random(13, dims.columns), exact(backend, 14, dims.rows * dims.columns));
    let loss = |x: &[f64], w: &[f64], bias: &[f64]| {
        let (h, _) = reference::forward(x, w, Some(bias), Activation::Identity, dims);
        h.iter().zip(&c).map(|(h, &c)| h * f64::from(c)).sum::<f64>()
    };
    let (wide_x, wide_w, wide_bias) = (wide(&x), wide(&w), wide(&bias));
    let dx = backward_input(backend, None, &c, &w, dims);
    let zeros = (vec![0.0; w.len()], vec![0.0; bias.len()]);
    let (dw, dbias) = backward_weight(backend, (&zeros.0, Some(&zeros.1)), &c, &x, dims);
    assert_gradient("dx", &dx, &x, relative, |x| loss(x, &wide_w, &wide_bias));
    assert_gradient("dw", &dw, &w, 1e-6, |w| loss(&wide_x, w, &wide_bias));
    assert_gradient("dbias", &dbias, &bias, 1e-6, |bias| loss(&wide_x, &wide_w, bias));
}

/// Everything on one device, for sizes that reach every variant of every kernel.
fn check_device<B: Backend>(backend: &B, sizes: &[(usize, usize, usize)]) {
    for (i, &size) in sizes.iter().enumerate() {
        check_forward(backend, size, ACTIVATIONS[i % 5], i % 2 == 0);
        check_residual(backend, size);
        check_backward_input(backend, size);
        check_backward_input_activated(backend, size, ACTIVATIONS[(i + 3) % 5]);
        check_backward_weight(backend, size);
    }
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
fn linear_layers_with_a_residual_connection() {
    SIZES.into_iter().for_each(|size| check_residual(&Cpu::poisoned(), size));
}

#[test]
fn gradient_of_the_input_through_its_activation() {
    for (i, size) in SIZES.into_iter().enumerate() {
        check_backward_input_activated(&Cpu::poisoned(), size, ACTIVATIONS[i % 5]);
    }
}

#[test]
fn gradients_against_differences() {
    check_gradients(&Cpu::poisoned(), (33, 17, 31), 1e-6);
}

#[test]
fn cuda_at_odd_sizes() {
    cuda::both().iter().for_each(|device| check_device(device, &SIZES));
}

#[test]
fn cuda_at_sizes_of_packs() {
    cuda::both().iter().for_each(|device| check_device(device, &ALIGNED_SIZES));
}

#[test]
fn cuda_with_few_rows() {
    let [device, _] = cuda::both();
    check_device(&device, &FEW_SIZES);
    for activation in ACTIVATIONS {
        check_forward(&device, (16, 40, 300), activation, true);
        check_backward_input_activated(&device, (16, 300, 40), activation);
    }
    // Terms that several blocks share.
    for (rows, columns, inner) in [(5, 2_068, 36), (32, 1_300, 132)] {
        check_backward_input(&device, (rows, columns, inner));
        check_backward_input_activated(&device, (rows, columns, inner), Activation::Gelu);
    }
    // Terms that a warp takes in several turns.
    check_forward(&device, (3, 6_948, 260), Activation::Silu, true);
    check_backward_input(&device, (3, 260, 6_948));
    check_gradients(&device, (12, 36, 132), 1e-6);
    cuda::assert_clean(&device);
}

/// Several tiles, whose terms so many blocks share that they are added in two levels.
#[test]
fn cuda_with_many_terms() {
    for device in cuda::both() {
        check_forward(&device, (40, 132, 2_304), Activation::Silu, true);
        check_backward_input(&device, (40, 2_304, 132));
        cuda::assert_clean(&device);
    }
}

#[test]
fn cuda_with_many_tiles() {
    for device in cuda::both() {
        let [many, shared] = WIDE_SIZES;
        check_forward(&device, many, Activation::Gelu, true);
        check_residual(&device, many);
        check_backward_weight(&device, shared);
        // dx has `inner` columns.
        let turned = (many.0, many.2, many.1);
        check_backward_input(&device, turned);
        check_backward_input_activated(&device, turned, Activation::Silu);
    }
}

#[test]
fn cuda_with_every_activation() {
    for (device, activation) in cuda::both().iter().flat_map(|device| ACTIVATIONS.map(|a| (device, a))) {
        check_forward(device, (65, 40, 32), activation, true);
        check_backward_input_activated(device, (65, 40, 32), activation);
    }
}

#[test]
fn cuda_gradients_against_differences() {
    let [f32, bf16] = cuda::both();
    for size in [(33, 17, 31), (40, 24, 32)] {
        check_gradients(&f32, size, 1e-6);
        check_gradients(&bf16, size, 1e-2); // dx is rounded to 8 bits
    }
}

#[test]
fn cuda_sums_in_the_same_order_every_time() {
    for device in cuda::both() {
        let dims = dims((2_500, 72, 24));
        let (dh, x) = (random(19, dims.rows * dims.columns), random(20, dims.rows * dims.inner));
        let zeros = vec![0.0; dims.columns * dims.inner];
        let run = || backward_weight(&device, (&zeros, Some(&zeros[..dims.columns])), &dh, &x, dims);
        let first = run();
        assert!((0..3).all(|_| run() == first));
    }
    let [device, _] = cuda::both();
    let few = dims((32, 36, 1_300));
    let (x, w) = (random(17, few.rows * few.inner), random(18, few.columns * few.inner));
    let run = || forward(&device, &x, &w, None, Activation::Gelu, false, few).y;
    let first = run();
    assert!((0..3).all(|_| run() == first));
}

fn check_nothing_to_sum<B: Backend>(backend: &B) {
    for (columns, bias) in [(3, vec![1.0, 2.0, 3.0]), (8, vec![2.0; 8])] {
        let dims = dims((5, columns, 0));
        let got = forward(backend, &[], &[], Some(&bias), Activation::Identity, false, dims);
        assert_eq!(got.y, bias.repeat(5));
    }
}

fn check_no_rows<B: Backend>(backend: &B) {
    let dims = dims((0, 3, 4));
    let (w, before) = (random(15, 12), random(16, 12));
    assert!(forward(backend, &[], &w, None, Activation::Gelu, true, dims).y.is_empty());
    assert_eq!(backward_weight(backend, (&before, None), &[], &[], dims).0, before);
}

#[test]
fn nothing_to_sum_gives_the_bias() {
    check_nothing_to_sum(&Cpu::poisoned());
    cuda::both().iter().for_each(check_nothing_to_sum);
}

#[test]
fn no_rows_do_nothing() {
    check_no_rows(&Cpu::poisoned());
    cuda::both().iter().for_each(check_no_rows);
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
