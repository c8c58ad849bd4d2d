//! From the source's channels to one or two: a matrix of gains, applied frame by frame.

use symphonia::core::audio::{ChannelLabel, Channels, Position};

use super::config::Mix;

/// A mix this far below its channels' mean power (here -30 dB) is a cancellation, not music.
const CANCELLED_POWER_RATIO: f64 = 1e-3;
/// Mean square of a channel below which it counts as silent (-100 dBFS).
const SILENT_POWER: f64 = 1e-10;
/// -3 dB: surround and centre channels in the fold-down of ITU-R BS.775-3, annex 4.
const MINUS_3_DB: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// Where a channel stands.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left(f32),
    Right(f32),
    Both(f32),
    LowFrequency,
}

/// `out[o][t] = sum_i gains[o][i] in[i][t]`.
#[derive(Clone, Debug)]
pub struct Mixer {
    gains: Vec<Vec<f32>>,
}

impl Mixer {
    /// Mono: the mean of all channels but LFE. Stereo: a mono source doubled, a stereo source unchanged,
    /// surround folded down as ITU-R BS.775-3 says (centre and surrounds at -3 dB, LFE left out), each side
    /// divided by the sum of its gains, so that the mix never exceeds the source's peak.
    pub fn new(channels: &Channels, mix: Mix) -> Self {
        let mut sides = sides(channels);
        if sides.iter().all(|&side| side == Side::LowFrequency) {
            sides.fill(Side::Both(1.0));
        }
        let gain = |side: &Side, output: usize| match (mix, side, output) {
            (_, Side::LowFrequency, _) => 0.0,
            (Mix::Mono, _, _) => 1.0,
            (Mix::Stereo, Side::Left(gain), 0) | (Mix::Stereo, Side::Right(gain), 1) => *gain,
            (Mix::Stereo, Side::Both(gain), _) => *gain,
            _ => 0.0,
        };
        let row = |output| normalized(sides.iter().map(|side| gain(side, output)).collect());
        Self { gains: (0..mix.channels()).map(row).collect() }
    }

    /// Channels that come out.
    pub fn outputs(&self) -> usize {
        self.gains.len()
    }

    /// Appends the mix of `input` (planar, equally long channels) to `out` (one vector an output).
    pub fn mix_into(&self, input: &[Vec<f32>], out: &mut [Vec<f32>]) {
        let frames = input.first().map_or(0, Vec::len);
        for (gains, out) in self.gains.iter().zip(out) {
            let start = out.len();
            out.resize(start + frames, 0.0);
            for (&gain, channel) in gains.iter().zip(input).filter(|(gain, _)| **gain != 0.0) {
                out[start..].iter_mut().zip(channel).for_each(|(sum, &x)| *sum += gain * x);
            }
        }
    }

    /// If mixing `input` to mono cancels it (a track whose right channel is the negated left), the loudest
    /// channel alone is taken from now on. Returns whether that happened.
    pub fn avoid_cancellation(&mut self, input: &[Vec<f32>]) -> bool {
        if self.outputs() != 1 || input.len() < 2 {
            return false;
        }
        let mut mixed = [Vec::new()];
        self.mix_into(input, &mut mixed);
        if !cancelled(power(&mixed[0]), input, &self.gains[0]) {
            return false;
        }
        let heard = (0..input.len()).filter(|&channel| self.gains[0][channel] != 0.0);
        let loudest = heard.max_by(|&a, &b| power(&input[a]).total_cmp(&power(&input[b]))).unwrap_or(0);
        self.gains[0].fill(0.0);
        self.gains[0][loudest] = 1.0;
        true
    }
}

impl Mix {
    /// Channels that this mix has.
    pub fn channels(self) -> usize {
        match self {
            Mix::Mono => 1,
            Mix::Stereo => 2,
        }
    }
}

/// Mean square.
fn power(signal: &[f32]) -> f64 {
    signal.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / signal.len().max(1) as f64
}

fn cancelled(mixed_power: f64, input: &[Vec<f32>], gains: &[f32]) -> bool {
    // The mean over the channels that take part, each as loud as it enters the mix.
    let parts = input.iter().zip(gains).filter(|(_, gain)| **gain != 0.0);
    let channel_power = parts.map(|(channel, _)| power(channel)).fold(0.0, f64::max);
    let share = gains.iter().fold(0.0f32, |largest, &gain| largest.max(gain));
    let expected = channel_power * f64::from(share).powi(2);
    expected > SILENT_POWER && mixed_power < CANCELLED_POWER_RATIO * expected
}

fn normalized(mut gains: Vec<f32>) -> Vec<f32> {
    let sum: f32 = gains.iter().sum();
    if sum > 0.0 {
        gains.iter_mut().for_each(|gain| *gain /= sum);
    }
    gains
}

/// Each channel's place, in the order of the decoder's planes.
fn sides(channels: &Channels) -> Vec<Side> {
    let mut sides: Vec<Side> = match channels {
        // Planes follow the bits of the mask, lowest first.
        Channels::Positioned(mask) => mask.iter().map(side_of).collect(),
        Channels::Custom(labels) => {
            labels.iter().enumerate().map(|(index, label)| side_of_label(*label, index)).collect()
        }
        // The first Ambisonic component is the omnidirectional one, and a fair mono; the others are
        // differences that a speaker-less fold-down leaves out.
        Channels::Ambisonic(_) => {
            (0..channels.count()).map(|n| if n == 0 { Side::Both(1.0) } else { Side::LowFrequency }).collect()
        }
        _ => (0..channels.count()).map(alternating).collect(),
    };
    if let [only] = sides.as_mut_slice() {
        *only = Side::Both(1.0);
    }
    let one_sided = |left: bool| {
        sides.iter().any(|side| matches!(side, Side::Left(_)) == left && *side != Side::LowFrequency)
    };
    if sides.len() > 1 && !(one_sided(true) && one_sided(false)) {
        return (0..sides.len()).map(alternating).collect();
    }
    sides
}

fn alternating(index: usize) -> Side {
    if index.is_multiple_of(2) { Side::Left(1.0) } else { Side::Right(1.0) }
}

fn side_of_label(label: ChannelLabel, index: usize) -> Side {
    match label {
        ChannelLabel::Positioned(position) => side_of(position),
        _ => alternating(index),
    }
}

fn side_of(position: Position) -> Side {
    match position {
        Position::FRONT_LEFT | Position::FRONT_LEFT_CENTER => Side::Left(1.0),
        Position::FRONT_RIGHT | Position::FRONT_RIGHT_CENTER => Side::Right(1.0),
        Position::REAR_LEFT | Position::SIDE_LEFT | Position::TOP_FRONT_LEFT | Position::TOP_REAR_LEFT => {
            Side::Left(MINUS_3_DB)
        }
        Position::REAR_RIGHT
        | Position::SIDE_RIGHT
        | Position::TOP_FRONT_RIGHT
        | Position::TOP_REAR_RIGHT => Side::Right(MINUS_3_DB),
        Position::LFE1 | Position::LFE2 => Side::LowFrequency,
        _ => Side::Both(MINUS_3_DB),
    }
}
