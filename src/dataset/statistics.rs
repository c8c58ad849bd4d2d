//! Sums a channel and frequency row, kept with every shard, so that the training set's mean and deviation can
//! be had again without reading a segment.

/// Sums over every value of a row, in f64: `[C, H]` row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RowSums {
    /// Sum of the values.
    pub sum: Vec<f64>,
    /// Sum of their squares.
    pub sum_squares: Vec<f64>,
}

impl RowSums {
    /// Nothing summed yet.
    pub fn new(rows: usize) -> Self {
        Self { sum: vec![0.0; rows], sum_squares: vec![0.0; rows] }
    }

    /// Adds one segment `[C, H, W]`.
    pub fn add_segment(&mut self, segment: &[f32]) {
        let width = segment.len() / self.sum.len();
        for ((sum, squares), row) in
            self.sum.iter_mut().zip(&mut self.sum_squares).zip(segment.chunks_exact(width))
        {
            *sum += row.iter().map(|&x| f64::from(x)).sum::<f64>();
            *squares += row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
        }
    }

    /// Adds another's sums. Floating-point addition does not commute with grouping, so callers merge in the
    /// order of the tracks' content hashes: the result then depends on the data alone.
    pub fn merge(&mut self, other: &RowSums) {
        self.sum.iter_mut().zip(&other.sum).for_each(|(own, new)| *own += new);
        self.sum_squares.iter_mut().zip(&other.sum_squares).for_each(|(own, new)| *own += new);
    }

    /// Mean and deviation (of the population) a row, over `count` values a row.
    pub fn mean_and_deviation(&self, count: u64) -> (Vec<f32>, Vec<f32>) {
        let count = count.max(1) as f64;
        let rows = self.sum.iter().zip(&self.sum_squares);
        rows.map(|(sum, squares)| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            (mean as f32, variance.sqrt() as f32)
        })
        .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_their_own_mean_and_deviation() {
        let mut sums = RowSums::new(2);
        sums.add_segment(&[1.0, 3.0, -7.0, -7.0]);
        let mut more = RowSums::new(2);
        more.add_segment(&[5.0, 7.0, -7.0, -7.0]);
        sums.merge(&more);
        let (mean, deviation) = sums.mean_and_deviation(4);
        assert_eq!(mean, [4.0, -7.0]);
        assert!((f64::from(deviation[0]) - 5.0_f64.sqrt()).abs() < 1e-6, "{deviation:?}");
        assert_eq!(deviation[1], 0.0);
    }
}
