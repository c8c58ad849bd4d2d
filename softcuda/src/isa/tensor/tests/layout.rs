//! Fragments of `mma.sync` against the formulas of the PTX ISA, which are by element: `a0`, `a1`, ... of a lane, with
//! `g` its groupID and `t` its threadID_in_group.

use super::super::Mma;
use super::super::layout::Fragment;
use super::{mma_counts, product};
use std::collections::HashSet;

type Place = fn(i: u32, g: u32, t: u32) -> (u32, u32);

/// `value` where the condition holds, else with so much added.
fn shifted(holds: bool, value: u32, by: u32) -> u32 {
    if holds { value } else { value + by }
}

/// C and D of m8n8.
fn sums8(i: u32, g: u32, t: u32) -> (u32, u32) {
    (g, t * 2 + i)
}

/// C and D of m16n8.
fn sums16(i: u32, g: u32, t: u32) -> (u32, u32) {
    (shifted(i < 2, g, 8), t * 2 + (i & 1))
}

/// The ISA's "Matrix Fragments for mma" shape by shape: A, B, C.
#[rustfmt::skip]
const ISA: [(&str, Place, Place, Place); 22] = [
    ("m16n8k16.row.col.f32.f16.f16.f32",
        |i, g, t| (shifted(i < 2 || (4..6).contains(&i), g, 8), shifted(i < 4, t * 2 + (i & 1), 8)),
        |i, g, t| (shifted(i < 2, t * 2 + (i & 1), 8), g), sums16),
    ("m16n8k16.row.col.f16.f16.f16.f16",
        |i, g, t| (shifted(i < 2 || (4..6).contains(&i), g, 8), shifted(i < 4, t * 2 + (i & 1), 8)),
        |i, g, t| (shifted(i < 2, t * 2 + (i & 1), 8), g), sums16),
    ("m16n8k16.row.col.f32.bf16.bf16.f32",
        |i, g, t| (shifted(i < 2 || (4..6).contains(&i), g, 8), shifted(i < 4, t * 2 + (i & 1), 8)),
        |i, g, t| (shifted(i < 2, t * 2 + (i & 1), 8), g), sums16),
    ("m16n8k8.row.col.f32.f16.f16.f32",
        |i, g, t| (shifted(i < 2, g, 8), t * 2 + (i & 1)), |i, g, t| (t * 2 + i, g), sums16),
    ("m16n8k8.row.col.f16.f16.f16.f16",
        |i, g, t| (shifted(i < 2, g, 8), t * 2 + (i & 1)), |i, g, t| (t * 2 + i, g), sums16),
    ("m16n8k8.row.col.f32.bf16.bf16.f32",
        |i, g, t| (shifted(i < 2, g, 8), t * 2 + (i & 1)), |i, g, t| (t * 2 + i, g), sums16),
    ("m16n8k4.row.col.f32.tf32.tf32.f32",
        |i, g, t| (shifted(i == 0, g, 8), t), |_, g, t| (t, g), sums16),
    ("m16n8k8.row.col.f32.tf32.tf32.f32",
        |i, g, t| (shifted(i == 0 || i == 2, g, 8), shifted(i < 2, t, 4)),
        |i, g, t| (shifted(i == 0, t, 4), g), sums16),
    ("m8n8k16.row.col.s32.s8.u8.s32", |i, g, t| (g, t * 4 + i), |i, g, t| (t * 4 + i, g), sums8),
    ("m16n8k16.row.col.s32.u8.s8.s32",
        |i, g, t| (shifted(i < 4, g, 8), t * 4 + (i & 3)), |i, g, t| (t * 4 + i, g), sums16),
    ("m16n8k32.row.col.s32.u8.u8.s32",
        |i, g, t| (shifted(i < 4 || (8..12).contains(&i), g, 8), shifted(i < 8, t * 4 + (i & 3), 16)),
        |i, g, t| (shifted(i < 4, t * 4 + (i & 3), 16), g), sums16),
    ("m16n8k32.row.col.f32.e4m3.e5m2.f32",
        |i, g, t| (shifted(i < 4 || (8..12).contains(&i), g, 8), shifted(i < 8, t * 4 + (i & 3), 16)),
        |i, g, t| (shifted(i < 4, t * 4 + (i & 3), 16), g), sums16),
    ("m8n8k32.row.col.s32.s4.u4.s32", |i, g, t| (g, t * 8 + i), |i, g, t| (t * 8 + i, g), sums8),
    ("m16n8k32.row.col.s32.u4.s4.s32",
        |i, g, t| (shifted(i < 8, g, 8), t * 8 + (i & 7)), |i, g, t| (t * 8 + i, g), sums16),
    ("m16n8k64.row.col.s32.u4.u4.s32",
        |i, g, t| (shifted(i < 8 || (16..24).contains(&i), g, 8), shifted(i < 16, t * 8 + (i & 7), 32)),
        |i, g, t| (shifted(i < 8, t * 8 + (i & 7), 32), g), sums16),
    ("m8n8k128.row.col.s32.b1.b1.s32.xor.popc",
        |i, g, t| (g, t * 32 + i), |i, g, t| (t * 32 + i, g), sums8),
    ("m16n8k128.row.col.s32.b1.b1.s32.and.popc",
        |i, g, t| (shifted(i < 32, g, 8), t * 32 + (i & 31)), |i, g, t| (t * 32 + i, g), sums16),
    ("m16n8k256.row.col.s32.b1.b1.s32.and.popc",
        |i, g, t| (shifted(i < 32 || (64..96).contains(&i), g, 8), shifted(i < 64, t * 32 + (i & 31), 128)),
        |i, g, t| (shifted(i < 32, t * 32 + (i & 31), 128), g), sums16),
    ("m8n8k4.row.col.f64.f64.f64.f64", |_, g, t| (g, t), |_, g, t| (t, g), sums8),
    ("m16n8k4.row.col.f64.f64.f64.f64",
        |i, g, t| (shifted(i == 0, g, 8), t), |_, g, t| (t, g), sums16),
    ("m16n8k8.row.col.f64.f64.f64.f64",
        |i, g, t| (shifted(i % 2 == 0, g, 8), shifted(i < 2, t, 4)),
        |i, g, t| (shifted(i == 0, t, 4), g), sums16),
    ("m16n8k16.row.col.f64.f64.f64.f64",
        |i, g, t| (shifted(i % 2 == 0, g, 8), i * 2 - i % 2 * 2 + t), |i, g, t| (i * 4 + t, g), sums16),
];

fn check(name: &str, fragment: &Fragment, place: Place) {
    let mut seen = HashSet::new();
    for lane in 0..32 {
        for i in 0..fragment.registers * fragment.parts() {
            let found = fragment.element(lane, i / fragment.parts(), i % fragment.parts());
            assert_eq!(
                found,
                place(i, lane >> 2, lane % 4),
                "{name} {:?} lane {lane}, element {i}",
                fragment.role
            );
            assert!(found.0 < fragment.rows && found.1 < fragment.columns && seen.insert(found));
        }
    }
    assert_eq!(seen.len() as u32, fragment.rows * fragment.columns);
}

#[test]
fn fragments_are_those_of_the_isa() {
    for (suffixes, a, b, c) in ISA {
        let name = format!("mma.sync.aligned.{suffixes}");
        let mma = Mma::parse(&product(&name, mma_counts(&name))).expect(&name);
        for (fragment, place) in [(&mma.a, a), (&mma.b, b), (&mma.c, c), (&mma.d, c)] {
            check(&name, fragment, place);
        }
    }
}

/// Who holds an element: lane and register.
fn holder(fragment: &Fragment, element: (u32, u32)) -> (u32, u32) {
    let lanes = (0..32).flat_map(|lane| (0..fragment.registers).map(move |register| (lane, register)));
    let holds = |&(lane, register): &(u32, u32)| {
        (0..fragment.parts()).any(|part| fragment.element(lane, register, part) == element)
    };
    lanes.into_iter().find(holds).unwrap()
}

/// Rows of the ISA's figures, written out.
#[test]
fn figures_of_the_isa() {
    let parse = |name: &str| Mma::parse(&product(name, mma_counts(name))).unwrap();
    let row = |fragment: &Fragment, row: u32| -> Vec<(u32, u32)> {
        (0..fragment.columns).map(|column| holder(fragment, (row, column))).collect()
    };
    let half = parse("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
    let [lanes, later] = [[4, 4, 5, 5, 6, 6, 7, 7], [4, 4, 5, 5, 6, 6, 7, 7]];
    let expected = |first: u32, second: u32| -> Vec<(u32, u32)> {
        lanes.map(|lane| (lane, first)).into_iter().chain(later.map(|lane| (lane, second))).collect()
    };
    assert_eq!(row(&half.a, 1), expected(0, 2));
    assert_eq!(row(&half.a, 9), expected(1, 3));
    assert_eq!(row(&half.b, 1), [0, 4, 8, 12, 16, 20, 24, 28].map(|lane| (lane, 0)));
    assert_eq!(row(&half.b, 15), [3, 7, 11, 15, 19, 23, 27, 31].map(|lane| (lane, 1)));
    assert_eq!(row(&half.c, 15), [(28, 2), (28, 3), (29, 2), (29, 3), (30, 2), (30, 3), (31, 2), (31, 3)]);
    let tf32 = parse("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32");
    assert_eq!(row(&tf32.a, 8), [(0, 1), (1, 1), (2, 1), (3, 1), (0, 3), (1, 3), (2, 3), (3, 3)]);
    assert_eq!(row(&tf32.b, 6), [2, 6, 10, 14, 18, 22, 26, 30].map(|lane| (lane, 1)));
}
