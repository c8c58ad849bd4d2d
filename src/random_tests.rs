//! Tests of `random`: known answers, accuracy of the functions, and statistics of the numbers.

use super::*;
use crate::backend::Purpose;

fn key(seed: u64, step: u64) -> NoiseKey {
    NoiseKey { seed, step, purpose: Purpose::Test }
}

fn normals(key: NoiseKey, count: u64) -> Vec<f64> {
    (0..count).map(|index| f64::from(normal(key, index))).collect()
}

/// kat_vectors of Random123 (Salmon et al. 2011), philox4x32 with 10 rounds.
#[test]
fn known_answers() {
    let words = |counter: [u32; 4], key: [u32; 2]| {
        let seed = u64::from(key[1]) << 32 | u64::from(key[0]);
        philox(counter.map(|word| [word]), seed).map(|[word]| word)
    };
    assert_eq!(words([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
    assert_eq!(words([u32::MAX; 4], [u32::MAX; 2]), [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
    assert_eq!(
        words([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]),
        [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
    );
}

#[test]
fn each_part_of_the_address_stands_in_its_place() {
    let address =
        NoiseKey { seed: 0x299F_31D0_A409_3822, step: 0x0370_7344_1319_8A2E, purpose: Purpose::SamplerStep };
    let counter = [[7], [Purpose::SamplerStep as u32], [0x1319_8A2E], [0x0370_7344]];
    assert_eq!(block(address, 7), philox(counter, address.seed).map(|[word]| word));
    for index in 0..9 {
        assert_eq!(word(address, index), block(address, (index / 4) as u32)[index as usize % 4]);
    }
}

#[test]
fn uniform_is_inside_the_open_interval_and_symmetric() {
    assert_eq!(uniform(0), 2.0_f32.powi(-24));
    assert_eq!(uniform(u32::MAX), 1.0 - 2.0_f32.powi(-24));
    for word in [0, 1, 255, 256, 0x1234_5678, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
        assert_eq!(uniform(word), 1.0 - uniform(!word));
    }
}

/// Words of every uniform number, thinned out, and all of those near the ends.
fn arguments() -> impl Iterator<Item = u32> {
    let bits = 0..1_u32 << 23;
    bits.clone().step_by(37).chain(bits.clone().take(2000)).chain(bits.rev().take(2000)).map(|i| i << 9)
}

#[test]
fn ln_is_accurate_to_two_ulp() {
    for x in arguments().map(uniform) {
        let want = f64::from(x).ln();
        let error = ((f64::from(ln(x)) - want) / want).abs();
        assert!(error < 2.0 * f64::from(f32::EPSILON), "ln({x}): {error:e}");
    }
}

#[test]
fn sine_and_cosine_are_accurate_to_an_ulp_of_1() {
    for word in arguments() {
        let angle = f64::from(uniform(word)) * std::f64::consts::TAU;
        let (sine, cosine) = sin_cos(word);
        assert!((f64::from(sine) - angle.sin()).abs() < 1.2e-7, "sin {angle}");
        assert!((f64::from(cosine) - angle.cos()).abs() < 1.2e-7, "cos {angle}");
    }
}

#[test]
fn lanes_are_the_single_numbers() {
    let key = key(3, 1 << 40);
    for first_block in [0, 5, u32::MAX - 3] {
        let mut lanes = [0.0; LANE_NUMBERS];
        normal_lanes(&mut lanes, key, first_block);
        for (i, lane) in lanes.iter().enumerate() {
            let single = normal(key, u64::from(first_block) * 4 + i as u64);
            assert_eq!(lane.to_bits(), single.to_bits(), "block {first_block}, number {i}");
        }
    }
}

/// Bounds are five standard errors of each moment of a normal sample.
#[test]
fn moments_of_the_normal_numbers() {
    let count = 1_000_000;
    let x = normals(key(1, 0), count);
    let moment = |power| x.iter().map(|x| x.powi(power)).sum::<f64>() / count as f64;
    let allowed = |variance: f64| 5.0 * (variance / count as f64).sqrt();
    assert!(moment(1).abs() < allowed(1.0));
    assert!((moment(2) - 1.0).abs() < allowed(2.0));
    assert!(moment(3).abs() < allowed(15.0));
    assert!((moment(4) - 3.0).abs() < allowed(96.0));
    let beyond = |limit: f64| x.iter().filter(|x| x.abs() > limit).count() as f64 / count as f64;
    for (limit, probability) in [(1.0, 0.317_310_5), (2.0, 0.045_500_3), (3.0, 0.002_699_8)] {
        assert!((beyond(limit) - probability).abs() < allowed(probability), "beyond {limit}");
    }
}

/// Correlations of a stream with itself a little later, and with streams that differ from it in one part of
/// the address.
#[test]
fn streams_are_independent() {
    let count = 200_000;
    let base = normals(key(1, 0), count);
    let correlation = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / count as f64;
    let allowed = 5.0 / (count as f64).sqrt();
    for lag in 1..9 {
        assert!(correlation(&base[lag..], &base).abs() < allowed, "lag {lag}");
    }
    let neighbours = [
        key(2, 0),
        key(1 << 32 | 1, 0),
        key(1, 1),
        key(1, 1 << 32),
        NoiseKey { purpose: Purpose::Noise, ..key(1, 0) },
    ];
    for neighbour in neighbours {
        let other = normals(neighbour, count);
        assert!(correlation(&base, &other).abs() < allowed, "{neighbour:?}");
        let squares = |x: &[f64]| x.iter().map(|x| x * x - 1.0).collect::<Vec<_>>();
        assert!(correlation(&squares(&base), &squares(&other)).abs() < 2.0 * allowed, "{neighbour:?}");
    }
}
