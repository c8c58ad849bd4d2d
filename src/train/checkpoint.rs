//! A checkpoint: everything that training needs to go on, to the bit, in one safetensors file.
//!
//! ```text
//! __metadata__          format, version, program, step, seed, config (TOML), fingerprint, best_loss
//! weights.NAME          parameters                         NAME and shape as in the model's layout
//! ema.NAME              their exponential moving average
//! adam.first.NAME       first moments
//! adam.second.NAME      second moments
//! data.mean, data.deviation   [channels, rows]: the normaliser of the data set
//! data.range                  [channels, rows, 2]: its smallest and largest values, where they are known
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::audio::Normalizer;
use crate::bert::Bert;
use crate::config::Config;
use crate::dit::Dit;
use crate::error::{Error, Result};
use crate::params::Layout;
use crate::text::{Source, Tokenizer};
use crate::train::cost;
use crate::train::tensors::{self, Named, TensorFile};

/// What `format` in the metadata says.
pub(crate) const FORMAT: &str = "dit-engine checkpoint";
/// Raised when an older program could not read the file, or would misread it.
const FORMAT_VERSION: u32 = 1;
/// What stands before a parameter's name: weights, EMA, first and second moments, in the order of [`Checkpoint`].
pub(crate) const PREFIXES: [&str; 4] = ["weights.", "ema.", "adam.first.", "adam.second."];
/// Before the names of a frozen text encoder's tensors.
const FROZEN_PREFIX: &str = "text_encoder.";
/// Hexadecimal digits of [`short_hash`] and [`WeightsHash`].
const SHORT_HASH_DIGITS: usize = 16;
/// Bytes hashed at a time.
const HASH_CHUNK_BYTES: usize = 1 << 20;
/// Names under which weights are looked for, the first that is there: a checkpoint's EMA before its raw weights,
/// a state of `dit-engine step`, PyTorch's own names.
const WEIGHT_PREFIXES: [&str; 4] = ["ema.", "weights.", "param.", ""];

/// What makes numbers of a run's captions.
#[derive(Clone, Debug)]
pub enum Hearing {
    /// The tokenizer of an encoder that is trained with the model.
    Trained(Arc<Tokenizer>),
    /// A frozen encoder, whole: a checkpoint alone is enough to sample from.
    Frozen(Arc<Bert>),
}

impl Hearing {
    /// As an encoder of captions takes it.
    pub fn source(&self) -> Source {
        match self {
            Hearing::Trained(tokenizer) => Source::Tokens(tokenizer.clone()),
            Hearing::Frozen(bert) => Source::Frozen(bert.clone()),
        }
    }
}

impl PartialEq for Hearing {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Hearing::Trained(one), Hearing::Trained(other)) => one == other,
            (Hearing::Frozen(one), Hearing::Frozen(other)) => {
                one.description() == other.description() && one.parts().1 == other.parts().1
            }
            _ => false,
        }
    }
}

/// The state of a run after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Steps done.
    pub step: u64,
    /// The run's configuration.
    pub config: Config,
    /// What makes numbers of captions; none in a run that hears none.
    pub hearing: Option<Hearing>,
    /// Fingerprint of the data set.
    pub fingerprint: String,
    /// The data set's mean of each row, `[channels, rows]`.
    pub mean: Vec<f32>,
    /// The data set's deviation of each row, `[channels, rows]`.
    pub deviation: Vec<f32>,
    /// The data set's smallest and largest value of each row, `[channels, rows]`; empty where they are not known.
    pub range: Vec<[f32; 2]>,
    /// Lowest validation loss so far.
    pub best_loss: Option<f64>,
    /// Parameters, flat as in the layout.
    pub weights: Vec<f32>,
    /// EMA of the parameters, flat.
    pub ema: Vec<f32>,
    /// Adam's first moments, flat.
    pub first: Vec<f32>,
    /// Adam's second moments, flat.
    pub second: Vec<f32>,
}

impl Checkpoint {
    /// What turns the model's images into those of the data.
    pub fn normalizer(&self) -> Normalizer {
        Normalizer { mean: self.mean.clone(), deviation: self.deviation.clone(), range: self.range.clone() }
    }

    /// Writes the file, atomically. The tensors are streamed; equal states give equal bytes.
    ///
    /// # Errors
    /// [`Error::Shape`] when a buffer is not of this layout; [`Error::Io`].
    pub fn save(&self, path: &Path, layout: &Layout) -> Result<()> {
        let statistics_shape = statistics_shape(&self.config);
        let range_shape = [statistics_shape[0], statistics_shape[1], 2];
        let mut tensors = Vec::with_capacity(4 * layout.spans().len() + 3);
        for (prefix, flat) in PREFIXES.into_iter().zip(self.parts()) {
            if flat.len() != layout.len() {
                let (expected, got) = (layout.len().to_string(), flat.len().to_string());
                return Err(Error::shape("checkpoint", format!("{expected} values in {prefix}"), got));
            }
            tensors.extend(layout.spans().iter().map(|span| Named {
                name: format!("{prefix}{}", span.name),
                shape: &span.shape,
                values: &flat[span.range.clone()],
            }));
        }
        for (name, values) in [("data.mean", &self.mean), ("data.deviation", &self.deviation)] {
            if values.len() != statistics_shape.iter().product::<usize>() {
                return Err(Error::shape(
                    "checkpoint",
                    format!("{statistics_shape:?} values in {name}"),
                    values.len().to_string(),
                ));
            }
            tensors.push(Named { name: name.to_string(), shape: &statistics_shape, values });
        }
        if self.range.len() == self.mean.len() {
            let values = self.range.as_flattened();
            tensors.push(Named { name: RANGE.to_string(), shape: &range_shape, values });
        }
        if let Some(Hearing::Frozen(bert)) = &self.hearing {
            let (layout, flat) = bert.parts();
            tensors.extend(layout.spans().iter().map(|span| Named {
                name: format!("{FROZEN_PREFIX}{}", span.name),
                shape: &span.shape,
                values: &flat[span.range.clone()],
            }));
        }
        tensors::write(path, &self.facts(), &tensors)
    }

    /// Reads a file that [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] with what is wrong: another kind of file, cut off, damaged, a newer version, a tensor
    /// that is missing or has another shape than the stored configuration says.
    pub fn load(path: &Path) -> Result<Checkpoint> {
        let mut file = TensorFile::open(path)?;
        let mut checkpoint = Self::without_state(&file)?;
        let layout = layout_of(&checkpoint.config, &file)?;
        file.verify()?;
        let Checkpoint { weights, ema, first, second, .. } = &mut checkpoint;
        for (prefix, flat) in PREFIXES.into_iter().zip([weights, ema, first, second]) {
            *flat = read_flat(&mut file, prefix, &layout)?;
        }
        let shape = statistics_shape(&checkpoint.config);
        for (name, values) in
            [("data.mean", &mut checkpoint.mean), ("data.deviation", &mut checkpoint.deviation)]
        {
            let len = file.shape(name).unwrap_or_default().iter().product::<usize>();
            values.resize(len, 0.0);
            file.read(name, &shape, values)?;
        }
        // Checkpoints of data that was prepared before its range was kept lack it.
        if file.shape(RANGE).is_some() {
            checkpoint.range = vec![[0.0; 2]; shape.iter().product()];
            file.read(RANGE, &[shape[0], shape[1], 2], checkpoint.range.as_flattened_mut())?;
        }
        if checkpoint.config.text.features > 0 {
            checkpoint.hearing = Some(Hearing::Frozen(frozen(&mut file)?.into()));
        }
        Ok(checkpoint)
    }

    /// What the metadata say; no tensor is read.
    pub(crate) fn without_state(file: &TensorFile) -> Result<Checkpoint> {
        let refused = |reason: String| Error::format(file.path(), reason);
        if file.fact("format") != Some(FORMAT) {
            return Err(refused(
                "holds tensors but is no checkpoint of dit-engine: there is no configuration in it"
                    .to_string(),
            ));
        }
        let version: u32 = number(file, "version")?;
        if version > FORMAT_VERSION {
            let by = file.fact("program").unwrap_or("a newer program");
            return Err(refused(format!(
                "is format {version}, written by {by}; this program reads up to {FORMAT_VERSION}: update dit-engine"
            )));
        }
        let config = Config::from_toml(fact(file, "config")?)
            .and_then(|config| config.check().map(|()| config))
            .map_err(|error| refused(format!("its configuration: {error}")))?;
        let best_loss = file.fact("best_loss").map(|_| number(file, "best_loss")).transpose()?;
        let step = number(file, "step")?;
        let fingerprint = fact(file, "fingerprint")?.to_string();
        let none = Vec::new;
        let (mean, deviation, weights, ema, first, second) = (none(), none(), none(), none(), none(), none());
        // A frozen encoder is read with the other tensors.
        let tokenizer = file.fact("tokenizer").filter(|_| config.text.features == 0);
        let tokenizer = tokenizer.map(|json| Tokenizer::from_json(json, file.path())).transpose()?;
        Ok(Checkpoint {
            step,
            config,
            hearing: tokenizer.map(|tokenizer| Hearing::Trained(tokenizer.into())),
            fingerprint,
            mean,
            deviation,
            range: Vec::new(),
            best_loss,
            weights,
            ema,
            first,
            second,
        })
    }

    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from(
            [
                ("format", FORMAT.to_string()),
                ("version", FORMAT_VERSION.to_string()),
                ("program", format!("dit-engine {}", env!("CARGO_PKG_VERSION"))),
                ("step", self.step.to_string()),
                ("seed", self.config.train.seed.to_string()),
                ("config", self.config.to_toml()),
                ("fingerprint", self.fingerprint.clone()),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        match &self.hearing {
            None => {}
            Some(Hearing::Trained(tokenizer)) => {
                facts.insert("tokenizer".to_string(), tokenizer.to_json());
            }
            Some(Hearing::Frozen(bert)) => {
                let [config, tokenizer] = bert.description();
                facts.extend([("text_encoder".to_string(), config), ("tokenizer".to_string(), tokenizer)]);
            }
        }
        if let Some(loss) = self.best_loss {
            // The shortest digits that read back as the same number.
            facts.insert("best_loss".to_string(), format!("{loss:?}"));
        }
        facts
    }

    fn parts(&self) -> [&Vec<f32>; 4] {
        [&self.weights, &self.ema, &self.first, &self.second]
    }
}

/// Reads weights alone, for sampling: a checkpoint's EMA, or tensors named as the parameters are, with or without
/// `param.` in front, as PyTorch's `save_file(model.state_dict(), ...)` writes them; f32, f16 or bf16.
///
/// # Errors
/// [`Error::Format`] when a parameter is missing or has another shape, or when the file is damaged; [`Error::Io`].
pub fn load_weights(path: &Path, layout: &Layout) -> Result<Vec<f32>> {
    let mut file = TensorFile::open(path)?;
    let first = layout.spans().first().map(|span| span.name.as_str()).unwrap_or_default();
    let prefix = WEIGHT_PREFIXES
        .into_iter()
        .find(|prefix| file.shape(&format!("{prefix}{first}")).is_some())
        .ok_or_else(|| {
            Error::format(path, format!("holds no weights of this model: there is no `{first}`"))
        })?;
    file.verify()?;
    read_flat(&mut file, prefix, layout)
}

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// [`Error::Io`].
pub fn sha256(path: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut bytes = vec![0; HASH_CHUNK_BYTES];
    loop {
        match file.read(&mut bytes).map_err(Error::io("read", path))? {
            0 => break,
            count => digest.update(&bytes[..count]),
        }
    }
    Ok(hexadecimal(digest))
}

/// The first digits of [`sha256`]: enough to tell checkpoints apart in a recipe.
///
/// # Errors
/// [`Error::Io`].
pub fn short_hash(path: &Path) -> Result<String> {
    sha256(path).map(shortened)
}

/// Hash of parameters alone, in whatever file they are: the first digits of the SHA-256 of their values
/// (little-endian f32), one parameter after the other as in the layout.
#[derive(Clone, Default)]
pub struct WeightsHash(Sha256);

impl WeightsHash {
    /// Of flat parameters.
    pub fn of(flat: &[f32], layout: &Layout) -> String {
        let mut hash = WeightsHash::default();
        layout.spans().iter().for_each(|span| hash.update(&flat[span.range.clone()]));
        hash.finish()
    }

    /// Adds the next parameter.
    pub fn update(&mut self, values: &[f32]) {
        let mut bytes = Vec::with_capacity(HASH_CHUNK_BYTES);
        for part in values.chunks(HASH_CHUNK_BYTES / size_of::<f32>()) {
            bytes.clear();
            bytes.extend(part.iter().flat_map(|value| value.to_le_bytes()));
            self.0.update(&bytes);
        }
    }

    /// The hash, in hexadecimal.
    pub fn finish(self) -> String {
        shortened(hexadecimal(self.0))
    }
}

fn hexadecimal(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shortened(mut hash: String) -> String {
    hash.truncate(SHORT_HASH_DIGITS);
    hash
}

/// The layout of the stored model, once it is known that a file of this size can hold it.
pub(crate) fn layout_of(config: &Config, file: &TensorFile) -> Result<Layout> {
    let refused = |error: Error| Error::format(file.path(), format!("its configuration: {error}"));
    cost::check_describable(config, file.data_bytes()).map_err(refused)?;
    Ok(Dit::new(&config.model, &config.text).map_err(refused)?.layout().clone())
}

/// Fails unless there is a tensor of the right shape for every parameter.
pub(crate) fn check_tensors(file: &TensorFile, prefix: &str, layout: &Layout) -> Result<()> {
    for span in layout.spans() {
        let name = format!("{prefix}{}", span.name);
        let reason = match file.shape(&name) {
            None => format!("holds no tensor `{name}`"),
            Some(shape) if shape != span.shape => {
                format!("`{name}` has shape {shape:?}; this model needs {:?}", span.shape)
            }
            Some(_) => continue,
        };
        return Err(Error::format(file.path(), reason));
    }
    Ok(())
}

/// All parameters with a prefix before their names, flat. Every tensor is checked before memory is taken.
fn read_flat(file: &mut TensorFile, prefix: &str, layout: &Layout) -> Result<Vec<f32>> {
    check_tensors(file, prefix, layout)?;
    let mut flat = vec![0.0; layout.len()];
    for span in layout.spans() {
        file.read(&format!("{prefix}{}", span.name), &span.shape, &mut flat[span.range.clone()])?;
    }
    Ok(flat)
}

/// The frozen text encoder of a checkpoint.
fn frozen(file: &mut TensorFile) -> Result<Bert> {
    let [config, tokenizer] = ["text_encoder", "tokenizer"].map(|key| fact(file, key).map(str::to_string));
    let (config, tokenizer) = (config?, tokenizer?);
    let layout = Bert::layout_of(&config, &tokenizer, file.path())?;
    let weights = read_flat(file, FROZEN_PREFIX, &layout)?;
    Bert::from_parts(&config, &tokenizer, weights, file.path())
}

/// The tensor of [`Checkpoint::range`].
const RANGE: &str = "data.range";

fn statistics_shape(config: &Config) -> [usize; 2] {
    [config.model.channels, config.model.image[0]]
}

fn fact<'a>(file: &'a TensorFile, key: &str) -> Result<&'a str> {
    file.fact(key).ok_or_else(|| Error::format(file.path(), format!("its metadata lack `{key}`")))
}

fn number<T: std::str::FromStr>(file: &TensorFile, key: &str) -> Result<T> {
    let text = fact(file, key)?;
    text.parse()
        .map_err(|_| Error::format(file.path(), format!("`{key}` in its metadata is {text:?}, not a number")))
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
