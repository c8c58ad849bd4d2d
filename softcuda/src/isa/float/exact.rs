//! Correctly rounded arithmetic: up to f32 in f64 rounded to odd, f64 in 128-bit integers.

use super::format::{Double, Format, Rounding};
use crate::isa::Element;
use std::cmp::Ordering;

/// `value`, which is the exact result rounded to nearest, rounded to odd instead: toward zero, with the lowest bit set
/// if anything was lost. Rounding that to a format with two bits less or fewer is as rounding the exact result.
/// `error` has the sign of what the exact result is more than `value`.
#[inline(always)]
fn to_odd(value: f64, error: f64) -> f64 {
    let bits = value.to_bits();
    let even = bits & 1 == 0;
    let outward = (error > 0.0) == (value > 0.0);
    let inexact = error.abs() > 0.0;
    let odd = if outward { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    f64::from_bits(if inexact && even { odd } else { bits })
}

/// `a + b` to odd. Zeros have the sign that the final rounding gives them.
#[inline(always)]
pub fn sum(a: f64, b: f64, rounding: Rounding) -> f64 {
    let sum = a + b;
    let virtual_b = sum - a;
    let error = (a - (sum - virtual_b)) + (b - virtual_b);
    if rounding == Rounding::Down && sum == 0.0 {
        return f64::from_bits((a.to_bits() | b.to_bits()) & Double::SIGN);
    }
    to_odd(sum, error)
}

/// `a / b` to odd, for operands from f32 and below.
#[inline(always)]
pub fn quotient(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    let rest = (-quotient).mul_add(b, a);
    to_odd(quotient, if b < 0.0 { -rest } else { rest })
}

/// The square root to odd, for operands from f32 and below.
#[inline(always)]
pub fn root(a: f64) -> f64 {
    let root = a.sqrt();
    to_odd(root, (-root).mul_add(root, a))
}

/// A finite number: an integer times a power of two. The lowest bit may stand for any further bits that are not zero.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    negative: bool,
    significand: u128,
    exponent: i32,
}

/// Shifts to the right; bits lost set the lowest.
fn shift_right(value: u128, by: u32) -> u128 {
    match by {
        0 => value,
        1..=127 => value >> by | u128::from(value << (128 - by) != 0),
        _ => u128::from(value != 0),
    }
}

impl Exact {
    /// From a finite f64.
    pub fn new(value: f64) -> Exact {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let mantissa = bits & ((1 << 52) - 1);
        let significand = if exponent == 0 { mantissa } else { mantissa | 1 << 52 };
        Exact {
            negative: value.is_sign_negative(),
            significand: significand.into(),
            exponent: exponent.max(1) - 1075,
        }
    }

    /// From an integer.
    pub fn integer(negative: bool, magnitude: u64) -> Exact {
        Exact { negative, significand: magnitude.into(), exponent: 0 }
    }

    /// The leading bit moved to bit 125, so that sums fit.
    fn normalised(self) -> Exact {
        let shift = self.significand.leading_zeros() as i32 - 2;
        Exact {
            significand: self.significand << shift.max(0),
            exponent: self.exponent - shift.max(0),
            ..self
        }
    }

    /// The product, of significands of up to 64 bits.
    pub fn product(self, other: Exact) -> Exact {
        Exact {
            negative: self.negative != other.negative,
            significand: self.significand * other.significand,
            exponent: self.exponent + other.exponent,
        }
    }

    /// The sum, of significands of up to 106 bits.
    pub fn sum(self, other: Exact, rounding: Rounding) -> Exact {
        let zero_is_negative = match self.negative == other.negative {
            true => self.negative,
            false => rounding == Rounding::Down,
        };
        if self.significand == 0 || other.significand == 0 {
            let nonzero = if self.significand == 0 { other } else { self };
            let negative = if nonzero.significand == 0 { zero_is_negative } else { nonzero.negative };
            return Exact { negative, ..nonzero };
        }
        let (a, b) = (self.normalised(), other.normalised());
        let (large, small) = if a.exponent >= b.exponent { (a, b) } else { (b, a) };
        // Where bits are lost the exponents differ by more than 19, so that at most one leading bit cancels.
        let shifted = shift_right(small.significand, (large.exponent - small.exponent) as u32);
        let (negative, significand) = if large.negative == small.negative {
            (large.negative, large.significand + shifted)
        } else {
            match large.significand.cmp(&shifted) {
                Ordering::Greater => (large.negative, large.significand - shifted),
                Ordering::Less => (small.negative, shifted - large.significand),
                Ordering::Equal => (zero_is_negative, 0),
            }
        };
        Exact { negative, significand, exponent: large.exponent }
    }

    /// The quotient, of significands of up to 53 bits; `other` is not zero.
    pub fn quotient(self, other: Exact) -> Exact {
        let a = self.normalised();
        let inexact = !a.significand.is_multiple_of(other.significand);
        Exact {
            negative: self.negative != other.negative,
            significand: (a.significand / other.significand) | u128::from(inexact),
            exponent: a.exponent - other.exponent,
        }
    }

    /// The square root of a number that is not negative.
    pub fn root(self) -> Exact {
        let a = self.normalised();
        let odd = a.exponent & 1;
        let square = a.significand << odd;
        let root = square.isqrt();
        Exact {
            negative: self.negative,
            significand: root << 1 | u128::from(root * root != square),
            exponent: (a.exponent - odd) / 2 - 1,
        }
    }

    /// Rounded into a format.
    pub fn round<F: Format>(self, rounding: Rounding) -> F::Bits {
        if self.significand == 0 {
            return if self.negative { F::SIGN } else { F::Bits::default() };
        }
        let bits = (128 - self.significand.leading_zeros()) as i32;
        let excess = bits - (F::TOP as i32 + 1);
        let significand = if excess > 0 {
            shift_right(self.significand, excess as u32)
        } else {
            self.significand << -excess
        };
        let significand = F::Bits::from_bits(significand as u64);
        F::round(self.negative, significand, self.exponent + excess, F::TOP, rounding)
    }
}
