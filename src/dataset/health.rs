//! A data set's state as the doctor tells it, for people and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::checks::{all_checks, artist_of, counted};
use super::fingerprint::Fingerprint;
use super::split::Split;

/// Items shown of a finding; all are in the JSON.
const SHOWN: usize = 10;

/// What was learned about one track.
#[derive(Clone, Debug, Default)]
pub struct Patient {
    /// As a person would name it.
    pub name: String,
    /// SHA-256 of the recording.
    pub content: String,
    /// Sound in seconds.
    pub seconds: f64,
    /// Root mean square; `None` where only a representation is there.
    pub rms: Option<f64>,
    /// Part of the samples that are clipped.
    pub clipped: f64,
    /// Part of the time that is silent.
    pub silent: f64,
    /// For recordings that are the same music.
    pub fingerprint: Option<Fingerprint>,
    /// Captions.
    pub captions: Vec<String>,
    /// Artist.
    pub artist: Option<String>,
    /// Genre.
    pub genre: Option<String>,
    /// Licence.
    pub licence: Option<String>,
    /// Its side, if that is decided.
    pub split: Option<Split>,
    /// What the decoder had to say.
    pub warnings: Vec<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing was found.
    Ok,
    /// Worth knowing.
    Note,
    /// `prepare` leaves it out, or it spoils training.
    Problem,
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One line.
    pub message: String,
    /// What it is about, one line each.
    pub items: Vec<String>,
}

/// A data set's state.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// Sources or prepared folder.
    pub what: Vec<String>,
    /// Tracks that could be read.
    pub tracks: usize,
    /// Their sound.
    pub seconds: f64,
    /// Captions.
    pub captions: usize,
    /// Artists.
    pub artists: usize,
    /// Tracks of each genre.
    pub genres: BTreeMap<String, usize>,
    /// Tracks under each licence; "" where none is known.
    pub licences: BTreeMap<String, usize>,
    /// Findings, one a check, in a fixed order.
    pub findings: Vec<Finding>,
}

impl Health {
    /// Judges tracks. `unreadable` is what could not be used at all, `remarks` what is odd about tables, `segment_seconds`
    /// the length of a segment.
    pub fn of(
        what: Vec<String>,
        patients: &[Patient],
        unreadable: Vec<String>,
        remarks: Vec<String>,
        segment_seconds: f64,
    ) -> Self {
        Self {
            what,
            tracks: patients.len(),
            seconds: (patients.iter().map(|patient| patient.seconds).sum::<f64>() * 1000.0).round() / 1000.0,
            captions: patients.iter().map(|patient| patient.captions.len()).sum(),
            artists: patients.iter().filter_map(artist_of).collect::<BTreeSet<_>>().len(),
            genres: counted(patients.iter().filter_map(|patient| patient.genre.clone())),
            licences: counted(patients.iter().map(|patient| patient.licence.clone().unwrap_or_default())),
            findings: all_checks(patients, unreadable, remarks, segment_seconds),
        }
    }

    /// Checks that found a problem.
    pub fn problems(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Problem).count()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, artists) = (self.seconds / 60.0, self.artists);
        writeln!(
            f,
            "{} tracks, {minutes:.1} minutes, {} captions, {artists} artists",
            self.tracks, self.captions
        )?;
        for (name, counts) in [("genres", &self.genres), ("licences", &self.licences)] {
            let mut sorted: Vec<(&String, &usize)> = counts.iter().collect();
            sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
            let shown = sorted
                .iter()
                .take(SHOWN)
                .map(|(word, count)| format!("{} {count}", if word.is_empty() { "unknown" } else { word }));
            let more = if sorted.len() > SHOWN {
                format!(", and {} more", sorted.len() - SHOWN)
            } else {
                String::new()
            };
            if !sorted.is_empty() {
                writeln!(f, "{name}: {}{more}", shown.collect::<Vec<_>>().join(", "))?;
            }
        }
        for Finding { check, severity, message, items } in &self.findings {
            let severity = format!("{severity:?}").to_lowercase();
            writeln!(f, "{}", format!("{check:<18} {severity:<8} {message}").trim_end())?;
            items.iter().take(SHOWN).try_for_each(|item| writeln!(f, "    {item}"))?;
            if items.len() > SHOWN {
                writeln!(f, "    and {} more", items.len() - SHOWN)?;
            }
        }
        match self.problems() {
            0 => write!(f, "no problems"),
            1 => write!(f, "1 check found a problem"),
            count => write!(f, "{count} checks found problems"),
        }
    }
}
