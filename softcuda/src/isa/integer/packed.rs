//! Several integers in a register: pairs of 16 bits, dot products.

use super::{Lane, binary, ternary};
use crate::isa::Maps;

pub(super) fn decode<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("add", ["u16x2" | "s16x2"]) => Some(pairs(maps, u16::wrapping_add)),
        ("min", ["u16x2"]) => Some(pairs(maps, u16::min)),
        ("min", ["s16x2"]) => Some(pairs(maps, i16::min)),
        ("min", ["relu", "s16x2"]) => Some(pairs(maps, |a: i16, b: i16| a.min(b).max(0))),
        ("max", ["u16x2"]) => Some(pairs(maps, u16::max)),
        ("max", ["s16x2"]) => Some(pairs(maps, i16::max)),
        ("max", ["relu", "s16x2"]) => Some(pairs(maps, |a: i16, b: i16| a.max(b).max(0))),
        ("dp4a", [a, b]) => {
            typed!(*a, A in ["u32" => u8, "s32" => i8] => typed!(*b, B in ["u32" => u8, "s32" => i8] => {
                ternary(maps, |a: u32, b: u32, c: u32| {
                    (0..4).fold(c, |sum, i| {
                        let product = i32::from((a >> (8 * i)) as A) * i32::from((b >> (8 * i)) as B);
                        sum.wrapping_add(product as u32)
                    })
                })
            })?)
        }
        ("dp2a", [half @ ("lo" | "hi"), a, b]) => {
            let first = if *half == "lo" { 0 } else { 16 };
            typed!(*a, A in ["u32" => u16, "s32" => i16] => typed!(*b, B in ["u32" => u8, "s32" => i8] => {
                ternary(maps, move |a: u32, b: u32, c: u32| {
                    (0..2).fold(c, |sum, i| {
                        let product = i32::from((a >> (16 * i)) as A) * i32::from((b >> (first + 8 * i)) as B);
                        sum.wrapping_add(product as u32)
                    })
                })
            })?)
        }
        _ => None,
    }
}

/// The same for both halves.
fn pairs<M: Maps, T: Lane<Raw = u32>>(
    maps: M,
    f: impl Fn(T, T) -> T + Copy + Send + Sync + 'static,
) -> M::Output {
    let half = move |a: u32, b: u32| f(T::read(a), T::read(b)).write();
    binary(maps, move |a: u32, b: u32| half(a, b) | (half(a >> 16, b >> 16) << 16))
}
