//! Captions into numbers: the tokenizer, and a batch of captions as the model takes it. No tensors.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::{Lowercase, NFKC, Sequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper};

use crate::error::{Error, Result};

/// The token that stands for a caption that is not there, or was dropped: a caption of its own, which the model learns.
pub const NULL: u32 = 0;
/// Its name.
const NULL_NAME: &str = "[null]";
/// Tokens of the tokenizer that `prepare` makes, at most.
pub const DATASET_VOCABULARY: usize = 2048;
/// Every byte, and the token for no caption: no text is without tokens.
pub const SMALLEST_VOCABULARY: usize = 257;

/// Byte-pair encoding (Sennrich et al. 2016) over bytes: any text has tokens. Upper and lower case are the same.
#[derive(Clone, Debug)]
pub struct Tokenizer(tokenizers::Tokenizer);

impl Tokenizer {
    /// A tokenizer for these captions, of at most `vocabulary` tokens. The same captions in any order give the same one.
    ///
    /// # Errors
    /// [`Error::Config`] for a vocabulary below [`SMALLEST_VOCABULARY`].
    pub fn train<'a>(captions: impl IntoIterator<Item = &'a str>, vocabulary: usize) -> Result<Tokenizer> {
        if vocabulary < SMALLEST_VOCABULARY {
            let problem = format!("is {vocabulary}; it must be at least {SMALLEST_VOCABULARY}");
            return Err(Error::config("text.vocabulary", problem));
        }
        let mut captions: Vec<&str> = captions.into_iter().collect();
        captions.sort_unstable();
        let mut tokenizer = tokenizers::Tokenizer::new(BPE::default());
        let normalizers = [NormalizerWrapper::NFKC(NFKC), NormalizerWrapper::Lowercase(Lowercase)];
        tokenizer.with_normalizer(Some(Sequence::new(normalizers.to_vec()))).map_err(refused)?;
        // A space in front, so that a word is the same token wherever it stands.
        tokenizer.with_pre_tokenizer(Some(ByteLevel::new(true, true, true)));
        tokenizer.with_decoder(Some(ByteLevel::default()));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocabulary)
            .special_tokens(vec![AddedToken::from(NULL_NAME, true)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .show_progress(false)
            .build();
        tokenizer.train(&mut TrainerWrapper::from(trainer), captions.into_iter()).map_err(refused)?;
        Tokenizer(tokenizer).checked()
    }

    /// Reads what [`Self::to_json`] wrote; `path` is the file that it came from.
    ///
    /// # Errors
    /// [`Error::Format`].
    pub fn from_json(json: &str, path: &Path) -> Result<Tokenizer> {
        let bad = |reason: String| Error::format(path, format!("its tokenizer: {reason}"));
        let tokenizer = json.parse::<tokenizers::Tokenizer>().map_err(|error| bad(error.to_string()))?;
        Tokenizer(tokenizer).checked().map_err(|error| bad(error.to_string()))
    }

    /// As Hugging Face's `tokenizer.json`.
    pub fn to_json(&self) -> String {
        self.0.to_string(false).expect("a tokenizer is plain numbers and strings")
    }

    /// Tokens that there are.
    pub fn vocabulary(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// The tokens of a caption, at most `most`; of an empty one [`NULL`].
    ///
    /// # Errors
    /// [`Error::Config`] for a text that cannot be encoded.
    pub fn encode(&self, caption: &str, most: usize) -> Result<Vec<u32>> {
        let caption = caption.trim();
        if caption.is_empty() {
            return Ok(vec![NULL]);
        }
        let encoding = self.0.encode_fast(caption, false).map_err(refused)?;
        let mut tokens = encoding.get_ids().to_vec();
        // Nobody asks for the caption that is not there by its name.
        tokens.retain(|&token| token != NULL);
        tokens.truncate(most);
        Ok(if tokens.is_empty() { vec![NULL] } else { tokens })
    }

    fn checked(self) -> Result<Tokenizer> {
        match self.0.token_to_id(NULL_NAME) {
            Some(NULL) => Ok(self),
            found => Err(refused(format!("{NULL_NAME} is number {found:?}, not {NULL}"))),
        }
    }
}

impl PartialEq for Tokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::config("text", format!("the tokenizer cannot do this: {error}"))
}

/// Captions of a batch, as the model takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Captions {
    /// Places for tokens, the same for each caption.
    pub tokens: usize,
    /// How many of them each caption fills, 1 at least; `[batch]`.
    pub lengths: Vec<f32>,
    /// `[batch, tokens]`, padded with [`NULL`].
    pub ids: Vec<u32>,
    /// Vectors of a frozen encoder in place of `ids`, `[batch, tokens, features]`, padded with 0; empty without one.
    pub features: Vec<f32>,
}

impl Captions {
    /// No caption, `batch` times.
    pub fn none(batch: usize, tokens: usize) -> Captions {
        Captions { tokens, lengths: vec![1.0; batch], ids: vec![NULL; batch * tokens], features: Vec::new() }
    }

    /// Pads encoded captions to `tokens` places each.
    pub fn padded<'a>(encoded: impl IntoIterator<Item = &'a [u32]>, tokens: usize) -> Captions {
        let mut captions = Captions::none(0, tokens);
        for caption in encoded {
            let caption = &caption[..caption.len().min(tokens)];
            captions.lengths.push(caption.len() as f32);
            captions.ids.extend(caption.iter().copied().chain(std::iter::repeat(NULL)).take(tokens));
        }
        captions
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// These, and then the others.
    pub fn and(mut self, others: &Captions) -> Captions {
        self.lengths.extend_from_slice(&others.lengths);
        self.ids.extend_from_slice(&others.ids);
        self.features.extend_from_slice(&others.features);
        self
    }
}

/// A frozen encoder: a text becomes vectors, one a token.
pub trait Vectors: Send + Sync + std::fmt::Debug {
    /// Features of a vector.
    fn features(&self) -> usize;

    /// The vectors of each caption, at most `most`, one at least, side by side.
    ///
    /// # Errors
    /// What the encoder cannot do.
    fn vectors(&self, captions: &[&str], most: usize) -> Result<Vec<Vec<f32>>>;
}

/// What makes numbers of captions.
#[derive(Clone, Debug)]
pub enum Source {
    /// Tokens, for an encoder that is trained with the model.
    Tokens(Arc<Tokenizer>),
    /// Vectors of a frozen encoder.
    Frozen(Arc<dyn Vectors>),
}

/// Encodes captions, each of them once.
#[derive(Clone, Debug)]
pub struct Encoder {
    source: Source,
    tokens: usize,
    /// Tokens, or vectors.
    known: HashMap<String, (Vec<u32>, Vec<f32>)>,
}

impl Encoder {
    /// For captions of at most `tokens` tokens.
    pub fn new(source: Source, tokens: usize) -> Encoder {
        Encoder { source, tokens, known: HashMap::new() }
    }

    /// A batch of captions; empty ones are none.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], [`Vectors::vectors`].
    pub fn batch<S: AsRef<str>>(&mut self, captions: &[S]) -> Result<Captions> {
        let captions: Vec<&str> = captions.iter().map(AsRef::as_ref).collect();
        let mut new: Vec<&str> = captions.clone();
        new.retain(|caption| !self.known.contains_key(*caption));
        new.sort_unstable();
        new.dedup();
        self.learn(&new)?;
        let known = captions.iter().map(|caption| &self.known[*caption]);
        match &self.source {
            Source::Tokens(_) => Ok(Captions::padded(known.map(|(ids, _)| &ids[..]), self.tokens)),
            Source::Frozen(frozen) => {
                let features = frozen.features();
                let mut batch = Captions::none(captions.len(), self.tokens);
                batch.lengths = known.clone().map(|(_, vectors)| (vectors.len() / features) as f32).collect();
                for (_, vectors) in known {
                    batch.features.extend_from_slice(vectors);
                    batch.features.resize(batch.features.len() + self.tokens * features - vectors.len(), 0.0);
                }
                Ok(batch)
            }
        }
    }

    fn learn(&mut self, captions: &[&str]) -> Result<()> {
        match &self.source {
            Source::Tokens(tokenizer) => {
                for caption in captions {
                    let ids = tokenizer.encode(caption, self.tokens)?;
                    self.known.insert(caption.to_string(), (ids, Vec::new()));
                }
            }
            Source::Frozen(frozen) => {
                let vectors = frozen.vectors(captions, self.tokens)?;
                let entries = captions.iter().zip(vectors);
                self.known
                    .extend(entries.map(|(caption, vectors)| (caption.to_string(), (Vec::new(), vectors))));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTIONS: [&str; 4] = [
        "a slow melancholic piano",
        "slow strings, no drums",
        "fast bright drums",
        "a bright piano and strings",
    ];

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(CAPTIONS, 300).unwrap()
    }

    #[test]
    fn words_of_the_captions_become_tokens_and_any_text_has_some() {
        let tokenizer = tokenizer();
        assert!(tokenizer.vocabulary() > SMALLEST_VOCABULARY && tokenizer.vocabulary() <= 300);
        let piano = tokenizer.encode("piano", 8).unwrap();
        assert_eq!(piano.len(), 1, "a word that was seen often enough is one token");
        assert_eq!(tokenizer.encode("  PIANO ", 8).unwrap(), piano);
        assert!(tokenizer.encode("a slow piano", 8).unwrap().ends_with(&piano));
        for strange in ["\u{266b} \u{5b57}", "\u{0}", "[null]", "x"] {
            assert!(!tokenizer.encode(strange, 8).unwrap().is_empty());
        }
    }

    #[test]
    fn no_caption_is_the_null_token_and_nothing_else_is() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.encode(" ", 8).unwrap(), [NULL]);
        assert!(!tokenizer.encode("[null] piano", 8).unwrap().contains(&NULL));
    }

    #[test]
    fn the_same_captions_in_any_order_give_the_same_tokenizer() {
        let reversed = Tokenizer::train(CAPTIONS.into_iter().rev(), 300).unwrap();
        assert_eq!(reversed.to_json(), tokenizer().to_json());
    }

    #[test]
    fn it_reads_back_equal_and_damage_is_named() {
        let tokenizer = tokenizer();
        let read = Tokenizer::from_json(&tokenizer.to_json(), Path::new("t.json")).unwrap();
        for caption in CAPTIONS {
            assert_eq!(read.encode(caption, 8).unwrap(), tokenizer.encode(caption, 8).unwrap());
        }
        for bad in ["", "{}", &tokenizer.to_json().replace("[null]", "[nil]")] {
            let error = Tokenizer::from_json(bad, Path::new("t.json")).unwrap_err().to_string();
            assert!(error.starts_with("t.json: its tokenizer: "), "{error}");
        }
    }

    #[test]
    fn batches_are_padded_and_cut() {
        let mut encoder = Encoder::new(Source::Tokens(tokenizer().into()), 3);
        let batch = encoder.batch(&["piano", "", "fast bright drums and a slow piano"]).unwrap();
        assert_eq!(batch.lengths, [1.0, 1.0, 3.0]);
        assert_eq!((batch.ids.len(), batch.len()), (9, 3));
        assert_eq!(batch.ids[1..6], [NULL; 5]);
        assert_eq!(Captions::none(1, 3).and(&batch).ids[3..], batch.ids);
    }
}
