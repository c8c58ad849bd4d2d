//! Sample-rate conversion of a stream, aligned and of exact length: frame n of the output is the sound at
//! `n / target_rate` seconds, and N input frames give `round(N * target_rate / source_rate)` output frames.
//!
//! rubato's FFT resampler: a linear-phase sinc filter under a squared Blackman-Harris window, applied by
//! overlap-add. Its block size decides the filter's steepness: at least 1024 frames of the lower rate.

use rubato::audioadapter_buffers::direct::SequentialSliceOfVecs;
use rubato::{Fft, FixedSync, Indexing, Resampler as _, WindowFunction};

/// Length of the filter in frames of the lower of both rates, at least: 1024 put the cut-off at 98.6% of the
/// lower Nyquist frequency, with all aliases below -120 dB.
const FILTER_FRAMES: usize = 1024;

/// A streaming resampler for `channels` planar channels.
pub struct Resampler {
    inner: Fft<f32>,
    source_rate: u64,
    target_rate: u64,
    /// Input that does not fill a block yet.
    waiting: Vec<Vec<f32>>,
    block_out: Vec<Vec<f32>>,
    consumed_frames: u64,
    produced_frames: u64,
    /// Output frames still to drop: the filter's delay.
    delay_frames: usize,
}

impl Resampler {
    /// A resampler from `source_rate` to `target_rate` (both above zero, in hertz).
    ///
    /// # Errors
    /// What rubato says against these rates, as text.
    pub fn new(source_rate: u32, target_rate: u32, channels: usize) -> Result<Self, String> {
        let divisor = greatest_common_divisor(source_rate, target_rate);
        let step_in = (source_rate / divisor) as usize;
        let step_lower = (source_rate.min(target_rate) / divisor) as usize;
        // An even number of steps: then half a block, which is the delay, is a whole number of frames on
        // both sides, and the output is aligned to the sample.
        let steps = FILTER_FRAMES.div_ceil(step_lower).next_multiple_of(2);
        let inner = Fft::new_custom(
            source_rate as usize,
            target_rate as usize,
            steps * step_in,
            1,
            channels,
            WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(|error| error.to_string())?;
        Ok(Self {
            source_rate: source_rate.into(),
            target_rate: target_rate.into(),
            waiting: vec![Vec::new(); channels],
            block_out: vec![vec![0.0; inner.output_frames_max()]; channels],
            consumed_frames: 0,
            produced_frames: 0,
            delay_frames: inner.output_delay(),
            inner,
        })
    }

    /// Takes `input` in and appends to `out` what is finished (both planar).
    pub fn push(&mut self, input: &[Vec<f32>], out: &mut [Vec<f32>]) {
        self.consumed_frames += input.first().map_or(0, Vec::len) as u64;
        self.waiting.iter_mut().zip(input).for_each(|(waiting, channel)| waiting.extend_from_slice(channel));
        let needed = self.inner.input_frames_next();
        let mut start = 0;
        while self.waiting[0].len() - start >= needed {
            self.block(start, None, out);
            start += needed;
        }
        self.waiting.iter_mut().for_each(|waiting| drop(waiting.drain(..start)));
    }

    /// Ends the stream: appends the rest to `out`, up to the exact length.
    pub fn finish(&mut self, out: &mut [Vec<f32>]) {
        let total = (self.consumed_frames * self.target_rate + self.source_rate / 2) / self.source_rate;
        let mut partial = self.waiting[0].len();
        while self.produced_frames < total {
            let before = self.produced_frames;
            self.block(0, Some(partial), out);
            partial = 0;
            let excess = self.produced_frames.saturating_sub(total.max(before)) as usize;
            out.iter_mut().for_each(|channel| channel.truncate(channel.len() - excess));
            self.produced_frames -= excess as u64;
        }
        self.waiting.iter_mut().for_each(Vec::clear);
    }

    /// One block from `waiting[start..]` (`partial` frames of it, then silence) to the end of `out`.
    fn block(&mut self, start: usize, partial: Option<usize>, out: &mut [Vec<f32>]) {
        let channels = self.waiting.len();
        let frames_in = self.waiting[0].len();
        let frames_out = self.block_out[0].len();
        let indexing = Indexing { input_offset: start, partial_len: partial, ..Indexing::default() };
        let source = SequentialSliceOfVecs::new(&self.waiting, channels, frames_in);
        let target = SequentialSliceOfVecs::new_mut(&mut self.block_out, channels, frames_out);
        let (source, mut target) = (source.expect("planes are equally long"), target.expect("and these"));
        let done = self.inner.process_into_buffer(&source, &mut target, Some(&indexing));
        let (_, produced) = done.expect("the block sizes are the resampler's own");
        let dropped = self.delay_frames.min(produced);
        self.delay_frames -= dropped;
        self.produced_frames += (produced - dropped) as u64;
        for (out, block) in out.iter_mut().zip(&self.block_out) {
            out.extend_from_slice(&block[dropped..produced]);
        }
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
