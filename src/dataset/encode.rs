//! One track into one shard.

use std::path::Path;

use super::config::DatasetConfig;
use super::identify::Failure;
use super::prepare::Progress;
use super::segments::Cutter;
use super::shard::{Shard, ShardFacts, ShardWriter};
use super::sources::SourceTrack;
use super::text::clean;
use crate::audio::AudioReader;
use crate::audio::representation::{Representation, build};
use crate::error::{Error, Result};

/// Segments below this RMS (-60 dBFS) are left out: there is nothing in them to learn.
const NEAR_SILENCE_RMS: f64 = 1e-3;
/// Decoder warnings kept a track, and characters kept of each: they live in the shard's header.
const MAX_WARNINGS: usize = 12;
const MAX_WARNING_CHARS: usize = 200;
/// Characters kept of a tag.
const MAX_TAG_CHARS: usize = 200;

/// Encodes tracks one after another; each thread has its own.
pub(super) struct Encoder {
    config: DatasetConfig,
    config_fingerprint: String,
    representation: Box<dyn Representation>,
    /// Planar sound of the segment at hand.
    sound: Vec<Vec<f32>>,
}

impl Encoder {
    pub fn new(config: &DatasetConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            config_fingerprint: config.fingerprint(),
            representation: build(&config.representation)?,
            sound: Vec::new(),
        })
    }

    /// `[C, H, W]` of a segment.
    pub fn shape(&self) -> [usize; 3] {
        [self.representation.channels(), self.representation.height(), self.representation.width()]
    }

    /// Decodes, cuts and encodes `track` into the shard at `path`. A track without a segment (all near
    /// silence) still gets a shard, so that the next run need not decode it to know.
    pub fn encode(
        &mut self,
        track: &SourceTrack,
        content: &str,
        path: &Path,
        is_stopped: &dyn Fn() -> bool,
        progress: &dyn Progress,
    ) -> Result<Shard, Failure> {
        let representation = &self.config.representation;
        let input = track.input().map_err(Failure::of_reading)?;
        let mut reader = AudioReader::open_input(&input, representation.sample_rate, representation.mix)
            .map_err(Failure::of_reading)?;
        let mut meter = Meter::new(track.sound_bytes(), &reader, representation.sample_rate, progress);
        let segment_samples = self.representation.segment_samples();
        let mut cutter = Cutter::new(&self.config.cut, segment_samples, meter.total_samples);
        let mut writer =
            ShardWriter::create(path, self.shape(), self.config.cut.storage).map_err(Failure::Fatal)?;
        let mut silent_segments = 0;
        loop {
            if is_stopped() {
                return Err(Failure::Fatal(Error::Interrupted));
            }
            let next = cutter.next(&mut reader, is_stopped, &mut self.sound).map_err(Failure::of_reading)?;
            let Some(samples) = next else { break };
            meter.reached(cutter.read_samples);
            if root_mean_square(&self.sound, samples) < NEAR_SILENCE_RMS {
                silent_segments += 1;
                continue;
            }
            let image = self.representation.encode(&self.sound).map_err(Failure::of_reading)?;
            if !image.iter().all(|value| value.is_finite()) {
                return Err(Failure::Skip("its spectrogram is not finite".to_string()));
            }
            writer.push(&image).map_err(Failure::Fatal)?;
        }
        if cutter.read_samples == 0 {
            return Err(Failure::Skip("holds no sound".to_string()));
        }
        let milliseconds = cutter.read_samples * 1000 / u64::from(representation.sample_rate);
        let seconds = milliseconds as f64 / 1000.0;
        let facts = self.facts(content, &reader, seconds, silent_segments);
        writer.finish(&facts).map_err(Failure::Fatal)?;
        Shard::open(path).map_err(Failure::Fatal)
    }

    fn facts(&self, content: &str, reader: &AudioReader, seconds: f64, silent_segments: usize) -> ShardFacts {
        let info = reader.info();
        let tag = |tag: &Option<String>| {
            let text: Option<String> =
                tag.as_ref().map(|tag| clean(tag).chars().take(MAX_TAG_CHARS).collect());
            text.filter(|text| !text.is_empty())
        };
        let warnings = reader.warnings().iter().take(MAX_WARNINGS);
        ShardFacts {
            content: content.to_string(),
            config: self.config_fingerprint.clone(),
            seconds,
            codec: info.codec.clone(),
            sample_rate: info.sample_rate,
            channels: info.channels,
            silent_segments,
            warnings: warnings.map(|text| clean(text).chars().take(MAX_WARNING_CHARS).collect()).collect(),
            title: tag(&info.title),
            artist: tag(&info.artist),
            genre: tag(&info.genre),
            licence: tag(&info.licence),
            crc32c: 0,
        }
    }
}

/// Tells the progress how many of a track's bytes are done, by the part of its declared length; the rest when
/// the track ends, however it ends.
struct Meter<'a> {
    progress: &'a dyn Progress,
    bytes: u64,
    told_bytes: u64,
    /// Length by the file's header, at the target rate.
    total_samples: Option<f64>,
}

impl<'a> Meter<'a> {
    fn new(bytes: u64, reader: &AudioReader, rate: u32, progress: &'a dyn Progress) -> Self {
        let total_samples = reader.info().declared_seconds.map(|seconds| seconds * f64::from(rate));
        Self { progress, bytes, told_bytes: 0, total_samples }
    }

    fn reached(&mut self, samples: u64) {
        let Some(total) = self.total_samples.filter(|&total| total >= 1.0) else { return };
        let done_bytes = (samples as f64 / total * self.bytes as f64) as u64;
        self.tell(done_bytes.min(self.bytes));
    }

    fn tell(&mut self, done_bytes: u64) {
        if done_bytes > self.told_bytes {
            self.progress.advance(done_bytes - self.told_bytes);
            self.told_bytes = done_bytes;
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.tell(self.bytes);
    }
}

/// Over all channels of the first `samples` samples.
fn root_mean_square(sound: &[Vec<f32>], samples: usize) -> f64 {
    let squares: f64 =
        sound.iter().flat_map(|channel| &channel[..samples]).map(|&x| f64::from(x) * f64::from(x)).sum();
    (squares / (samples * sound.len()).max(1) as f64).sqrt()
}
