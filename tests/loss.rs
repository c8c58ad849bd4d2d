//! The weighted mean squared error: values, gradient, bits.

mod common;
#[path = "reference/loss.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;

/// (batch, elements a sample)
const SHAPES: [(usize, usize); 8] =
    [(1, 1), (3, 31), (1, 33), (5, 65), (2, 127), (33, 257), (3, 16_385), (2, 50_001)];

/// (losses, dprediction)
fn device<B: Backend>(b: &B, prediction: &[f32], target: &[f32], weights: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (mut losses, mut dprediction) = (poisoned(b, weights.len()), poisoned(b, prediction.len()));
    let (prediction, target, weights) = (upload(b, prediction), upload(b, target), upload(b, weights));
    b.mse(
        all_mut::<B>(&mut losses),
        all_mut::<B>(&mut dprediction),
        all::<B>(&prediction),
        all::<B>(&target),
        all::<B>(&weights),
    );
    (download(b, &losses), download(b, &dprediction))
}

fn inputs(batch: usize, elements: usize) -> [Vec<f32>; 3] {
    [random(1, batch * elements), random(2, batch * elements), random(3, batch)]
}

fn check<B: Backend>(b: &B) {
    for (batch, elements) in SHAPES {
        let [prediction, target, weights] = inputs(batch, elements);
        let (losses, dprediction) = device(b, &prediction, &target, &weights);
        let (want, want_d) = reference::mse(&wide(&prediction), &wide(&target), &wide(&weights));
        let (naive, naive_d) = reference::mse(&prediction, &target, &weights);
        assert_close(&format!("losses {batch} {elements}"), &losses, &want, &naive);
        assert_close(&format!("dprediction {batch} {elements}"), &dprediction, &want_d, &naive_d);
    }
}

fn check_differences<B: Backend>(b: &B) {
    let (batch, elements) = (3, 31);
    let [prediction, target, weights] = inputs(batch, elements);
    let (_, dprediction) = device(b, &prediction, &target, &weights);
    assert_gradient("dprediction", &dprediction, &prediction, 1e-5, |prediction| {
        let (losses, _) = reference::mse(prediction, &wide(&target), &wide(&weights));
        losses.iter().zip(&weights).map(|(loss, &weight)| loss * f64::from(weight)).sum::<f64>()
            / batch as f64
    });
}

#[test]
fn values_and_gradient() {
    check(&Cpu::poisoned());
}

#[test]
fn the_gradient_is_the_differences() {
    check_differences(&Cpu::poisoned());
}

#[test]
fn values_and_gradient_on_cuda() {
    for device in cuda::both() {
        check(&device);
        check_differences(&device);
        cuda::assert_clean(&device);
    }
}

#[test]
fn long_sums_stay_accurate() {
    check_long_sums(&Cpu::poisoned());
}

#[test]
fn long_sums_stay_accurate_on_cuda() {
    check_long_sums(&cuda::cuda(Precision::F32));
}

/// 2^22 equal terms: a running sum in f32 would be off by percents.
fn check_long_sums<B: Backend>(b: &B) {
    let len = 1 << 22;
    let (losses, _) = device(b, &vec![0.1; len], &vec![0.0; len], &[1.0]);
    let want = f64::from(0.1_f32).powi(2);
    assert!((f64::from(losses[0]) - want).abs() < 1e-6 * want, "{} {want}", losses[0]);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let [prediction, target, weights] = inputs(3, 50_001);
    assert_same_bits_for_any_threads("mse", || {
        let (losses, dprediction) = device(&Cpu::poisoned(), &prediction, &target, &weights);
        [losses, dprediction].concat()
    });
}
