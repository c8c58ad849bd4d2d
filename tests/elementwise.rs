//! Copies, activations, added rows, residuals: values, gradients, bits.

mod common;
#[path = "reference/elementwise.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;

const LENGTHS: [usize; 8] = [1, 31, 33, 65, 127, 257, 16_384, 50_001];
const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::LeakyRelu, Activation::Tanh, Activation::Silu, Activation::Gelu];
const WRITES: [Write; 2] = [Write::Replace, Write::Add];
const REPEATS: [Repeat; 2] = [Repeat::OverBatch, Repeat::OverTokens];
const GATE: Slots = Slots { count: 6, index: 4 };

/// Odd sizes; the last one is cut into many pieces.
fn shapes() -> impl Iterator<Item = TokenDims> {
    let shapes = [(1, 1, 1), (2, 31, 33), (3, 1, 65), (33, 2, 31), (2, 33, 127), (2, 7, 257), (3, 257, 127)];
    shapes.into_iter().map(|(batch, tokens, dim)| TokenDims { batch, tokens, dim })
}

/// From -9 to 9: both tails and the middle of every activation.
fn arguments(len: usize) -> Vec<f32> {
    random(1, len).iter().map(|x| 9.0 * x).collect()
}

fn check_memory<B: Backend>(b: &B) {
    for len in LENGTHS {
        let (x, y) = (random(1, len), random(2, len));
        let from = upload(b, &x);
        let mut to = poisoned(b, len);
        b.copy(all_mut::<B>(&mut to), all::<B>(&from));
        assert_eq!(download(b, &to), x);
        b.fill(all_mut::<B>(&mut to), -2.5);
        assert_eq!(download(b, &to), vec![-2.5; len]);
        let mut to = upload(b, &y);
        b.add(all_mut::<B>(&mut to), all::<B>(&from));
        let want: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        assert_eq!(download(b, &to), want, "one rounding, nothing else");
        let mut to = poisoned(b, len);
        let branch = upload(b, &y);
        b.residual_forward(all_mut::<B>(&mut to), all::<B>(&from), all::<B>(&branch));
        assert_eq!(download(b, &to), want);
    }
}

fn check_find_non_finite<B: Backend>(b: &B) {
    let find = |x: &[f32]| b.find_non_finite(all::<B>(&upload(b, x)));
    assert_eq!(find(&[]), None);
    for len in LENGTHS {
        let good: Vec<f32> = (0..len).map(|i| [0.0, -f32::MAX, 1e-40, f32::MAX][i % 4]).collect();
        assert_eq!(find(&good), None);
        for first in [0, len / 3, len - 1] {
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut bad = good.clone();
                bad[len - 1] = f32::NAN;
                bad[first] = value;
                assert_eq!(find(&bad), Some(first), "{value} at {first} of {len}");
            }
        }
    }
}

fn activation_forward<B: Backend>(b: &B, x: &[f32], activation: Activation) -> Vec<f32> {
    let (mut y, x) = (poisoned(b, x.len()), upload(b, x));
    b.activation_forward(all_mut::<B>(&mut y), all::<B>(&x), activation);
    download(b, &y)
}

/// What dx holds before: NaN if it is to be replaced.
fn start(write: Write, len: usize) -> Vec<f32> {
    match write {
        Write::Replace => vec![f32::NAN; len],
        Write::Add => random(9, len),
    }
}

fn activation_backward<B: Backend>(
    b: &B,
    write: Write,
    dy: &[f32],
    x: &[f32],
    activation: Activation,
) -> Vec<f32> {
    let (mut dx, dy, x) = (upload(b, &start(write, x.len())), upload(b, dy), upload(b, x));
    b.activation_backward(all_mut::<B>(&mut dx), write, all::<B>(&dy), all::<B>(&x), activation);
    download(b, &dx)
}

fn check_activations<B: Backend>(b: &B) {
    for (len, activation) in LENGTHS.into_iter().flat_map(|len| ACTIVATIONS.map(|a| (len, a))) {
        let (x, dy) = (arguments(len), random(2, len));
        let name = format!("{activation:?} {len}");
        let want: Vec<f64> = x.iter().map(|&x| reference::activation(f64::from(x), activation)).collect();
        let naive: Vec<f32> = want.iter().map(|&y| y as f32).collect();
        assert_close(&name, &activation_forward(b, &x, activation), &want, &naive);

        let slope = |x: f32| reference::derivative(f64::from(x), activation);
        let want: Vec<f64> = x.iter().zip(&dy).map(|(&x, &dy)| f64::from(dy) * slope(x)).collect();
        let naive: Vec<f32> = x.iter().zip(&dy).map(|(&x, dy)| dy * slope(x) as f32).collect();
        for write in WRITES {
            let before = if write == Write::Add { start(write, len) } else { vec![0.0; len] };
            let want: Vec<f64> = want.iter().zip(&before).map(|(w, &b)| w + f64::from(b)).collect();
            let naive: Vec<f32> = naive.iter().zip(&before).map(|(n, b)| n + b).collect();
            let got = activation_backward(b, write, &dy, &x, activation);
            assert_close(&format!("{name} backward {write:?}"), &got, &want, &naive);
        }
        let (mut in_place, x) = (upload(b, &dy), upload(b, &x));
        b.activation_backward_in_place(all_mut::<B>(&mut in_place), all::<B>(&x), activation);
        assert_close(&format!("{name} in place"), &download(b, &in_place), &want, &naive);
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
    let (mut y, x, rows) = (poisoned(b, x.len()), upload(b, x), upload(b, rows));
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
    let (mut drows, dy) = (upload(b, before), upload(b, dy));
    b.add_rows_backward(all_mut::<B>(&mut drows), all::<B>(&dy), repeat, dims);
    download(b, &drows)
}

fn check_add_rows<B: Backend>(b: &B) {
    for (dims, repeat) in shapes().flat_map(|dims| REPEATS.map(|repeat| (dims, repeat))) {
        let (x, rows) = (random(1, dims.len()), random(2, rows_len(repeat, dims)));
        let want = reference::add_rows(&x, &rows, repeat, dims);
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
    let mut y = poisoned(b, x.len());
    let (x, branch, modulation) = (upload(b, x), upload(b, branch), upload(b, modulation));
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
    let (mut dbranch, mut dmodulation) = (poisoned(b, dy.len()), upload(b, before));
    let (dy, branch, modulation) = (upload(b, dy), upload(b, branch), upload(b, modulation));
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
        let (x, branch) = (random(1, dims.len()), random(2, dims.len()));
        let modulation = random(3, dims.batch * GATE.count * dims.dim);
        let (want, naive) = (
            reference::gated_residual(&wide(&x), &wide(&branch), &wide(&modulation), GATE, dims),
            reference::gated_residual(&x, &branch, &modulation, GATE, dims),
        );
        assert_close(&format!("{dims:?}"), &gated_forward(b, &x, &branch, &modulation, dims), &want, &naive);

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
        assert_close(&format!("dbranch {dims:?}"), &dbranch, &want_branch, &naive_branch);
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

#[test]
fn copy_fill_add_and_residual() {
    check_memory(&Cpu::poisoned());
}

#[test]
fn the_first_non_finite_element_is_found() {
    check_find_non_finite(&Cpu::poisoned());
}

#[test]
fn activations_and_their_gradients() {
    check_activations(&Cpu::poisoned());
}

#[test]
fn activation_gradients_are_the_differences() {
    check_activation_differences(&Cpu::poisoned());
}

#[test]
fn added_rows() {
    check_add_rows(&Cpu::poisoned());
}

#[test]
fn gated_residuals() {
    check_gated_residual(&Cpu::poisoned());
}

#[test]
fn row_gradients_are_the_differences() {
    check_row_differences(&Cpu::poisoned());
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
    let x = arguments(50_001);
    assert_same_bits_for_any_threads("gelu", || activation_forward(&Cpu::poisoned(), &x, Activation::Gelu));
}
