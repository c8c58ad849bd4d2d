//! WAV files out, with the recipe that made them inside; and what there is to say about a sound.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::riff::{self, Chunk};
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// The chunk that carries the recipe (JSON, UTF-8). Players skip chunks that they do not know.
const RECIPE_CHUNK: &[u8; 4] = b"DiTr";
/// Longest recipe that is read back, in bytes.
const MAX_RECIPE_BYTES: u32 = 1 << 20;
/// From here on a 16-bit sample is at its limit.
const FULL_SCALE: f32 = 1.0;
/// RMS below which a sound is silent: -80 dBFS.
const SILENT_RMS_DBFS: f32 = -80.0;
const FORMAT_PCM: u16 = 1;
const FORMAT_FLOAT: u16 = 3;

/// How samples are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SampleFormat {
    /// 16-bit integers, rounded, clipped at full scale.
    #[default]
    Pcm16,
    /// 32-bit floating point, unchanged.
    Float32,
}

/// What is written beside the sound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WavNotes {
    /// For people: players show it as the comment (ICMT).
    pub comment: Option<String>,
    /// The program and its version (ISFT).
    pub software: Option<String>,
    /// For [`read_recipe`]: how this sound was made, as JSON.
    pub recipe: Option<String>,
}

/// Writes `channels` (planar, equally long, full scale 1) at `sample_rate` hertz, atomically. Equal input
/// gives equal bytes.
///
/// # Errors
/// [`Error::Shape`] for no channels or unequal lengths, [`Error::Format`] beyond 4 GB, [`Error::Io`].
pub fn write(
    path: &Path,
    channels: &[Vec<f32>],
    sample_rate: u32,
    format: SampleFormat,
    notes: &WavNotes,
) -> Result<()> {
    let frames = channels.first().map_or(0, Vec::len);
    if channels.is_empty()
        || channels.len() > usize::from(u16::MAX)
        || channels.iter().any(|c| c.len() != frames)
    {
        let got: Vec<usize> = channels.iter().map(Vec::len).collect();
        return Err(Error::shape("write WAV", "channels of equal length", format!("{got:?}")));
    }
    let notes = notes.chunks();
    let header = header(channels.len(), sample_rate, format);
    let data_bytes = frames as u64 * channels.len() as u64 * u64::from(format.bytes());
    let riff_bytes = 4 + header.len() as u64 + notes.len() as u64 + 8 + data_bytes;
    let riff_bytes = u32::try_from(riff_bytes)
        .map_err(|_| Error::format(path, "the sound is longer than a WAV file can hold (4 GB)"))?;
    write_atomic(path, |out| {
        out.write_all(b"RIFF")?;
        out.write_all(&riff_bytes.to_le_bytes())?;
        out.write_all(b"WAVE")?;
        out.write_all(&header)?;
        out.write_all(&notes)?;
        out.write_all(b"data")?;
        out.write_all(&(data_bytes as u32).to_le_bytes())?;
        // Both formats have an even number of bytes a sample: no padding.
        write_samples(out, channels, format)
    })
}

/// The recipe that [`write()`] put into a WAV file; `None` if there is none.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] if the file is no WAV file or the recipe is no text.
pub fn read_recipe(path: &Path) -> Result<Option<String>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let length_bytes = file.metadata().map_err(Error::io("read", path))?.len();
    let Some((_, chunks)) = riff::chunks(&mut file, length_bytes).map_err(Error::io("read", path))? else {
        return Err(Error::format(path, "is not a WAV file"));
    };
    let is_recipe = |chunk: &&Chunk| &chunk.name == RECIPE_CHUNK && chunk.bytes <= MAX_RECIPE_BYTES;
    let Some(chunk) = chunks.iter().find(is_recipe) else { return Ok(None) };
    let mut recipe = vec![0; chunk.bytes as usize];
    let read = file.seek(SeekFrom::Start(chunk.at)).and_then(|_| file.read_exact(&mut recipe));
    read.map_err(Error::io("read", path))?;
    let recipe = String::from_utf8(recipe).map_err(|_| Error::format(path, "its recipe is not UTF-8"))?;
    Ok(Some(recipe.trim_end().to_string()))
}

impl SampleFormat {
    fn bytes(self) -> u16 {
        match self {
            SampleFormat::Pcm16 => 2,
            SampleFormat::Float32 => 4,
        }
    }
}

impl WavNotes {
    fn chunks(&self) -> Vec<u8> {
        let mut info = b"INFO".to_vec();
        for (name, value) in [(b"ICMT", &self.comment), (b"ISFT", &self.software)] {
            if let Some(value) = value {
                // INFO values are NUL-terminated.
                append_chunk(&mut info, name, &[value.as_bytes(), &[0]].concat());
            }
        }
        let mut chunks = Vec::new();
        if info.len() > 4 {
            append_chunk(&mut chunks, b"LIST", &info);
        }
        if let Some(recipe) = &self.recipe {
            // An even length, in JSON's own white space: some readers forget the byte behind an odd chunk.
            let padding = if recipe.len().is_multiple_of(2) { "" } else { " " };
            append_chunk(&mut chunks, RECIPE_CHUNK, [recipe, padding].concat().as_bytes());
        }
        chunks
    }
}

/// Name, size, content, and the byte that keeps the next chunk at an even position.
fn append_chunk(out: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(content);
    if !content.len().is_multiple_of(2) {
        out.push(0);
    }
}

fn header(channels: usize, sample_rate: u32, format: SampleFormat) -> Vec<u8> {
    let channels = channels as u16;
    let tag = match format {
        SampleFormat::Pcm16 => FORMAT_PCM,
        SampleFormat::Float32 => FORMAT_FLOAT,
    };
    let frame_bytes = channels.saturating_mul(format.bytes());
    let mut content = Vec::new();
    content.extend_from_slice(&tag.to_le_bytes());
    content.extend_from_slice(&channels.to_le_bytes());
    content.extend_from_slice(&sample_rate.to_le_bytes());
    content.extend_from_slice(&sample_rate.saturating_mul(frame_bytes.into()).to_le_bytes());
    content.extend_from_slice(&frame_bytes.to_le_bytes());
    content.extend_from_slice(&(8 * format.bytes()).to_le_bytes());
    let mut header = Vec::new();
    append_chunk(&mut header, b"fmt ", &content);
    header
}

fn write_samples(out: &mut dyn Write, channels: &[Vec<f32>], format: SampleFormat) -> std::io::Result<()> {
    for frame in 0..channels[0].len() {
        for channel in channels {
            match format {
                SampleFormat::Pcm16 => out.write_all(&pcm16(channel[frame]).to_le_bytes())?,
                SampleFormat::Float32 => out.write_all(&channel[frame].to_le_bytes())?,
            }
        }
    }
    Ok(())
}

/// Rounded to the nearest step; `as` saturates at full scale and makes 0 of NaN.
fn pcm16(sample: f32) -> i16 {
    (sample * 32767.0).round() as i16
}

/// What there is to say about a sound before it is handed to somebody.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoundCheck {
    /// Largest magnitude of a finite sample; full scale is 1.
    pub peak: f32,
    /// Level of the finite samples over all channels, in dB below a full-scale square wave; -inf for
    /// digital silence.
    pub rms_dbfs: f32,
    /// Share of samples at or above full scale.
    pub clipped_fraction: f32,
    /// No samples, or a level below -80 dBFS.
    pub silent: bool,
    /// Samples that are NaN or infinite.
    pub non_finite: usize,
}

impl SoundCheck {
    /// Looks at all samples of all channels.
    pub fn of(channels: &[Vec<f32>]) -> Self {
        let samples = || channels.iter().flatten().copied();
        let finite = || samples().filter(|sample| sample.is_finite());
        let total = samples().count();
        let square_sum: f64 = finite().map(|sample| f64::from(sample).powi(2)).sum();
        let mean_square = square_sum / finite().count().max(1) as f64;
        let rms_dbfs = (10.0 * mean_square.log10()) as f32;
        let clipped = finite().filter(|sample| sample.abs() >= FULL_SCALE).count();
        Self {
            peak: finite().fold(0.0, |peak, sample| peak.max(sample.abs())),
            rms_dbfs,
            clipped_fraction: clipped as f32 / total.max(1) as f32,
            silent: rms_dbfs < SILENT_RMS_DBFS,
            non_finite: total - finite().count(),
        }
    }

    /// What is wrong, in words for the user; empty for a sound that is fine.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.non_finite > 0 {
            complaints.push(format!("{} samples are NaN or infinite", self.non_finite));
        }
        if self.silent {
            complaints.push(format!("silent ({:.0} dBFS)", self.rms_dbfs));
        }
        if self.clipped_fraction > 0.0 {
            complaints.push(format!("{} of samples clip (peak {})", self.clipped_text(), self.peak_text()));
        }
        complaints
    }

    /// The share of clipped samples for people: `1.25%`, `less than 0.01%`.
    pub fn clipped_text(&self) -> String {
        match 100.0 * self.clipped_fraction {
            percent if percent > 0.0 && percent < 0.01 => "less than 0.01%".to_string(),
            percent => format!("{percent:.2}%"),
        }
    }

    /// The peak for people: `0.500`, `1.0e30`.
    pub fn peak_text(&self) -> String {
        if self.peak < 1000.0 { format!("{:.3}", self.peak) } else { format!("{:.1e}", self.peak) }
    }
}
