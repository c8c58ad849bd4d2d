//! `prmt`: any four bytes of two registers.

use super::ternary;
use crate::isa::Maps;

pub(super) fn decode<M: Maps>(suffixes: &[&str], maps: M) -> Option<M::Output> {
    // What the lower two bits of c stand for in the modes: a selector of the default mode.
    let selectors = match suffixes {
        ["b32"] => return Some(ternary(maps, permute)),
        ["b32", "f4e"] => [0x3210, 0x4321, 0x5432, 0x6543],
        ["b32", "b4e"] => [0x5670, 0x6701, 0x7012, 0x0123],
        ["b32", "rc8"] => [0x0000, 0x1111, 0x2222, 0x3333],
        ["b32", "ecl"] => [0x3210, 0x3211, 0x3222, 0x3333],
        ["b32", "ecr"] => [0x0000, 0x1110, 0x2210, 0x3210],
        ["b32", "rc16"] => [0x1010, 0x3232, 0x1010, 0x3232],
        _ => return None,
    };
    Some(ternary(maps, move |a, b, c: u32| permute(a, b, selectors[(c & 3) as usize])))
}

/// Byte i of the result is the one of `b:a` that nibble i of the selector numbers; with the nibble's upper bit, eight
/// copies of that byte's sign.
#[inline(always)]
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    (0..4).fold(0, |result, i| {
        let nibble = selector >> (4 * i);
        let word = if nibble & 4 == 0 { a } else { b };
        let byte = (word >> (8 * (nibble & 3))) & 0xff;
        let signs = (byte >> 7) * 0xff;
        result | ((if nibble & 8 == 0 { byte } else { signs }) << (8 * i))
    })
}
