//! Images that a model made become things to hear and see: WAV with its recipe inside, PNG, and a word about
//! what is wrong with them.

use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::audio::config::RepresentationConfig;
use crate::audio::wav::{SampleFormat, SoundCheck, WavNotes};
use crate::audio::{Normalizer, Representation, picture, representation, wav};
use crate::config::{Config, SampleConfig};
use crate::control::Finish;
use crate::error::Result;
use crate::files::create_folder;

/// Peak that a sound louder than full scale is scaled down to.
const SAFE_PEAK: f32 = 0.98;

/// Everything that is needed to make the same sound again, stored in each WAV as JSON.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// dit-engine's version.
    pub version: String,
    /// SHA-256 of the checkpoint's file, first 16 hexadecimal digits; none for a sample taken during training, when there
    /// need not be a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
    /// Hash of the weights that were used ([`WeightsHash`](crate::train::checkpoint::WeightsHash)); `inspect` shows those
    /// of a checkpoint.
    pub weights: String,
    /// Training step of the weights.
    pub step: u64,
    /// Seed of the sample.
    pub seed: u64,
    /// Number of the sample in the seed's sequence.
    pub number: u64,
    /// Sampler.
    pub sampler: String,
    /// Model evaluations.
    pub sampler_steps: usize,
    /// Clamp of the estimates of x0, in deviations; 0 for none.
    pub clip: f64,
    /// What was asked for; nothing for no caption.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prompt: String,
    /// What was to be kept away from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
    /// How strongly the prompt was followed, `[scale, rescale, from, to]` (`sample.guidance` and the keys beside it).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<[f64; 4]>,
    /// What it was made from, and what of that was kept: the flags, as given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub control: String,
    /// Whether the EMA of the weights was used.
    pub ema: bool,
    /// Name of the device.
    pub device: String,
    /// The whole configuration, as TOML.
    pub config: String,
}

impl Recipe {
    /// What [`Recipe::guidance`] says of a configuration.
    pub fn guidance_of(sample: &SampleConfig) -> [f64; 4] {
        let [from, to] = sample.guidance_interval;
        [sample.guidance, sample.rescale, from, to]
    }

    /// What a configuration and this program's version decide; the rest is empty.
    pub fn of(config: &Config) -> Recipe {
        let sample = &config.sample;
        Recipe {
            version: env!("CARGO_PKG_VERSION").to_string(),
            sampler: sample.sampler.to_string(),
            sampler_steps: sample.steps,
            clip: sample.clip,
            config: config.to_toml(),
            ..Recipe::default()
        }
    }
}

/// Turns normalised images into files.
pub struct Renderer {
    representation: Box<dyn Representation>,
    normalizer: Normalizer,
    sample_rate: u32,
    hop: usize,
    finish: Finish,
    /// Frames that a loop is decoded with on either side.
    margin: usize,
}

/// One image made audible.
pub struct Rendered {
    /// One vector a channel, full scale 1, at most 0.98 if it had to be scaled down.
    pub channels: Vec<Vec<f32>>,
    /// The sound as the model made it, before it was scaled.
    pub check: SoundCheck,
    /// Magnitudes in dB, `[height, width]`, for the picture.
    pub magnitude_db: Vec<f32>,
}

/// Rate and size of a sound.
#[derive(Clone, Copy, Debug)]
pub struct SoundFacts {
    /// Hertz.
    pub sample_rate: u32,
    /// Channels.
    pub channels: usize,
    /// Samples a channel.
    pub frames: usize,
}

/// What was written for one sample.
#[derive(Clone, Debug)]
pub struct Written {
    /// The sound.
    pub wav: PathBuf,
    /// The spectrogram.
    pub png: PathBuf,
    /// What it is like.
    pub check: SoundCheck,
    /// Width and height of the picture.
    pub pixels: [u32; 2],
    /// Rate, channels and length of the sound.
    pub sound: SoundFacts,
}

impl Renderer {
    /// For images of this representation, normalised with these statistics.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when the representation cannot be built.
    pub fn new(config: &RepresentationConfig, normalizer: Normalizer) -> Result<Self> {
        Self::finishing(config, normalizer, Finish::default())
    }

    /// The same, with something to be done with each sound.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn finishing(config: &RepresentationConfig, normalizer: Normalizer, finish: Finish) -> Result<Self> {
        let margin = finish.margin_frames(config);
        let [height, width] = config.image;
        let wide = RepresentationConfig { image: [height, width + 2 * margin], ..config.clone() };
        let representation = representation::build(&wide)?;
        let RepresentationConfig { sample_rate, hop, .. } = *config;
        Ok(Renderer { representation, normalizer, sample_rate, hop, finish, margin })
    }

    /// Frames of an image.
    fn width(&self) -> usize {
        self.representation.width() - 2 * self.margin
    }

    /// Hertz of the sounds that it makes.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Decodes normalised images `[count, C, H, W]`, several at a time on all cores.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the values are not whole images.
    pub fn decode(&self, images: &[f32]) -> Result<Vec<Rendered>> {
        let representation = &self.representation;
        let len = representation.channels() * representation.height() * self.width();
        images.par_chunks(len).map(|image| self.decode_one(image)).collect()
    }

    fn decode_one(&self, image: &[f32]) -> Result<Rendered> {
        let width = self.width();
        // A loop is seen from the end of the one before to the beginning of the one after.
        let around = |row: &[f32]| {
            let frames = row.iter().copied().cycle().skip(width - self.margin % width);
            frames.take(width + 2 * self.margin).collect::<Vec<f32>>()
        };
        let mut image: Vec<f32> = image.chunks_exact(width).flat_map(around).collect();
        self.normalizer.undo(&mut image, self.representation.width())?;
        // A model errs to both sides, and a value a deviation above the loudest of the data is a sound many times as loud.
        self.normalizer.limit(&mut image, self.representation.width())?;
        let mut channels = self.representation.decode(&image)?;
        self.finish.close_loop(&mut channels, self.margin * self.hop);
        let check = SoundCheck::of(&channels);
        if self.finish.keeps_something() {
            self.finish.splice(&mut channels, self.sample_rate, SAFE_PEAK);
        } else if check.peak > SAFE_PEAK {
            let gain = SAFE_PEAK / check.peak;
            channels.iter_mut().flatten().for_each(|sample| *sample *= gain);
        }
        self.finish.trim(&mut channels);
        let all = self.representation.magnitude_db(&image);
        let rows = all.chunks_exact(self.representation.width());
        let magnitude_db = rows.flat_map(|row| &row[self.margin..][..width]).copied().collect();
        Ok(Rendered { channels, check, magnitude_db })
    }

    /// Writes `FOLDER/NAME-0.wav`, `FOLDER/NAME-0.png` and so on, and `FOLDER/NAME.png` with all pictures if there are
    /// several. `recipe` is asked for the recipe of each number, which is put in.
    ///
    /// # Errors
    /// [`crate::Error::Io`], [`crate::Error::Shape`].
    pub fn write(
        &self,
        folder: &Path,
        name: &str,
        images: &[f32],
        recipe: &dyn Fn(usize) -> Option<Recipe>,
    ) -> Result<Vec<Written>> {
        let (written, pictures) = self.write_some(folder, name, 0, images, recipe)?;
        write_overview(folder, name, &pictures)?;
        Ok(written)
    }

    /// As [`Renderer::write`], for a part of the samples: those from number `first` on. The pictures are for
    /// [`write_overview`], when all are there.
    ///
    /// # Errors
    /// As [`Renderer::write`].
    pub fn write_some(
        &self,
        folder: &Path,
        name: &str,
        first: usize,
        images: &[f32],
        recipe: &dyn Fn(usize) -> Option<Recipe>,
    ) -> Result<(Vec<Written>, Vec<RgbImage>)> {
        create_folder(folder)?;
        let (height, width) = (self.representation.height(), self.width());
        let mut pictures = Vec::new();
        let mut written = Vec::new();
        for (number, sound) in (first..).zip(&self.decode(images)?) {
            let wav_path = folder.join(format!("{name}-{number}.wav"));
            let png_path = folder.join(format!("{name}-{number}.png"));
            let notes = notes(recipe(number).map(|recipe| Recipe { number: number as u64, ..recipe }));
            wav::write(&wav_path, &sound.channels, self.sample_rate, SampleFormat::Pcm16, &notes)?;
            let picture = picture::spectrogram(&sound.magnitude_db, height, width)?;
            picture::save(&png_path, &picture)?;
            let facts = SoundFacts {
                sample_rate: self.sample_rate,
                channels: sound.channels.len(),
                frames: sound.channels.first().map_or(0, Vec::len),
            };
            let pixels = [picture.width(), picture.height()];
            pictures.push(picture);
            written.push(Written { wav: wav_path, png: png_path, check: sound.check, pixels, sound: facts });
        }
        Ok((written, pictures))
    }
}

/// Writes `FOLDER/NAME.png` with all pictures, if there are several.
///
/// # Errors
/// [`crate::Error::Io`].
pub fn write_overview(folder: &Path, name: &str, pictures: &[RgbImage]) -> Result<()> {
    if pictures.len() < 2 {
        return Ok(());
    }
    picture::save(&folder.join(format!("{name}.png")), &picture::grid(pictures, 2))
}

/// What a listener should know about the sounds: nothing is passed over.
pub fn complaints(written: &[Written]) -> Vec<String> {
    let mut lines = Vec::new();
    for sample in written {
        let SoundCheck { peak, rms_dbfs, silent, non_finite, .. } = sample.check;
        let mut complain = |what: String| lines.push(format!("{}: {what}", sample.wav.display()));
        if non_finite > 0 {
            complain(format!("{non_finite} samples are NaN or infinite"));
        }
        if silent {
            complain(format!("is silent ({rms_dbfs:.0} dBFS)"));
        }
        if peak > 1.0 {
            let down_db = 20.0 * (peak / SAFE_PEAK).log10();
            complain(format!(
                "was too loud for a WAV (peak {peak:.2}) and is turned down by {down_db:.1} dB"
            ));
        }
    }
    lines
}

fn notes(recipe: Option<Recipe>) -> WavNotes {
    let software = Some(format!("dit-engine {}", env!("CARGO_PKG_VERSION")));
    let comment = recipe.as_ref().map(|recipe| {
        format!(
            "made by dit-engine{}: seed {} number {}, {} {} steps, weights of step {}",
            if recipe.prompt.is_empty() { String::new() } else { format!(" from \"{}\"", recipe.prompt) },
            recipe.seed,
            recipe.number,
            recipe.sampler,
            recipe.sampler_steps,
            recipe.step
        )
    });
    let recipe =
        recipe.map(|recipe| serde_json::to_string(&recipe).expect("plain strings and numbers are JSON"));
    WavNotes { comment, software, recipe }
}
