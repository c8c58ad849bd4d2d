//! The doctor's checks, one function each: a problem is what `prepare` would leave out or what spoils training; a note
//! is worth knowing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fingerprint::{Fingerprint, same_music};
use super::health::{Finding, Patient, Severity};
use super::split::Split;

/// Part of the samples at the ceiling from which on a recording sounds distorted, and from which on it is told.
const CLIPPED_PROBLEM: f64 = 0.01;
const CLIPPED_NOTE: f64 = 0.001;
/// Root mean square below which all segments are left out (-60 dBFS).
const SILENT_RMS: f64 = 1e-3;
/// Part of the time in silence that is told.
const SILENT_NOTE: f64 = 0.5;
/// Part of the tracks with one and the same caption that spoils a data set, and that is told.
const REPEATED_PROBLEM: f64 = 0.5;
const REPEATED_NOTE: f64 = 0.1;
/// Tracks that a repeated caption has at least.
const REPEATED_TRACKS: usize = 3;
/// Part of the tracks of one genre that is told.
const UNBALANCED_NOTE: f64 = 0.6;

/// All of them, in a fixed order. `unreadable` is what could not be used at all, `remarks` what tables were told.
pub(super) fn all_checks(
    patients: &[Patient],
    unreadable: Vec<String>,
    remarks: Vec<String>,
    segment_seconds: f64,
) -> Vec<Finding> {
    let mut findings = vec![
        found("readable", Severity::Problem, "files, rows or shards cannot be used", unreadable),
        same_content(patients),
        same_sound(patients),
        silence(patients),
        clipping(patients),
        length(patients, segment_seconds),
        damage(patients, remarks),
    ];
    findings.extend(captions(patients));
    findings.extend([balance(patients), leakage(patients), artists(patients), licences(patients)]);
    findings
}

fn finding(
    check: &'static str,
    severity: Severity,
    message: impl Into<String>,
    items: Vec<String>,
) -> Finding {
    Finding { check, severity, message: message.into(), items }
}

/// A finding if there are items, else a check that is passed.
fn found(check: &'static str, severity: Severity, what: &str, items: Vec<String>) -> Finding {
    match items.len() {
        0 => finding(check, Severity::Ok, "", items),
        count => finding(check, severity, format!("{count} {what}"), items),
    }
}

/// The worse of two findings of one check, whose first is a problem.
fn worse(problem: Finding, note: Finding) -> Finding {
    if problem.severity == Severity::Problem { problem } else { note }
}

fn same_content(patients: &[Patient]) -> Finding {
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut items = Vec::new();
    for patient in patients {
        match first.get(patient.content.as_str()) {
            Some(original) => items.push(format!("{} = {original}", patient.name)),
            None => drop(first.insert(&patient.content, &patient.name)),
        }
    }
    found("copies", Severity::Note, "files are copies of another; prepare keeps one with all captions", items)
}

fn same_sound(patients: &[Patient]) -> Finding {
    let prints: Vec<Option<Fingerprint>> =
        patients.iter().map(|patient| patient.fingerprint.clone()).collect();
    let pairs = same_music(&prints).into_iter();
    let others = pairs.filter(|&(a, b, _)| patients[a].content != patients[b].content);
    let line = |(a, b, distance): (usize, usize, f64)| {
        let crosses = patients[a].split.is_some()
            && patients[b].split.is_some()
            && patients[a].split != patients[b].split;
        let sides = if crosses { ", on both sides of the split" } else { "" };
        format!("{} ~ {} ({:.0}% alike{sides})", patients[b].name, patients[a].name, 100.0 * (1.0 - distance))
    };
    let what =
        "recordings are another's music in another file: it counts twice, and may be held out and learned";
    found("same music", Severity::Problem, what, others.map(line).collect())
}

fn silence(patients: &[Patient]) -> Finding {
    let is_silent = |patient: &&Patient| patient.rms.is_some_and(|rms| rms < SILENT_RMS);
    let name = |patient: &Patient| patient.name.clone();
    let silent = patients.iter().filter(is_silent).map(name).collect();
    let part = |patient: &Patient| {
        (patient.silent > SILENT_NOTE).then(|| format!("{}: {:.0}%", patient.name, 100.0 * patient.silent))
    };
    worse(
        found(
            "silence",
            Severity::Problem,
            "tracks are silent (below -60 dBFS); prepare leaves them out",
            silent,
        ),
        found(
            "silence",
            Severity::Note,
            "tracks are silent for more than half of their time",
            patients.iter().filter_map(part).collect(),
        ),
    )
}

fn clipping(patients: &[Patient]) -> Finding {
    let above = |limit: f64| -> Vec<String> {
        let line = |patient: &Patient| {
            (patient.clipped > limit)
                .then(|| format!("{}: {:.1}% of its samples", patient.name, 100.0 * patient.clipped))
        };
        patients.iter().filter_map(line).collect()
    };
    worse(
        found(
            "clipping",
            Severity::Problem,
            "tracks are cut flat at full scale: they sound distorted",
            above(CLIPPED_PROBLEM),
        ),
        found("clipping", Severity::Note, "tracks touch the ceiling here and there", above(CLIPPED_NOTE)),
    )
}

fn length(patients: &[Patient], segment_seconds: f64) -> Finding {
    let shorter = |limit: f64| -> Vec<String> {
        let line = |patient: &Patient| {
            (patient.seconds < limit).then(|| format!("{}: {:.2} s", patient.name, patient.seconds))
        };
        patients.iter().filter_map(line).collect()
    };
    let half = format!(
        "tracks are shorter than half a segment ({segment_seconds:.2} s): most of it would be padding"
    );
    let whole = format!("tracks are shorter than a segment ({segment_seconds:.2} s)");
    worse(
        found("length", Severity::Problem, &half, shorter(segment_seconds / 2.0)),
        found("length", Severity::Note, &whole, shorter(segment_seconds)),
    )
}

fn damage(patients: &[Patient], remarks: Vec<String>) -> Finding {
    let lines =
        patients.iter().flat_map(|p| p.warnings.iter().map(move |warning| format!("{}: {warning}", p.name)));
    found(
        "damage",
        Severity::Note,
        "remarks of decoders and tables",
        remarks.into_iter().chain(lines).collect(),
    )
}

fn captions(patients: &[Patient]) -> [Finding; 2] {
    let missing: Vec<String> =
        patients.iter().filter(|p| p.captions.is_empty()).map(|p| p.name.clone()).collect();
    let without = if !missing.is_empty() && missing.len() == patients.len() {
        finding("captions", Severity::Note, "no track has a caption: a model learns without text", Vec::new())
    } else {
        found(
            "captions",
            Severity::Note,
            "tracks have no caption; they train the unconditional side",
            missing,
        )
    };
    let mut tracks: BTreeMap<&str, usize> = BTreeMap::new();
    let of_track = |patient: &Patient| -> BTreeSet<String> {
        patient.captions.iter().map(|c| c.to_lowercase()).collect()
    };
    let lower: Vec<BTreeSet<String>> = patients.iter().map(of_track).collect();
    lower.iter().flatten().for_each(|caption| *tracks.entry(caption).or_default() += 1);
    let repeated = |part: f64| -> Vec<String> {
        let limit = (part * patients.len() as f64).max(REPEATED_TRACKS as f64);
        let mut repeated: Vec<(&&str, &usize)> =
            tracks.iter().filter(|(_, count)| **count as f64 > limit).collect();
        repeated.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        repeated.into_iter().map(|(caption, count)| format!("{count} tracks: {caption}")).collect()
    };
    let repeats = worse(
        found(
            "repeated captions",
            Severity::Problem,
            "captions stand at more than half of the tracks: they say nothing",
            repeated(REPEATED_PROBLEM),
        ),
        found(
            "repeated captions",
            Severity::Note,
            "captions stand at more than a tenth of the tracks",
            repeated(REPEATED_NOTE),
        ),
    );
    [without, repeats]
}

fn balance(patients: &[Patient]) -> Finding {
    let genres = counted(
        patients.iter().filter_map(|patient| patient.genre.as_ref().map(|genre| genre.to_lowercase())),
    );
    let labelled: usize = genres.values().sum();
    let mut sorted: Vec<(&String, &usize)> = genres.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    match sorted.first() {
        Some((genre, count)) if sorted.len() > 1 && **count as f64 > UNBALANCED_NOTE * labelled as f64 => {
            let items = sorted.iter().map(|(genre, count)| format!("{count} {genre}")).collect();
            let part = 100 * **count / labelled;
            finding(
                "balance",
                Severity::Note,
                format!("{part}% of the tracks with a genre are {genre}"),
                items,
            )
        }
        _ => finding("balance", Severity::Ok, "", Vec::new()),
    }
}

fn leakage(patients: &[Patient]) -> Finding {
    let mut sides: BTreeMap<String, BTreeMap<Split, usize>> = BTreeMap::new();
    for patient in patients {
        if let (Some(artist), Some(split)) = (artist_of(patient), patient.split) {
            *sides.entry(artist).or_default().entry(split).or_default() += 1;
        }
    }
    let line = |(artist, sides): (&String, &BTreeMap<Split, usize>)| match (
        sides.get(&Split::Train),
        sides.get(&Split::Validation),
    ) {
        (Some(train), Some(held_out)) => Some(format!("{artist}: {train} train, {held_out} held out")),
        _ => None,
    };
    let what = "artists are on both sides of the split: validation measures what was learned by heart";
    found("leakage", Severity::Problem, what, sides.iter().filter_map(line).collect())
}

fn artists(patients: &[Patient]) -> Finding {
    let unknown: Vec<String> =
        patients.iter().filter(|p| artist_of(p).is_none()).map(|p| p.name.clone()).collect();
    found("artists", Severity::Note, "tracks have no artist: each is split by itself", unknown)
}

fn licences(patients: &[Patient]) -> Finding {
    let unknown: Vec<String> =
        patients.iter().filter(|p| p.licence.is_none()).map(|p| p.name.clone()).collect();
    found("licences", Severity::Note, "tracks have no known licence", unknown)
}

/// The artist as the split knows them.
pub(super) fn artist_of(patient: &Patient) -> Option<String> {
    patient.artist.as_ref().map(|artist| artist.trim().to_lowercase()).filter(|artist| !artist.is_empty())
}

/// How often each word occurs.
pub(super) fn counted(words: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}
