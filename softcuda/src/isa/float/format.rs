//! Binary floating-point formats as bits, and rounding into them.

use crate::isa::Element;
use std::ops::{Add, BitAnd, BitOr, BitXor, Not, Shl, Shr};

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
    + Shl<u32, Output = Self>
    + Shr<u32, Output = Self>
    + Add<Output = Self>
    + From<bool>
    + std::fmt::Debug
{
    /// How many bits it has.
    const SIZE: u32;
}

impl Bits for u32 {
    const SIZE: u32 = 32;
}

impl Bits for u64 {
    const SIZE: u32 = 64;
}

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
    /// All bits.
    const MASK: Self::Bits;
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
    /// The value as an f32, exactly but for an f64's.
    fn single(bits: Self::Bits) -> f32;

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

    /// The highest place where [`Format::round`] takes a leading bit.
    const TOP: u32 = Self::Bits::SIZE - 3;

    /// `significand` times two to the `exponent`, rounded. The significand's leading bit is the one numbered `top`,
    /// unless the value is below what the format resolves or is zero with an exponent that low; its lowest bit may
    /// stand for any further bits that are not zero. `top` is at most [`Format::TOP`]: all of a significand that is
    /// shifted out entirely is then less than half.
    #[inline(always)]
    fn round(
        negative: bool,
        significand: Self::Bits,
        exponent: i32,
        top: u32,
        rounding: Rounding,
    ) -> Self::Bits {
        let zero = Self::Bits::default();
        let one = Self::Bits::from(true);
        let biased = exponent + top as i32 + Self::BIAS;
        let shift = (top - Self::MANTISSA) as i32 + (1 - biased).max(0);
        let shift = shift.min(Self::Bits::SIZE as i32 - 1) as u32;
        let kept = significand >> shift;
        let rest = significand & !(!zero << shift);
        let half = (one << shift) >> 1;
        let exact = rest == zero;
        let up = match rounding {
            Rounding::Nearest => (rest > half) | ((rest == half) & !exact & (kept & one != zero)),
            Rounding::Away => (rest >= half) & !exact,
            Rounding::Zero => false,
            Rounding::Down => !exact & negative,
            Rounding::Up => !exact & !negative,
        };
        let outward = match rounding {
            Rounding::Nearest | Rounding::Away => true,
            Rounding::Zero => false,
            Rounding::Down => negative,
            Rounding::Up => !negative,
        };
        // The leading bit, still in `kept`, adds one to the exponent.
        let exponent = Self::Bits::from_bits((biased.clamp(1, 1 << Self::EXPONENT) - 1) as u64);
        let magnitude = (exponent << Self::MANTISSA) + kept + Self::Bits::from(up);
        let magnitude = magnitude.min(if outward { Self::INFINITY } else { Self::LARGEST });
        if negative { magnitude | Self::SIGN } else { magnitude }
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
        // The leading bit no higher than it may be.
        let excess = 52u32.saturating_sub(Self::TOP);
        let lost = significand & ((1 << excess) - 1) != 0;
        let significand = Self::Bits::from_bits(significand >> excess) | Self::Bits::from(lost);
        let exponent = exponent.max(1) - 1075 + excess as i32;
        let finite = Self::round(negative, significand, exponent, 52 - excess, rounding);
        Self::with_specials(finite, negative, magnitude == Double::INFINITY, magnitude > Double::INFINITY)
    }

    /// The same from f32, to a format with a shorter mantissa.
    #[inline(always)]
    fn narrow_single(value: f32, rounding: Rounding) -> Self::Bits {
        let bits = value.to_bits();
        let magnitude = bits & !Single::SIGN;
        let negative = bits & Single::SIGN != 0;
        let exponent = (magnitude >> 23) as i32;
        let leading = u32::from(exponent != 0) << 23;
        let significand = magnitude & ((1 << 23) - 1) | leading;
        let significand = Self::Bits::from_bits(significand.into());
        let finite = Self::round(negative, significand, exponent.max(1) - 150, 23, rounding);
        Self::with_specials(finite, negative, magnitude == Single::INFINITY, magnitude > Single::INFINITY)
    }

    /// The result, given it for finite values.
    #[inline(always)]
    fn with_specials(finite: Self::Bits, negative: bool, infinite: bool, nan: bool) -> Self::Bits {
        let infinity = if negative { Self::INFINITY | Self::SIGN } else { Self::INFINITY };
        let result = if infinite { infinity } else { finite };
        if nan { Self::NAN } else { result }
    }
}

/// The f32 of a format of fewer bits.
#[inline(always)]
fn widen<F: Format<Bits = u32>>(bits: u32) -> f32 {
    let magnitude = bits & !F::SIGN;
    // The same bits in the place of an f32's have an exponent too low by the difference of the biases.
    let scale = f32::from_bits(((254 - F::BIAS) as u32) << 23);
    let finite = (f32::from_bits(magnitude << (23 - F::MANTISSA)) * scale).to_bits();
    // Where the exponent is all ones it is to be so too; mantissas say whether that is a NaN.
    let special = if magnitude >= F::INFINITY { Single::INFINITY } else { 0 };
    f32::from_bits(finite | special | if bits & F::SIGN != 0 { Single::SIGN } else { 0 })
}

/// Defines a format by the bits of its mantissa and exponent.
macro_rules! format {
    ($(#[$doc:meta])* $name:ident, $bits:ty, $mantissa:literal, $exponent:literal, nan $nan:literal,
     infinity $infinity:expr, $value:ident, |$number:ident| $to_value:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name;

        impl Format for $name {
            type Bits = $bits;
            type Value = $value;
            const MANTISSA: u32 = $mantissa;
            const EXPONENT: u32 = $exponent;
            const SIGN: $bits = 1 << ($mantissa + $exponent);
            const MASK: $bits = Self::SIGN | (Self::SIGN - 1);
            const INFINITY: $bits = $infinity;
            const LARGEST: $bits = Self::INFINITY - 1;
            const NORMAL: $bits = 1 << $mantissa;
            const ONE: $bits = ((1 << ($exponent - 1)) - 1) << $mantissa;
            const NAN: $bits = $nan;

            #[inline(always)]
            fn value($number: $bits) -> $value {
                $to_value
            }

            #[inline(always)]
            fn widen(bits: $bits) -> f64 {
                Self::value(bits).into()
            }

            #[inline(always)]
            fn single(bits: $bits) -> f32 {
                Self::value(bits) as f32
            }
        }
    };
}

format!(
    /// f64
    Double, u64, 52, 11, nan 0xfff8_0000_0000_0000, infinity 0x7ff << 52, f64, |bits| f64::from_bits(bits)
);
format!(
    /// f32
    Single, u32, 23, 8, nan 0x7fff_ffff, infinity 0xff << 23, f32, |bits| f32::from_bits(bits)
);
format!(
    /// f16
    Half, u32, 10, 5, nan 0x7fff, infinity 0x1f << 10, f32, |bits| widen::<Half>(bits)
);
format!(
    /// bf16
    Brain, u32, 7, 8, nan 0x7fff, infinity 0xff << 7, f32, |bits| widen::<Brain>(bits)
);
format!(
    /// tf32: the upper 19 bits of an f32, here in the low bits
    Tensor, u32, 10, 8, nan 0x3ffff, infinity 0xff << 10, f32, |bits| widen::<Tensor>(bits)
);
format!(
    /// The 8 bits of e5m2
    E5m2, u32, 2, 5, nan 0x7f, infinity 0x1f << 2, f32, |bits| widen::<E5m2>(bits)
);
format!(
    /// The 8 bits of e4m3: no infinity, one NaN
    E4m3, u32, 3, 4, nan 0x7f, infinity 0x7f, f32, |bits| widen::<E4m3>(bits)
);
