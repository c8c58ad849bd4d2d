//! The worst that a model can do: noise, as loud as music, white or with the music's own mean spectrum.

use super::listen::{Heard, Listener};
use crate::backend::{NoiseKey, Purpose};
use crate::random;

/// The stream that clip `clip` comes from.
pub fn key(seed: u64, clip: u64) -> NoiseKey {
    NoiseKey { seed, step: clip, purpose: Purpose::Validation }
}

/// White Gaussian noise of deviation 1.
pub fn white(seed: u64, clip: u64, samples: usize) -> Vec<f32> {
    (0..samples as u64).map(|i| random::normal(key(seed, clip), i)).collect()
}

/// White noise as loud as `like`.
pub fn white_like(seed: u64, clip: u64, samples: usize, like: &Heard) -> Vec<f32> {
    levelled(white(seed, clip, samples), like.level_dbfs)
}

/// Noise with the mean spectrum of `like`, and as loud.
pub fn matched(listener: &Listener, seed: u64, clip: u64, samples: usize, like: &Heard) -> Vec<f32> {
    levelled(listener.coloured(&white(seed, clip, samples), &like.spectrum), like.level_dbfs)
}

fn levelled(mut sound: Vec<f32>, level_dbfs: f64) -> Vec<f32> {
    let square = sound.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / sound.len().max(1) as f64;
    let gain = if square > 0.0 { 10f64.powf(level_dbfs / 20.0) / square.sqrt() } else { 0.0 };
    sound.iter_mut().for_each(|x| *x *= gain as f32);
    sound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_as_loud_as_what_it_stands_for() {
        let listener = Listener::new(16_000);
        let hum: Vec<f32> = (0..16_000).map(|i| 0.2 * (i as f32 * 0.1).sin()).collect();
        let like = listener.hear(&[hum]);
        for (clip, sound) in
            [white_like(0, 1, 16_000, &like), matched(&listener, 0, 2, 16_000, &like)].into_iter().enumerate()
        {
            let heard = listener.hear(&[sound]);
            assert!((heard.level_dbfs - like.level_dbfs).abs() < 0.01, "{clip}: {}", heard.level_dbfs);
        }
    }
}
