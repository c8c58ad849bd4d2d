//! What an evaluation found, for machines (JSON) and for people (a table).

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::attributes::Attributes;
use super::clips::{Clips, Rates};
use super::features::FEATURES;
use super::named::{Named, Score};
use super::nearest::Nearest;
use super::pairs::{Ordered, PairResult};
use super::run::Options;
use super::swap::Swap;
use crate::config::SamplerKind;
use crate::train::validate::Validation;

/// Everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was evaluated.
    pub about: About,
    /// How much.
    pub options: Amounts,
    /// Loss by timestep.
    pub validation: Option<Validation>,
    /// Loss with right and wrong captions.
    pub swap: Option<Swap>,
    /// Distances to the held-out segments, from floor to ceiling.
    pub distances: Vec<Distance>,
    /// Distances of the same samples by other samplers and steps.
    pub by_steps: Vec<BySteps>,
    /// Means of what was measured: name, held-out segments, samples.
    pub means: Vec<(&'static str, [f64; 2], [f64; 2])>,
    /// Attributes that prompts name by value.
    pub named: Vec<Named>,
    /// Prompts that differ in one word.
    pub pairs: Vec<PairResult>,
    /// Learnt by heart?
    pub nearest: Option<Nearest>,
    /// Silence, clipping, damage.
    pub rates: Vec<(String, Rates)>,
    /// What encode and decode lose.
    pub representation: Representation,
    /// What was not measured, and why.
    pub notes: Vec<String>,
}

/// What was evaluated.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    /// The program's version.
    pub version: String,
    /// The checkpoint's file.
    pub checkpoint: String,
    /// Hash of the weights.
    pub weights: String,
    /// Whether they are the EMA.
    pub ema: bool,
    /// Training step.
    pub step: u64,
    /// The data's folder.
    pub data: String,
    /// The data's fingerprint.
    pub fingerprint: String,
    /// Device.
    pub device: String,
    /// Sampler and its evaluations.
    pub sampler: String,
    /// `[scale, rescale, from, to]`.
    pub guidance: [f64; 4],
}

/// [`Options`] in numbers.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Amounts {
    /// Samples.
    pub count: usize,
    /// Pairs an attribute.
    pub pairs: usize,
    /// Real segments of each split, at most.
    pub real: usize,
    /// Seed.
    pub seed: u64,
}

impl From<Options> for Amounts {
    fn from(options: Options) -> Amounts {
        let Options { count, pairs, real, seed, .. } = options;
        Amounts { count, pairs, real, seed }
    }
}

/// One set beside another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distance {
    /// The set.
    pub set: &'static str,
    /// Its clips.
    pub clips: usize,
    /// Clips of the other set.
    pub beside: usize,
    /// Fréchet distance.
    pub mel_fd: f64,
    /// Squared maximum mean discrepancy.
    pub kernel: f64,
}

/// Samples by one sampler in one number of evaluations, beside the held-out segments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BySteps {
    /// The sampler.
    pub sampler: SamplerKind,
    /// Evaluations of the model.
    pub steps: usize,
    /// Fréchet distance.
    pub mel_fd: f64,
    /// Squared maximum mean discrepancy.
    pub kernel: f64,
}

/// What encode and decode lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Representation {
    /// Segments of files that were there to look at.
    pub files: usize,
    /// Log-spectral distance between them and what comes back.
    pub log_spectral_distance_db: Option<f64>,
    /// Root mean square difference of held-out images from what their sounds are encoded to, in deviations.
    pub image_error: Option<f64>,
}

/// Something measured of a clip.
type Measure = (&'static str, fn(&Attributes) -> f64);

/// What the table shows of the clips.
const MEASURES: [Measure; 5] = [
    ("onsets a second", |a| a.onset_rate),
    ("tempo in bpm", |a| a.tempo_bpm),
    ("centroid in Hz", |a| a.centroid_hz),
    ("percussive share in dB", |a| a.percussion_db),
    ("loudness in dBFS", |a| a.loudness_dbfs),
];

impl Report {
    /// Notes mean and deviation of every measure.
    pub fn set_means(&mut self, real: &Clips, samples: &Clips) {
        let moments = |clips: &Clips, measure: fn(&Attributes) -> f64| {
            let n = clips.len().max(1) as f64;
            let mean = clips.attributes.iter().map(measure).sum::<f64>() / n;
            let square = clips.attributes.iter().map(|a| (measure(a) - mean).powi(2)).sum::<f64>() / n;
            [mean, square.sqrt()]
        };
        let row = |&(name, measure): &Measure| (name, moments(real, measure), moments(samples, measure));
        self.means = MEASURES.iter().map(row).collect();
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let About { checkpoint, step, weights, ema, data, device, sampler, .. } = &self.about;
        let kind = if *ema { "EMA" } else { "raw" };
        writeln!(f, "{checkpoint}: step {step}, {kind} weights {weights}")?;
        writeln!(f, "beside {data}; {sampler}, seed {}, on {device}", self.options.seed)?;
        self.losses(f)?;
        self.sets(f)?;
        self.words(f)?;
        self.soundness(f)?;
        self.notes.iter().try_for_each(|note| writeln!(f, "\nnote: {note}"))
    }
}

impl Report {
    fn losses(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(Validation { loss, bins, samples }) = &self.validation {
            writeln!(
                f,
                "\nLOSS on {samples} held-out segments: {loss:.4}; by timestep, from clean to noise:"
            )?;
            let text = |bin: &Option<f64>| bin.map_or("-".to_string(), |loss| format!("{loss:.4}"));
            writeln!(f, "  {}", bins.iter().map(text).collect::<Vec<_>>().join("  "))?;
        }
        let Some(swap) = &self.swap else { return Ok(()) };
        writeln!(f, "\nCAPTIONS SWAPPED on {} segments of {} tracks, same noise:", swap.clips, swap.tracks)?;
        let Swap { right, wrong, none, difference, error, won, .. } = swap;
        writeln!(f, "  loss with its own {right:.4}, another track's {wrong:.4}, none {none:.4}")?;
        let percent = 100.0 * difference / right.max(f64::MIN_POSITIVE);
        writeln!(
            f,
            "  wrong less right {difference:+.4} +- {error:.4} ({percent:+.1} %); the right one is better on {}",
            share(*won)
        )
    }

    fn sets(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\nDISTANCES to held-out segments, {FEATURES} features, less is better (mel-FD is not FAD)"
        )?;
        writeln!(f, "  {:<34}{:>6}{:>9}{:>10}{:>10}", "", "clips", "beside", "mel-FD", "kernel")?;
        for Distance { set, clips, beside, mel_fd, kernel } in &self.distances {
            writeln!(f, "  {set:<34}{clips:>6}{beside:>9}{mel_fd:>10.2}{kernel:>10.3}")?;
        }
        self.steps(f)?;
        writeln!(f, "\nMEASURED, mean and deviation")?;
        writeln!(f, "  {:<34}{:>20}{:>20}", "", "held-out", "samples")?;
        for (name, [real, real_spread], [made, made_spread]) in &self.means {
            let text = |mean: &f64, spread: &f64| format!("{mean:.1} +- {spread:.1}");
            writeln!(f, "  {name:<34}{:>20}{:>20}", text(real, real_spread), text(made, made_spread))?;
        }
        Ok(())
    }

    /// A row a number of evaluations, two columns a sampler.
    fn steps(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (mut samplers, mut steps) = (Vec::new(), Vec::new());
        for row in &self.by_steps {
            samplers.extend((!samplers.contains(&row.sampler)).then_some(row.sampler));
            steps.extend((!steps.contains(&row.steps)).then_some(row.steps));
        }
        if samplers.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nBY EVALUATIONS, mel-FD and kernel")?;
        let names = samplers.iter().map(|sampler| format!("{sampler:>20}"));
        writeln!(f, "  {:<10}{}", "", names.collect::<String>())?;
        for steps in steps {
            let cell = |sampler: &SamplerKind| {
                let row = self.by_steps.iter().find(|row| row.sampler == *sampler && row.steps == steps);
                row.map_or(format!("{:>20}", "-"), |row| format!("{:>12.2}{:>8.2}", row.mel_fd, row.kernel))
            };
            writeln!(f, "  {steps:<10}{}", samplers.iter().map(cell).collect::<String>())?;
        }
        Ok(())
    }

    fn words(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.named.is_empty() {
            writeln!(f, "\nNAMED BY VALUE, right beside its own words (beside others')")?;
            writeln!(f, "  {:<52}{:>20}{:>20}", "", "held-out", "samples")?;
        }
        let text = |score: &Option<Score>| {
            score.map_or("-".to_string(), |score| {
                format!("{} ({}) of {}", share(score.own), share(score.others), score.clips)
            })
        };
        for Named { what, samples, real } in &self.named {
            writeln!(f, "  {what:<52}{:>20}{:>20}", text(real), text(samples))?;
        }
        if !self.pairs.is_empty() {
            writeln!(
                f,
                "\nPAIRED PROMPTS, same seed: part of the pairs that differ the right way (chance 50 %)"
            )?;
            writeln!(f, "  {:<34}{:>20}{:>16}{:>12}", "", "samples", "real, alike", "real, any")?;
        }
        for pair in &self.pairs {
            let name = format!("{}: {} / {}", pair.attribute.name(), pair.words[0], pair.words[1]);
            let real =
                |ordered: &Option<Ordered>| ordered.map_or("-".to_string(), |ordered| share(ordered.right));
            let made = format!("{} +- {}", share(pair.samples.right), share(pair.samples.error()));
            let (alike, any) = (real(&pair.real_alike), real(&pair.real_any));
            writeln!(f, "  {name:<34}{made:>20}{alike:>16}{any:>12}")?;
            let [low, high] = pair.samples.means;
            write!(f, "    {}: samples {low:.1} to {high:.1}", pair.attribute.measure())?;
            match pair.real_alike {
                Some(Ordered { means: [low, high], pairs, .. }) => {
                    writeln!(f, ", real {low:.1} to {high:.1} ({} and {pairs} pairs)", pair.samples.pairs)?;
                }
                None => writeln!(
                    f,
                    " ({} pairs); no real segments are said to be the one or the other",
                    pair.samples.pairs
                )?,
            }
        }
        Ok(())
    }

    fn soundness(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(nearest) = &self.nearest {
            let Nearest { training_clips, samples, held_out, held_out_5_percent, suspicious, closest } =
                nearest;
            writeln!(f, "\nNEAREST of {training_clips} training segments, distance a feature")?;
            writeln!(
                f,
                "  median: samples {samples:.3}, held-out {held_out:.3}; below {held_out_5_percent:.3} (5 % of the \
                 held-out): {} of the samples",
                share(*suspicious)
            )?;
            if let Some((sample, file, distance)) = closest {
                writeln!(f, "  nearest of all: sample {sample} to a segment of {file}, {distance:.3}")?;
            }
        }
        writeln!(
            f,
            "\n{:<22}{:>8}{:>10}{:>10}{:>12}{:>14}",
            "SOUND", "clips", "silent", "clipped", "not finite", "level dBFS"
        )?;
        for (set, rates) in &self.rates {
            let [silent, clipped, bad] = [rates.silent, rates.clipped, rates.non_finite].map(share);
            writeln!(
                f,
                "  {set:<20}{:>8}{silent:>10}{clipped:>10}{bad:>12}{:>14.1}",
                rates.clips, rates.level_dbfs
            )?;
        }
        let Representation { files, log_spectral_distance_db, image_error } = &self.representation;
        write!(f, "\nREPRESENTATION alone:")?;
        match log_spectral_distance_db {
            Some(distance) => {
                write!(f, " log-spectral distance {distance:.1} dB on {files} segments of files;")?
            }
            None => write!(f, " the held-out files are no longer there to compare with;")?,
        }
        match image_error {
            Some(error) => writeln!(f, " an image comes back with an error of {error:.2} deviations"),
            None => writeln!(f),
        }
    }
}

fn share(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}
