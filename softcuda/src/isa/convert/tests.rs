//! Every pair of types, against exact numbers.

use super::{Brain, Double, E4m3, E5m2, Format, Half, Rounding, Single, Tensor, sign_extended_from};
use crate::isa::float::tests::reference::{Dyadic, is_rounded, samples};
use crate::isa::float::tests::{decoded, lane};
use crate::isa::testing::instruction;
use crate::isa::{Element, Work};
use crate::model::counters::Class;
use proptest::prelude::*;

const INTEGERS: [(&str, u32, bool); 8] = [
    ("u8", 8, false),
    ("s8", 8, true),
    ("u16", 16, false),
    ("s16", 16, true),
    ("u32", 32, false),
    ("s32", 32, true),
    ("u64", 64, false),
    ("s64", 64, true),
];
const ROUNDINGS: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

/// The value of an integer's low bits.
fn value(bits: u64, width: u32, signed: bool) -> i128 {
    let value = i128::from(bits) & ((1 << width) - 1);
    if signed && value >> (width - 1) != 0 { value - (1 << width) } else { value }
}

fn range(width: u32, signed: bool) -> (i128, i128) {
    if signed { (-(1 << (width - 1)), (1 << (width - 1)) - 1) } else { (0, (1 << width) - 1) }
}

/// Integers next to powers of two, and some others.
fn integers() -> Vec<u64> {
    let near = (0..64).flat_map(|shift| [(1u64 << shift) - 1, 1 << shift, (1 << shift) + 1]);
    let near = near.flat_map(|x| [x, x.wrapping_neg(), x.wrapping_mul(3), x ^ (x >> 1) ^ (x >> 25)]);
    near.chain((1..2000).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (i % 64))).collect()
}

#[test]
fn integers_to_integers() {
    for (to, to_width, to_signed) in INTEGERS {
        for (from, from_width, from_signed) in INTEGERS {
            let plain = lane(&format!("cvt.{to}.{from} d, a"));
            let sat = lane(&format!("cvt.sat.{to}.{from} d, a"));
            let mask = u64::MAX >> (64 - to_width);
            let (least, greatest) = range(to_width, to_signed);
            for bits in integers() {
                // A register may be wider than the type.
                let bits = if from_width == 64 { bits } else { bits & 0xffff_ffff };
                let value = value(bits, from_width, from_signed);
                assert_eq!(plain(&[bits])[0], value as u64 & mask, "{to}.{from} {bits:x}");
                let clamped = value.clamp(least, greatest);
                assert_eq!(sat(&[bits])[0], clamped as u64 & mask, "sat.{to}.{from} {bits:x}");
            }
        }
    }
}

/// Whether an integer is a number rounded to one; of the largest and smallest also whether it was clamped to it.
fn is_integral(integer: i128, exact: &Dyadic, rounding: Rounding, (least, greatest): (i128, i128)) -> bool {
    let twice = exact.clone().scaled(1);
    // The number against the integer and halves beside it.
    let against = |halves: i128| twice.compare(&Dyadic::integer(2 * integer + halves));
    let negative = exact.is_negative();
    let even = integer & 1 == 0;
    let (at_least, at_most) = match rounding {
        Rounding::Down => (against(0).is_ge(), against(2).is_lt()),
        Rounding::Up => (against(-2).is_gt(), against(0).is_le()),
        Rounding::Zero if negative => (against(-2).is_gt(), against(0).is_le()),
        Rounding::Zero => (against(0).is_ge(), against(2).is_lt()),
        _ if even => (against(-1).is_ge(), against(1).is_le()),
        _ => (against(-1).is_gt(), against(1).is_lt()),
    };
    (at_least || integer == least) && (at_most || integer == greatest)
}

fn check_to_integers<F: Format>(from: &str) {
    let samples = wide_samples::<F>();
    for (to, width, signed) in INTEGERS {
        let (least, greatest) = range(width, signed);
        for (suffix, rounding) in ROUNDINGS {
            for sat in ["", ".sat"] {
                let lane = lane(&format!("cvt.{suffix}i{sat}.{to}.{from} d, a"));
                for bits in &samples {
                    let result = lane(&[*bits])[0];
                    let magnitude = bits & (F::SIGN.to_bits() - 1);
                    let negative = bits & F::SIGN.to_bits() != 0;
                    let integer = value(result, width, signed);
                    assert!(result <= u64::MAX >> (64 - width));
                    let right = if magnitude > F::INFINITY.to_bits() {
                        let highest = from == "f64" || width == 64;
                        result == if highest { 1 << (width - 1) } else { 0 }
                    } else if magnitude == F::INFINITY.to_bits() {
                        integer == if negative { least } else { greatest }
                    } else {
                        is_integral(integer, &Dyadic::of::<F>(*bits), rounding, (least, greatest))
                    };
                    assert!(right, "cvt.{suffix}i.{to}.{from} {bits:x} gave {integer}");
                }
            }
        }
    }
}

/// Samples, and numbers whose integral part has any number of bits.
fn wide_samples<F: Format>() -> Vec<u64> {
    let mut samples = samples::<F>(500);
    let one = F::ONE.to_bits();
    for exponent in 0..70u64 {
        let power = one.wrapping_add(exponent << F::MANTISSA);
        if power < F::INFINITY.to_bits() {
            let fraction = (F::NORMAL.to_bits() - 1) & 0x000a_5a5a_5a5a_5a5a;
            let magnitudes = [power - 1, power, power + 1, power | fraction, power + F::NORMAL.to_bits() / 2];
            samples.extend(magnitudes.iter().flat_map(|bits| [*bits, bits | F::SIGN.to_bits()]));
        }
    }
    samples
}

#[test]
fn floats_to_integers() {
    check_to_integers::<Single>("f32");
    check_to_integers::<Double>("f64");
    check_to_integers::<Half>("f16");
    check_to_integers::<Brain>("bf16");
    // A register may hold more than the operand.
    assert_eq!(lane("cvt.rni.s32.f16 d, a")(&[0xdead_4000])[0], 2);
    assert_eq!(lane("cvt.f32.bf16 d, a")(&[0xdead_4000])[0], 0x4000_0000);
    assert_eq!(lane("cvt.rmi.ftz.s32.f32 d, a")(&[0x8000_0001])[0], 0);
    assert_eq!(lane("cvt.rmi.s32.f32 d, a")(&[0x8000_0001])[0], 0xffff_ffff);
}

fn check_from_integers<F: Format>(to: &str) {
    for (from, width, signed) in INTEGERS {
        for (suffix, rounding) in ROUNDINGS {
            let lane = lane(&format!("cvt.{suffix}.{to}.{from} d, a"));
            for bits in integers() {
                let bits = if width == 64 { bits } else { bits & 0xffff_ffff };
                let value = value(bits, width, signed);
                let result = lane(&[bits])[0];
                let exact = Dyadic::integer(value);
                let right = if value == 0 {
                    result == 0
                } else {
                    is_rounded::<F>(result, &|number| exact.compare(number), rounding)
                };
                assert!(right, "cvt.{suffix}.{to}.{from} {value} gave {result:x}");
            }
        }
    }
}

#[test]
fn integers_to_floats() {
    check_from_integers::<Single>("f32");
    check_from_integers::<Double>("f64");
    check_from_integers::<Half>("f16");
    check_from_integers::<Brain>("bf16");
    assert_eq!(lane("cvt.rn.sat.f32.s32 d, a")(&[7])[0], 0x3f80_0000);
    assert_eq!(lane("cvt.rn.sat.f32.s32 d, a")(&[0xffff_fff9])[0], 0);
}

/// Whether a number of a format is what a number of another is rounded.
fn is_converted<S: Format, D: Format>(from: u64, to: u64, rounding: Rounding) -> bool {
    let (sign, infinity) = (S::SIGN.to_bits(), S::INFINITY.to_bits());
    let to_sign = if from & sign == 0 { 0 } else { D::SIGN.to_bits() };
    match from & (sign - 1) {
        0 => to == to_sign,
        magnitude if magnitude > infinity && D::MANTISSA == 52 => f64::from_bits(to).is_nan(),
        magnitude if magnitude > infinity => to == D::NAN.to_bits(),
        magnitude if magnitude == infinity => to == to_sign | D::INFINITY.to_bits(),
        _ => {
            let exact = Dyadic::of::<S>(from);
            is_rounded::<D>(to, &|number| exact.compare(number), rounding)
        }
    }
}

fn check_formats<S: Format, D: Format>(from: &str, to: &str) {
    let samples = samples::<S>(2000);
    for (suffix, rounding) in ROUNDINGS {
        let lane = lane(&format!("cvt.{suffix}.{to}.{from} d, a"));
        for bits in &samples {
            let result = lane(&[*bits])[0];
            assert!(
                is_converted::<S, D>(*bits, result, rounding),
                "cvt.{suffix}.{to}.{from} {bits:x} gave {result:x}"
            );
        }
    }
}

#[test]
fn floats_to_floats() {
    check_formats::<Double, Double>("f64", "f64");
    check_formats::<Double, Single>("f64", "f32");
    check_formats::<Double, Half>("f64", "f16");
    check_formats::<Double, Brain>("f64", "bf16");
    check_formats::<Single, Double>("f32", "f64");
    check_formats::<Single, Single>("f32", "f32");
    check_formats::<Single, Half>("f32", "f16");
    check_formats::<Single, Brain>("f32", "bf16");
    check_formats::<Half, Double>("f16", "f64");
    check_formats::<Half, Single>("f16", "f32");
    check_formats::<Half, Brain>("f16", "bf16");
    check_formats::<Brain, Double>("bf16", "f64");
    check_formats::<Brain, Single>("bf16", "f32");
    check_formats::<Brain, Half>("bf16", "f16");
}

fn check_integral<F: Format>(ty: &str) {
    for (suffix, rounding) in ROUNDINGS {
        let lane = lane(&format!("cvt.{suffix}i.{ty}.{ty} d, a"));
        for bits in wide_samples::<F>() {
            let result = lane(&[bits])[0];
            let magnitude = bits & (F::SIGN.to_bits() - 1);
            if magnitude > F::INFINITY.to_bits() {
                assert!(result & (F::SIGN.to_bits() - 1) > F::INFINITY.to_bits());
                continue;
            }
            assert_eq!(result & F::SIGN.to_bits(), bits & F::SIGN.to_bits(), "{ty} {bits:x}");
            let large = F::ONE.to_bits() + (u64::from(F::MANTISSA) << F::MANTISSA);
            if magnitude >= large {
                assert_eq!(result, bits);
                continue;
            }
            let number = F::widen(F::Bits::from_bits(result));
            assert_eq!(number as i128 as f64, number, "{ty} {bits:x}");
            let exact = Dyadic::of::<F>(bits);
            assert!(is_integral(number as i128, &exact, rounding, (i128::MIN, i128::MAX)), "{ty} {bits:x}");
        }
    }
}

#[test]
fn floats_without_a_fraction() {
    check_integral::<Single>("f32");
    check_integral::<Double>("f64");
    check_integral::<Half>("f16");
    check_integral::<Brain>("bf16");
}

#[test]
fn tf32_has_the_upper_bits_of_an_f32() {
    for (suffix, rounding) in [("rna", Rounding::Away), ("rn", Rounding::Nearest), ("rz", Rounding::Zero)] {
        let convert = lane(&format!("cvt.{suffix}.tf32.f32 d, a"));
        let finite = lane(&format!("cvt.{suffix}.satfinite.tf32.f32 d, a"));
        for bits in samples::<Single>(5000) {
            let result = convert(&[bits])[0];
            if f32::from_bits(bits as u32).is_nan() {
                assert_eq!(result, 0x7fff_ffff);
                continue;
            }
            assert_eq!(result & 0x1fff, 0);
            assert!(is_converted::<Single, Tensor>(bits, result >> 13, rounding), "{suffix} {bits:x}");
            let infinite = result & 0x7fff_ffff == 0x7f80_0000;
            assert_eq!(finite(&[bits])[0], if infinite { result - 0x2000 } else { result });
        }
    }
    assert_eq!(lane("cvt.rn.relu.tf32.f32 d, a")(&[0xbf80_0000])[0], 0);
}

#[test]
fn pairs_have_the_first_operand_in_the_upper_half() {
    for ty in ["f16", "bf16"] {
        for modifiers in ["rn", "rz", "rn.relu", "rz.satfinite", "rn.relu.satfinite"] {
            let one = lane(&format!("cvt.{modifiers}.{ty}.f32 d, a"));
            let pair = lane(&format!("cvt.{modifiers}.{ty}x2.f32 d, a, b"));
            for both in samples::<Single>(1000).windows(2) {
                let expected = one(&both[..1])[0] << 16 | one(&both[1..])[0];
                assert_eq!(pair(both)[0], expected, "{modifiers}.{ty}x2 {both:x?}");
            }
        }
    }
    assert_eq!(lane("cvt.rn.satfinite.f16.f32 d, a")(&[0xff80_0000])[0], 0xfbff);
    assert_eq!(lane("cvt.rn.satfinite.bf16.f32 d, a")(&[0x7fff_ffff])[0], 0x7fff);
    assert_eq!(lane("cvt.rn.relu.f16.f32 d, a")(&[0xbf80_0000])[0], 0);
    assert_eq!(lane("cvt.rn.relu.f16.f32 d, a")(&[0xffc0_0000])[0], 0x7fff);
}

#[test]
fn modifiers() {
    let sat = lane("cvt.sat.f32.f32 d, a");
    for (from, to) in
        [(0x4000_0000, 0x3f80_0000), (0xbf80_0000, 0), (0x8000_0000, 0), (0x7fc0_0000, 0), (1, 1)]
    {
        assert_eq!(sat(&[from])[0], to);
    }
    assert_eq!(lane("cvt.ftz.f32.f32 d, a")(&[0x8000_0001])[0], 0x8000_0000);
    assert_eq!(lane("cvt.ftz.sat.f32.f32 d, a")(&[1])[0], 0);
    // Subnormal in f16, but not in f32.
    assert_eq!(lane("cvt.ftz.f32.f16 d, a")(&[1])[0], 0x3380_0000);
    assert_eq!(lane("cvt.ftz.f32.bf16 d, a")(&[1])[0], 0);
    assert_eq!(lane("cvt.rn.ftz.f16.f32 d, a")(&[0x007f_ffff])[0], 0);
    assert_eq!(lane("cvt.rn.ftz.f32.f64 d, a")(&[2f64.powi(-127).to_bits()])[0], 0);
    assert_eq!(lane("cvt.ftz.f64.f32 d, a")(&[1])[0], 0);
    assert_eq!(decoded("cvt.rn.f16.f32 d, a").unwrap().0, Work::of(Class::Convert));
}

fn check_f8<F: Format<Bits = u32>>(ty: &str) {
    let narrow = lane(&format!("cvt.rn.satfinite.{ty}x2.f32 d, a, b"));
    let relu = lane(&format!("cvt.rn.satfinite.relu.{ty}x2.f32 d, a, b"));
    let largest = Dyadic::of::<F>(F::LARGEST.into());
    let mut samples = samples::<Single>(4000);
    samples.extend((0..4000).map(|i| 0x3a00_0000 + i * 0x8003).flat_map(|bits| [bits, bits | 1 << 31]));
    for both in samples.windows(2) {
        let pair = narrow(both)[0];
        let rectified = relu(both)[0];
        for (bits, result, relu) in
            [(both[0], pair >> 8, rectified >> 8), (both[1], pair & 0xff, rectified & 0xff)]
        {
            let (value, negative) = (f32::from_bits(bits as u32), bits >> 31 == 1);
            let sign = if negative { 0x80 } else { 0 };
            let magnitude = Dyadic::of::<Single>(bits & 0x7fff_ffff);
            let right = if value.is_nan() {
                result == 0x7f
            } else if value.is_infinite() || magnitude.compare(&largest).is_ge() {
                result == u64::from(F::LARGEST) | sign
            } else if value == 0.0 {
                result == sign
            } else {
                is_converted::<Single, F>(bits, result, Rounding::Nearest)
            };
            assert!(right, "{ty} {bits:x} gave {result:x}");
            assert_eq!(relu, if negative && !value.is_nan() { 0 } else { result });
        }
    }
    // And back: all of them exactly.
    let widen = lane(&format!("cvt.rn.f16x2.{ty}x2 d, a"));
    let from_halves = lane(&format!("cvt.rn.satfinite.{ty}x2.f16x2 d, a"));
    for bits in 0..0x100u64 {
        let pair = widen(&[bits << 8 | 0x38])[0];
        assert_eq!(pair & 0xffff, u64::from(half::f16::from_f64(F::widen(0x38)).to_bits()));
        let half = half::f16::from_bits((pair >> 16) as u16);
        let magnitude = bits & 0x7f;
        if magnitude <= u64::from(F::LARGEST) {
            assert!(Dyadic::of::<F>(bits).compare(&Dyadic::of::<Half>(pair >> 16)).is_eq(), "{ty} {bits:x}");
            assert_eq!(half.is_sign_negative(), bits & 0x80 != 0);
            assert_eq!(from_halves(&[pair])[0], bits << 8 | 0x38);
        } else {
            assert_eq!(half.is_infinite(), ty == "e5m2" && magnitude == 0x7c);
            assert_eq!(half.is_nan(), !half.is_infinite());
        }
    }
}

#[test]
fn eight_bit_floats() {
    check_f8::<E5m2>("e5m2");
    check_f8::<E4m3>("e4m3");
    assert_eq!(lane("cvt.rn.satfinite.e4m3x2.bf16x2 d, a")(&[0x3f80_c000])[0], 0x38c0);
}

#[test]
fn packing_integers() {
    assert_eq!(lane("cvt.pack.sat.u16.s32 d, a, b")(&[70000, 0xffff_ffff])[0], 0xffff_0000);
    assert_eq!(lane("cvt.pack.sat.s16.s32 d, a, b")(&[0xffff_0000, 5])[0], 0x8000_0005);
    let c = 0x1234_5678;
    assert_eq!(lane("cvt.pack.sat.u8.s32.b32 d, a, b, c")(&[300, 7, c])[0], 0x5678_ff07);
    assert_eq!(lane("cvt.pack.sat.s8.s32.b32 d, a, b, c")(&[0xffff_ff00, 200, c])[0], 0x5678_807f);
    assert_eq!(lane("cvt.pack.sat.s4.s32.b32 d, a, b, c")(&[0xffff_ffff, 100, c])[0], 0x3456_78f7);
    assert_eq!(lane("cvt.pack.sat.u2.s32.b32 d, a, b, c")(&[2, 100, c])[0], 0x2345_678b);
}

#[test]
fn signed_results_are_known() {
    assert_eq!(sign_extended_from(&instruction("cvt.s8.s32 d, a")), Some(8));
    assert_eq!(sign_extended_from(&instruction("cvt.rzi.s32.f32 d, a")), Some(32));
    assert_eq!(sign_extended_from(&instruction("cvt.u32.s16 d, a")), None);
    assert_eq!(sign_extended_from(&instruction("add.s16 d, a, b")), None);
}

#[test]
fn unknown_forms_are_not_decoded() {
    for text in [
        "cvt.rn.s32.f32 d, a",
        "cvt.rni.f32.s32 d, a",
        "cvt.f32 d, a",
        "cvt.rs.f16x2.f32 d, a, b, c",
        "cvt.rn.e4m3x2.f32 d, a, b",
        "cvt.pack.u16.s32 d, a, b",
        "cvt.pack.sat.u5.s32.b32 d, a, b, c",
        "cvt.pack.sat.q8.s32.b32 d, a, b, c",
        "cvt.b32.b32 d, a",
    ] {
        assert!(decoded(text).is_none(), "{text}");
    }
}

proptest! {
    /// Against the `half` crate, and Rust's own conversions.
    #[test]
    fn conversions_agree_with_other_implementations(single: u32, double: u64) {
        let value = f32::from_bits(single);
        if !value.is_nan() {
            let half = half::f16::from_f32(value).to_bits();
            prop_assert_eq!(lane("cvt.rn.f16.f32 d, a")(&[single.into()])[0], u64::from(half));
            let brain = half::bf16::from_f32(value).to_bits();
            prop_assert_eq!(lane("cvt.rn.bf16.f32 d, a")(&[single.into()])[0], u64::from(brain));
            let wide = f64::from(value).to_bits();
            prop_assert_eq!(lane("cvt.f64.f32 d, a")(&[single.into()])[0], wide);
            prop_assert_eq!(lane("cvt.rzi.s32.f32 d, a")(&[single.into()])[0], u64::from(value as i32 as u32));
        }
        let value = f64::from_bits(double);
        if !value.is_nan() {
            let narrow = (value as f32).to_bits();
            prop_assert_eq!(lane("cvt.rn.f32.f64 d, a")(&[double])[0], u64::from(narrow));
            prop_assert_eq!(lane("cvt.rzi.u64.f64 d, a")(&[double])[0], value as u64);
        }
        prop_assert_eq!(lane("cvt.rn.f32.s64 d, a")(&[double])[0], u64::from((double as i64 as f32).to_bits()));
        prop_assert_eq!(lane("cvt.rn.f32.u64 d, a")(&[double])[0], u64::from((double as f32).to_bits()));
    }
}
