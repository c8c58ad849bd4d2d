//! Copies, activations, added rows, residuals: values, gradients, bits.

mod common;
#[path = "reference/elementwise.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{Cuda, driver};

const LENGTHS: [usize; 8] = [1, 31, 33, 65, 127, 257, 16_384, 50_001];
const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Gelu];
const WRITES: [Write; 2] = [Write::Replace, Write::Add];
const REPEATS: [Repeat; 2] = [Repeat::OverBatch, Repeat::OverTokens];
const GATE: Slots = Slots { count: 6, index: 4 };
/// The largest number that is one in bf16, too.
const LARGEST: f32 = f32::from_bits(0x7F7F_0000);

/// Odd sizes, the last two of which are cut into many pieces.
const ODD: [(usize, usize, usize); 8] =
    [(1, 1, 1), (2, 31, 33), (3, 1, 65), (33, 2, 31), (2, 33, 127), (2, 7, 257), (3, 257, 127), (35, 9, 127)];
/// Rows of whole packs, several tiles of them, as many rows as one level of sums takes, and enough for two, in several tiles;
/// the most that are few rows, for tokens and for samples.
const PACKED: [(usize, usize, usize); 6] =
    [(2, 300, 192), (3, 130, 384), (1, 4096, 8), (1, 4200, 136), (140, 1, 256), (32, 32, 260)];

fn shapes() -> impl Iterator<Item = TokenDims> {
    ODD.into_iter().chain(PACKED).map(|(batch, tokens, dim)| TokenDims { batch, tokens, dim })
}

/// From -9 to 9, both tails and the middle of every activation, as the device's activations have them.
fn arguments<B: Backend>(b: &B, len: usize) -> Vec<f32> {
    rounded(b, &random(1, len).iter().map(|x| 9.0 * x).collect::<Vec<_>>())
}

/// In [-1, 1), as the device's activations have them.
fn activations<B: Backend>(b: &B, seed: u64, len: usize) -> Vec<f32> {
    rounded(b, &random(seed, len))
}

fn check_memory<B: Backend>(b: &B) {
    for len in LENGTHS {
        let (x, y) = (activations(b, 1, len), activations(b, 2, len));
        let from = upload_activation(b, &x);
        let mut to = poisoned_activation(b, len);
        b.copy(all_mut::<B>(&mut to), all::<B>(&from));
        assert_eq!(download(b, &to), x);
        b.fill(all_mut::<B>(&mut to), -2.5);
        assert_eq!(download(b, &to), vec![-2.5; len]);
        let mut to = upload_activation(b, &y);
        b.add(all_mut::<B>(&mut to), all::<B>(&from));
        let want = rounded(b, &x.iter().zip(&y).map(|(x, y)| x + y).collect::<Vec<_>>());
        assert_eq!(download(b, &to), want, "one rounding, nothing else");
        let mut to = poisoned_activation(b, len);
        let branch = upload_activation(b, &y);
        b.residual_forward(all_mut::<B>(&mut to), all::<B>(&from), all::<B>(&branch));
        assert_eq!(download(b, &to), want);
    }
}

/// Parts of buffers that begin and end anywhere; what is beside them stays.
fn check_parts<B: Backend>(b: &B) {
    let len = 1000;
    let (x, y) = (activations(b, 1, len), activations(b, 2, len));
    let (from, branch) = (upload_activation(b, &x), upload_activation(b, &y));
    for (start, end) in [(0, 999), (1, 1000), (3, 4), (8, 808), (16, 511)] {
        let mut to = upload_activation(b, &vec![7.0; len]);
        let (x_part, y_part) = (B::view(&from, start..end), B::view(&branch, 1000 - end..1000 - start));
        b.residual_forward(B::view_mut(&mut to, start..end), x_part, y_part);
        let want = |i: usize| if (start..end).contains(&i) { x[i] + y[1000 - end + i - start] } else { 7.0 };
        assert_eq!(download(b, &to), rounded(b, &(0..len).map(want).collect::<Vec<_>>()), "{start}..{end}");
        b.fill(B::view_mut(&mut to, start..end), 2.0);
        let want = |i: usize| if (start..end).contains(&i) { 2.0 } else { 7.0 };
        assert_eq!(download(b, &to), (0..len).map(want).collect::<Vec<_>>(), "{start}..{end}");
    }
}

fn check_find_non_finite<B: Backend>(b: &B) {
    let find = |x: &[f32]| {
        let found = b.find_non_finite(all::<B>(&upload_activation(b, x)));
        assert_eq!(b.find_non_finite(all::<B>(&upload(b, x))), found, "as activations and as other numbers");
        found
    };
    assert_eq!(find(&[]), None);
    for len in LENGTHS {
        let good: Vec<f32> = (0..len).map(|i| [0.0, -LARGEST, 1e-40, LARGEST][i % 4]).collect();
        assert_eq!(find(&good), None);
        for first in [0, len / 3, len - 1] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut bad = good.clone();
                bad[len - 1] = f32::NAN;
                bad[first] = value;
                assert_eq!(find(&bad), Some(first), "{value} at {first} of {len}");
                bad[first..].fill(value); // its neighbours, which the same thread sees
                assert_eq!(find(&bad), Some(first), "{value} from {first} of {len} on");
            }
        }
    }
}

fn activation_forward<B: Backend>(b: &B, x: &[f32], activation: Activation) -> Vec<f32> {
    let (mut y, x) = (poisoned_activation(b, x.len()), upload_activation(b, x));
    b.activation_forward(all_mut::<B>(&mut y), all::<B>(&x), activation);
    download(b, &y)
}

/// What dx holds before: NaN if it is to be replaced.
fn start<B: Backend>(b: &B, write: Write, len: usize) -> Vec<f32> {
    match write {
        Write::Replace => vec![f32::NAN; len],
        Write::Add => activations(b, 9, len),
    }
}

fn activation_backward<B: Backend>(
    b: &B,
    write: Write,
    dy: &[f32],
    x: &[f32],
    activation: Activation,
) -> Vec<f32> {
    let mut dx = upload_activation(b, &start(b, write, x.len()));
    let (dy, x) = (upload_activation(b, dy), upload_activation(b, x));
    b.activation_backward(all_mut::<B>(&mut dx), write, all::<B>(&dy), all::<B>(&x), activation);
    download(b, &dx)
}

fn check_activations<B: Backend>(b: &B) {
    for (len, activation) in LENGTHS.into_iter().flat_map(|len| ACTIVATIONS.map(|a| (len, a))) {
        let (x, dy) = (arguments(b, len), activations(b, 2, len));
        let name = format!("{activation:?} {len}");
        let want: Vec<f64> = x.iter().map(|&x| reference::activation(f64::from(x), activation)).collect();
        let naive = rounded(b, &want.iter().map(|&y| y as f32).collect::<Vec<_>>());
        assert_close(&name, &activation_forward(b, &x, activation), &want, &naive);

        let slope = |x: f32| reference::derivative(f64::from(x), activation);
        let want: Vec<f64> = x.iter().zip(&dy).map(|(&x, &dy)| f64::from(dy) * slope(x)).collect();
        let naive: Vec<f32> = x.iter().zip(&dy).map(|(&x, dy)| dy * slope(x) as f32).collect();
        for write in WRITES {
            let before = if write == Write::Add { start(b, write, len) } else { vec![0.0; len] };
            let want: Vec<f64> = want.iter().zip(&before).map(|(w, &b)| w + f64::from(b)).collect();
            let naive = rounded(b, &naive.iter().zip(&before).map(|(n, b)| n + b).collect::<Vec<_>>());
            let got = activation_backward(b, write, &dy, &x, activation);
            assert_close(&format!("{name} backward {write:?}"), &got, &want, &naive);
        }
        let (mut in_place, x) = (upload_activation(b, &dy), upload_activation(b, &x));
        b.activation_backward_in_place(all_mut::<B>(&mut in_place), all::<B>(&x), activation);
        assert_close(&format!("{name} in place"), &download(b, &in_place), &want, &rounded(b, &naive));
    }
}

/// Far from 0 everything is finite, and NaN stays NaN.
fn check_extremes<B: Backend>(b: &B) {
    let x = rounded(b, &[f32::NAN, 1e30, -1e30, 3e38, -3e38, 100.0, -100.0, -0.0]);
    for activation in ACTIVATIONS {
        let y = activation_forward(b, &x, activation);
        let slope = activation_backward(b, Write::Replace, &vec![1.0; x.len()], &x, activation);
        assert!(y[0].is_nan(), "{activation:?} of NaN: {}", y[0]);
        assert!(
            slope[0].is_nan() || activation == Activation::Identity,
            "{activation:?}' of NaN: {}",
            slope[0]
        );
        for values in [&y, &slope] {
            assert!(values[1..].iter().all(|value| value.is_finite()), "{activation:?}: {values:?}");
        }
        if activation == Activation::Gelu || activation == Activation::Silu {
            assert_eq!((y[1], slope[1], slope[2]), (x[1], 1.0, 0.0), "{activation:?}");
        }
    }
}

fn check_activation_differences<B: Backend>(b: &B) {
    let (x, dy) = (random(1, 33), random(2, 33));
    for activation in ACTIVATIONS {
        let dx = activation_backward(b, Write::Replace, &dy, &x, activation);
        assert_gradient(&format!("{activation:?}"), &dx, &x, 1e-5, |x| {
            x.iter().zip(&dy).map(|(&x, &dy)| reference::activation(x, activation) * f64::from(dy)).sum()
        });
    }
}

fn rows_len(repeat: Repeat, dims: TokenDims) -> usize {
    dims.dim * if repeat == Repeat::OverBatch { dims.tokens } else { dims.batch }
}

fn add_rows<B: Backend>(b: &B, x: &[f32], rows: &[f32], repeat: Repeat, dims: TokenDims) -> Vec<f32> {
    let (mut y, x, rows) = (poisoned_activation(b, x.len()), upload_activation(b, x), upload(b, rows));
    b.add_rows_forward(all_mut::<B>(&mut y), all::<B>(&x), all::<B>(&rows), repeat, dims);
    download(b, &y)
}

fn add_rows_backward<B: Backend>(
    b: &B,
    before: &[f32],
    dy: &[f32],
    repeat: Repeat,
    dims: TokenDims,
) -> Vec<f32> {
    let (mut drows, dy) = (upload(b, before), upload_activation(b, dy));
    b.add_rows_backward(all_mut::<B>(&mut drows), all::<B>(&dy), repeat, dims);
    download(b, &drows)
}

fn check_add_rows<B: Backend>(b: &B) {
    for (dims, repeat) in shapes().flat_map(|dims| REPEATS.map(|repeat| (dims, repeat))) {
        let (x, rows) = (activations(b, 1, dims.len()), random(2, rows_len(repeat, dims)));
        let want = rounded(b, &reference::add_rows(&x, &rows, repeat, dims));
        assert_eq!(
            add_rows(b, &x, &rows, repeat, dims),
            want,
            "{repeat:?} {dims:?}: one rounding, nothing else"
        );

        let got = add_rows_backward(b, &rows, &x, repeat, dims);
        let (mut want, mut naive) = (wide(&rows), rows.clone());
        reference::add_rows_backward(&mut want, &wide(&x), repeat, dims);
        reference::add_rows_backward(&mut naive, &x, repeat, dims);
        assert_close(&format!("drows {repeat:?} {dims:?}"), &got, &want, &naive);
    }
}

fn gated_forward<B: Backend>(
    b: &B,
    x: &[f32],
    branch: &[f32],
    modulation: &[f32],
    dims: TokenDims,
) -> Vec<f32> {
    let mut y = poisoned_activation(b, x.len());
    let (x, branch, modulation) =
        (upload_activation(b, x), upload_activation(b, branch), upload(b, modulation));
    let out = all_mut::<B>(&mut y);
    b.gated_residual_forward(out, all::<B>(&x), all::<B>(&branch), all::<B>(&modulation), GATE, dims);
    download(b, &y)
}

/// dbranch and dmodulation; the latter starts from `before`.
fn gated_backward<B: Backend>(
    b: &B,
    before: &[f32],
    dy: &[f32],
    branch: &[f32],
    modulation: &[f32],
    dims: TokenDims,
) -> [Vec<f32>; 2] {
    let (mut dbranch, mut dmodulation) = (poisoned_activation(b, dy.len()), upload(b, before));
    let (dy, branch) = (upload_activation(b, dy), upload_activation(b, branch));
    let modulation = upload(b, modulation);
    b.gated_residual_backward(
        all_mut::<B>(&mut dbranch),
        all_mut::<B>(&mut dmodulation),
        all::<B>(&dy),
        all::<B>(&branch),
        all::<B>(&modulation),
        GATE,
        dims,
    );
    [download(b, &dbranch), download(b, &dmodulation)]
}

fn check_gated_residual<B: Backend>(b: &B) {
    for dims in shapes() {
        let (x, branch) = (activations(b, 1, dims.len()), activations(b, 2, dims.len()));
        let modulation = random(3, dims.batch * GATE.count * dims.dim);
        let (want, naive) = (
            reference::gated_residual(&wide(&x), &wide(&branch), &wide(&modulation), GATE, dims),
            reference::gated_residual(&x, &branch, &modulation, GATE, dims),
        );
        let got = gated_forward(b, &x, &branch, &modulation, dims);
        assert_close(&format!("{dims:?}"), &got, &want, &rounded(b, &naive));

        let before = random(4, modulation.len());
        let [dbranch, dmodulation] = gated_backward(b, &before, &x, &branch, &modulation, dims);
        let (mut want, mut naive) = (wide(&before), before);
        let modulation_64 = wide(&modulation);
        let want_branch = reference::gated_residual_backward(
            &mut want,
            &wide(&x),
            &wide(&branch),
            &modulation_64,
            GATE,
            dims,
        );
        let naive_branch =
            reference::gated_residual_backward(&mut naive, &x, &branch, &modulation, GATE, dims);
        assert_close(&format!("dbranch {dims:?}"), &dbranch, &want_branch, &rounded(b, &naive_branch));
        assert_close(&format!("dmodulation {dims:?}"), &dmodulation, &want, &naive);
    }
}

fn check_row_differences<B: Backend>(b: &B) {
    let dims = TokenDims { batch: 2, tokens: 5, dim: 7 };
    let (x, dy) = (random(1, dims.len()), random(2, dims.len()));
    let scalar = |y: Vec<f64>| y.iter().zip(&dy).map(|(y, &dy)| y * f64::from(dy)).sum::<f64>();
    for repeat in REPEATS {
        let rows = random(3, rows_len(repeat, dims));
        let drows = add_rows_backward(b, &vec![0.0; rows.len()], &dy, repeat, dims);
        assert_gradient(&format!("{repeat:?}"), &drows, &rows, 1e-5, |rows| {
            scalar(reference::add_rows(&wide(&x), rows, repeat, dims))
        });
    }
    let (branch, modulation) = (random(4, dims.len()), random(5, dims.batch * GATE.count * dims.dim));
    let zero = vec![0.0; modulation.len()];
    let [dbranch, dmodulation] = gated_backward(b, &zero, &dy, &branch, &modulation, dims);
    assert_gradient("dbranch", &dbranch, &branch, 1e-5, |branch| {
        scalar(reference::gated_residual(&wide(&x), branch, &wide(&modulation), GATE, dims))
    });
    assert_gradient("dmodulation", &dmodulation, &modulation, 1e-5, |modulation| {
        scalar(reference::gated_residual(&wide(&x), &wide(&branch), modulation, GATE, dims))
    });
}

/// Runs a check on softcuda, which must have nothing to say about the kernels.
fn on_cuda(precision: Precision, check: impl FnOnce(&Cuda)) {
    let device = cuda::cuda(precision);
    check(&device);
    device.check().expect("nothing went wrong");
    assert_eq!(driver::findings(), "");
}

#[test]
fn copy_fill_add_and_residual_cpu() {
    check_memory(&Cpu::poisoned());
}

#[test]
fn copy_fill_add_and_residual_f32() {
    on_cuda(Precision::F32, check_memory);
}

#[test]
fn copy_fill_add_and_residual_bf16() {
    on_cuda(Precision::Bf16, check_memory);
}

#[test]
fn parts_of_buffers_cpu() {
    check_parts(&Cpu::poisoned());
}

#[test]
fn parts_of_buffers_f32() {
    on_cuda(Precision::F32, check_parts);
}

#[test]
fn parts_of_buffers_bf16() {
    on_cuda(Precision::Bf16, check_parts);
}

#[test]
fn the_first_non_finite_element_is_found_cpu() {
    check_find_non_finite(&Cpu::poisoned());
}

#[test]
fn the_first_non_finite_element_is_found_f32() {
    on_cuda(Precision::F32, check_find_non_finite);
}

#[test]
fn the_first_non_finite_element_is_found_bf16() {
    on_cuda(Precision::Bf16, check_find_non_finite);
}

#[test]
fn activations_and_their_gradients_cpu() {
    check_activations(&Cpu::poisoned());
}

#[test]
fn activations_and_their_gradients_f32() {
    on_cuda(Precision::F32, check_activations);
}

#[test]
fn activations_and_their_gradients_bf16() {
    on_cuda(Precision::Bf16, check_activations);
}

#[test]
fn extremes_of_activations_cpu() {
    check_extremes(&Cpu::poisoned());
}

#[test]
fn extremes_of_activations_f32() {
    on_cuda(Precision::F32, check_extremes);
}

#[test]
fn extremes_of_activations_bf16() {
    on_cuda(Precision::Bf16, check_extremes);
}

#[test]
fn activation_gradients_are_the_differences_cpu() {
    check_activation_differences(&Cpu::poisoned());
}

#[test]
fn activation_gradients_are_the_differences_f32() {
    on_cuda(Precision::F32, check_activation_differences);
}

#[test]
fn added_rows_cpu() {
    check_add_rows(&Cpu::poisoned());
}

#[test]
fn added_rows_f32() {
    on_cuda(Precision::F32, check_add_rows);
}

#[test]
fn added_rows_bf16() {
    on_cuda(Precision::Bf16, check_add_rows);
}

#[test]
fn gated_residuals_cpu() {
    check_gated_residual(&Cpu::poisoned());
}

#[test]
fn gated_residuals_f32() {
    on_cuda(Precision::F32, check_gated_residual);
}

#[test]
fn gated_residuals_bf16() {
    on_cuda(Precision::Bf16, check_gated_residual);
}

#[test]
fn row_gradients_are_the_differences_cpu() {
    check_row_differences(&Cpu::poisoned());
}

#[test]
fn row_gradients_are_the_differences_f32() {
    on_cuda(Precision::F32, check_row_differences);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let dims = TokenDims { batch: 3, tokens: 257, dim: 127 };
    let (dy, branch) = (random(1, dims.len()), random(2, dims.len()));
    let modulation = random(3, dims.batch * GATE.count * dims.dim);
    assert_same_bits_for_any_threads("gated residual", || {
        gated_backward(&Cpu::poisoned(), &modulation, &dy, &branch, &modulation, dims).concat()
    });
    for repeat in REPEATS {
        let before = random(4, rows_len(repeat, dims));
        assert_same_bits_for_any_threads("added rows", || {
            add_rows_backward(&Cpu::poisoned(), &before, &dy, repeat, dims)
        });
    }
    let x = arguments(&Cpu::poisoned(), 50_001);
    assert_same_bits_for_any_threads("gelu", || activation_forward(&Cpu::poisoned(), &x, Activation::Gelu));
}
