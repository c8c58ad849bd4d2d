//! How elements are multiplied and summed, and how C and D lie in registers.

use super::Lanes;
use super::convert::bits_of_single;
use super::vectors::{Vectors, transpose};

/// 8 x 8 sums, each row in [`super::vectors::COLUMN_ORDER`].
pub type Block<T> = [[T; 8]; 8];

/// How elements are multiplied and summed, and how C and D are held.
pub trait Arithmetic: Copy {
    /// A lane's register.
    type Word: Copy + Default;
    /// An element of A, B.
    type Value: Copy + Default;
    /// A sum.
    type Sum: Copy + Default;
    /// Eight sums.
    type Row<V: Vectors>: Copy;

    /// What a block of sums starts from.
    fn start<V: Vectors>(self, vectors: V, c: &[&Lanes<Self::Word>], block: usize) -> Block<Self::Sum>;
    /// Eight sums.
    fn load<V: Vectors>(self, vectors: V, sums: &[Self::Sum; 8]) -> Self::Row<V>;
    /// The reverse.
    fn store<V: Vectors>(self, vectors: V, sums: Self::Row<V>) -> [Self::Sum; 8];
    /// Eight sums, each with another product.
    fn step<V: Vectors>(
        self,
        vectors: V,
        a: Self::Value,
        b: &[Self::Value; 8],
        sums: Self::Row<V>,
    ) -> Self::Row<V>;
    /// Writes a block of sums.
    fn finish<V: Vectors>(
        self,
        vectors: V,
        sums: &Block<Self::Sum>,
        c: &[&Lanes<Self::Word>],
        d: &mut [Lanes<Self::Word>],
        block: usize,
    );
    /// As [`Vectors::transpose`].
    #[inline(always)]
    fn transpose<V: Vectors>(self, _: V, register: &Lanes<Self::Word>) -> [[Self::Word; 8]; 4] {
        transpose(register)
    }
}

/// A block from its even columns and its odd ones, each as a register holds them.
#[inline(always)]
fn join<T: Copy + Default>(columns: &[Lanes<T>; 2]) -> Block<T> {
    let mut sums = Block::default();
    for (half, column) in columns.iter().enumerate() {
        for (row, words) in sums.iter_mut().zip(column.as_chunks::<4>().0) {
            row.as_chunks_mut::<4>().0[half] = *words;
        }
    }
    sums
}

/// The reverse of [`join`].
#[inline(always)]
fn split<T: Copy + Default>(sums: &Block<T>) -> [Lanes<T>; 2] {
    let mut columns = [[T::default(); 32]; 2];
    for (half, column) in columns.iter_mut().enumerate() {
        for (row, words) in sums.iter().zip(column.as_chunks_mut::<4>().0) {
            *words = row.as_chunks::<4>().0[half];
        }
    }
    columns
}

/// The sums in a block's two registers, which hold an element each.
#[inline(always)]
fn gather<W: Copy, T: Copy + Default>(c: &[&Lanes<W>], block: usize, from: impl Fn(W) -> T) -> Block<T> {
    let mut columns = [[T::default(); 32]; 2];
    for (half, column) in columns.iter_mut().enumerate() {
        for lane in 0..32 {
            column[lane] = from(c[2 * block + half][lane]);
        }
    }
    join(&columns)
}

/// The reverse of [`gather`]: each word from its sum, its register and its lane.
#[inline(always)]
fn scatter<W: Copy, T: Copy + Default>(
    sums: &Block<T>,
    d: &mut [Lanes<W>],
    block: usize,
    to: impl Fn(T, usize, usize) -> W,
) {
    for (half, column) in split(sums).iter().enumerate() {
        let register = 2 * block + half;
        for lane in 0..32 {
            d[register][lane] = to(column[lane], register, lane);
        }
    }
}

/// Sums in f32.
#[derive(Clone, Copy)]
pub struct Single {
    /// C is f16.
    pub from_half: bool,
    /// D is f16.
    pub to_half: bool,
}

impl Arithmetic for Single {
    type Word = u32;
    type Value = f32;
    type Sum = f32;
    type Row<V: Vectors> = V::Singles;

    #[inline(always)]
    fn start<V: Vectors>(self, vectors: V, c: &[&Lanes<u32>], block: usize) -> Block<f32> {
        if !self.from_half {
            return gather(c, block, f32::from_bits);
        }
        let mut columns = [[0.0; 32]; 2];
        for (index, words) in c[block].as_chunks::<8>().0.iter().enumerate() {
            for (column, values) in columns.iter_mut().zip(vectors.widen_halves(words)) {
                column.as_chunks_mut::<8>().0[index] = values;
            }
        }
        join(&columns)
    }

    #[inline(always)]
    fn load<V: Vectors>(self, vectors: V, sums: &[f32; 8]) -> V::Singles {
        vectors.load(sums)
    }

    #[inline(always)]
    fn store<V: Vectors>(self, vectors: V, sums: V::Singles) -> [f32; 8] {
        vectors.store(sums)
    }

    #[inline(always)]
    fn step<V: Vectors>(self, vectors: V, a: f32, b: &[f32; 8], sums: V::Singles) -> V::Singles {
        vectors.multiply_add(a, vectors.load(b), sums)
    }

    #[inline(always)]
    fn finish<V: Vectors>(
        self,
        vectors: V,
        sums: &Block<f32>,
        _: &[&Lanes<u32>],
        d: &mut [Lanes<u32>],
        block: usize,
    ) {
        if !self.to_half {
            return scatter(sums, d, block, |sum, _, _| bits_of_single(sum));
        }
        let mut columns = split(sums);
        for column in &mut columns {
            for sum in column {
                *sum = f32::from_bits(bits_of_single(*sum));
            }
        }
        let (even, odd) = (columns[0].as_chunks::<8>().0, columns[1].as_chunks::<8>().0);
        for (words, (even, odd)) in d[block].as_chunks_mut::<8>().0.iter_mut().zip(even.iter().zip(odd)) {
            *words = vectors.narrow_halves(even, odd);
        }
    }

    #[inline(always)]
    fn transpose<V: Vectors>(self, vectors: V, register: &Lanes<u32>) -> [[u32; 8]; 4] {
        vectors.transpose(register)
    }
}

/// Adds C to a product in 32-bit integers.
#[inline(always)]
fn add_integers<T: Copy + Default>(
    sums: &Block<T>,
    to_integer: impl Fn(T) -> i32,
    c: &[&Lanes<u32>],
    d: &mut [Lanes<u32>],
    block: usize,
    is_saturating: bool,
) {
    scatter(sums, d, block, |sum, register, lane| {
        let (addend, sum) = (c[register][lane] as i32, to_integer(sum));
        let result = if is_saturating { addend.saturating_add(sum) } else { addend.wrapping_add(sum) };
        result as u32
    });
}

/// Sums of integers in 32 bits. What a product alone gives is at most 32 * 255^2, below 2^22, so exact in f32.
#[derive(Clone, Copy)]
pub struct Whole {
    /// `.satfinite`
    pub is_saturating: bool,
}

/// How [`Whole`] sums.
const EXACT: Single = Single { from_half: false, to_half: false };

impl Arithmetic for Whole {
    type Word = u32;
    type Value = f32;
    type Sum = f32;
    type Row<V: Vectors> = V::Singles;

    #[inline(always)]
    fn start<V: Vectors>(self, _: V, _: &[&Lanes<u32>], _: usize) -> Block<f32> {
        Block::default()
    }

    #[inline(always)]
    fn load<V: Vectors>(self, vectors: V, sums: &[f32; 8]) -> V::Singles {
        EXACT.load(vectors, sums)
    }

    #[inline(always)]
    fn store<V: Vectors>(self, vectors: V, sums: V::Singles) -> [f32; 8] {
        EXACT.store(vectors, sums)
    }

    #[inline(always)]
    fn step<V: Vectors>(self, vectors: V, a: f32, b: &[f32; 8], sums: V::Singles) -> V::Singles {
        EXACT.step(vectors, a, b, sums)
    }

    #[inline(always)]
    fn finish<V: Vectors>(
        self,
        _: V,
        sums: &Block<f32>,
        c: &[&Lanes<u32>],
        d: &mut [Lanes<u32>],
        block: usize,
    ) {
        // Plus 1.5 * 2^23, a number's units are the last bits of its fraction. (`as` is slow: it clamps.)
        let shift = 1.5 * 8_388_608.0f32;
        let to_integer = |sum: f32| (sum + shift).to_bits().wrapping_sub(shift.to_bits()) as i32;
        add_integers(sums, to_integer, c, d, block, self.is_saturating);
    }

    #[inline(always)]
    fn transpose<V: Vectors>(self, vectors: V, register: &Lanes<u32>) -> [[u32; 8]; 4] {
        vectors.transpose(register)
    }
}

/// Counts of one bits.
#[derive(Clone, Copy)]
pub struct Population {
    /// `.and.popc` rather than `.xor.popc`
    pub is_and: bool,
}

impl Arithmetic for Population {
    type Word = u32;
    type Value = u32;
    type Sum = i32;
    type Row<V: Vectors> = [i32; 8];

    #[inline(always)]
    fn start<V: Vectors>(self, _: V, _: &[&Lanes<u32>], _: usize) -> Block<i32> {
        Block::default()
    }

    #[inline(always)]
    fn load<V: Vectors>(self, _: V, sums: &[i32; 8]) -> [i32; 8] {
        *sums
    }

    #[inline(always)]
    fn store<V: Vectors>(self, _: V, sums: [i32; 8]) -> [i32; 8] {
        sums
    }

    #[inline(always)]
    fn step<V: Vectors>(self, _: V, a: u32, b: &[u32; 8], mut sums: [i32; 8]) -> [i32; 8] {
        for (sum, b) in sums.iter_mut().zip(b) {
            let bits = if self.is_and { a & b } else { a ^ b };
            *sum = sum.wrapping_add(bits.count_ones() as i32);
        }
        sums
    }

    #[inline(always)]
    fn finish<V: Vectors>(
        self,
        _: V,
        sums: &Block<i32>,
        c: &[&Lanes<u32>],
        d: &mut [Lanes<u32>],
        block: usize,
    ) {
        add_integers(sums, |sum| sum, c, d, block, false);
    }
}

/// Sums in f64.
#[derive(Clone, Copy)]
pub struct Double;

impl Arithmetic for Double {
    type Word = u64;
    type Value = f64;
    type Sum = f64;
    type Row<V: Vectors> = [f64; 8];

    #[inline(always)]
    fn start<V: Vectors>(self, _: V, c: &[&Lanes<u64>], block: usize) -> Block<f64> {
        gather(c, block, f64::from_bits)
    }

    #[inline(always)]
    fn load<V: Vectors>(self, _: V, sums: &[f64; 8]) -> [f64; 8] {
        *sums
    }

    #[inline(always)]
    fn store<V: Vectors>(self, _: V, sums: [f64; 8]) -> [f64; 8] {
        sums
    }

    #[inline(always)]
    fn step<V: Vectors>(self, _: V, a: f64, b: &[f64; 8], mut sums: [f64; 8]) -> [f64; 8] {
        for (sum, b) in sums.iter_mut().zip(b) {
            *sum = a.mul_add(*b, *sum);
        }
        sums
    }

    #[inline(always)]
    fn finish<V: Vectors>(
        self,
        _: V,
        sums: &Block<f64>,
        _: &[&Lanes<u64>],
        d: &mut [Lanes<u64>],
        block: usize,
    ) {
        scatter(sums, d, block, |sum, _, _| sum.to_bits());
    }
}
