//! Symmetric matrices: eigen decomposition by Jacobi's rotations (Golub and Van Loan 2013, section 8.5), and what needs it.
//! Small and dense: a few dozen rows.

/// Sweeps over all pairs, at most; convergence is quadratic and takes about ten.
const SWEEPS: usize = 60;

/// A symmetric matrix of `n` rows, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    /// Rows.
    pub n: usize,
    /// `[n, n]`.
    pub values: Vec<f64>,
}

impl Symmetric {
    /// Zeros.
    pub fn zeros(n: usize) -> Symmetric {
        Symmetric { n, values: vec![0.0; n * n] }
    }

    /// An element.
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.n + j]
    }

    /// Sum of the diagonal.
    pub fn trace(&self) -> f64 {
        (0..self.n).map(|i| self.at(i, i)).sum()
    }

    /// Eigenvalues, and eigenvectors as rows, in no order.
    pub fn eigen(&self) -> (Vec<f64>, Vec<f64>) {
        let n = self.n;
        let mut a = self.values.clone();
        let mut vectors = vec![0.0; n * n];
        (0..n).for_each(|i| vectors[i * n + i] = 1.0);
        for _ in 0..SWEEPS {
            let off: f64 =
                (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].powi(2)).sum();
            let all: f64 = a.iter().map(|x| x * x).sum();
            if off <= 1e-30 * all {
                break;
            }
            for p in 0..n {
                for q in p + 1..n {
                    rotate(&mut a, &mut vectors, n, p, q);
                }
            }
        }
        ((0..n).map(|i| a[i * n + i]).collect(), vectors)
    }

    /// The square root of a matrix without negative eigenvalues (what rounding makes negative counts as 0).
    pub fn sqrt(&self) -> Symmetric {
        let (values, vectors) = self.eigen();
        let n = self.n;
        let mut root = Symmetric::zeros(n);
        for (value, vector) in values.iter().zip(vectors.chunks_exact(n)) {
            let value = value.max(0.0).sqrt();
            for i in 0..n {
                for j in 0..n {
                    root.values[i * n + j] += value * vector[i] * vector[j];
                }
            }
        }
        root
    }

    /// `self other self`.
    pub fn around(&self, other: &Symmetric) -> Symmetric {
        let half = product(&self.values, &other.values, self.n);
        Symmetric { n: self.n, values: product(&half, &self.values, self.n) }
    }
}

/// One rotation that makes element (p, q) zero.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let t = if tau == 0.0 { 1.0 } else { t };
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (vectors[p * n + k], vectors[q * n + k]);
        (vectors[p * n + k], vectors[q * n + k]) = (c * x - s * y, s * x + c * y);
    }
}

fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, a) in out.chunks_exact_mut(n).zip(a.chunks_exact(n)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(n)) {
            row.iter_mut().zip(b).for_each(|(sum, b)| *sum += a * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_rebuild_the_matrix_and_its_root_squares_to_it() {
        let n = 17;
        let factor: Vec<f64> = (0..n * n).map(|i| ((i * 7919 + 3) % 101) as f64 / 50.0 - 1.0).collect();
        let mut a = Symmetric::zeros(n);
        for i in 0..n {
            for j in 0..n {
                a.values[i * n + j] = (0..n).map(|k| factor[i * n + k] * factor[j * n + k]).sum();
            }
        }
        let (values, vectors) = a.eigen();
        for (value, vector) in values.iter().zip(vectors.chunks_exact(n)) {
            for i in 0..n {
                let image: f64 = (0..n).map(|j| a.at(i, j) * vector[j]).sum();
                assert!((image - value * vector[i]).abs() < 1e-9, "{image} for {}", value * vector[i]);
            }
        }
        let root = a.sqrt();
        let squared = product(&root.values, &root.values, n);
        for (got, want) in squared.iter().zip(&a.values) {
            assert!((got - want).abs() < 1e-9, "{got} for {want}");
        }
    }
}
