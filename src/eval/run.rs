//! A whole evaluation: what is drawn, what it is compared with, in which order.

use super::clips::Clips;
use super::distance::{Gaussian, kernel};
use super::features::{FEATURES, Scale};
use super::listen::Listener;
use super::pairs::{self, Ordered, PairResult, PromptPairs};
use super::reference::{Real, Reference};
use super::report::{BySteps, Distance, Report, Representation};
use super::{named, nearest, noise, swap};
use crate::audio::Normalizer;
use crate::backend::Backend;
use crate::config::{Config, RepresentationConfig, SampleConfig, SamplerKind};
use crate::dataset::{Dataset, Split};
use crate::diffusion::sampler::{self, Guidance, Model, Order};
use crate::error::{Error, Result};
use crate::random;
use crate::render::Renderer;
use crate::text::Encoder;
use crate::train::validate::validate;

/// Images drawn in one batch, at most.
const BATCH: usize = 8;
/// Divisions into halves that the floor is the mean of, and their seed.
const DIVISIONS: u64 = 8;
const DIVISION_SEED: u64 = 0x6861_6c66;
/// Real segments that are needed for a floor: two halves of two.
const FEWEST: usize = 4;

/// How much is looked at.
#[derive(Clone, Debug)]
pub struct Options {
    /// Samples for the distances.
    pub count: usize,
    /// Pairs an attribute.
    pub pairs: usize,
    /// Real segments of each split, at most.
    pub real: usize,
    /// Seed of the samples.
    pub seed: u64,
    /// Pairs of the user's; the captions' where there are none.
    pub given: Vec<PromptPairs>,
    /// Samplers and evaluations by which the same samples are drawn once more each, for their distances only.
    pub by_steps: Vec<(SamplerKind, usize)>,
}

/// A model and what it is held against.
pub struct Evaluation<'a, B: Backend> {
    /// The model.
    pub model: Model<'a, B>,
    /// Its configuration.
    pub config: &'a Config,
    /// Its normaliser.
    pub normalizer: Normalizer,
    /// Its words; none for a model that hears none.
    pub text: Option<Encoder>,
    /// The data.
    pub dataset: &'a Dataset,
    /// How much.
    pub options: Options,
}

/// What turns images into clips that were measured.
#[derive(Clone, Copy)]
struct Ears<'a> {
    renderer: &'a Renderer,
    listener: &'a Listener,
}

/// Told what is being done, how far it is, and how far it goes; false stops.
pub type Progress<'p> = dyn FnMut(&str, usize, usize) -> bool + 'p;

impl<B: Backend> Evaluation<'_, B> {
    /// Fails where the data cannot be compared with what this model makes.
    ///
    /// # Errors
    /// [`Error::Config`] with the flag.
    pub fn check(&self) -> Result<()> {
        let dir = self.dataset.dir().display();
        let wrong = |problem: String| Err(Error::config("--data", problem));
        if self.dataset.config().representation != self.representation() {
            return wrong(format!(
                "{dir} holds other images than this model makes; prepare it with the model's data.* and model.image"
            ));
        }
        if self.dataset.len(Split::Validation) < FEWEST {
            return wrong(format!(
                "{dir} has {} held-out segments; at least {FEWEST} are needed (prepare --validation 0.1)",
                self.dataset.len(Split::Validation)
            ));
        }
        if self.dataset.len(Split::Train) < 2 {
            return wrong(format!("{dir} has no segments to train on, by which features are scaled"));
        }
        if self.text.is_none() && !self.options.given.is_empty() {
            let problem =
                "this model was trained without captions (text.mode = none); it cannot follow words";
            return Err(Error::config("--pair", problem));
        }
        Ok(())
    }

    fn representation(&self) -> RepresentationConfig {
        RepresentationConfig { image: self.config.model.image, ..self.config.data.clone() }
    }

    /// Does everything.
    ///
    /// # Errors
    /// As [`Self::check`]; when data cannot be read or the device fails; [`Error::Interrupted`] when `progress` says false.
    pub fn run(&mut self, progress: &mut Progress<'_>) -> Result<Report> {
        self.check()?;
        let mut report = Report { options: self.options.clone().into(), ..Report::default() };
        let reference = Reference::new(self.dataset)?;
        let renderer = Renderer::new(&self.representation(), self.normalizer.clone())?;
        let ears = Ears { renderer: &renderer, listener: reference.listener() };

        progress("validating", 0, 1);
        report.validation = self.validation()?;
        report.swap = self.swap(progress)?;

        let Options { count, real, .. } = self.options;
        let held_out = reference.real(Split::Validation, real, progress)?;
        let training = reference.real(Split::Train, real, progress)?;
        let prompts = self.prompts();
        let sample = &self.config.sample;
        let samples = self.draw("drawing samples", &prompts, sample, ears, progress)?;
        let noises = reference.noises(&held_out, count, progress)?;
        let (originals, spectral) = reference.files(count, progress)?;
        report.representation = Representation {
            files: originals.len(),
            log_spectral_distance_db: mean(&spectral),
            image_error: mean(&reference.image_errors()?),
        };

        report.by_steps = self.by_steps(&prompts, &held_out, &training, ears, progress)?;
        report.distances = distances(&held_out, &training, &samples, &originals, &noises);
        report.rates = vec![
            ("held-out segments".to_string(), held_out.clips.rates()),
            ("samples".to_string(), samples.rates()),
        ];
        let scale = Scale::of(&training.clips.features);
        let scaled = |clips: &Clips| scale.apply(&clips.features);
        let file = |clip: usize| self.dataset.tracks()[training.tracks[clip]].file.clone();
        report.nearest =
            nearest::compare(&scaled(&samples), &scaled(&held_out.clips), &scaled(&training.clips), file);
        report.set_means(&held_out.clips, &samples);
        if self.text.is_none() {
            let without =
                "this model was trained without captions: whether it follows words was not measured";
            report.notes.push(without.to_string());
            return Ok(report);
        }
        let said: Vec<Vec<String>> = prompts.iter().map(|prompt| vec![prompt.clone()]).collect();
        let tracks = self.dataset.tracks();
        let true_of: Vec<Vec<String>> =
            held_out.tracks.iter().map(|&track| tracks[track].captions.clone()).collect();
        report.named = named::compare((&samples.attributes, &said), (&held_out.clips.attributes, &true_of));
        report.pairs = self.pairs(&held_out, &training, ears, progress)?;
        if report.pairs.is_empty() && self.options.pairs > 0 {
            let none = "no held-out caption is a list with a tempo, brightness or drums in it; give pairs with --pair";
            report.notes.push(none.to_string());
        }
        Ok(report)
    }

    fn validation(&mut self) -> Result<Option<crate::train::validate::Validation>> {
        validate(&self.model, self.config, self.dataset, Split::Validation, self.text.as_mut())
    }

    fn swap(&mut self, progress: &mut Progress<'_>) -> Result<Option<swap::Swap>> {
        let Some(text) = &mut self.text else { return Ok(None) };
        let mut tell = |done, all| progress("swapping captions", done, all);
        swap::swap(&self.model, self.config, self.dataset, text, self.options.count, &mut tell)
    }

    /// Captions of held-out tracks: every track's first, then every track's second, and so on; empty for a model without words.
    fn prompts(&self) -> Vec<String> {
        let tracks = self.dataset.tracks();
        let held_out: Vec<usize> =
            (0..tracks.len()).filter(|&track| tracks[track].split == Split::Validation).collect();
        let caption =
            |i: usize| self.dataset.caption(held_out[i % held_out.len()], (i / held_out.len()) as u64);
        (0..self.options.count)
            .map(|i| if self.text.is_some() { caption(i).to_string() } else { String::new() })
            .collect()
    }

    /// The same samples by other samplers and in other numbers of evaluations.
    fn by_steps(
        &mut self,
        prompts: &[String],
        held_out: &Real,
        training: &Real,
        ears: Ears<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<BySteps>> {
        let scale = Scale::of(&training.clips.features);
        let reference = scale.apply(&held_out.clips.features);
        let mut rows = Vec::new();
        for (sampler, steps) in self.options.by_steps.clone() {
            let sample = SampleConfig { sampler, steps, ..self.config.sample.clone() };
            let what = format!("drawing by {sampler} in {steps} steps");
            let clips = self.draw(&what, prompts, &sample, ears, progress)?;
            let Some([mel_fd, kernel]) = beside(&scale.apply(&clips.features), &reference) else { continue };
            rows.push(BySteps { sampler, steps, mel_fd, kernel });
        }
        Ok(rows)
    }

    /// Draws sample number i of the seed from prompt i, for all of them.
    fn draw(
        &mut self,
        what: &str,
        prompts: &[String],
        sample: &SampleConfig,
        ears: Ears<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Clips> {
        let schedule = self.model.schedule;
        let path = sampler::path(schedule, &self.config.diffusion, sample, schedule.steps() - 1);
        let mut clips = Clips::default();
        for (batch, prompts_now) in prompts.chunks(BATCH).enumerate() {
            let (first, count) = (batch * BATCH, prompts_now.len());
            let guidance = match &mut self.text {
                None => None,
                Some(text) => {
                    let (wanted, none) = (text.batch(prompts_now)?, text.batch(&vec![""; count])?);
                    Some(Guidance::new(sample, wanted, none))
                }
            };
            let order =
                Order { guidance, ..Order::plain(self.model.dit, self.options.seed, first as u64, count) };
            let all = prompts.len() * path.len();
            let mut tell = |step: usize| progress(what, first * path.len() + count * step, all);
            let images = sampler::draw(&self.model, &path, &order, &mut tell)?;
            clips.add_images(ears.listener, ears.renderer, &images)?;
        }
        Ok(clips)
    }

    fn pairs(
        &mut self,
        held_out: &Real,
        training: &Real,
        ears: Ears<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<PairResult>> {
        let all = match self.options.given.is_empty() {
            true => pairs::from_captions(self.dataset),
            false => self.options.given.clone(),
        };
        let (held_out, mut every) = (held_out.measured(), training.measured());
        every.extend(&held_out);
        let mut results = Vec::new();
        let count = self.options.pairs;
        for pairs in all.iter().filter(|_| count > 0) {
            let mut side = |which: usize| {
                let prompts: Vec<String> = (0..count).map(|i| pairs.prompt(i)[which].clone()).collect();
                let what = format!("drawing pairs, {}", pairs.words[which]);
                self.draw(&what, &prompts, &self.config.sample, ears, progress)
            };
            let [low, high] = [side(0)?, side(1)?].map(|clips| clips.attributes);
            let measured: Vec<[f64; 2]> =
                low.iter().zip(&high).map(|pair| [pair.0, pair.1].map(|a| a.get(pairs.attribute))).collect();
            let Some(samples) = Ordered::of(&measured) else { continue };
            results.push(PairResult {
                attribute: pairs.attribute,
                words: pairs.words.clone(),
                example: pairs.prompt(0).clone(),
                samples,
                real_alike: pairs.alike_real(self.dataset, &every),
                real_any: pairs.any_real(self.dataset, &held_out),
            });
        }
        Ok(results)
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// All sets beside the held-out segments.
fn distances(
    held_out: &Real,
    training: &Real,
    samples: &Clips,
    originals: &Clips,
    noises: &[Clips; 2],
) -> Vec<Distance> {
    let scale = Scale::of(&training.clips.features);
    let scaled = |clips: &Clips| scale.apply(&clips.features);
    let reference = scaled(&held_out.clips);
    let row = |set: &'static str, clips: &[Vec<f64>], others: &[Vec<f64>]| {
        let [mel_fd, kernel] = beside(clips, others)?;
        Some(Distance { set, clips: clips.len(), beside: others.len(), mel_fd, kernel })
    };
    debug_assert!(reference.iter().all(|clip| clip.len() == FEATURES));
    let training = scaled(&training.clips);
    let spread: Vec<Vec<f64>> = (0..samples.len().min(training.len()))
        .map(|i| training[i * training.len() / samples.len().min(training.len())].clone())
        .collect();
    let rows = [
        floor(&reference),
        row("real: training segments", &spread, &reference),
        row("real: files, not encoded", &scaled(originals), &reference),
        row("SAMPLES", &scaled(samples), &reference),
        row("noise with music's spectrum", &scaled(&noises[1]), &reference),
        row("white noise", &scaled(&noises[0]), &reference),
    ];
    rows.into_iter().flatten().collect()
}

/// mel-FD and kernel distance; `None` where a set is too small for them.
fn beside(clips: &[Vec<f64>], others: &[Vec<f64>]) -> Option<[f64; 2]> {
    let enough = clips.len() > 1 && others.len() > 1;
    enough.then(|| [Gaussian::of(clips).frechet(&Gaussian::of(others)), kernel(clips, others)])
}

/// Two random halves beside each other, the mean of several divisions.
fn floor(clips: &[Vec<f64>]) -> Option<Distance> {
    let half = clips.len() / 2;
    let (mut mel_fd, mut squared) = (0.0, 0.0);
    for division in 0..DIVISIONS {
        let key = noise::key(DIVISION_SEED, division);
        let mut order: Vec<usize> = (0..clips.len()).collect();
        order.sort_by_key(|&clip| random::word(key, clip as u64));
        let side = |part: &[usize]| part.iter().map(|&clip| clips[clip].clone()).collect::<Vec<_>>();
        let [a, b] = [side(&order[..half]), side(&order[half..])];
        mel_fd += Gaussian::of(&a).frechet(&Gaussian::of(&b)) / DIVISIONS as f64;
        squared += kernel(&a, &b) / DIVISIONS as f64;
    }
    let beside = clips.len() - half;
    let set = "real: one half beside the other";
    (half > 1).then_some(Distance { set, clips: half, beside, mel_fd, kernel: squared })
}
