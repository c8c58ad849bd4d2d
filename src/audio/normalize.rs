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
}

impl Statistics {
    /// Nothing seen yet, for images of `rows = C * H` rows.
    pub fn new(rows: usize) -> Self {
        Self { count: 0, mean: vec![0.0; rows], squares: vec![0.0; rows] }
    }

    /// Values seen in each row so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// An accumulator as it was: the counterpart of [`count`](Self::count), [`mean`](Self::mean) and
    /// [`squares`](Self::squares), for storing it.
    ///
    /// # Errors
    /// [`Error::Shape`] if there are not as many means as sums of squares.
    pub fn from_parts(count: u64, mean: Vec<f64>, squares: Vec<f64>) -> Result<Self> {
        if mean.len() != squares.len() {
            let expected = format!("{} rows", mean.len());
            return Err(Error::shape("statistics", expected, squares.len().to_string()));
        }
        Ok(Self { count, mean, squares })
    }

    /// Mean of each row.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Sum of squared differences from the mean, of each row.
    pub fn squares(&self) -> &[f64] {
        &self.squares
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
        for ((row, mean), squares) in image.chunks_exact(width).zip(&mut one.mean).zip(&mut one.squares) {
            *mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / width as f64;
            *squares = row.iter().map(|&x| (f64::from(x) - *mean).powi(2)).sum();
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
        }
    }
}
