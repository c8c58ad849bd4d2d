//! `prepare --check`: looks over sources, or a prepared folder, and says what is wrong before hours are spent on it.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::config::DatasetConfig;
use super::fingerprint::Fingerprint;
use super::health::{Health, Patient};
use super::identify::{Failure, sha256};
use super::manifest::{DatasetInfo, TrackRecord, read_manifest};
use super::prepare::{Phase, Progress};
use super::shard::Shard;
use super::sources::{Collection, SourceTrack, collect};
use super::split::from_table;
use super::store::unpack;
use super::table::{Problem, TableOptions};
use super::text::{clean, printable};
use crate::audio::examine::{BANDS, examine};
use crate::error::{Error, Result};

/// What to look over.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Sources, or one prepared folder.
    pub sources: Vec<PathBuf>,
    /// How tables are read.
    pub tables: TableOptions,
    /// What the sources would be prepared as: the length of a segment counts.
    pub config: DatasetConfig,
}

/// Looks over a data set. Every recording is decoded once, every shard read once.
///
/// # Errors
/// As [`prepare`](super::prepare()) for sources that are not there; [`Error::Format`] where there is nothing to look at;
/// [`Error::Interrupted`] once `stop` is set. What is wrong with the data is no error: it is in the [`Health`].
pub fn check(options: &CheckOptions, stop: &AtomicBool, progress: &dyn Progress) -> Result<Health> {
    let what = options.sources.iter().map(|source| printable(source)).collect();
    if let [folder] = options.sources.as_slice()
        && folder.is_dir()
        && let Some(info) = DatasetInfo::read(folder)?
    {
        return check_prepared(what, folder, &info, stop, progress);
    }
    let Collection { tracks, problems, warnings, notices } = collect(&options.sources, &options.tables)?;
    notices.iter().for_each(|notice| progress.notice(notice));
    let mut unreadable: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let (patients, failed) = examine_all(tracks, stop, progress)?;
    unreadable.extend(failed);
    if patients.is_empty() && unreadable.is_empty() {
        return Err(Error::format(printable(&options.sources[0]), "holds no recordings to look at"));
    }
    Ok(Health::of(what, &patients, unreadable, warnings, segment_seconds(&options.config)))
}

/// On all cores, in the order of the sources.
fn examine_all(
    mut tracks: Vec<SourceTrack>,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<(Vec<Patient>, Vec<String>)> {
    progress.begin(Phase::Check, tracks.len(), tracks.iter().map(SourceTrack::sound_bytes).sum());
    tracks.sort_by(|a, b| a.reading_order().cmp(&b.reading_order()));
    let results: Mutex<Vec<(PathBuf, Result<Patient, String>)>> = Mutex::new(Vec::new());
    tracks.into_iter().par_bridge().try_for_each(|track| {
        let bytes = track.sound_bytes();
        let path = track.path.clone();
        let result = match patient(track, stop) {
            Ok(patient) => Ok(patient),
            Err(Failure::Skip(reason)) => Err(format!("{}: {reason}", printable(&path))),
            Err(Failure::Fatal(error)) => return Err(error),
        };
        progress.advance(bytes);
        results.lock().unwrap_or_else(PoisonError::into_inner).push((path, result));
        Ok(())
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (mut patients, mut failed) = (Vec::new(), Vec::new());
    for (_, result) in results {
        match result {
            Ok(patient) => patients.push(patient),
            Err(line) => failed.push(line),
        }
    }
    Ok((patients, failed))
}

fn patient(track: SourceTrack, stop: &AtomicBool) -> Result<Patient, Failure> {
    let is_stopped = || stop.load(Ordering::Relaxed);
    if is_stopped() {
        return Err(Failure::Fatal(Error::Interrupted));
    }
    let input = track.input().map_err(Failure::of_reading)?;
    let content = sha256(&input, stop).map_err(Failure::of_reading)?;
    let found = examine(&input, &is_stopped).map_err(Failure::of_reading)?;
    let mut facts = track.facts;
    facts.use_labels();
    let tag = |own: Option<String>, tag: Option<String>| {
        own.or(tag).map(|text| clean(&text)).filter(|t| !t.is_empty())
    };
    Ok(Patient {
        name: track.name,
        content,
        seconds: found.seconds,
        rms: Some(found.rms),
        clipped: found.clipped,
        silent: found.silent,
        fingerprint: Fingerprint::of_energies(&found.frames, found.seconds),
        captions: facts.captions,
        artist: tag(facts.artist, found.info.artist),
        genre: tag(facts.genre, found.info.genre),
        licence: tag(facts.licence, found.info.licence),
        split: facts.split.as_deref().and_then(from_table),
        warnings: found.warnings,
    })
}

fn check_prepared(
    what: Vec<String>,
    folder: &Path,
    info: &DatasetInfo,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Health> {
    let (tracks, sha256) = read_manifest(folder)?;
    let mut unreadable = Vec::new();
    if !info.complete || sha256 != info.manifest_sha256 {
        unreadable
            .push(format!("{}: was not finished; run the same prepare command again", printable(folder)));
    }
    let sizes = |track: &TrackRecord| track.sources.first().map_or(0, |source| source.bytes);
    progress.begin(Phase::Check, tracks.len(), tracks.iter().map(sizes).sum());
    let look = |track: &TrackRecord| -> Result<(Patient, Option<String>)> {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let read = energies(&folder.join(&track.shard), info, track.segments);
        progress.advance(sizes(track));
        let (frames, failure) = match read {
            Ok(frames) => (frames, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        Ok((record_patient(track, &frames), failure))
    };
    let results: Vec<(Patient, Option<String>)> = tracks.par_iter().map(look).collect::<Result<_>>()?;
    let (patients, failures): (Vec<Patient>, Vec<Option<String>>) = results.into_iter().unzip();
    unreadable.extend(failures.into_iter().flatten());
    Ok(Health::of(what, &patients, unreadable, Vec::new(), segment_seconds(&info.config)))
}

fn segment_seconds(config: &DatasetConfig) -> f64 {
    let representation = &config.representation;
    let samples = representation.image[1] * representation.hop;
    samples as f64 / f64::from(representation.sample_rate.max(1))
}

fn record_patient(track: &TrackRecord, frames: &[[f32; BANDS]]) -> Patient {
    let all = (track.segments + track.silent_segments).max(1);
    Patient {
        name: track.file.clone(),
        content: track.content.clone(),
        seconds: track.seconds,
        rms: None,
        clipped: 0.0,
        silent: track.silent_segments as f64 / all as f64,
        fingerprint: Fingerprint::of_energies(frames, track.seconds),
        captions: track.captions.clone(),
        artist: track.artist.clone(),
        genre: track.genre.clone(),
        licence: track.licence.clone(),
        split: Some(track.split),
        warnings: track.warnings.clone(),
    }
}

/// A shard's images as energies of bands: rows are frequencies in every representation, whatever their scale.
fn energies(path: &Path, info: &DatasetInfo, segments: usize) -> Result<Vec<[f32; BANDS]>> {
    let shard = Shard::open(path)?;
    shard.verify()?;
    if shard.segments() != segments || shard.shape[1..] != info.shape {
        return Err(Error::format(path, "is not the shard that the manifest describes"));
    }
    let [channels, height, width] = info.shape;
    let mut bytes = vec![0; shard.segment_bytes()];
    let mut image = vec![0.0; channels * height * width];
    let mut frames = Vec::new();
    for segment in 0..segments {
        shard.read_segment(segment, &mut bytes)?;
        unpack(&bytes, shard.storage, &mut image);
        for column in 0..width {
            let mut frame = [0.0; BANDS];
            for (row, values) in image.chunks_exact(width).enumerate() {
                // Logarithms become energies again; what is compressed only has to stay in its order.
                let value = values[column];
                let energy = if channels == 1 { (2.0 * value).exp() } else { value * value };
                frame[row % height * BANDS / height] += energy;
            }
            frames.push(frame);
        }
    }
    Ok(frames)
}
