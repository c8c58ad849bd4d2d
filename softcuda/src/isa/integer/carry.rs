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
    let (function, ty) = match (&instruction.opcode[..3], rest) {
        ("add", ["cc", ty] | [ty]) => (sum(ty)?, ty),
        ("sub", ["cc", ty] | [ty]) => (difference(ty)?, ty),
        ("mad", ["lo", "cc", ty] | ["lo", ty]) => (low_product(ty)?, ty),
        ("mad", ["hi", "cc", ty] | ["hi", ty]) => (high_product(ty)?, ty),
        _ => return None,
    };
    let inputs = if instruction.opcode.starts_with("mad") { 3 } else { 2 };
    Some(Carry { inputs, bits: if ty.ends_with("64") { 64 } else { 32 }, reads, writes, function })
}

macro_rules! unsigned {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["u32" | "s32" => u32, "u64" | "s64" => u64] => $body)
    };
}

fn sum(ty: &str) -> Option<Function> {
    unsigned!(ty, T => |a, b, _, carry| {
        let (sum, carry) = (a as T).carrying(b as T, carry);
        (u64::from(sum), carry)
    })
}

fn difference(ty: &str) -> Option<Function> {
    unsigned!(ty, T => |a, b, _, borrow| {
        let (difference, borrow) = (a as T).borrowing(b as T, borrow);
        (u64::from(difference), borrow)
    })
}

fn low_product(ty: &str) -> Option<Function> {
    unsigned!(ty, T => |a, b, c, carry| {
        let (sum, carry) = (a as T).wrapping_mul(b as T).carrying(c as T, carry);
        (u64::from(sum), carry)
    })
}

fn high_product(ty: &str) -> Option<Function> {
    match ty {
        "u32" => Some(|a, b, c, carry| high_sum_32((a as u32).high(b as u32), c, carry)),
        "s32" => Some(|a, b, c, carry| high_sum_32((a as i32).high(b as i32) as u32, c, carry)),
        "u64" => Some(|a, b, c, carry| a.high(b).carrying(c, carry)),
        "s64" => Some(|a, b, c, carry| ((a as i64).high(b as i64) as u64).carrying(c, carry)),
        _ => None,
    }
}

fn high_sum_32(high: u32, c: u64, carry: bool) -> (u64, bool) {
    let (sum, carry) = high.carrying(c as u32, carry);
    (sum.into(), carry)
}

/// One digit of a long addition or subtraction.
trait Digit: Sized {
    /// The sum and whether it is too large.
    fn carrying(self, other: Self, carry: bool) -> (Self, bool);
    /// The difference and whether it is negative.
    fn borrowing(self, other: Self, borrow: bool) -> (Self, bool);
}

macro_rules! digit {
    ($($ty:ty),+) => {
        $(impl Digit for $ty {
            fn carrying(self, other: $ty, carry: bool) -> ($ty, bool) {
                let (sum, first) = self.overflowing_add(other);
                let (sum, second) = sum.overflowing_add(carry.into());
                (sum, first | second)
            }
            fn borrowing(self, other: $ty, borrow: bool) -> ($ty, bool) {
                let (difference, first) = self.overflowing_sub(other);
                let (difference, second) = difference.overflowing_sub(borrow.into());
                (difference, first | second)
            }
        })+
    };
}

digit!(u32, u64);
