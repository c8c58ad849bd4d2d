//! From an operation on the bits of one number to what an instruction does in any of the formats.

use super::Modes;
use super::arithmetic::Arithmetic;
use super::format::{Brain, Double, Half, Rounding, Single};
use crate::isa::{Maps, Work};
use crate::model::counters::Class;
use crate::ptx::ast::Type;

/// The work of an operation in a type: so many floating-point operations an element.
pub fn work(class: Class, flops: u32, ty: Type) -> Work {
    match (ty, class) {
        (Type::F64, Class::Float | Class::Fma) => Work::double(Class::Double, flops),
        (Type::F64, _) => Work::double(class, flops),
        (Type::F16x2 | Type::Bf16x2, _) => Work::flops(class, 2 * flops),
        _ => Work::flops(class, flops),
    }
}

/// The low and high half of a packed pair.
#[inline(always)]
pub fn unpack(pair: u32) -> [u32; 2] {
    [pair & 0xffff, pair >> 16]
}

/// A packed pair of its low and high half.
#[inline(always)]
pub fn pack(low: u32, high: u32) -> u32 {
    low | high << 16
}

/// Defines the operations on so many operands: their trait, and a function that hands one to a [`Maps`].
macro_rules! lift {
    ($(#[$doc:meta])* $trait:ident, $function:ident, $map:ident, $($operand:ident),+) => {
        $(#[$doc])*
        pub trait $trait: Copy + Send + Sync + 'static {
            /// The result in a format, of operands in it.
            fn apply<F: Arithmetic>(self, $($operand: F::Bits,)+ rounding: Rounding) -> F::Bits;
        }

        /// What an instruction with this operation does.
        pub fn $function<M: Maps>(
            maps: M,
            ty: Type,
            modes: Modes,
            work: Work,
            operation: impl $trait,
        ) -> Option<M::Output> {
            /// With operands and results as the modes say.
            #[inline(always)]
            fn one<F: Arithmetic>(modes: Modes, operation: impl $trait, $($operand: F::Bits),+) -> F::Bits {
                modes.close::<F>(operation.apply::<F>($(modes.open::<F>($operand),)+ modes.rounding))
            }
            /// The same for packed pairs.
            #[inline(always)]
            fn pair<F: Arithmetic<Bits = u32>>(
                modes: Modes,
                operation: impl $trait,
                $($operand: u32),+
            ) -> u32 {
                $(let $operand = unpack($operand);)+
                let low = one::<F>(modes, operation, $($operand[0]),+);
                pack(low, one::<F>(modes, operation, $($operand[1]),+))
            }
            /// For one format. The usual modes are constants, so that what a lane does has no branches.
            fn ones<F: Arithmetic, M: Maps>(
                maps: M,
                modes: Modes,
                work: Work,
                operation: impl $trait,
            ) -> M::Output {
                const PLAIN: Modes = Modes::PLAIN;
                const FTZ: Modes = Modes::FTZ;
                match modes {
                    PLAIN => maps.$map(work, move |$($operand),+| one::<F>(PLAIN, operation, $($operand),+)),
                    FTZ => maps.$map(work, move |$($operand),+| one::<F>(FTZ, operation, $($operand),+)),
                    _ => maps.rarely().$map(work, move |$($operand),+| one::<F>(modes, operation, $($operand),+)),
                }
            }
            /// For packed pairs of one format.
            fn pairs<F: Arithmetic<Bits = u32>, M: Maps>(
                maps: M,
                modes: Modes,
                work: Work,
                operation: impl $trait,
            ) -> M::Output {
                const PLAIN: Modes = Modes::PLAIN;
                match modes {
                    PLAIN => maps.$map(work, move |$($operand),+| pair::<F>(PLAIN, operation, $($operand),+)),
                    _ => maps.rarely().$map(work, move |$($operand),+| pair::<F>(modes, operation, $($operand),+)),
                }
            }
            Some(match ty {
                Type::F32 => ones::<Single, M>(maps, modes, work, operation),
                Type::F64 => ones::<Double, M>(maps, modes, work, operation),
                Type::F16 => ones::<Half, M::Rare>(maps.rarely(), modes, work, operation),
                Type::Bf16 => ones::<Brain, M::Rare>(maps.rarely(), modes, work, operation),
                Type::F16x2 => pairs::<Half, M>(maps, modes, work, operation),
                Type::Bf16x2 => pairs::<Brain, M>(maps, modes, work, operation),
                _ => return None,
            })
        }
    };
}

lift!(
    /// An operation on one number.
    Unary, unary, map1, a
);
lift!(
    /// An operation on two numbers.
    Binary, binary, map2, a, b
);
lift!(
    /// An operation on three numbers.
    Ternary, ternary, map3, a, b, c
);
