//! Any audio file as mixed, resampled f32 sound, streamed in bounded memory.

use std::path::{Path, PathBuf};

use super::config::Mix;
use super::input::Input;
use super::mix::Mixer;
use super::resample::Resampler;
use super::source::Source;
use crate::error::{Error, Result};

/// Samples of all channels together that are looked at before the mix is decided: 24 s of CD sound, 8 MiB.
const LOOK_AHEAD_SAMPLES: usize = 1 << 21;
/// Peaks of a float recording up to this are left alone (decoders of lossy formats overshoot); above, the
/// recording was never meant to be played at this level and is scaled down as a whole.
const LOUDEST_PEAK: f32 = 4.0;

/// What a file says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceInfo {
    /// Short name of the codec: "mp3", "vorbis", "pcm_s16le".
    pub codec: String,
    /// Short name of the container: "wave", "ogg", "isomp4".
    pub container: String,
    /// The source's sample rate in hertz.
    pub sample_rate: u32,
    /// The source's channels.
    pub channels: usize,
    /// Length by the header, in seconds; it may be wrong, and some formats do not say.
    pub declared_seconds: Option<f64>,
    /// Title tag.
    pub title: Option<String>,
    /// Artist tag.
    pub artist: Option<String>,
    /// Album tag.
    pub album: Option<String>,
    /// Genre tag.
    pub genre: Option<String>,
    /// Licence tag.
    pub licence: Option<String>,
}

/// Decoded sound in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio {
    /// Planar samples, every channel equally long, full scale is 1.
    pub channels: Vec<Vec<f32>>,
    /// In hertz.
    pub sample_rate: u32,
}

/// Reads one file from beginning to end.
pub struct AudioReader {
    path: PathBuf,
    source: Source,
    mixer: Mixer,
    resampler: Option<Resampler>,
    /// Blocks decoded by the look-ahead and not mixed yet.
    ahead: std::collections::VecDeque<Vec<Vec<f32>>>,
    planes: Vec<Vec<f32>>,
    mixed: Vec<Vec<f32>>,
    /// Finished sound that the caller has not taken yet, and how much of it is taken.
    ready: Vec<Vec<f32>>,
    taken_frames: usize,
    gain: f32,
    ended: bool,
}

impl AudioReader {
    /// Opens `path`, whatever its name says it is, to be read at `target_rate` hertz as `mix`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses; [`Error::Audio`] with the reason if the file is no regular file,
    /// no audio, of a kind that has no decoder, without samples, or with samples that are no sound.
    pub fn open(path: &Path, target_rate: u32, mix: Mix) -> Result<Self> {
        Self::open_input(&Input::file(path), target_rate, mix)
    }

    /// [`open`](Self::open) for what need not be a file of its own.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_input(input: &Input, target_rate: u32, mix: Mix) -> Result<Self> {
        let path = input.path();
        let mut source = Source::open(input)?;
        let gain = safe_gain(input, &mut source)?;
        let ahead = look_ahead(path, &mut source)?;
        let mut mixer = Mixer::new(source.channels(), mix);
        if mixer.avoid_cancellation(&joined(&ahead)) {
            source.warnings.push("its channels cancel each other in mono; used the louder one alone".into());
        }
        let rate = source.info.sample_rate;
        let resampler = (rate != target_rate)
            .then(|| Resampler::new(rate, target_rate, mixer.outputs()))
            .transpose()
            .map_err(|reason| {
                Error::audio(path, format!("cannot be resampled to {target_rate} Hz: {reason}"))
            })?;
        let outputs = mixer.outputs();
        Ok(Self {
            path: path.to_path_buf(),
            source,
            mixer,
            resampler,
            ahead: ahead.into(),
            planes: Vec::new(),
            mixed: vec![Vec::new(); outputs],
            ready: vec![Vec::new(); outputs],
            taken_frames: 0,
            gain,
            ended: false,
        })
    }

    /// Appends up to `frames` frames to `out` (one vector a channel; an empty `out` gets its channels) and
    /// returns how many; fewer than asked only at the end, 0 = end.
    ///
    /// # Errors
    /// [`Error::Audio`] if the file turns out to hold what is no sound, [`Error::Shape`] if `out` has another
    /// number of channels than the mix.
    pub fn read(&mut self, frames: usize, out: &mut Vec<Vec<f32>>) -> Result<usize> {
        if out.is_empty() {
            out.resize(self.ready.len(), Vec::new());
        }
        if out.len() != self.ready.len() {
            let expected = format!("{} channels", self.ready.len());
            return Err(Error::shape("AudioReader::read", expected, out.len().to_string()));
        }
        let mut appended = 0;
        while appended < frames {
            if self.taken_frames == self.ready[0].len() && !self.advance()? {
                break;
            }
            let count = (frames - appended).min(self.ready[0].len() - self.taken_frames);
            let range = self.taken_frames..self.taken_frames + count;
            out.iter_mut()
                .zip(&self.ready)
                .for_each(|(out, ready)| out.extend_from_slice(&ready[range.clone()]));
            self.taken_frames += count;
            appended += count;
        }
        Ok(appended)
    }

    /// What the file says about itself.
    pub fn info(&self) -> &SourceInfo {
        &self.source.info
    }

    /// What the user should know: a file cut short, damaged packets, a stream that changed in the middle.
    /// Complete once [`read`](Self::read) has returned 0.
    pub fn warnings(&self) -> &[String] {
        &self.source.warnings
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes `ready` from the next block. `false` when there is none.
    fn advance(&mut self) -> Result<bool> {
        self.ready.iter_mut().for_each(Vec::clear);
        self.taken_frames = 0;
        while self.ready[0].is_empty() {
            if self.ended {
                return Ok(false);
            }
            self.mixed.iter_mut().for_each(Vec::clear);
            let more = match self.ahead.pop_front() {
                Some(planes) => {
                    self.planes = planes;
                    true
                }
                None => self.source.next_block(&mut self.planes)?,
            };
            if more {
                self.mixer.mix_into(&self.planes, &mut self.mixed);
                self.mixed.iter_mut().flatten().for_each(|sample| *sample *= self.gain);
            }
            self.ended = !more;
            match &mut self.resampler {
                None => std::mem::swap(&mut self.ready, &mut self.mixed),
                Some(resampler) if more => resampler.push(&self.mixed, &mut self.ready),
                Some(resampler) => resampler.finish(&mut self.ready),
            }
        }
        Ok(true)
    }
}

/// Reads `path` whole, or its first `max_seconds`, with its warnings dropped.
///
/// # Errors
/// As [`AudioReader::open`] and [`AudioReader::read`].
pub fn load(path: &Path, sample_rate: u32, mix: Mix, max_seconds: Option<f64>) -> Result<Audio> {
    let mut reader = AudioReader::open(path, sample_rate, mix)?;
    let limit = max_seconds.map_or(usize::MAX, |seconds| (seconds * f64::from(sample_rate)).round() as usize);
    let mut channels = Vec::new();
    reader.read(limit, &mut channels)?;
    Ok(Audio { channels, sample_rate })
}

/// The gain that brings a float recording of absurd level to full scale, else 1. Uncompressed float files
/// alone can hold such levels; they are cheap to read, so they are read once through to know.
fn safe_gain(input: &Input, source: &mut Source) -> Result<f32> {
    if !source.info.codec.starts_with("pcm_f") {
        return Ok(1.0);
    }
    let mut scan = Source::open(input)?;
    let (mut peak, mut planes) = (0.0f32, Vec::new());
    while scan.next_block(&mut planes)? {
        peak = planes.iter().flatten().fold(peak, |peak, sample| peak.max(sample.abs()));
    }
    if peak <= LOUDEST_PEAK {
        return Ok(1.0);
    }
    source.warnings.push(format!("its samples reach {peak:.1} (full scale is 1); scaled down to full scale"));
    Ok(1.0 / peak)
}

/// The beginning, which decides the mix; at least one block.
fn look_ahead(path: &Path, source: &mut Source) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut blocks = Vec::new();
    let mut samples = 0;
    let mut planes: Vec<Vec<f32>> = Vec::new();
    while samples < LOOK_AHEAD_SAMPLES && source.next_block(&mut planes)? {
        samples += planes.iter().map(Vec::len).sum::<usize>();
        blocks.push(std::mem::take(&mut planes));
    }
    if blocks.is_empty() {
        return Err(Error::audio(path, "holds no samples that can be decoded"));
    }
    Ok(blocks)
}

fn joined(blocks: &[Vec<Vec<f32>>]) -> Vec<Vec<f32>> {
    let channels = blocks.first().map_or(0, Vec::len);
    (0..channels).map(|channel| blocks.iter().flat_map(|block| &block[channel]).copied().collect()).collect()
}
