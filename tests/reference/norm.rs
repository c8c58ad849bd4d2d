//! Layer normalisation by the book, for any number type.

use crate::common::real::Real;

/// mean and 1 / sqrt(variance + eps) of a row, two passes.
pub fn statistics<R: Real>(x: &[R], eps: f64) -> (R, R) {
    let count = R::count(x.len());
    let mut mean = R::zero();
    for &x in x {
        mean += x;
    }
    let mean = mean / count;
    let mut variance = R::zero();
    for &x in x {
        variance += (x - mean) * (x - mean);
    }
    (mean, (variance / count).map(|variance| 1.0 / (variance + eps).sqrt()))
}

/// (y, stats) for rows of x with a scale and a shift for each row: `y = xhat scale + shift`.
pub fn forward<R: Real>(x: &[R], scale: &[R], shift: &[R], eps: f64, dim: usize) -> (Vec<R>, Vec<R>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for row in 0..x.len() / dim {
        let part = row * dim..(row + 1) * dim;
        let (mean, rstd) = statistics(&x[part.clone()], eps);
        stats.extend([mean, rstd]);
        for i in part {
            y.push((x[i] - mean) * rstd * scale[i] + shift[i]);
        }
    }
    (y, stats)
}

/// (dx, dy xhat): the second is what is to be summed for the gradient of the scale.
pub fn backward<R: Real>(dy: &[R], x: &[R], scale: &[R], eps: f64, dim: usize) -> (Vec<R>, Vec<R>) {
    let (mut dx, mut dy_xhat) = (Vec::new(), Vec::new());
    for row in 0..x.len() / dim {
        let part = row * dim..(row + 1) * dim;
        let (mean, rstd) = statistics(&x[part.clone()], eps);
        let (mut sum_g, mut sum_g_xhat) = (R::zero(), R::zero());
        for i in part.clone() {
            let g = dy[i] * scale[i];
            sum_g += g;
            sum_g_xhat += g * ((x[i] - mean) * rstd);
        }
        for i in part {
            let xhat = (x[i] - mean) * rstd;
            let count = R::count(dim);
            dx.push(rstd * (dy[i] * scale[i] - sum_g / count - xhat * (sum_g_xhat / count)));
            dy_xhat.push(dy[i] * xhat);
        }
    }
    (dx, dy_xhat)
}

/// `total[d] += sum over rows of x[row, d]`
pub fn add_columns<R: Real>(total: &mut [R], x: &[R]) {
    let dim = total.len();
    for (i, &x) in x.iter().enumerate() {
        total[i % dim] += x;
    }
}
