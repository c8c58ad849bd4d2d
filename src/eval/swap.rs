//! Whether the model uses the words at all: its loss on held-out clips with their own caption, with another track's, and with
//! none; same noise, same timesteps.

use serde::Serialize;

use super::noise;
use crate::backend::Backend;
use crate::config::{Config, Recompute};
use crate::dataset::{Dataset, Split};
use crate::diffusion::noising::Levels;
use crate::diffusion::sampler::Model;
use crate::error::{Error, Result};
use crate::text::Encoder;
use crate::train::step::{NoiseSource, StepInput, evaluate};

/// Timesteps that each clip is tried at, spread over all.
const TIMESTEPS: usize = 5;
/// Seed of the noise; another than anything else here uses.
const SEED: u64 = 0x7377_6170;

/// Losses by caption.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Swap {
    /// Clips.
    pub clips: usize,
    /// Tracks that they are of.
    pub tracks: usize,
    /// Mean loss with the clip's own caption.
    pub right: f64,
    /// With another track's.
    pub wrong: f64,
    /// With none.
    pub none: f64,
    /// Mean of wrong minus right over tracks.
    pub difference: f64,
    /// Standard error of that over tracks, whose clips are not independent; 0 for a single one.
    pub error: f64,
    /// Part of the clips whose loss is lower with their own caption.
    pub won: f64,
}

/// Measures on `clips` held-out clips, each at several timesteps; `None` where no two held-out tracks have different captions.
///
/// # Errors
/// When a segment cannot be read or a caption not encoded; [`Error::Interrupted`] when `progress` says false.
pub fn swap<B: Backend>(
    model: &Model<'_, B>,
    config: &Config,
    dataset: &Dataset,
    text: &mut Encoder,
    clips: usize,
    progress: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Swap>> {
    let schedule = model.schedule;
    let len = dataset.len(Split::Validation);
    let clips = clips.min(len);
    let mut x0 = vec![0.0; model.dit.image_len()];
    let mut found: Vec<(usize, [f64; 3])> = Vec::new();
    for j in 0..clips {
        let track = dataset.read_segment(Split::Validation, j * len / clips, &mut x0)?;
        let own = dataset.caption(track, j as u64).to_string();
        let Some(other) = wrong_caption(dataset, track, &own, j) else { continue };
        let mut sums = [0.0; 3];
        for part in 0..TIMESTEPS {
            // Other timesteps for other clips: together they are everywhere.
            let place = (part as f64 + (j as f64 * 0.618_034).fract()) / TIMESTEPS as f64;
            let t = ((place * schedule.steps() as f64) as usize).min(schedule.steps() - 1);
            let noise = noise::white(SEED, (j * TIMESTEPS + part) as u64, x0.len());
            let captions = text.batch(&[&own, &other, ""])?;
            let input = StepInput {
                x0: &x0.repeat(3),
                captions: Some(&captions),
                noise: NoiseSource::Given(&noise.repeat(3)),
                levels: &Levels::at(schedule, &config.diffusion, &[t; 3], config.model.image[1]),
                objective: config.diffusion.objective,
                recompute: Recompute::None,
            };
            let losses = evaluate(model.backend, model.dit, model.weights, &input)?.losses(model.backend);
            sums.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += f64::from(loss) / TIMESTEPS as f64);
        }
        found.push((track, sums));
        if !progress(j + 1, clips) {
            return Err(Error::Interrupted);
        }
    }
    Ok(summary(&found))
}

/// A caption of another held-out track that says something else: in turn, so that each track meets several.
fn wrong_caption(dataset: &Dataset, track: usize, own: &str, j: usize) -> Option<String> {
    let tracks = dataset.tracks();
    let is_own = |caption: &str| tracks[track].captions.iter().any(|own| own == caption);
    let others: Vec<usize> = (0..tracks.len())
        .filter(|&other| other != track && tracks[other].split == Split::Validation)
        .filter(|&other| !tracks[other].captions.is_empty() && !own.is_empty())
        .collect();
    let count = others.len();
    // The same kind of caption (by its place among the track's), so that only what it says differs.
    let candidates = (0..count).map(|i| dataset.caption(others[(i + j * 7) % count], j as u64));
    candidates.into_iter().find(|caption| !is_own(caption)).map(str::to_string)
}

fn summary(found: &[(usize, [f64; 3])]) -> Option<Swap> {
    if found.is_empty() {
        return None;
    }
    let n = found.len() as f64;
    let mean = |which: usize| found.iter().map(|(_, losses)| losses[which]).sum::<f64>() / n;
    let mut tracks: Vec<usize> = found.iter().map(|&(track, _)| track).collect();
    tracks.sort_unstable();
    tracks.dedup();
    let of_track = |&track: &usize| {
        let own: Vec<f64> =
            found.iter().filter(|(of, _)| *of == track).map(|(_, losses)| losses[1] - losses[0]).collect();
        own.iter().sum::<f64>() / own.len() as f64
    };
    let differences: Vec<f64> = tracks.iter().map(of_track).collect();
    let m = differences.len() as f64;
    let difference = differences.iter().sum::<f64>() / m;
    let variance = differences.iter().map(|x| (x - difference).powi(2)).sum::<f64>() / (m - 1.0).max(1.0);
    Some(Swap {
        clips: found.len(),
        tracks: tracks.len(),
        right: mean(0),
        wrong: mean(1),
        none: mean(2),
        difference,
        error: (variance / m).sqrt(),
        won: found.iter().filter(|(_, losses)| losses[0] < losses[1]).count() as f64 / n,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_over_tracks() {
        let found = [(3, [1.0, 2.0, 3.0]), (3, [1.0, 2.0, 3.0]), (5, [1.0, 4.0, 3.0]), (5, [2.0, 5.0, 3.0])];
        let swap = summary(&found).unwrap();
        assert_eq!((swap.clips, swap.tracks, swap.difference, swap.won), (4, 2, 2.0, 1.0));
        assert!((swap.error - 1.0).abs() < 1e-12, "{}", swap.error);
        assert_eq!(summary(&[]), None);
    }
}
