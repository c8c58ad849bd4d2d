//! Binary floating-point formats as bits, and rounding into them.

use crate::isa::Element;
use std::ops::{BitAnd, BitOr, BitXor, Not};

/// How a result that a format cannot hold is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// To the nearest, ties away from zero.
    Away,
    /// Toward zero.
    Zero,
    /// Toward negative infinity.
    Down,
    /// Toward positive infinity.
    Up,
}

/// An unsigned integer that holds a format's bits.
pub trait Bits:
    Element
    + Ord
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
    + std::fmt::Debug
{
}

impl Bits for u32 {}
impl Bits for u64 {}

/// A binary format: sign, exponent, mantissa. NaNs lie above infinity.
pub trait Format: Copy + Send + Sync + 'static {
    /// What holds its bits.
    type Bits: Bits;
    /// A type that holds its values and compares them.
    type Value: PartialOrd + Copy;
    /// Bits of the mantissa, without the leading one.
    const MANTISSA: u32;
    /// Bits of the exponent.
    const EXPONENT: u32;
    /// The sign bit.
    const SIGN: Self::Bits;
    /// Infinity; in a format without one, its NaN.
    const INFINITY: Self::Bits;
    /// The largest finite value.
    const LARGEST: Self::Bits;
    /// The smallest normal value.
    const NORMAL: Self::Bits;
    /// One.
    const ONE: Self::Bits;
    /// The NaN that operations give.
    const NAN: Self::Bits;

    /// The value.
    fn value(bits: Self::Bits) -> Self::Value;
    /// The value, exactly.
    fn widen(bits: Self::Bits) -> f64;

    /// The exponent of one.
    const BIAS: i32 = (1 << (Self::EXPONENT - 1)) - 1;

    /// Whether it is a NaN.
    #[inline(always)]
    fn is_nan(bits: Self::Bits) -> bool {
        bits & !Self::SIGN > Self::INFINITY
    }

    /// Subnormal numbers as zeros of the same sign.
    #[inline(always)]
    fn flush(bits: Self::Bits) -> Self::Bits {
        if bits & Self::INFINITY == Self::Bits::default() { bits & Self::SIGN } else { bits }
    }

    /// Clamped to `0 ..= 1`; NaN gives 0.
    #[inline(always)]
    fn saturate(bits: Self::Bits) -> Self::Bits {
        let zero = Self::Bits::default();
        if bits & Self::SIGN != zero || Self::is_nan(bits) { zero } else { bits.min(Self::ONE) }
    }

    /// Negative values as zero; NaN stays.
    #[inline(always)]
    fn rectify(bits: Self::Bits) -> Self::Bits {
        if bits & Self::SIGN != Self::Bits::default() && !Self::is_nan(bits) {
            Self::Bits::default()
        } else {
            bits
        }
    }

    /// `significand` times two to the `exponent`, rounded. The significand's leading bit is the one numbered `top`,
    /// unless the value is below what the format resolves or is zero with an exponent that low; its lowest bit may
    /// stand for any further bits that are not zero. `top` is 61 or less: all of a significand that is shifted out
    /// entirely is then less than half.
    #[inline(always)]
    fn round(negative: bool, significand: u64, exponent: i32, top: u32, rounding: Rounding) -> Self::Bits {
        let biased = exponent + top as i32 + Self::BIAS;
        let shift = (top - Self::MANTISSA) as i32 + (1 - biased).max(0);
        let shift = shift.min(63) as u32;
        let kept = significand >> shift;
        let rest = significand & !(u64::MAX << shift);
        let half = 1u64 << shift >> 1;
        let up = match rounding {
            Rounding::Nearest => rest > half || (rest == half && shift != 0 && kept & 1 != 0),
            Rounding::Away => rest >= half && shift != 0,
            Rounding::Zero => false,
            Rounding::Down => rest != 0 && negative,
            Rounding::Up => rest != 0 && !negative,
        };
        let outward = match rounding {
            Rounding::Nearest | Rounding::Away => true,
            Rounding::Zero => false,
            Rounding::Down => negative,
            Rounding::Up => !negative,
        };
        // The leading bit, still in `kept`, adds one to the exponent.
        let magnitude = ((biased.max(1) as u64 - 1) << Self::MANTISSA) + kept + u64::from(up);
        let largest = if outward { Self::INFINITY } else { Self::LARGEST };
        let magnitude = magnitude.min(largest.to_bits());
        Self::Bits::from_bits(magnitude | if negative { Self::SIGN.to_bits() } else { 0 })
    }

    /// A value of more precision, rounded.
    #[inline(always)]
    fn narrow(value: f64, rounding: Rounding) -> Self::Bits {
        if Self::MANTISSA == Single::MANTISSA && rounding == Rounding::Nearest {
            // An f32, which the processor rounds to.
            let bits = (value as f32).to_bits().into();
            return if value.is_nan() { Self::NAN } else { Self::Bits::from_bits(bits) };
        }
        let bits = value.to_bits();
        let magnitude = bits & !Double::SIGN;
        let negative = bits & Double::SIGN != 0;
        let exponent = (magnitude >> 52) as i32;
        let leading = u64::from(exponent != 0) << 52;
        let significand = magnitude & ((1 << 52) - 1) | leading;
        let finite = Self::round(negative, significand, exponent.max(1) - 1075, 52, rounding);
        let sign = if negative { Self::SIGN } else { Self::Bits::default() };
        if magnitude > Double::INFINITY {
            Self::NAN
        } else if magnitude == Double::INFINITY {
            sign | Self::INFINITY
        } else {
            finite
        }
    }
}

/// The f64 of a format of up to 32 bits.
#[inline(always)]
fn widen<F: Format<Bits = u32>>(bits: u32) -> f64 {
    let magnitude = bits & !F::SIGN;
    // The same bits in the place of an f64's have an exponent too low by the difference of the biases.
    let scale = f64::from_bits(((2046 - F::BIAS) as u64) << 52);
    let finite = f64::from_bits(u64::from(magnitude) << (52 - F::MANTISSA)) * scale;
    let value = if magnitude > F::INFINITY {
        f64::NAN
    } else if magnitude == F::INFINITY {
        if F::INFINITY == F::NAN { f64::NAN } else { f64::INFINITY }
    } else {
        finite
    };
    if bits & F::SIGN != 0 { -value } else { value }
}

/// Defines a format by the bits of its mantissa and exponent.
macro_rules! format {
    ($(#[$doc:meta])* $name:ident, $bits:ty, $mantissa:literal, $exponent:literal, nan $nan:literal,
     infinity $infinity:expr, $value:ty, $to_value:expr, $widen:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Format for $name {
            type Bits = $bits;
            type Value = $value;
            const MANTISSA: u32 = $mantissa;
            const EXPONENT: u32 = $exponent;
            const SIGN: $bits = 1 << ($mantissa + $exponent);
            const INFINITY: $bits = $infinity;
            const LARGEST: $bits = Self::INFINITY - 1;
            const NORMAL: $bits = 1 << $mantissa;
            const ONE: $bits = ((1 << ($exponent - 1)) - 1) << $mantissa;
            const NAN: $bits = $nan;

            #[inline(always)]
            fn value(bits: $bits) -> $value {
                $to_value(bits)
            }

            #[inline(always)]
            fn widen(bits: $bits) -> f64 {
                $widen(bits)
            }
        }
    };
}

format!(
    /// f64
    Double, u64, 52, 11, nan 0xfff8_0000_0000_0000, infinity 0x7ff << 52, f64, f64::from_bits, f64::from_bits
);
format!(
    /// f32
    Single, u32, 23, 8, nan 0x7fff_ffff, infinity 0xff << 23, f32, f32::from_bits, |bits| f64::from(f32::from_bits(bits))
);
format!(
    /// f16
    Half, u32, 10, 5, nan 0x7fff, infinity 0x1f << 10, f64, widen::<Half>, widen::<Half>
);
format!(
    /// bf16
    Brain, u32, 7, 8, nan 0x7fff, infinity 0xff << 7, f64, widen::<Brain>, widen::<Brain>
);
format!(
    /// tf32: the upper 19 bits of an f32, here in the low bits
    Tensor, u32, 10, 8, nan 0x3ffff, infinity 0xff << 10, f64, widen::<Tensor>, widen::<Tensor>
);
format!(
    /// The 8 bits of e5m2
    E5m2, u32, 2, 5, nan 0x7f, infinity 0x1f << 2, f64, widen::<E5m2>, widen::<E5m2>
);
format!(
    /// The 8 bits of e4m3: no infinity, one NaN
    E4m3, u32, 3, 4, nan 0x7f, infinity 0x7f, f64, widen::<E4m3>, widen::<E4m3>
);
