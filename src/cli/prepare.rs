//! `dit-engine prepare`: flags to [`PrepareOptions`], a progress bar, a summary.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use clap::{Args, ValueEnum};
use dit_engine::Error;
use dit_engine::audio::representation::MAX_SEGMENT_SAMPLES;
use dit_engine::config::{Config, Kind, Mix, Overrides, RepresentationConfig, Window};
use dit_engine::dataset::config::{CutConfig, DatasetConfig, Storage};
use dit_engine::dataset::doctor::{CheckOptions, check};
use dit_engine::dataset::hub::{HubSettings, resolve};
use dit_engine::dataset::labels::Template;
use dit_engine::dataset::prepare::Phase;
use dit_engine::dataset::table::TableOptions;
use dit_engine::dataset::{PrepareOptions, Progress, prepare};
use dit_engine::error::human_bytes;
use dit_engine::files::write_bytes_atomic;

use super::progress::Meter;
use super::{ConfigArgs, print, with_typed_key};

/// `--seconds` gives a width that is a multiple of this, so that every usual patch width divides it.
const WIDTH_MULTIPLE: usize = 16;

/// Make spectrogram shards of music: folders, audio files, tables (metadata.csv), clip.wav + clip.txt
#[derive(Args, Debug)]
pub struct PrepareArgs {
    /// Folders (searched recursively), audio files, tables (CSV, JSON lines, parquet), archives (tar, zip), or data sets of
    /// the Hugging Face hub (hf:OWNER/NAME or hf:OWNER/NAME@REVISION)
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// Folder for the data set; a second run into it does only what is new
    #[arg(long, required_unless_present = "check")]
    out: Option<PathBuf>,
    /// Look over the sources, or a prepared folder, instead: what cannot be read, what is there twice, silent, clipped, too
    /// short, without captions, on both sides of the split. Exit code 1 if a check finds a problem
    #[arg(long)]
    check: bool,
    /// With --check: write everything that was found to this file as JSON
    #[arg(long, value_name = "FILE", requires = "check")]
    json: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Image made of a segment [default: the preset's data.representation]
    #[arg(long, value_enum)]
    representation: Option<KindArg>,
    /// Sample rate after resampling, in hertz [default: the preset's, as for all that follow]
    #[arg(long)]
    sample_rate: Option<u32>,
    /// Length of a segment; sets the image's width to seconds x rate / hop, rounded to a multiple of 16
    #[arg(long, conflicts_with = "width")]
    seconds: Option<f64>,
    /// Image width in frames
    #[arg(long)]
    width: Option<usize>,
    /// FFT length in samples
    #[arg(long)]
    n_fft: Option<usize>,
    /// Samples between frames
    #[arg(long)]
    hop: Option<usize>,
    /// Analysis window
    #[arg(long, value_enum)]
    window: Option<WindowArg>,
    /// Mel bands (mel only)
    #[arg(long)]
    mel_bands: Option<usize>,
    /// Exponent of the magnitude compression (complex only)
    #[arg(long)]
    compression: Option<f32>,
    /// Keep one channel or two
    #[arg(long, value_enum)]
    mix: Option<MixArg>,
    /// Part of a segment that the next one repeats, 0 to below 1
    #[arg(long, default_value_t = 0.0)]
    segments_overlap: f64,
    /// At most so many segments a track, spread over it
    #[arg(long)]
    max_segments_per_track: Option<usize>,
    /// Element type on disk: f16 takes half the space, its rounding is some 50 dB below the data's spread
    #[arg(long, value_enum, default_value = "f16")]
    storage: StorageArg,
    /// Part of the artists held out for validation, chosen by hash
    #[arg(long, default_value_t = 0.1)]
    validation: f64,
    /// Column of captions in tables where it has no usual name
    #[arg(long)]
    caption_column: Option<String>,
    /// Column of the recordings, or of their file names, in tables where it has no usual name
    #[arg(long)]
    audio_column: Option<String>,
    /// Captions of other columns for tracks that have none, such as "{genre}, {mood}, {tempo} bpm"; a part between commas
    /// is left out where a column of it is empty [default: the usual columns of genre, mood, instruments, tempo, key]
    #[arg(long, value_name = "TEMPLATE")]
    caption_template: Option<String>,
    /// Take rows that a table itself marks as not valid (Song Describer's is_valid_subset)
    #[arg(long)]
    keep_invalid: bool,
    /// Stop at the first file or row that cannot be used
    #[arg(long)]
    strict: bool,
    /// Remove shards of tracks that the sources no longer hold
    #[arg(long)]
    prune: bool,
}

/// Runs `prepare`; `stop` is set by Ctrl-C. The result is the exit code.
///
/// # Errors
/// As [`prepare`] and [`check`]; each is one line.
pub fn run(args: &PrepareArgs, stop: &AtomicBool) -> Result<u8> {
    let config = DatasetConfig { representation: args.representation_config()?, cut: args.cut_config() };
    if let Some(seconds) = args.seconds {
        let RepresentationConfig { image: [_, width], hop, sample_rate, .. } = config.representation;
        let actual = (width * hop) as f64 / f64::from(sample_rate);
        eprintln!(
            "--seconds {seconds}: {width} frames (a multiple of {WIDTH_MULTIPLE}), {actual:.2} s a segment"
        );
    }
    let progress = PrepareProgress::default();
    let sources = resolve(&args.source, &HubSettings::from_env(), stop, &progress)?;
    let Some(out) = args.out.clone().filter(|_| !args.check) else {
        let tables = args.table_options()?;
        return look_over(&CheckOptions { sources, tables, config }, args.json.as_deref(), stop, progress);
    };
    let options = PrepareOptions {
        sources,
        out,
        config,
        validation: args.validation,
        tables: args.table_options()?,
        strict: args.strict,
        prune: args.prune,
    };
    let start = Instant::now();
    let prepared = prepare(&options, stop, &progress);
    drop(progress);
    let summary = prepared.map_err(with_typed_key)?;
    let elapsed_seconds = start.elapsed().as_secs_f64();
    let speed = summary.encoded_seconds / elapsed_seconds;
    print(format!(
        "{summary}\n{elapsed_seconds:.1} s, {speed:.0} seconds of audio a second; data set in {}\n",
        options.out.display()
    ))?;
    Ok(0)
}

/// `--check`: a table on stdout, all of it in `json`. 1 if there is a problem.
fn look_over(
    options: &CheckOptions,
    json: Option<&Path>,
    stop: &AtomicBool,
    progress: PrepareProgress,
) -> Result<u8> {
    let health = check(options, stop, &progress);
    drop(progress);
    let health = health.map_err(with_typed_key)?;
    if let Some(path) = json {
        write_bytes_atomic(path, format!("{}\n", serde_json::to_string_pretty(&health)?).as_bytes())?;
    }
    print(format!("{health}\n"))?;
    Ok(u8::from(health.problems() > 0))
}

impl PrepareArgs {
    /// The preset's representation, changed by the flags that were given.
    fn representation_config(&self) -> Result<RepresentationConfig> {
        let base = self.base_representation()?;
        let representation = base.representation;
        let n_fft = self.n_fft.unwrap_or(base.n_fft);
        let hop = self.hop.unwrap_or(base.hop);
        let sample_rate = self.sample_rate.unwrap_or(base.sample_rate);
        let mel_bands = self.mel_bands.unwrap_or(base.mel_bands);
        let height = match representation {
            Kind::Seed => base.image[0],
            Kind::Mel => mel_bands,
            Kind::Complex | Kind::Logmag => n_fft / 2,
        };
        let rounded = |seconds| width_of(seconds, sample_rate, hop);
        let width = self.seconds.map(rounded).transpose()?.or(self.width);
        Ok(RepresentationConfig {
            representation,
            sample_rate,
            mix: self.mix.map_or(base.mix, Mix::from),
            image: [height, width.unwrap_or(base.image[1])],
            n_fft,
            hop,
            window: self.window.map_or(base.window, Window::from),
            mel_bands,
            compression: self.compression.unwrap_or(base.compression),
            ..base
        })
    }

    /// The preset's with `--config`, `--set` and `--representation`. Another kind than the preset's that is the
    /// seed's brings the seed's lengths, unless they are set.
    fn base_representation(&self) -> Result<RepresentationConfig> {
        let mut overrides = self.config.overrides()?;
        if let Some(kind) = self.representation.map(Kind::from) {
            overrides.add_setting(&format!("data.representation={kind:?}").to_lowercase())?;
        }
        let data = self.config.resolve(&overrides)?.data;
        let presets = self.config.resolve(&Overrides::default())?.data;
        if data.representation == Kind::Seed && presets.representation != Kind::Seed {
            return Ok(Config::resolve("seed", &overrides)?.data);
        }
        Ok(data)
    }

    fn table_options(&self) -> Result<TableOptions> {
        let template = self.caption_template.as_deref().map(Template::parse).transpose();
        Ok(TableOptions {
            audio_column: self.audio_column.clone(),
            caption_column: self.caption_column.clone(),
            caption_template: template.map_err(|problem| Error::config("--caption-template", problem))?,
            keep_invalid: self.keep_invalid,
        })
    }

    fn cut_config(&self) -> CutConfig {
        CutConfig {
            overlap: self.segments_overlap,
            max_segments_per_track: self.max_segments_per_track,
            storage: match self.storage {
                StorageArg::F16 => Storage::F16,
                StorageArg::F32 => Storage::F32,
            },
        }
    }
}

/// The frames nearest to `--seconds`.
fn width_of(seconds: f64, sample_rate: u32, hop: usize) -> Result<usize> {
    let longest = MAX_SEGMENT_SAMPLES as f64 / f64::from(sample_rate.max(1));
    let is_possible = seconds > 0.0 && seconds <= longest;
    if !is_possible {
        let problem = format!("must be above 0 and at most {longest:.0} at {sample_rate} Hz, is {seconds:?}");
        return Err(Error::config("--seconds", problem).into());
    }
    let frames = seconds * f64::from(sample_rate) / hop.max(1) as f64;
    let multiples = (frames / WIDTH_MULTIPLE as f64).round() as usize;
    Ok(multiples.max(1).saturating_mul(WIDTH_MULTIPLE))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindArg {
    Complex,
    Logmag,
    Mel,
    Seed,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Complex => Kind::Complex,
            KindArg::Logmag => Kind::Logmag,
            KindArg::Mel => Kind::Mel,
            KindArg::Seed => Kind::Seed,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WindowArg {
    Hann,
    Hamming,
    Blackman,
}

impl From<WindowArg> for Window {
    fn from(window: WindowArg) -> Self {
        match window {
            WindowArg::Hann => Window::Hann,
            WindowArg::Hamming => Window::Hamming,
            WindowArg::Blackman => Window::Blackman,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum MixArg {
    Mono,
    Stereo,
}

impl From<MixArg> for Mix {
    fn from(mix: MixArg) -> Self {
        match mix {
            MixArg::Mono => Mix::Mono,
            MixArg::Stereo => Mix::Stereo,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StorageArg {
    F16,
    F32,
}

/// A meter for the phase under way.
#[derive(Default)]
pub struct PrepareProgress(Mutex<Option<Meter>>);

impl PrepareProgress {
    fn meter(&self) -> MutexGuard<'_, Option<Meter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress for PrepareProgress {
    fn begin(&self, phase: Phase, files: usize, bytes: u64) {
        let what = match phase {
            Phase::Download => "downloading",
            Phase::Check => "looking over",
            Phase::Identify => "reading",
            Phase::Verify => "checking what is there of",
            Phase::Encode => "encoding",
        };
        let mut meter = self.meter();
        // The bar before goes first.
        *meter = None;
        *meter = Some(Meter::new(format!("{what} {files} files of {}", human_bytes(bytes)), bytes));
    }

    fn notice(&self, text: &str) {
        *self.meter() = None;
        eprintln!("note: {text}");
    }

    fn advance(&self, bytes: u64) {
        if let Some(meter) = self.meter().as_mut() {
            meter.advance_by(bytes);
        }
    }
}
