//! Logic on bits and on predicates.

use super::{PREDICATE, binary, ternary, unary};
use crate::isa::{Maps, immediate};
use crate::ptx::ast::Instruction;

pub(super) fn decode<M: Maps>(
    instruction: &Instruction,
    opcode: &str,
    suffixes: &[&str],
    maps: M,
) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("and", ["pred"]) => Some(maps.map2(PREDICATE, |a: bool, b: bool| a & b)),
        ("or", ["pred"]) => Some(maps.map2(PREDICATE, |a: bool, b: bool| a | b)),
        ("xor", ["pred"]) => Some(maps.map2(PREDICATE, |a: bool, b: bool| a ^ b)),
        ("not", ["pred"]) => Some(maps.map1(PREDICATE, |a: bool| !a)),
        ("and", [ty]) => bits!(*ty, T => binary(maps, |a: T, b: T| a & b)),
        ("or", [ty]) => bits!(*ty, T => binary(maps, |a: T, b: T| a | b)),
        ("xor", [ty]) => bits!(*ty, T => binary(maps, |a: T, b: T| a ^ b)),
        ("not", [ty]) => bits!(*ty, T => unary(maps, |a: T| !a)),
        ("cnot", [ty]) => bits!(*ty, T => unary(maps, |a: T| T::from(a == 0))),
        ("lop3", ["b32"]) => Some(ternary(maps, by_table(immediate(instruction, 4)? as u8))),
        _ => None,
    }
}

/// The function of three bits whose value for `a b c` is that bit of the table.
fn by_table(table: u8) -> impl Fn(u32, u32, u32) -> u32 + Copy + Send + Sync + 'static {
    let rows: [u32; 8] = std::array::from_fn(|row| u32::from(table >> row & 1).wrapping_neg());
    let pick = |bits: u32, zero: u32, one: u32| zero ^ (bits & (zero ^ one));
    move |a, b, c| {
        let pair = |row: usize| pick(c, rows[row], rows[row + 1]);
        pick(a, pick(b, pair(0), pair(2)), pick(b, pair(4), pair(6)))
    }
}
