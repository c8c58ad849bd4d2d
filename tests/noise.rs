//! Normal numbers and the noising of samples: values, statistics, addresses, bits.

mod common;
#[path = "reference/noise.rs"]
mod reference;

use common::*;
use dit_engine::backend::*;
use dit_engine::cpu::Cpu;
use dit_engine::cuda::{Cuda, Options};

const KEY: NoiseKey = NoiseKey { seed: 0x1234_5678_9ABC_DEF0, step: (7 << 32) + 5, purpose: Purpose::Test };
const OBJECTIVES: [Objective; 3] = [Objective::X0, Objective::Eps, Objective::V];

fn normal<B: Backend>(b: &B, len: usize, key: NoiseKey, first: u64) -> Vec<f32> {
    let mut out = poisoned(b, len);
    b.normal(all_mut::<B>(&mut out), key, first);
    download(b, &out)
}

/// Every length and every start within a block; the naive error is that of an f32 angle and radius.
fn check_normal<B: Backend>(b: &B) {
    for len in [1, 2, 3, 4, 5, 31, 33, 63, 64, 65, 127, 257, 20_003] {
        for first in [0, 1, 2, 3, 4, 1_000_001, (1 << 34) - 300_000] {
            let want: Vec<f64> = (0..len).map(|i| reference::normal(KEY, first + i as u64)).collect();
            let naive: Vec<f32> = want.iter().map(|&x| x as f32).collect();
            assert_close(&format!("{len} from {first}"), &normal(b, len, KEY, first), &want, &naive);
        }
    }
}

/// Each part of the address matters, and a part of a stream is a part of the whole.
fn check_addresses<B: Backend>(b: &B) {
    let whole = normal(b, 40_000, KEY, 0);
    assert_eq!(normal(b, 1000, KEY, 17_001), whole[17_001..18_001]);
    let others = [
        NoiseKey { seed: KEY.seed + 1, ..KEY },
        NoiseKey { seed: KEY.seed + (1 << 32), ..KEY },
        NoiseKey { step: KEY.step + 1, ..KEY },
        NoiseKey { step: KEY.step + (1 << 32), ..KEY },
        NoiseKey { purpose: Purpose::Noise, ..KEY },
    ];
    for other in others {
        let same = normal(b, 1000, other, 0).iter().zip(&whole).filter(|(a, b)| a == b).count();
        assert!(same < 3, "{other:?}");
    }
}

/// Bounds are five standard errors.
fn check_statistics<B: Backend>(b: &B) {
    let count = 2_000_003;
    let x = wide(&normal(b, count, KEY, 0));
    let moment = |power| x.iter().map(|x| x.powi(power)).sum::<f64>() / count as f64;
    let allowed = |variance: f64| 5.0 * (variance / count as f64).sqrt();
    for (power, want, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)] {
        assert!((moment(power) - want).abs() < allowed(variance), "moment {power}: {}", moment(power));
    }
    for lag in 1..5 {
        let correlation = x.iter().zip(&x[lag..]).map(|(a, b)| a * b).sum::<f64>() / count as f64;
        assert!(correlation.abs() < allowed(1.0), "lag {lag}: {correlation}");
    }
}

fn mix<B: Backend>(
    b: &B,
    x0: &[f32],
    eps: &[f32],
    rows: &[NoiseRow],
    objective: Objective,
    width: usize,
) -> [Vec<f32>; 2] {
    let (mut x_t, mut target) = (poisoned(b, x0.len()), poisoned(b, x0.len()));
    let (x0, eps, rows) = (upload(b, x0), upload(b, eps), upload(b, bytemuck::cast_slice(rows)));
    b.noise_mix(
        all_mut::<B>(&mut x_t),
        all_mut::<B>(&mut target),
        all::<B>(&x0),
        all::<B>(&eps),
        all::<B>(&rows),
        objective,
        width,
    );
    [download(b, &x_t), download(b, &target)]
}

/// Rows of all kinds: everything, nothing, a range, the end, an empty range, bounds between frames and outside.
fn rows(batch: usize, width: usize) -> Vec<NoiseRow> {
    let width = width as f32;
    let ranges = [
        (0.0, width),
        (0.0, 0.0),
        ((width / 3.0).floor(), (width * 2.0 / 3.0).floor()),
        ((width / 2.0).floor(), width),
        (width, width),
        (0.5, width - 0.5),
        (-3.0, width + 3.0),
        (width, 0.0),
        (f32::NEG_INFINITY, f32::INFINITY),
    ];
    (0..batch)
        .map(|sample| {
            let angle = 0.1 + 0.3 * sample as f32;
            let (from, to) = ranges[sample % ranges.len()];
            NoiseRow { alpha: angle.cos(), sigma: angle.sin(), from, to }
        })
        .collect()
}

fn check_mix<B: Backend>(b: &B) {
    for (batch, planes, width) in
        [(1, 1, 1), (9, 3, 31), (9, 2, 33), (3, 65, 127), (9, 31, 257), (4, 1, 20_001)]
    {
        let len = batch * planes * width;
        let (x0, eps, rows) = (random(1, len), random(2, len), rows(batch, width));
        for objective in OBJECTIVES {
            let name = format!("{objective:?} {batch} {planes} {width}");
            let [x_t, target] = mix(b, &x0, &eps, &rows, objective, width);
            let (want, want_target) = reference::mix(&wide(&x0), &wide(&eps), &rows, objective, width);
            let (naive, naive_target) = reference::mix(&x0, &eps, &rows, objective, width);
            assert_close(&format!("x_t {name}"), &x_t, &want, &naive);
            assert_close(&format!("target {name}"), &target, &want_target, &naive_target);
        }
    }
}

/// Drawing while mixing gives the bits of drawing, then mixing, whatever the place of a sample's beginning in a block of
/// the stream.
fn check_mix_drawn<B: Backend>(b: &B) {
    for (batch, planes, width) in [(1, 1, 1), (7, 1, 1), (9, 3, 31), (9, 2, 33), (2, 8, 16), (9, 31, 257)] {
        let len = batch * planes * width;
        let (x0, rows) = (random(1, len), rows(batch, width));
        for (first, objective) in [0, 1, 2, 3, 1 << 33].into_iter().zip(OBJECTIVES.into_iter().cycle()) {
            let eps = normal(b, len, KEY, first);
            let want = mix(b, &x0, &eps, &rows, objective, width);
            let got = mix_drawn(b, &x0, &rows, KEY, first, objective, width);
            assert!(bits(&got.concat()) == bits(&want.concat()), "{batch} {planes} {width} from {first}");
        }
    }
}

fn mix_drawn<B: Backend>(
    b: &B,
    x0: &[f32],
    rows: &[NoiseRow],
    key: NoiseKey,
    first: u64,
    objective: Objective,
    width: usize,
) -> [Vec<f32>; 2] {
    let (mut x_t, mut target) = (poisoned(b, x0.len()), poisoned(b, x0.len()));
    let (x0, rows) = (upload(b, x0), upload(b, bytemuck::cast_slice(rows)));
    b.noise_mix_drawn(
        all_mut::<B>(&mut x_t),
        all_mut::<B>(&mut target),
        all::<B>(&x0),
        all::<B>(&rows),
        key,
        first,
        objective,
        width,
    );
    [download(b, &x_t), download(b, &target)]
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Outside the noised frames nothing is rounded, and eps is not even looked at.
fn check_clean_frames<B: Backend>(b: &B) {
    let x0 = random(1, 3 * 33);
    let eps: Vec<f32> =
        (0..x0.len()).map(|i| if (5..20).contains(&(i % 33)) { 1.0 } else { f32::NAN }).collect();
    let row = NoiseRow { alpha: 0.6, sigma: 0.8, from: 5.0, to: 20.0 };
    for objective in OBJECTIVES {
        let [x_t, target] = mix(b, &x0, &eps, &[row], objective, 33);
        for i in (0..x0.len()).filter(|i| !(5..20).contains(&(i % 33))) {
            let want = if objective == Objective::X0 { x0[i] } else { 0.0 };
            assert!(x_t[i] == x0[i] && target[i] == want, "{objective:?} element {i}");
        }
        assert!(x_t.iter().chain(&target).all(|x| x.is_finite()));
    }
}

/// The device that softcuda, or a driver, has; in bf16 noise is f32 all the same.
fn on_cuda(check: impl Fn(&Cuda)) {
    for device in cuda::both() {
        check(&device);
        cuda::assert_clean(&device);
    }
}

#[test]
fn normal_numbers() {
    check_normal(&Cpu::poisoned());
}

#[test]
fn normal_numbers_on_cuda() {
    on_cuda(check_normal);
}

#[test]
fn addresses() {
    check_addresses(&Cpu::poisoned());
}

#[test]
fn addresses_on_cuda() {
    on_cuda(check_addresses);
}

#[test]
fn statistics() {
    check_statistics(&Cpu::poisoned());
}

#[test]
fn mixing() {
    check_mix(&Cpu::poisoned());
}

#[test]
fn mixing_on_cuda() {
    on_cuda(check_mix);
}

#[test]
fn drawing_while_mixing() {
    check_mix_drawn(&Cpu::poisoned());
}

#[test]
fn drawing_while_mixing_on_cuda() {
    on_cuda(check_mix_drawn);
}

#[test]
fn clean_frames_are_exact() {
    check_clean_frames(&Cpu::poisoned());
}

#[test]
fn clean_frames_are_exact_on_cuda() {
    on_cuda(check_clean_frames);
}

/// Normal numbers are the same bits on every device, and so are the words that they are made of (as far as they are: a
/// number is a function of 24 bits of two words).
#[test]
fn every_device_draws_the_same_bits() {
    let keys = [
        KEY,
        NoiseKey { seed: 0, step: 0, purpose: Purpose::Weights },
        NoiseKey { seed: u64::MAX, step: u64::MAX, purpose: Purpose::Validation },
        NoiseKey { seed: 1 << 40, step: 3, purpose: Purpose::Noise },
    ];
    let firsts = [0, 3, (1 << 34) - 20_002, (1 << 63) + 1, u64::MAX - 100_000];
    on_cuda(|device| {
        for key in keys {
            for first in firsts {
                let (got, want) =
                    (normal(device, 40_003, key, first), normal(&Cpu::new(), 40_003, key, first));
                assert!(bits(&got) == bits(&want), "{key:?} from {first}");
            }
        }
    });
}

/// A captured step is replayed with other numbers.
#[test]
fn a_replay_draws_the_numbers_of_its_step() {
    let device = cuda::open(Options { graphs: true, ..Options::default() });
    let mut out = poisoned(&device, 1000);
    for step in 0..6 {
        let key = NoiseKey { step, ..KEY };
        let mut work = || {
            device.normal(all_mut::<Cuda>(&mut out), key, 8 * step);
            Ok(())
        };
        device.run_step(&mut work).unwrap();
        let want = normal(&Cpu::new(), 1000, key, 8 * step);
        assert!(bits(&download(&device, &out)) == bits(&want), "step {step}");
    }
    assert!(device.launch_counts().1 > 0, "no step was replayed");
    cuda::assert_clean(&device);
}

#[test]
fn bits_do_not_depend_on_threads() {
    assert_same_bits_for_any_threads("normal", || normal(&Cpu::poisoned(), 100_003, KEY, 3));
    let (x0, eps) = (random(1, 9 * 31 * 257), random(2, 9 * 31 * 257));
    assert_same_bits_for_any_threads("mix", || {
        mix(&Cpu::poisoned(), &x0, &eps, &rows(9, 257), Objective::V, 257).concat()
    });
}
