use super::super::carry::{Carry, decode_carry};
use super::*;

fn carry(text: &str) -> Carry {
    decode_carry(&instruction(text)).unwrap_or_else(|| panic!("no carry: {text}"))
}

/// The number of several registers, from the lowest.
fn long(words: [u64; 2]) -> u128 {
    u128::from(words[1]) << 64 | u128::from(words[0])
}

#[test]
fn forms() {
    let flags = |text: &str| {
        let carry = carry(text);
        (carry.inputs, carry.bits, carry.reads, carry.writes)
    };
    assert_eq!(flags("add.cc.u32 d, a, b"), (2, 32, false, true));
    assert_eq!(flags("addc.s64 d, a, b"), (2, 64, true, false));
    assert_eq!(flags("addc.cc.u64 d, a, b"), (2, 64, true, true));
    assert_eq!(flags("sub.cc.s32 d, a, b"), (2, 32, false, true));
    assert_eq!(flags("subc.u32 d, a, b"), (2, 32, true, false));
    assert_eq!(flags("subc.cc.u32 d, a, b"), (2, 32, true, true));
    assert_eq!(flags("mad.lo.cc.u32 d, a, b, c"), (3, 32, false, true));
    assert_eq!(flags("mad.hi.cc.s64 d, a, b, c"), (3, 64, false, true));
    assert_eq!(flags("madc.lo.u32 d, a, b, c"), (3, 32, true, false));
    assert_eq!(flags("madc.hi.cc.u32 d, a, b, c"), (3, 32, true, true));
    for other in [
        "add.u32 d, a, b",
        "mad.lo.u32 d, a, b, c",
        "addc.u16 d, a, b",
        "sub.f32 d, a, b",
        "bra x",
        "mad.wide.cc.u32 d, a, b, c",
        "add.sat.cc.s32 d, a, b",
        "ad d",
        "add.cc d, a, b",
    ] {
        assert!(decode_carry(&instruction(other)).is_none(), "{other}");
    }
}

proptest! {
    #[test]
    fn one_step(a in raw(), b in raw(), c in raw(), flag in any::<bool>()) {
        for (ty, bits, signed) in INTEGERS.into_iter().filter(|ty| ty.1 > 16) {
            let [x, y, z] = [a, b, c].map(|raw| i128::from(raw & mask(bits)));
            let one = i128::from(flag);
            let overflows = |value: i128| (value as u64 & mask(bits), value < 0 || value > i128::from(mask(bits)));
            let apply = |name: &str| carry(&format!("{name}.{ty} d, a, b, c")).apply(a & mask(bits), b & mask(bits), c & mask(bits), flag);
            prop_assert_eq!(apply("add.cc"), overflows(x + y));
            prop_assert_eq!(apply("addc.cc"), overflows(x + y + one));
            prop_assert_eq!(apply("sub.cc"), overflows(x - y));
            prop_assert_eq!(apply("subc.cc"), overflows(x - y - one));
            let (p, q) = (number(a, bits, signed), number(b, bits, signed));
            let low = i128::from(wrapped(p.wrapping_mul(q), bits));
            let high = if signed { (p * q) >> bits } else { ((p as u128 * q as u128) >> bits) as i128 };
            let high = i128::from(wrapped(high, bits));
            prop_assert_eq!(apply("mad.lo.cc"), overflows(low + z));
            prop_assert_eq!(apply("madc.lo.cc"), overflows(low + z + one));
            prop_assert_eq!(apply("mad.hi.cc"), overflows(high + z));
            prop_assert_eq!(apply("madc.hi.cc"), overflows(high + z + one));
        }
    }

    #[test]
    fn chains(a in [raw(), raw()], b in [raw(), raw()]) {
        let chain = |low: &str, high: &str| {
            let (first, flag) = carry(low).apply(a[0], b[0], 0, true);
            [first, carry(high).apply(a[1], b[1], 0, flag).0]
        };
        prop_assert_eq!(
            long(chain("add.cc.u64 d, a, b", "addc.u64 d, a, b")),
            long(a).wrapping_add(long(b))
        );
        prop_assert_eq!(
            long(chain("sub.cc.u64 d, a, b", "subc.u64 d, a, b")),
            long(a).wrapping_sub(long(b))
        );
        // A product of 128 bits added to another number, by halves.
        let (low, flag) = carry("mad.lo.cc.u64 d, a, b, c").apply(a[0], a[1], b[0], false);
        let (high, _) = carry("madc.hi.u64 d, a, b, c").apply(a[0], a[1], b[1], flag);
        prop_assert_eq!(long([low, high]), (u128::from(a[0]) * u128::from(a[1])).wrapping_add(long(b)));
    }
}
