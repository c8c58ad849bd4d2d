//! The end of a run: from the shards to manifest, statistics and `dataset.json`.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::manifest::{
    Counts, DatasetInfo, SourceRecord, TrackRecord, fingerprint, tokenizer_of, tokenizer_path, write_manifest,
};
use super::prepare::{PrepareOptions, shard_name};
use super::shard::Shard;
use super::sources::SourceTrack;
use super::split::{Candidate, Split, decide};
use super::summary::Summary;
use super::table::{Facts, Problem};
use super::text::printable;
use crate::audio::Statistics;
use crate::error::{Error, Result, human_bytes};
use crate::files::write_bytes_atomic;
use crate::text::DATASET_VOCABULARY;

/// A track whose shard is on disk.
pub(super) struct Prepared {
    pub shard: Shard,
    /// The places where it was found, one at least.
    pub copies: Vec<SourceTrack>,
    /// Encoded by this run.
    pub is_new: bool,
}

/// Decides the split, writes `manifest.jsonl` and `dataset.json`, and says what was done. `prepared` is sorted
/// by content hash.
pub(super) fn assemble(
    options: &PrepareOptions,
    prepared: Vec<Prepared>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
) -> Result<Summary> {
    let mut summary = Summary { skipped: problems, warnings, ..Summary::default() };
    let shards_on_disk: HashSet<String> =
        prepared.iter().map(|track| shard_name(&track.shard.facts.content)).collect();
    let (usable, silent): (Vec<_>, Vec<_>) =
        prepared.into_iter().partition(|track| track.shard.segments() > 0);
    for track in silent {
        summary.silent_segments += track.shard.facts.silent_segments;
        let reason = "is silent: every segment is below -60 dBFS".to_string();
        summary.skipped.push(Problem { path: track.copies[0].path.clone(), reason });
    }
    if let (true, Some(first)) = (options.strict, summary.skipped.first()) {
        return Err(Error::audio(printable(&first.path), format!("{} (--strict)", first.reason)));
    }
    if usable.is_empty() {
        let why = match summary.skipped.first() {
            Some(first) => format!("none of the files can be used; the first: {first}"),
            None => {
                "no audio files found (wav, mp3, flac, ogg, m4a, ... or a table metadata.csv)".to_string()
            }
        };
        let sources: Vec<String> = options.sources.iter().map(|source| printable(source)).collect();
        return Err(Error::format(sources.join(", "), why));
    }
    let records = decided_records(options, &usable, &mut summary)?;
    let info = describe(options, &usable, &records)?;
    count(&usable, &records, &info, &mut summary);
    orphans(options, &shards_on_disk, &mut summary)?;
    Ok(summary)
}

/// Manifest lines with their sides, in the order of `tracks`.
fn decided_records(
    options: &PrepareOptions,
    tracks: &[Prepared],
    summary: &mut Summary,
) -> Result<Vec<TrackRecord>> {
    let merged: Vec<Facts> = tracks.iter().map(merged_facts).collect();
    let candidate = |(track, facts)| candidate(track, facts);
    let candidates: Vec<Candidate<'_>> = tracks.iter().zip(&merged).map(candidate).collect();
    let decision = decide(&candidates, options.validation)?;
    summary.split_by_table = decision.by_table;
    summary.notes.extend(decision.forced);
    if !decision.splits.contains(&Split::Validation) {
        summary.notes.push("nothing is held out for validation".to_string());
    }
    if decision.by_table > 0 {
        summary.notes.push(format!(
            "{} tracks are split as their table says; its validation and test rows are both held out",
            decision.by_table
        ));
    }
    let sides = tracks.iter().zip(merged).zip(decision.splits);
    Ok(sides.map(|((track, facts), split)| record(track, facts, split)).collect())
}

fn candidate<'a>(track: &'a Prepared, facts: &'a Facts) -> Candidate<'a> {
    Candidate {
        content: &track.shard.facts.content,
        artist: facts.artist.as_deref(),
        suggested: facts.split.as_deref(),
    }
}

/// What all copies' tables say, then what the file's own tags say.
fn merged_facts(track: &Prepared) -> Facts {
    let mut facts = Facts::default();
    track.copies.iter().for_each(|copy| facts.merge(copy.facts.clone()));
    let tags = track.shard.facts.clone();
    facts.merge(Facts {
        title: tags.title,
        artist: tags.artist,
        genre: tags.genre,
        licence: tags.licence,
        ..Facts::default()
    });
    facts.use_labels();
    facts
}

fn record(track: &Prepared, facts: Facts, split: Split) -> TrackRecord {
    let shard = &track.shard;
    let place = |copy: &SourceTrack| SourceRecord {
        path: copy.path.to_string_lossy().into_owned(),
        bytes: copy.bytes,
        modified_ns: copy.modified_ns,
    };
    TrackRecord {
        file: track.copies[0].name.clone(),
        sources: track.copies.iter().map(place).collect(),
        content: shard.facts.content.clone(),
        captions: facts.captions,
        title: facts.title,
        artist: facts.artist,
        genre: facts.genre,
        licence: facts.licence,
        split,
        seconds: shard.facts.seconds,
        segments: shard.segments(),
        silent_segments: shard.facts.silent_segments,
        codec: shard.facts.codec.clone(),
        sample_rate: shard.facts.sample_rate,
        channels: shard.facts.channels,
        warnings: shard.facts.warnings.clone(),
        shard: shard_name(&shard.facts.content),
    }
}

/// Writes both files, the manifest first: `dataset.json` names its hash, so that a kill between is noticed.
fn describe(options: &PrepareOptions, tracks: &[Prepared], records: &[TrackRecord]) -> Result<DatasetInfo> {
    let [_, channels, height, width] = tracks[0].shard.shape;
    let mut statistics = Statistics::new(channels * height);
    for (track, _) in tracks.iter().zip(records).filter(|(_, record)| record.split == Split::Train) {
        statistics.merge(&track.shard.statistics)?;
    }
    let unfinished =
        DatasetInfo::unfinished(options.config.clone(), options.validation, [channels, height, width]);
    let info = DatasetInfo {
        complete: true,
        train: counts(records, Split::Train),
        validation_set: counts(records, Split::Validation),
        fingerprint: fingerprint(&options.config, records),
        manifest_sha256: write_manifest(&options.out, records)?,
        statistics: statistics.finish(),
        ..unfinished
    };
    write_tokenizer(&options.out, records)?;
    info.write(&options.out)?;
    Ok(info)
}

/// Writes what makes numbers of captions, made from those to train on; where there are none, no file is left.
fn write_tokenizer(out: &Path, records: &[TrackRecord]) -> Result<()> {
    let path = tokenizer_path(out);
    match tokenizer_of(records, DATASET_VOCABULARY)? {
        Some(tokenizer) => write_bytes_atomic(&path, tokenizer.to_json().as_bytes()),
        None if path.exists() => fs::remove_file(&path).map_err(Error::io("remove", &path)),
        None => Ok(()),
    }
}

fn counts(records: &[TrackRecord], split: Split) -> Counts {
    let mut counts = Counts::default();
    for record in records.iter().filter(|record| record.split == split) {
        counts.tracks += 1;
        counts.captions += record.captions.len();
        counts.segments += record.segments;
        counts.seconds += record.seconds;
    }
    // To the millisecond, as the tracks' are: sums of decimals have tails.
    counts.seconds = (counts.seconds * 1000.0).round() / 1000.0;
    counts
}

fn count(tracks: &[Prepared], records: &[TrackRecord], info: &DatasetInfo, summary: &mut Summary) {
    summary.train = info.train;
    summary.validation = info.validation_set;
    summary.fingerprint = info.fingerprint.clone();
    summary.without_caption = records.iter().filter(|record| record.captions.is_empty()).count();
    for (track, record) in tracks.iter().zip(records) {
        summary.silent_segments += record.silent_segments;
        summary.shard_bytes += (track.shard.segments() * track.shard.segment_bytes()) as u64;
        if track.is_new {
            summary.encoded += 1;
            summary.encoded_seconds += record.seconds;
        } else {
            summary.reused += 1;
        }
        let copies = track.copies[1..].iter();
        summary.copies.extend(copies.map(|copy| format!("{} = {}", copy.name, record.file)));
        let warnings = record.warnings.iter();
        summary.warnings.extend(warnings.map(|warning| format!("{}: {warning}", record.file)));
    }
    if summary.without_caption > 0 {
        let what = "tracks have no caption; they train the unconditional side";
        summary.notes.push(format!("{} {what}", summary.without_caption));
    }
}

/// Shards that belong to no track of this run: kept, because whoever named fewer sources by mistake would
/// lose hours of work, or removed with `--prune`.
fn orphans(options: &PrepareOptions, in_use: &HashSet<String>, summary: &mut Summary) -> Result<()> {
    let folder = options.out.join("shards");
    let (mut count, mut bytes) = (0, 0);
    for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let entry = entry.map_err(Error::io("read", &folder))?;
        let name = format!("shards/{}", entry.file_name().to_string_lossy());
        let is_shard = Path::new(&name).extension().is_some_and(|end| end == "safetensors");
        if !is_shard || in_use.contains(&name) {
            continue;
        }
        count += 1;
        bytes += entry.metadata().map_or(0, |facts| facts.len());
        if options.prune {
            fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    if count > 0 {
        let done = if options.prune { "were removed" } else { "are kept; --prune removes them" };
        let bytes = human_bytes(bytes);
        summary
            .notes
            .push(format!("{count} shards of tracks that the sources no longer hold ({bytes}) {done}"));
    }
    Ok(())
}
