//! A whole evaluation: what is drawn, what it is compared with, in which order.

use std::path::Path;

use super::clips::Clips;
use super::distance::{Gaussian, kernel};
use super::features::{FEATURES, Scale};
use super::listen::{Heard, Listener};
use super::pairs::{self, Ordered, PairResult, PromptPairs, RealClip};
use super::report::{Distance, Report, Representation};
use super::{named, nearest, noise, swap};
use crate::audio::wav::SoundCheck;
use crate::audio::{AudioReader, Normalizer, representation};
use crate::backend::Backend;
use crate::config::{Config, RepresentationConfig};
use crate::dataset::{Dataset, Split};
use crate::diffusion::sampler::{self, Guidance, Model, Order};
use crate::error::{Error, Result};
use crate::render::Renderer;
use crate::text::Encoder;
use crate::train::validate::validate;

/// Images drawn or decoded in one batch, at most.
const BATCH: usize = 8;
/// Seeds of the two kinds of noise.
const NOISE_SEEDS: [u64; 2] = [0x7768_6974, 0x6d61_7463];

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

/// Told what is being done, how far it is, and how far it goes; false stops.
pub type Progress<'p> = dyn FnMut(&str, usize, usize) -> bool + 'p;

/// Real segments, decoded and measured.
struct Real {
    clips: Clips,
    tracks: Vec<usize>,
    heard: Vec<Heard>,
}

impl Real {
    fn measured(&self) -> Vec<RealClip> {
        let clips = self.tracks.iter().zip(&self.clips.attributes);
        clips.map(|(&track, &attributes)| RealClip { track, attributes }).collect()
    }
}

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
        if self.dataset.len(Split::Validation) < 4 {
            return wrong(format!(
                "{dir} has {} held-out segments; at least 4 are needed (prepare --validation 0.1)",
                self.dataset.len(Split::Validation)
            ));
        }
        if self.dataset.len(Split::Train) < 2 {
            return wrong(format!("{dir} has no segments to train on, by which features are scaled"));
        }
        if self.text.is_none() && !self.options.given.is_empty() {
            let problem = "this model was trained without captions (text.mode = none); it cannot follow words";
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
        let listener = Listener::new(self.config.data.sample_rate);
        let data_renderer = Renderer::new(&self.representation(), self.dataset.normalizer().clone())?;
        let renderer = Renderer::new(&self.representation(), self.normalizer.clone())?;

        progress("validating", 0, 1);
        report.validation = self.validation()?;
        report.swap = self.swap(progress)?;

        let held_out = self.real(Split::Validation, &listener, &data_renderer, progress)?;
        let training = self.real(Split::Train, &listener, &data_renderer, progress)?;
        let prompts = self.prompts();
        let samples = self.draw("drawing samples", &prompts, &listener, &renderer, progress)?;
        let noises = self.noises(&held_out, &listener, &data_renderer, progress)?;
        let originals = self.originals(&listener, &data_renderer, &mut report.representation, progress)?;
        self.image_error(&held_out, &data_renderer, &mut report.representation)?;

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
            let without = "this model was trained without captions: whether it follows words was not measured";
            report.notes.push(without.to_string());
            return Ok(report);
        }
        let said: Vec<Vec<String>> = prompts.iter().map(|prompt| vec![prompt.clone()]).collect();
        let tracks = self.dataset.tracks();
        let true_of: Vec<Vec<String>> =
            held_out.tracks.iter().map(|&track| tracks[track].captions.clone()).collect();
        report.named = named::compare((&samples.attributes, &said), (&held_out.clips.attributes, &true_of));
        report.pairs = self.pairs(&held_out, &training, &listener, &renderer, progress)?;
        if report.pairs.is_empty() {
            let none = "no held-out caption is a list with a tempo, brightness or drums in it; give pairs with --pair";
            report.notes.push(none.to_string());
        }
        Ok(report)
    }

    fn validation(&mut self) -> Result<Option<crate::train::validate::Validation>> {
        let Model { backend, dit, weights, schedule } = self.model;
        let text = self.text.as_mut();
        validate(backend, dit, weights, self.config, schedule, self.dataset, Split::Validation, text)
    }

    fn swap(&mut self, progress: &mut Progress<'_>) -> Result<Option<swap::Swap>> {
        let Some(text) = &mut self.text else { return Ok(None) };
        let mut tell = |done, all| progress("swapping captions", done, all);
        swap::swap(&self.model, self.config, self.dataset, text, self.options.count, &mut tell)
    }

    /// Segments spread over a split.
    fn real(
        &self,
        split: Split,
        listener: &Listener,
        renderer: &Renderer,
        progress: &mut Progress<'_>,
    ) -> Result<Real> {
        let len = self.dataset.len(split);
        let count = len.min(self.options.real.max(4));
        let each = self.model.dit.image_len();
        let mut real = Real { clips: Clips::default(), tracks: Vec::new(), heard: Vec::new() };
        for first in (0..count).step_by(BATCH) {
            let part = BATCH.min(count - first);
            let mut images = vec![0.0; part * each];
            for (i, image) in images.chunks_exact_mut(each).enumerate() {
                real.tracks.push(self.dataset.read_segment(split, (first + i) * len / count, image)?);
            }
            let heard = real.clips.add_images(listener, renderer, &images)?;
            if split == Split::Validation {
                real.heard.extend(heard);
            }
            if !progress("listening to real segments", first + part, count) {
                return Err(Error::Interrupted);
            }
        }
        Ok(real)
    }

    /// Captions of held-out tracks: every track's first, then every track's second, and so on; empty for a model without words.
    fn prompts(&self) -> Vec<String> {
        let tracks = self.dataset.tracks();
        let held_out: Vec<usize> =
            (0..tracks.len()).filter(|&track| tracks[track].split == Split::Validation).collect();
        let caption = |i: usize| self.dataset.caption(held_out[i % held_out.len()], (i / held_out.len()) as u64);
        (0..self.options.count)
            .map(|i| if self.text.is_some() { caption(i).to_string() } else { String::new() })
            .collect()
    }

    /// Draws sample number i of the seed from prompt i, for all of them.
    fn draw(
        &mut self,
        what: &str,
        prompts: &[String],
        listener: &Listener,
        renderer: &Renderer,
        progress: &mut Progress<'_>,
    ) -> Result<Clips> {
        let schedule = self.model.schedule;
        let path = sampler::path(schedule, &self.config.diffusion, &self.config.sample, schedule.steps() - 1);
        let mut clips = Clips::default();
        for (batch, prompts_now) in prompts.chunks(BATCH).enumerate() {
            let (first, count) = (batch * BATCH, prompts_now.len());
            let guidance = match &mut self.text {
                None => None,
                Some(text) => {
                    let (wanted, none) = (text.batch(prompts_now)?, text.batch(&vec![""; count])?);
                    Some(Guidance::new(&self.config.sample, wanted, none))
                }
            };
            let order = Order {
                guidance,
                ..Order::plain(self.model.dit, self.options.seed, first as u64, count)
            };
            let all = prompts.len() * path.len();
            let mut tell = |step: usize| progress(what, first * path.len() + count * step, all);
            let images = sampler::draw(&self.model, &path, &order, &mut tell)?;
            clips.add_images(listener, renderer, &images)?;
        }
        Ok(clips)
    }

    /// White noise, and noise with the spectra of held-out segments, through encoder and decoder.
    fn noises(
        &self,
        held_out: &Real,
        listener: &Listener,
        renderer: &Renderer,
        progress: &mut Progress<'_>,
    ) -> Result<[Clips; 2]> {
        let representation = representation::build(&self.representation())?;
        let (samples, width) = (representation.segment_samples(), representation.width());
        let channels = self.config.data.mix.channels();
        let count = self.options.count.min(held_out.heard.len());
        let mut noises = [Clips::default(), Clips::default()];
        for i in 0..count {
            let like = &held_out.heard[i * held_out.heard.len() / count];
            for (clips, seed) in noises.iter_mut().zip(NOISE_SEEDS) {
                let sound = (0..channels).map(|channel| {
                    let clip = (i * channels + channel) as u64;
                    match seed == NOISE_SEEDS[0] {
                        true => noise::white_like(seed, clip, samples, like),
                        false => noise::matched(listener, seed, clip, samples, like),
                    }
                });
                let mut image = representation.encode(&sound.collect::<Vec<_>>())?;
                self.dataset.normalizer().apply(&mut image, width)?;
                clips.add_images(listener, renderer, &image)?;
            }
            if !progress("listening to noise", i + 1, count) {
                return Err(Error::Interrupted);
            }
        }
        Ok(noises)
    }

    /// Held-out sounds from their files, as they are, and how far encode and decode take them.
    fn originals(
        &self,
        listener: &Listener,
        renderer: &Renderer,
        found: &mut Representation,
        progress: &mut Progress<'_>,
    ) -> Result<Clips> {
        let representation = representation::build(&self.representation())?;
        let (samples, width) = (representation.segment_samples(), representation.width());
        let held_out: Vec<_> =
            self.dataset.tracks().iter().filter(|track| track.split == Split::Validation).collect();
        let each = self.options.count.div_ceil(held_out.len().max(1));
        let mut clips = Clips::default();
        let mut distances = Vec::new();
        for (i, track) in held_out.iter().enumerate() {
            if !progress("listening to the files", i + 1, held_out.len()) {
                return Err(Error::Interrupted);
            }
            let Some(source) = track.sources.iter().find(|source| Path::new(&source.path).is_file()) else {
                continue;
            };
            let path = Path::new(&source.path);
            // A file that has gone bad since is as good as one that is gone.
            let Ok(mut reader) = AudioReader::open(path, self.config.data.sample_rate, self.config.data.mix)
            else {
                continue;
            };
            for _ in 0..each.min(track.segments).min(self.options.count - clips.len()) {
                let mut sound = Vec::new();
                if !reader.read(samples, &mut sound).is_ok_and(|read| read == samples) {
                    break;
                }
                let mut image = representation.encode(&sound)?;
                self.dataset.normalizer().apply(&mut image, width)?;
                let decoded = &renderer.decode(&image)?[0];
                distances.push(listener.log_spectral_distance(&sound, &decoded.channels));
                clips.push(&listener.hear(&sound), SoundCheck::of(&sound));
            }
        }
        found.files = clips.len();
        found.log_spectral_distance_db = mean(&distances);
        Ok(clips)
    }

    /// How far an image is from itself when it was sound in between.
    fn image_error(&self, held_out: &Real, renderer: &Renderer, found: &mut Representation) -> Result<()> {
        let representation = representation::build(&self.representation())?;
        let len = self.dataset.len(Split::Validation);
        let count = held_out.clips.len().min(2 * BATCH);
        let mut image = vec![0.0; self.model.dit.image_len()];
        let mut errors = Vec::new();
        for i in 0..count {
            self.dataset.read_segment(Split::Validation, i * len / count, &mut image)?;
            let decoded = renderer.decode(&image)?.remove(0);
            let mut sound = decoded.channels;
            // What was too loud was turned down; the image is of the sound before that.
            let gain = decoded.check.peak / SoundCheck::of(&sound).peak.max(f32::MIN_POSITIVE);
            sound.iter_mut().flatten().for_each(|x| *x *= gain);
            let mut again = representation.encode(&sound)?;
            self.dataset.normalizer().apply(&mut again, representation.width())?;
            let square = image.iter().zip(&again).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            errors.push((square / image.len() as f64).sqrt());
        }
        found.image_error = mean(&errors);
        Ok(())
    }

    fn pairs(
        &mut self,
        held_out: &Real,
        training: &Real,
        listener: &Listener,
        renderer: &Renderer,
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
                self.draw(&what, &prompts, listener, renderer, progress)
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
fn distances(held_out: &Real, training: &Real, samples: &Clips, originals: &Clips, noises: &[Clips; 2]) -> Vec<Distance> {
    let scale = Scale::of(&training.clips.features);
    let scaled = |clips: &Clips| scale.apply(&clips.features);
    let reference = scaled(&held_out.clips);
    let row = |name: &'static str, clips: &[Vec<f64>], beside: &[Vec<f64>]| {
        let enough = clips.len() > 1 && beside.len() > 1;
        enough.then(|| Distance {
            set: name,
            clips: clips.len(),
            beside: beside.len(),
            mel_fd: Gaussian::of(clips).frechet(&Gaussian::of(beside)),
            kernel: kernel(clips, beside),
        })
    };
    debug_assert!(reference.iter().all(|clip| clip.len() == FEATURES));
    // Every other segment: both halves hear all tracks.
    let half = |odd: usize| reference.iter().skip(odd).step_by(2).cloned().collect::<Vec<_>>();
    let training = scaled(&training.clips);
    let spread: Vec<Vec<f64>> = (0..samples.len().min(training.len()))
        .map(|i| training[i * training.len() / samples.len().min(training.len())].clone())
        .collect();
    let rows = [
        row("real: one half beside the other", &half(0), &half(1)),
        row("real: training segments", &spread, &reference),
        row("real: files, not encoded", &scaled(originals), &reference),
        row("SAMPLES", &scaled(samples), &reference),
        row("noise with music's spectrum", &scaled(&noises[1]), &reference),
        row("white noise", &scaled(&noises[0]), &reference),
    ];
    rows.into_iter().flatten().collect()
}
