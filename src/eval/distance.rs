//! Distances between two sets of feature vectors, by which samples are compared with music.
//!
//! ```text
//! Frechet   |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)       (Dowson and Landau 1982; Heusel et al. 2017, eq. 6)
//! kernel    MMD^2 with k(x, y) = (x.y / d + 1)^3, unbiased             (Gretton et al. 2012, eq. 3; Binkowski et al. 2018)
//! ```
//!
//! There are few clips, so covariances are shrunk towards a multiple of the identity, by what Oracle Approximating Shrinkage
//! (Chen et al. 2010, eq. 23) finds right. Vectors are to be on one scale before: [`super::features::Scale`].

use super::linear::Symmetric;

/// Mean and shrunk covariance of a set.
#[derive(Clone, Debug)]
pub struct Gaussian {
    /// Mean.
    pub mean: Vec<f64>,
    /// Covariance.
    pub covariance: Symmetric,
}

impl Gaussian {
    /// Of vectors of one length, one at least.
    pub fn of(clips: &[Vec<f64>]) -> Gaussian {
        let (n, d) = (clips.len() as f64, clips[0].len());
        let mean: Vec<f64> = (0..d).map(|i| clips.iter().map(|clip| clip[i]).sum::<f64>() / n).collect();
        let mut covariance = Symmetric::zeros(d);
        for clip in clips {
            for i in 0..d {
                for j in 0..d {
                    covariance.values[i * d + j] += (clip[i] - mean[i]) * (clip[j] - mean[j]) / n;
                }
            }
        }
        shrink(&mut covariance, n);
        Gaussian { mean, covariance }
    }

    /// The Fréchet distance, squared as it is usually given.
    pub fn frechet(&self, other: &Gaussian) -> f64 {
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let (eigenvalues, _) = self.covariance.sqrt().around(&other.covariance).eigen();
        let root_trace: f64 = eigenvalues.iter().map(|value| value.max(0.0).sqrt()).sum();
        means + self.covariance.trace() + other.covariance.trace() - 2.0 * root_trace
    }
}

/// Oracle Approximating Shrinkage of the covariance of `n` vectors.
fn shrink(covariance: &mut Symmetric, n: f64) {
    let p = covariance.n as f64;
    let trace = covariance.trace();
    let squares: f64 = covariance.values.iter().map(|x| x * x).sum();
    let numerator = (1.0 - 2.0 / p) * squares + trace * trace;
    let denominator = (n + 1.0 - 2.0 / p) * (squares - trace * trace / p);
    let rho = if denominator > 0.0 { (numerator / denominator).min(1.0) } else { 1.0 };
    covariance.values.iter_mut().for_each(|x| *x *= 1.0 - rho);
    for i in 0..covariance.n {
        covariance.values[i * covariance.n + i] += rho * trace / p;
    }
}

/// The squared maximum mean discrepancy, unbiased: about 0, and below it as often as above, for sets drawn alike. NaN for sets of
/// one.
pub fn kernel(x: &[Vec<f64>], y: &[Vec<f64>]) -> f64 {
    let k = |a: &Vec<f64>, b: &Vec<f64>| {
        let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        (product / a.len() as f64 + 1.0).powi(3)
    };
    let across = |a: &[Vec<f64>], b: &[Vec<f64>]| {
        a.iter().map(|a| b.iter().map(|b| k(a, b)).sum::<f64>()).sum::<f64>()
    };
    let within = |a: &[Vec<f64>]| {
        let n = a.len() as f64;
        let own: f64 = a.iter().map(|a| k(a, a)).sum();
        (across(a, a) - own) / (n * (n - 1.0))
    };
    within(x) + within(y) - 2.0 * across(x, y) / (x.len() * y.len()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::noise;
    use crate::random;

    fn gaussian(mean: &[f64], diagonal: &[f64]) -> Gaussian {
        let mut covariance = Symmetric::zeros(mean.len());
        diagonal.iter().enumerate().for_each(|(i, x)| covariance.values[i * mean.len() + i] = *x);
        Gaussian { mean: mean.to_vec(), covariance }
    }

    fn normal(seed: u64, count: usize, dimension: usize, mean: f64, deviation: f64) -> Vec<Vec<f64>> {
        let number = |clip: usize, i: usize| {
            mean + deviation * f64::from(random::normal(noise::key(seed, clip as u64), i as u64))
        };
        (0..count).map(|clip| (0..dimension).map(|i| number(clip, i)).collect()).collect()
    }

    #[test]
    fn gaussians_have_the_distance_of_the_closed_form() {
        let (a, b) = (gaussian(&[0.0, 1.0], &[1.0, 4.0]), gaussian(&[3.0, -1.0], &[9.0, 1.0]));
        // Covariances that commute: |m1 - m2|^2 + sum (sqrt a - sqrt b)^2.
        assert!((a.frechet(&b) - (13.0 + 4.0 + 1.0)).abs() < 1e-9, "{}", a.frechet(&b));
        assert!(a.frechet(&a).abs() < 1e-9);
        // Turned by 45 degrees, S2 = [[2.5, 1.5], [1.5, 2.5]] has the eigenvalues 4 and 1; S1 is the identity.
        let one = gaussian(&[0.0, 0.0], &[1.0, 1.0]);
        let mut turned = gaussian(&[0.0, 0.0], &[2.5, 2.5]);
        (turned.covariance.values[1], turned.covariance.values[2]) = (1.5, 1.5);
        assert!((one.frechet(&turned) - 1.0).abs() < 1e-9, "{}", one.frechet(&turned));
        // That do not commute, in two dimensions: tr (S1 S2)^1/2 = sqrt(tr S1 S2 + 2 sqrt(det S1 S2)).
        let trace_root = (2.5f64 + 4.0 * 2.5 + 2.0 * (4.0f64 * 4.0).sqrt()).sqrt();
        let skewed = gaussian(&[0.0, 0.0], &[1.0, 4.0]);
        let want = 5.0 + 5.0 - 2.0 * trace_root;
        assert!((skewed.frechet(&turned) - want).abs() < 1e-9, "{} for {want}", skewed.frechet(&turned));
    }

    #[test]
    fn sets_of_gaussians_come_near_the_closed_form() {
        let (x, y) = (normal(1, 4000, 4, 0.0, 1.0), normal(2, 4000, 4, 0.5, 2.0));
        let got = Gaussian::of(&x).frechet(&Gaussian::of(&y));
        assert!((got - 5.0).abs() < 0.3, "{got} for 4 (0.25 + 1)");
        let few = Gaussian::of(&normal(3, 10, 30, 0.0, 1.0));
        let (values, _) = few.covariance.eigen();
        assert!(
            values.iter().all(|&value| value > 0.1),
            "a covariance of ten clips has no zeros: {values:?}"
        );
    }

    #[test]
    fn the_kernel_distance_is_0_on_average_for_sets_drawn_alike_and_not_for_others() {
        let pairs = 200;
        let of = |pair: u64, mean: f64| {
            kernel(&normal(10 + 2 * pair, 12, 5, 0.0, 1.0), &normal(11 + 2 * pair, 9, 5, mean, 1.0))
        };
        let alike: Vec<f64> = (0..pairs).map(|pair| of(pair, 0.0)).collect();
        let mean = alike.iter().sum::<f64>() / pairs as f64;
        let deviation = (alike.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / pairs as f64).sqrt();
        let error = deviation / (pairs as f64).sqrt();
        assert!(mean.abs() < 3.0 * error, "{mean} +- {error}");
        assert!(alike.iter().any(|&x| x < 0.0), "unbiased means below 0 too");
        let others = (0..pairs).map(|pair| of(pair, 0.7)).sum::<f64>() / pairs as f64;
        // k = (x.y / d + 1)^3 with x.y / d of mean m^2 for means m: (1 + m^2)^3 is a lower bound, by convexity.
        assert!(others > (1.0f64 + 0.49).powi(3) - 1.0 - 2.0 * 0.49, "{others}");
    }
}
