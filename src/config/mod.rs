//! A run's configuration: presets, files, `--set key=value`, and the checks that do not need data.
//!
//! Everything that decides what a run computes is in one [`Config`]; it is stored in the run's folder and in
//! each checkpoint. Keys are dotted paths (`model.depth`); an unknown key is an error that names the nearest.

mod keys;
pub mod presets;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::audio::config::{Kind, Mix, RepresentationConfig, Window};
pub use crate::backend::Objective;
use crate::error::{Error, Result};

pub use keys::{Overrides, data_differences};

/// Everything that decides what a run computes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `model.*`: shape and size of the network.
    pub model: ModelConfig,
    /// `text.*`: what the network hears of captions.
    pub text: TextConfig,
    /// `data.*`: how sound becomes an image. `data.image` is always `model.image` and not a key of its own.
    pub data: RepresentationConfig,
    /// `diffusion.*`: the noise process and what is predicted.
    pub diffusion: DiffusionConfig,
    /// `train.*`: the optimizer and the loop.
    pub train: TrainConfig,
    /// `sample.*`: how samples are drawn, during training and by `sample` unless flags say otherwise.
    pub sample: SampleConfig,
}

/// No extent of a model is above this: far beyond what any machine holds, and products of them do not overflow.
const LARGEST_EXTENT: usize = 1 << 20;
/// Every count of training steps is at most this: more than any machine does, and no arithmetic on it overflows.
const MOST_STEPS: u64 = 1_000_000_000_000;
/// Timesteps of the noise, at most.
const MOST_TIMESTEPS: u64 = 100_000;
/// Samples drawn or validated on, at most.
const MOST_SAMPLES: u64 = 1_000_000;

/// The kind of transformer block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// The seed's: affine pre-norm, LeakyReLU, the step added to every token once.
    Seed,
    /// adaLN-Zero (Peebles and Xie 2023, figure 3): shift, scale and gate from the step, GELU.
    AdalnZero,
}

/// The position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Position {
    /// A parameter `[tokens, dim]`.
    Learned,
    /// Fixed 2-D sines and cosines: the first half of `dim` encodes the row, the second the column.
    Sincos,
}

/// What is computed twice, so that less has to be kept between forward and backward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Each block, from its input, but for its attention (Chen et al. 2016): about a tenth of the memory for a step that is up
    /// to a quarter longer.
    Blocks,
}

/// `model.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Rows (frequency) and columns (time) of the image.
    pub image: [usize; 2],
    /// Channels of the image.
    pub channels: usize,
    /// Rows and columns of a patch.
    pub patch: [usize; 2],
    /// Features a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Hidden features of the MLP, as a multiple of `dim`.
    pub mlp_ratio: usize,
    /// Kind of block.
    pub block: BlockKind,
    /// Position embedding.
    pub position: Position,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            image: [80, 256],
            channels: 1,
            patch: [8, 8],
            dim: 256,
            depth: 6,
            heads: 4,
            mlp_ratio: 4,
            block: BlockKind::AdalnZero,
            position: Position::Sincos,
        }
    }
}

/// How a caption reaches the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextMode {
    /// Not at all: unconditional.
    #[default]
    None,
    /// As one vector, added to the step embedding.
    Pooled,
    /// As a sequence, by cross-attention in each block.
    Cross,
    /// Both ways.
    Both,
}

impl TextMode {
    /// Whether a caption becomes one vector.
    pub fn pools(self) -> bool {
        matches!(self, TextMode::Pooled | TextMode::Both)
    }

    /// Whether blocks attend to a caption's tokens.
    pub fn crosses(self) -> bool {
        matches!(self, TextMode::Cross | TextMode::Both)
    }
}

/// `text.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextConfig {
    /// How a caption reaches the network.
    pub mode: TextMode,
    /// Entries of the table of tokens; the tokenizer has at most as many.
    pub vocabulary: usize,
    /// Tokens of a caption; longer ones are cut.
    pub tokens: usize,
    /// Features a token.
    pub dim: usize,
    /// Blocks of the text encoder.
    pub depth: usize,
    /// Attention heads of the text encoder; divides `dim`.
    pub heads: usize,
    /// Part of the training captions that are dropped, so that the model also learns to do without one (guidance).
    pub dropout: f64,
    /// Features a token of a frozen, pretrained encoder that takes the place of the trained one; 0 for none.
    pub features: usize,
}

impl Default for TextConfig {
    fn default() -> Self {
        Self {
            mode: TextMode::None,
            vocabulary: crate::text::DATASET_VOCABULARY,
            tokens: 48,
            dim: 256,
            depth: 2,
            heads: 4,
            dropout: 0.1,
            features: 0,
        }
    }
}

/// The curve of the noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoiseSchedule {
    /// beta from 1e-4 to 0.02 (Ho et al. 2020, section 4).
    Linear,
    /// abar_t = cos^2 (Nichol and Dhariwal 2021, eq. 17).
    Cosine,
    /// The seed's: the betas of `linear`, meant to go with `diffusion.region = "mixed"`.
    Seed,
}

/// Which frames of a training sample get noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Region {
    /// All.
    Whole,
    /// A random range: trains filling in.
    Range,
    /// From a random frame to the end: trains continuing.
    End,
    /// Each sample one of the three, equally often.
    Mixed,
}

/// How samples are weighted in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossWeight {
    /// All alike.
    Uniform,
    /// min(SNR, gamma), scaled to the objective (Hang et al. 2023, section 3.4).
    MinSnr,
}

/// `diffusion.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionConfig {
    /// Curve of the noise.
    pub schedule: NoiseSchedule,
    /// Timesteps T.
    pub steps: usize,
    /// What the model predicts.
    pub objective: Objective,
    /// Which frames get noise in training.
    pub region: Region,
    /// Loss weighting over timesteps.
    pub loss_weight: LossWeight,
    /// Gamma of `min_snr`.
    pub min_snr_gamma: f64,
    /// One timestep from each of `batch` equal strata, instead of independent draws.
    pub stratified: bool,
}

impl Default for DiffusionConfig {
    fn default() -> Self {
        Self {
            schedule: NoiseSchedule::Cosine,
            steps: 1000,
            objective: Objective::X0,
            region: Region::Whole,
            loss_weight: LossWeight::Uniform,
            min_snr_gamma: 5.0,
            stratified: true,
        }
    }
}

/// The curve of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Stays.
    Constant,
    /// Half a cosine down to `train.lr_final` times the peak at the last step.
    Cosine,
}

/// `train.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Samples a step.
    pub batch: usize,
    /// Steps in all.
    pub steps: u64,
    /// Peak learning rate.
    pub lr: f64,
    /// Curve of the learning rate.
    pub schedule: LrSchedule,
    /// Steps of linear warm-up.
    pub warmup: u64,
    /// Last learning rate of `cosine`, as a fraction of the peak.
    pub lr_final: f64,
    /// Adam: decay of the first moment.
    pub beta1: f64,
    /// Adam: decay of the second moment.
    pub beta2: f64,
    /// Adam: added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of the matrices (AdamW); 0 is plain Adam.
    pub weight_decay: f64,
    /// Largest norm of the gradient; 0 for no clipping.
    pub clip: f64,
    /// Decay of the EMA of the weights, at most; early steps use (1 + step) / (10 + step).
    pub ema: f64,
    /// Seed of weights, data order, noise and timesteps.
    pub seed: u64,
    /// What backward computes again instead of keeping it.
    pub recompute: Recompute,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
    /// Steps between validations.
    pub validate_every: u64,
    /// Validation samples, at most.
    pub validation_samples: usize,
    /// Steps between samples (WAV and PNG).
    pub sample_every: u64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch: 16,
            steps: 10_000,
            lr: 3e-4,
            schedule: LrSchedule::Cosine,
            warmup: 100,
            lr_final: 0.05,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            ema: 0.999,
            seed: 0,
            recompute: Recompute::None,
            checkpoint_every: 500,
            validate_every: 500,
            validation_samples: 64,
            sample_every: 1000,
        }
    }
}

/// The sampler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplerKind {
    /// Ancestral sampling (Ho et al. 2020, algorithm 2).
    Ddpm,
    /// Deterministic (Song, Meng and Ermon 2021, eq. 12 with eta = 0).
    Ddim,
    /// DPM-Solver++(2M): of second order, from the estimate before (Lu et al. 2022).
    Dpm,
    /// Heun's method: of second order, two evaluations a step.
    Heun,
}

impl SamplerKind {
    /// All of them.
    pub const ALL: [SamplerKind; 4] = [Self::Ddpm, Self::Ddim, Self::Dpm, Self::Heun];
}

/// As it is written in a configuration.
impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ddpm => "ddpm",
            Self::Ddim => "ddim",
            Self::Dpm => "dpm",
            Self::Heun => "heun",
        })
    }
}

/// `sample.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SampleConfig {
    /// Sampler.
    pub sampler: SamplerKind,
    /// Model evaluations a sample.
    pub steps: usize,
    /// Samples drawn at a time.
    pub count: usize,
    /// Estimates of x0 are clamped to +-clip deviations; 0 for none.
    pub clip: f64,
    /// How strongly captions are followed (classifier-free guidance): 1 as learnt, more exaggerates.
    pub guidance: f64,
    /// How much of the deviation that guidance adds is taken back, 0 to 1.
    pub rescale: f64,
    /// Part of the timesteps, of 0 (clean) to 1 (noise), in which guidance is used.
    pub guidance_interval: [f64; 2],
}

impl Default for SampleConfig {
    fn default() -> Self {
        Self {
            sampler: SamplerKind::Ddim,
            steps: 50,
            count: 4,
            clip: 5.0,
            guidance: 3.0,
            rescale: 0.0,
            guidance_interval: [0.0, 1.0],
        }
    }
}

impl Config {
    /// A preset with overrides from files and `--set`, checked.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn resolve(preset: &str, overrides: &Overrides) -> Result<Config> {
        let mut table = presets::table(preset)?;
        overrides.apply(&mut table)?;
        let config = Self::from_table(table)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a stored configuration (a run's `config.toml`, a checkpoint's metadata).
    ///
    /// # Errors
    /// [`Error::Format`] with the key: nobody typed this just now.
    pub fn from_toml(text: &str) -> Result<Config> {
        let read = keys::parse_file(text, "config.toml").and_then(Self::from_table);
        read.map_err(|error| match error {
            Error::Config { .. } => Error::format("config.toml", error.to_string()),
            other => other,
        })
    }

    /// As TOML, every key present.
    pub fn to_toml(&self) -> String {
        let mut table = keys::to_table(self);
        if let Some(toml::Value::Table(data)) = table.get_mut("data") {
            data.remove("image");
            data.insert("compression".into(), keys::shortest(self.data.compression));
        }
        toml::to_string(&table).expect("a table of plain values is TOML")
    }

    fn from_table(table: toml::Table) -> Result<Config> {
        let mut config = keys::read(&table)?;
        config.data.image = config.model.image;
        Ok(config)
    }

    /// Checks that need no data.
    ///
    /// # Errors
    /// [`Error::Config`] with the first key that cannot work, and what would.
    pub fn check(&self) -> Result<()> {
        self.model.check()?;
        self.text.check()?;
        self.check_counts()?;
        for (key, value) in [
            ("train.clip", self.train.clip),
            ("train.weight_decay", self.train.weight_decay),
            ("sample.clip", self.sample.clip),
            ("sample.guidance", self.sample.guidance),
        ] {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(Error::config(key, format!("is {value}; it must be a number of at least 0")));
            }
        }
        if self.sample.steps > self.diffusion.steps {
            let problem =
                format!("is {}, more than diffusion.steps = {}", self.sample.steps, self.diffusion.steps);
            return Err(Error::config("sample.steps", problem));
        }
        if !(0.0..=1.0).contains(&self.sample.rescale) {
            return Err(Error::config("sample.rescale", format!("{} is not in 0 .. 1", self.sample.rescale)));
        }
        let [low, high] = self.sample.guidance_interval;
        if !(0.0 <= low && low <= high && high <= 1.0) {
            let problem = format!("[{low}, {high}] is not a part of 0 .. 1; the lower end comes first");
            return Err(Error::config("sample.guidance_interval", problem));
        }
        if !(self.train.lr > 0.0 && self.train.lr < 1.0) {
            return Err(Error::config("train.lr", format!("{} is not between 0 and 1", self.train.lr)));
        }
        if !(self.train.eps > 0.0 && self.train.eps < 1.0) {
            return Err(Error::config("train.eps", format!("{} is not between 0 and 1", self.train.eps)));
        }
        if self.diffusion.min_snr_gamma.is_nan() || self.diffusion.min_snr_gamma <= 0.0 {
            let problem = format!("{} is not above 0", self.diffusion.min_snr_gamma);
            return Err(Error::config("diffusion.min_snr_gamma", problem));
        }
        // TOML has no larger integers.
        if i64::try_from(self.train.seed).is_err() {
            return Err(Error::config("train.seed", format!("{} is above {}", self.train.seed, i64::MAX)));
        }
        for (key, value) in [
            ("train.beta1", self.train.beta1),
            ("train.beta2", self.train.beta2),
            ("train.ema", self.train.ema),
            ("train.lr_final", self.train.lr_final),
        ] {
            if !(0.0..=1.0).contains(&value) || (value == 1.0 && key != "train.lr_final") {
                return Err(Error::config(key, format!("{value} is not in 0 .. 1")));
            }
        }
        Ok(())
    }

    /// Every whole number within what can be counted and allocated.
    fn check_counts(&self) -> Result<()> {
        let (train, diffusion, sample) = (&self.train, &self.diffusion, &self.sample);
        for (key, value, least, most) in [
            ("train.batch", train.batch as u64, 1, LARGEST_EXTENT as u64),
            ("train.steps", train.steps, 1, MOST_STEPS),
            ("train.warmup", train.warmup, 0, MOST_STEPS),
            ("train.checkpoint_every", train.checkpoint_every, 1, MOST_STEPS),
            ("train.validate_every", train.validate_every, 1, MOST_STEPS),
            ("train.validation_samples", train.validation_samples as u64, 1, MOST_SAMPLES),
            ("train.sample_every", train.sample_every, 1, MOST_STEPS),
            ("diffusion.steps", diffusion.steps as u64, 2, MOST_TIMESTEPS),
            ("sample.steps", sample.steps as u64, 1, MOST_TIMESTEPS),
            ("sample.count", sample.count as u64, 1, MOST_SAMPLES),
        ] {
            if !(least..=most).contains(&value) {
                let problem = format!("is {value}; it must be at least {least} and at most {most}");
                return Err(Error::config(key, problem));
            }
        }
        Ok(())
    }

    /// Checks that `model.image` has the rows that `data.*` give, before sound is turned into images.
    ///
    /// # Errors
    /// [`Error::Config`] for `model.image`, with what to set.
    pub fn check_rows(&self) -> Result<()> {
        let [height, width] = self.model.image;
        let (rows, why) = match self.data.representation {
            Kind::Complex | Kind::Logmag => (self.data.n_fft / 2, "half of data.n_fft"),
            Kind::Mel => (self.data.mel_bands, "data.mel_bands"),
            Kind::Seed => return Ok(()),
        };
        if rows == height || rows == 0 {
            return Ok(());
        }
        let image = [rows, width];
        let [down, across] = self.model.fitting_patch(image);
        let problem = format!(
            "has {height} rows, but the sound gives {rows} ({why}); \
             --set model.image=[{rows},{width}] --set model.patch=[{down},{across}] would fit"
        );
        Err(Error::config("model.image", problem))
    }
}

impl TextConfig {
    /// Checks that the shapes fit together.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn check(&self) -> Result<()> {
        for (key, value, least) in [
            ("text.vocabulary", self.vocabulary, crate::text::SMALLEST_VOCABULARY),
            ("text.tokens", self.tokens, 1),
            ("text.dim", self.dim, 1),
            ("text.depth", self.depth, 0),
            ("text.heads", self.heads, 1),
            ("text.features", self.features, 0),
        ] {
            if !(least..=LARGEST_EXTENT).contains(&value) {
                let problem = format!("is {value}; it must be at least {least} and at most {LARGEST_EXTENT}");
                return Err(Error::config(key, problem));
            }
        }
        if !self.dim.is_multiple_of(self.heads) {
            let problem = format!("{} heads do not divide text.dim = {}", self.heads, self.dim);
            return Err(Error::config("text.heads", problem));
        }
        if !(0.0..=1.0).contains(&self.dropout) {
            return Err(Error::config("text.dropout", format!("{} is not in 0 .. 1", self.dropout)));
        }
        Ok(())
    }
}

impl ModelConfig {
    /// For each axis the largest extent up to the present patch's that divides `image`.
    fn fitting_patch(&self, image: [usize; 2]) -> [usize; 2] {
        let fit = |axis: usize| (1..=self.patch[axis]).rev().find(|&patch| image[axis].is_multiple_of(patch));
        [fit(0).unwrap_or(1), fit(1).unwrap_or(1)]
    }

    /// Tokens an image: rows times columns of patches.
    pub fn tokens(&self) -> usize {
        (self.image[0] / self.patch[0]) * (self.image[1] / self.patch[1])
    }

    /// Checks that the shapes fit together.
    ///
    /// # Errors
    /// [`Error::Config`] with the key.
    pub fn check(&self) -> Result<()> {
        let extents = [
            ("model.channels", self.channels),
            ("model.dim", self.dim),
            ("model.depth", self.depth),
            ("model.heads", self.heads),
            ("model.mlp_ratio", self.mlp_ratio),
            ("model.image", self.image[0].max(self.image[1])),
            ("model.patch", self.patch[0].max(self.patch[1])),
        ];
        if let Some((key, value)) = extents.iter().find(|(_, value)| !(1..=LARGEST_EXTENT).contains(value)) {
            return Err(Error::config(
                *key,
                format!("is {value}; it must be at least 1 and at most {LARGEST_EXTENT}"),
            ));
        }
        for (axis, name) in ["rows", "columns"].iter().enumerate() {
            let (image, patch) = (self.image[axis], self.patch[axis]);
            if image == 0 || patch == 0 || image % patch != 0 {
                let [down, across] = self.fitting_patch(self.image);
                let problem = format!(
                    "{patch} {name} a patch do not divide the image's {image}; model.image must be a multiple of \
                     it, or --set model.patch=[{down},{across}]"
                );
                return Err(Error::config("model.patch", problem));
            }
        }
        if !self.dim.is_multiple_of(self.heads) {
            let problem = format!("{} heads do not divide model.dim = {}", self.heads, self.dim);
            return Err(Error::config("model.heads", problem));
        }
        let divisor = if self.position == Position::Sincos { 4 } else { 2 };
        if !self.dim.is_multiple_of(divisor) {
            return Err(Error::config("model.dim", format!("{} is not a multiple of {divisor}", self.dim)));
        }
        Ok(())
    }
}
