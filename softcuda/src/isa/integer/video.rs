//! Video instructions: scalar ones on numbers of 33 bits, and those on two or four parts of a register.

use super::{INTEGER, Maps, binary, ternary};
use crate::ptx::ast::{Instruction, Operand};

pub(super) fn decode<M: Maps>(
    instruction: &Instruction,
    opcode: &str,
    suffixes: &[&str],
    maps: M,
) -> Option<M::Output> {
    // Operands with a selection of their parts (`%r1.h0`, also as destination) are not supported.
    let selects = |operand: &Operand| matches!(operand, Operand::Name(name) if name.contains('.'));
    if instruction.operands.iter().any(selects) {
        return None;
    }
    if opcode == "vmad" {
        return multiply(suffixes, maps);
    }
    match (opcode.strip_suffix('2'), opcode.strip_suffix('4')) {
        (Some(name), _) => parts(name, 16, suffixes, maps),
        (_, Some(name)) => parts(name, 8, suffixes, maps),
        _ => scalar(opcode, suffixes, maps),
    }
}

/// What is done to two numbers; inputs have up to 33 bits.
type Operation = fn(i64, i64) -> i64;

fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "vadd" => |a, b| a + b,
        "vsub" => |a, b| a - b,
        "vabsdiff" => |a, b| (a - b).abs(),
        "vmin" => |a, b| a.min(b),
        "vmax" => |a, b| a.max(b),
        _ => return None,
    })
}

fn comparison(name: &str) -> Option<Operation> {
    Some(match name {
        "eq" => |a, b| (a == b).into(),
        "ne" => |a, b| (a != b).into(),
        "lt" => |a, b| (a < b).into(),
        "le" => |a, b| (a <= b).into(),
        "gt" => |a, b| (a > b).into(),
        "ge" => |a, b| (a >= b).into(),
        _ => return None,
    })
}

fn shift(name: &str, mode: &str) -> Option<Operation> {
    Some(match (name, mode) {
        // Shifted by 32, all that matters is the sign and that the result is too large.
        ("vshl", "clamp") => |a, b| {
            let amount = b.min(32);
            a.min(i64::MAX >> amount) << amount
        },
        ("vshl", "wrap") => |a, b| a << (b & 31),
        ("vshr", "clamp") => |a, b| a >> b.min(32),
        ("vshr", "wrap") => |a, b| a >> (b & 31),
        _ => return None,
    })
}

/// `.u32` or `.s32`, in instructions on parts also of a part.
#[derive(Clone, Copy)]
struct Sign(bool);

impl Sign {
    fn parse(ty: &str) -> Option<Sign> {
        match ty {
            "u32" => Some(Sign(false)),
            "s32" => Some(Sign(true)),
            _ => None,
        }
    }

    /// The number in the lower bits.
    fn extend(self, raw: u32, bits: u32) -> i64 {
        let unused = 64 - bits;
        let upper = u64::from(raw) << unused;
        if self.0 { upper as i64 >> unused } else { (upper >> unused) as i64 }
    }

    /// The nearest number that so many bits hold.
    fn clamp(self, value: i64, bits: u32) -> i64 {
        let (low, high) =
            if self.0 { (-1 << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
        value.clamp(low, high)
    }
}

/// An instruction on numbers of up to 32 bits.
#[derive(Clone, Copy)]
struct Video {
    a: Sign,
    b: Sign,
    result: Sign,
    saturate: bool,
    operation: Operation,
}

impl Video {
    fn parse(result: &str, a: &str, b: &str, saturate: bool, operation: Operation) -> Option<Video> {
        let (a, b, result) = (Sign::parse(a)?, Sign::parse(b)?, Sign::parse(result)?);
        Some(Video { a, b, result, saturate, operation })
    }

    /// Of numbers of so many bits; the result may be longer.
    fn apply(self, a: u32, b: u32, bits: u32) -> i64 {
        let value = (self.operation)(self.a.extend(a, bits), self.b.extend(b, bits));
        if self.saturate { self.result.clamp(value, bits) } else { value }
    }
}

/// Suffixes without `sat`, and whether it was there; it stands behind the types.
fn without_saturation<'a>(suffixes: &[&'a str]) -> (Vec<&'a str>, bool) {
    let rest: Vec<&str> = suffixes.iter().copied().filter(|&suffix| suffix != "sat").collect();
    let saturate = rest.len() < suffixes.len();
    (rest, saturate)
}

fn scalar<M: Maps>(name: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    let (suffixes, saturate) = without_saturation(suffixes);
    let (video, second) = match (name, suffixes.as_slice()) {
        ("vset", [a, b, test, second @ ..]) if !saturate => {
            (Video::parse("u32", a, b, false, comparison(test)?)?, second)
        }
        ("vshl" | "vshr", [result, a, "u32", mode, second @ ..]) => {
            (Video::parse(result, a, "u32", saturate, shift(name, mode)?)?, second)
        }
        (_, [result, a, b, second @ ..]) => (Video::parse(result, a, b, saturate, operation(name)?)?, second),
        _ => return None,
    };
    // The second operation is done on what fits the destination.
    let combine: fn(i64, i64) -> i64 = match second {
        [] => return Some(binary(maps, move |a: u32, b: u32| video.apply(a, b, 32) as u32)),
        ["add"] => |value, c| value.wrapping_add(c),
        ["min"] => |value, c| value.min(c),
        ["max"] => |value, c| value.max(c),
        _ => return None,
    };
    Some(ternary(maps, move |a: u32, b: u32, c: u32| {
        let value = video.result.extend(video.apply(a, b, 32) as u32, 32);
        combine(value, video.result.extend(c, 32)) as u32
    }))
}

/// Parts of so many bits: each result takes its part's place, or all of them are added to the third operand.
fn parts<M: Maps>(name: &str, bits: u32, suffixes: &[&str], maps: M) -> Option<M::Output> {
    let (suffixes, saturate) = without_saturation(suffixes);
    let average: Operation = |a, b| (a + b + i64::from(a + b >= 0)) >> 1;
    let (video, second) = match (name, suffixes.as_slice()) {
        ("vset", [a, b, test, second @ ..]) if !saturate => {
            (Video::parse("u32", a, b, false, comparison(test)?)?, second)
        }
        ("vavrg", [result, a, b, second @ ..]) => (Video::parse(result, a, b, saturate, average)?, second),
        (_, [result, a, b, second @ ..]) => (Video::parse(result, a, b, saturate, operation(name)?)?, second),
        _ => return None,
    };
    let part = move |a: u32, b: u32, place: u32| video.apply(a >> place, b >> place, bits);
    match second {
        [] => {
            let mask = (1 << bits) - 1;
            Some(maps.rarely().map3(INTEGER, move |a: u32, b: u32, _: u32| {
                (0..32 / bits).fold(0, |d, i| d | (part(a, b, i * bits) as u32 & mask) << (i * bits))
            }))
        }
        ["add"] if !saturate => Some(maps.rarely().map3(INTEGER, move |a: u32, b: u32, c: u32| {
            (0..32 / bits).fold(c, |d, i| d.wrapping_add(part(a, b, i * bits) as u32))
        })),
        _ => None,
    }
}

/// `vmad`: a product of 64 bits plus c, plus one for `.po`, scaled.
fn multiply<M: Maps>(suffixes: &[&str], maps: M) -> Option<M::Output> {
    let [result, a, b, rest @ ..] = suffixes else { return None };
    Sign::parse(result)?;
    let (a_sign, b_sign) = (Sign::parse(a)?, Sign::parse(b)?);
    let (one, rest) = match rest {
        ["po", rest @ ..] => (1, rest),
        _ => (0, rest),
    };
    let (rest, saturate) = without_saturation(rest);
    let scale = match rest.as_slice() {
        [] => 0,
        ["shr7"] => 7,
        ["shr15"] => 15,
        _ => return None,
    };
    let sign = Sign(a_sign.0 | b_sign.0);
    Some(ternary(maps, move |a: u32, b: u32, c: u32| {
        let product = i128::from(a_sign.extend(a, 32)) * i128::from(b_sign.extend(b, 32));
        let value = (product + i128::from(sign.extend(c, 32)) + one) >> scale;
        // Clamping to 64 bits first changes nothing: the result has 32.
        let fits = value.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        if saturate { sign.clamp(fits, 32) as u32 } else { value as u32 }
    }))
}
