//! Comparisons, tests and selections.

use super::Modes;
use super::format::{Brain, Double, Format, Half, Single};
use super::lift::unpack;
use crate::isa::{Element, Maps, Work};
use crate::model::counters::Class;
use crate::ptx::ast::{self, Type};
use std::cmp::Ordering;

/// A comparison: for which outcomes it holds.
#[derive(Clone, Copy)]
struct Comparison {
    less: bool,
    equal: bool,
    greater: bool,
    unordered: bool,
}

impl Comparison {
    /// `.eq`, `.ltu`, `.nan`; also the unsigned `.lo`, `.ls`, `.hi`, `.hs`.
    fn read(instruction: &ast::Instruction) -> Option<Comparison> {
        let (less, equal, greater, unordered) = match instruction.suffixes.first()?.as_str() {
            "eq" => (false, true, false, false),
            "ne" => (true, false, true, false),
            "lt" | "lo" => (true, false, false, false),
            "le" | "ls" => (true, true, false, false),
            "gt" | "hi" => (false, false, true, false),
            "ge" | "hs" => (false, true, true, false),
            "equ" => (false, true, false, true),
            "neu" => (true, false, true, true),
            "ltu" => (true, false, false, true),
            "leu" => (true, true, false, true),
            "gtu" => (false, false, true, true),
            "geu" => (false, true, true, true),
            "num" => (true, true, true, false),
            "nan" => (false, false, false, true),
            _ => return None,
        };
        Some(Comparison { less, equal, greater, unordered })
    }

    /// Whether it holds.
    #[inline(always)]
    fn holds<T: PartialOrd>(self, a: T, b: T) -> bool {
        let (less, equal, greater) = (a < b, a == b, a > b);
        let unordered = !(less | equal | greater);
        self.less & less | self.equal & equal | self.greater & greater | self.unordered & unordered
    }

    /// Whether it holds for two numbers of a format.
    #[inline(always)]
    fn of<F: Format>(self, modes: Modes, a: F::Bits, b: F::Bits) -> bool {
        self.holds(F::value(modes.open::<F>(a)), F::value(modes.open::<F>(b)))
    }

    /// Whether it holds for the low and for the high halves of packed pairs.
    #[inline(always)]
    fn of_pairs<F: Format<Bits = u32>>(self, modes: Modes, a: u32, b: u32) -> [bool; 2] {
        let (a, b) = (unpack(a), unpack(b));
        [self.of::<F>(modes, a[0], b[0]), self.of::<F>(modes, a[1], b[1])]
    }
}

/// How a comparison's outcome and a predicate combine.
#[derive(Clone, Copy)]
enum Combination {
    And,
    Or,
    Xor,
}

impl Combination {
    /// The suffix behind the comparison, if it is one.
    fn read(instruction: &ast::Instruction) -> Option<Combination> {
        match instruction.suffixes.get(1)?.as_str() {
            "and" => Some(Combination::And),
            "or" => Some(Combination::Or),
            "xor" => Some(Combination::Xor),
            _ => None,
        }
    }

    #[inline(always)]
    fn of(self, a: bool, b: bool) -> bool {
        match self {
            Combination::And => a & b,
            Combination::Or => a | b,
            Combination::Xor => a ^ b,
        }
    }
}

/// The suffixes of `setp` and `set`.
fn read(instruction: &ast::Instruction) -> Option<(Comparison, Option<Combination>, Modes)> {
    let comparison = Comparison::read(instruction)?;
    let combination = Combination::read(instruction);
    let rest = if combination.is_some() { 2 } else { 1 };
    Some((comparison, combination, Modes::read(&instruction.suffixes[rest..], "ftz")?))
}

/// `setp` on numbers: the outcome and its opposite.
fn predicates<F: Format, M: Maps>(
    maps: M,
    modes: Modes,
    comparison: Comparison,
    combination: Option<Combination>,
) -> M::Output {
    let work = Work::of(Class::Predicate);
    let plain = move |a: F::Bits, b: F::Bits| comparison.of::<F>(Modes::PLAIN, a, b);
    let general = move |a: F::Bits, b: F::Bits| comparison.of::<F>(modes, a, b);
    match combination {
        Some(combination) => maps.compare3(work, move |a: F::Bits, b: F::Bits, c| {
            let holds = general(a, b);
            (combination.of(holds, c), combination.of(!holds, c))
        }),
        None if modes == Modes::PLAIN => maps.compare2(work, move |a: F::Bits, b: F::Bits| {
            let holds = plain(a, b);
            (holds, !holds)
        }),
        None => maps.rarely().compare2(work, move |a: F::Bits, b: F::Bits| {
            let holds = general(a, b);
            (holds, !holds)
        }),
    }
}

/// `setp` on packed pairs: the outcomes of the low and the high halves.
fn pair_predicates<F: Format<Bits = u32>, M: Maps>(
    maps: M,
    modes: Modes,
    comparison: Comparison,
    combination: Option<Combination>,
) -> M::Output {
    let work = Work::of(Class::Predicate);
    let halves = move |a: u32, b: u32| comparison.of_pairs::<F>(modes, a, b);
    match combination {
        Some(combination) => maps.rarely().compare3(work, move |a: u32, b: u32, c| {
            let [low, high] = halves(a, b);
            (combination.of(low, c), combination.of(high, c))
        }),
        None => maps.rarely().compare2(work, move |a: u32, b: u32| halves(a, b).into()),
    }
}

fn setp<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let (comparison, combination, modes) = read(instruction)?;
    let [ty] = instruction.types()[..] else { return None };
    Some(match ty {
        Type::F32 => predicates::<Single, M>(maps, modes, comparison, combination),
        Type::F64 => predicates::<Double, M>(maps, modes, comparison, combination),
        Type::F16 => predicates::<Half, M>(maps, modes, comparison, combination),
        Type::Bf16 => predicates::<Brain, M>(maps, modes, comparison, combination),
        Type::F16x2 => pair_predicates::<Half, M>(maps, modes, comparison, combination),
        Type::Bf16x2 => pair_predicates::<Brain, M>(maps, modes, comparison, combination),
        _ => return None,
    })
}

/// `set` on two operands whose outcome is known: a value where it holds, else zero; on packed pairs of both halves.
fn outcomes<A: Element, M: Maps>(
    maps: M,
    combination: Option<Combination>,
    [low, high]: [u32; 2],
    outcomes: impl Fn(A, A) -> [bool; 2] + Copy + Send + Sync + 'static,
) -> M::Output {
    let work = Work::of(Class::Predicate);
    let write = move |p: bool, q: bool| (if p { low } else { 0 }) | (if q { high } else { 0 });
    match combination {
        Some(combination) => maps.rarely().map3(work, move |a: A, b: A, c: bool| {
            let [p, q] = outcomes(a, b);
            write(combination.of(p, c), combination.of(q, c))
        }),
        None => maps.rarely().map2(work, move |a: A, b: A| {
            let [p, q] = outcomes(a, b);
            write(p, q)
        }),
    }
}

/// `set` with operands in a floating-point format.
fn set_numbers<F: Format, M: Maps>(
    maps: M,
    modes: Modes,
    comparison: Comparison,
    combination: Option<Combination>,
    value: u32,
) -> M::Output {
    let holds = move |a: F::Bits, b: F::Bits| [comparison.of::<F>(modes, a, b), false];
    outcomes(maps, combination, [value, 0], holds)
}

/// `set` with packed pairs.
fn set_pairs<F: Format<Bits = u32>, M: Maps>(
    maps: M,
    modes: Modes,
    comparison: Comparison,
    combination: Option<Combination>,
    value: u32,
) -> M::Output {
    let value = value & 0xffff;
    let holds = move |a: u32, b: u32| comparison.of_pairs::<F>(modes, a, b);
    outcomes(maps, combination, [value, value << 16], holds)
}

/// `set` with integers of so many bits.
fn set_integers<A: Element, M: Maps>(
    maps: M,
    comparison: Comparison,
    combination: Option<Combination>,
    value: u32,
    (signed, bits): (bool, u32),
) -> M::Output {
    // In the upper bits, and there in the order of unsigned numbers.
    let key = move |a: A| (a.to_bits() << (64 - bits)) ^ (u64::from(signed) << 63);
    let holds = move |a: A, b: A| [comparison.holds(key(a), key(b)), false];
    outcomes(maps, combination, [value, 0], holds)
}

fn set<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let (comparison, combination, modes) = read(instruction)?;
    let [to, from] = instruction.types()[..] else { return None };
    let value = match to {
        Type::Unsigned(32) | Type::Signed(32) => u32::MAX,
        Type::Unsigned(16) | Type::Signed(16) => 0xffff,
        Type::F32 => Single::ONE,
        Type::F16 | Type::F16x2 => Half::ONE,
        Type::Bf16 | Type::Bf16x2 => Brain::ONE,
        _ => return None,
    };
    Some(match from {
        Type::F32 => set_numbers::<Single, M>(maps, modes, comparison, combination, value),
        Type::F64 => set_numbers::<Double, M>(maps, modes, comparison, combination, value),
        Type::F16 => set_numbers::<Half, M>(maps, modes, comparison, combination, value),
        Type::Bf16 => set_numbers::<Brain, M>(maps, modes, comparison, combination, value),
        Type::F16x2 => set_pairs::<Half, M>(maps, modes, comparison, combination, value),
        Type::Bf16x2 => set_pairs::<Brain, M>(maps, modes, comparison, combination, value),
        Type::Bits(bits) | Type::Unsigned(bits) | Type::Signed(bits) if to == Type::F32 => {
            let kind = (matches!(from, Type::Signed(_)), bits);
            match bits {
                16 | 32 => set_integers::<u32, M>(maps, comparison, combination, value, kind),
                64 => set_integers::<u64, M>(maps, comparison, combination, value, kind),
                _ => return None,
            }
        }
        _ => return None,
    })
}

/// `testp`: what kind of number. Zeros count as normal.
fn testp<F: Format, M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let (zero, subnormal, normal, infinite, nan) = match instruction.suffixes.first()?.as_str() {
        "finite" => (true, true, true, false, false),
        "infinite" => (false, false, false, true, false),
        "number" => (true, true, true, true, false),
        "notanumber" => (false, false, false, false, true),
        "normal" => (true, false, true, false, false),
        "subnormal" => (false, true, false, false, false),
        _ => return None,
    };
    Some(maps.rarely().map1(Work::of(Class::Predicate), move |a: F::Bits| {
        let magnitude = a & !F::SIGN;
        match magnitude.cmp(&F::INFINITY) {
            Ordering::Greater => nan,
            Ordering::Equal => infinite,
            Ordering::Less if magnitude >= F::NORMAL => normal,
            Ordering::Less if magnitude == F::Bits::default() => zero,
            Ordering::Less => subnormal,
        }
    }))
}

/// `slct`: chooses by the sign of the last operand.
fn slct<A: Element, M: Maps>(maps: M, modes: Modes, float: bool) -> M::Output {
    let work = Work::of(Class::Integer);
    if float {
        maps.rarely().map3(
            work,
            move |a: A, b: A, c: u32| {
                if Single::value(modes.open::<Single>(c)) >= 0.0 { a } else { b }
            },
        )
    } else {
        maps.rarely().map3(work, move |a: A, b: A, c: u32| if c as i32 >= 0 { a } else { b })
    }
}

/// What an instruction of this file does.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let types = instruction.types();
    match (instruction.opcode.as_str(), types.as_slice()) {
        ("setp", _) => setp(instruction, maps),
        ("set", _) => set(instruction, maps),
        ("testp", [Type::F32]) => testp::<Single, M>(instruction, maps),
        ("testp", [Type::F64]) => testp::<Double, M>(instruction, maps),
        ("selp", [ty @ (Type::F32 | Type::F64)]) => {
            Modes::read(&instruction.suffixes, "")?;
            let work = Work::of(Class::Integer);
            Some(match ty {
                Type::F32 => maps.map3(work, |a: u32, b: u32, c: bool| if c { a } else { b }),
                _ => maps.map3(work, |a: u64, b: u64, c: bool| if c { a } else { b }),
            })
        }
        ("slct", [ty, by]) if [*ty, *by].iter().any(|ty| matches!(ty, Type::F32 | Type::F64)) => {
            let modes = Modes::read(&instruction.suffixes, "ftz")?;
            match (ty.bits(), by) {
                (16 | 32, Type::F32 | Type::Signed(32)) => {
                    Some(slct::<u32, M>(maps, modes, *by == Type::F32))
                }
                (64, Type::F32 | Type::Signed(32)) => Some(slct::<u64, M>(maps, modes, *by == Type::F32)),
                _ => None,
            }
        }
        _ => None,
    }
}
