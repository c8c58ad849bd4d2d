//! Floating-point instructions: arithmetic, approximate functions, comparisons, selection.

mod approximate;
mod arithmetic;
mod compare;
pub mod exact;
pub mod format;
mod lift;

#[cfg(test)]
pub(super) mod tests;

use super::Maps;
use crate::ptx::ast;
use format::{Format, Rounding};

/// What an instruction's suffixes say of how operands are read and results rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    /// `.rn`, `.rz`, `.rm`, `.rp`, `.rna`; to nearest where none is written
    pub rounding: Rounding,
    /// `.ftz`: subnormal operands and results count as zero
    pub ftz: bool,
    /// `.sat`: results are clamped to `0 ..= 1`
    pub sat: bool,
    /// `.relu`: negative results become zero
    pub relu: bool,
}

impl Modes {
    /// None but rounding to nearest.
    pub const PLAIN: Modes = Modes { rounding: Rounding::Nearest, ftz: false, sat: false, relu: false };
    /// `.ftz` alone.
    pub const FTZ: Modes = Modes { ftz: true, ..Modes::PLAIN };

    /// Of suffixes all of which are types or among the `allowed`, words with spaces between.
    pub fn read(suffixes: &[String], allowed: &str) -> Option<Modes> {
        let has = |suffix: &str| suffixes.iter().any(|s| s == suffix);
        let known = |suffix: &String| {
            ast::Type::parse(suffix).is_some() || allowed.split(' ').any(|word| word == suffix)
        };
        suffixes.iter().all(known).then(|| Modes {
            rounding: [
                ("rna", Rounding::Away),
                ("rz", Rounding::Zero),
                ("rm", Rounding::Down),
                ("rp", Rounding::Up),
            ]
            .into_iter()
            .find_map(|(suffix, rounding)| has(suffix).then_some(rounding))
            .unwrap_or(Rounding::Nearest),
            ftz: has("ftz"),
            sat: has("sat"),
            relu: has("relu"),
        })
    }

    /// An operand as the instruction reads it.
    #[inline(always)]
    pub fn open<F: Format>(self, bits: F::Bits) -> F::Bits {
        if self.ftz { F::flush(bits) } else { bits }
    }

    /// A result as the instruction writes it.
    #[inline(always)]
    pub fn close<F: Format>(self, bits: F::Bits) -> F::Bits {
        let bits = if self.ftz { F::flush(bits) } else { bits };
        let bits = if self.sat { F::saturate(bits) } else { bits };
        if self.relu { F::rectify(bits) } else { bits }
    }
}

/// What a floating-point instruction does, `None` where its form is not known.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    match instruction.opcode.as_str() {
        "add" | "sub" | "mul" | "fma" | "mad" | "div" | "rcp" | "sqrt" | "neg" | "abs" | "min" | "max"
        | "copysign" => arithmetic::decode(instruction, maps),
        "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => approximate::decode(instruction, maps),
        "testp" | "set" | "setp" | "selp" | "slct" => compare::decode(instruction, maps),
        _ => None,
    }
}
