//! What samples are held against: real segments as the decoder gives them back, the files that they came from, and noise.

use std::path::Path;

use super::clips::Clips;
use super::listen::{Heard, Listener};
use super::noise;
use super::pairs::RealClip;
use super::run::Progress;
use crate::audio::wav::SoundCheck;
use crate::audio::{AudioReader, Normalizer, Representation, RepresentationConfig, representation};
use crate::dataset::{Dataset, Split};
use crate::error::{Error, Result};
use crate::render::Renderer;

/// Images decoded at a time.
const BATCH: usize = 8;
/// Images by which the way through sound and back is judged.
const IMAGES: usize = 16;
/// Seeds of the two kinds of noise.
const WHITE_SEED: u64 = 0x7768_6974;
const MATCHED_SEED: u64 = 0x6d61_7463;

/// A data set, made audible.
pub struct Reference<'a> {
    dataset: &'a Dataset,
    config: &'a RepresentationConfig,
    representation: Box<dyn Representation>,
    renderer: Renderer,
    listener: Listener,
}

/// Real segments, decoded and measured.
#[derive(Default)]
pub struct Real {
    /// The clips.
    pub clips: Clips,
    /// Track of each: its place in [`Dataset::tracks`].
    pub tracks: Vec<usize>,
    /// What was heard of each.
    heard: Vec<Heard>,
}

impl Real {
    /// What was measured, by track.
    pub fn measured(&self) -> Vec<RealClip> {
        let clips = self.tracks.iter().zip(&self.clips.attributes);
        clips.map(|(&track, &attributes)| RealClip { track, attributes }).collect()
    }
}

impl<'a> Reference<'a> {
    /// Of a data set.
    ///
    /// # Errors
    /// When its representation cannot be built.
    pub fn new(dataset: &'a Dataset) -> Result<Reference<'a>> {
        let config = &dataset.config().representation;
        // What is held out is heard as it is, beyond what there was in the training data too.
        let normalizer = Normalizer { range: Vec::new(), ..dataset.normalizer().clone() };
        Ok(Reference {
            dataset,
            config,
            representation: representation::build(config)?,
            renderer: Renderer::new(config, normalizer)?,
            listener: Listener::new(config.sample_rate),
        })
    }

    /// What listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    fn image_len(&self) -> usize {
        self.dataset.shape().iter().product()
    }

    /// Segments spread over a split, `most` at most.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn real(&self, split: Split, most: usize, progress: &mut Progress<'_>) -> Result<Real> {
        let (len, each) = (self.dataset.len(split), self.image_len());
        let count = len.min(most);
        let what = match split {
            Split::Train => "listening to training segments",
            Split::Validation => "listening to held-out segments",
        };
        let mut real = Real::default();
        for first in (0..count).step_by(BATCH) {
            let part = BATCH.min(count - first);
            let mut images = vec![0.0; part * each];
            for (i, image) in images.chunks_exact_mut(each).enumerate() {
                real.tracks.push(self.dataset.read_segment(split, (first + i) * len / count, image)?);
            }
            let heard = real.clips.add_images(&self.listener, &self.renderer, &images)?;
            // Only held-out segments have noise made after them.
            real.heard.extend(heard.into_iter().filter(|_| split == Split::Validation));
            tell(progress, what, first + part, count)?;
        }
        Ok(real)
    }

    /// White noise, and noise with the spectra of these segments, each as loud, through encoder and decoder.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn noises(&self, like: &Real, count: usize, progress: &mut Progress<'_>) -> Result<[Clips; 2]> {
        let (samples, channels) = (self.representation.segment_samples(), self.config.mix.channels());
        let count = count.min(like.heard.len());
        let mut noises = [Clips::default(), Clips::default()];
        for i in 0..count {
            let like = &like.heard[i * like.heard.len() / count];
            let numbers = (i * channels) as u64..((i + 1) * channels) as u64;
            let white = |number| noise::white_like(WHITE_SEED, number, samples, like);
            let matched = |number| noise::matched(&self.listener, MATCHED_SEED, number, samples, like);
            let sounds = [numbers.clone().map(white).collect::<Vec<_>>(), numbers.map(matched).collect()];
            for (clips, sound) in noises.iter_mut().zip(sounds) {
                clips.add_images(&self.listener, &self.renderer, &self.encoded(&sound)?)?;
            }
            tell(progress, "listening to noise", i + 1, count)?;
        }
        Ok(noises)
    }

    /// Held-out sounds from their files, as they are, and the log-spectral distance of each to what encode and decode make of it.
    /// Files that are no longer there, or no longer good, are left out.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn files(&self, count: usize, progress: &mut Progress<'_>) -> Result<(Clips, Vec<f64>)> {
        let tracks = self.dataset.tracks().iter();
        let held_out: Vec<_> = tracks.filter(|track| track.split == Split::Validation).collect();
        let each = count.div_ceil(held_out.len().max(1));
        let (mut clips, mut distances) = (Clips::default(), Vec::new());
        for (i, track) in held_out.iter().enumerate() {
            tell(progress, "listening to the files", i + 1, held_out.len())?;
            let paths = track.sources.iter().map(|source| Path::new(&source.path));
            let Some(path) = paths.into_iter().find(|path| path.is_file()) else { continue };
            let wanted = each.min(track.segments).min(count - clips.len());
            for sound in self.beginning(path, wanted) {
                let decoded = self.renderer.decode(&self.encoded(&sound)?)?.remove(0);
                distances.push(self.listener.log_spectral_distance(&sound, &decoded.channels));
                clips.push(&self.listener.hear(&sound), SoundCheck::of(&sound));
            }
        }
        Ok((clips, distances))
    }

    /// The first segments of a file, as many as can be read.
    fn beginning(&self, path: &Path, segments: usize) -> Vec<Vec<Vec<f32>>> {
        let samples = self.representation.segment_samples();
        let Ok(mut reader) = AudioReader::open(path, self.config.sample_rate, self.config.mix) else {
            return Vec::new();
        };
        let mut read = || {
            let mut sound = Vec::new();
            reader.read(samples, &mut sound).is_ok_and(|read| read == samples).then_some(sound)
        };
        (0..segments).map_while(|_| read()).collect()
    }

    /// How far held-out images are from themselves when they were sound in between: root mean square, in deviations.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn image_errors(&self) -> Result<Vec<f64>> {
        let len = self.dataset.len(Split::Validation);
        let count = len.min(IMAGES);
        let mut image = vec![0.0; self.image_len()];
        let mut errors = Vec::new();
        for i in 0..count {
            self.dataset.read_segment(Split::Validation, i * len / count, &mut image)?;
            let decoded = self.renderer.decode(&image)?.remove(0);
            let mut sound = decoded.channels;
            // What was too loud was turned down; the image is of the sound before that.
            let gain = decoded.check.peak / SoundCheck::of(&sound).peak.max(f32::MIN_POSITIVE);
            sound.iter_mut().flatten().for_each(|x| *x *= gain);
            let again = self.encoded(&sound)?;
            let square = image.iter().zip(&again).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            errors.push((square / image.len() as f64).sqrt());
        }
        Ok(errors)
    }

    /// The normalised image of a sound.
    fn encoded(&self, sound: &[Vec<f32>]) -> Result<Vec<f32>> {
        let mut image = self.representation.encode(sound)?;
        self.dataset.normalizer().apply(&mut image, self.representation.width())?;
        Ok(image)
    }
}

fn tell(progress: &mut Progress<'_>, what: &str, done: usize, all: usize) -> Result<()> {
    if progress(what, done, all) { Ok(()) } else { Err(Error::Interrupted) }
}
