//! The product itself, on registers: D = A * B + C.
//!
//! Floats: products are exact and are added one by one, k ascending, to the element of C, each sum rounded to nearest
//! in f32 (fused multiply-adds; subnormal numbers count); where D is f16 the last sum is rounded once more. In f64 the
//! same. Real tensor cores add several products at once and drop bits below the greatest: results differ in the last
//! places, which PTX leaves open. Integers wrap, or with `.satfinite` the sum of C and the product is clamped.

use super::Lanes;
use super::convert::{bits_of_single, half_from_single, single_from_half};
use super::inputs::Input;
use pulp::{Arch, NullaryFnOnce};

/// 8 x 8 sums. Column `2 t + i` stands at `4 i + t`, so that neighbours in memory are neighbours in a register of C.
pub type Block<T> = [[T; 8]; 8];

/// How elements are multiplied and summed, and how C and D are held.
pub trait Arithmetic: Copy {
    /// A lane's register.
    type Word: Copy + Default;
    /// An element of A, B.
    type Value: Copy + Default;
    /// A sum.
    type Sum: Copy + Default;

    /// What a block of sums starts from.
    fn start(self, c: &[&Lanes<Self::Word>], block: usize) -> Block<Self::Sum>;
    /// The sum with another product.
    fn step(self, a: Self::Value, b: Self::Value, sum: Self::Sum) -> Self::Sum;
    /// Writes a block of sums.
    fn finish(
        self,
        sums: &Block<Self::Sum>,
        c: &[&Lanes<Self::Word>],
        d: &mut [Lanes<Self::Word>],
        block: usize,
    );
}

/// The sums in a block's two registers, which hold an element each.
#[inline(always)]
fn gather<W: Copy, T: Copy + Default>(c: &[&Lanes<W>], block: usize, from: impl Fn(W) -> T) -> Block<T> {
    arrange([c[2 * block], c[2 * block + 1]], from)
}

/// A block of sums from the elements in the even columns and those in the odd ones.
#[inline(always)]
fn arrange<W: Copy, T: Copy + Default>(columns: [&Lanes<W>; 2], from: impl Fn(W) -> T) -> Block<T> {
    let mut sums = Block::default();
    for group in 0..8 {
        for place in 0..8 {
            sums[group][place] = from(columns[place / 4][4 * group + place % 4]);
        }
    }
    sums
}

/// The reverse of [`gather`]: each word from its sum and the word there.
#[inline(always)]
fn scatter<W: Copy, T: Copy>(
    sums: &Block<T>,
    d: &mut [Lanes<W>],
    block: usize,
    to: impl Fn(T, usize, usize) -> W,
) {
    for half in 0..2 {
        let register = &mut d[2 * block + half];
        for group in 0..8 {
            for thread in 0..4 {
                let lane = 4 * group + thread;
                register[lane] = to(sums[group][4 * half + thread], 2 * block + half, lane);
            }
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

    #[inline(always)]
    fn start(self, c: &[&Lanes<u32>], block: usize) -> Block<f32> {
        if !self.from_half {
            return gather(c, block, f32::from_bits);
        }
        let mut columns = [[0.0; 32]; 2];
        for (part, column) in columns.iter_mut().enumerate() {
            for lane in 0..32 {
                column[lane] = single_from_half(c[block][lane] >> (16 * part));
            }
        }
        arrange([&columns[0], &columns[1]], |sum| sum)
    }

    #[inline(always)]
    fn step(self, a: f32, b: f32, sum: f32) -> f32 {
        a.mul_add(b, sum)
    }

    #[inline(always)]
    fn finish(self, sums: &Block<f32>, _: &[&Lanes<u32>], d: &mut [Lanes<u32>], block: usize) {
        if !self.to_half {
            return scatter(sums, d, block, |sum, _, _| bits_of_single(sum));
        }
        let mut halves = Block::default();
        for group in 0..8 {
            for place in 0..8 {
                halves[group][place] = half_from_single(sums[group][place]);
            }
        }
        for group in 0..8 {
            for thread in 0..4 {
                d[block][4 * group + thread] = halves[group][thread] | halves[group][4 + thread] << 16;
            }
        }
    }
}

/// Sums in f64.
#[derive(Clone, Copy)]
pub struct Double;

impl Arithmetic for Double {
    type Word = u64;
    type Value = f64;
    type Sum = f64;

    #[inline(always)]
    fn start(self, c: &[&Lanes<u64>], block: usize) -> Block<f64> {
        gather(c, block, f64::from_bits)
    }

    #[inline(always)]
    fn step(self, a: f64, b: f64, sum: f64) -> f64 {
        a.mul_add(b, sum)
    }

    #[inline(always)]
    fn finish(self, sums: &Block<f64>, _: &[&Lanes<u64>], d: &mut [Lanes<u64>], block: usize) {
        scatter(sums, d, block, |sum, _, _| sum.to_bits());
    }
}

/// Adds C to a product in 32-bit integers.
#[inline(always)]
fn add_integers(
    sums: &Block<i32>,
    c: &[&Lanes<u32>],
    d: &mut [Lanes<u32>],
    block: usize,
    is_saturating: bool,
) {
    scatter(sums, d, block, |sum, register, lane| {
        let addend = c[register][lane] as i32;
        let result = if is_saturating { addend.saturating_add(sum) } else { addend.wrapping_add(sum) };
        result as u32
    });
}

/// Sums of integers in 32 bits.
#[derive(Clone, Copy)]
pub struct Whole {
    /// `.satfinite`
    pub is_saturating: bool,
}

impl Arithmetic for Whole {
    type Word = u32;
    type Value = i32;
    type Sum = i32;

    #[inline(always)]
    fn start(self, _: &[&Lanes<u32>], _: usize) -> Block<i32> {
        Block::default()
    }

    #[inline(always)]
    fn step(self, a: i32, b: i32, sum: i32) -> i32 {
        sum.wrapping_add(a.wrapping_mul(b))
    }

    #[inline(always)]
    fn finish(self, sums: &Block<i32>, c: &[&Lanes<u32>], d: &mut [Lanes<u32>], block: usize) {
        add_integers(sums, c, d, block, self.is_saturating);
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

    #[inline(always)]
    fn start(self, _: &[&Lanes<u32>], _: usize) -> Block<i32> {
        Block::default()
    }

    #[inline(always)]
    fn step(self, a: u32, b: u32, sum: i32) -> i32 {
        let bits = if self.is_and { a & b } else { a ^ b };
        sum.wrapping_add(bits.count_ones() as i32)
    }

    #[inline(always)]
    fn finish(self, sums: &Block<i32>, c: &[&Lanes<u32>], d: &mut [Lanes<u32>], block: usize) {
        add_integers(sums, c, d, block, false);
    }
}

/// A product of fragments. A has `rows` times `STEPS` registers, B `columns` times `STEPS`.
pub struct Product<'a, A, B, S: Arithmetic, const PARTS: usize, const STEPS: usize> {
    /// Format of A.
    pub left: A,
    /// Format of B.
    pub right: B,
    /// How to sum.
    pub arithmetic: S,
    /// Rows of D in eights.
    pub rows: usize,
    /// Columns of D in eights.
    pub columns: usize,
    /// Registers of A.
    pub a: &'a [&'a Lanes<S::Word>],
    /// Registers of B.
    pub b: &'a [&'a Lanes<S::Word>],
    /// Registers of C.
    pub c: &'a [&'a Lanes<S::Word>],
    /// Registers of D.
    pub d: &'a mut [Lanes<S::Word>],
}

impl<A, B, S, const PARTS: usize, const STEPS: usize> Product<'_, A, B, S, PARTS, STEPS>
where
    A: Input<PARTS, Word = S::Word, Value = S::Value>,
    B: Input<PARTS, Word = S::Word, Value = S::Value>,
    S: Arithmetic,
{
    /// Computes D, compiled for the instructions that the machine has.
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    /// A register of A, widened.
    #[inline(always)]
    fn unpack_left(&self, register: &Lanes<S::Word>) -> [Lanes<S::Value>; PARTS] {
        let mut parts = [[S::Value::default(); 32]; PARTS];
        for (part, values) in parts.iter_mut().enumerate() {
            for lane in 0..32 {
                values[lane] = self.left.part(register[lane], part);
            }
        }
        parts
    }

    /// A register of B, widened and transposed: for each thread and part, that is row, the 8 columns as in [`Block`].
    #[inline(always)]
    fn unpack_right(&self, register: &Lanes<S::Word>) -> [[[S::Value; 8]; PARTS]; 4] {
        let mut rows = [[[S::Value::default(); 8]; PARTS]; 4];
        for (thread, rows) in rows.iter_mut().enumerate() {
            let mut words = [S::Word::default(); 8];
            for (place, word) in words.iter_mut().enumerate() {
                *word = register[4 * (2 * (place % 4) + place / 4) + thread];
            }
            for (part, row) in rows.iter_mut().enumerate() {
                for place in 0..8 {
                    row[place] = self.right.part(words[place], part);
                }
            }
        }
        rows
    }
}

impl<A, B, S, const PARTS: usize, const STEPS: usize> NullaryFnOnce for Product<'_, A, B, S, PARTS, STEPS>
where
    A: Input<PARTS, Word = S::Word, Value = S::Value>,
    B: Input<PARTS, Word = S::Word, Value = S::Value>,
    S: Arithmetic,
{
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for column in 0..self.columns {
            let mut right = [[[[S::Value::default(); 8]; PARTS]; 4]; STEPS];
            for (step, right) in right.iter_mut().enumerate() {
                *right = self.unpack_right(self.b[column * STEPS + step]);
            }
            for row in 0..self.rows {
                let block = column * self.rows + row;
                let mut sums = self.arithmetic.start(self.c, block);
                for (step, right) in right.iter().enumerate() {
                    let left = self.unpack_left(self.a[step * self.rows + row]);
                    for thread in 0..4 {
                        for part in 0..PARTS {
                            for group in 0..8 {
                                for place in 0..8 {
                                    sums[group][place] = self.arithmetic.step(
                                        left[part][4 * group + thread],
                                        right[thread][part][place],
                                        sums[group][place],
                                    );
                                }
                            }
                        }
                    }
                }
                self.arithmetic.finish(&sums, self.c, self.d, block);
            }
        }
    }
}
