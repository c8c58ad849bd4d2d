use super::*;

type Test = fn(i128, i128) -> bool;

const OPERATORS: [(&str, Test); 6] = [
    ("eq", |a, b| a == b),
    ("ne", |a, b| a != b),
    ("lt", |a, b| a < b),
    ("le", |a, b| a <= b),
    ("gt", |a, b| a > b),
    ("ge", |a, b| a >= b),
];

type Logic = fn(bool, bool) -> bool;

const LOGIC: [(&str, Logic); 3] = [("and", |a, b| a && b), ("or", |a, b| a || b), ("xor", |a, b| a != b)];

/// All comparisons there are: operator, type, what holds.
fn comparisons() -> Vec<(&'static str, String, u32, bool, Test)> {
    let mut all = Vec::new();
    for (ty, bits, signed) in INTEGERS {
        all.extend(OPERATORS.map(|(name, test)| (name, ty.to_string(), bits, signed, test)));
        if !signed {
            all.extend(
                OPERATORS[..2].iter().map(|&(name, test)| (name, format!("b{bits}"), bits, false, test)),
            );
            let orders = ["lo", "ls", "hi", "hs"].into_iter().zip(&OPERATORS[2..]);
            all.extend(orders.map(|(name, &(_, test))| (name, ty.to_string(), bits, false, test)));
        }
    }
    all
}

fn check(operator: &str, ty: &str, a: u64, b: u64, holds: bool) {
    let bools = |values: [bool; 2]| values.map(u64::from);
    let setp = decoded(&format!("setp.{operator}.{ty} p|q, a, b")).1;
    assert_eq!(setp(&[a, b]), bools([holds, !holds]), "setp.{operator}.{ty} of {a:#x}, {b:#x}");
    for (dtype, truth) in [("u32", 0xffff_ffff), ("s32", 0xffff_ffff), ("f32", u64::from(1f32.to_bits()))] {
        let value = |holds: bool| [if holds { truth } else { 0 }];
        assert_eq!(lane(&format!("set.{operator}.{dtype}.{ty}"), 2)(&[a, b]), value(holds));
        for (name, logic) in LOGIC {
            for c in [false, true] {
                let inputs = [a, b, c.into()];
                let form = format!("setp.{operator}.{name}.{ty} p|q, a, b, c");
                let both = bools([logic(holds, c), logic(!holds, c)]);
                assert_eq!(decoded(&form).1(&inputs), both, "{form}");
                let set = lane(&format!("set.{operator}.{name}.{dtype}.{ty}"), 3);
                assert_eq!(set(&inputs), value(logic(holds, c)));
            }
        }
    }
}

#[test]
fn edges_compare() {
    for (operator, ty, bits, signed, test) in comparisons() {
        for a in [0, 1, mask(bits), 1 << (bits - 1), (1 << (bits - 1)) - 1] {
            for b in [0, mask(bits), 1 << (bits - 1)] {
                check(operator, &ty, a, b, test(number(a, bits, signed), number(b, bits, signed)));
            }
        }
    }
}

proptest! {
    #[test]
    fn random_numbers_compare(a in raw(), b in raw(), same in any::<bool>()) {
        let b = if same { a } else { b };
        for (operator, ty, bits, signed, test) in comparisons() {
            let holds = test(number(a, bits, signed), number(b, bits, signed));
            let setp = decoded(&format!("setp.{operator}.{ty} p|q, a, b")).1;
            prop_assert_eq!(setp(&[a, b]), [u64::from(holds), u64::from(!holds)], "setp.{}.{}", operator, ty);
        }
    }
}
