//! WAV files, and how they were made.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use hound::{SampleFormat, WavReader};
use serde_json::{Value, json};

use super::{Report, duration};
use crate::audio::riff;
use crate::audio::wav::{SoundCheck, read_recipe};
use crate::error::{Error, Result};

/// Samples listened to, at most (25 minutes of stereo at 44.1 kHz): bounds memory.
const SAMPLES_HEARD: u64 = 1 << 27;
/// No description of a sound's format is longer.
const MAX_FORMAT_BYTES: u32 = 1 << 12;
/// Facts of a recipe that are shown, in this order; the configuration would fill the screen.
const RECIPE_KEYS: [&str; 9] =
    ["version", "checkpoint", "weights", "step", "seed", "number", "sampler", "sampler_steps", "ema"];

pub(super) fn inspect(path: &Path) -> Result<Report> {
    let mut report = Report::new("sound", path);
    let damaged =
        |error: hound::Error| Error::format(path, format!("is not a WAV file that can be read: {error}"));
    let (sound, warning) = open(path)?;
    report.problems.extend(warning);
    let mut reader = WavReader::new(sound).map_err(damaged)?;
    let spec = reader.spec();
    let frames = reader.duration();
    let seconds = f64::from(frames) / f64::from(spec.sample_rate.max(1));
    report.add("length", duration(seconds), json!(seconds));
    report.add("sample rate", format!("{} Hz", spec.sample_rate), spec.sample_rate);
    report.add("channels", spec.channels.to_string(), spec.channels);
    let kind = match spec.sample_format {
        SampleFormat::Int => "integers",
        SampleFormat::Float => "floating point",
    };
    report.add("samples", format!("{}-bit {kind}", spec.bits_per_sample), spec.bits_per_sample);
    let heard = usize::try_from(SAMPLES_HEARD.min(u64::from(reader.len()))).unwrap_or(usize::MAX);
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => {
            reader.samples::<f32>().take(heard).collect::<Result<_, _>>().map_err(damaged)?
        }
        SampleFormat::Int => {
            let full_scale = 2f32.powi(i32::from(spec.bits_per_sample) - 1);
            let samples = reader.samples::<i32>().take(heard);
            samples.map(|x| x.map(|x| x as f32 / full_scale)).collect::<Result<_, _>>().map_err(damaged)?
        }
    };
    describe_level(&mut report, samples, u64::from(frames) * u64::from(spec.channels));
    describe_recipe(&mut report, read_recipe(path)?);
    Ok(report)
}

/// The sound with a header of its own, and what is wrong with the file's: hound loses its way where a chunk has an odd
/// length or lies about it, so that it gets nothing but the two chunks that matter.
fn open(path: &Path) -> Result<(impl Read, Option<String>)> {
    let failed = |error| Error::io("read", path)(error);
    let mut file = File::open(path).map_err(failed)?;
    let length_bytes = file.metadata().map_err(failed)?.len();
    let (riff_bytes, chunks) = riff::chunks(&mut file, length_bytes).map_err(failed)?.unwrap_or_default();
    let find = |name: &[u8; 4]| {
        let lacks = || {
            let name = String::from_utf8_lossy(name).trim_end().to_string();
            Error::format(path, format!("is not a WAV file that can be read: it has no `{name}` chunk"))
        };
        chunks.iter().find(|chunk| &chunk.name == name).ok_or_else(lacks)
    };
    let (format, data) = (find(b"fmt ")?, find(b"data")?);
    if format.bytes > MAX_FORMAT_BYTES {
        return Err(Error::format(path, "is not a WAV file that can be read: its `fmt` chunk is damaged"));
    }
    let mut description = vec![0; format.bytes as usize];
    let read = file.seek(SeekFrom::Start(format.at)).and_then(|_| file.read_exact(&mut description));
    read.and_then(|()| file.seek(SeekFrom::Start(data.at))).map_err(failed)?;
    let (present, warning) = data.present(riff_bytes, length_bytes);
    let frame_bytes = description.get(12..14).map_or(1, |b| u32::from(u16::from_le_bytes([b[0], b[1]])));
    let whole = present - present % frame_bytes.max(1);
    let header = [
        &b"RIFF"[..],
        &u32::MAX.to_le_bytes(),
        b"WAVEfmt ",
        &format.bytes.to_le_bytes(),
        &description,
        b"data",
        &whole.to_le_bytes(),
    ]
    .concat();
    Ok((Cursor::new(header).chain(BufReader::new(file)), warning))
}

fn describe_level(report: &mut Report, samples: Vec<f32>, total: u64) {
    let partly = if (samples.len() as u64) < total { " (of the beginning)" } else { "" };
    let check = SoundCheck::of(&[samples]);
    report.add(
        "level",
        format!("{:.1} dBFS, peak {}{partly}", check.rms_dbfs, check.peak_text()),
        json!({ "rms_dbfs": check.rms_dbfs, "peak": check.peak }),
    );
    report.add("clipping", format!("{} of samples", check.clipped_text()), check.clipped_fraction);
    report.problems.extend(check.complaints());
}

fn describe_recipe(report: &mut Report, recipe: Option<String>) {
    let Some(text) = recipe else {
        report.add("recipe", "none: not made by dit-engine, or changed since", Value::Null);
        return;
    };
    match serde_json::from_str::<Value>(&text) {
        Ok(recipe) => {
            let known = RECIPE_KEYS.iter().filter_map(|key| recipe.get(key).map(|value| (key, value)));
            let words = known.map(|(key, value)| match value {
                Value::String(word) if word.is_empty() => format!("{key} none"),
                Value::String(word) => format!("{key} {word}"),
                other => format!("{key} {other}"),
            });
            let text = words.collect::<Vec<_>>().join(", ").replace('_', " ");
            report.add("recipe", text, recipe);
        }
        Err(error) => {
            report.add("recipe", "damaged", Value::Null);
            report.problems.push(format!("its recipe cannot be read: {error}"));
        }
    }
}
