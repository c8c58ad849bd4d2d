//! Integers: arithmetic, bits, logic, comparison, selection, moves, video instructions. What needs the carry flag is
//! in [`carry`].

use super::{Element, Maps, Work};
use crate::model::counters::Class;
use crate::ptx::ast;

/// Evaluates an expression with `$T` standing for the Rust type that a type suffix names; `None` for a suffix that is
/// not listed.
macro_rules! typed {
    ($suffix:expr, $T:ident in [$($name:pat => $rust:ty),+ $(,)?] => $body:expr) => {
        match $suffix {
            $($name => {
                type $T = $rust;
                Some($body)
            })+
            _ => None,
        }
    };
}

/// [`typed!`] for `.u16` to `.s64`.
macro_rules! integers {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in [
            "u16" => u16, "s16" => i16, "u32" => u32, "s32" => i32, "u64" => u64, "s64" => i64,
        ] => $body)
    };
}

/// [`typed!`] for `.u16` to `.s64` where the sign makes no difference.
macro_rules! words {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["u16" | "s16" => u16, "u32" | "s32" => u32, "u64" | "s64" => u64] => $body)
    };
}

/// [`typed!`] for `.s16` to `.s64`.
macro_rules! signed {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["s16" => i16, "s32" => i32, "s64" => i64] => $body)
    };
}

/// [`typed!`] for `.b16` to `.b64`.
macro_rules! bits {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["b16" => u16, "b32" => u32, "b64" => u64] => $body)
    };
}

mod arithmetic;
mod bits;
pub mod carry;
mod compare;
mod logic;
mod packed;
mod permute;
mod selection;
mod video;

#[cfg(test)]
mod tests;

const INTEGER: Work = Work::of(Class::Integer);
const PREDICATE: Work = Work::of(Class::Predicate);

/// What an integer instruction does to a lane; `None` for a form that is not known.
///
/// Constants may have any bits above the instruction's type: they are not looked at. `lop3` is a
/// [`map3`](Maps::map3): its table, the last operand, is read here.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let suffixes: Vec<&str> = instruction.suffixes.iter().map(String::as_str).collect();
    let (opcode, suffixes) = (instruction.opcode.as_str(), suffixes.as_slice());
    match opcode {
        "add" | "sub" | "mul" | "mad" | "mul24" | "mad24" | "sad" | "div" | "rem" | "abs" | "neg" | "min"
        | "max" => match suffixes {
            [.., "u16x2" | "s16x2"] => packed::decode(opcode, suffixes, maps),
            _ => arithmetic::decode(opcode, suffixes, maps),
        },
        "dp4a" | "dp2a" => packed::decode(opcode, suffixes, maps),
        "shl" | "shr" | "shf" | "popc" | "clz" | "bfind" | "fns" | "brev" | "bfe" | "bfi" | "bmsk"
        | "szext" => bits::decode(opcode, suffixes, maps),
        "prmt" => permute::decode(suffixes, maps),
        "and" | "or" | "xor" | "not" | "cnot" | "lop3" => logic::decode(instruction, opcode, suffixes, maps),
        "setp" | "set" => compare::decode(opcode, suffixes, maps),
        "mov" | "selp" | "slct" => selection::decode(instruction, opcode, suffixes, maps),
        _ if opcode.starts_with('v') => video::decode(instruction, opcode, suffixes, maps),
        _ => None,
    }
}

/// A Rust type for what a register holds.
trait Lane: Copy + Send + Sync + 'static {
    /// What such a register is read as.
    type Raw: Element;
    /// The value; bits above it are not looked at.
    fn read(raw: Self::Raw) -> Self;
    /// With zeros above.
    fn write(self) -> Self::Raw;
}

macro_rules! lane {
    ($($ty:ty as $unsigned:ty as $raw:ty),+) => {
        $(impl Lane for $ty {
            type Raw = $raw;
            #[inline(always)]
            fn read(raw: $raw) -> $ty {
                raw as $ty
            }
            #[inline(always)]
            fn write(self) -> $raw {
                self as $unsigned as $raw
            }
        })+
    };
}

lane!(u16 as u16 as u32, i16 as u16 as u32, u32 as u32 as u32);
lane!(i32 as u32 as u32, u64 as u64 as u64, i64 as u64 as u64);

impl Lane for bool {
    type Raw = bool;
    #[inline(always)]
    fn read(raw: bool) -> bool {
        raw
    }
    #[inline(always)]
    fn write(self) -> bool {
        self
    }
}

fn unary<M: Maps, A: Lane, R: Lane>(maps: M, f: impl Fn(A) -> R + Copy + Send + Sync + 'static) -> M::Output {
    maps.map1(INTEGER, move |a| f(A::read(a)).write())
}

fn binary<M: Maps, A: Lane, B: Lane, R: Lane>(
    maps: M,
    f: impl Fn(A, B) -> R + Copy + Send + Sync + 'static,
) -> M::Output {
    maps.map2(INTEGER, move |a, b| f(A::read(a), B::read(b)).write())
}

fn ternary<M: Maps, A: Lane, B: Lane, C: Lane, R: Lane>(
    maps: M,
    f: impl Fn(A, B, C) -> R + Copy + Send + Sync + 'static,
) -> M::Output {
    maps.map3(INTEGER, move |a, b, c| f(A::read(a), B::read(b), C::read(c)).write())
}
