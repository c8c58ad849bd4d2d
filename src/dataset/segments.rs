//! A track cut into segments of one image each, from a stream: memory holds one segment, whatever the track.

use super::config::CutConfig;
use crate::audio::AudioReader;
use crate::error::{Error, Result};

/// Cuts what a reader gives.
pub(super) struct Cutter {
    segment_samples: usize,
    hop_samples: usize,
    max_segments: usize,
    /// Segments given so far.
    given: usize,
    /// Samples of the window that an earlier segment held too.
    carried_samples: usize,
    /// Planar samples from where the next segment begins.
    window: Vec<Vec<f32>>,
    /// Samples read from the stream.
    pub read_samples: u64,
    ended: bool,
}

impl Cutter {
    /// `total_samples` is the track's length where its header tells it: with `max_segments_per_track` the
    /// segments are then spread over the whole track, else they are its first ones.
    pub fn new(config: &CutConfig, segment_samples: usize, total_samples: Option<f64>) -> Self {
        let hop_samples = (segment_samples as f64 * (1.0 - config.overlap)).round() as usize;
        let max_segments = config.max_segments_per_track.unwrap_or(usize::MAX);
        let spread_samples = match (config.max_segments_per_track, total_samples) {
            (Some(max), Some(total)) => (total / max.max(1) as f64) as usize,
            _ => 0,
        };
        Self {
            segment_samples,
            hop_samples: hop_samples.max(spread_samples).max(1),
            max_segments,
            given: 0,
            carried_samples: 0,
            window: Vec::new(),
            read_samples: 0,
            ended: false,
        }
    }

    /// Puts the next segment into `segment` (planar, each channel `segment_samples` long, padded with silence)
    /// and returns how many of its samples are sound; `None` at the end. A last piece shorter than a segment
    /// counts if half of it is new sound, or if it is all there is.
    ///
    /// # Errors
    /// What the reader says, and [`Error::Interrupted`].
    pub fn next(
        &mut self,
        reader: &mut AudioReader,
        is_stopped: &dyn Fn() -> bool,
        segment: &mut Vec<Vec<f32>>,
    ) -> Result<Option<usize>> {
        if self.given == self.max_segments {
            return Ok(None);
        }
        if self.given > 0 {
            self.advance(reader, is_stopped)?;
        }
        let missing = self.segment_samples - self.filled();
        self.read(reader, missing)?;
        let filled = self.filled();
        let fresh = filled - self.carried_samples;
        let needed = self.hop_samples.min(self.segment_samples).div_ceil(2);
        if filled == 0 || (filled < self.segment_samples && self.given > 0 && fresh < needed) {
            return Ok(None);
        }
        segment.resize(self.window.len(), Vec::new());
        for (out, samples) in segment.iter_mut().zip(&self.window) {
            out.clear();
            out.extend_from_slice(samples);
            out.resize(self.segment_samples, 0.0);
        }
        self.given += 1;
        Ok(Some(filled))
    }

    /// Moves the window one hop on.
    fn advance(&mut self, reader: &mut AudioReader, is_stopped: &dyn Fn() -> bool) -> Result<()> {
        let dropped = self.hop_samples.min(self.filled());
        self.window.iter_mut().for_each(|samples| drop(samples.drain(..dropped)));
        self.carried_samples = self.filled();
        let mut to_skip = self.hop_samples - dropped;
        while to_skip > 0 && !self.ended {
            if is_stopped() {
                return Err(Error::Interrupted);
            }
            let wanted = to_skip.min(self.segment_samples);
            to_skip -= self.read(reader, wanted)?;
            self.window.iter_mut().for_each(Vec::clear);
        }
        Ok(())
    }

    fn read(&mut self, reader: &mut AudioReader, samples: usize) -> Result<usize> {
        if self.ended || samples == 0 {
            return Ok(0);
        }
        let got = reader.read(samples, &mut self.window)?;
        self.ended = got < samples;
        self.read_samples += got as u64;
        Ok(got)
    }

    fn filled(&self) -> usize {
        self.window.first().map_or(0, Vec::len)
    }
}
