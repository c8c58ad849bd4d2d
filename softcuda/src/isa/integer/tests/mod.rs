//! Instructions against Rust's own integers of more bits, loops over single bits and the tables of the PTX ISA.

mod arithmetic;
mod bits;
mod carry;
mod compare;
mod logic;
mod selection;
mod video;

use super::decode;
use crate::isa::Work;
use crate::isa::testing::{Lane, Single, instruction};
use crate::model::counters::Class;
use proptest::prelude::*;

/// What an instruction does, and how it counts.
fn decoded(text: &str) -> (Work, Lane) {
    decode(&instruction(text), Single).unwrap_or_else(|| panic!("not decoded: {text}"))
}

/// What an instruction does, by its name with suffixes.
fn lane(name: &str, inputs: usize) -> Lane {
    let operands = ["d", "a", "b", "c", "e"][..=inputs].join(", ");
    decoded(&format!("{name} {operands}")).1
}

/// Whether an instruction is not known.
fn refused(text: &str) -> bool {
    decode(&instruction(text), Single).is_none()
}

/// Integer types by suffix: name, bits, sign.
const INTEGERS: [(&str, u32, bool); 6] = [
    ("u16", 16, false),
    ("s16", 16, true),
    ("u32", 32, false),
    ("s32", 32, true),
    ("u64", 64, false),
    ("s64", 64, true),
];

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// The number that bits stand for.
fn number(raw: u64, bits: u32, signed: bool) -> i128 {
    let raw = i128::from(raw & mask(bits));
    if signed && raw >> (bits - 1) != 0 { raw - (1 << bits) } else { raw }
}

/// The bits of a number, of so many.
fn wrapped(value: i128, bits: u32) -> u64 {
    value as u64 & mask(bits)
}

/// 0, 1, -1, the extremes and their neighbours.
fn edges(bits: u32) -> Vec<u64> {
    let top = 1 << (bits - 1);
    vec![
        0,
        1,
        2,
        mask(bits),
        mask(bits) - 1,
        top,
        top + 1,
        top - 1,
        top - 2,
        0x55555555_55555555 & mask(bits),
    ]
}

/// Bits of which often only a few at either end are set.
fn raw() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| value >> shift),
        (any::<u64>(), 0u32..64).prop_map(|(value, shift)| ((value as i64) >> shift) as u64),
        prop::sample::select(edges(64)),
        prop::sample::select(edges(32)),
        prop::sample::select(edges(16)),
    ]
}

/// Checks a function of two numbers on all pairs of edges and a few others.
fn check2(name: &str, bits: u32, expected: impl Fn(u64, u64) -> u64) {
    let lane = lane(name, 2);
    let mut values = edges(bits);
    values.extend([3, 7, 10, 100, 0x1234_5678_9abc_def0 & mask(bits)]);
    for &a in &values {
        for &b in &values {
            assert_eq!(lane(&[a, b]), [expected(a, b)], "{name} of {a:#x}, {b:#x}");
        }
    }
}

#[test]
fn corpus_decodes() {
    let opcodes = [
        "abs",
        "add",
        "and",
        "bfe",
        "bfi",
        "bfind",
        "brev",
        "clz",
        "div",
        "dp2a",
        "dp4a",
        "lop3",
        "mad",
        "max",
        "min",
        "mov",
        "mul",
        "neg",
        "not",
        "or",
        "popc",
        "prmt",
        "rem",
        "sad",
        "selp",
        "setp",
        "shf",
        "shl",
        "shr",
        "sub",
        "vabsdiff4",
        "xor",
        "addc",
    ];
    let text = include_str!("../../../../tests/ptx/opcodes.txt");
    let mut count = 0;
    for name in text.lines().map(|line| line.split('\t').next().unwrap()) {
        let mut parts = name.split('.');
        let opcode = parts.next().unwrap();
        let suffixes: Vec<&str> = parts.collect();
        let float = ["f16", "f16x2", "bf16", "bf16x2", "f32", "f64"].contains(suffixes.last().unwrap_or(&""))
            && !["mov", "selp"].contains(&opcode);
        if !opcodes.contains(&opcode) || float {
            continue;
        }
        let instruction = instruction(&format!("{name} d, a, b, c, 0x80"));
        let operands = if opcode == "mov" { 2 } else { 5 };
        let instruction = crate::ptx::ast::Instruction {
            operands: instruction.operands[..operands].to_vec(),
            ..instruction
        };
        let known = decode(&instruction, Single).is_some();
        assert!(known ^ super::carry::decode_carry(&instruction).is_some(), "{name}");
        count += 1;
    }
    assert!(count >= 99, "{count} instructions of the corpus");
}

#[test]
fn forms_of_others_are_refused() {
    let forms = [
        "add.f32 d, a, b",
        "fma.rn.f32 d, a, b, c",
        "add.cc.u32 d, a, b",
        "setp.lt.f32 p, a, b",
        "min.f16 d, a, b",
        "ld.global.u32 d, [a]",
        "vote.sync.any.pred p, q, m",
        "add.sat.u32 d, a, b",
        "mul.wide.s64 d, a, b",
        "setp.lo.s32 p, a, b",
        "setp.lt.b32 p, a, b",
        "neg.u32 d, a",
        "mov.b64 d, {a, b}",
        "mov.b32 {a, b}, d",
        "mov.u64 d, name+4",
        "lop3.b32 d, a, b, c, e",
        "lop3.or.b32 d|p, a, b, c, 0x80, q",
        "add.u8 d, a, b",
        "vadd.u32.u32.u32 d, a.b0, b",
        "vadd4.u32.u32.u32 d.b0, a, b, c",
        "volatile d",
        "v d",
    ];
    for form in forms {
        assert!(refused(form), "{form}");
    }
}

#[test]
fn classes() {
    let class = |text| decoded(text).0;
    assert_eq!(class("add.s32 d, a, b"), Work::of(Class::Integer));
    assert_eq!(class("mov.f32 d, a"), Work::of(Class::Integer));
    assert_eq!(class("selp.f32 d, a, b, p"), Work::of(Class::Integer));
    assert_eq!(class("lop3.b32 d, a, b, c, 0x80"), Work::of(Class::Integer));
    assert_eq!(class("vadd4.u32.u32.u32 d, a, b, c"), Work::of(Class::Integer));
    for predicate in [
        "setp.lt.s32 p, a, b",
        "set.lt.u32.s32 d, a, b",
        "and.pred p, q, r",
        "not.pred p, q",
        "mov.pred p, q",
    ] {
        assert_eq!(class(predicate), Work::of(Class::Predicate), "{predicate}");
    }
}
