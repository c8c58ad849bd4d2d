//! A recording looked over in one pass over its decoded blocks: level, clipping, silence, and the energies that a
//! fingerprint is made of. At the source's own rate and channels: mixing and resampling would hide what is wrong.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::config::Window;
use super::decode::SourceInfo;
use super::input::Input;
use super::source::Source;
use crate::error::{Error, Result};

/// Bands of a frame's energies, on a logarithmic scale between the two frequencies in hertz: what every codec and every
/// sample rate from 8 kHz on keeps.
pub const BANDS: usize = 17;
const LOWEST_HZ: f64 = 200.0;
const HIGHEST_HZ: f64 = 3500.0;
/// Seconds between two frames; a frame is twice as long.
const HOP_SECONDS: f64 = 0.1;
/// From this level on a sample may be one that hit the ceiling.
const CEILING: f32 = 0.99;
/// Equal samples in a row at the ceiling that make a flat top.
const FLAT_TOP: usize = 3;
/// A hop below this RMS (-60 dBFS) is silent.
const SILENCE_RMS: f64 = 1e-3;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    /// Length that could be decoded.
    pub seconds: f64,
    /// The largest sample; full scale is 1.
    pub peak: f32,
    /// Root mean square over all channels.
    pub rms: f64,
    /// Part of the samples that are cut flat at the ceiling.
    pub clipped: f64,
    /// Part of the time that is silent.
    pub silent: f64,
    /// Energies of each frame.
    pub frames: Vec<[f32; BANDS]>,
    /// What the file says about itself.
    pub info: SourceInfo,
    /// What the decoder had to say.
    pub warnings: Vec<String>,
}

/// Decodes the whole of `input`.
///
/// # Errors
/// As [`AudioReader::open`](super::AudioReader::open) and its `read`; [`Error::Interrupted`] once `is_stopped` says so.
pub fn examine(input: &Input, is_stopped: &dyn Fn() -> bool) -> Result<Examination> {
    let mut source = Source::open(input)?;
    let mut planes: Vec<Vec<f32>> = Vec::new();
    let mut levels: Vec<Level> = Vec::new();
    let mut analyser: Option<Analyser> = None;
    let mut samples = 0_u64;
    while source.next_block(&mut planes)? {
        if is_stopped() {
            return Err(Error::Interrupted);
        }
        levels.resize(planes.len(), Level::default());
        levels.iter_mut().zip(&planes).for_each(|(level, plane)| level.add(plane));
        samples += planes.first().map_or(0, Vec::len) as u64;
        let rate = source.info.sample_rate;
        analyser.get_or_insert_with(|| Analyser::new(rate)).add(&planes);
    }
    let Some(analyser) = analyser.filter(|_| samples > 0) else {
        return Err(Error::audio(input.path(), "holds no samples that can be decoded"));
    };
    let total = (samples * levels.len() as u64) as f64;
    let hops = analyser.hops.max(1) as f64;
    Ok(Examination {
        seconds: samples as f64 / f64::from(source.info.sample_rate.max(1)),
        peak: levels.iter().fold(0.0, |peak, level| level.peak.max(peak)),
        rms: (levels.iter().map(|level| level.squares).sum::<f64>() / total).sqrt(),
        clipped: levels.iter().map(|level| level.flat).sum::<u64>() as f64 / total,
        silent: analyser.silent_hops as f64 / hops,
        frames: analyser.frames,
        info: source.info.clone(),
        warnings: source.warnings.clone(),
    })
}

/// Level of a channel.
#[derive(Clone, Default)]
struct Level {
    peak: f32,
    squares: f64,
    flat: u64,
    last: f32,
    run: usize,
}

impl Level {
    fn add(&mut self, samples: &[f32]) {
        for &sample in samples {
            self.peak = self.peak.max(sample.abs());
            self.squares += f64::from(sample) * f64::from(sample);
            self.run = if sample.abs() >= CEILING && sample == self.last { self.run + 1 } else { 1 };
            self.last = sample;
            self.flat += match self.run {
                FLAT_TOP => FLAT_TOP as u64,
                run if run > FLAT_TOP => 1,
                _ => 0,
            };
        }
    }
}

/// Makes frames of energies, of the sum of the channels' spectra, so that channels cannot cancel each other.
struct Analyser {
    fft: Arc<dyn RealToComplex<f32>>,
    window: Vec<f32>,
    hop: usize,
    /// First and last bin of each band.
    bands: [(usize, usize); BANDS],
    /// Sound of each channel that is not in a frame yet.
    pending: Vec<Vec<f32>>,
    frames: Vec<[f32; BANDS]>,
    hops: u64,
    silent_hops: u64,
}

impl Analyser {
    fn new(rate: u32) -> Self {
        let hop = ((f64::from(rate) * HOP_SECONDS) as usize).max(1);
        let length = 2 * hop;
        let edge = |n: usize| LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ).powf(n as f64 / BANDS as f64);
        let bin = |hertz: f64| ((hertz * length as f64 / f64::from(rate)) as usize).min(hop);
        Self {
            fft: RealFftPlanner::new().plan_fft_forward(length),
            window: Window::Hann.samples(length).into_iter().map(|w| w as f32).collect(),
            hop,
            bands: std::array::from_fn(|n| (bin(edge(n)), bin(edge(n + 1)))),
            pending: Vec::new(),
            frames: Vec::new(),
            hops: 0,
            silent_hops: 0,
        }
    }

    fn add(&mut self, planes: &[Vec<f32>]) {
        self.pending.resize(planes.len(), Vec::new());
        self.pending.iter_mut().zip(planes).for_each(|(pending, plane)| pending.extend_from_slice(plane));
        let there = self.pending.first().map_or(0, Vec::len);
        let mut at = 0;
        while at + 2 * self.hop <= there {
            self.frame(at);
            at += self.hop;
        }
        self.pending.iter_mut().for_each(|pending| drop(pending.drain(..at)));
    }

    fn frame(&mut self, at: usize) {
        let mut energies = [0.0; BANDS];
        let mut squares = 0.0;
        for pending in &self.pending {
            let samples = &pending[at..at + 2 * self.hop];
            squares += samples[..self.hop].iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
            let mut frame: Vec<f32> = samples.iter().zip(&self.window).map(|(x, w)| x * w).collect();
            let mut bins = self.fft.make_output_vec();
            // The lengths fit: both buffers are the plan's own.
            let _ = self.fft.process(&mut frame, &mut bins);
            for (energy, &(first, last)) in energies.iter_mut().zip(&self.bands) {
                *energy += bins[first..=last].iter().map(|bin| bin.norm_sqr()).sum::<f32>();
            }
        }
        let rms = (squares / (self.hop * self.pending.len()) as f64).sqrt();
        self.silent_hops += u64::from(rms < SILENCE_RMS);
        self.hops += 1;
        self.frames.push(energies);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_tops_count_and_a_single_peak_does_not() {
        let mut level = Level::default();
        level.add(&[0.5, 1.0, 0.5, 1.0, 1.0]);
        level.add(&[1.0, 1.0, -1.0, -1.0, 0.2]);
        assert_eq!((level.flat, level.peak), (4, 1.0));
    }
}
