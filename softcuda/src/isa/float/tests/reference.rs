//! Numbers with as many bits as they need, and from them what rounding is by definition: a result is right if the
//! exact value lies on the right side of it and of its neighbours.

use crate::isa::float::format::{Format, Rounding};
use std::cmp::Ordering;

/// An integer of any size times a power of two.
#[derive(Clone, Debug)]
pub struct Dyadic {
    negative: bool,
    /// Least significant first.
    digits: Vec<u32>,
    exponent: i32,
}

impl Dyadic {
    pub fn integer(value: i128) -> Dyadic {
        let digits = (0..4).map(|i| (value.unsigned_abs() >> (32 * i)) as u32).collect();
        Dyadic { negative: value < 0, digits, exponent: 0 }
    }

    pub fn scaled(self, exponent: i32) -> Dyadic {
        Dyadic { exponent: self.exponent + exponent, ..self }
    }

    /// The value of a finite number of a format, read from its bits.
    pub fn of<F: Format>(bits: u64) -> Dyadic {
        let mantissa = bits & ((1 << F::MANTISSA) - 1);
        let exponent = (bits >> F::MANTISSA & ((1 << F::EXPONENT) - 1)) as i32;
        let bias = (1 << (F::EXPONENT - 1)) - 1;
        let negative = bits >> (F::MANTISSA + F::EXPONENT) & 1 != 0;
        let significand = if exponent == 0 { mantissa } else { mantissa + (1 << F::MANTISSA) };
        let value = Dyadic::integer(significand.into());
        let value = value.scaled(exponent.max(1) - bias - F::MANTISSA as i32);
        Dyadic { negative, ..value }
    }

    pub fn is_zero(&self) -> bool {
        self.digits.iter().all(|digit| *digit == 0)
    }

    pub fn negated(self) -> Dyadic {
        Dyadic { negative: !self.negative, ..self }
    }

    pub fn is_negative(&self) -> bool {
        self.negative && !self.is_zero()
    }

    /// The same with a lower exponent.
    fn with_exponent(&self, exponent: i32) -> Vec<u32> {
        let shift = (self.exponent - exponent) as usize;
        let mut digits = vec![0; shift / 32];
        let mut carry = 0u64;
        for digit in &self.digits {
            carry |= u64::from(*digit) << (shift % 32);
            digits.push(carry as u32);
            carry >>= 32;
        }
        digits.push(carry as u32);
        digits
    }

    /// Both as integers with the same number of digits, and their common exponent.
    fn aligned(&self, other: &Dyadic) -> (Vec<u32>, Vec<u32>, i32) {
        let exponent = self.exponent.min(other.exponent);
        let (mut a, mut b) = (self.with_exponent(exponent), other.with_exponent(exponent));
        let length = a.len().max(b.len());
        a.resize(length, 0);
        b.resize(length, 0);
        (a, b, exponent)
    }

    fn compare_magnitudes(&self, other: &Dyadic) -> Ordering {
        let (a, b, _) = self.aligned(other);
        a.iter().rev().cmp(b.iter().rev())
    }

    pub fn compare(&self, other: &Dyadic) -> Ordering {
        match (self.is_negative(), other.is_negative()) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.compare_magnitudes(other),
            (true, true) => other.compare_magnitudes(self),
        }
    }

    pub fn plus(&self, other: &Dyadic) -> Dyadic {
        let (large, small) = match self.compare_magnitudes(other) {
            Ordering::Less => (other, self),
            _ => (self, other),
        };
        let (mut digits, b, exponent) = large.aligned(small);
        let sign = if large.negative == small.negative { 1 } else { -1 };
        let mut carry = 0i64;
        for (digit, b) in digits.iter_mut().zip(b) {
            carry += i64::from(*digit) + sign * i64::from(b);
            *digit = carry as u32;
            carry >>= 32;
        }
        digits.push(carry as u32);
        Dyadic { negative: large.negative, digits, exponent }
    }

    pub fn times(&self, other: &Dyadic) -> Dyadic {
        let mut digits = vec![0u32; self.digits.len() + other.digits.len() + 1];
        for (i, a) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (j, digit) in digits[i..].iter_mut().enumerate() {
                let b = other.digits.get(j).copied().unwrap_or(0);
                carry += u64::from(*a) * u64::from(b) + u64::from(*digit);
                *digit = carry as u32;
                carry >>= 32;
            }
        }
        Dyadic { negative: self.negative != other.negative, digits, exponent: self.exponent + other.exponent }
    }
}

/// How a finite exact result, which need not be dyadic, compares to a number.
pub type Exactly<'a> = &'a dyn Fn(&Dyadic) -> Ordering;

/// Whether `bits` are the exact result, neither zero nor infinite, rounded. Zeros must have the result's sign.
pub fn is_rounded<F: Format>(bits: u64, exact: Exactly, rounding: Rounding) -> bool {
    use crate::isa::Element;
    let sign = F::SIGN.to_bits();
    let infinity = F::INFINITY.to_bits();
    let negative = exact(&Dyadic::integer(0)) == Ordering::Less;
    let magnitude = bits & !sign;
    if magnitude > infinity || (bits & sign != 0) != negative {
        return false;
    }
    // The exact magnitude against one of the format's, past the largest as if exponents went on.
    let against = |value: &Dyadic| {
        if negative { exact(&value.clone().negated()).reverse() } else { exact(value) }
    };
    let here = against(&Dyadic::of::<F>(magnitude));
    let above = Dyadic::of::<F>(magnitude + 1);
    let outward = match rounding {
        Rounding::Up => Some(!negative),
        Rounding::Down => Some(negative),
        Rounding::Zero => Some(false),
        Rounding::Nearest | Rounding::Away => None,
    };
    let below = magnitude.checked_sub(1).map(Dyadic::of::<F>);
    let middle = |a: &Dyadic, b: &Dyadic| a.plus(b).scaled(-1);
    match outward {
        Some(false) => {
            here.is_ge() && magnitude < infinity && (magnitude + 1 == infinity || against(&above).is_lt())
        }
        Some(true) => {
            (magnitude == infinity || here.is_le()) && below.is_none_or(|below| against(&below).is_gt())
        }
        None => {
            let this = Dyadic::of::<F>(magnitude);
            let tie_to_this = rounding == Rounding::Nearest && magnitude & 1 == 0;
            let away = rounding == Rounding::Away;
            let low = below.is_none_or(|below| {
                let ordering = against(&middle(&below, &this));
                ordering.is_gt() || (ordering.is_eq() && (tie_to_this || away))
            });
            let ordering = against(&middle(&this, &above));
            let high = magnitude == infinity || ordering.is_lt() || (ordering.is_eq() && tie_to_this);
            low && high
        }
    }
}

/// Numbers of a format where mistakes hide: zeros, subnormals, the neighbours of powers of two, the largest,
/// infinities, NaNs, and numbers from a sequence of pseudorandom bits with both wide and near exponents.
pub fn samples<F: Format>(random: usize) -> Vec<u64> {
    use crate::isa::Element;
    let (sign, infinity, one) = (F::SIGN.to_bits(), F::INFINITY.to_bits(), F::ONE.to_bits());
    let normal = F::NORMAL.to_bits();
    let mut magnitudes =
        vec![0, 1, 2, 3, normal - 1, normal, normal + 1, one - 1, one, one + 1, one + normal / 2];
    magnitudes.extend([
        one + normal,
        one + 3 * normal / 2,
        one - normal,
        infinity - 2,
        infinity - 1,
        infinity,
    ]);
    magnitudes.extend([infinity + 1, infinity + normal - 1, infinity + normal / 2, one + 5 * normal]);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for i in 0..random {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let bits = (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ bits >> 32) & (sign - 1);
        // Every other one near one, every fourth with few bits.
        let near = if i % 2 == 0 { bits } else { one + bits % (8 * normal) - 4 * normal };
        magnitudes.push(if i % 4 == 3 { near & !(normal / 2 - 1) } else { near });
    }
    magnitudes.iter().flat_map(|magnitude| [*magnitude, magnitude | sign]).collect()
}
