//! The product itself, on registers: D = A * B + C.
//!
//! Floats: products are exact and are added one by one, k ascending, to the element of C, each sum rounded to nearest
//! in f32 (fused multiply-adds; subnormal numbers count); where D is f16 the last sum is rounded once more. In f64 the
//! same. Real tensor cores add several products at once and drop bits below the greatest: results differ in the last
//! places, which PTX leaves open. Integers wrap, or with `.satfinite` the sum of C and the product is clamped.

use super::Lanes;
use super::arithmetic::Arithmetic;
use super::inputs::Input;
use super::vectors::{Task, Vectors, dispatch};
use std::hint::black_box;

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
    /// Computes D.
    pub fn compute(self) {
        dispatch(self);
    }

    /// A register of A, widened.
    #[inline(always)]
    fn unpack_left<V: Vectors>(&self, vectors: V, register: &Lanes<S::Word>) -> [Lanes<S::Value>; PARTS] {
        let mut parts = [[S::Value::default(); 32]; PARTS];
        for (index, words) in register.as_chunks::<8>().0.iter().enumerate() {
            for (part, values) in parts.iter_mut().zip(self.left.widen(vectors, words)) {
                part.as_chunks_mut::<8>().0[index] = values;
            }
        }
        parts
    }

    /// A register of B, widened and transposed: for each thread and part, that is row, the 8 columns.
    #[inline(always)]
    fn unpack_right<V: Vectors>(&self, vectors: V, register: &Lanes<S::Word>) -> [[[S::Value; 8]; PARTS]; 4] {
        let mut rows = [[[S::Value::default(); 8]; PARTS]; 4];
        for (row, words) in rows.iter_mut().zip(self.arithmetic.transpose(vectors, register)) {
            *row = self.right.widen(vectors, &words);
        }
        rows
    }
}

impl<A, B, S, const PARTS: usize, const STEPS: usize> Task for Product<'_, A, B, S, PARTS, STEPS>
where
    A: Input<PARTS, Word = S::Word, Value = S::Value>,
    B: Input<PARTS, Word = S::Word, Value = S::Value>,
    S: Arithmetic,
{
    #[inline(always)]
    fn run<V: Vectors>(self, vectors: V) {
        let arithmetic = self.arithmetic;
        for column in 0..self.columns {
            let mut right = [[[[S::Value::default(); 8]; PARTS]; 4]; STEPS];
            for (step, right) in right.iter_mut().enumerate() {
                *right = self.unpack_right(vectors, self.b[column * STEPS + step]);
            }
            for row in 0..self.rows {
                let block = column * self.rows + row;
                let mut sums = arithmetic.start(vectors, self.c, block);
                let mut rows = [arithmetic.load(vectors, &sums[0]); 8];
                for (row, sums) in rows.iter_mut().zip(&sums) {
                    *row = arithmetic.load(vectors, sums);
                }
                for (step, right) in right.iter().enumerate() {
                    let left = self.unpack_left(vectors, self.a[step * self.rows + row]);
                    // Kept in memory: a load that broadcasts is cheaper than a shuffle.
                    let left = black_box(&left);
                    for thread in 0..4 {
                        for part in 0..PARTS {
                            for (group, row) in rows.iter_mut().enumerate() {
                                let left = left[part][4 * group + thread];
                                *row = arithmetic.step(vectors, left, &right[thread][part], *row);
                            }
                        }
                    }
                }
                for (sums, row) in sums.iter_mut().zip(rows) {
                    *sums = arithmetic.store(vectors, row);
                }
                arithmetic.finish(vectors, &sums, self.c, self.d, block);
            }
        }
    }
}
