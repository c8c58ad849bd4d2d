//! What a run of `prepare` did, for people.

use std::fmt;

use super::manifest::Counts;
use super::table::Problem;
use crate::error::human_bytes;

/// Lines shown of a list that may be long; the rest is counted.
const SHOWN: usize = 20;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// The training side.
    pub train: Counts,
    /// The validation side.
    pub validation: Counts,
    /// Tracks encoded by this run.
    pub encoded: usize,
    /// Sound that this run encoded, in seconds.
    pub encoded_seconds: f64,
    /// Tracks whose shard an earlier run had written.
    pub reused: usize,
    /// Segments left out because they are near silence.
    pub silent_segments: usize,
    /// Tracks without a caption.
    pub without_caption: usize,
    /// Files that are copies of another, as `copy = original`.
    pub copies: Vec<String>,
    /// Tracks whose side a table decided.
    pub split_by_table: usize,
    /// Files and rows left out, with the reason.
    pub skipped: Vec<Problem>,
    /// Oddities of tables and decoders that cost nothing.
    pub warnings: Vec<String>,
    /// Other things to know, such as a forced choice of the split.
    pub notes: Vec<String>,
    /// Bytes of the shards in use.
    pub shard_bytes: u64,
    /// Fingerprint of the data set.
    pub fingerprint: String,
}

impl Summary {
    /// Tracks in the data set.
    pub fn tracks(&self) -> usize {
        self.train.tracks + self.validation.tracks
    }

    /// Segments in the data set.
    pub fn segments(&self) -> usize {
        self.train.segments + self.validation.segments
    }

    /// Sound in the data set, in seconds.
    pub fn seconds(&self) -> f64 {
        self.train.seconds + self.validation.seconds
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(f, "Warnings", &self.warnings, SHOWN)?;
        list(f, "Copies of the same recording, kept once", &self.copies, SHOWN)?;
        // What is lost is named to the last file.
        list(f, "Skipped", &self.skipped, usize::MAX)?;
        list(f, "Notes", &self.notes, SHOWN)?;
        writeln!(f, "{:<12}{:>8}{:>10}{:>10}{:>12}", "", "tracks", "captions", "segments", "minutes")?;
        let total = Counts {
            tracks: self.tracks(),
            captions: self.train.captions + self.validation.captions,
            segments: self.segments(),
            seconds: self.seconds(),
        };
        for (name, counts) in [("train", self.train), ("validation", self.validation), ("total", total)] {
            let Counts { tracks, captions, segments, seconds } = counts;
            writeln!(f, "{name:<12}{tracks:>8}{captions:>10}{segments:>10}{:>12.1}", seconds / 60.0)?;
        }
        write!(
            f,
            "{} encoded, {} reused, {} skipped, {} near-silent segments left out, {} in shards",
            self.encoded,
            self.reused,
            self.skipped.len(),
            self.silent_segments,
            human_bytes(self.shard_bytes)
        )
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, title: &str, items: &[T], shown: usize) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title} ({}):", items.len())?;
    for item in items.iter().take(shown) {
        writeln!(f, "  {item}")?;
    }
    if items.len() > shown {
        writeln!(f, "  and {} more", items.len() - shown)?;
    }
    Ok(())
}
