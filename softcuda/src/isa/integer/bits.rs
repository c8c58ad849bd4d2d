//! Shifts, counts, bit fields.

use super::{INTEGER, binary, ternary, unary};
use crate::isa::Maps;

/// Most instructions on bits take 32 or 64 of them.
macro_rules! double {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["b32" => u32, "b64" => u64] => $body)
    };
}

pub(super) fn decode<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("shl" | "shr" | "shf", _) => shifts(opcode, suffixes, maps),
        ("popc", [ty]) => double!(*ty, T => unary(maps, |a: T| a.count_ones())),
        ("clz", [ty]) => double!(*ty, T => unary(maps, |a: T| a.leading_zeros())),
        ("brev", [ty]) => double!(*ty, T => unary(maps, |a: T| a.reverse_bits())),
        ("bfind", ["shiftamt", ty]) => bfind(ty, maps, |zeros, bits| if zeros == bits { !0 } else { zeros }),
        // No bit found: `bits` zeros make it -1.
        ("bfind", [ty]) => bfind(ty, maps, |zeros, bits| (bits - 1).wrapping_sub(zeros)),
        ("fns", ["b32"]) => Some(ternary(maps, nth_set)),
        ("bfe", ["u32"]) => {
            Some(ternary(maps, |a: u32, b: u32, c: u32| unsigned_field(a.into(), b & 0xff, c & 0xff) as u32))
        }
        ("bfe", ["u64"]) => {
            Some(ternary(maps, |a: u64, b: u32, c: u32| unsigned_field(a, b & 0xff, c & 0xff)))
        }
        ("bfe", ["s32"]) => {
            Some(ternary(maps, |a: i32, b: u32, c: u32| signed_field(a.into(), b & 0xff, c & 0xff) as i32))
        }
        ("bfe", ["s64"]) => Some(ternary(maps, |a: i64, b: u32, c: u32| signed_field(a, b & 0xff, c & 0xff))),
        ("bfi", [ty]) => double!(*ty, T => maps.map4(INTEGER, |a: T, b: T, c: u32, d: u32| {
            let (position, length) = (c & 0xff, d & 0xff);
            let mask = (!T::MAX.checked_shl(length).unwrap_or(0)).checked_shl(position).unwrap_or(0);
            (b & !mask) | (a.checked_shl(position).unwrap_or(0) & mask)
        })),
        ("bmsk", ["clamp", "b32"]) => Some(binary(maps, mask)),
        ("bmsk", ["wrap", "b32"]) => Some(binary(maps, |a: u32, b: u32| mask(a & 31, b & 31))),
        ("szext", [mode @ ("clamp" | "wrap"), ty]) => {
            let limit = if *mode == "wrap" { 31 } else { !0 };
            match *ty {
                "u32" => {
                    Some(binary(maps, move |a: u32, b: u32| unsigned_field(a.into(), 0, b & limit) as u32))
                }
                "s32" => {
                    Some(binary(maps, move |a: i32, b: u32| signed_field(a.into(), 0, b & limit) as i32))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Amounts beyond the width shift everything out.
fn shifts<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    let join = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    match (opcode, suffixes) {
        ("shl", [ty]) => {
            bits!(*ty, T => binary(maps, |a: T, b: u32| a.checked_shl(b).unwrap_or(0)))
        }
        ("shr", [ty @ ("s16" | "s32" | "s64")]) => {
            signed!(*ty, T => binary(maps, |a: T, b: u32| a >> b.min(T::BITS - 1)))
        }
        ("shr", [ty]) => {
            typed!(*ty, T in ["b16" | "u16" => u16, "b32" | "u32" => u32, "b64" | "u64" => u64] => {
                binary(maps, |a: T, b: u32| a.checked_shr(b).unwrap_or(0))
            })
        }
        ("shf", ["l", "wrap", "b32"]) => {
            Some(ternary(maps, move |a: u32, b: u32, c: u32| (join(a, b) << (c & 31) >> 32) as u32))
        }
        ("shf", ["l", "clamp", "b32"]) => {
            Some(ternary(maps, move |a: u32, b: u32, c: u32| (join(a, b) << c.min(32) >> 32) as u32))
        }
        ("shf", ["r", "wrap", "b32"]) => {
            Some(ternary(maps, move |a: u32, b: u32, c: u32| (join(a, b) >> (c & 31)) as u32))
        }
        ("shf", ["r", "clamp", "b32"]) => {
            Some(ternary(maps, move |a: u32, b: u32, c: u32| (join(a, b) >> c.min(32)) as u32))
        }
        _ => None,
    }
}

/// Answers with a function of the number of leading bits that tell nothing (zeros; of a signed number, copies of the
/// sign) and of the width.
fn bfind<M: Maps>(
    ty: &str,
    maps: M,
    f: impl Fn(u32, u32) -> u32 + Copy + Send + Sync + 'static,
) -> Option<M::Output> {
    match ty {
        "u32" => Some(unary(maps, move |a: u32| f(a.leading_zeros(), 32))),
        "u64" => Some(unary(maps, move |a: u64| f(a.leading_zeros(), 64))),
        "s32" => Some(unary(maps, move |a: i32| f((a ^ (a >> 31)).leading_zeros(), 32))),
        "s64" => Some(unary(maps, move |a: i64| f((a ^ (a >> 63)).leading_zeros(), 64))),
        _ => None,
    }
}

/// Position of the `|offset|`-th set bit from `base` on, upwards or downwards; -1 for none. An offset of 0 asks whether
/// the bit at `base` is set.
fn nth_set(mask: u32, base: u32, offset: i32) -> u32 {
    if base > 31 {
        return !0;
    }
    let set = |position: u32| mask >> position & 1 != 0;
    let found = match offset {
        0 => Some(base).filter(|&position| set(position)),
        1.. => (base..32).filter(|&position| set(position)).nth(offset as usize - 1),
        _ => (0..=base).rev().filter(|&position| set(position)).nth(offset.unsigned_abs() as usize - 1),
    };
    found.unwrap_or(!0)
}

/// `length` bits from `position` on, zeros above.
#[inline(always)]
fn unsigned_field(value: u64, position: u32, length: u32) -> u64 {
    value.checked_shr(position).unwrap_or(0) & !u64::MAX.checked_shl(length).unwrap_or(0)
}

/// `length` bits from `position` on, above them copies of the uppermost one (of the sign, where the field ends beyond
/// the value). A field of no bits is 0.
#[inline(always)]
fn signed_field(value: i64, position: u32, length: u32) -> i64 {
    let unused = 64 - length.min(64);
    (value >> position.min(63)).checked_shl(unused).unwrap_or(0) >> unused.min(63)
}

/// `length` ones from `position` on.
#[inline(always)]
fn mask(position: u32, length: u32) -> u32 {
    let from = |bit| u32::MAX.checked_shl(bit).unwrap_or(0);
    from(position) & !from(position.saturating_add(length))
}
