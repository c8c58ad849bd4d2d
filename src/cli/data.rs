//! Where the data of a run comes from: a prepared folder, a folder of songs prepared on the fly, or the demo corpus.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use dit_engine::config::RepresentationConfig;
use dit_engine::dataset::config::{CutConfig, DatasetConfig};
use dit_engine::dataset::demo::{DemoOptions, compose};
use dit_engine::dataset::hub::{HubSettings, hub_name, is_hub_source, resolve};
use dit_engine::dataset::table::TableOptions;
use dit_engine::dataset::{Dataset, PrepareOptions, prepare};
use dit_engine::files::{require_regular_file, write_bytes_atomic};
use sha2::{Digest, Sha256};

use super::prepare::PrepareProgress;
use super::progress::Meter;
use super::with_typed_key;

/// Part of the artists that is held out when data is prepared on the fly.
const VALIDATION: f64 = 0.1;
/// In a run's folder: where its data lies.
const REMEMBERED: &str = "data.path";

/// An opened data set.
pub struct Source {
    /// Name for the run's folder.
    pub name: String,
    /// The data.
    pub dataset: Dataset,
}

/// Opens `data`: a folder made by `prepare` as it is, anything else prepared into `data/NAME-HASH` first; without it
/// the demo corpus, composed into `data/demo` first.
pub fn open(
    data: Option<&Path>,
    representation: &RepresentationConfig,
    stop: &'static AtomicBool,
) -> Result<Source> {
    let config = DatasetConfig { representation: representation.clone(), cut: CutConfig::default() };
    let (source, hash) = match data {
        Some(path) if is_prepared(path) => {
            return Ok(Source { name: name_of(path), dataset: Dataset::open(path)? });
        }
        Some(path) if is_hub_source(path) => {
            let progress = PrepareProgress::default();
            let folder = resolve(&[path.to_path_buf()], &HubSettings::from_env(), stop, &progress)?;
            let folder = folder.into_iter().next().context("--data: nothing was downloaded")?;
            let hash = place_hash(&folder, &config)?;
            (folder, hash)
        }
        Some(path) if !path.exists() => bail!("--data: {} does not exist", path.display()),
        Some(path) => (path.to_path_buf(), place_hash(path, &config)?),
        None => (demo_corpus()?, config.fingerprint()),
    };
    // A folder of the hub's cache is called by its commit.
    let name = data.and_then(hub_name).unwrap_or_else(|| name_of(&source));
    let out = Path::new("data").join(format!("{name}-{}", &hash[..8]));
    let options = PrepareOptions {
        sources: vec![source],
        out: out.clone(),
        config,
        validation: VALIDATION,
        tables: TableOptions::default(),
        strict: false,
        prune: true,
    };
    let progress = PrepareProgress::default();
    let prepared = prepare(&options, stop, &progress);
    drop(progress);
    let summary = prepared.map_err(with_typed_key)?;
    if summary.encoded_seconds > 0.0 || !summary.skipped.is_empty() {
        eprintln!("{summary}");
    }
    Ok(Source { name, dataset: Dataset::open(&out)? })
}

/// Whether `prepare` made this folder.
pub fn is_prepared(path: &Path) -> bool {
    path.join("dataset.json").exists()
}

/// Of what the shards hold and of where the songs lie: two folders of one name must not prune each other's shards.
fn place_hash(source: &Path, config: &DatasetConfig) -> Result<String> {
    let place = source.canonicalize().with_context(|| format!("--data: cannot find {}", source.display()))?;
    let digest = Sha256::new()
        .chain_update(config.fingerprint())
        .chain_update(place.as_os_str().as_encoded_bytes())
        .finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Songs of the demo corpus: with 48, a model had them by heart after five minutes, and got no better.
const DEMO_SONGS: usize = 384;

fn demo_corpus() -> Result<PathBuf> {
    let folder = Path::new("data").join("demo");
    let options = DemoOptions { songs: DEMO_SONGS, ..DemoOptions::default() };
    let mut meter = Meter::new(format!("composing {} songs", options.songs), options.songs as u64);
    compose(&folder, &options, &mut |done, _| meter.advance_to(done as u64))?;
    Ok(folder)
}

fn name_of(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let stem = if full.is_file() { full.file_stem() } else { full.file_name() };
    stem.map_or("data".to_string(), |name| name.to_string_lossy().into_owned())
}

/// Notes in a run's folder where its data lies, for `--resume`.
pub fn remember(run: &Path, data: &Path) -> Result<()> {
    fs::create_dir_all(run)?;
    let data = data.canonicalize().unwrap_or_else(|_| data.to_path_buf());
    write_bytes_atomic(&run.join(REMEMBERED), data.as_os_str().as_encoded_bytes())?;
    Ok(())
}

/// What [`remember`] noted.
pub fn remembered(run: &Path) -> Result<Option<PathBuf>> {
    match fs::read_to_string(run.join(REMEMBERED)) {
        Ok(path) => Ok(Some(PathBuf::from(path))),
        Err(_) => Ok(None),
    }
}

/// The run under `runs` whose last checkpoint is the youngest.
pub fn latest_run(runs: &Path) -> Result<PathBuf> {
    let age = |folder: &PathBuf| {
        fs::metadata(folder.join("checkpoints/last.safetensors")).and_then(|data| data.modified()).ok()
    };
    let folders = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let latest = folders.filter_map(|folder| Some((age(&folder)?, folder))).max();
    match latest {
        Some((_, folder)) => Ok(folder),
        None => {
            bail!("--resume: there is no run with a checkpoint in {}; name one with --out", runs.display())
        }
    }
}

/// A checkpoint file, or the last one of a run's folder.
pub fn checkpoint_path(given: &Path) -> Result<PathBuf> {
    let last = Path::new("checkpoints/last.safetensors");
    let path = if given.is_dir() { given.join(last) } else { given.to_path_buf() };
    if !path.exists() && given.is_dir() {
        bail!("--checkpoint: {} is no run's folder: there is no {} in it", given.display(), last.display());
    }
    if !path.exists() {
        bail!("--checkpoint: {} does not exist", path.display());
    }
    require_regular_file(&path).context("--checkpoint")?;
    Ok(path)
}
