use super::*;

type Operation = fn(i128, i128) -> i128;

const OPERATIONS: [(&str, Operation); 5] = [
    ("vadd", |a, b| a + b),
    ("vsub", |a, b| a - b),
    ("vabsdiff", |a, b| (a - b).abs()),
    ("vmin", |a, b| a.min(b)),
    ("vmax", |a, b| a.max(b)),
];

type Test = fn(i128, i128) -> bool;

const TESTS: [(&str, Test); 6] = [
    ("eq", |a, b| a == b),
    ("ne", |a, b| a != b),
    ("lt", |a, b| a < b),
    ("le", |a, b| a <= b),
    ("gt", |a, b| a > b),
    ("ge", |a, b| a >= b),
];

/// The average, halves away from zero upwards and, for negative sums, down.
fn average(a: i128, b: i128) -> i128 {
    if a + b >= 0 { (a + b + 1) / 2 } else { (a + b).div_euclid(2) }
}

fn clamp(value: i128, bits: u32, signed: bool) -> i128 {
    if signed {
        value.clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    } else {
        value.clamp(0, (1 << bits) - 1)
    }
}

const SIGNS: [(&str, bool); 2] = [("u32", false), ("s32", true)];

#[test]
fn sum_of_differences() {
    let inputs = [0x01ff_8000, 0x0300_7f05, 1000];
    assert_eq!(lane("vabsdiff4.u32.u32.u32.add", 3)(&inputs), [1000 + 2 + 255 + 1 + 5]);
    assert_eq!(lane("vabsdiff4.u32.u32.u32", 3)(&inputs), [0x02ff_0105]);
    assert_eq!(lane("vadd4.u32.u32.u32.sat", 3)(&inputs), [0x04ff_ff05]);
    assert_eq!(lane("vavrg2.s32.s32.s32", 3)(&[0x0001_fffe, 0x0002_fffd, 0]), [0x0002_fffd]);
}

#[test]
fn forms() {
    for form in [
        "vadd4.u32.u32.u32.sat.add d, a, b, c",
        "vset4.u32.u32.lt.sat d, a, b, c",
        "vadd.u32.u32 d, a, b",
        "vavrg.u32.u32.u32 d, a, b",
        "vshl.u32.u32.u32 d, a, b",
        "vmad.u32.u32.u32.shr8 d, a, b, c",
        "vadd4.u32.u32.u32.max d, a, b, c",
        "vadd.u32.u32.f32 d, a, b",
        "vset.u32.u32.lt.sat d, a, b",
    ] {
        assert!(refused(form), "{form}");
    }
}

proptest! {
    #[test]
    fn scalars(a in raw(), b in raw(), c in raw()) {
        let [a, b, c] = [a, b, c].map(|raw| raw & mask(32));
        for (x, x_signed) in SIGNS {
            for (y, y_signed) in SIGNS {
                let (p, q) = (number(a, 32, x_signed), number(b, 32, y_signed));
                for (d, d_signed) in SIGNS {
                    let z = number(c, 32, d_signed);
                    for (name, f) in OPERATIONS {
                        let name = format!("{name}.{d}.{x}.{y}");
                        for (sat, value) in [("", f(p, q)), (".sat", clamp(f(p, q), 32, d_signed))] {
                            prop_assert_eq!(lane(&format!("{name}{sat}"), 2)(&[a, b]), [wrapped(value, 32)]);
                            let fitting = number(wrapped(value, 32), 32, d_signed);
                            for (second, value) in [("add", fitting + z), ("min", fitting.min(z)), ("max", fitting.max(z))] {
                                let name = format!("{name}{sat}.{second}");
                                prop_assert_eq!(lane(&name, 3)(&[a, b, c]), [wrapped(value, 32)], "{}", name);
                            }
                        }
                    }
                }
                for (test, f) in TESTS {
                    let holds = u64::from(f(p, q));
                    prop_assert_eq!(lane(&format!("vset.{x}.{y}.{test}"), 2)(&[a, b]), [holds]);
                    let sum = lane(&format!("vset.{x}.{y}.{test}.add"), 3)(&[a, b, c]);
                    prop_assert_eq!(sum, [(holds + c) & mask(32)]);
                }
            }
        }
    }

    #[test]
    fn scalar_shifts(a in raw(), n in prop_oneof![0u64..40, prop::sample::select(edges(32))]) {
        let a = a & mask(32);
        for (mode, amount) in [("clamp", n.min(32)), ("wrap", n % 32)] {
            for (x, x_signed) in SIGNS {
                for (d, d_signed) in SIGNS {
                    let p = number(a, 32, x_signed);
                    for (name, value) in [("vshl", p << amount), ("vshr", p >> amount)] {
                        let name = format!("{name}.{d}.{x}.u32");
                        let clamped = wrapped(clamp(value, 32, d_signed), 32);
                        prop_assert_eq!(lane(&format!("{name}.{mode}"), 2)(&[a, n]), [wrapped(value, 32)]);
                        prop_assert_eq!(lane(&format!("{name}.sat.{mode}"), 2)(&[a, n]), [clamped], "{}", name);
                    }
                }
            }
        }
    }

    #[test]
    fn scalar_products(a in raw(), b in raw(), c in raw()) {
        let [a, b, c] = [a, b, c].map(|raw| raw & mask(32));
        for (x, x_signed) in SIGNS {
            for (y, y_signed) in SIGNS {
                let signed = x_signed || y_signed;
                let sum = number(a, 32, x_signed) * number(b, 32, y_signed) + number(c, 32, signed);
                for (po, sum) in [("", sum), (".po", sum + 1)] {
                    for (scale, value) in [("", sum), (".shr7", sum >> 7), (".shr15", sum >> 15)] {
                        let name = format!("vmad.s32.{x}.{y}{po}");
                        let clamped = wrapped(clamp(value, 32, signed), 32);
                        prop_assert_eq!(lane(&format!("{name}{scale}"), 3)(&[a, b, c]), [wrapped(value, 32)]);
                        prop_assert_eq!(lane(&format!("{name}.sat{scale}"), 3)(&[a, b, c]), [clamped]);
                    }
                }
            }
        }
    }

    #[test]
    fn parts(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
        let inputs = [a.into(), b.into(), c.into()];
        for (bits, count) in [(8, 4), (16, 2)] {
            let part = |raw: u32, i: u32, signed: bool| number(u64::from(raw >> (bits * i)), bits, signed);
            for (x, signed) in SIGNS {
                let values = |f: Operation| (0..count).map(move |i| f(part(a, i, signed), part(b, i, signed)));
                let joined = |values: Vec<i128>| {
                    values.into_iter().enumerate().map(|(i, value)| wrapped(value, bits) << (bits * i as u32)).sum::<u64>()
                };
                for (name, f) in OPERATIONS.into_iter().chain([("vavrg", average as Operation)]) {
                    let name = format!("{name}{count}.{x}.{x}.{x}");
                    let clamped = values(f).map(|value| clamp(value, bits, signed)).collect();
                    let sum = values(f).sum::<i128>() + i128::from(c);
                    prop_assert_eq!(lane(&name, 3)(&inputs), [joined(values(f).collect())], "{}", name);
                    prop_assert_eq!(lane(&format!("{name}.sat"), 3)(&inputs), [joined(clamped)], "{}", name);
                    prop_assert_eq!(lane(&format!("{name}.add"), 3)(&inputs), [wrapped(sum, 32)], "{}", name);
                }
                for (test, f) in TESTS {
                    let name = format!("vset{count}.{x}.{x}.{test}");
                    let holds: Vec<i128> =
                        (0..count).map(|i| f(part(a, i, signed), part(b, i, signed)).into()).collect();
                    let sum = holds.iter().sum::<i128>() + i128::from(c);
                    prop_assert_eq!(lane(&name, 3)(&inputs), [joined(holds)]);
                    prop_assert_eq!(lane(&format!("{name}.add"), 3)(&inputs), [wrapped(sum, 32)]);
                }
            }
        }
    }
}
