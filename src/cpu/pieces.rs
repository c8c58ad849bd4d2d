//! How work is cut: an array of rows is walked in pieces of about [`PIECE`] elements, on all threads of
//! rayon's current pool. The cut depends on shapes only, and so do sums over partial results a piece.

use std::ops::Range;

use crate::backend::Slots;

/// Elements a piece: 64 KiB, so that what a kernel reads and writes of a piece stays in the cache of a core,
/// and a piece takes long enough to be worth a hand-over between threads. Less than that runs on the caller.
pub const PIECE: usize = 16 * 1024;

/// A cut of `groups * rows` rows into pieces, none of which reaches over the end of a group.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    rows: usize,
    piece_rows: usize,
    group_pieces: usize,
    pieces: usize,
    parallel: bool,
}

/// One piece of a [`Cut`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its group: the sample.
    pub group: usize,
    /// Its rows, counted over all groups.
    pub rows: Range<usize>,
}

impl Piece {
    /// The elements of its rows in an array with `width` elements a row.
    #[inline(always)]
    pub fn elements(&self, width: usize) -> Range<usize> {
        self.rows.start * width..self.rows.end * width
    }
}

impl Cut {
    /// For `len` single elements.
    pub fn elements(len: usize) -> Self {
        Self::rows(1, len, 1)
    }

    /// For `groups` groups of `rows` rows with `width` elements each.
    pub fn rows(groups: usize, rows: usize, width: usize) -> Self {
        let piece_rows = (PIECE / width.max(1)).max(1);
        let group_pieces = rows.div_ceil(piece_rows);
        let parallel = groups * rows * width > PIECE;
        Self { rows, piece_rows, group_pieces, pieces: groups * group_pieces, parallel }
    }

    /// Pieces in all.
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// Pieces of one group; those of group g are number `g * group_pieces ..`.
    pub fn group_pieces(&self) -> usize {
        self.group_pieces
    }

    /// Calls `work` for each piece with its part of `out`.
    pub fn run<S: Split>(&self, out: S, work: impl Fn(Piece, S) + Sync) {
        self.run_range(0..self.pieces, out, &work);
    }

    fn run_range<S: Split>(&self, pieces: Range<usize>, out: S, work: &(impl Fn(Piece, S) + Sync)) {
        match pieces.len() {
            0 => {}
            1 => work(self.piece(pieces.start), out),
            count => {
                let middle = pieces.start + count / 2;
                let (left, right) = out.split(self.start(middle) - self.start(pieces.start), count / 2);
                let left = || self.run_range(pieces.start..middle, left, work);
                let right = || self.run_range(middle..pieces.end, right, work);
                if self.parallel {
                    rayon::join(left, right);
                } else {
                    left();
                    right();
                }
            }
        }
    }

    fn piece(&self, index: usize) -> Piece {
        let group = index / self.group_pieces;
        let start = self.start(index);
        let end = (start + self.piece_rows).min((group + 1) * self.rows);
        Piece { group, rows: start..end }
    }

    /// First row of a piece.
    fn start(&self, index: usize) -> usize {
        index / self.group_pieces * self.rows + index % self.group_pieces * self.piece_rows
    }
}

/// What can be divided between pieces: writable arrays, and tuples of them.
pub trait Split: Send + Sized {
    /// The part for the first `rows` rows, which are the first `pieces` pieces, and the rest.
    fn split(self, rows: usize, pieces: usize) -> (Self, Self);
}

/// An array with this many elements a row.
pub struct Rows<'a, T>(pub &'a mut [T], pub usize);

/// An array with this many elements a piece: partial sums.
pub struct PerPiece<'a, T>(pub &'a mut [T], pub usize);

/// One element a row.
impl<T: Send> Split for &mut [T] {
    fn split(self, rows: usize, _pieces: usize) -> (Self, Self) {
        self.split_at_mut(rows)
    }
}

impl<T: Send> Split for Rows<'_, T> {
    fn split(self, rows: usize, _pieces: usize) -> (Self, Self) {
        let (left, right) = self.0.split_at_mut(rows * self.1);
        (Rows(left, self.1), Rows(right, self.1))
    }
}

impl<T: Send> Split for PerPiece<'_, T> {
    fn split(self, _rows: usize, pieces: usize) -> (Self, Self) {
        let (left, right) = self.0.split_at_mut(pieces * self.1);
        (PerPiece(left, self.1), PerPiece(right, self.1))
    }
}

impl<A: Split, B: Split> Split for (A, B) {
    fn split(self, rows: usize, pieces: usize) -> (Self, Self) {
        let (a, b) = (self.0.split(rows, pieces), self.1.split(rows, pieces));
        ((a.0, b.0), (a.1, b.1))
    }
}

/// Accumulators of a sum that run side by side: enough to hide the latency of addition, and rounding errors
/// grow only with 1/32 of the number of terms.
const LANES: usize = 32;

/// The sum of `term(a, b, c)` over arrays of equal length, in an order that depends on the length only.
#[inline(always)]
pub fn sum_triples(a: &[f32], b: &[f32], c: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (a_full, a_rest) = a.as_chunks::<LANES>();
    let (b_full, b_rest) = b.as_chunks::<LANES>();
    let (c_full, c_rest) = c.as_chunks::<LANES>();
    for ((a, b), c) in a_full.iter().zip(b_full).zip(c_full) {
        for lane in 0..LANES {
            lanes[lane] += term(a[lane], b[lane], c[lane]);
        }
    }
    let mut rest = 0.0;
    for ((&a, &b), &c) in a_rest.iter().zip(b_rest).zip(c_rest) {
        rest += term(a, b, c);
    }
    let sum = fold_lanes(
        lanes,
        #[inline(always)]
        |a, b| a + b,
    );
    sum + rest
}

/// The sum of `term(a, b)`, as [`sum_triples`].
#[inline(always)]
pub fn sum_pairs(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    sum_triples(
        a,
        b,
        b,
        #[inline(always)]
        |a, b, _| term(a, b),
    )
}

/// The sum of `term(x)`, as [`sum_triples`].
#[inline(always)]
pub fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    sum_triples(
        x,
        x,
        x,
        #[inline(always)]
        |x, _, _| term(x),
    )
}

/// All of `lanes`, a power of two of them, joined pairwise, so that it vectorises too.
#[inline(always)]
pub fn fold_lanes<const COUNT: usize>(mut lanes: [f32; COUNT], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = COUNT;
    while width > 1 {
        width /= 2;
        let (left, right) = lanes.split_at_mut(width);
        for (left, right) in left.iter_mut().zip(right) {
            *left = join(*left, *right);
        }
    }
    lanes[0]
}

/// Terms to sum in f32 before the sum is added to an f64: short enough for an error of a few roundings, and
/// for the first-level cache.
pub const SHORT: usize = 2048;

/// Where the vector of a sample lies in a `[batch, slots, dim]` array.
pub fn slot(slots: Slots, sample: usize, dim: usize) -> Range<usize> {
    let start = (sample * slots.count + slots.index) * dim;
    start..start + dim
}

/// `total += row`
#[inline(always)]
pub fn add_to(total: &mut [f32], row: &[f32]) {
    for (total, row) in total.iter_mut().zip(row) {
        *total += row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_row_once_and_stay_inside_their_group() {
        for (groups, rows, width) in
            [(1, 1, 1), (3, 0, 5), (0, 3, 5), (1, 50_000, 1), (3, 257, 127), (5, 3, 40_000)]
        {
            let cut = Cut::rows(groups, rows, width);
            let mut visits = vec![0_u8; groups * rows * width];
            let mut seen = vec![usize::MAX; cut.pieces()];
            cut.run((Rows(&mut visits, width), PerPiece(&mut seen, 1)), |piece, (part, seen)| {
                assert_eq!(part.0.len(), piece.elements(width).len());
                assert!(!piece.rows.is_empty());
                assert!(piece.rows.start / rows == piece.group && (piece.rows.end - 1) / rows == piece.group);
                part.0.iter_mut().for_each(|visits| *visits += 1);
                seen.0[0] = piece.group;
            });
            assert!(visits.iter().all(|&visits| visits == 1), "{groups} {rows} {width}");
            for (index, group) in seen.iter().enumerate() {
                assert_eq!(*group, index / cut.group_pieces());
            }
        }
    }

    #[test]
    fn sums_take_every_term() {
        for len in [0, 1, 31, 32, 33, 65, 5000] {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let want = (0..len).map(|i| i as f64 * 2.0).sum::<f64>();
            assert_eq!(f64::from(sum(&x, |x| 2.0 * x)), want as f32 as f64, "{len}");
            assert_eq!(f64::from(sum_pairs(&x, &x, |a, b| a + b)), want as f32 as f64, "{len}");
        }
    }
}
