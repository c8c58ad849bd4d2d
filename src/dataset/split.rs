//! Which tracks are learned from and which are only measured on.
//!
//! A track's side is decided by a hash of its artist (of its content where no artist is known), so that it
//! never moves when tracks are added, and an artist's tracks are never on both sides.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// One side of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Learned from; the normalisation statistics come from here alone.
    Train,
    /// Held out.
    Validation,
}

/// What the decision needs to know about a track.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// SHA-256 of the file's content, in hexadecimal.
    pub content: &'a str,
    /// The artist, where known.
    pub artist: Option<&'a str>,
    /// What the table says, such as `train`, `validation`, `test`.
    pub suggested: Option<&'a str>,
}

/// The sides, in the order of `tracks`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Side of each track.
    pub splits: Vec<Split>,
    /// Tracks whose table decided.
    pub by_table: usize,
    /// What had to be done so that neither side is empty; a sentence for the summary.
    pub forced: Option<String>,
}

/// Decides every track's side: by the table's `split` column where it says something known (`validation`,
/// `valid`, `val`, `dev`, `eval` and `test` all mean validation), else by hash, a `fraction` of the artists
/// going to validation.
///
/// With two tracks or more neither side stays empty (unless `fraction` is 0 and no table says otherwise): the
/// artist (with one artist only: the track) with the smallest hash goes to validation, or the one with the
/// largest hash to training. Such a forced choice is the only one that can move when tracks are added.
///
/// # Errors
/// [`Error::Config`] when `fraction` is not in 0..1.
pub fn decide(tracks: &[Candidate<'_>], fraction: f64) -> Result<Decision> {
    check_fraction(fraction)?;
    let mut by_table = 0;
    let side = |track: &Candidate<'_>| {
        if let Some(split) = track.suggested.and_then(from_table) {
            by_table += 1;
            return split;
        }
        if position(&group_of(track)) < fraction { Split::Validation } else { Split::Train }
    };
    let mut splits: Vec<Split> = tracks.iter().map(side).collect();
    let forced = if tracks.len() < 2 {
        None
    } else if !splits.contains(&Split::Validation) && fraction > 0.0 {
        let moved = force(tracks, &mut splits, Split::Validation);
        Some(format!("no track was drawn for validation, so {moved} with the smallest hash went there"))
    } else if !splits.contains(&Split::Train) {
        let moved = force(tracks, &mut splits, Split::Train);
        Some(format!(
            "every track was drawn for validation, so {moved} with the largest hash went to training"
        ))
    } else {
        None
    };
    Ok(Decision { splits, by_table, forced })
}

/// # Errors
/// [`Error::Config`] when `fraction` is not in 0..1.
pub fn check_fraction(fraction: f64) -> Result<()> {
    if (0.0..1.0).contains(&fraction) {
        return Ok(());
    }
    Err(Error::config("--validation", format!("{fraction} is not in 0..1, such as 0.1")))
}

/// What a table's word means; `None` for an unknown word, which leaves the decision to the hash.
pub(super) fn from_table(word: &str) -> Option<Split> {
    match word.trim().to_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "validation" | "valid" | "val" | "dev" | "eval" | "test" | "testing" => Some(Split::Validation),
        _ => None,
    }
}

/// Moves the extreme group (or, if there is only one group, the extreme track) to `side`.
fn force(tracks: &[Candidate<'_>], splits: &mut [Split], side: Split) -> &'static str {
    let extreme = |keys: &[String]| {
        let chosen = match side {
            Split::Validation => {
                keys.iter().min_by(|a, b| position(a).total_cmp(&position(b)).then(a.cmp(b)))
            }
            Split::Train => keys.iter().max_by(|a, b| position(a).total_cmp(&position(b)).then(a.cmp(b))),
        };
        chosen.cloned()
    };
    let groups: Vec<String> = tracks.iter().map(group_of).collect();
    let one_group = groups.iter().all(|group| *group == groups[0]);
    let keys =
        if one_group { tracks.iter().map(|track| track.content.to_string()).collect() } else { groups };
    let chosen = extreme(&keys);
    for (key, split) in keys.iter().zip(splits) {
        if Some(key) == chosen.as_ref() {
            *split = side;
        }
    }
    if one_group { "the one track" } else { "the artist (or track without an artist)" }
}

/// What is kept together: the artist, else the content.
fn group_of(track: &Candidate<'_>) -> String {
    match track.artist.map(|artist| artist.trim().to_lowercase()).filter(|artist| !artist.is_empty()) {
        Some(artist) => format!("artist {artist}"),
        None => format!("content {}", track.content),
    }
}

/// Where a key falls in 0..1: the first 8 bytes of its SHA-256 as a fraction of 2^64.
fn position(key: &str) -> f64 {
    let digest = Sha256::digest(key.as_bytes());
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first) as f64 / 2_f64.powi(64)
}
