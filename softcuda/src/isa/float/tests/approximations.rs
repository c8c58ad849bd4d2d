use super::reference::samples;
use super::{decoded, lane};
use crate::isa::float::format::{Brain, Format, Half, Rounding, Single};

const NAN: u64 = 0x7fff_ffff;
const INFINITY: u64 = 0x7f80_0000;
const MINUS: u64 = 0x8000_0000;
const ONE: u64 = 0x3f80_0000;

/// What the tables of the PTX ISA say of special operands.
#[test]
fn special_operands() {
    let inputs = [INFINITY | MINUS, ONE | MINUS, MINUS, 0, INFINITY, 0x7fc0_0001];
    let table = [
        ("rcp.approx.f32", [MINUS, ONE | MINUS, INFINITY | MINUS, INFINITY, 0, NAN]),
        ("sqrt.approx.f32", [NAN, NAN, MINUS, 0, INFINITY, NAN]),
        ("sqrt.rn.f32", [NAN, NAN, MINUS, 0, INFINITY, NAN]),
        ("rsqrt.approx.f32", [NAN, NAN, INFINITY | MINUS, INFINITY, 0, NAN]),
        ("sin.approx.f32", [NAN, 0xbf57_6aa4, MINUS, 0, NAN, NAN]),
        ("cos.approx.f32", [NAN, 0x3f0a_5140, ONE, ONE, NAN, NAN]),
        ("lg2.approx.f32", [NAN, NAN, INFINITY | MINUS, INFINITY | MINUS, INFINITY, NAN]),
        ("ex2.approx.f32", [0, 0x3f00_0000, ONE, ONE, INFINITY, NAN]),
        ("tanh.approx.f32", [ONE | MINUS, 0xbf42_f7d6, MINUS, 0, ONE, NAN]),
    ];
    for (name, expected) in table {
        let lane = lane(&format!("{name} d, a"));
        assert_eq!(inputs.map(|a| lane(&[a])[0]), expected, "{name}");
    }
    let halves = [0xfc00, 0xbc00, 0x8000, 0, 0x7c00, 0x7e01];
    let table = [
        ("ex2.approx.f16", halves, [0, 0x3800, 0x3c00, 0x3c00, 0x7c00, 0x7fff]),
        ("tanh.approx.f16", halves, [0xbc00, 0xba18, 0x8000, 0, 0x3c00, 0x7fff]),
        (
            "ex2.approx.ftz.bf16",
            [0xff80, 0xbf80, 0x8001, 1, 0x7f80, 0x7fc1],
            [0, 0x3f00, 0x3f80, 0x3f80, 0x7f80, 0x7fff],
        ),
    ];
    for (name, inputs, expected) in table {
        let one = lane(&format!("{name} d, a"));
        assert_eq!(inputs.map(|a| one(&[a])[0]), expected, "{name}");
        let pair = lane(&format!("{name}x2 d, a"));
        for (a, b) in inputs.iter().zip(inputs.iter().rev()) {
            assert_eq!(pair(&[a | b << 16])[0], one(&[*a])[0] | one(&[*b])[0] << 16);
        }
    }
}

/// Against the functions of the standard library in f64, rounded: at most one unit in the last place apart.
fn check<F: Format<Bits = u32>>(name: &str, function: fn(f64) -> f64) {
    let lane = lane(&format!("{name} d, a"));
    for bits in samples::<F>(20_000) {
        let value = function(F::widen(bits as u32));
        let expected = F::narrow(value, Rounding::Nearest);
        let result = lane(&[bits])[0] as u32;
        let apart = (result & !F::SIGN).abs_diff(expected & !F::SIGN);
        assert!(apart <= 1, "{name} {bits:x}: {result:x}, not {expected:x}");
        assert!(result & F::SIGN == expected & F::SIGN, "{name} {bits:x}: {result:x}, not {expected:x}");
    }
}

#[test]
fn approximations_are_within_one_unit() {
    check::<Single>("ex2.approx.f32", f64::exp2);
    check::<Single>("lg2.approx.f32", f64::log2);
    check::<Single>("sin.approx.f32", f64::sin);
    check::<Single>("cos.approx.f32", f64::cos);
    check::<Single>("tanh.approx.f32", f64::tanh);
    check::<Single>("rsqrt.approx.f32", |a| a.sqrt().recip());
    check::<Single>("rcp.approx.f32", f64::recip);
    check::<Single>("sqrt.approx.f32", f64::sqrt);
    check::<Half>("ex2.approx.f16", f64::exp2);
    check::<Half>("tanh.approx.f16", f64::tanh);
    check::<Brain>("tanh.approx.bf16", f64::tanh);
}

#[test]
fn subnormal_operands_and_results_are_flushed() {
    let tiny = 0x0000_0001;
    assert_eq!(lane("rcp.approx.ftz.f32 d, a")(&[tiny])[0], INFINITY);
    assert_eq!(lane("sqrt.approx.ftz.f32 d, a")(&[tiny])[0], 0);
    assert_eq!(lane("sqrt.approx.f32 d, a")(&[tiny])[0], 0x1a35_04f3);
    assert_eq!(lane("lg2.approx.ftz.f32 d, a")(&[tiny])[0], INFINITY | MINUS);
    assert_eq!(lane("lg2.approx.f32 d, a")(&[tiny])[0], 0xc315_0000);
    // 2^-130
    assert_eq!(lane("ex2.approx.f32 d, a")(&[0xc302_0000])[0], 1 << 19);
    assert_eq!(lane("ex2.approx.ftz.f32 d, a")(&[0xc302_0000])[0], 0);
    assert_eq!(lane("sin.approx.ftz.f32 d, a")(&[tiny | MINUS])[0], MINUS);
    assert_eq!(lane("rsqrt.approx.ftz.f32 d, a")(&[tiny | MINUS])[0], INFINITY | MINUS);
}

#[test]
fn division() {
    let approx = lane("div.approx.f32 d, a, b");
    let full = lane("div.full.f32 d, a, b");
    let exact = lane("div.rn.f32 d, a, b");
    for (a, b) in [(ONE, 0x4040_0000), (0x4049_0fdb, 0xc02d_f854), (0, 0), (ONE, 0), (INFINITY, ONE)] {
        assert_eq!(approx(&[a, b]), exact(&[a, b]));
        assert_eq!(full(&[a, b]), exact(&[a, b]));
    }
    // Divisors above 2^126.
    let (limit, large) = (0x7e80_0000, 0x7e80_0001);
    assert_eq!(approx(&[limit, limit])[0], ONE);
    assert_eq!(approx(&[large, large])[0], 0);
    assert_eq!(approx(&[large | MINUS, large])[0], MINUS);
    assert_eq!(approx(&[INFINITY, large])[0], NAN);
    assert_eq!(full(&[large, large])[0], ONE);
    assert_eq!(lane("div.full.ftz.f32 d, a, b")(&[ONE, 1])[0], INFINITY);
}

#[test]
fn gross_functions_of_f64_use_the_upper_halves() {
    let rcp = lane("rcp.approx.ftz.f64 d, a");
    let rsqrt = lane("rsqrt.approx.ftz.f64 d, a");
    let infinity = f64::INFINITY.to_bits();
    let minus = 1 << 63;
    assert_eq!(rcp(&[3f64.to_bits()])[0], (1.0f64 / 3.0).to_bits() >> 32 << 32);
    assert_eq!(rcp(&[1f64.to_bits() | 0xffff_ffff])[0], 1f64.to_bits());
    assert_eq!(rsqrt(&[4f64.to_bits()])[0], 0.5f64.to_bits());
    assert_eq!(rcp(&[minus])[0], infinity | minus);
    assert_eq!(rcp(&[1 << 40])[0], infinity);
    assert_eq!(rcp(&[f64::MAX.to_bits()])[0], 0);
    assert_eq!(rcp(&[infinity | minus])[0], minus);
    assert_eq!(rcp(&[infinity + (1 << 40)])[0], 0x7fff_ffff_0000_0000);
    assert_eq!(rsqrt(&[minus])[0], infinity | minus);
    assert_eq!(rsqrt(&[(-1f64).to_bits()])[0], 0x7fff_ffff_0000_0000);
    assert_eq!(rsqrt(&[infinity])[0], 0);
    assert_eq!(lane("rsqrt.approx.f64 d, a")(&[3f64.to_bits()])[0], (1.0 / 3f64.sqrt()).to_bits());
}

#[test]
fn forms_that_do_not_exist() {
    for text in ["sin.f32 d, a", "sin.approx.f64 d, a", "lg2.approx.f16 d, a", "ex2.approx.rn.f32 d, a"] {
        assert!(decoded(text).is_none(), "{text}");
    }
}
