//! From sources to a prepared folder: list, hash, encode on all cores, decide the split, describe.
//!
//! A kill at any moment leaves a folder that the next run completes: a shard appears whole or not at all and
//! names its content and configuration, so whatever is there is kept, and `manifest.jsonl` and `dataset.json`
//! are made anew from the shards at the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::assemble::{Prepared, assemble};
use super::config::DatasetConfig;
use super::encode::Encoder;
use super::identify::{Failure, Identified, KnownHashes, identify};
use super::manifest::{DatasetInfo, read_manifest};
use super::shard::Shard;
use super::sources::{Collection, SourceTrack, collect};
use super::split;
use super::summary::Summary;
use super::table::{Problem, TableOptions};
use super::text::printable;
use crate::error::{Error, Result};
use crate::files::{create_folder, lock_folder};

/// What to prepare, and how.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Folders, audio files and tables.
    pub sources: Vec<PathBuf>,
    /// The prepared folder.
    pub out: PathBuf,
    /// Representation and cut.
    pub config: DatasetConfig,
    /// Part of the artists that is held out, 0 <= validation < 1.
    pub validation: f64,
    /// How tables are read.
    pub tables: TableOptions,
    /// The first file or row that cannot be used is an error.
    pub strict: bool,
    /// Removes shards of tracks that the sources no longer hold.
    pub prune: bool,
}

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Fetching files of the hub that are not in its cache.
    Download,
    /// Reading files to know them by their content.
    Identify,
    /// Reading the shards that are there, for their checksums; in bytes of the files that they were made of.
    Verify,
    /// Looking a data set over (`--check`).
    Check,
    /// Decoding and encoding tracks that are new.
    Encode,
}

/// Told how far a run is; called from several threads.
pub trait Progress: Sync {
    /// A phase begins that will handle `files` files of `bytes` bytes in all.
    fn begin(&self, phase: Phase, files: usize, bytes: u64);
    /// `bytes` more of the phase are done.
    fn advance(&self, bytes: u64);
    /// Something that the user should know before the work begins, such as a licence.
    fn notice(&self, _text: &str) {}
}

/// Tells nobody.
impl Progress for () {
    fn begin(&self, _phase: Phase, _files: usize, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
}

/// Prepares `options.sources` into `options.out`. Tracks whose shard is there already and whole are not encoded
/// again.
///
/// # Errors
/// [`Error::Interrupted`] once `stop` is set; [`Error::Config`] for a key that cannot work, for no usable
/// audio at all, or for a folder that was prepared with another configuration; [`Error::Io`] when writing
/// fails (disk full); with `strict`, the first file that cannot be used. The folder can be completed by
/// running again after any of them.
pub fn prepare(options: &PrepareOptions, stop: &AtomicBool, progress: &dyn Progress) -> Result<Summary> {
    options.config.cut.check()?;
    split::check_fraction(options.validation)?;
    let shape = Encoder::new(&options.config)?.shape();
    let Collection { tracks, mut problems, warnings, notices } = collect(&options.sources, &options.tables)?;
    notices.iter().for_each(|notice| progress.notice(notice));
    refuse_if_strict(options, &problems)?;
    let _alone = lock_folder(&options.out)?;
    let known = open_folder(options, shape)?;

    progress.begin(Phase::Identify, tracks.len(), tracks.iter().map(SourceTrack::sound_bytes).sum());
    let advance = |bytes| progress.advance(bytes);
    let identified = identify(tracks, &known, &options.config.representation, stop, &advance)?;
    let Identified { by_content, problems: unreadable } = identified;
    problems.extend(unreadable);
    refuse_if_strict(options, &problems)?;

    let mut prepared = Vec::new();
    let mut new = Vec::new();
    for (content, copies, shard) in with_shards(options, by_content, shape, stop, progress)? {
        match shard {
            Some(shard) => prepared.push(Prepared { shard, copies, is_new: false }),
            None => new.push((content, copies)),
        }
    }
    // The largest first, so that no core is left with a long track at the end.
    new.sort_by(|(_, a), (_, b)| {
        let bytes = b[0].sound_bytes().cmp(&a[0].sound_bytes());
        bytes.then_with(|| a[0].reading_order().cmp(&b[0].reading_order()))
    });
    progress.begin(Phase::Encode, new.len(), new.iter().map(|(_, copies)| copies[0].sound_bytes()).sum());
    let (encoded, failed) = encode_all(options, new, stop, progress)?;
    problems.extend(failed);
    prepared.extend(encoded);
    // In the order of their hashes, so that nothing below depends on threads or interruptions.
    prepared.sort_by(|a, b| a.shard.facts.content.cmp(&b.shard.facts.content));
    assemble(options, prepared, problems, warnings)
}

/// Where a track's shard lies, relative to the prepared folder: 128 bits of the hash name it.
pub(super) fn shard_name(content: &str) -> String {
    format!("shards/{}.safetensors", &content[..32])
}

fn refuse_if_strict(options: &PrepareOptions, problems: &[Problem]) -> Result<()> {
    match problems.first() {
        Some(first) if options.strict => {
            let path = PathBuf::from(printable(&first.path));
            Err(Error::audio(path, format!("{} (--strict)", first.reason)))
        }
        _ => Ok(()),
    }
}

/// Makes the folder or checks that it is ours and of the same configuration, removes what a killed run left
/// half-written, and returns the hashes that the last finished run knew.
fn open_folder(options: &PrepareOptions, shape: [usize; 3]) -> Result<KnownHashes> {
    let out = &options.out;
    let shards = out.join("shards");
    create_folder(&shards)?;
    remove_debris(out)?;
    remove_debris(&shards)?;
    let has_shards = fs::read_dir(&shards).map_err(Error::io("read", &shards))?.next().is_some();
    match DatasetInfo::read(out)?.filter(|info| info.complete || has_shards) {
        Some(info) => {
            if let Some((key, own, wanted)) = info.config.difference(&options.config) {
                let folder = printable(out);
                let problem = format!(
                    "{folder} was prepared with {own}, now {wanted} is asked for; \
                     give another --out, or delete {folder} to prepare it anew"
                );
                return Err(Error::config(key, problem));
            }
        }
        None => DatasetInfo::unfinished(options.config.clone(), options.validation, shape).write(out)?,
    }
    // The manifest only saves time here: if it is missing or damaged, files are hashed again.
    Ok(read_manifest(out).map(|(tracks, _)| KnownHashes::new(&tracks)).unwrap_or_default())
}

fn remove_debris(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.extension().is_some_and(|end| end == "tmp") {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

type Track = (String, Vec<SourceTrack>, Option<Shard>);

/// The tracks with the shards that an earlier run wrote for them, on all cores: every shard is read for its checksum.
fn with_shards(
    options: &PrepareOptions,
    by_content: BTreeMap<String, Vec<SourceTrack>>,
    shape: [usize; 3],
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Vec<Track>> {
    progress.begin(
        Phase::Verify,
        by_content.len(),
        by_content.values().map(|copies| copies[0].sound_bytes()).sum(),
    );
    let find = |(content, copies): (String, Vec<SourceTrack>)| {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        let shard = valid_shard(options, &content, shape);
        progress.advance(copies[0].sound_bytes());
        Ok((content, copies, shard))
    };
    by_content.into_par_iter().map(find).collect()
}

/// The shard that an earlier run wrote for this content, if it is whole, undamaged and of this configuration.
fn valid_shard(options: &PrepareOptions, content: &str, shape: [usize; 3]) -> Option<Shard> {
    let shard = Shard::open(&options.out.join(shard_name(content))).ok()?;
    let is_ours = shard.facts.content == content
        && shard.facts.config == options.config.fingerprint()
        && shard.storage == options.config.cut.storage
        && shard.shape[1..] == shape;
    (is_ours && shard.verify().is_ok()).then_some(shard)
}

type NewTrack = (String, Vec<SourceTrack>);

fn encode_all(
    options: &PrepareOptions,
    new: Vec<NewTrack>,
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<(Vec<Prepared>, Vec<Problem>)> {
    // The first failure that ends the run stops the other threads at their next segment, and is the one told.
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let failed = AtomicBool::new(false);
    let fail = |error: Error| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        failed.store(true, Ordering::Relaxed);
        None
    };
    let is_stopped = || stop.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
    let encode = |encoder: &mut Result<Encoder>, (content, copies): NewTrack| {
        let encoder = match encoder {
            Ok(encoder) => encoder,
            Err(error) => return fail(Error::config("data", error.to_string())),
        };
        let path = options.out.join(shard_name(&content));
        match encoder.encode(&copies[0], &content, &path, &is_stopped, progress) {
            Ok(shard) => Some(Ok(Prepared { shard, copies, is_new: true })),
            Err(Failure::Skip(reason)) if options.strict => {
                fail(Error::audio(printable(&copies[0].path), format!("{reason} (--strict)")))
            }
            Err(Failure::Skip(reason)) => Some(Err(Problem { path: copies[0].path.clone(), reason })),
            Err(Failure::Fatal(error)) => fail(error),
        }
    };
    let results: Vec<Result<Prepared, Problem>> = new
        .into_iter()
        .par_bridge()
        .map_init(|| Encoder::new(&options.config), encode)
        .flatten_iter()
        .collect();
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut prepared = Vec::new();
    let mut problems = Vec::new();
    for result in results {
        match result {
            Ok(track) => prepared.push(track),
            Err(problem) => problems.push(problem),
        }
    }
    problems.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((prepared, problems))
}
