//! The elements of A and B: how they stand in a register, and what they are multiplied as.

use super::convert::{
    single_from_bf16, single_from_e4m3, single_from_e5m2, single_from_half, single_from_tf32,
};

/// A format of A or B with so many elements a register.
pub trait Input<const PARTS: usize>: Copy {
    /// A lane's register.
    type Word: Copy + Default;
    /// An element, widened.
    type Value: Copy + Default;

    /// Part `part`, from the low bits.
    fn part(self, word: Self::Word, part: usize) -> Self::Value;
}

/// `.f16`
#[derive(Clone, Copy)]
pub struct Half;

impl Input<2> for Half {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn part(self, word: u32, part: usize) -> f32 {
        single_from_half(word >> (16 * part))
    }
}

/// `.bf16`
#[derive(Clone, Copy)]
pub struct Bf16;

impl Input<2> for Bf16 {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn part(self, word: u32, part: usize) -> f32 {
        single_from_bf16(word >> (16 * part))
    }
}

/// `.tf32`
#[derive(Clone, Copy)]
pub struct Tf32;

impl Input<1> for Tf32 {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn part(self, word: u32, _: usize) -> f32 {
        single_from_tf32(word)
    }
}

/// `.e4m3`, `.e5m2`
#[derive(Clone, Copy)]
pub struct Float8 {
    /// Which of the two.
    pub is_e4m3: bool,
}

impl Input<4> for Float8 {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn part(self, word: u32, part: usize) -> f32 {
        let bits = word >> (8 * part);
        if self.is_e4m3 { single_from_e4m3(bits) } else { single_from_e5m2(bits) }
    }
}

/// `.s8`, `.u8` (4 a register), `.s4`, `.u4` (8 a register)
#[derive(Clone, Copy)]
pub struct Integer {
    /// Whether the highest bit is a sign.
    pub is_signed: bool,
}

impl Integer {
    #[inline(always)]
    fn field<const BITS: u32>(self, word: u32, part: usize) -> i32 {
        let field = word >> (BITS as usize * part) & ((1 << BITS) - 1);
        let sign = u32::from(self.is_signed) << (BITS - 1);
        (field ^ sign).wrapping_sub(sign) as i32
    }
}

impl Input<4> for Integer {
    type Word = u32;
    type Value = i32;

    #[inline(always)]
    fn part(self, word: u32, part: usize) -> i32 {
        self.field::<8>(word, part)
    }
}

impl Input<8> for Integer {
    type Word = u32;
    type Value = i32;

    #[inline(always)]
    fn part(self, word: u32, part: usize) -> i32 {
        self.field::<4>(word, part)
    }
}

/// `.b1`: a register is one value of 32 elements.
#[derive(Clone, Copy)]
pub struct Bits;

impl Input<1> for Bits {
    type Word = u32;
    type Value = u32;

    #[inline(always)]
    fn part(self, word: u32, _: usize) -> u32 {
        word
    }
}

/// `.f64`
#[derive(Clone, Copy)]
pub struct Double;

impl Input<1> for Double {
    type Word = u64;
    type Value = f64;

    #[inline(always)]
    fn part(self, word: u64, _: usize) -> f64 {
        f64::from_bits(word)
    }
}
