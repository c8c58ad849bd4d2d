//! Arithmetic of all types as nvcc compiles it, against the host's own.

mod common;

use common::{Random, compare, rows, rows_of_one};
use half::{bf16, f16};

/// Bits of all kinds of 16-bit floats, specials included.
fn sixteen(seed: u64, specials: &[u16]) -> Vec<u16> {
    let mut random = Random(seed);
    let mut all = random.list(1500, |random| random.bits() as u16);
    specials.iter().for_each(|&bits| all.extend(std::iter::repeat_n(bits, specials.len())));
    all
}

/// The same number of bits to go with them: every special meets every other.
fn partners(seed: u64, specials: &[u16]) -> Vec<u16> {
    let mut random = Random(seed);
    let mut all = random.list(1500, |random| random.bits() as u16);
    specials.iter().for_each(|_| all.extend(specials));
    all
}

const HALVES: [u16; 9] = [0, 0x8000, 1, 0x8001, 0x3c00, 0xbc00, 0x7bff, 0x7c00, 0xfc00];
const BFLOATS: [u16; 9] = [0, 0x8000, 1, 0x8001, 0x3f80, 0xbf80, 0x7f7f, 0x7f80, 0xff80];

/// The 16-bit floats next to a number, by their bits: not above and not below it. `infinity` is the bits of that.
fn neighbours(value: f64, infinity: u16, wide: fn(u16) -> f64) -> (u16, u16) {
    let bits = |i: i32| if i < 0 { 0x8000 | -i as u16 } else { i as u16 };
    let (mut low, mut high) = (-i32::from(infinity), i32::from(infinity));
    while high - low > 1 {
        let middle = (low + high) / 2;
        if wide(bits(middle)) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    if wide(bits(low)) == value { (bits(low), bits(low)) } else { (bits(low), bits(high)) }
}

/// A number rounded to the nearest of them, ties to even (`half` drops bits of f64 that decide ties); NaNs are alike.
fn nearest(value: f64, infinity: u16, wide: fn(u16) -> f64) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = u16::from(value.is_sign_negative()) << 15;
    let value = value.abs();
    if value.is_infinite() {
        return sign | infinity;
    }
    let (low, high) = neighbours(value, infinity, wide);
    // Beyond the largest number comes what would be the next.
    let largest = wide(infinity - 1);
    let above = if high == infinity { 2.0 * largest - wide(infinity - 2) } else { wide(high) };
    let (down, up) = (value - wide(low), above - value);
    let odd = low & 1 == 1;
    sign | if down < up || (down == up && !odd) { low } else { high }
}

/// A value rounded once: f64 holds sums and products of halves, and quotients and fused sums to within what rounding needs.
fn round(value: f64) -> u16 {
    nearest(value, 0x7c00, wide)
}

/// NaNs are alike.
fn nan(bits: u16) -> u16 {
    if bits & 0x7fff > 0x7c00 { 0x7fff } else { bits }
}

fn wide(bits: u16) -> f64 {
    f16::from_bits(bits).to_f64()
}

/// The larger or smaller of two, a number before a NaN, +0 above -0.
fn extreme(a: f64, b: f64, larger: bool) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) => b,
        (_, true) => a,
        _ if a == b => {
            if a.is_sign_negative() == larger {
                b
            } else {
                a
            }
        }
        _ => {
            if (a > b) == larger {
                a
            } else {
                b
            }
        }
    }
}

#[test]
fn halves_are_rounded_once() {
    let (a, b) = (sixteen(1, &HALVES), partners(2, &HALVES));
    let found = rows::<_, _, u16>("half", "half_arithmetic", &a, &b, 11);
    let found: Vec<Vec<u16>> = found.into_iter().map(|row| row.into_iter().map(nan).collect()).collect();
    let close = |row: usize, f: &dyn Fn(f64) -> f64| {
        for (&found, &a) in found[row].iter().zip(&a) {
            let wanted = round(f(wide(a)));
            // Approximate in f32, then rounded: off by one in rare cases.
            assert!(
                found == wanted || found.abs_diff(wanted) == 1,
                "row {row} of {a:#x}: {found:#x}, {wanted:#x}"
            );
        }
    };
    close(10, &f64::exp2);
    close(9, &|x| x.abs().sqrt());
    let quotient = |a: u16, b: u16| round(wide(a) / wide(b));
    for ((&found, &a), &b) in found[4].iter().zip(&a).zip(&b) {
        let wanted = quotient(a, b);
        assert!(found == wanted, "{a:#x} / {b:#x}: {found:#x}, {wanted:#x}");
    }
    compare(
        &[&found[..4], &found[5..9]].concat(),
        &a,
        &b,
        &[
            &|a, b| round(wide(a) + wide(b)),
            &|a, b| round(wide(a) - wide(b)),
            &|a, b| round(wide(a) * wide(b)),
            &|a, b| round(wide(a).mul_add(wide(b), wide(a))),
            &|a, b| round(extreme(wide(a), wide(b), true)),
            &|a, b| round(extreme(wide(a), wide(b), false)),
            &|a, _| nan(a ^ 0x8000),
            &|a, _| nan(a & 0x7fff),
        ],
    );
}

/// Pairs in words, low half first.
fn pairs(bits: &[u16]) -> Vec<u32> {
    bits.chunks_exact(2).map(|pair| u32::from(pair[0]) | u32::from(pair[1]) << 16).collect()
}

fn halves(words: &[u32]) -> Vec<u16> {
    words.iter().flat_map(|&word| [word as u16, (word >> 16) as u16]).collect()
}

#[test]
fn packed_halves_are_two_halves() {
    let (a, b) = (sixteen(3, &HALVES), partners(4, &HALVES));
    let even = a.len() / 2 * 2;
    let (a, b) = (&a[..even], &b[..even]);
    let found = rows::<_, _, u32>("half", "half2_arithmetic", &pairs(a), &pairs(b), 5);
    let found: Vec<Vec<u16>> = found.iter().map(|row| halves(row).into_iter().map(nan).collect()).collect();
    let fused = |a: u16, b: u16| wide(a).mul_add(wide(b), wide(a));
    compare(
        &found,
        a,
        b,
        &[
            &|a, b| round(wide(a) + wide(b)),
            &|a, b| round(wide(a) * wide(b)),
            &|a, b| round(fused(a, b)),
            &|a, b| round(extreme(wide(a), wide(b), true)),
            // relu makes a NaN the canonical one and a negative result 0.
            &|a, b| if fused(a, b) <= 0.0 { 0 } else { round(fused(a, b)) },
        ],
    );
}

/// A single as a half, rounded up or down.
fn directed(x: f32, up: bool) -> f64 {
    let value = f64::from(x);
    if value.is_nan() || value.is_infinite() {
        return value;
    }
    let (low, high) = neighbours(value, 0x7c00, wide);
    wide(if up { high } else { low })
}

#[test]
fn singles_become_halves_in_four_ways() {
    let mut random = Random(5);
    let mut x = random.list(2000, |random| f32::from_bits(random.bits() as u32));
    x.extend(random.list(2000, |random| random.unit() * (2f32).powi(random.below(44) as i32 - 27)));
    x.extend([
        0.0,
        -0.0,
        65504.0,
        65519.9,
        65520.0,
        -65520.0,
        1e9,
        2f32.powi(-25),
        2f32.powi(-24),
        f32::INFINITY,
        f32::NAN,
    ]);
    let found = rows_of_one::<_, u32>("half", "half_convert", &x, x.len(), 4);
    for (i, &x) in x.iter().enumerate() {
        let found: Vec<f64> = found.iter().map(|row| f64::from(f32::from_bits(row[i]))).collect();
        let nearest = wide(round(f64::from(x)));
        // Towards zero never overflows to infinity; up and down do on their side.
        let wanted = [nearest, directed(x, x < 0.0), directed(x, true), directed(x, false)];
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found == &wanted || (found.is_nan() && wanted.is_nan()), "{x:e}: {found}, {wanted}");
        }
    }
}

#[test]
fn halves_compare_and_become_integers() {
    let (a, b) = (sixteen(6, &HALVES), partners(7, &HALVES));
    let found = rows::<_, _, i32>("half", "half_compare", &a, &b, 1);
    let bits = |a: u16, b: u16| {
        let (x, y) = (wide(a), wide(b));
        let list = [
            x < y,
            x <= y,
            x == y,
            x != y && !x.is_nan() && !y.is_nan(),
            x > y,
            x >= y,
            x.is_nan(),
            x.is_infinite(),
        ];
        list.iter().enumerate().fold(0, |all, (at, &bit)| all | i32::from(bit) << at)
    };
    compare(&found, &a, &b, &[&bits]);
    let k = Random(8).list(a.len(), |random| (random.bits() as i32) >> random.below(32));
    let found = rows::<_, _, i32>("half", "half_integers", &a, &k, 4);
    compare(
        &found,
        &a,
        &k,
        &[
            &|a, _| wide(a).round_ties_even() as i32,
            &|a, _| wide(a) as i32,
            &|_, k| i32::from(round(f64::from(k))),
            &|a, _| i32::from(wide(a) as u16),
        ],
    );
}

fn broad(bits: u16) -> f64 {
    bf16::from_bits(bits).to_f64()
}

fn round_b(value: f64) -> u16 {
    nearest(value, 0x7f80, broad)
}

fn nan_b(bits: u16) -> u16 {
    if bits & 0x7fff > 0x7f80 { 0x7fff } else { bits }
}

#[test]
fn bfloats_are_rounded_once() {
    let (a, b) = (sixteen(9, &BFLOATS), partners(10, &BFLOATS));
    let found = rows::<_, _, u16>("bfloat16", "bf16_arithmetic", &a, &b, 6);
    let found: Vec<Vec<u16>> = found.into_iter().map(|row| row.into_iter().map(nan_b).collect()).collect();
    // f64 rounds the sum of numbers far apart; where that then lies halfway between two bfloats, the remainder decides.
    let sum = |x: f64, y: f64| round_b(odd_sum(x, y));
    compare(
        &found[..5],
        &a,
        &b,
        &[
            &|a, b| sum(broad(a), broad(b)),
            &|a, b| round_b(broad(a) * broad(b)),
            &|a, b| sum(broad(a) * broad(b), broad(a)),
            &|a, b| round_b(extreme(broad(a), broad(b), true)),
            &|a, b| round_b(extreme(broad(a), broad(b), false)),
        ],
    );
    for ((&found, &a), &b) in found[5].iter().zip(&a).zip(&b) {
        // A quotient in f32, which flushes nothing, and then rounded.
        let wanted = round_b(broad(a) / broad(b));
        assert!(found.abs_diff(wanted) <= 1, "{a:#x} / {b:#x}: {found:#x}, {wanted:#x}");
    }
    let even = a.len() / 2 * 2;
    let (a, b) = (&a[..even], &b[..even]);
    let found = rows::<_, _, u32>("bfloat16", "bf16x2_arithmetic", &pairs(a), &pairs(b), 4);
    let found: Vec<Vec<u16>> = found.iter().map(|row| halves(row).into_iter().map(nan_b).collect()).collect();
    compare(
        &found,
        a,
        b,
        &[
            &|a, b| sum(broad(a), broad(b)),
            &|a, b| round_b(broad(a) * broad(b)),
            &|a, b| sum(broad(a) * broad(b), broad(a)),
            &|a, _| nan_b(a & 0x7fff),
        ],
    );
}

/// A sum rounded to odd (Boldo and Melquiond 2008), so that a second rounding gives what one would.
fn odd_sum(x: f64, y: f64) -> f64 {
    let sum = x + y;
    if !sum.is_finite() {
        return sum;
    }
    let back = sum - x;
    let error = (x - (sum - back)) + (y - back);
    if error == 0.0 || sum.to_bits() & 1 == 1 {
        return sum;
    }
    let away = (error > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

#[test]
fn singles_become_bfloats() {
    let mut x = Random(11).list(2000, |random| f32::from_bits(random.bits() as u32));
    x.retain(|x| !x.is_nan());
    x.truncate(x.len() / 2 * 2);
    let found = rows_of_one::<_, u32>("bfloat16", "bf16_convert", &x, x.len(), 2);
    compare(
        &found,
        &x,
        &x,
        &[&|x, _| bf16::from_f32(x).to_f32().to_bits(), &|x, _| x.to_bits() & 0xffff_0000],
    );
    let found = rows_of_one::<_, u32>("bfloat16", "bf16_pack", &x, x.len() / 2, 1);
    let wanted: Vec<u16> = x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
    assert_eq!(found[0], pairs(&wanted));
}
