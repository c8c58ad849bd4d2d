//! How far a folder of samples is from held-out music, between the data's own spread and noise:
//! `cargo bench --bench quality -- --data DIR --samples FOLDER`
//!
//! A clip is described by its image in the data set's representation: for each frequency row the mean, the deviation
//! and the mean absolute change from frame to frame, in deviations of the training set. Two sets of clips are compared by
//! the energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo 2013), as unbiased U-statistics: about 0
//! for sets drawn alike.

use std::path::{Path, PathBuf};

use clap::Parser;
use dit_engine::audio::wav::SoundCheck;
use dit_engine::audio::{load, representation};
use dit_engine::backend::{NoiseKey, Purpose};
use dit_engine::dataset::{Dataset, Split};
use dit_engine::random;

/// Clips a set, at most.
const CLIPS: usize = 256;

#[derive(Parser)]
struct Args {
    /// Folder made by `prepare`
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of WAV files made by `sample`
    #[arg(long)]
    samples: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> dit_engine::Result<()> {
    let args = Args::parse();
    let (Some(data), Some(samples)) = (&args.data, &args.samples) else {
        println!("quality: give --data DIR and --samples FOLDER");
        return Ok(());
    };
    let dataset = Dataset::open(data)?;
    let held_out = real_clips(&dataset, Split::Validation)?;
    let real = real_clips(&dataset, Split::Train)?;
    let scale = spread(&real);
    let (made, levels) = sample_clips(&dataset, samples)?;
    let noise = noise_clips(&dataset, made.len(), mean(&levels))?;
    let (lowest, highest) =
        (levels.iter().copied().fold(f32::MAX, f32::min), levels.iter().copied().fold(f32::MIN, f32::max));
    println!("{} samples, level {lowest:.1} to {highest:.1} dBFS (mean {:.1})", made.len(), mean(&levels));
    let distance = |clips: &[Vec<f32>]| energy_distance(clips, &held_out, &scale);
    println!("energy distance to {} held-out segments:", held_out.len());
    println!("  training segments ({})      {:8.3}", real.len(), distance(&real));
    println!("  samples                      {:8.3}", distance(&made));
    println!("  white noise at their level   {:8.3}", distance(&noise));
    Ok(())
}

/// Features of an image `[rows, width]` (channels are rows too).
fn features(image: &[f32], width: usize) -> Vec<f32> {
    let mut features = Vec::new();
    for row in image.chunks_exact(width) {
        let n = width as f32;
        let mean = row.iter().sum::<f32>() / n;
        let deviation = (row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / n).sqrt();
        let change = row.windows(2).map(|pair| (pair[1] - pair[0]).abs()).sum::<f32>() / (n - 1.0);
        features.extend([mean, deviation, change]);
    }
    features
}

fn real_clips(dataset: &Dataset, split: Split) -> dit_engine::Result<Vec<Vec<f32>>> {
    let [channels, height, width] = dataset.shape();
    let mut image = vec![0.0; channels * height * width];
    let count = dataset.len(split).min(CLIPS);
    (0..count)
        .map(|i| {
            dataset.read_segment(split, i * dataset.len(split) / count, &mut image)?;
            Ok(features(&image, width))
        })
        .collect()
}

fn sample_clips(dataset: &Dataset, folder: &Path) -> dit_engine::Result<(Vec<Vec<f32>>, Vec<f32>)> {
    let config = &dataset.config().representation;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(dit_engine::Error::io("read", folder))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wav"))
        .collect();
    paths.sort();
    let mut clips = Vec::new();
    let mut levels = Vec::new();
    for path in paths {
        let audio = load(&path, config.sample_rate, config.mix, None)?;
        levels.push(SoundCheck::of(&audio.channels).rms_dbfs);
        clips.push(encoded(dataset, audio.channels)?);
    }
    Ok((clips, levels))
}

fn noise_clips(dataset: &Dataset, count: usize, level_dbfs: f32) -> dit_engine::Result<Vec<Vec<f32>>> {
    let gain = 10f32.powf(level_dbfs / 20.0);
    let channels = dataset.config().representation.mix.channels();
    let samples = representation::build(&dataset.config().representation)?.segment_samples();
    (0..count)
        .map(|clip| {
            let sound = (0..channels)
                .map(|channel| {
                    let step = (clip * channels + channel) as u64;
                    let key = NoiseKey { seed: 0, step, purpose: Purpose::Test };
                    (0..samples).map(|i| gain * random::normal(key, i as u64)).collect()
                })
                .collect();
            encoded(dataset, sound)
        })
        .collect()
}

fn encoded(dataset: &Dataset, mut sound: Vec<Vec<f32>>) -> dit_engine::Result<Vec<f32>> {
    let representation = representation::build(&dataset.config().representation)?;
    sound.iter_mut().for_each(|channel| channel.resize(representation.segment_samples(), 0.0));
    let mut image = representation.encode(&sound)?;
    dataset.normalizer().apply(&mut image, representation.width())?;
    Ok(features(&image, representation.width()))
}

/// Deviation of each feature over a set.
fn spread(clips: &[Vec<f32>]) -> Vec<f32> {
    let n = clips.len() as f32;
    (0..clips[0].len())
        .map(|i| {
            let mean = clips.iter().map(|clip| clip[i]).sum::<f32>() / n;
            (clips.iter().map(|clip| (clip[i] - mean).powi(2)).sum::<f32>() / n).sqrt().max(1e-6)
        })
        .collect()
}

fn energy_distance(x: &[Vec<f32>], y: &[Vec<f32>], scale: &[f32]) -> f64 {
    let norm = |a: &[f32], b: &[f32]| {
        let squares = a.iter().zip(b).zip(scale).map(|((a, b), s)| f64::from((a - b) / s).powi(2));
        (squares.sum::<f64>() / scale.len() as f64).sqrt()
    };
    let across = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        let sum: f64 = a.iter().map(|a| b.iter().map(|b| norm(a, b)).sum::<f64>()).sum();
        sum / (a.len() * b.len()) as f64
    };
    // Pairs of a clip with itself count 0 in the sum and are left out of the number.
    let within = |a: &[Vec<f32>]| across(a, a) * a.len() as f64 / (a.len() as f64 - 1.0).max(1.0);
    2.0 * across(x, y) - within(x) - within(y)
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}
