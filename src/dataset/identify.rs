//! Which files are the same recording, and which of them an earlier run has seen: by content hash.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::config::hex;
use super::manifest::TrackRecord;
use super::sources::SourceTrack;
use super::table::Problem;
use crate::audio::config::RepresentationConfig;
use crate::audio::{AudioReader, Input};
use crate::error::{Error, Result};

const READ_BYTES: usize = 1 << 20;

/// Why a track gives nothing.
pub(super) enum Failure {
    /// The file's fault: name it and go on.
    Skip(String),
    /// Ours or the machine's: the run ends.
    Fatal(Error),
}

impl Failure {
    /// What an error from reading a track means for the run.
    pub fn of_reading(error: Error) -> Self {
        match error {
            Error::Interrupted => Failure::Fatal(Error::Interrupted),
            Error::Audio { reason, .. } => Failure::Skip(reason),
            Error::Io { action, source, .. } => Failure::Skip(format!("cannot {action}: {source}")),
            other => Failure::Skip(other.to_string()),
        }
    }
}

/// Hashes that an earlier run's manifest knows, by place, size and time of change.
#[derive(Default)]
pub(super) struct KnownHashes(HashMap<(String, u64, u64), String>);

impl KnownHashes {
    pub fn new(tracks: &[TrackRecord]) -> Self {
        let entries = tracks.iter().flat_map(|track| {
            let places = track.sources.iter();
            places.map(|place| {
                let key = (place.path.clone(), place.bytes, place.modified_ns);
                (key, track.content.clone())
            })
        });
        Self(entries.collect())
    }

    fn find(&self, track: &SourceTrack) -> Option<String> {
        // A path that is not UTF-8 is in no manifest as it is, so such a file is hashed again.
        let path = track.path.to_str()?.to_string();
        self.0.get(&(path, track.bytes, track.modified_ns)).cloned()
    }
}

/// Tracks by content hash (every copy of a recording under one), and those that cannot be read.
pub(super) struct Identified {
    pub by_content: BTreeMap<String, Vec<SourceTrack>>,
    pub problems: Vec<Problem>,
}

/// Hashes what is not known, on all cores. A file that no decoder opens is left out before it is hashed, so
/// that a giant that is no audio costs nothing. `advance` is told the bytes of each file that is done.
pub(super) fn identify(
    tracks: Vec<SourceTrack>,
    known: &KnownHashes,
    config: &RepresentationConfig,
    stop: &AtomicBool,
    advance: &(dyn Fn(u64) + Sync),
) -> Result<Identified> {
    let mut tracks = tracks;
    tracks.sort_by(|a, b| a.reading_order().cmp(&b.reading_order()));
    let mut hashed: Vec<(SourceTrack, Result<String, String>)> = tracks
        .into_iter()
        // Handed out in order, so that what lies in a container is read from beginning to end.
        .par_bridge()
        .map(|track| {
            let content = match known.find(&track) {
                Some(content) => Ok(content),
                None => content_of(&track, config, stop),
            };
            advance(track.sound_bytes());
            match content {
                Ok(content) => Ok((track, Ok(content))),
                Err(Failure::Skip(reason)) => Ok((track, Err(reason))),
                Err(Failure::Fatal(error)) => Err(error),
            }
        })
        .collect::<Result<_>>()?;
    hashed.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
    let mut identified = Identified { by_content: BTreeMap::new(), problems: Vec::new() };
    for (track, content) in hashed {
        match content {
            Ok(content) => identified.by_content.entry(content).or_default().push(track),
            Err(reason) => identified.problems.push(Problem { path: track.path, reason }),
        }
    }
    Ok(identified)
}

fn content_of(
    track: &SourceTrack,
    config: &RepresentationConfig,
    stop: &AtomicBool,
) -> Result<String, Failure> {
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::Fatal(Error::Interrupted));
    }
    let input = track.input().map_err(Failure::of_reading)?;
    AudioReader::open_input(&input, config.sample_rate, config.mix).map_err(Failure::of_reading)?;
    sha256(&input, stop).map_err(Failure::of_reading)
}

/// Of the recording's bytes, in hexadecimal.
pub(super) fn sha256(input: &Input, stop: &AtomicBool) -> Result<String> {
    let (mut stream, _) = input.open()?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        match stream.read(&mut buffer).map_err(Error::io("read", input.path()))? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}
