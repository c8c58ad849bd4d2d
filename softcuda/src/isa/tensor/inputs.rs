//! The elements of A and B: how they stand in a register, and what they are multiplied as.

use super::convert::{single_from_bf16, single_from_e4m3, single_from_e5m2, single_from_tf32};
use super::vectors::Vectors;

/// A format of A or B with so many elements a register.
pub trait Input<const PARTS: usize>: Copy {
    /// A lane's register.
    type Word: Copy + Default;
    /// An element, widened.
    type Value: Copy + Default;

    /// The parts of 8 registers, from the low bits.
    fn widen<V: Vectors>(self, vectors: V, words: &[Self::Word; 8]) -> [[Self::Value; 8]; PARTS];
}

/// Parts of `32 / PARTS` bits, each by itself; bits above a part's may be anything.
#[inline(always)]
fn by_part<const PARTS: usize>(words: &[u32; 8], widen: impl Fn(u32) -> f32) -> [[f32; 8]; PARTS] {
    let mut values = [[0.0; 8]; PARTS];
    for (part, values) in values.iter_mut().enumerate() {
        for (value, word) in values.iter_mut().zip(words) {
            *value = widen(word >> (32 / PARTS * part));
        }
    }
    values
}

/// `.f16`
#[derive(Clone, Copy)]
pub struct Half;

impl Input<2> for Half {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn widen<V: Vectors>(self, vectors: V, words: &[u32; 8]) -> [[f32; 8]; 2] {
        vectors.widen_halves(words)
    }
}

/// `.bf16`
#[derive(Clone, Copy)]
pub struct Bf16;

impl Input<2> for Bf16 {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn widen<V: Vectors>(self, _: V, words: &[u32; 8]) -> [[f32; 8]; 2] {
        by_part(words, single_from_bf16)
    }
}

/// `.tf32`
#[derive(Clone, Copy)]
pub struct Tf32;

impl Input<1> for Tf32 {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn widen<V: Vectors>(self, _: V, words: &[u32; 8]) -> [[f32; 8]; 1] {
        by_part(words, single_from_tf32)
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
    fn widen<V: Vectors>(self, _: V, words: &[u32; 8]) -> [[f32; 8]; 4] {
        if self.is_e4m3 { by_part(words, single_from_e4m3) } else { by_part(words, single_from_e5m2) }
    }
}

/// `.s8`, `.u8` (4 a register), `.s4`, `.u4` (8 a register)
#[derive(Clone, Copy)]
pub struct Integer {
    /// Whether the highest bit is a sign.
    pub is_signed: bool,
}

impl<const PARTS: usize> Input<PARTS> for Integer {
    type Word = u32;
    type Value = f32;

    #[inline(always)]
    fn widen<V: Vectors>(self, _: V, words: &[u32; 8]) -> [[f32; 8]; PARTS] {
        let bits = 32 / PARTS as u32;
        let sign = u32::from(self.is_signed) << (bits - 1);
        by_part(words, |word| {
            let field = word & ((1 << bits) - 1);
            (field ^ sign).wrapping_sub(sign) as i32 as f32
        })
    }
}

/// `.b1`: a register is one value of 32 elements.
#[derive(Clone, Copy)]
pub struct Bits;

impl Input<1> for Bits {
    type Word = u32;
    type Value = u32;

    #[inline(always)]
    fn widen<V: Vectors>(self, _: V, words: &[u32; 8]) -> [[u32; 8]; 1] {
        [*words]
    }
}

/// `.f64`
#[derive(Clone, Copy)]
pub struct Double;

impl Input<1> for Double {
    type Word = u64;
    type Value = f64;

    #[inline(always)]
    fn widen<V: Vectors>(self, _: V, words: &[u64; 8]) -> [[f64; 8]; 1] {
        let mut values = [[0.0; 8]; 1];
        for (value, word) in values[0].iter_mut().zip(words) {
            *value = f64::from_bits(*word);
        }
        values
    }
}
