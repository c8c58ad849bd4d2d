//! One step of a sampler: values with and without noise, clipping and what is saved, bits; guidance.

mod common;
#[path = "reference/sampler.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::Cuda;

const LENGTHS: [usize; 8] = [1, 31, 33, 65, 127, 257, 16_384, 50_001];

const STEP: SamplerStep = SamplerStep {
    from_x: 1.7,
    from_prediction: -0.9,
    clip: 0.6,
    keep: 0.8,
    to_x0: 0.35,
    from_saved: 0.0,
    noise: 0.15,
    save_x: 0.0,
    save_x0: 0.0,
};
/// One that takes from what was saved, and saves.
const SECOND_ORDER: SamplerStep = SamplerStep { from_saved: -0.4, save_x: 0.3, save_x0: 1.1, ..STEP };

fn device<B: Backend>(
    b: &B,
    x: &[f32],
    prediction: &[f32],
    z: Option<&[f32]>,
    step: SamplerStep,
) -> Vec<f32> {
    let (mut x, prediction) = (upload(b, x), upload(b, prediction));
    let z = z.map(|z| upload(b, z));
    b.sampler_step(all_mut::<B>(&mut x), None, all::<B>(&prediction), z.as_ref().map(all::<B>), step);
    download(b, &x)
}

fn check_second_order<B: Backend>(b: &B) {
    for len in LENGTHS {
        let [x, prediction, z, saved] = [1, 2, 3, 4].map(|seed| random(seed, len));
        let [mut x_there, prediction_there, z_there, mut saved_there] =
            [&x, &prediction, &z, &saved].map(|values| upload(b, values));
        b.sampler_step(
            all_mut::<B>(&mut x_there),
            Some(all_mut::<B>(&mut saved_there)),
            all::<B>(&prediction_there),
            Some(all::<B>(&z_there)),
            SECOND_ORDER,
        );
        let [wide_x, wide_prediction, wide_z, wide_saved] = [&x, &prediction, &z, &saved].map(|x| wide(x));
        let want = reference::step(&wide_x, Some(&wide_saved), &wide_prediction, Some(&wide_z), SECOND_ORDER);
        let naive = reference::step(&x, Some(&saved), &prediction, Some(&z), SECOND_ORDER);
        assert_close(&format!("x {len}"), &download(b, &x_there), &want.0, &naive.0);
        assert_close(&format!("saved {len}"), &download(b, &saved_there), &want.1, &naive.1);
    }
}

fn check_guidance<B: Backend>(b: &B) {
    for (samples, elements) in [(1, 1), (3, 33), (2, 1025), (2, 4096)] {
        let len = samples * elements;
        let (c, u) = (random(1, len), random(2, len));
        let (c_there, u_there) = (upload(b, &c), upload(b, &u));
        for (scale, rescale) in [(4.0, 0.0), (1.0, 0.0), (7.5, 0.7)] {
            // One element has no deviation.
            if elements == 1 && rescale > 0.0 {
                continue;
            }
            let mut out = poisoned(b, len);
            let (c_view, u_view) = (all::<B>(&c_there), all::<B>(&u_there));
            b.guide(all_mut::<B>(&mut out), c_view, u_view, samples, scale, rescale);
            let want = reference::guide(&wide(&c), &wide(&u), samples, scale, rescale);
            let naive = reference::guide(&c, &u, samples, scale, rescale);
            let name = format!("{samples} x {elements}, {scale}, {rescale}");
            assert_close(&name, &download(b, &out), &want, &naive);
        }
    }
}

fn check<B: Backend>(b: &B, step: SamplerStep, with_noise: bool) {
    for len in LENGTHS {
        let (x, prediction, z) = (random(1, len), random(2, len), random(3, len));
        let z = with_noise.then_some(&z[..]);
        let got = device(b, &x, &prediction, z, step);
        let want = reference::step(&wide(&x), None, &wide(&prediction), z.map(wide).as_deref(), step);
        let naive = reference::step(&x, None, &prediction, z, step);
        assert_close(&format!("{len} {step:?}"), &got, &want.0, &naive.0);
    }
}

/// Each array in turn begins one element behind a pack's beginning; what lies around `x` stays.
fn check_arrays_anywhere<B: Backend>(b: &B) {
    let (len, around) = (65, 2.5);
    let [x, prediction, z] = [1, 2, 3].map(|seed| random(seed, len));
    let want = device(b, &x, &prediction, Some(&z), STEP);
    for offsets in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]] {
        let [mut x, prediction, z] = [(&x, offsets[0]), (&prediction, offsets[1]), (&z, offsets[2])]
            .map(|(values, offset)| upload(b, &[&vec![around; offset], &values[..], &[around]].concat()));
        b.sampler_step(
            B::view_mut(&mut x, offsets[0]..offsets[0] + len),
            None,
            B::view(&prediction, offsets[1]..offsets[1] + len),
            Some(B::view(&z, offsets[2]..offsets[2] + len)),
            STEP,
        );
        let expected = [&vec![around; offsets[0]], &want[..], &[around]].concat();
        assert_eq!(download(b, &x), expected, "{offsets:?}");
    }
}

#[test]
fn arrays_lie_anywhere() {
    check_arrays_anywhere(&Cpu::poisoned());
}

#[test]
fn with_noise() {
    check(&Cpu::poisoned(), STEP, true);
}

#[test]
fn without_noise() {
    check(&Cpu::poisoned(), STEP, false);
}

#[test]
fn without_clipping() {
    check(&Cpu::poisoned(), SamplerStep { clip: f32::INFINITY, ..STEP }, true);
}

#[test]
fn second_order() {
    check_second_order(&Cpu::poisoned());
}

#[test]
fn guidance() {
    check_guidance(&Cpu::poisoned());
}

#[test]
fn on_cuda() {
    for device in cuda::both() {
        check(&device, STEP, true);
        check(&device, STEP, false);
        check(&device, SamplerStep { clip: f32::INFINITY, ..STEP }, true);
        check_clipping(&device);
        check_arrays_anywhere(&device);
        check_second_order(&device);
        check_guidance(&device);
        cuda::assert_clean(&device);
    }
}

#[test]
fn clipping_is_exact() {
    check_clipping(&Cpu::poisoned());
}

/// A captured step is replayed with other coefficients; x is the same bits as on a CPU.
#[test]
fn a_replay_takes_the_coefficients_of_its_step() {
    let device = cuda::cuda(Precision::F32);
    let (x, prediction) = (random(1, 257), random(2, 257));
    let (mut on_device, prediction_there) = (upload(&device, &x), upload(&device, &prediction));
    let mut want = x;
    for i in 0..6 {
        let step = SamplerStep { keep: 0.9 - 0.1 * i as f32, ..STEP };
        let mut work = || {
            let prediction = all::<Cuda>(&prediction_there);
            device.sampler_step(all_mut::<Cuda>(&mut on_device), None, prediction, None, step);
            Ok(())
        };
        device.run_step(&mut work).unwrap();
        want = self::device(&Cpu::new(), &want, &prediction, None, step);
    }
    assert_eq!(download(&device, &on_device), want);
    assert!(device.launch_counts().1 > 0, "no step was replayed");
    cuda::assert_clean(&device);
}

/// The last step of DDIM: x becomes the estimate of x0, exactly.
fn check_clipping<B: Backend>(b: &B) {
    let last = SamplerStep { from_prediction: 1.0, clip: 0.5, to_x0: 1.0, ..SamplerStep::default() };
    let got = device(b, &[9.0; 4], &[-0.75, 0.25, 0.75, f32::NAN], None, last);
    assert_eq!(got[..3], [-0.5, 0.25, 0.5]);
    assert!(got[3].is_nan(), "a NaN is not to be clipped away");
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (x, prediction) = (random(1, 100_003), random(2, 100_003));
    assert_same_bits_for_any_threads("sampler", || device(&Cpu::poisoned(), &x, &prediction, Some(&x), STEP));
}
