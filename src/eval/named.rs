//! Attributes that a prompt names with a value, a tempo in bpm or a key, beside what is measured in its sound.

use serde::Serialize;

use super::attributes::Attributes;
use super::words;

/// A measured tempo is right within this part of the named one, or of its half or double.
const TEMPO_TOLERANCE: f64 = 0.08;

/// How right the sounds are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Clips whose words name the attribute.
    pub clips: usize,
    /// Mean score beside their own words, 0 to 1.
    pub own: f64,
    /// Mean score beside the words of all the other clips: what is right by chance.
    pub others: f64,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Named {
    /// What is named, and how it is scored.
    pub what: &'static str,
    /// Of the samples.
    pub samples: Option<Score>,
    /// Of the held-out clips.
    pub real: Option<Score>,
}

/// Compares clips with the captions that are said of each (the first that names the attribute counts).
pub fn compare(
    samples: (&[Attributes], &[Vec<String>]),
    real: (&[Attributes], &[Vec<String>]),
) -> Vec<Named> {
    let tempo = |(clips, captions): (&[Attributes], &[Vec<String>])| {
        score(clips, captions, words::bpm, |clip, named| f64::from(u8::from(is_tempo(clip.tempo_bpm, named))))
    };
    let key = |(clips, captions): (&[Attributes], &[Vec<String>])| {
        score(clips, captions, words::key, |clip, named| clip.key.map_or(0.0, |key| key.score(named)))
    };
    let rows = [
        Named {
            what: "tempo in bpm, within 8 % of it, its half or double",
            samples: tempo(samples),
            real: tempo(real),
        },
        Named { what: "key, MIREX score", samples: key(samples), real: key(real) },
    ];
    rows.into_iter().filter(|row| row.samples.is_some() || row.real.is_some()).collect()
}

fn is_tempo(measured: f64, named: f64) -> bool {
    [0.5, 1.0, 2.0].iter().any(|factor| (measured / (factor * named) - 1.0).abs() <= TEMPO_TOLERANCE)
}

fn score<T: Copy>(
    clips: &[Attributes],
    captions: &[Vec<String>],
    named: fn(&str) -> Option<T>,
    right: impl Fn(&Attributes, T) -> f64,
) -> Option<Score> {
    let all = clips.iter().zip(captions);
    let said: Vec<(&Attributes, T)> = all
        .filter_map(|(clip, captions)| Some((clip, captions.iter().find_map(|caption| named(caption))?)))
        .collect();
    let n = said.len();
    if n == 0 {
        return None;
    }
    let (mut own, mut others) = (0.0, 0.0);
    for (i, (clip, _)) in said.iter().enumerate() {
        for (j, (_, value)) in said.iter().enumerate() {
            *(if i == j { &mut own } else { &mut others }) += right(clip, *value);
        }
    }
    Some(Score { clips: n, own: own / n as f64, others: others / (n * (n - 1)).max(1) as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::attributes::Key;

    #[test]
    fn sounds_that_are_what_was_said_score_1_and_the_others_less() {
        let clip = |tempo_bpm: f64, tonic: usize| Attributes {
            tempo_bpm,
            onset_rate: 0.0,
            centroid_hz: 0.0,
            loudness_dbfs: 0.0,
            percussion_db: 0.0,
            key: Some(Key { tonic, minor: false }),
            pulse: 1.0,
        };
        let clips = [clip(61.0, 0), clip(180.0, 2), clip(100.0, 4)];
        let said =
            ["at 120 bpm in C major", "at 90 bpm in D major", "a song"].map(|text| vec![text.to_string()]);
        let rows = compare((&clips, &said), (&[], &[]));
        for row in &rows {
            assert_eq!(row.samples, Some(Score { clips: 2, own: 1.0, others: 0.0 }), "{}", row.what);
            assert_eq!(row.real, None);
        }
        assert_eq!(rows.len(), 2);
    }
}
