//! Eight numbers at a time: what products do in their inner loops, with the machine's own instructions where it has
//! them.

use super::Lanes;
use super::convert::{half_from_single, single_from_half};
use std::array::from_fn;

/// A set of instructions. Every implementation gives the same bits.
pub trait Vectors: Copy {
    /// Eight f32.
    type Singles: Copy;

    /// From memory.
    fn load(self, values: &[f32; 8]) -> Self::Singles;
    /// To memory.
    fn store(self, values: Self::Singles) -> [f32; 8];
    /// `a * b + sum`, rounded once.
    fn multiply_add(self, a: f32, b: Self::Singles, sum: Self::Singles) -> Self::Singles;
    /// The f16 in the low and in the high half of each word, widened.
    fn widen_halves(self, words: &[u32; 8]) -> [[f32; 8]; 2];
    /// The reverse, rounded to nearest, ties to even. NaNs keep the upper bits of their fraction at most.
    fn narrow_halves(self, low: &[f32; 8], high: &[f32; 8]) -> [u32; 8];
    /// A register as 8 rows of 4 words, transposed; the 8 columns in [`COLUMN_ORDER`].
    fn transpose(self, register: &Lanes<u32>) -> [[u32; 8]; 4];
}

/// The order of 8 columns in which neighbours are neighbours in a register of C: first the even ones, then the odd ones.
pub const COLUMN_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// [`Vectors::transpose`] for words of any width.
#[inline(always)]
pub fn transpose<W: Copy + Default>(register: &Lanes<W>) -> [[W; 8]; 4] {
    let mut rows = [[W::default(); 8]; 4];
    for (thread, row) in rows.iter_mut().enumerate() {
        for (word, column) in row.iter_mut().zip(COLUMN_ORDER) {
            *word = register[4 * column + thread];
        }
    }
    rows
}

/// What is compiled once for each set of instructions.
pub trait Task {
    /// Does it. Must be `#[inline(always)]`, as all that it calls: a function of its own would be compiled for the least
    /// machine.
    fn run<V: Vectors>(self, vectors: V);
}

#[cfg(test)]
thread_local! {
    /// Whether tasks of this thread run in plain Rust all the same.
    pub static IS_PLAIN: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs a task with the best instructions that the machine has.
pub fn dispatch(task: impl Task) {
    #[cfg(test)]
    if IS_PLAIN.get() {
        return task.run(Portable);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(vectors) = super::avx2::Avx2::detect() {
        return vectors.run(task);
    }
    task.run(Portable);
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub struct Portable;

impl Vectors for Portable {
    type Singles = [f32; 8];

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> [f32; 8] {
        *values
    }

    #[inline(always)]
    fn store(self, values: [f32; 8]) -> [f32; 8] {
        values
    }

    #[inline(always)]
    fn multiply_add(self, a: f32, b: [f32; 8], mut sum: [f32; 8]) -> [f32; 8] {
        for (sum, b) in sum.iter_mut().zip(b) {
            *sum = a.mul_add(b, *sum);
        }
        sum
    }

    #[inline(always)]
    fn widen_halves(self, words: &[u32; 8]) -> [[f32; 8]; 2] {
        [words.map(single_from_half), words.map(|word| single_from_half(word >> 16))]
    }

    #[inline(always)]
    fn narrow_halves(self, low: &[f32; 8], high: &[f32; 8]) -> [u32; 8] {
        from_fn(|place| half_from_single(low[place]) | half_from_single(high[place]) << 16)
    }

    #[inline(always)]
    fn transpose(self, register: &Lanes<u32>) -> [[u32; 8]; 4] {
        transpose(register)
    }
}
