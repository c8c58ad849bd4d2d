//! What is drawn on: one image of the model, or a longer one, seen through windows of the model's size that overlap; in a
//! loop, the last window goes on at the beginning. And what of it is there already.

use std::ops::Range;

/// The frames that a sample has, and how the model looks at them.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// Frames of a sample.
    pub width: usize,
    /// Frames of the model's image.
    window: usize,
    /// First frame of each window.
    starts: Vec<usize>,
    /// Weight of each frame of a window, of the sum over windows 1 (`[windows, window]`).
    weights: Vec<f32>,
}

impl Canvas {
    /// `width` frames, at least the model's `window`. Windows overlap by half or more, and count most in their middle
    /// (Bar-Tal et al. 2023, eq. 5).
    pub fn new(width: usize, window: usize, loops: bool) -> Canvas {
        let width = width.max(window);
        let hop = window.div_ceil(2);
        let starts: Vec<usize> = if loops {
            let count = width.div_ceil(hop);
            (0..count).map(|i| i * width / count).collect()
        } else {
            let count = 1 + (width - window).div_ceil(hop);
            (0..count).map(|i| i * (width - window) / (count - 1).max(1)).collect()
        };
        let hump: Vec<f32> = (0..window)
            .map(|i| (std::f32::consts::PI * (i as f32 + 0.5) / window as f32).sin().powi(2))
            .collect();
        let mut sums = vec![0.0; width];
        for &start in &starts {
            hump.iter().enumerate().for_each(|(i, weight)| sums[(start + i) % width] += weight);
        }
        let weights = starts
            .iter()
            .flat_map(|&start| hump.iter().enumerate().map(move |(i, weight)| (start + i, weight)))
            .map(|(frame, weight)| weight / sums[frame % width])
            .collect();
        Canvas { width, window, starts, weights }
    }

    /// Whether the model sees all of it at once.
    pub fn is_one_window(&self) -> bool {
        self.starts.len() == 1
    }

    /// Windows that the model looks through.
    pub fn windows(&self) -> usize {
        self.starts.len()
    }

    /// What window `index` shows of `x [planes, width]`, as `[planes, window]`.
    pub fn look(&self, index: usize, x: &[f32]) -> Vec<f32> {
        let start = self.starts[index];
        let rows = x.chunks_exact(self.width);
        rows.flat_map(|row| (start..start + self.window).map(|frame| row[frame % self.width])).collect()
    }

    /// Adds what was said through window `index` to `sum [planes, width]`, with its weights.
    pub fn add(&self, index: usize, said: &[f32], sum: &mut [f32]) {
        let start = self.starts[index];
        let weights = &self.weights[index * self.window..][..self.window];
        for (row, said) in sum.chunks_exact_mut(self.width).zip(said.chunks_exact(self.window)) {
            for (i, (said, weight)) in said.iter().zip(weights).enumerate() {
                row[(start + i) % self.width] += said * weight;
            }
        }
    }
}

/// Frames that are there already, and what is in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// `[planes, width]`; what is outside of `frames` does not matter.
    pub image: Vec<f32>,
    /// The frames that stay.
    pub frames: Vec<Range<usize>>,
}

impl Kept {
    /// Puts `alpha image + sigma noise` into the kept frames of x; x, noise and image `[planes, width]`.
    pub fn put(&self, x: &mut [f32], noise: &[f32], width: usize, [alpha, sigma]: [f32; 2]) {
        let rows =
            x.chunks_exact_mut(width).zip(self.image.chunks_exact(width)).zip(noise.chunks_exact(width));
        for ((x, image), noise) in rows {
            for frame in self.frames.iter().flat_map(Clone::clone) {
                x[frame] = alpha * image[frame] + sigma * noise[frame];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every window says alike is said of the whole, whatever the overlap.
    #[test]
    fn windows_that_agree_are_believed() {
        for (width, window, loops) in [
            (32, 32, false),
            (33, 32, false),
            (100, 32, false),
            (32, 32, true),
            (77, 32, true),
            (7, 5, true),
            (8, 1, false),
        ] {
            let canvas = Canvas::new(width, window, loops);
            let x: Vec<f32> = (0..2 * width).map(|i| i as f32).collect();
            let mut sum = vec![0.0; x.len()];
            for index in 0..canvas.windows() {
                canvas.add(index, &canvas.look(index, &x), &mut sum);
            }
            for (got, want) in sum.iter().zip(&x) {
                assert!(
                    (got - want).abs() < 1e-4 * (1.0 + want),
                    "{width} {window} {loops}: {got} for {want}"
                );
            }
        }
    }

    #[test]
    fn one_window_is_the_model_s_own_image() {
        assert!(Canvas::new(32, 32, false).is_one_window());
        assert!(Canvas::new(3, 32, false).is_one_window());
        assert_eq!(Canvas::new(32, 32, true).windows(), 2, "a loop is also seen across its end");
    }

    #[test]
    fn kept_frames_are_put_and_no_others() {
        let kept = Kept { image: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], frames: vec![0..1, 2..3] };
        let mut x = vec![9.0; 6];
        kept.put(&mut x, &[0.5; 6], 3, [1.0, 2.0]);
        assert_eq!(x, [2.0, 9.0, 4.0, 5.0, 9.0, 7.0]);
    }
}
