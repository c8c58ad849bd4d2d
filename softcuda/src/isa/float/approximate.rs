//! Approximate functions, computed in f64 and rounded: well within the errors that the PTX ISA allows.

use super::Modes;
use super::arithmetic::Arithmetic;
use super::format::{Double, Format, Rounding};
use super::lift::{Unary, unary, work};
use crate::isa::{Maps, Work};
use crate::model::counters::Class;
use crate::ptx::ast::{self, Type};

/// Two to the power of `x`, with a relative error below 2^-40, for f32 and below.
#[inline(always)]
fn exp2(x: f64) -> f64 {
    /// Powers of the logarithm of two over factorials.
    const TERMS: [f64; 11] = {
        let mut terms = [1.0; 11];
        let mut k = 1;
        while k < terms.len() {
            terms[k] = terms[k - 1] * std::f64::consts::LN_2 / k as f64;
            k += 1;
        }
        terms
    };
    // Outside of this an f32 is zero or infinite.
    let bounded = if x > -200.0 { x } else { -200.0 };
    let bounded = if bounded < 200.0 { bounded } else { 200.0 };
    // Adding this leaves the nearest integer in the low bits.
    const SHIFT: f64 = 6755399441055744.0;
    let shifted = bounded + SHIFT;
    let rest = bounded - (shifted - SHIFT);
    let power = TERMS.iter().rev().fold(0.0, |sum, term| sum * rest + term);
    let scale = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x.is_nan() { x } else { power * scale }
}

/// The logarithm to base two, with an absolute or relative error below 2^-38, for f32 and below.
#[inline(always)]
fn log2(x: f64) -> f64 {
    /// Twice the odd reciprocals, in units of the logarithm of two.
    const TERMS: [f64; 8] = {
        let mut terms = [0.0; 8];
        let mut k = 0;
        while k < terms.len() {
            terms[k] = 2.0 / (2 * k + 1) as f64 / std::f64::consts::LN_2;
            k += 1;
        }
        terms
    };
    let bits = x.to_bits();
    // The mantissa in 1/sqrt(2) .. sqrt(2).
    const ROOT_HALF: u64 = 0x3fe6_a09e_667f_3bcd;
    let exponent = (bits.wrapping_sub(ROOT_HALF) as i64) >> 52;
    let mantissa = f64::from_bits(bits.wrapping_sub((exponent << 52) as u64));
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = TERMS.iter().rev().fold(0.0, |sum, term| sum * square + term);
    let logarithm = exponent as i32 as f64 + ratio * series;
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x == f64::INFINITY {
        x
    } else if x > 0.0 {
        logarithm
    } else {
        f64::NAN
    }
}

/// An approximate function.
#[derive(Clone, Copy)]
struct Approximate<T>(T);

impl<T: Fn(f64) -> f64 + Copy + Send + Sync + 'static> Unary for Approximate<T> {
    #[inline(always)]
    fn apply<F: Arithmetic>(self, a: F::Bits, rounding: Rounding) -> F::Bits {
        F::narrow((self.0)(F::widen(a)), rounding)
    }
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: of the upper halves of an f64.
pub fn gross<M: Maps>(maps: M, f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static) -> M::Output {
    const UPPER: u64 = 0xffff_ffff << 32;
    maps.map1(Work::double(Class::Special, 1), move |a: u64| {
        let result = f(f64::from_bits(Double::flush(a & UPPER)));
        if result.is_nan() { 0x7fff_ffff << 32 } else { Double::flush(result.to_bits() & UPPER) }
    })
}

/// What an instruction of this file does.
pub fn decode<M: Maps>(instruction: &ast::Instruction, maps: M) -> Option<M::Output> {
    let opcode = instruction.opcode.as_str();
    let modes = Modes::read(&instruction.suffixes, "approx ftz")?;
    let [ty] = instruction.types()[..] else { return None };
    let work = work(Class::Special, 1, ty);
    let narrow = matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2);
    if !instruction.has("approx") {
        return None;
    }
    let root = |a: f64| 1.0 / a.sqrt();
    match (opcode, ty) {
        ("rsqrt", Type::F64) if modes.ftz => Some(gross(maps, root)),
        ("rsqrt", Type::F32 | Type::F64) => unary(maps, ty, modes, work, Approximate(root)),
        ("sin", Type::F32) => unary(maps, ty, modes, work, Approximate(f64::sin)),
        ("cos", Type::F32) => unary(maps, ty, modes, work, Approximate(f64::cos)),
        ("lg2", Type::F32) => unary(maps, ty, modes, work, Approximate(log2)),
        ("tanh", ty) if narrow || ty == Type::F32 => unary(maps, ty, modes, work, Approximate(f64::tanh)),
        ("ex2", ty) if narrow || ty == Type::F32 => unary(maps, ty, modes, work, Approximate(exp2)),
        _ => None,
    }
}
