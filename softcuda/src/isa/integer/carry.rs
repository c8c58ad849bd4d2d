//! Sums and differences of numbers of several registers: `add.cc`, `addc`, `sub.cc`, `subc`, `mad.cc`, `madc`.

use super::arithmetic::Multiply;
use crate::ptx::ast::Instruction;

/// An instruction that reads or writes the carry flag: the single bit a thread has beside its registers.
///
/// The interpreter keeps the flag of every thread. For each active lane it calls [`apply`](Carry::apply) with the
/// inputs (zero-extended; where there are two, anything as the third) and the lane's flag, writes the result to the
/// destination, which has [`bits`](Carry::bits), and, where the instruction [`writes`](Carry::writes) it, the new flag.
/// Such an instruction counts as [`Class::Integer`](crate::model::counters::Class::Integer).
#[derive(Clone, Copy, Debug)]
pub struct Carry {
    /// Number of operands behind the destination: 2, or 3 for `mad` and `madc`.
    pub inputs: usize,
    /// Width of the inputs and the result: 32 or 64.
    pub bits: u32,
    /// Whether the flag is an input.
    pub reads: bool,
    /// Whether the flag is a result.
    pub writes: bool,
    function: Function,
}

/// Inputs a, b, c and the flag to the result and the new flag.
type Function = fn(u64, u64, u64, bool) -> (u64, bool);

impl Carry {
    /// The result and the new flag: the carry of a sum, the borrow of a difference. A flag that the instruction does
    /// not read makes no difference.
    #[inline]
    pub fn apply(&self, a: u64, b: u64, c: u64, carry: bool) -> (u64, bool) {
        (self.function)(a, b, c, carry & self.reads)
    }
}

/// The instruction's use of the carry flag; `None` for one that has none.
pub fn decode_carry(instruction: &Instruction) -> Option<Carry> {
    let suffixes: Vec<&str> = instruction.suffixes.iter().map(String::as_str).collect();
    // In `add.cc` the suffix makes the instruction one with a flag, in `addc.cc` it is optional.
    let (reads, rest) = match (instruction.opcode.as_str(), suffixes.as_slice()) {
        ("add" | "sub" | "mad", rest) => (false, rest),
        ("addc" | "subc" | "madc", rest) => (true, rest),
        _ => return None,
    };
    let writes = rest.contains(&"cc");
    if !reads && !writes {
        return None;
    }
    let (operation, ty) = match (&instruction.opcode[..3], rest) {
        ("add", ["cc", ty] | [ty]) => ("sum", *ty),
        ("sub", ["cc", ty] | [ty]) => ("difference", *ty),
        ("mad", [half @ ("lo" | "hi"), "cc", ty] | [half @ ("lo" | "hi"), ty]) => (*half, *ty),
        _ => return None,
    };
    let bits = match ty {
        "u32" | "s32" => 32,
        "u64" | "s64" => 64,
        _ => return None,
    };
    let inputs = if operation == "lo" || operation == "hi" { 3 } else { 2 };
    Some(Carry { inputs, bits, reads, writes, function: function(operation, ty)? })
}

fn function(operation: &str, ty: &str) -> Option<Function> {
    Some(match (operation, ty) {
        ("sum", "u32" | "s32") => |a, b, _, carry| sum::<32>(a, b, carry),
        ("sum", _) => |a, b, _, carry| sum::<64>(a, b, carry),
        ("difference", "u32" | "s32") => |a, b, _, borrow| difference::<32>(a, b, borrow),
        ("difference", _) => |a, b, _, borrow| difference::<64>(a, b, borrow),
        ("lo", "u32" | "s32") => |a, b, c, carry| sum::<32>(a.wrapping_mul(b), c, carry),
        ("lo", _) => |a, b, c, carry| sum::<64>(a.wrapping_mul(b), c, carry),
        ("hi", "u32") => |a, b, c, carry| sum::<32>((a as u32).high(b as u32).into(), c, carry),
        ("hi", "s32") => |a, b, c, carry| sum::<32>((a as i32).high(b as i32) as u64, c, carry),
        ("hi", "u64") => |a, b, c, carry| sum::<64>(a.high(b), c, carry),
        ("hi", "s64") => |a, b, c, carry| sum::<64>((a as i64).high(b as i64) as u64, c, carry),
        _ => return None,
    })
}

/// The sum of the lower bits, and whether it has more.
fn sum<const BITS: u32>(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let mask = u64::MAX >> (64 - BITS);
    let sum = u128::from(a & mask) + u128::from(b & mask) + u128::from(carry);
    (sum as u64 & mask, sum >> BITS != 0)
}

/// The difference of the lower bits, and whether it is negative.
fn difference<const BITS: u32>(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let mask = u64::MAX >> (64 - BITS);
    let difference = i128::from(a & mask) - i128::from(b & mask) - i128::from(borrow);
    (difference as u64 & mask, difference < 0)
}
