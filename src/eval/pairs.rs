//! Prompts that differ in one attribute and nothing else, and how often the sound differs the right way round.
//!
//! For data whose captions are lists of tags (the demo corpus has one such caption a song), the pairs are made of held-out
//! captions: `techno, slow, bright, no drums, ...` becomes one with `slow` and one with `fast`. Other pairs are the user's.
//! What the measure itself can tell apart is found out on real clips, whose captions say the one or the other.

use serde::Serialize;

use super::attributes::{Attribute, Attributes};
use super::words::{likeness, says};
use crate::dataset::manifest::TrackRecord;
use crate::dataset::{Dataset, Split};

/// Words for the two ends of an attribute, and what else stands in their place.
struct Vocabulary {
    attribute: Attribute,
    low: &'static str,
    high: &'static str,
    neutral: &'static [&'static str],
}

/// As `dataset::demo` writes its captions.
const VOCABULARY: [Vocabulary; 3] = [
    Vocabulary { attribute: Attribute::Tempo, low: "slow", high: "fast", neutral: &["medium tempo"] },
    Vocabulary { attribute: Attribute::Brightness, low: "dark", high: "bright", neutral: &[] },
    Vocabulary { attribute: Attribute::Drums, low: "no drums", high: "with drums", neutral: &[] },
];

/// Prompts in pairs.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptPairs {
    /// What they differ in.
    pub attribute: Attribute,
    /// `[low, high]`, used in turn.
    pub prompts: Vec<[String; 2]>,
    /// The words that differ: by these real clips are told apart.
    pub words: [String; 2],
}

/// How often the sound went the way of the words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairResult {
    /// What the prompts differ in.
    pub attribute: Attribute,
    /// The words that differ.
    pub words: [String; 2],
    /// An example of the prompts.
    pub example: [String; 2],
    /// Samples.
    pub samples: Ordered,
    /// Real clips of the same genre whose captions are otherwise as alike as there are.
    pub real_alike: Option<Ordered>,
    /// Any two held-out clips.
    pub real_any: Option<Ordered>,
}

/// Pairs and their order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ordered {
    /// Pairs.
    pub pairs: usize,
    /// Part of them with the higher measure where the higher word is; equal ones count half.
    pub right: f64,
    /// Mean measure of the low ones, and of the high ones.
    pub means: [f64; 2],
}

impl Ordered {
    /// Of measures `[low, high]`; `None` without any.
    pub fn of(pairs: &[[f64; 2]]) -> Option<Ordered> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let won = |&[low, high]: &[f64; 2]| match high.partial_cmp(&low) {
            Some(std::cmp::Ordering::Greater) => 1.0,
            Some(std::cmp::Ordering::Equal) => 0.5,
            _ => 0.0,
        };
        let mean = |side: usize| pairs.iter().map(|pair| pair[side]).sum::<f64>() / n;
        Some(Ordered {
            pairs: pairs.len(),
            right: pairs.iter().map(won).sum::<f64>() / n,
            means: [mean(0), mean(1)],
        })
    }

    /// Standard error of `right` if the pairs are independent.
    pub fn error(&self) -> f64 {
        (self.right * (1.0 - self.right) / self.pairs as f64).sqrt()
    }
}

/// A real clip that was measured.
#[derive(Clone, Copy, Debug)]
pub struct RealClip {
    /// Its place in [`Dataset::tracks`].
    pub track: usize,
    /// What was measured.
    pub attributes: Attributes,
}

/// The pairs that held-out captions give: one entry for each attribute that they name as a tag.
pub fn from_captions(dataset: &Dataset) -> Vec<PromptPairs> {
    let held_out = dataset.tracks().iter().filter(|track| track.split == Split::Validation);
    let captions: Vec<&str> = held_out.flat_map(|track| &track.captions).map(String::as_str).collect();
    VOCABULARY.iter().filter_map(|vocabulary| vocabulary.pairs(&captions)).collect()
}

impl Vocabulary {
    fn pairs(&self, captions: &[&str]) -> Option<PromptPairs> {
        let prompts: Vec<[String; 2]> =
            captions.iter().filter_map(|caption| self.replaced(caption)).collect();
        let words = [self.low, self.high].map(str::to_string);
        (!prompts.is_empty()).then_some(PromptPairs { attribute: self.attribute, prompts, words })
    }

    /// The caption with each end in the place of the attribute's tag; `None` without that.
    fn replaced(&self, caption: &str) -> Option<[String; 2]> {
        let tags: Vec<&str> = caption.split(", ").collect();
        let is_ours = |tag: &str| tag == self.low || tag == self.high || self.neutral.contains(&tag);
        // A sentence may end in a tag too; a list has several, and no full stop.
        let place = tags.iter().position(|tag| is_ours(tag)).filter(|_| is_list(&tags))?;
        Some([self.low, self.high].map(|word| {
            let mut tags = tags.clone();
            tags[place] = word;
            tags.join(", ")
        }))
    }
}

/// Tags, none of them longer than a few words.
fn is_list(tags: &[&str]) -> bool {
    tags.len() >= 3 && tags.iter().all(|tag| tag.split(' ').count() <= 3 && !tag.ends_with('.'))
}

impl PromptPairs {
    /// The user's own; the words that differ are what is left without the tags that both have.
    pub fn given(attribute: Attribute, low: &str, high: &str) -> PromptPairs {
        let tags = |text: &str| text.split(',').map(|tag| tag.trim().to_string()).collect::<Vec<_>>();
        let own = |a: &str, b: &str| {
            let others = tags(b);
            let own: Vec<String> = tags(a).into_iter().filter(|tag| !others.contains(tag)).collect();
            if own.is_empty() { a.to_string() } else { own.join(" ") }
        };
        let words = [own(low, high), own(high, low)];
        PromptPairs { attribute, prompts: vec![[low.to_string(), high.to_string()]], words }
    }

    /// The prompts of pair `index`.
    pub fn prompt(&self, index: usize) -> &[String; 2] {
        &self.prompts[index % self.prompts.len()]
    }

    /// Measures of every low clip beside every high clip of `clips`.
    pub fn any_real(&self, dataset: &Dataset, clips: &[RealClip]) -> Option<Ordered> {
        let [low, high] = self.sides(dataset.tracks(), clips);
        let pairs = low.iter().flat_map(|low| high.iter().map(move |high| [low, high]));
        Ordered::of(
            &pairs.map(|pair| pair.map(|clip| clip.attributes.get(self.attribute))).collect::<Vec<_>>(),
        )
    }

    /// Measures of every low clip beside the clips of the high track that is otherwise most like its own.
    pub fn alike_real(&self, dataset: &Dataset, clips: &[RealClip]) -> Option<Ordered> {
        let tracks = dataset.tracks();
        let [low, high] = self.sides(tracks, clips);
        let mut pairs = Vec::new();
        for low in &low {
            let like = |high: &&RealClip| self.likeness(&tracks[low.track], &tracks[high.track]);
            let Some(best) = high.iter().map(like).max_by(f64::total_cmp) else { break };
            let nearest = high.iter().filter(|high| like(high) == best);
            pairs.extend(nearest.map(|high| [low, high].map(|clip| clip.attributes.get(self.attribute))));
        }
        Ordered::of(&pairs)
    }

    /// The clips whose tracks are said to be low, and those that are said to be high.
    fn sides<'a>(&self, tracks: &[TrackRecord], clips: &'a [RealClip]) -> [Vec<&'a RealClip>; 2] {
        let said =
            |track: &TrackRecord, words: &str| track.captions.iter().any(|caption| says(caption, words));
        let side = |own: &str, other: &str| {
            let is_one =
                |clip: &&RealClip| said(&tracks[clip.track], own) && !said(&tracks[clip.track], other);
            clips.iter().filter(is_one).collect()
        };
        let [low, high] = &self.words;
        [side(low, high), side(high, low)]
    }

    /// How alike two tracks are by genre first, then by their captions' words.
    fn likeness(&self, low: &TrackRecord, high: &TrackRecord) -> f64 {
        let same_genre = low.genre.is_some() && low.genre == high.genre;
        let all = |track: &TrackRecord| track.captions.join(" ");
        f64::from(u8::from(same_genre)) + likeness(&all(low), &all(high)).min(0.999)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::demo::{DemoOptions, compose};

    #[test]
    fn the_demo_corpus_says_the_words_that_pairs_are_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let options = DemoOptions { songs: 8, seconds: 2.0, sample_rate: 8000, ..DemoOptions::default() };
        compose(folder.path(), &options, &mut |_, _| {}).unwrap();
        let mut table = csv::Reader::from_path(folder.path().join("metadata.csv")).unwrap();
        let captions: Vec<String> = table.records().map(|row| row.unwrap()[1].to_string()).collect();
        let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
        for vocabulary in &VOCABULARY {
            let pairs = vocabulary.pairs(&captions).unwrap();
            assert_eq!(pairs.prompts.len(), 8, "one list of tags a song: {:?}", pairs.prompts);
            for [low, high] in &pairs.prompts {
                assert!(
                    low != high
                        && captions.iter().any(|caption| caption == low
                            || caption == high
                            || caption.contains("medium tempo")),
                    "{low}"
                );
                assert!(says(low, vocabulary.low) && says(high, vocabulary.high));
            }
        }
    }

    #[test]
    fn prompts_that_a_user_gives_differ_in_what_only_one_says() {
        let pairs = PromptPairs::given(Attribute::Tempo, "slow, piano", "fast, piano");
        assert_eq!(pairs.words, ["slow", "fast"]);
        let pairs = PromptPairs::given(Attribute::Drums, "a piano", "a piano with drums");
        assert_eq!(pairs.words, ["a piano", "a piano with drums"]);
    }

    #[test]
    fn pairs_are_counted() {
        let ordered = Ordered::of(&[[1.0, 2.0], [2.0, 2.0], [3.0, 2.0], [0.0, 4.0]]).unwrap();
        assert_eq!((ordered.right, ordered.means), (0.625, [1.5, 2.5]));
        assert_eq!(Ordered::of(&[]), None);
    }
}
