//! The captions of a training run: which a step sees, and which its samples are made from.

use crate::backend::{NoiseKey, Purpose};
use crate::config::{TextConfig, TextMode};
use crate::dataset::{Batch, Dataset, Split};
use crate::error::{Error, Result};
use crate::random;
use crate::text::Vectors;
use crate::train::checkpoint::Hearing;

/// What makes numbers of captions in a run: `None` where none are heard. A resumed run gives what it had; a new one may give a
/// frozen encoder.
///
/// # Errors
/// [`Error::Config`] for a data set without captions, and for a frozen encoder of other features than configured.
pub fn hearing(config: &TextConfig, dataset: &Dataset, given: Option<Hearing>) -> Result<Option<Hearing>> {
    if config.mode == TextMode::None {
        return Ok(None);
    }
    let features = match &given {
        Some(Hearing::Frozen(bert)) => bert.features(),
        _ => 0,
    };
    if features != config.features {
        let problem =
            format!("is {}, but the frozen text encoder (--text-encoder) has {features}", config.features);
        return Err(Error::config("text.features", problem));
    }
    if let Some(given) = given {
        return Ok(Some(given));
    }
    let tokenizer = dataset.tokenizer(config.vocabulary)?.ok_or_else(|| {
        let problem = format!("{} has no captions; --set text.mode=none", dataset.dir().display());
        Error::config("text.mode", problem)
    })?;
    Ok(Some(Hearing::Trained(tokenizer.into())))
}

/// The captions of a batch, each dropped (and empty then) with probability `dropout`: a function of seed and step.
pub fn dropped(batch: &Batch, dropout: f64, seed: u64) -> Vec<&str> {
    let key = NoiseKey { seed, step: batch.step, purpose: Purpose::CaptionDropout };
    let is_dropped = |i: usize| f64::from(random::uniform_at(key, i as u64)) < dropout;
    let captions = batch.captions.iter().enumerate();
    captions.map(|(i, caption)| if is_dropped(i) { "" } else { caption }).collect()
}

/// Captions to make samples from: of tracks that are held out, where there are such, and of as many different ones as possible.
pub fn prompts(dataset: &Dataset, count: usize) -> Vec<String> {
    let captioned = |split: Split| {
        let tracks = dataset.tracks().iter();
        let of_split = tracks.filter(|track| track.split == split && !track.captions.is_empty());
        of_split.map(|track| track.captions[0].clone()).collect::<Vec<_>>()
    };
    let held_out = captioned(Split::Validation);
    let captions = if held_out.is_empty() { captioned(Split::Train) } else { held_out };
    if captions.is_empty() {
        return vec![String::new(); count];
    }
    let len = captions.len();
    (0..count).map(|i| captions[if count <= len { i * len / count } else { i % len }].clone()).collect()
}
