//! Normalisation by the training set's statistics, per image channel and frequency row.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Smallest deviation that a row is divided by, as a share of the mean deviation of all rows: a row that
/// is (nearly) constant in the data must not blow up what little it holds.
const RELATIVE_FLOOR: f64 = 1e-2;
/// And absolutely, for data that is constant altogether.
const ABSOLUTE_FLOOR: f64 = 1e-6;

/// `y = (x - mean) / deviation`, with one mean and deviation for each of the `C * H` rows of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Normalizer {
    /// Mean of each row, `[C * H]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each row, `[C * H]`, above zero.
    pub deviation: Vec<f32>,
    /// Smallest and largest value of each row, `[C * H]`, not normalised; empty where nobody knows them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<[f32; 2]>,
}

impl Normalizer {
    /// Normalises images `[.., C, H, W]` of `width` frames in place.
    ///
    /// # Errors
    /// [`Error::Shape`] if `images` is not a whole number of images.
    pub fn apply(&self, images: &mut [f32], width: usize) -> Result<()> {
        self.check("normalize", images, width)?;
        self.each_row(images, width, |x, mean, deviation| (x - mean) / deviation);
        Ok(())
    }

    /// The inverse of [`apply`](Self::apply), in place.
    ///
    /// # Errors
    /// [`Error::Shape`] if `images` is not a whole number of images.
    pub fn undo(&self, images: &mut [f32], width: usize) -> Result<()> {
        self.check("denormalize", images, width)?;
        self.each_row(images, width, |y, mean, deviation| y * deviation + mean);
        Ok(())
    }

    /// Clamps images, not normalised ones, to what there was in the data: DDPM's clamp (Ho et al. 2020, section 3.3) for rows
    /// with a range each. Where the range is not known, nothing happens.
    ///
    /// # Errors
    /// [`Error::Shape`] if `images` is not a whole number of images.
    pub fn limit(&self, images: &mut [f32], width: usize) -> Result<()> {
        self.check("limit", images, width)?;
        if self.range.len() == self.mean.len() {
            for (row, &[smallest, largest]) in images.chunks_exact_mut(width).zip(self.range.iter().cycle()) {
                row.iter_mut().for_each(|x| *x = x.clamp(smallest, largest));
            }
        }
        Ok(())
    }

    fn each_row(&self, images: &mut [f32], width: usize, map: impl Fn(f32, f32, f32) -> f32) {
        let rows = self.mean.iter().zip(&self.deviation).cycle();
        for (row, (&mean, &deviation)) in images.chunks_exact_mut(width).zip(rows) {
            row.iter_mut().for_each(|x| *x = map(*x, mean, deviation));
        }
    }

    fn check(&self, op: &'static str, images: &[f32], width: usize) -> Result<()> {
        let size = self.mean.len() * width;
        if self.mean.len() == self.deviation.len() && size > 0 && images.len().is_multiple_of(size) {
            return Ok(());
        }
        let expected = format!("images of {} rows x {width} frames", self.mean.len());
        Err(Error::shape(op, expected, format!("{} values", images.len())))
    }
}

/// Collects mean and variance of every row, image by image, in f64 (Welford's method, merged by Chan, Golub
/// and LeVeque 1983, equation 2.1). What it gives depends on the order of images only in the last bits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Values seen in each row.
    count: u64,
    mean: Vec<f64>,
    /// Sum of squared differences from the mean.
    squares: Vec<f64>,
    /// Smallest and largest value.
    range: Vec<[f32; 2]>,
}

/// The range of no value at all.
const NOTHING: [f32; 2] = [f32::INFINITY, f32::NEG_INFINITY];
/// The range of values that nobody has kept: every other range lies in it.
pub const ANYTHING: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

impl Statistics {
    /// Nothing seen yet, for images of `rows = C * H` rows.
    pub fn new(rows: usize) -> Self {
        Self { count: 0, mean: vec![0.0; rows], squares: vec![0.0; rows], range: vec![NOTHING; rows] }
    }

    /// Values seen in each row so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// An accumulator as it was: the counterpart of [`count`](Self::count), [`mean`](Self::mean),
    /// [`squares`](Self::squares) and [`range`](Self::range), for storing it.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many means as sums of squares and ranges.
    pub fn from_parts(count: u64, mean: Vec<f64>, squares: Vec<f64>, range: Vec<[f32; 2]>) -> Result<Self> {
        for len in [squares.len(), range.len()] {
            if mean.len() != len {
                return Err(Error::shape("statistics", format!("{} rows", mean.len()), len.to_string()));
            }
        }
        Ok(Self { count, mean, squares, range })
    }

    /// Mean of each row.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Sum of squared differences from the mean, of each row.
    pub fn squares(&self) -> &[f64] {
        &self.squares
    }

    /// Smallest and largest value of each row.
    pub fn range(&self) -> &[[f32; 2]] {
        &self.range
    }

    /// Adds one image `[C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the image is not a whole number of frames of `rows` rows.
    pub fn push(&mut self, image: &[f32]) -> Result<()> {
        let rows = self.mean.len();
        if rows == 0 || image.is_empty() || !image.len().is_multiple_of(rows) {
            let expected = format!("an image of {rows} rows");
            return Err(Error::shape("statistics", expected, format!("{} values", image.len())));
        }
        let width = image.len() / rows;
        let mut one = Self::new(rows);
        one.count = width as u64;
        let rows = image.chunks_exact(width).zip(&mut one.mean).zip(&mut one.squares).zip(&mut one.range);
        for (((row, mean), squares), range) in rows {
            *mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            *squares = row.iter().map(|&x| (f64::from(x) - *mean).powi(2)).sum();
            *range = row.iter().fold(NOTHING, |range, &x| joined(range, [x, x]));
        }
        self.merge(&one)
    }

    /// Adds what another accumulator saw.
    ///
    /// # Errors
    /// [`Error::Shape`] if it counts other rows.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.mean.len() != other.mean.len() {
            let (expected, got) = (self.mean.len().to_string(), other.mean.len().to_string());
            return Err(Error::shape("statistics", format!("{expected} rows"), got));
        }
        let total = self.count + other.count;
        if total == 0 {
            return Ok(());
        }
        let (here, share) = (self.count as f64, other.count as f64 / total as f64);
        for (row, (mean, squares)) in self.mean.iter_mut().zip(&mut self.squares).enumerate() {
            let difference = other.mean[row] - *mean;
            *mean += difference * share;
            *squares += other.squares[row] + difference * difference * here * share;
        }
        self.range.iter_mut().zip(&other.range).for_each(|(range, &other)| *range = joined(*range, other));
        self.count = total;
        Ok(())
    }

    /// The normaliser of what was seen. A row's deviation is at least 1% of the mean deviation of all rows.
    pub fn finish(&self) -> Normalizer {
        let deviation = |squares: &f64| (squares / self.count.max(1) as f64).sqrt();
        let mean_deviation = self.squares.iter().map(deviation).sum::<f64>() / self.mean.len().max(1) as f64;
        let floor = (RELATIVE_FLOOR * mean_deviation).max(ABSOLUTE_FLOOR);
        Normalizer {
            mean: self.mean.iter().map(|&mean| mean as f32).collect(),
            deviation: self.squares.iter().map(|squares| deviation(squares).max(floor) as f32).collect(),
            range: if self.range.iter().flatten().all(|x| x.is_finite()) {
                self.range.clone()
            } else {
                Vec::new()
            },
        }
    }
}

/// The range that holds both.
fn joined([a, b]: [f32; 2], [c, d]: [f32; 2]) -> [f32; 2] {
    [a.min(c), b.max(d)]
}
