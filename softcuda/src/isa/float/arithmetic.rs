//! Correctly rounded arithmetic, and operations on signs and order.

use super::Modes;
use super::exact::{self, Exact};
use super::format::{Brain, Double, Format, Half, Rounding, Single};
use super::lift::{Binary, Ternary, Unary, binary, ternary, unary, work};
use crate::isa::{Element, Maps};
use crate::model::counters::Class;
use crate::ptx::ast::{self, Type};

/// Correctly rounded arithmetic in a format.
pub trait Arithmetic: Format {
    /// `a + b`
    #[inline(always)]
    fn add(a: Self::Bits, b: Self::Bits, rounding: Rounding) -> Self::Bits {
        Self::narrow(exact::sum(Self::widen(a), Self::widen(b), rounding), rounding)
    }

    /// `a * b`
    #[inline(always)]
    fn mul(a: Self::Bits, b: Self::Bits, rounding: Rounding) -> Self::Bits {
        Self::narrow(Self::widen(a) * Self::widen(b), rounding)
    }

    /// `a * b + c`, rounded once
    #[inline(always)]
    fn fma(a: Self::Bits, b: Self::Bits, c: Self::Bits, rounding: Rounding) -> Self::Bits {
        Self::narrow(exact::sum(Self::widen(a) * Self::widen(b), Self::widen(c), rounding), rounding)
    }

    /// `a / b`
    #[inline(always)]
    fn div(a: Self::Bits, b: Self::Bits, rounding: Rounding) -> Self::Bits {
        Self::narrow(exact::quotient(Self::widen(a), Self::widen(b)), rounding)
    }

    /// The square root.
    #[inline(always)]
    fn sqrt(a: Self::Bits, rounding: Rounding) -> Self::Bits {
        Self::narrow(exact::root(Self::widen(a)), rounding)
    }
}

impl Arithmetic for Half {}
impl Arithmetic for Brain {}

/// The processor's result to nearest, else the exact one rounded.
#[inline(always)]
fn single(nearest: f32, exact: impl FnOnce() -> f64, rounding: Rounding) -> u32 {
    if rounding != Rounding::Nearest {
        Single::narrow(exact(), rounding)
    } else if nearest.is_nan() {
        Single::NAN
    } else {
        nearest.to_bits()
    }
}

impl Arithmetic for Single {
    #[inline(always)]
    fn add(a: u32, b: u32, rounding: Rounding) -> u32 {
        let exact = || exact::sum(Self::widen(a), Self::widen(b), rounding);
        single(Self::value(a) + Self::value(b), exact, rounding)
    }

    #[inline(always)]
    fn mul(a: u32, b: u32, rounding: Rounding) -> u32 {
        single(Self::value(a) * Self::value(b), || Self::widen(a) * Self::widen(b), rounding)
    }

    #[inline(always)]
    fn fma(a: u32, b: u32, c: u32, rounding: Rounding) -> u32 {
        let exact = || exact::sum(Self::widen(a) * Self::widen(b), Self::widen(c), rounding);
        single(Self::value(a).mul_add(Self::value(b), Self::value(c)), exact, rounding)
    }

    #[inline(always)]
    fn div(a: u32, b: u32, rounding: Rounding) -> u32 {
        let exact = || exact::quotient(Self::widen(a), Self::widen(b));
        single(Self::value(a) / Self::value(b), exact, rounding)
    }

    #[inline(always)]
    fn sqrt(a: u32, rounding: Rounding) -> u32 {
        single(Self::value(a).sqrt(), || exact::root(Self::widen(a)), rounding)
    }
}

/// The processor's result to nearest or where rounding has no part in it, else the exact one rounded. A NaN among the
/// operands is handed on, made quiet.
#[inline(always)]
fn double<const N: usize>(
    nearest: f64,
    operands: [u64; N],
    exact: impl FnOnce([Exact; N]) -> Exact,
    rounding: Rounding,
) -> u64 {
    let rounded = rounding != Rounding::Nearest && !nearest.is_nan();
    if rounded && operands.iter().all(|bits| f64::from_bits(*bits).is_finite()) {
        return exact(operands.map(|bits| Exact::new(f64::from_bits(bits)))).round::<Double>(rounding);
    }
    let first = operands
        .into_iter()
        .rev()
        .fold(Double::NAN, |nan, bits| if Double::is_nan(bits) { bits | 1 << 51 } else { nan });
    if nearest.is_nan() { first } else { nearest.to_bits() }
}

impl Arithmetic for Double {
    #[inline(always)]
    fn add(a: u64, b: u64, rounding: Rounding) -> u64 {
        let exact = |[a, b]: [Exact; 2]| a.sum(b, rounding);
        double(Self::value(a) + Self::value(b), [a, b], exact, rounding)
    }

    #[inline(always)]
    fn mul(a: u64, b: u64, rounding: Rounding) -> u64 {
        let exact = |[a, b]: [Exact; 2]| a.product(b);
        double(Self::value(a) * Self::value(b), [a, b], exact, rounding)
    }

    #[inline(always)]
    fn fma(a: u64, b: u64, c: u64, rounding: Rounding) -> u64 {
        let exact = |[a, b, c]: [Exact; 3]| a.product(b).sum(c, rounding);
        double(Self::value(a).mul_add(Self::value(b), Self::value(c)), [a, b, c], exact, rounding)
    }

    #[inline(always)]
    fn div(a: u64, b: u64, rounding: Rounding) -> u64 {
        let by_zero = Self::value(b) == 0.0;
        let rounding = if by_zero { Rounding::Nearest } else { rounding };
        let exact = |[a, b]: [Exact; 2]| a.quotient(b);
        double(Self::value(a) / Self::value(b), [a, b], exact, rounding)
    }

    #[inline(always)]
    fn sqrt(a: u64, rounding: Rounding) -> u64 {
        double(Self::value(a).sqrt(), [a], |[a]| a.root(), rounding)
    }
}

/// Defines operations that are methods of [`Arithmetic`].
macro_rules! operation {
    ($name:ident: $trait:ident($($operand:ident),+), |$rounding:ident, $format:ident| $result:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl $trait for $name {
            #[inline(always)]
            fn apply<$format: Arithmetic>(self, $($operand: $format::Bits,)+ $rounding: Rounding) -> $format::Bits {
                $result
            }
        }
    };
}

operation!(Add: Binary(a, b), |rounding, F| F::add(a, b, rounding));
operation!(Sub: Binary(a, b), |rounding, F| {
    // A NaN is handed on as it is.
    F::add(a, if F::is_nan(b) { b } else { b ^ F::SIGN }, rounding)
});
operation!(Mul: Binary(a, b), |rounding, F| F::mul(a, b, rounding));
operation!(Fma: Ternary(a, b, c), |rounding, F| F::fma(a, b, c, rounding));
operation!(Div: Binary(a, b), |rounding, F| F::div(a, b, rounding));
operation!(Rcp: Unary(a), |rounding, F| F::div(F::ONE, a, rounding));
operation!(Sqrt: Unary(a), |rounding, F| F::sqrt(a, rounding));
operation!(Neg: Unary(a), |_rounding, F| a ^ F::SIGN);
operation!(Abs: Unary(a), |_rounding, F| a & !F::SIGN);
operation!(Copysign: Binary(a, b), |_rounding, F| a & F::SIGN | b & !F::SIGN);

/// `div.approx.f32`: what is documented to be zero is.
#[derive(Clone, Copy)]
struct DivApprox;

impl Binary for DivApprox {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, b: F::Bits, rounding: Rounding) -> F::Bits {
        let quotient = F::div(a, b, rounding);
        let divisor = b & !F::SIGN;
        // Between 2^126 and 2^128 the reciprocal is subnormal.
        let limit = F::Bits::from_bits(u64::from(253u32) << F::MANTISSA);
        if divisor <= limit || divisor >= F::INFINITY || F::is_nan(quotient) {
            quotient
        } else if a & !F::SIGN == F::INFINITY {
            F::NAN
        } else {
            quotient & F::SIGN
        }
    }
}

/// `min` and `max`.
#[derive(Clone, Copy)]
struct Extreme {
    greatest: bool,
    /// `.NaN`: a NaN operand gives NaN
    nan: bool,
    /// `.abs`: of the magnitudes
    abs: bool,
    /// `.xorsign`: the result's sign is that of the product
    xorsign: bool,
}

impl Extreme {
    /// Of two numbers, without modifiers: -0 is less than +0, a NaN yields to a number.
    #[inline(always)]
    fn of<F: Format>(a: F::Bits, b: F::Bits, greatest: bool) -> F::Bits {
        // A NaN operand is replaced by the other one.
        let (x, y) = (if F::is_nan(a) { b } else { a }, if F::is_nan(b) { a } else { b });
        // As integers numbers are in order, negative ones in reverse and above the positive ones.
        let any_negative = (x | y) & F::SIGN != F::Bits::default();
        let less = (x < y) != any_negative;
        let result = if less != greatest { x } else { y };
        if F::is_nan(result) { F::NAN } else { result }
    }

    #[inline(always)]
    fn of_two<F: Format>(self, a: F::Bits, b: F::Bits) -> F::Bits {
        let sign = (a ^ b) & F::SIGN;
        let magnitude = |bits: F::Bits| if self.abs { bits & !F::SIGN } else { bits };
        let result = Self::of::<F>(magnitude(a), magnitude(b), self.greatest);
        if F::is_nan(result) || (self.nan && (F::is_nan(a) || F::is_nan(b))) {
            F::NAN
        } else if self.xorsign {
            result & !F::SIGN | sign
        } else {
            result
        }
    }
}

impl Binary for Extreme {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, b: F::Bits, _rounding: Rounding) -> F::Bits {
        self.of_two::<F>(a, b)
    }
}

impl Ternary for Extreme {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, b: F::Bits, c: F::Bits, _rounding: Rounding) -> F::Bits {
        self.of_two::<F>(self.of_two::<F>(a, b), c)
    }
}

/// `min` without modifiers.
#[derive(Clone, Copy)]
struct Min;

impl Binary for Min {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, b: F::Bits, _rounding: Rounding) -> F::Bits {
        Extreme::of::<F>(a, b, false)
    }
}

/// `max` without modifiers.
#[derive(Clone, Copy)]
struct Max;

impl Binary for Max {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, b: F::Bits, _rounding: Rounding) -> F::Bits {
        Extreme::of::<F>(a, b, true)
    }
}

/// `add.f32.f16` and the like: the last operand is an f32, those before it are narrower.
fn mixed<N: Arithmetic<Bits = u32>, M: Maps>(opcode: &str, maps: M, modes: Modes) -> Option<M::Output> {
    let widened = |bits: u32| Single::narrow(N::widen(bits), Rounding::Nearest);
    let subtract = opcode == "sub";
    match opcode {
        "add" | "sub" => Some(maps.map2(work(Class::Float, 1, Type::F32), move |a: u32, c: u32| {
            let c = if subtract { c ^ Single::SIGN } else { c };
            modes.close::<Single>(Single::add(widened(a), c, modes.rounding))
        })),
        "fma" => Some(maps.map3(work(Class::Fma, 2, Type::F32), move |a: u32, b: u32, c: u32| {
            modes.close::<Single>(Single::fma(widened(a), widened(b), c, modes.rounding))
        })),
        _ => None,
    }
}

/// What an instruction of this file does.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let opcode = instruction.opcode.as_str();
    let types = instruction.types();
    let allowed = match opcode {
        "add" | "sub" | "mul" => "rn rz rm rp ftz sat noftz",
        "fma" | "mad" => "rn rz rm rp ftz sat relu",
        "div" => "rn rz rm rp ftz approx full",
        "rcp" | "sqrt" => "rn rz rm rp ftz approx",
        "neg" | "abs" => "ftz",
        "min" | "max" => "ftz NaN xorsign abs",
        _ => "",
    };
    let modes = Modes::read(&instruction.suffixes, allowed)?;
    let ty = match types.as_slice() {
        [ty] => *ty,
        [Type::F32, Type::F16] => return mixed::<Half, M>(opcode, maps, modes),
        [Type::F32, Type::Bf16] => return mixed::<Brain, M>(opcode, maps, modes),
        _ => return None,
    };
    let of = |class, flops| work(class, flops, ty);
    let wide = matches!(ty, Type::F32 | Type::F64);
    match opcode {
        "add" => binary(maps, ty, modes, of(Class::Float, 1), Add),
        "sub" => binary(maps, ty, modes, of(Class::Float, 1), Sub),
        "mul" => binary(maps, ty, modes, of(Class::Float, 1), Mul),
        "fma" | "mad" => ternary(maps, ty, modes, of(Class::Fma, 2), Fma),
        "div" if wide && instruction.has("approx") => {
            binary(maps, ty, modes, of(Class::Special, 1), DivApprox)
        }
        "div" if wide => binary(maps, ty, modes, of(Class::Special, 1), Div),
        "rcp" if ty == Type::F64 && instruction.has("approx") => {
            Some(super::approximate::gross(maps, |a| 1.0 / a))
        }
        "rcp" if wide => unary(maps, ty, modes, of(Class::Special, 1), Rcp),
        "sqrt" if wide => unary(maps, ty, modes, of(Class::Special, 1), Sqrt),
        "neg" => unary(maps, ty, modes, of(Class::Float, 0), Neg),
        "abs" => unary(maps, ty, modes, of(Class::Float, 0), Abs),
        "copysign" if wide => binary(maps, ty, modes, of(Class::Float, 0), Copysign),
        "min" | "max" => {
            let greatest = opcode == "max";
            let (nan, abs, xorsign) =
                (instruction.has("NaN"), instruction.has("abs"), instruction.has("xorsign"));
            let general = Extreme { greatest, nan, abs, xorsign };
            let of = of(Class::Float, 0);
            if instruction.operands.len() == 4 {
                ternary(maps, ty, modes, of, general)
            } else if nan || abs || xorsign {
                binary(maps, ty, modes, of, general)
            } else if greatest {
                binary(maps, ty, modes, of, Max)
            } else {
                binary(maps, ty, modes, of, Min)
            }
        }
        _ => None,
    }
}
