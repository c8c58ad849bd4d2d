//! Sums, products, quotients, absolute values, extrema.

use super::{Lane, binary, ternary, unary};
use crate::isa::Maps;

/// The types that `wide` takes.
macro_rules! narrow {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["u16" => u16, "s16" => i16, "u32" => u32, "s32" => i32] => $body)
    };
}

/// The types of `mul24` and `mad24`.
macro_rules! factors {
    ($suffix:expr, $T:ident => $body:expr) => {
        typed!($suffix, $T in ["u32" => u32, "s32" => i32] => $body)
    };
}

pub(super) fn decode<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("add", ["sat", "s32"]) => Some(binary(maps, i32::saturating_add)),
        ("add", [ty]) => words!(*ty, T => binary(maps, T::wrapping_add)),
        ("sub", ["sat", "s32"]) => Some(binary(maps, i32::saturating_sub)),
        ("sub", [ty]) => words!(*ty, T => binary(maps, T::wrapping_sub)),
        ("mul" | "mad" | "mul24" | "mad24", _) => products(opcode, suffixes, maps),
        ("sad", [ty]) => integers!(*ty, T => {
            ternary(maps, |a: T, b: T, c: T| c.wrapping_add(a.abs_diff(b) as T))
        }),
        // The ISA leaves division by zero open; these are the values devices give.
        ("div", [ty]) => {
            integers!(*ty, T => binary(maps, |a: T, b: T| if b == 0 { !0 } else { a.wrapping_div(b) }))
        }
        ("rem", [ty]) => {
            integers!(*ty, T => binary(maps, |a: T, b: T| if b == 0 { a } else { a.wrapping_rem(b) }))
        }
        ("abs", [ty]) => signed!(*ty, T => unary(maps, T::wrapping_abs)),
        ("neg", [ty]) => signed!(*ty, T => unary(maps, T::wrapping_neg)),
        ("min", ["relu", "s32"]) => Some(binary(maps, |a: i32, b: i32| a.min(b).max(0))),
        ("min", [ty]) => integers!(*ty, T => binary(maps, T::min)),
        ("max", ["relu", "s32"]) => Some(binary(maps, |a: i32, b: i32| a.max(b).max(0))),
        ("max", [ty]) => integers!(*ty, T => binary(maps, T::max)),
        _ => None,
    }
}

fn products<M: Maps>(opcode: &str, suffixes: &[&str], maps: M) -> Option<M::Output> {
    match (opcode, suffixes) {
        ("mul", ["lo", ty]) => words!(*ty, T => binary(maps, T::wrapping_mul)),
        ("mul", ["hi", ty]) => integers!(*ty, T => binary(maps, T::high)),
        ("mul", ["wide", ty]) => narrow!(*ty, T => binary(maps, T::product)),
        ("mad", ["lo", ty]) => words!(*ty, T => {
            ternary(maps, |a: T, b: T, c: T| a.wrapping_mul(b).wrapping_add(c))
        }),
        ("mad", ["hi", "sat", "s32"]) => {
            Some(ternary(maps, |a: i32, b: i32, c: i32| a.high(b).saturating_add(c)))
        }
        ("mad", ["hi", ty]) => {
            integers!(*ty, T => ternary(maps, |a: T, b: T, c: T| a.high(b).wrapping_add(c)))
        }
        ("mad", ["wide", ty]) => narrow!(*ty, T => {
            ternary(maps, |a: T, b: T, c: <T as Multiply>::Product| a.product(b).wrapping_add(c))
        }),
        ("mul24", ["lo", ty]) => factors!(*ty, T => binary(maps, T::low_24)),
        ("mul24", ["hi", ty]) => factors!(*ty, T => binary(maps, T::high_24)),
        ("mad24", ["lo", ty]) => factors!(*ty, T => {
            ternary(maps, |a: T, b: T, c: T| a.low_24(b).wrapping_add(c))
        }),
        ("mad24", ["hi", "sat", "s32"]) => {
            Some(ternary(maps, |a: i32, b: i32, c: i32| a.high_24(b).saturating_add(c)))
        }
        ("mad24", ["hi", ty]) => factors!(*ty, T => {
            ternary(maps, |a: T, b: T, c: T| a.high_24(b).wrapping_add(c))
        }),
        _ => None,
    }
}

/// Products of twice the width.
pub(super) trait Multiply: Lane {
    /// An integer of twice the width.
    type Product;
    /// The whole product.
    fn product(self, other: Self) -> Self::Product;
    /// Its upper half.
    fn high(self, other: Self) -> Self;
}

macro_rules! multiply {
    ($($ty:ty => $product:ty),+) => {
        $(impl Multiply for $ty {
            type Product = $product;
            #[inline(always)]
            fn product(self, other: $ty) -> $product {
                <$product>::from(self) * <$product>::from(other)
            }
            #[inline(always)]
            fn high(self, other: $ty) -> $ty {
                (self.product(other) >> <$ty>::BITS) as $ty
            }
        })+
    };
}

multiply!(u16 => u32, i16 => i32, u32 => u64, i32 => i64, u64 => u128, i64 => i128);

/// Products of the lower 24 bits, which are of 48 bits.
trait Multiply24: Multiply {
    /// Bits 0 to 31 of the product.
    fn low_24(self, other: Self) -> Self;
    /// Bits 16 to 47 of the product.
    fn high_24(self, other: Self) -> Self;
}

macro_rules! multiply_24 {
    ($($ty:ty),+) => {
        $(impl Multiply24 for $ty {
            #[inline(always)]
            fn low_24(self, other: $ty) -> $ty {
                (self << 8 >> 8).product(other << 8 >> 8) as $ty
            }
            #[inline(always)]
            fn high_24(self, other: $ty) -> $ty {
                ((self << 8 >> 8).product(other << 8 >> 8) >> 16) as $ty
            }
        })+
    };
}

multiply_24!(u32, i32);
