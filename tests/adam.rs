//! The gradient's norm and the Adam update: values over several steps, clipping, decay, EMA, bits.

mod common;
#[path = "reference/adam.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::Cuda;
use reference::State;

const LENGTHS: [usize; 9] = [1, 3, 31, 33, 65, 127, 257, 16_384, 50_001];

/// A step that does everything: decay on a prefix, clipping, EMA.
fn step(number: u64, decayed: usize) -> AdamStep {
    AdamStep {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        decayed,
        step: number,
        max_norm: 1.5,
        ema_decay: 0.95,
    }
}

fn device_norm2<B: Backend>(b: &B, x: &[f32]) -> f32 {
    let (mut out, x) = (upload(b, &[f32::NAN, 0.0]), upload(b, x));
    b.sum_of_squares(all_mut::<B>(&mut out), all::<B>(&x));
    download(b, &out)[0]
}

/// One update on the device, with the norm from the device.
fn device_update<B: Backend>(b: &B, state: &State<f32>, gradient: &[f32], step: AdamStep) -> State<f32> {
    let [mut w, mut m, mut v, mut ema] =
        [&state.weights, &state.first, &state.second, &state.ema].map(|x| upload(b, x));
    let gradient = upload(b, gradient);
    let mut norm2 = upload(b, &[f32::NAN, 0.0]);
    b.sum_of_squares(all_mut::<B>(&mut norm2), all::<B>(&gradient));
    b.adam(
        all_mut::<B>(&mut w),
        all_mut::<B>(&mut m),
        all_mut::<B>(&mut v),
        all_mut::<B>(&mut ema),
        all::<B>(&gradient),
        all::<B>(&norm2),
        step,
    );
    let [weights, first, second, ema] = [w, m, v, ema].map(|buf| download(b, &buf));
    State { weights, first, second, ema }
}

fn check_norm<B: Backend>(b: &B) {
    for len in LENGTHS {
        let x = random(1, len);
        let (want, naive) = (reference::sum_of_squares(&wide(&x)), reference::sum_of_squares(&x));
        assert_close(&format!("norm2 of {len}"), &[device_norm2(b, &x)], &[want], &[naive]);
    }
    assert_eq!(device_norm2(b, &[3.0, -4.0]), 25.0);
}

/// A gradient that is not finite is counted, and nothing changes from then on.
fn check_halt<B: Backend>(b: &B) {
    let before = State::new(&random(1, 33));
    let mut state = [&before.weights, &before.first, &before.second, &before.ema].map(|x| upload(b, x));
    let mut norm2 = upload(b, &[0.0, 0.0]);
    for bad in [f32::NAN, f32::INFINITY, 1.0] {
        let mut gradient = vec![0.5; 33];
        gradient[20] = bad;
        let gradient = upload(b, &gradient);
        b.sum_of_squares(all_mut::<B>(&mut norm2), all::<B>(&gradient));
        let [w, m, v, ema] = state.each_mut().map(|buf| all_mut::<B>(buf));
        b.adam(w, m, v, ema, all::<B>(&gradient), all::<B>(&norm2), step(1, 16));
    }
    let norm2 = download(b, &norm2);
    assert_eq!((norm2[0], norm2[1]), (0.25 * 32.0 + 1.0, 2.0));
    let after = state.map(|buf| download(b, &buf));
    assert_eq!(after, [before.weights, before.first, before.second, before.ema]);
}

#[test]
fn nothing_changes_after_a_gradient_that_is_not_finite() {
    check_halt(&Cpu::poisoned());
}

/// Five updates in a row, so that moments, corrections and EMA are all beyond their first step.
fn check_steps<B: Backend>(b: &B, change: impl Fn(&mut AdamStep)) {
    for len in LENGTHS {
        let weights = random(1, len);
        let mut got = State::new(&weights);
        let (mut want, mut naive) = (State::new(&wide(&weights)), State::new(&weights));
        for number in 1..=5 {
            let mut step = step(number, len * 2 / 3);
            change(&mut step);
            let gradient: Vec<f32> = random(10 + number, len).iter().map(|g| g * 0.5).collect();
            got = device_update(b, &got, &gradient, step);
            want.update(&wide(&gradient), step);
            naive.update(&gradient, step);
        }
        assert_close(&format!("weights {len}"), &got.weights, &want.weights, &naive.weights);
        assert_close(&format!("first {len}"), &got.first, &want.first, &naive.first);
        assert_close(&format!("second {len}"), &got.second, &want.second, &naive.second);
        assert_close(&format!("ema {len}"), &got.ema, &want.ema, &naive.ema);
    }
}

/// Algorithm 1 at its first step moves every weight by lr against the sign of its gradient.
fn check_first_step<B: Backend>(b: &B) {
    let plain = AdamStep { weight_decay: 0.0, max_norm: f32::INFINITY, ema_decay: 0.0, ..step(1, 0) };
    let state = State::new(&[1.0_f32, 1.0, -2.0]);
    let after = device_update(b, &state, &[0.5, -20.0, 1e-3], plain);
    let want = [1.0 - 3e-3, 1.0 + 3e-3, -2.0 - 3e-3];
    for (got, want) in after.weights.iter().zip(want) {
        assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
    }
    assert_eq!(after.ema, after.weights, "an EMA with decay 0 is the weights");
}

fn check_zero_gradient<B: Backend>(b: &B) {
    let still = AdamStep { weight_decay: 0.0, ..step(1, 0) };
    let state = State::new(&random(1, 33));
    let after = device_update(b, &state, &[0.0; 33], still);
    assert_eq!(after.weights, state.weights, "no gradient, no decay: nothing moves, nothing is NaN");
    assert_eq!(after.second, vec![0.0; 33]);
}

#[test]
fn sums_of_squares() {
    check_norm(&Cpu::poisoned());
}

#[test]
fn updates_follow_the_paper() {
    check_steps(&Cpu::poisoned(), |_| {});
}

#[test]
fn without_clipping_and_decay() {
    check_steps(&Cpu::poisoned(), |step| {
        step.max_norm = f32::INFINITY;
        step.weight_decay = 0.0;
    });
}

#[test]
fn decay_of_all_parameters() {
    check_steps(&Cpu::poisoned(), |step| step.decayed = usize::MAX);
}

#[test]
fn the_first_step_is_lr_against_the_sign() {
    check_first_step(&Cpu::poisoned());
}

#[test]
fn a_zero_gradient_moves_nothing() {
    check_zero_gradient(&Cpu::poisoned());
}

#[test]
fn on_cuda() {
    for device in cuda::both() {
        check_norm(&device);
        check_halt(&device);
        check_steps(&device, |_| {});
        check_steps(&device, |step| {
            step.max_norm = f32::INFINITY;
            step.weight_decay = 0.0;
        });
        check_steps(&device, |step| step.decayed = usize::MAX);
        check_first_step(&device);
        check_zero_gradient(&device);
        cuda::assert_clean(&device);
    }
}

/// Weights, moments, EMA and norm of a run on the device.
struct Flat {
    weights: <Cuda as Backend>::Buf,
    first: <Cuda as Backend>::Buf,
    second: <Cuda as Backend>::Buf,
    ema: <Cuda as Backend>::Buf,
    norm2: <Cuda as Backend>::Buf,
}

impl Flat {
    fn new(device: &Cuda, weights: &[f32]) -> Flat {
        let zeros = || upload(device, &vec![0.0; weights.len()]);
        let (weights, ema) = (upload_weights(device, weights), upload_weights(device, weights));
        Flat { weights, first: zeros(), second: zeros(), ema, norm2: upload(device, &[f32::NAN, 0.0]) }
    }

    fn update(&mut self, device: &Cuda, gradient: &<Cuda as Backend>::Buf, step: AdamStep) {
        device.sum_of_squares(all_mut::<Cuda>(&mut self.norm2), all::<Cuda>(gradient));
        device.adam(
            all_mut::<Cuda>(&mut self.weights),
            all_mut::<Cuda>(&mut self.first),
            all_mut::<Cuda>(&mut self.second),
            all_mut::<Cuda>(&mut self.ema),
            all::<Cuda>(gradient),
            all::<Cuda>(&self.norm2),
            step,
        );
    }
}

/// What products read is what was updated.
#[test]
fn copies_in_bf16_follow_the_weights() {
    let device = cuda::cuda(Precision::Bf16);
    for len in LENGTHS {
        let mut flat = Flat::new(&device, &random(1, len));
        let gradient = upload(&device, &random(2, len));
        flat.update(&device, &gradient, step(1, len / 2));
        for buf in [&flat.weights, &flat.ema] {
            let mut copy = vec![f32::NAN; len];
            device.download(&mut copy, all::<Cuda>(buf).half_copy().expect("parameters have a copy"));
            let want: Vec<f32> =
                download(&device, buf).into_iter().map(|x| half::bf16::from_f32(x).to_f32()).collect();
            assert!(copy == want, "{len}");
        }
    }
    cuda::assert_clean(&device);
}

/// A captured step is replayed with other rates; given the norm, the update is the same bits as on a CPU.
#[test]
fn a_replay_takes_the_rates_of_its_step() {
    let (device, cpu) = (cuda::cuda(Precision::F32), Cpu::new());
    let weights = random(1, 4097);
    let (mut flat, mut want) = (Flat::new(&device, &weights), State::new(&weights));
    // A norm without rounding, so that it is the same for any order of its sum.
    let gradient = vec![0.5; weights.len()];
    let on_device = upload(&device, &gradient);
    for number in 1..=6 {
        let step = AdamStep { lr: 1e-3 * number as f32, ..step(number, 1000) };
        let mut work = || {
            flat.update(&device, &on_device, step);
            Ok(())
        };
        device.run_step(&mut work).unwrap();
        want = device_update(&cpu, &want, &gradient, step);
    }
    let got = [&flat.weights, &flat.first, &flat.second, &flat.ema].map(|buf| download(&device, buf));
    assert_eq!(got, [want.weights, want.first, want.second, want.ema]);
    assert!(device.launch_counts().1 > 0, "no step was replayed");
    cuda::assert_clean(&device);
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (weights, gradient) = (random(1, 100_003), random(2, 100_003));
    assert_same_bits_for_any_threads("adam", || {
        let after = device_update(&Cpu::poisoned(), &State::new(&weights), &gradient, step(1, 70_000));
        [after.weights, after.first, after.second, after.ema].concat()
    });
}
