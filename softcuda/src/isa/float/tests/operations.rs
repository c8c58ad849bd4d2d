use super::reference::{Dyadic, is_rounded, samples};
use super::{decoded, lane, operands};
use crate::isa::float::format::{Brain, Double, Format, Half, Rounding, Single};
use crate::isa::{Element, Work};
use crate::model::counters::Class;
use std::cmp::Ordering;

const ROUNDINGS: [(&str, Rounding); 4] =
    [("rn", Rounding::Nearest), ("rz", Rounding::Zero), ("rm", Rounding::Down), ("rp", Rounding::Up)];

/// Triples of samples: all pairs of the first ones, then mixed ones.
fn triples<F: Format>(count: usize) -> Vec<[u64; 3]> {
    let samples = samples::<F>(200);
    let edges = 44;
    let mut triples = Vec::new();
    for i in 0..edges {
        for j in 0..edges {
            triples.push([samples[i], samples[j], samples[(i * 7 + j * 13) % edges]]);
        }
    }
    let pick = |i: usize| samples[i % samples.len()];
    triples.extend((0..count).map(|i| [pick(i * 31 + i / 97), pick(i * 17 + 5), pick(i * 73 + i / 13)]));
    // Sums that cancel almost entirely.
    triples.extend((0..count / 4).map(|i| {
        let a = pick(i);
        [a, F::ONE.to_bits(), (a ^ F::SIGN.to_bits()).wrapping_add(i as u64 % 3) & F::MASK.to_bits()]
    }));
    triples
}

fn is_finite<F: Format>(bits: u64) -> bool {
    bits & (F::SIGN.to_bits() - 1) < F::INFINITY.to_bits()
}

fn is_nan<F: Format>(bits: u64) -> bool {
    bits & (F::SIGN.to_bits() - 1) > F::INFINITY.to_bits()
}

/// A value, where infinities and NaNs matter and precision does not.
fn coarse<F: Format>(bits: u64) -> f64 {
    let sign = if bits & F::SIGN.to_bits() == 0 { 1.0 } else { -1.0 };
    match bits & (F::SIGN.to_bits() - 1) {
        0 => sign * 0.0,
        magnitude if magnitude > F::INFINITY.to_bits() => f64::NAN,
        magnitude if magnitude == F::INFINITY.to_bits() => sign * f64::INFINITY,
        _ => sign,
    }
}

/// An operation: what it is on coarse values, and how its exact result compares to a number.
struct Operation {
    name: &'static str,
    inputs: usize,
    coarse: fn(&[f64]) -> f64,
    exact: fn(&[Dyadic], &Dyadic) -> Ordering,
}

const OPERATIONS: [Operation; 7] = [
    Operation {
        name: "add",
        inputs: 2,
        coarse: |x| x[0] + x[1],
        exact: |x, value| x[0].plus(&x[1]).compare(value),
    },
    Operation {
        name: "sub",
        inputs: 2,
        coarse: |x| x[0] - x[1],
        exact: |x, value| x[0].plus(&x[1].clone().negated()).compare(value),
    },
    Operation {
        name: "mul",
        inputs: 2,
        coarse: |x| x[0] * x[1],
        exact: |x, value| x[0].times(&x[1]).compare(value),
    },
    Operation {
        name: "fma",
        inputs: 3,
        coarse: |x| x[0] * x[1] + x[2],
        exact: |x, value| x[0].times(&x[1]).plus(&x[2]).compare(value),
    },
    Operation {
        name: "div",
        inputs: 2,
        coarse: |x| x[0] / x[1],
        exact: |x, value| quotient(&x[0], &x[1], value),
    },
    Operation {
        name: "rcp",
        inputs: 1,
        coarse: |x| 1.0 / x[0],
        exact: |x, value| quotient(&Dyadic::integer(1), &x[0], value),
    },
    Operation {
        name: "sqrt",
        inputs: 1,
        coarse: |x| x[0].sqrt(),
        exact: |x, value| {
            if value.is_negative() { Ordering::Greater } else { x[0].compare(&value.times(value)) }
        },
    },
];

/// `a / b` against a number.
fn quotient(a: &Dyadic, b: &Dyadic, value: &Dyadic) -> Ordering {
    let ordering = a.compare(&value.times(b));
    if b.is_negative() { ordering.reverse() } else { ordering }
}

/// Whether the result is what IEEE 754 says, with PTX's NaN.
fn is_right<F: Format>(operation: &Operation, inputs: &[u64], bits: u64, rounding: Rounding) -> bool {
    let values: Vec<f64> = inputs.iter().map(|bits| coarse::<F>(*bits)).collect();
    let coarse_result = (operation.coarse)(&values);
    let sign = F::SIGN.to_bits();
    if coarse_result.is_nan() {
        let nan = inputs.iter().find(|bits| is_nan::<F>(**bits));
        return match nan {
            Some(nan) if F::MANTISSA == 52 => bits == nan | 1 << 51,
            _ => bits == F::NAN.to_bits(),
        };
    }
    if coarse_result.is_infinite() {
        return bits == F::INFINITY.to_bits() | if coarse_result < 0.0 { sign } else { 0 };
    }
    if inputs.iter().any(|bits| !is_finite::<F>(*bits)) {
        // Divided by infinity.
        return bits == if coarse_result.is_sign_negative() { sign } else { 0 };
    }
    let exact: Vec<Dyadic> = inputs.iter().map(|bits| Dyadic::of::<F>(*bits)).collect();
    let compare = |value: &Dyadic| (operation.exact)(&exact, value);
    if compare(&Dyadic::integer(0)).is_ne() {
        return is_rounded::<F>(bits, &compare, rounding);
    }
    let negative = match operation.name {
        // Of a sum, by the signs of its terms: where they differ, the rounding says.
        "add" | "sub" | "fma" => {
            let first = if operation.name == "fma" { values[0] * values[1] } else { values[0] };
            let last =
                if operation.name == "sub" { -values[values.len() - 1] } else { values[values.len() - 1] };
            match first.is_sign_negative() == last.is_sign_negative() {
                true => last.is_sign_negative(),
                false => rounding == Rounding::Down,
            }
        }
        _ => coarse_result.is_sign_negative(),
    };
    bits == if negative { sign } else { 0 }
}

/// All operations and roundings in a format.
fn check_format<F: Format>(ty: &str, count: usize) {
    let triples = triples::<F>(count);
    for operation in &OPERATIONS {
        if operation.inputs != 3 && F::MANTISSA <= 10 && matches!(operation.name, "div" | "rcp" | "sqrt") {
            continue;
        }
        for (suffix, rounding) in ROUNDINGS {
            let text = format!("{}.{suffix}.{ty} {}", operation.name, operands(operation.inputs));
            let lane = lane(&text);
            for triple in &triples {
                let inputs = &triple[..operation.inputs];
                let bits = lane(inputs)[0];
                assert!(
                    is_right::<F>(operation, inputs, bits, rounding),
                    "{text}: {inputs:x?} gave {bits:x}"
                );
            }
        }
    }
}

#[test]
fn f32_is_rounded_correctly() {
    check_format::<Single>("f32", 8000);
}

#[test]
fn f64_is_rounded_correctly() {
    check_format::<Double>("f64", 3000);
}

#[test]
fn f16_is_rounded_correctly() {
    check_format::<Half>("f16", 8000);
}

#[test]
fn bf16_is_rounded_correctly() {
    check_format::<Brain>("bf16", 8000);
}

/// 17 * 17 lies between 288 and 290; what is added is far below what an f64 keeps of the sum.
#[test]
fn bf16_fma_rounds_once() {
    let lane = lane("fma.rn.bf16 d, a, b, c");
    let (seventeen, tiny, below, above) = (0x4188, 0x0d80, 0x4390, 0x4391);
    assert_eq!(lane(&[seventeen, seventeen, 0])[0], below);
    assert_eq!(lane(&[seventeen, seventeen, tiny])[0], above);
    assert_eq!(lane(&[seventeen, seventeen, tiny | 0x8000])[0], below);
}

#[test]
fn packed_pairs_are_two_numbers() {
    for (name, ty, inputs) in [("add", "f16", 2), ("mul", "bf16", 2), ("fma", "f16", 3), ("fma", "bf16", 3)] {
        for modes in ["rn", "rn.ftz", "rn.sat", "rn.relu"] {
            let Some((_, one)) = decoded(&format!("{name}.{modes}.{ty} {}", operands(inputs))) else {
                continue;
            };
            let pair = lane(&format!("{name}.{modes}.{ty}x2 {}", operands(inputs)));
            for triple in triples::<Half>(500).windows(2) {
                let packed: Vec<u64> = (0..inputs).map(|i| triple[0][i] | triple[1][i] << 16).collect();
                let expected = one(&triple[0][..inputs])[0] | one(&triple[1][..inputs])[0] << 16;
                assert_eq!(pair(&packed)[0], expected, "{name}.{modes}.{ty}x2 {packed:x?}");
            }
        }
    }
}

/// `.ftz`, `.sat` and `.relu` on top of what the operation gives without them.
#[test]
fn modifiers_act_on_operands_and_results() {
    fn check<F: Format>(ty: &str, name: &str, modifier: &str) {
        let with = lane(&format!("{name}.rn.{modifier}.{ty} d, a, b, c"));
        let without = lane(&format!("{name}.rn.{ty} d, a, b, c"));
        let sign = F::SIGN.to_bits();
        let flush = |bits: u64| if bits & (sign - 1) < F::NORMAL.to_bits() { bits & sign } else { bits };
        for triple in triples::<F>(500) {
            let expected = match modifier {
                "ftz" => flush(without(&triple.map(flush))[0]),
                _ => {
                    let bits = without(&triple)[0];
                    let negative = bits & sign != 0;
                    match modifier {
                        "sat" if is_nan::<F>(bits) || negative => 0,
                        "sat" => bits.min(F::ONE.to_bits()),
                        "relu" if !is_nan::<F>(bits) && negative => 0,
                        _ => bits,
                    }
                }
            };
            assert_eq!(with(&triple)[0], expected, "{name}.{modifier}.{ty} {triple:x?}");
        }
    }
    check::<Single>("f32", "fma", "ftz");
    check::<Single>("f32", "fma", "sat");
    check::<Half>("f16", "fma", "ftz");
    check::<Half>("f16", "fma", "sat");
    check::<Half>("f16", "fma", "relu");
    check::<Brain>("bf16", "fma", "relu");
    let all = lane("add.rz.ftz.sat.f32 d, a, b");
    assert_eq!(all(&[0x0000_0001, 0x3f80_0000])[0], 0x3f80_0000);
    assert_eq!(all(&[0x4000_0000, 0x3f80_0000])[0], 0x3f80_0000);
    assert_eq!(all(&[0x7fc0_0000, 0x3f80_0000])[0], 0);
}

#[test]
fn mixed_forms_widen_the_first_operands() {
    let (half, third) = (0x3555u64, 0x3eaa_a000u64);
    let one = 0x3f80_0000u64;
    for name in ["add", "sub"] {
        for rounding in ["rn", "rz", "rm", "rp"] {
            let mixed = lane(&format!("{name}.{rounding}.f32.f16 d, a, b"));
            let plain = lane(&format!("{name}.{rounding}.f32 d, a, b"));
            assert_eq!(mixed(&[half, one]), plain(&[third, one]));
        }
    }
    let mixed = lane("fma.rm.sat.f32.bf16 d, a, b, c");
    let plain = lane("fma.rm.sat.f32 d, a, b, c");
    assert_eq!(mixed(&[0x3eab, 0x3f01, 0x3dcc_cccd]), plain(&[0x3eab_0000, 0x3f01_0000, 0x3dcc_cccd]));
}

/// `min` and `max` by their definition: numbers in order, -0 before +0, a NaN yields to a number.
fn extreme<F: Format>(a: u64, b: u64, name: &str) -> u64 {
    match (is_nan::<F>(a), is_nan::<F>(b)) {
        (true, true) => return F::NAN.to_bits(),
        (true, false) => return b,
        (false, true) => return a,
        (false, false) => {}
    }
    let sign = F::SIGN.to_bits();
    let key = |bits: u64| if bits & sign == 0 { bits as i128 } else { -((bits & !sign) as i128) - 1 };
    if (key(a) < key(b)) == (name == "min") { a } else { b }
}

fn check_extremes<F: Format>(ty: &str) {
    let sign = F::SIGN.to_bits();
    for name in ["min", "max"] {
        let plain = lane(&format!("{name}.{ty} d, a, b"));
        let nan = lane(&format!("{name}.NaN.{ty} d, a, b"));
        let xorsign = lane(&format!("{name}.xorsign.abs.{ty} d, a, b"));
        let three = lane(&format!("{name}.{ty} d, a, b, c"));
        let three_nan = lane(&format!("{name}.NaN.{ty} d, a, b, c"));
        for [a, b, c] in triples::<F>(1000) {
            let any_nan = is_nan::<F>(a) || is_nan::<F>(b);
            let expected = extreme::<F>(a, b, name);
            assert_eq!(plain(&[a, b])[0], expected, "{name}.{ty} {a:x} {b:x}");
            assert_eq!(three(&[a, b, c])[0], extreme::<F>(expected, c, name));
            let canonical = F::NAN.to_bits();
            assert_eq!(nan(&[a, b])[0], if any_nan { canonical } else { expected });
            let last = if any_nan || is_nan::<F>(c) { canonical } else { extreme::<F>(expected, c, name) };
            assert_eq!(three_nan(&[a, b, c])[0], last);
            let magnitude = extreme::<F>(a & !sign, b & !sign, name);
            let signed = if is_nan::<F>(magnitude) { magnitude } else { magnitude | (a ^ b) & sign };
            assert_eq!(xorsign(&[a, b])[0], signed, "{name}.xorsign.abs.{ty} {a:x} {b:x}");
        }
    }
}

#[test]
fn minimum_and_maximum() {
    check_extremes::<Single>("f32");
    check_extremes::<Double>("f64");
    check_extremes::<Half>("f16");
    check_extremes::<Brain>("bf16");
    assert_eq!(lane("min.ftz.f32 d, a, b")(&[0x8000_0001, 0x0000_0001])[0], 0x8000_0000);
    assert_eq!(lane("max.f16x2 d, a, b")(&[0x3c00_bc00, 0x7e00_4000])[0], 0x3c00_4000);
}

#[test]
fn signs() {
    assert_eq!(lane("neg.f32 d, a")(&[0x7fff_ffff])[0], 0xffff_ffff);
    assert_eq!(lane("neg.ftz.f32 d, a")(&[1])[0], 0x8000_0000);
    assert_eq!(lane("abs.f64 d, a")(&[0x8000_0000_0000_0001])[0], 1);
    assert_eq!(lane("neg.f16 d, a")(&[0x3c00])[0], 0xbc00);
    assert_eq!(lane("abs.bf16x2 d, a")(&[0xbf80_8001])[0], 0x3f80_0001);
    // The sign is that of the first operand.
    assert_eq!(lane("copysign.f32 d, a, b")(&[0x8000_0000, 0x3f80_0000])[0], 0xbf80_0000);
    assert_eq!(lane("copysign.f64 d, a, b")(&[0, 0xbff0_0000_0000_0000])[0], 0x3ff0_0000_0000_0000);
}

#[test]
fn work_is_counted_by_type() {
    let work = |text: &str| decoded(text).unwrap().0;
    assert_eq!(work("add.f32 d, a, b"), Work::flops(Class::Float, 1));
    assert_eq!(work("fma.rn.f32 d, a, b, c"), Work::flops(Class::Fma, 2));
    assert_eq!(work("fma.rn.f16 d, a, b, c"), Work::flops(Class::Fma, 2));
    assert_eq!(work("fma.rn.bf16x2 d, a, b, c"), Work::flops(Class::Fma, 4));
    assert_eq!(work("mul.f16x2 d, a, b"), Work::flops(Class::Float, 2));
    assert_eq!(work("fma.rn.f64 d, a, b, c"), Work::double(Class::Double, 2));
    assert_eq!(work("div.rn.f64 d, a, b"), Work::double(Class::Special, 1));
    assert_eq!(work("max.f32 d, a, b"), Work::of(Class::Float));
}

#[test]
fn unknown_forms_are_not_decoded() {
    for text in [
        "add.f32.f32.f32 d, a, b",
        "add.wat.f32 d, a, b",
        "add.s32 d, a, b",
        "div.rn.f16 d, a, b",
        "frob.f32 d, a",
    ] {
        assert!(decoded(text).is_none(), "{text}");
    }
}
