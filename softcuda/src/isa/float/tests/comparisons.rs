use super::reference::samples;
use super::{decoded, lane};
use crate::isa::Work;
use crate::isa::float::format::{Brain, Double, Format, Half, Single};
use crate::model::counters::Class;
use std::cmp::Ordering::{self, Equal, Greater, Less};

/// The comparisons of the PTX ISA, and for which orders of the operands they hold; the last ones where one is a NaN.
const COMPARISONS: [(&str, &[Ordering], bool); 14] = [
    ("eq", &[Equal], false),
    ("ne", &[Less, Greater], false),
    ("lt", &[Less], false),
    ("le", &[Less, Equal], false),
    ("gt", &[Greater], false),
    ("ge", &[Greater, Equal], false),
    ("equ", &[Equal], true),
    ("neu", &[Less, Greater], true),
    ("ltu", &[Less], true),
    ("leu", &[Less, Equal], true),
    ("gtu", &[Greater], true),
    ("geu", &[Greater, Equal], true),
    ("num", &[Less, Equal, Greater], false),
    ("nan", &[], true),
];

/// How two numbers compare, by their bits.
fn order<F: Format>(a: u64, b: u64) -> Option<Ordering> {
    use crate::isa::Element;
    let (sign, infinity) = (F::SIGN.to_bits(), F::INFINITY.to_bits());
    let key = |bits: u64| {
        let magnitude = bits & (sign - 1);
        let value = i128::from(magnitude);
        (magnitude <= infinity).then_some(if bits & sign == 0 { value } else { -value })
    };
    Some(key(a)?.cmp(&key(b)?))
}

fn check_comparisons<F: Format>(ty: &str) {
    let samples = samples::<F>(20);
    for (name, orders, unordered) in COMPARISONS {
        let setp = lane(&format!("setp.{name}.{ty} p, a, b"));
        let set = lane(&format!("set.{name}.u32.{ty} d, a, b"));
        let combined: Vec<_> = ["and", "or", "xor"]
            .map(|word| {
                (
                    lane(&format!("setp.{name}.{word}.{ty} p|q, a, b, c")),
                    lane(&format!("set.{name}.{word}.s32.{ty} d, a, b, c")),
                )
            })
            .into();
        for a in &samples {
            for b in &samples {
                let holds = order::<F>(*a, *b).map_or(unordered, |order| orders.contains(&order));
                assert_eq!(setp(&[*a, *b]), [u64::from(holds), u64::from(!holds)], "{name}.{ty} {a:x} {b:x}");
                assert_eq!(set(&[*a, *b])[0], if holds { 0xffff_ffff } else { 0 });
                for c in [false, true] {
                    let inputs = [*a, *b, c.into()];
                    let expected = |x: bool| [x & c, x | c, x ^ c];
                    for (i, (setp, set)) in combined.iter().enumerate() {
                        let (p, q) = (expected(holds)[i], expected(!holds)[i]);
                        assert_eq!(setp(&inputs), [u64::from(p), u64::from(q)]);
                        assert_eq!(set(&inputs)[0], if p { 0xffff_ffff } else { 0 });
                    }
                }
            }
        }
    }
}

#[test]
fn comparisons_hold_where_the_tables_say() {
    check_comparisons::<Single>("f32");
    check_comparisons::<Double>("f64");
    check_comparisons::<Half>("f16");
    check_comparisons::<Brain>("bf16");
}

#[test]
fn packed_comparisons_give_a_predicate_each() {
    let setp = lane("setp.lt.f16x2 p|q, a, b");
    assert_eq!(setp(&[0x3c00_0000, 0x0000_3c00]), [1, 0]);
    assert_eq!(setp(&[0x0000_3c00, 0x3c00_0000]), [0, 1]);
    let with = lane("setp.gt.xor.bf16x2 p|q, a, b, c");
    assert_eq!(with(&[0x0000_3f80, 0, 1]), [0, 1]);
    assert_eq!(lane("set.ge.f16x2.f16x2 d, a, b")(&[0x3c00_0000, 0x0000_3c00])[0], 0x3c00_0000);
    assert_eq!(lane("set.ge.u32.f16x2 d, a, b")(&[0x3c00_0000, 0x0000_3c00])[0], 0xffff_0000);
    assert_eq!(lane("set.eq.bf16x2.bf16x2 d, a, b")(&[0x8000_3f80, 0x0000_3f80])[0], 0x3f80_3f80);
}

#[test]
fn set_writes_its_type() {
    let one = 0x3f80_0000;
    assert_eq!(lane("set.lt.f32.f32 d, a, b")(&[0, one])[0], one);
    assert_eq!(lane("set.nan.f16.f16 d, a, b")(&[0x7e00, 0x7e00])[0], 0x3c00);
    assert_eq!(lane("set.nan.f16.f16 d, a, b")(&[0x7c00, 0x7c00])[0], 0);
    assert_eq!(lane("set.ne.bf16.bf16 d, a, b")(&[0, 1])[0], 0x3f80);
    assert_eq!(lane("set.eq.u16.f16 d, a, b")(&[0x8000, 0])[0], 0xffff);
    assert_eq!(lane("set.lt.f32.s32 d, a, b")(&[0xffff_ffff, 0])[0], one);
    assert_eq!(lane("set.lo.f32.u32 d, a, b")(&[0xffff_ffff, 0])[0], 0);
    assert_eq!(lane("set.gt.f32.s16 d, a, b")(&[0x7fff, 0x8000])[0], one);
    assert_eq!(lane("set.hs.f32.u64 d, a, b")(&[u64::MAX, 1])[0], one);
    assert_eq!(lane("set.ge.f32.s64 d, a, b")(&[u64::MAX, 1])[0], 0);
}

#[test]
fn subnormal_operands_of_comparisons_are_flushed() {
    assert_eq!(lane("setp.eq.f32 p, a, b")(&[1, 0])[0], 0);
    assert_eq!(lane("setp.eq.ftz.f32 p, a, b")(&[1, 0])[0], 1);
    assert_eq!(lane("setp.lt.ftz.f16x2 p|q, a, b")(&[0x0001_8001, 0x3c00_0000]), [0, 1]);
    assert_eq!(lane("set.gt.or.ftz.f32.f32 d, a, b, c")(&[1, 0, 0])[0], 0);
}

#[test]
fn tests_of_numbers() {
    // finite, infinite, number, notanumber, normal, subnormal
    let kinds = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
    let table = [
        (0x8000_0000u64, 0x8000_0000_0000_0000u64, [1, 0, 1, 0, 1, 0]),
        (0x0000_0001, 1, [1, 0, 1, 0, 0, 1]),
        (0x807f_ffff, 0x800f_ffff_ffff_ffff, [1, 0, 1, 0, 0, 1]),
        (0x0080_0000, 0x0010_0000_0000_0000, [1, 0, 1, 0, 1, 0]),
        (0xff7f_ffff, 0xffef_ffff_ffff_ffff, [1, 0, 1, 0, 1, 0]),
        (0xff80_0000, 0x7ff0_0000_0000_0000, [0, 1, 1, 0, 0, 0]),
        (0x7f80_0001, 0xfff0_0000_0000_0001, [0, 0, 0, 1, 0, 0]),
    ];
    for (single, double, expected) in table {
        for (kind, expected) in kinds.iter().zip(expected) {
            assert_eq!(lane(&format!("testp.{kind}.f32 p, a"))(&[single])[0], expected, "{kind} {single:x}");
            assert_eq!(lane(&format!("testp.{kind}.f64 p, a"))(&[double])[0], expected, "{kind} {double:x}");
        }
    }
}

#[test]
fn selections() {
    assert_eq!(lane("selp.f32 d, a, b, p")(&[1, 2, 1])[0], 1);
    assert_eq!(lane("selp.f64 d, a, b, p")(&[1 << 40, 2 << 40, 0])[0], 2 << 40);
    assert_eq!(decoded("selp.f32 d, a, b, p").unwrap().0, Work::of(Class::Integer));
    let by_float = lane("slct.f32.f32 d, a, b, c");
    // -0 counts as not negative, NaN as negative.
    let table =
        [(0, 1), (0x8000_0000, 1), (0x8000_0001, 2), (0x7fff_ffff, 2), (0x7f80_0000, 1), (0xff80_0000, 2)];
    for (c, expected) in table {
        assert_eq!(by_float(&[1, 2, c])[0], expected, "{c:x}");
    }
    assert_eq!(lane("slct.ftz.u64.f32 d, a, b, c")(&[1 << 40, 2, 0x8000_0001])[0], 1 << 40);
    assert_eq!(lane("slct.f64.s32 d, a, b, c")(&[1 << 40, 2, 0xffff_ffff])[0], 2);
    assert_eq!(lane("slct.f32.s32 d, a, b, c")(&[1, 2, 0])[0], 1);
}
