//! The folder of a prepared data set.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::json;

use super::{Report, duration, grouped, word};
use crate::dataset::manifest::{self, Counts, DatasetInfo, TrackRecord};
use crate::dataset::shard;
use crate::error::{Error, Result, human_bytes};

/// Titles, codecs and licences that are named.
const NAMES_SHOWN: usize = 6;

pub(super) fn inspect(path: &Path) -> Result<Report> {
    let info = DatasetInfo::read(path)?.ok_or_else(|| Error::format(path, "holds no dataset.json"))?;
    let mut report = Report::new("data set", path);
    report.add("complete", if info.complete { "yes" } else { "no" }, info.complete);
    if !info.complete {
        report
            .problems
            .push("the preparation was not finished; run the same prepare command again".to_string());
    }
    describe_image(&mut report, &info);
    for (name, counts) in [("train", info.train), ("validation", info.validation_set)] {
        describe_counts(&mut report, name, counts);
    }
    report.add("fingerprint", &info.fingerprint, json!(info.fingerprint));
    if manifest::manifest_path(path).exists() {
        let (tracks, sha256) = manifest::read_manifest(path)?;
        if info.complete && sha256 != info.manifest_sha256 {
            report.problems.push("manifest.jsonl is not the one that dataset.json describes".to_string());
        }
        describe_tracks(&mut report, path, &tracks);
    } else if info.complete {
        report.problems.push("manifest.jsonl is missing".to_string());
    }
    Ok(report)
}

fn describe_image(report: &mut Report, info: &DatasetInfo) {
    let data = &info.config.representation;
    let [channels, height, width] = info.shape;
    let seconds = (width * data.hop) as f64 / f64::from(data.sample_rate.max(1));
    report.add(
        "image",
        format!(
            "{channels} x {height} x {width}: {} at {} Hz, {}, {seconds:.1} s, stored as {}",
            word(data.representation),
            data.sample_rate,
            word(data.mix),
            word(info.config.cut.storage)
        ),
        json!({ "shape": info.shape, "config": info.config }),
    );
}

fn describe_counts(report: &mut Report, name: &'static str, counts: Counts) {
    report.add(
        name,
        format!(
            "{} tracks, {} segments, {} of sound, {} captions",
            grouped(counts.tracks as u64),
            grouped(counts.segments as u64),
            duration(counts.seconds),
            grouped(counts.captions as u64)
        ),
        json!(counts),
    );
}

fn describe_tracks(report: &mut Report, path: &Path, tracks: &[TrackRecord]) {
    let codecs = count(tracks.iter().map(|track| track.codec.as_str()));
    report.add("codecs", listed(&codecs), json!(codecs));
    let licences = count(tracks.iter().map(|track| track.licence.as_deref().unwrap_or("unknown")));
    report.add("licences", listed(&licences), json!(licences));
    let silent: usize = tracks.iter().map(|track| track.silent_segments).sum();
    report.add("left out", format!("{} silent segments", grouped(silent as u64)), silent);
    let warned = tracks.iter().filter(|track| !track.warnings.is_empty()).count();
    report.add("warnings", format!("{} tracks (see manifest.jsonl)", grouped(warned as u64)), warned);

    let sizes = tracks.iter().map(|track| path.join(&track.shard).metadata().map(|about| about.len()).ok());
    let (mut bytes, mut missing) = (0, 0);
    for size in sizes {
        match size {
            Some(size) => bytes += size,
            None => missing += 1,
        }
    }
    report.add("size", human_bytes(bytes), bytes);
    let again = "run the same prepare command again";
    if missing > 0 {
        report.problems.push(format!("{missing} shards are missing; {again}"));
    }
    let damaged = damaged(path, tracks);
    if let Some(first) = damaged.first() {
        report.problems.push(format!("{} shards are damaged, the first is {first}; {again}", damaged.len()));
    }
}

/// Shards that are there and not what was written: all are read, for their checksums.
fn damaged<'a>(path: &Path, tracks: &'a [TrackRecord]) -> Vec<&'a str> {
    let is_damaged = |shard: &&str| {
        let shard = path.join(shard);
        shard.exists() && shard::verify(&shard).is_err()
    };
    tracks.par_iter().map(|track| track.shard.as_str()).filter(is_damaged).collect()
}

fn count<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    words.for_each(|word| *counts.entry(word).or_default() += 1);
    counts
}

/// The most frequent first: `mp3 (12), flac (3)`.
fn listed(counts: &BTreeMap<&str, usize>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut texts: Vec<String> =
        sorted.iter().take(NAMES_SHOWN).map(|(word, count)| format!("{word} ({count})")).collect();
    if sorted.len() > NAMES_SHOWN {
        texts.push("...".to_string());
    }
    if texts.is_empty() { "none".to_string() } else { texts.join(", ") }
}
