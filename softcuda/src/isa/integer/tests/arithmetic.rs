use super::*;

/// Checks a function of numbers on edges and on random bits, for all types.
fn check_numbers(
    name: impl Fn(&str) -> String,
    types: &[(&str, u32, bool)],
    expected: impl Fn(i128, i128) -> i128,
) {
    for &(ty, bits, signed) in types {
        check2(&name(ty), bits, |a, b| {
            wrapped(expected(number(a, bits, signed), number(b, bits, signed)), bits)
        });
    }
}

#[test]
fn sums_and_products() {
    check_numbers(|ty| format!("add.{ty}"), &INTEGERS, |a, b| a + b);
    check_numbers(|ty| format!("sub.{ty}"), &INTEGERS, |a, b| a - b);
    check_numbers(|ty| format!("mul.lo.{ty}"), &INTEGERS, |a, b| a.wrapping_mul(b));
    check_numbers(|ty| format!("min.{ty}"), &INTEGERS, |a, b| a.min(b));
    check_numbers(|ty| format!("max.{ty}"), &INTEGERS, |a, b| a.max(b));
    let s32 = [("s32", 32, true)];
    let clamp = |value: i128| value.clamp(i32::MIN.into(), i32::MAX.into());
    check_numbers(|ty| format!("add.sat.{ty}"), &s32, |a, b| clamp(a + b));
    check_numbers(|ty| format!("sub.sat.{ty}"), &s32, |a, b| clamp(a - b));
    check_numbers(|ty| format!("min.relu.{ty}"), &s32, |a, b| a.min(b).max(0));
    check_numbers(|ty| format!("max.relu.{ty}"), &s32, |a, b| a.max(b).max(0));
}

/// The 128 bits of a product, also where it is that of two unsigned 64-bit numbers.
fn upper_half(a: i128, b: i128, bits: u32, signed: bool) -> i128 {
    if signed { (a * b) >> bits } else { ((a as u128 * b as u128) >> bits) as i128 }
}

#[test]
fn products_of_twice_the_width() {
    for (ty, bits, signed) in INTEGERS {
        check2(&format!("mul.hi.{ty}"), bits, |a, b| {
            wrapped(upper_half(number(a, bits, signed), number(b, bits, signed), bits, signed), bits)
        });
        if bits < 64 {
            check2(&format!("mul.wide.{ty}"), bits, |a, b| {
                wrapped(number(a, bits, signed) * number(b, bits, signed), 2 * bits)
            });
        }
    }
}

#[test]
fn quotients() {
    for (ty, bits, signed) in INTEGERS {
        check2(&format!("div.{ty}"), bits, |a, b| match (number(a, bits, signed), number(b, bits, signed)) {
            (_, 0) => mask(bits),
            (a, b) => wrapped(a / b, bits),
        });
        check2(&format!("rem.{ty}"), bits, |a, b| match (number(a, bits, signed), number(b, bits, signed)) {
            (_, 0) => a,
            (a, b) => wrapped(a % b, bits),
        });
    }
    assert_eq!(lane("div.s32", 2)(&[0x8000_0000, 0xffff_ffff]), [0x8000_0000]);
    assert_eq!(lane("rem.s32", 2)(&[0x8000_0000, 0xffff_ffff]), [0]);
}

#[test]
fn signs() {
    for (ty, bits, _) in INTEGERS.into_iter().filter(|ty| ty.2) {
        let (abs, neg) = (lane(&format!("abs.{ty}"), 1), lane(&format!("neg.{ty}"), 1));
        for a in edges(bits) {
            assert_eq!(abs(&[a]), [wrapped(number(a, bits, true).abs(), bits)], "abs.{ty} of {a:#x}");
            assert_eq!(neg(&[a]), [wrapped(-number(a, bits, true), bits)], "neg.{ty} of {a:#x}");
        }
    }
}

/// Bits 0 to 23 as a number.
fn factor(raw: u64, signed: bool) -> i128 {
    number(raw, 24, signed)
}

#[test]
fn products_of_24_bits() {
    for (ty, signed) in [("u32", false), ("s32", true)] {
        check2(&format!("mul24.lo.{ty}"), 32, |a, b| wrapped(factor(a, signed) * factor(b, signed), 32));
        check2(&format!("mul24.hi.{ty}"), 32, |a, b| {
            wrapped((factor(a, signed) * factor(b, signed)) >> 16, 32)
        });
    }
}

#[test]
fn bits_above_the_type_are_not_looked_at() {
    for name in ["add", "sub", "mul.lo", "min", "div", "rem"] {
        for ty in ["u16", "s16"] {
            let lane = lane(&format!("{name}.{ty}"), 2);
            assert_eq!(lane(&[0xffff_0007, 0xffff_fffe]), lane(&[7, 0xfffe]), "{name}.{ty}");
        }
    }
}

#[test]
fn pairs() {
    let halves = |a: u64, b: u64, f: &dyn Fn(i128, i128) -> i128, signed: bool| {
        let half =
            |place: u32| wrapped(f(number(a >> place, 16, signed), number(b >> place, 16, signed)), 16);
        half(0) | half(16) << 16
    };
    for (ty, signed) in [("u16x2", false), ("s16x2", true)] {
        check2(&format!("add.{ty}"), 32, |a, b| halves(a, b, &|a, b| a + b, signed));
        check2(&format!("min.{ty}"), 32, |a, b| halves(a, b, &|a, b| a.min(b), signed));
        check2(&format!("max.{ty}"), 32, |a, b| halves(a, b, &|a, b| a.max(b), signed));
    }
    check2("min.relu.s16x2", 32, |a, b| halves(a, b, &|a, b| a.min(b).max(0), true));
    check2("max.relu.s16x2", 32, |a, b| halves(a, b, &|a, b| a.max(b).max(0), true));
}

proptest! {
    #[test]
    fn random_pairs(a in raw(), b in raw(), which in 0usize..6) {
        let (ty, bits, signed) = INTEGERS[which];
        let (a, b) = (a & mask(bits), b & mask(bits));
        let (x, y) = (number(a, bits, signed), number(b, bits, signed));
        let check = |name: &str, expected: i128| {
            assert_eq!(lane(&format!("{name}.{ty}"), 2)(&[a, b]), [wrapped(expected, bits)], "{name}.{ty}");
        };
        check("add", x + y);
        check("sub", x - y);
        check("mul.lo", x.wrapping_mul(y));
        check("mul.hi", upper_half(x, y, bits, signed));
        check("min", x.min(y));
        check("max", x.max(y));
        if y != 0 {
            check("div", x / y);
            check("rem", x % y);
        }
    }

    #[test]
    fn random_triples(a in raw(), b in raw(), c in raw(), which in 0usize..6) {
        let (ty, bits, signed) = INTEGERS[which];
        let (a, b) = (a & mask(bits), b & mask(bits));
        let (x, y, z) = (number(a, bits, signed), number(b, bits, signed), number(c, bits, signed));
        let check = |name: &str, c: u64, width: u32, expected: i128| {
            assert_eq!(lane(&format!("{name}.{ty}"), 3)(&[a, b, c]), [wrapped(expected, width)], "{name}.{ty}");
        };
        check("mad.lo", c & mask(bits), bits, x.wrapping_mul(y).wrapping_add(z));
        check("mad.hi", c & mask(bits), bits, upper_half(x, y, bits, signed) + z);
        check("sad", c & mask(bits), bits, (x - y).abs() + z);
        if bits < 64 {
            let c = c & mask(2 * bits);
            check("mad.wide", c, 2 * bits, x * y + number(c, 2 * bits, signed));
        }
        if bits == 32 {
            let product = factor(a, signed) * factor(b, signed);
            check("mad24.lo", c & mask(32), 32, product + z);
            check("mad24.hi", c & mask(32), 32, (product >> 16) + z);
        }
        if ty == "s32" {
            let clamp = |value: i128| value.clamp(i32::MIN.into(), i32::MAX.into());
            check("mad.hi.sat", c & mask(32), 32, clamp(((x * y) >> 32) + z));
            check("mad24.hi.sat", c & mask(32), 32, clamp(((factor(a, true) * factor(b, true)) >> 16) + z));
        }
    }

    #[test]
    fn dot_products(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
        let part = |raw: u32, bits: u32, i: u32, ty: &str| number(u64::from(raw >> (bits * i)), bits, ty == "s32");
        let inputs = [u64::from(a), u64::from(b), u64::from(c)];
        for x in ["u32", "s32"] {
            for y in ["u32", "s32"] {
                let sum: i128 = (0..4).map(|i| part(a, 8, i, x) * part(b, 8, i, y)).sum();
                prop_assert_eq!(lane(&format!("dp4a.{x}.{y}"), 3)(&inputs), [wrapped(sum + i128::from(c), 32)]);
                for (half, first) in [("lo", 0), ("hi", 2)] {
                    let sum: i128 = (0..2).map(|i| part(a, 16, i, x) * part(b, 8, first + i, y)).sum();
                    let name = format!("dp2a.{half}.{x}.{y}");
                    prop_assert_eq!(lane(&name, 3)(&inputs), [wrapped(sum + i128::from(c), 32)]);
                }
            }
        }
    }
}
