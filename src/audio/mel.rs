//! The mel filter bank and its non-negative inverse.
//!
//! The scale is Slaney's (Auditory Toolbox, 1998), linear below 1 kHz and logarithmic above; the filters
//! are triangles of height 1 from one centre to the next, so that neighbouring filters sum to 1 and a bin
//! belongs to at most two of them.

/// Mel per hertz below the break.
const MEL_PER_HZ: f64 = 3.0 / 200.0;
const BREAK_HZ: f64 = 1000.0;
const BREAK_MEL: f64 = BREAK_HZ * MEL_PER_HZ;
/// Mel per e-fold of frequency above the break: 27 steps from 1 to 6.4 kHz.
const MEL_PER_LOG: f64 = 27.0 / 1.856_297_990_365_626_3; // 27 / ln(6.4)
/// Updates of the inverse; the residual falls below what Griffin-Lim leaves well before.
const INVERSE_ITERATIONS: usize = 50;
/// Keeps the multiplicative update's division finite, in squared units of the magnitudes.
const SMALLEST_DENOMINATOR: f32 = 1e-20;

/// `bands` triangular filters over the bins of an FFT.
#[derive(Clone, Debug)]
pub struct MelFilters {
    bands: usize,
    /// For every bin, the filters that it belongs to: first band, its weight, and the next band's weight.
    bins: Vec<Share>,
}

/// What a bin gives to band `first` and to band `first + 1`.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    first: usize,
    weights: [f32; 2],
}

/// Hertz to mel.
pub fn mel_from_hz(hz: f64) -> f64 {
    if hz < BREAK_HZ { hz * MEL_PER_HZ } else { BREAK_MEL + (hz / BREAK_HZ).ln() * MEL_PER_LOG }
}

/// Mel to hertz.
pub fn hz_from_mel(mel: f64) -> f64 {
    if mel < BREAK_MEL { mel / MEL_PER_HZ } else { BREAK_HZ * ((mel - BREAK_MEL) / MEL_PER_LOG).exp() }
}

impl MelFilters {
    /// Filters from 0 Hz to half of `sample_rate`, over `n_fft / 2 + 1` bins.
    pub fn new(bands: usize, n_fft: usize, sample_rate: u32) -> Self {
        let nyquist_hz = f64::from(sample_rate) / 2.0;
        let step = mel_from_hz(nyquist_hz) / (bands + 1) as f64;
        // Point b is the left foot of band b, the peak of band b - 1 and the right foot of band b - 2.
        let points: Vec<f64> = (0..bands + 2).map(|b| hz_from_mel(b as f64 * step)).collect();
        let share = |bin: usize| {
            let hz = bin as f64 * f64::from(sample_rate) / n_fft as f64;
            let right = points.partition_point(|&point| point <= hz).clamp(1, bands + 1);
            let rise =
                (((hz - points[right - 1]) / (points[right] - points[right - 1])) as f32).clamp(0.0, 1.0);
            // Falls out of band right - 2 and rises into band right - 1.
            match right {
                1 => Share { first: 0, weights: [rise, 0.0] },
                right if right == bands + 1 => Share { first: bands - 1, weights: [1.0 - rise, 0.0] },
                right => Share { first: right - 2, weights: [1.0 - rise, rise] },
            }
        };
        Self { bands, bins: (0..=n_fft / 2).map(share).collect() }
    }

    /// Number of filters.
    pub fn bands(&self) -> usize {
        self.bands
    }

    /// Number of FFT bins.
    pub fn bins(&self) -> usize {
        self.bins.len()
    }

    /// The weight of `bin` in `band`.
    pub fn weight(&self, band: usize, bin: usize) -> f32 {
        let share = self.bins[bin];
        match band.checked_sub(share.first) {
            Some(offset @ 0..=1) => share.weights[offset],
            _ => 0.0,
        }
    }

    /// A band that no bin falls into, if there is one: the filters are too narrow for this FFT.
    pub fn empty_band(&self) -> Option<usize> {
        (0..self.bands).find(|&band| (0..self.bins()).all(|bin| self.weight(band, bin) == 0.0))
    }

    /// `mel[b, t] = sum_k weight[b, k] magnitude[k, t]`; `magnitude` is `[bins, frames]`, the result
    /// `[bands, frames]`.
    pub fn apply(&self, magnitude: &[f32], frames: usize) -> Vec<f32> {
        let mut mel = vec![0.0; self.bands * frames];
        self.apply_into(magnitude, frames, &mut mel);
        mel
    }

    /// Magnitudes `S >= 0`, `[bins, frames]`, that nearly solve `M S = mel` in the least-squares sense.
    ///
    /// Multiplicative updates (Lee and Seung 2001, equation 4), which keep S non-negative and never raise the
    /// residual:
    ///
    /// ```text
    /// S <- S * (M' mel) / (M' M S)
    /// ```
    ///
    /// They start from each band's magnitude spread evenly over its bins, and so choose, of the many solutions,
    /// a smooth one.
    pub fn invert(&self, mel: &[f32], frames: usize) -> Vec<f32> {
        let mut magnitude = self.spread(mel, frames);
        let mut reached = vec![0.0; self.bands * frames];
        for _ in 0..INVERSE_ITERATIONS {
            self.apply_into(&magnitude, frames, &mut reached);
            for (row, share) in magnitude.chunks_exact_mut(frames).zip(&self.bins) {
                let [low, high] = share.weights;
                let (wanted, got) = (self.pair(mel, share, frames), self.pair(&reached, share, frames));
                for (t, value) in row.iter_mut().enumerate() {
                    let numerator = low * wanted.0[t] + high * wanted.1[t];
                    let denominator = low * got.0[t] + high * got.1[t];
                    *value *= numerator / (denominator + SMALLEST_DENOMINATOR);
                }
            }
        }
        magnitude
    }

    fn apply_into(&self, magnitude: &[f32], frames: usize, mel: &mut [f32]) {
        mel.fill(0.0);
        for (row, share) in magnitude.chunks_exact(frames).zip(&self.bins) {
            for (offset, &weight) in share.weights.iter().enumerate().filter(|(_, weight)| **weight != 0.0) {
                let band = &mut mel[(share.first + offset) * frames..][..frames];
                band.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * x);
            }
        }
    }

    /// The starting point: `S[k] = sum_b weight[b, k] mel[b] / sum_k weight[b, k]`.
    fn spread(&self, mel: &[f32], frames: usize) -> Vec<f32> {
        let mut area = vec![0.0f32; self.bands];
        for share in &self.bins {
            for (offset, weight) in share.weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0)
            {
                area[share.first + offset] += weight;
            }
        }
        let mut magnitude = vec![0.0; self.bins() * frames];
        for (row, share) in magnitude.chunks_exact_mut(frames).zip(&self.bins) {
            for (offset, weight) in share.weights.into_iter().enumerate().filter(|(_, weight)| *weight != 0.0)
            {
                let band = share.first + offset;
                let factor = weight / area[band];
                row.iter_mut()
                    .zip(&mel[band * frames..][..frames])
                    .for_each(|(s, &m)| *s += factor * m.max(0.0));
            }
        }
        magnitude
    }

    /// The two band rows of `values` that a bin belongs to (the last band stands in for the one after it,
    /// whose weight is zero).
    fn pair<'a>(&self, values: &'a [f32], share: &Share, frames: usize) -> (&'a [f32], &'a [f32]) {
        let second = (share.first + 1).min(self.bands - 1);
        (&values[share.first * frames..][..frames], &values[second * frames..][..frames])
    }
}
