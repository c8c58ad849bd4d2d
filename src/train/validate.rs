//! Validation: the same segments, timesteps and noise every time, loss by timestep bin.

use serde::{Deserialize, Serialize};

use crate::backend::{Backend, NoiseKey, Purpose};
use crate::config::{Config, Recompute};
use crate::dataset::{Dataset, Split};
use crate::diffusion::noising::Levels;
use crate::diffusion::sampler::Model;
use crate::error::Result;
use crate::text::Encoder;
use crate::train::step::{NoiseSource, StepInput, evaluate};

/// Timestep bins of equal width.
pub const BINS: usize = 10;

/// Mean squared errors on held-out segments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Mean over the bins that hold samples.
    pub loss: f64,
    /// Mean in each of [`BINS`] equal bins of t; `None` where there are fewer samples than bins.
    pub bins: Vec<Option<f64>>,
    /// Segments seen.
    pub samples: usize,
}

/// Validates a model; `text` makes numbers of the captions, where it hears them. Sample j is segment j of the split, with t in the middle of
/// bin j modulo [`BINS`] and noise from stream (0, j): nothing of it depends on the run.
///
/// # Errors
/// When a segment cannot be read.
pub fn validate<B: Backend>(
    model: &Model<'_, B>,
    config: &Config,
    dataset: &Dataset,
    split: Split,
    mut text: Option<&mut Encoder>,
) -> Result<Option<Validation>> {
    let Model { backend, dit, weights, schedule } = *model;
    let samples = dataset.len(split).min(config.train.validation_samples);
    let mut sums = [(0.0, 0usize); BINS];
    let mut x0 = vec![0.0; dit.image_len()];
    for j in 0..samples {
        // Spread over the split, so that a small number still hears many tracks.
        let track = dataset.read_segment(split, j * dataset.len(split) / samples, &mut x0)?;
        let captions = text.as_deref_mut().map(|text| text.batch(&[dataset.caption(track, j as u64)]));
        let captions = captions.transpose()?;
        let bin = j % BINS;
        let t = (2 * bin + 1) * schedule.steps() / (2 * BINS);
        let levels = Levels::at(schedule, &config.diffusion, &[t], config.model.image[1]);
        let key = NoiseKey { seed: 0, step: j as u64, purpose: Purpose::Validation };
        let input = StepInput {
            x0: &x0,
            captions: captions.as_ref(),
            noise: NoiseSource::Stream(key, 0),
            levels: &levels,
            objective: config.diffusion.objective,
            recompute: Recompute::None,
        };
        let output = evaluate(backend, dit, weights, &input)?;
        sums[bin].0 += f64::from(output.losses(backend)[0]);
        sums[bin].1 += 1;
    }
    let bins: Vec<Option<f64>> = sums.iter().map(|&(sum, n)| (n > 0).then(|| sum / n as f64)).collect();
    let filled: Vec<f64> = bins.iter().flatten().copied().collect();
    if filled.is_empty() {
        return Ok(None);
    }
    let loss = filled.iter().sum::<f64>() / filled.len() as f64;
    Ok(Some(Validation { loss, bins, samples }))
}
