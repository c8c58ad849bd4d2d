//! Moves and choices: nothing but bits, floats among them.

use super::{PREDICATE, ternary, unary};
use crate::isa::Maps;
use crate::ptx::ast::{Instruction, Operand};

/// All types by their width.
macro_rules! any {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in [
            "b16" | "u16" | "s16" | "f16" | "bf16" => u16,
            "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => u32,
            "b64" | "u64" | "s64" | "f64" => u64,
        ] => $body)
    };
}

pub(super) fn decode<M: Maps>(
    instruction: &Instruction,
    opcode: &str,
    suffixes: &[&str],
    maps: M,
) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("mov", _) if !instruction.operands.iter().all(is_single) => None,
        ("mov", ["pred"]) => Some(maps.map1(PREDICATE, |a: bool| a)),
        ("mov", [ty]) => any!(*ty, T => unary(maps, |a: T| a)),
        ("selp", [ty]) => any!(*ty, T => ternary(maps, |a: T, b: T, c: bool| if c { a } else { b })),
        ("slct", [ty, "s32"]) => {
            any!(*ty, T => ternary(maps, |a: T, b: T, c: i32| if c >= 0 { a } else { b }))
        }
        ("slct", [ty, "f32"]) => any!(*ty, T => ternary(maps, |a: T, b: T, c: u32| {
            if f32::from_bits(c) >= 0.0 { a } else { b }
        })),
        // Subnormal numbers count as 0.
        ("slct", ["ftz", ty, "f32"]) => any!(*ty, T => ternary(maps, |a: T, b: T, c: u32| {
            if f32::from_bits(c) >= 0.0 || c & 0x7f80_0000 == 0 { a } else { b }
        })),
        _ => None,
    }
}

/// Whether an operand is one value.
fn is_single(operand: &Operand) -> bool {
    matches!(
        operand,
        Operand::Name(_)
            | Operand::Not(_)
            | Operand::Integer(_)
            | Operand::F32(_)
            | Operand::F64(_)
            | Operand::Sink
    )
}
