//! Whether samples are music that was learnt by heart: how near the nearest training clip is, beside how near it is to music that
//! the model has never seen.

use serde::Serialize;

/// Distances to the nearest training clip.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearest {
    /// Training clips that were looked at.
    pub training_clips: usize,
    /// Median over the samples.
    pub samples: f64,
    /// Median over the held-out clips.
    pub held_out: f64,
    /// Below this lie 5 % of the held-out clips.
    pub held_out_5_percent: f64,
    /// Part of the samples below that: 0.05 for a model that copies no more than chance.
    pub suspicious: f64,
    /// The sample that is nearest to a training clip, that clip's file, and their distance.
    pub closest: Option<(usize, String, f64)>,
}

/// Euclidean distance, a feature.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / a.len().max(1) as f64).sqrt()
}

/// The nearest of `clips`, and how far it is; `None` without any.
pub fn nearest(clip: &[f64], clips: &[Vec<f64>]) -> Option<(usize, f64)> {
    let distances = clips.iter().enumerate().map(|(i, other)| (i, distance(clip, other)));
    distances.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Compares; scaled features. `file` names a training clip.
pub fn compare(
    samples: &[Vec<f64>],
    held_out: &[Vec<f64>],
    training: &[Vec<f64>],
    file: impl Fn(usize) -> String,
) -> Option<Nearest> {
    let to_training = |clips: &[Vec<f64>]| -> Option<Vec<(usize, f64)>> {
        clips.iter().map(|clip| nearest(clip, training)).collect()
    };
    let (made, real) = (to_training(samples)?, to_training(held_out)?);
    let sorted = |found: &[(usize, f64)]| {
        let mut distances: Vec<f64> = found.iter().map(|&(_, distance)| distance).collect();
        distances.sort_by(f64::total_cmp);
        distances
    };
    let (made_sorted, real_sorted) = (sorted(&made), sorted(&real));
    let near = quantile(&real_sorted, 0.05)?;
    let below = made_sorted.iter().filter(|&&distance| distance < near).count();
    let closest = made.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1));
    Some(Nearest {
        training_clips: training.len(),
        samples: quantile(&made_sorted, 0.5)?,
        held_out: quantile(&real_sorted, 0.5)?,
        held_out_5_percent: near,
        suspicious: below as f64 / made_sorted.len() as f64,
        closest: closest.map(|(sample, &(clip, distance))| (sample, file(clip), distance)),
    })
}

fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    sorted.get((part * (sorted.len().saturating_sub(1)) as f64).round() as usize).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found() {
        let grid = |from: usize, n: usize, off: f64| -> Vec<Vec<f64>> {
            (from..from + n).map(|i| vec![i as f64 * 2.0 + off, 0.0]).collect()
        };
        let (training, held_out) = (grid(0, 40, 0.0), grid(0, 40, 0.8));
        let file = |i: usize| format!("song{i}");
        let honest = compare(&grid(5, 20, 1.0), &held_out, &training, file).unwrap();
        assert_eq!(honest.suspicious, 0.0);
        let copied = compare(&grid(5, 20, 0.01), &held_out, &training, file).unwrap();
        assert_eq!(copied.suspicious, 1.0);
        assert!(copied.samples < 0.1 * copied.held_out, "{copied:?}");
        assert!(copied.closest.unwrap().1.starts_with("song"));
        assert_eq!(compare(&[], &held_out, &training, file), None);
    }
}
