use super::*;

fn bit(value: u64, index: u32) -> bool {
    value >> index & 1 != 0
}

/// The number whose bits a function gives.
fn from_bits(bits: u32, f: impl Fn(u32) -> bool) -> u64 {
    (0..bits).filter(|&i| f(i)).map(|i| 1 << i).sum()
}

/// Amounts of shifts and widths of fields: around both widths, and as negative constants give them.
fn amount() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..70, prop::sample::select(vec![255, 256, 257, 288, u32::MAX, u32::MAX - 1, 1 << 31])]
}

#[test]
fn counts() {
    for (ty, bits) in [("b32", 32), ("b64", 64)] {
        let (popc, clz, brev) =
            (lane(&format!("popc.{ty}"), 1), lane(&format!("clz.{ty}"), 1), lane(&format!("brev.{ty}"), 1));
        for a in edges(bits).into_iter().chain([0x1234_5678]) {
            assert_eq!(popc(&[a]), [(0..bits).filter(|&i| bit(a, i)).count() as u64]);
            assert_eq!(clz(&[a]), [(0..bits).rev().take_while(|&i| !bit(a, i)).count() as u64]);
            assert_eq!(brev(&[a]), [from_bits(bits, |i| bit(a, bits - 1 - i))]);
        }
    }
}

#[test]
fn nth_set() {
    // The ISA's own examples.
    for (base, offset, found) in [(3, 1, 3), (3, -1, 3), (2, 1, 3), (2, -1, 1)] {
        assert_eq!(lane("fns.b32", 3)(&[0xaaaa_aaaa, base, u64::from(offset as u32)]), [found]);
    }
    let fns =
        |mask: u64, base: u64, offset: i32| lane("fns.b32", 3)(&[mask, base, u64::from(offset as u32)])[0];
    assert_eq!(fns(0b1000, 3, 0), 3);
    assert_eq!(fns(0b0111, 3, 0), 0xffff_ffff);
    assert_eq!(fns(0b1011, 0, 3), 3);
    assert_eq!(fns(0b1011, 0, 4), 0xffff_ffff);
    assert_eq!(fns(0b1011, 31, -3), 0);
    assert_eq!(fns(0xffff_ffff, 31, i32::MIN), 0xffff_ffff);
    assert_eq!(fns(0xffff_ffff, 32, -1), 0xffff_ffff);
}

#[test]
fn extension() {
    // The ISA's own example, and all that fits.
    assert_eq!(lane("szext.wrap.u32", 2)(&[0xffff_ffff, 0]), [0]);
    assert_eq!(lane("szext.wrap.s32", 2)(&[0xffff_ffff, 32]), [0]);
    assert_eq!(lane("szext.clamp.s32", 2)(&[0x8000_0001, 32]), [0x8000_0001]);
    assert_eq!(lane("szext.clamp.u32", 2)(&[0x8000_0001, 0xffff_ffff]), [0x8000_0001]);
    assert_eq!(lane("bmsk.wrap.b32", 2)(&[1, 2]), [6]);
}

proptest! {
    #[test]
    fn shifts(a in raw(), n in amount()) {
        for bits in [16, 32, 64] {
            let a = a & mask(bits);
            let shifted = |prefix: char, name: &str| lane(&format!("{name}.{prefix}{bits}"), 2)(&[a, n.into()]);
            let left = from_bits(bits, |i| i >= n && bit(a, i - n));
            let right = from_bits(bits, |i| u64::from(i) + u64::from(n) < bits.into() && bit(a, i + n));
            let filled = from_bits(bits, |i| bit(a, i.saturating_add(n).min(bits - 1)));
            prop_assert_eq!(shifted('b', "shl"), [left]);
            prop_assert_eq!(shifted('b', "shr"), [right]);
            prop_assert_eq!(shifted('u', "shr"), [right]);
            prop_assert_eq!(shifted('s', "shr"), [filled]);
        }
    }

    #[test]
    fn funnel_shifts(a in any::<u32>(), b in any::<u32>(), c in amount()) {
        let joined = u128::from(b) << 32 | u128::from(a);
        for (mode, n) in [("wrap", c % 32), ("clamp", c.min(32))] {
            let shifted = |side: &str| lane(&format!("shf.{side}.{mode}.b32"), 3)(&[a.into(), b.into(), c.into()]);
            prop_assert_eq!(shifted("l"), [(joined << n >> 32) as u64 & mask(32)]);
            prop_assert_eq!(shifted("r"), [(joined >> n) as u64 & mask(32)]);
        }
    }

    #[test]
    fn highest_bit(a in raw()) {
        for (ty, bits, signed) in INTEGERS.into_iter().filter(|ty| ty.1 > 16) {
            let a = a & mask(bits);
            let negative = signed && bit(a, bits - 1);
            let found = (0..bits).rev().find(|&i| bit(a, i) != negative);
            let position = found.map_or(mask(32), u64::from);
            let amount = found.map_or(mask(32), |i| u64::from(bits - 1 - i));
            prop_assert_eq!(lane(&format!("bfind.{ty}"), 1)(&[a]), [position]);
            prop_assert_eq!(lane(&format!("bfind.shiftamt.{ty}"), 1)(&[a]), [amount]);
        }
    }

    #[test]
    fn fields(a in raw(), b in raw(), c in amount(), d in amount()) {
        let (position, length) = (c & 0xff, d & 0xff);
        for (ty, bits, signed) in INTEGERS.into_iter().filter(|ty| ty.1 > 16) {
            let (a, b) = (a & mask(bits), b & mask(bits));
            let last = (position + length).saturating_sub(1).min(bits - 1);
            let sign = signed && length != 0 && bit(a, last);
            let field = from_bits(bits, |i| {
                if i < length && position + i < bits { bit(a, position + i) } else { sign }
            });
            prop_assert_eq!(lane(&format!("bfe.{ty}"), 3)(&[a, c.into(), d.into()]), [field], "bfe.{}", ty);
            let inserted = from_bits(bits, |i| {
                if i >= position && i < position + length { bit(a, i - position) } else { bit(b, i) }
            });
            prop_assert_eq!(lane(&format!("bfi.b{bits}"), 4)(&[a, b, c.into(), d.into()]), [inserted]);
        }
    }

    #[test]
    fn masks_and_extensions(a in any::<u32>(), b in amount(), n in amount()) {
        for (mode, b, n) in [("wrap", b % 32, n % 32), ("clamp", b, n)] {
            let (b, n) = (u64::from(b), u64::from(n));
            let ones = from_bits(32, |i| u64::from(i) >= b && u64::from(i) < b + n);
            prop_assert_eq!(lane(&format!("bmsk.{mode}.b32"), 2)(&[b, n]), [ones]);
            let zeros_above = from_bits(32, |i| u64::from(i) < n && bit(a.into(), i));
            let sign = n != 0 && bit(a.into(), (n.min(32) - 1) as u32);
            let signs_above = from_bits(32, |i| if u64::from(i) < n { bit(a.into(), i) } else { sign });
            prop_assert_eq!(lane(&format!("szext.{mode}.u32"), 2)(&[a.into(), n]), [zeros_above]);
            prop_assert_eq!(lane(&format!("szext.{mode}.s32"), 2)(&[a.into(), n]), [signs_above]);
        }
        let wrapped = |name: &str, inputs: [u64; 2]| lane(name, 2)(&inputs);
        prop_assert_eq!(
            wrapped("bmsk.wrap.b32", [b.into(), n.into()]),
            wrapped("bmsk.wrap.b32", [u64::from(b % 32), u64::from(n % 32)])
        );
        prop_assert_eq!(
            wrapped("szext.wrap.s32", [a.into(), n.into()]),
            wrapped("szext.wrap.s32", [a.into(), u64::from(n % 32)])
        );
    }

    #[test]
    fn nth_set_is_counted_from_the_base(mask in any::<u32>(), base in 0u32..32, offset in -33i32..34) {
        let set = |i: &u32| bit(mask.into(), *i);
        let candidates: Vec<u32> = match offset {
            0 => vec![base],
            1.. => (base..32).collect(),
            _ => (0..=base).rev().collect(),
        };
        let found = candidates.into_iter().filter(set).nth(offset.unsigned_abs().saturating_sub(1) as usize);
        let inputs = [mask.into(), base.into(), u64::from(offset as u32)];
        prop_assert_eq!(lane("fns.b32", 3)(&inputs), [u64::from(found.unwrap_or(u32::MAX))]);
    }
}
