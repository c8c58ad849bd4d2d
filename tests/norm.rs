//! Layer normalisation, affine and modulated: values, gradients, bits.

mod common;
#[path = "reference/norm.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{Cuda, driver};

const EPS: f32 = 1e-5;
const SHIFT: Slots = Slots { count: 6, index: 3 };
const SCALE: Slots = Slots { count: 6, index: 1 };

/// Odd sizes, the last one of which is cut into many pieces.
const ODD: [(usize, usize, usize); 8] =
    [(1, 1, 1), (1, 3, 2), (2, 31, 33), (3, 5, 31), (1, 65, 65), (2, 33, 127), (2, 7, 257), (3, 257, 127)];
/// Rows of whole packs: a GPU has kernels for ranges of dim, full rows and others; and enough rows for sums in two levels
/// and for blocks of more than the least rows.
const PACKED: [(usize, usize, usize); 13] = [
    (1, 2113, 8),
    (1, 17_300, 8),
    (2, 131, 1020),
    (3, 70, 256),
    (2, 9, 264),
    (1, 67, 384),
    (2, 65, 512),
    (2, 67, 768),
    (1, 3, 1024),
    (1, 2, 1000),
    (2, 3, 2048),
    (1, 3, 2056),
    (1, 65, 4096),
];

fn shapes() -> impl Iterator<Item = TokenDims> {
    ODD.into_iter().chain(PACKED).map(|(batch, tokens, dim)| TokenDims { batch, tokens, dim })
}

/// Rows with different means and spreads, some of them far from 0, as the device's activations have them.
fn rows<B: Backend>(b: &B, dims: TokenDims) -> Vec<f32> {
    let mut x = random(1, dims.len());
    for (i, row) in x.chunks_exact_mut(dims.dim).enumerate() {
        let (mean, spread) = [(0.0, 1.0), (0.3, 0.1), (-20.0, 2.0), (0.0, 30.0)][i % 4];
        row.iter_mut().for_each(|x| *x = mean + spread * *x);
    }
    rounded(b, &x)
}

/// A gradient as the device's activations have it.
fn gradient<B: Backend>(b: &B, dims: TokenDims) -> Vec<f32> {
    rounded(b, &random(4, dims.len()))
}

/// A row for each token, from one row (affine) or one row a sample.
fn spread<T: Copy>(rows: &[T], dims: TokenDims) -> Vec<T> {
    let groups = rows.len() / dims.dim;
    let repeat = dims.rows() / groups;
    (0..dims.len()).map(|i| rows[i / dims.dim / repeat * dims.dim + i % dims.dim]).collect()
}

/// One slot of all samples, `[batch, dim]`.
fn slot<T: Copy>(modulation: &[T], slots: Slots, dims: TokenDims) -> Vec<T> {
    let row = |sample: usize| (sample * slots.count + slots.index) * dims.dim;
    (0..dims.batch).flat_map(|sample| modulation[row(sample)..][..dims.dim].to_vec()).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&x| x as f32).collect()
}

/// y and stats of the device.
fn affine_forward<B: Backend>(
    b: &B,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    dims: TokenDims,
) -> (B::Buf, B::Buf) {
    let (mut y, mut stats) = (poisoned_activation(b, dims.len()), poisoned(b, 2 * dims.rows()));
    let (x, w, bias) = (upload_activation(b, x), upload_weights(b, w), upload_weights(b, bias));
    let (out, saved) = (all_mut::<B>(&mut y), all_mut::<B>(&mut stats));
    b.norm_affine_forward(out, saved, all::<B>(&x), all::<B>(&w), all::<B>(&bias), EPS, dims);
    (y, stats)
}

fn modulated_forward<B: Backend>(b: &B, x: &[f32], modulation: &[f32], dims: TokenDims) -> (B::Buf, B::Buf) {
    let (mut y, mut stats) = (poisoned_activation(b, dims.len()), poisoned(b, 2 * dims.rows()));
    let (x, modulation) = (upload_activation(b, x), upload(b, modulation));
    let (out, saved) = (all_mut::<B>(&mut y), all_mut::<B>(&mut stats));
    b.norm_modulated_forward(out, saved, all::<B>(&x), all::<B>(&modulation), SHIFT, SCALE, EPS, dims);
    (y, stats)
}

/// Compares y and stats with the reference, in which each token has its own scale and shift.
fn compare_forward<B: Backend>(
    b: &B,
    name: &str,
    (y, stats): (B::Buf, B::Buf),
    x: &[f32],
    [scale, shift]: [&[f64]; 2],
    dim: usize,
) {
    let (y, stats, eps) = (download(b, &y), download(b, &stats), f64::from(EPS));
    let (want, want_stats) = reference::forward(&wide(x), scale, shift, eps, dim);
    let (naive, naive_stats) = reference::forward(x, &narrow(scale), &narrow(shift), eps, dim);
    assert_close(&format!("{name} y"), &y, &want, &rounded(b, &naive));
    for part in 0..2 {
        let every_other = |x: &[f32]| x.iter().copied().skip(part).step_by(2).collect::<Vec<_>>();
        let want: Vec<f64> = want_stats.iter().copied().skip(part).step_by(2).collect();
        let name = format!("{name} {}", ["mean", "rstd"][part]);
        assert_close(&name, &every_other(&stats), &want, &every_other(&naive_stats));
    }
}

fn check_affine_forward<B: Backend>(b: &B) {
    for dims in shapes() {
        let (x, w, bias) = (rows(b, dims), random(2, dims.dim), random(3, dims.dim));
        let got = affine_forward(b, &x, &w, &bias, dims);
        let (scale, shift) = (spread(&wide(&w), dims), spread(&wide(&bias), dims));
        compare_forward(b, &format!("affine {dims:?}"), got, &x, [&scale, &shift], dims.dim);
    }
}

fn check_modulated_forward<B: Backend>(b: &B) {
    for dims in shapes() {
        let (x, modulation) = (rows(b, dims), random(2, dims.batch * SHIFT.count * dims.dim));
        let got = modulated_forward(b, &x, &modulation, dims);
        let scale: Vec<f64> = slot(&wide(&modulation), SCALE, dims).iter().map(|scale| 1.0 + scale).collect();
        let (scale, shift) = (spread(&scale, dims), spread(&slot(&wide(&modulation), SHIFT, dims), dims));
        compare_forward(b, &format!("modulated {dims:?}"), got, &x, [&scale, &shift], dims.dim);
    }
}

/// The start of an output: NaN if it is to be replaced.
fn start<B: Backend>(b: &B, write: Write, len: usize) -> Vec<f32> {
    match write {
        Write::Replace => vec![f32::NAN; len],
        Write::Add => rounded(b, &random(9, len)),
    }
}

/// `start + gradient` in f64, and in f32 and rounded.
fn added<B: Backend>(b: &B, write: Write, want: Vec<f64>, naive: Vec<f32>) -> (Vec<f64>, Vec<f32>) {
    let start = start(b, write, want.len());
    match write {
        Write::Replace => (want, rounded(b, &naive)),
        Write::Add => (
            start.iter().zip(want).map(|(&start, want)| f64::from(start) + want).collect(),
            rounded(b, &start.iter().zip(naive).map(|(start, naive)| start + naive).collect::<Vec<_>>()),
        ),
    }
}

/// dx, dweight, dbias of the device; parameter gradients start from `dw0`, which both hold.
fn affine_backward<B: Backend>(
    b: &B,
    write: Write,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    dw0: &[f32],
    dims: TokenDims,
) -> [Vec<f32>; 3] {
    let (_, stats) = affine_forward(b, x, w, w, dims);
    let mut dx = upload_activation(b, &start(b, write, dims.len()));
    let (mut dw, mut dbias) = (upload(b, dw0), upload(b, dw0));
    let (dy, x, w) = (upload_activation(b, dy), upload_activation(b, x), upload_weights(b, w));
    b.norm_affine_backward(
        all_mut::<B>(&mut dx),
        write,
        all_mut::<B>(&mut dw),
        all_mut::<B>(&mut dbias),
        all::<B>(&dy),
        all::<B>(&x),
        all::<B>(&stats),
        all::<B>(&w),
        dims,
    );
    [download(b, &dx), download(b, &dw), download(b, &dbias)]
}

fn check_affine_backward<B: Backend>(b: &B) {
    for (dims, write) in shapes().flat_map(|dims| [(dims, Write::Replace), (dims, Write::Add)]) {
        let (x, dy, w) = (rows(b, dims), gradient(b, dims), random(2, dims.dim));
        let dw0 = random(5, dims.dim);
        let [dx, dw, dbias] = affine_backward(b, write, &dy, &x, &w, &dw0, dims);
        let eps = f64::from(EPS);
        let (want, want_terms) =
            reference::backward(&wide(&dy), &wide(&x), &spread(&wide(&w), dims), eps, dims.dim);
        let (naive, naive_terms) = reference::backward(&dy, &x, &spread(&w, dims), eps, dims.dim);
        let (want, naive) = added(b, write, want, naive);
        assert_close(&format!("affine dx {dims:?} {write:?}"), &dx, &want, &naive);
        for (name, got, terms, naive_terms) in
            [("dweight", dw, want_terms, naive_terms), ("dbias", dbias, wide(&dy), dy)]
        {
            let (mut want, mut naive) = (wide(&dw0), dw0.clone());
            reference::add_columns(&mut want, &terms);
            reference::add_columns(&mut naive, &naive_terms);
            assert_close(&format!("affine {name} {dims:?}"), &got, &want, &naive);
        }
    }
}

/// dx and dmodulation of the device; the latter starts from `start`.
fn modulated_backward<B: Backend>(
    b: &B,
    write: Write,
    dy: &[f32],
    x: &[f32],
    modulation: &[f32],
    initial: &[f32],
    dims: TokenDims,
) -> [Vec<f32>; 2] {
    let (_, stats) = modulated_forward(b, x, modulation, dims);
    let mut dx = upload_activation(b, &start(b, write, dims.len()));
    let mut dmodulation = upload(b, initial);
    let (dy, x, modulation) = (upload_activation(b, dy), upload_activation(b, x), upload(b, modulation));
    b.norm_modulated_backward(
        all_mut::<B>(&mut dx),
        write,
        all_mut::<B>(&mut dmodulation),
        all::<B>(&dy),
        all::<B>(&x),
        all::<B>(&stats),
        all::<B>(&modulation),
        SHIFT,
        SCALE,
        dims,
    );
    [download(b, &dx), download(b, &dmodulation)]
}

/// Adds the columns of each sample's terms into a slot of the modulation's gradient.
fn add_to_slot<R: common::real::Real>(dmodulation: &mut [R], terms: &[R], slots: Slots, dims: TokenDims) {
    for (sample, terms) in terms.chunks_exact(dims.tokens * dims.dim).enumerate() {
        let row = (sample * slots.count + slots.index) * dims.dim;
        reference::add_columns(&mut dmodulation[row..][..dims.dim], terms);
    }
}

fn check_modulated_backward<B: Backend>(b: &B) {
    for (dims, write) in shapes().flat_map(|dims| [(dims, Write::Replace), (dims, Write::Add)]) {
        let (x, dy) = (rows(b, dims), gradient(b, dims));
        let modulation = random(2, dims.batch * SHIFT.count * dims.dim);
        let initial = random(5, modulation.len());
        let [dx, dmodulation] = modulated_backward(b, write, &dy, &x, &modulation, &initial, dims);
        let eps = f64::from(EPS);
        let scale: Vec<f64> = slot(&wide(&modulation), SCALE, dims).iter().map(|scale| 1.0 + scale).collect();
        let scale = spread(&scale, dims);
        let (want, terms) = reference::backward(&wide(&dy), &wide(&x), &scale, eps, dims.dim);
        let (naive, naive_terms) = reference::backward(&dy, &x, &narrow(&scale), eps, dims.dim);
        let (want, naive) = added(b, write, want, naive);
        assert_close(&format!("modulated dx {dims:?} {write:?}"), &dx, &want, &naive);
        // All slots are compared: those that are not meant must stay as they were.
        let (mut want, mut naive) = (wide(&initial), initial.clone());
        add_to_slot(&mut want, &terms, SCALE, dims);
        add_to_slot(&mut want, &wide(&dy), SHIFT, dims);
        add_to_slot(&mut naive, &naive_terms, SCALE, dims);
        add_to_slot(&mut naive, &dy, SHIFT, dims);
        assert_close(&format!("dmodulation {dims:?}"), &dmodulation, &want, &naive);
    }
}

/// `sum of dy y`: its gradient is what backward computes.
fn scalar(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, &dy)| y * f64::from(dy)).sum()
}

fn check_differences<B: Backend>(b: &B) {
    let dims = TokenDims { batch: 2, tokens: 5, dim: 33 };
    let eps = f64::from(EPS);
    let (x, dy, w) = (random(1, dims.len()), random(4, dims.len()), random(2, dims.dim));
    let loss = |x: &[f64], w: &[f64]| {
        let w = spread(w, dims);
        scalar(&reference::forward(x, &w, &w, eps, dims.dim).0, &dy)
    };
    let [dx, dw, dbias] = affine_backward(b, Write::Replace, &dy, &x, &w, &vec![0.0; dims.dim], dims);
    assert_gradient("affine dx", &dx, &x, 1e-5, |x| loss(x, &wide(&w)));
    // Weight and bias are the same numbers here, so their gradients add up.
    let both: Vec<f32> = dw.iter().zip(&dbias).map(|(dw, dbias)| dw + dbias).collect();
    assert_gradient("affine dweight + dbias", &both, &w, 1e-5, |w| loss(&wide(&x), w));

    let modulation = random(2, dims.batch * SHIFT.count * dims.dim);
    let loss = |x: &[f64], modulation: &[f64]| {
        let scale: Vec<f64> = slot(modulation, SCALE, dims).iter().map(|scale| 1.0 + scale).collect();
        let shift = slot(modulation, SHIFT, dims);
        scalar(&reference::forward(x, &spread(&scale, dims), &spread(&shift, dims), eps, dims.dim).0, &dy)
    };
    let zero = vec![0.0; modulation.len()];
    let [dx, dmodulation] = modulated_backward(b, Write::Replace, &dy, &x, &modulation, &zero, dims);
    assert_gradient("modulated dx", &dx, &x, 1e-5, |x| loss(x, &wide(&modulation)));
    assert_gradient("dmodulation", &dmodulation, &modulation, 1e-5, |m| loss(&wide(&x), m));
}

/// Parameters lie anywhere in their buffer, and their neighbours stay as they are.
fn check_parameters_anywhere<B: Backend>(b: &B) {
    let dims = TokenDims { batch: 1, tokens: 3, dim: 256 };
    let (x, dy, w) = (rows(b, dims), gradient(b, dims), random(2, dims.dim));
    let (_, stats) = affine_forward(b, &x, &w, &w, dims);
    let mut dx = poisoned_activation(b, dims.len());
    let (x_device, dy_device) = (upload_activation(b, &x), upload_activation(b, &dy));
    // Weight from 1 to 257, bias from 258 to 514.
    let parameters = [&[f32::NAN][..], &w, &[f32::NAN], &w, &[f32::NAN]].concat();
    let parameters = upload_weights(b, &parameters);
    let mut gradients = upload(b, &[7.0; 515]);
    let weight = B::view(&parameters, 1..257);
    let (dweight, dbias) = B::view_two_mut(&mut gradients, 1..257, 258..514);
    let (x_view, dy_view) = (all::<B>(&x_device), all::<B>(&dy_device));
    let out = all_mut::<B>(&mut dx);
    let stats = all::<B>(&stats);
    b.norm_affine_backward(out, Write::Replace, dweight, dbias, dy_view, x_view, stats, weight, dims);
    let [want_dx, want_dw, want_dbias] =
        affine_backward(b, Write::Replace, &dy, &x, &w, &[7.0; 256], dims).map(|want| (wide(&want), want));
    assert_close("dx", &download(b, &dx), &want_dx.0, &want_dx.1);
    let gradients = download(b, &gradients);
    assert_eq!([gradients[0], gradients[257], gradients[514]], [7.0; 3]);
    assert_close("dweight", &gradients[1..257], &want_dw.0, &want_dw.1);
    assert_close("dbias", &gradients[258..514], &want_dbias.0, &want_dbias.1);

    let (mut y, mut stats) = (poisoned_activation(b, dims.len()), poisoned(b, 2 * dims.rows()));
    let (out, saved) = (all_mut::<B>(&mut y), all_mut::<B>(&mut stats));
    let bias = B::view(&parameters, 258..514);
    b.norm_affine_forward(out, saved, x_view, weight, bias, EPS, dims);
    let want = download(b, &affine_forward(b, &x, &w, &w, dims).0);
    assert_close("y", &download(b, &y), &wide(&want), &want);
}

/// Runs a check on softcuda, which must have nothing to say about the kernels.
fn on_cuda(precision: Precision, check: impl FnOnce(&Cuda)) {
    let device = cuda::cuda(precision);
    check(&device);
    device.check().expect("nothing went wrong");
    assert_eq!(driver::findings(), "");
}

#[test]
fn affine_values_cpu() {
    check_affine_forward(&Cpu::poisoned());
}

#[test]
fn affine_values_f32() {
    on_cuda(Precision::F32, check_affine_forward);
}

#[test]
fn affine_values_bf16() {
    on_cuda(Precision::Bf16, check_affine_forward);
}

#[test]
fn modulated_values_cpu() {
    check_modulated_forward(&Cpu::poisoned());
}

#[test]
fn modulated_values_f32() {
    on_cuda(Precision::F32, check_modulated_forward);
}

#[test]
fn modulated_values_bf16() {
    on_cuda(Precision::Bf16, check_modulated_forward);
}

#[test]
fn affine_gradients_cpu() {
    check_affine_backward(&Cpu::poisoned());
}

#[test]
fn affine_gradients_f32() {
    on_cuda(Precision::F32, check_affine_backward);
}

#[test]
fn affine_gradients_bf16() {
    on_cuda(Precision::Bf16, check_affine_backward);
}

#[test]
fn modulated_gradients_cpu() {
    check_modulated_backward(&Cpu::poisoned());
}

#[test]
fn modulated_gradients_f32() {
    on_cuda(Precision::F32, check_modulated_backward);
}

#[test]
fn modulated_gradients_bf16() {
    on_cuda(Precision::Bf16, check_modulated_backward);
}

#[test]
fn gradients_are_the_differences_cpu() {
    check_differences(&Cpu::poisoned());
}

#[test]
fn gradients_are_the_differences_f32() {
    on_cuda(Precision::F32, check_differences);
}

#[test]
fn parameters_lie_anywhere_cpu() {
    check_parameters_anywhere(&Cpu::poisoned());
}

#[test]
fn parameters_lie_anywhere_f32() {
    on_cuda(Precision::F32, check_parameters_anywhere);
}

#[test]
fn parameters_lie_anywhere_bf16() {
    on_cuda(Precision::Bf16, check_parameters_anywhere);
}

#[test]
fn rows_that_are_too_long_are_refused() {
    let device = cuda::cuda(Precision::F32);
    let dims = TokenDims { batch: 1, tokens: 1, dim: 4097 };
    let x = vec![0.0; dims.dim];
    affine_forward(&device, &x, &x, &x, dims);
    assert_eq!(device.check().expect_err("too long").to_string(), "norm: rows of 4097 are longer than 4096");
}

#[test]
fn bits_do_not_depend_on_threads() {
    let dims = TokenDims { batch: 3, tokens: 257, dim: 127 };
    let cpu = Cpu::poisoned();
    let (x, dy, w) = (rows(&cpu, dims), gradient(&cpu, dims), random(2, dims.dim));
    let modulation = random(2, dims.batch * SHIFT.count * dims.dim);
    assert_same_bits_for_any_threads("norm affine", || {
        affine_backward(&Cpu::poisoned(), Write::Replace, &dy, &x, &w, &w, dims).concat()
    });
    assert_same_bits_for_any_threads("norm modulated", || {
        modulated_backward(&Cpu::poisoned(), Write::Add, &dy, &x, &modulation, &modulation, dims).concat()
    });
}
