//! What a user wants of a sample beside its words: a length, a loop, a sound to go on from, to fill in or to vary. Becomes
//! an order for the sampler, and what is to be done with the sound afterwards.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::audio::config::RepresentationConfig;
use crate::audio::{Normalizer, decode, representation};
use crate::config::{Config, Region};
use crate::diffusion::sampler::{Canvas, Kept, Order};
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::{Error, Result};

/// Longest sample, in seconds.
const LONGEST_SECONDS: f64 = 600.0;

/// A part of a sound, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seconds {
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
}

impl std::str::FromStr for Seconds {
    type Err = String;

    /// `0s-4s`, `1.5-4`, `4s-` (to the end of the sound).
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong =
            || format!("`{text}` is no part of a sound; it looks like 0s-4s, or 4s- for all from there on");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().trim_end_matches('s').parse::<f64>().ok();
        let from = number(from).ok_or_else(wrong)?;
        let to = if to.trim().is_empty() { f64::INFINITY } else { number(to).ok_or_else(wrong)? };
        if from.is_finite() && from >= 0.0 && to > from { Ok(Seconds { from, to }) } else { Err(wrong()) }
    }
}

/// Wishes, as typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Length; the model's own image where nothing is said.
    pub seconds: Option<f64>,
    /// The end meets the beginning.
    pub loops: bool,
    /// A sound to begin with.
    pub init: Option<PathBuf>,
    /// Parts of it that stay.
    pub keep: Vec<Seconds>,
    /// How far to go from it, 0 to 1.
    pub strength: Option<f64>,
}

/// What the wishes come to.
pub struct Plan {
    /// Frames of a sample.
    pub frames: usize,
    /// How they are looked at.
    canvas: Canvas,
    start: Option<Vec<f32>>,
    kept: Option<Kept>,
    kept_is_clean: bool,
    /// Timestep to begin at.
    pub from: usize,
    /// What is done with the sound.
    pub finish: Finish,
}

/// What is done with a sound after it was decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finish {
    /// The end is made to go on at the beginning.
    pub loops: bool,
    /// The sound that was given, one vector a channel.
    pub sound: Vec<Vec<f32>>,
    /// Samples of it that are put back as they were.
    pub kept: Vec<Range<usize>>,
    /// Samples that were asked for, where the frames have more.
    pub len: Option<usize>,
}

impl Wishes {
    /// Resolves them for a model.
    ///
    /// # Errors
    /// [`Error::Config`] for a wish that cannot be (with its flag); [`Error::Audio`], [`Error::Io`] for the sound.
    pub fn plan(&self, config: &Config, normalizer: &Normalizer, schedule: &Schedule) -> Result<Plan> {
        self.check()?;
        let data = &config.data;
        let init = self.init.as_deref().map(|path| self.load(path, data)).transpose()?;
        let frame_seconds = data.hop as f64 / f64::from(data.sample_rate);
        let window = config.model.image[1];
        let seconds = self.seconds.unwrap_or(0.0);
        let given = init.as_ref().map_or(0, |sound| sound[0].len().div_ceil(data.hop));
        let wanted = (seconds / frame_seconds).ceil() as usize;
        let canvas = Canvas::new(if wanted > 0 { wanted } else { given }, window, self.loops);
        let frames = canvas.width;
        if self.loops && (1..window).contains(&wanted) {
            let least = window as f64 * frame_seconds;
            let problem = format!("is {seconds}; a loop of this model has at least {least:.2}");
            return Err(Error::config("--seconds", problem));
        }
        let len = self.seconds.filter(|_| !self.loops);
        let len = len.map(|seconds| (seconds * f64::from(data.sample_rate)).round() as usize);
        let mut plan = Plan {
            frames,
            canvas,
            start: None,
            kept: None,
            kept_is_clean: config.diffusion.region != Region::Whole,
            from: schedule.steps() - 1,
            finish: Finish { loops: self.loops, len, ..Finish::default() },
        };
        let Some(mut sound) = init else { return Ok(plan) };
        let samples = sound[0].len();
        sound.iter_mut().for_each(|channel| channel.resize(frames * data.hop, 0.0));
        let image = encode(&sound, data, frames, normalizer)?;
        let kept = self.kept_samples(samples.min(frames * data.hop), data)?;
        if !kept.is_empty() {
            let frame = |sample: usize| (sample as f64 / data.hop as f64).round() as usize;
            let frames = kept.iter().map(|part| frame(part.start)..frame(part.end)).collect();
            plan.kept = Some(Kept { image: image.clone(), frames });
        }
        if let Some(strength) = self.strength {
            plan.from = (strength * (schedule.steps() - 1) as f64).round() as usize;
            plan.start = Some(image);
        }
        plan.finish.sound = sound;
        plan.finish.kept = kept;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        if let Some(seconds) = self.seconds
            && !(seconds > 0.0 && seconds <= LONGEST_SECONDS)
        {
            let problem = format!("is {seconds}; it must be above 0 and at most {LONGEST_SECONDS}");
            return Err(Error::config("--seconds", problem));
        }
        if let Some(strength) = self.strength
            && !(strength > 0.0 && strength <= 1.0)
        {
            let problem = format!(
                "is {strength}; it must be above 0 (nothing changes) and at most 1 (nothing is left)"
            );
            return Err(Error::config("--strength", problem));
        }
        match &self.init {
            None if !self.keep.is_empty() => {
                Err(Error::config("--keep", "needs the sound that it is of: --init FILE"))
            }
            None if self.strength.is_some() => {
                Err(Error::config("--strength", "needs the sound that it is of: --init FILE"))
            }
            Some(_) if self.keep.is_empty() && self.strength.is_none() => {
                let problem = "needs --keep 0s-4s (what stays; the rest is made new), --strength 0.6 (how far to go from \
                               it), or both";
                Err(Error::config("--init", problem))
            }
            _ => Ok(()),
        }
    }

    fn load(&self, path: &Path, data: &RepresentationConfig) -> Result<Vec<Vec<f32>>> {
        let most = self.seconds.unwrap_or(LONGEST_SECONDS);
        let sound = decode::load(path, data.sample_rate, data.mix, Some(most))?;
        let seconds = sound.channels.first().map_or(0, Vec::len) as f64 / f64::from(data.sample_rate);
        if seconds == 0.0 {
            return Err(Error::audio(path, "holds no sound"));
        }
        Ok(sound.channels)
    }

    /// The parts that stay, in samples, in order.
    fn kept_samples(&self, samples: usize, data: &RepresentationConfig) -> Result<Vec<Range<usize>>> {
        let rate = f64::from(data.sample_rate);
        let mut parts = Vec::new();
        for part in &self.keep {
            let from = (part.from * rate).round() as usize;
            let to = if part.to.is_finite() { (part.to * rate).round() as usize } else { samples };
            if from >= samples || to > samples {
                let problem =
                    format!("reaches behind the end of the sound, at {:.2} s", samples as f64 / rate);
                return Err(Error::config("--keep", problem));
            }
            parts.push(from..to);
        }
        parts.sort_by_key(|part| part.start);
        if let Some(pair) = parts.windows(2).find(|pair| pair[0].end > pair[1].start) {
            let at = pair[1].start as f64 / rate;
            return Err(Error::config("--keep", format!("two parts overlap at {at:.2} s")));
        }
        Ok(parts)
    }
}

impl Plan {
    /// The order for `count` samples, without captions.
    pub fn order(&self, dit: &Dit, seed: u64, first: u64, count: usize) -> Order {
        Order {
            canvas: self.canvas.clone(),
            start: self.start.clone(),
            kept: self.kept.clone(),
            kept_is_clean: self.kept_is_clean,
            ..Order::plain(dit, seed, first, count)
        }
    }
}

/// The normalised image of a sound of `frames` frames.
fn encode(
    sound: &[Vec<f32>],
    data: &RepresentationConfig,
    frames: usize,
    normalizer: &Normalizer,
) -> Result<Vec<f32>> {
    let wide = RepresentationConfig { image: [data.image[0], frames], ..data.clone() };
    let mut image = representation::build(&wide)?.encode(sound)?;
    normalizer.apply(&mut image, frames)?;
    Ok(image)
}

/// Seconds over which a sound that was kept and one that was made pass into each other.
const CROSSFADE_SECONDS: f64 = 0.02;

impl Finish {
    /// Frames that have to be decoded on either side of a loop, so that its end is known to go on.
    pub fn margin_frames(&self, data: &RepresentationConfig) -> usize {
        if self.loops { 2 * data.n_fft.div_ceil(data.hop) } else { 0 }
    }

    /// Of a loop that was decoded with `margin` samples on either side: what lies between them, whose beginning comes out of
    /// what followed its end.
    pub fn close_loop(&self, channels: &mut [Vec<f32>], margin: usize) {
        for channel in channels.iter_mut().filter(|_| self.loops) {
            let behind = channel.split_off(channel.len() - margin);
            channel.drain(..margin);
            for (i, (sample, behind)) in channel.iter_mut().zip(behind).enumerate() {
                let ahead = (i as f32 + 0.5) / margin as f32;
                *sample = ahead * *sample + (1.0 - ahead) * behind;
            }
        }
    }

    /// Whether a part of a sound that was given stays.
    pub fn keeps_something(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Leaves as much as was asked for.
    pub fn trim(&self, channels: &mut [Vec<f32>]) {
        channels.iter_mut().for_each(|channel| channel.truncate(self.len.unwrap_or(usize::MAX)));
    }

    /// Turns down what was made where it is louder than `peak`, and puts back what was kept, to the bit; the kept sound passes
    /// into the made one in the latter's time.
    pub fn splice(&self, channels: &mut [Vec<f32>], rate: u32, peak: f32) {
        let loudest = channels.iter().flatten().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
        let gain = if loudest > peak { peak / loudest } else { 1.0 };
        let fade = (CROSSFADE_SECONDS * f64::from(rate)) as usize;
        for (channel, sound) in channels.iter_mut().zip(&self.sound) {
            channel.iter_mut().for_each(|sample| *sample *= gain);
            let len = channel.len().min(sound.len());
            for part in &self.kept {
                let part = part.start.min(len)..part.end.min(len);
                channel[part.clone()].copy_from_slice(&sound[part.clone()]);
                for i in 1..=fade {
                    let made = i as f32 / (fade + 1) as f32;
                    let mut blend = |at: usize| channel[at] = made * channel[at] + (1.0 - made) * sound[at];
                    if part.end + i - 1 < len && !self.keeps(part.end + i - 1) {
                        blend(part.end + i - 1);
                    }
                    if part.start >= i && !self.keeps(part.start - i) {
                        blend(part.start - i);
                    }
                }
            }
        }
    }

    fn keeps(&self, sample: usize) -> bool {
        self.kept.iter().any(|part| part.contains(&sample))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_sound_are_read() {
        let part = |text: &str| text.parse::<Seconds>();
        assert_eq!(part("0s-4s"), Ok(Seconds { from: 0.0, to: 4.0 }));
        assert_eq!(part("1.5 - 2"), Ok(Seconds { from: 1.5, to: 2.0 }));
        assert_eq!(part("3s-"), Ok(Seconds { from: 3.0, to: f64::INFINITY }));
        for wrong in ["", "4", "4s-1s", "2-2", "a-b", "-1s-2s", "nan-4", "inf-"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wishes_that_cannot_be_name_their_flag() {
        let key = |wishes: Wishes| match wishes.check() {
            Err(Error::Config { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        let keep = vec![Seconds { from: 0.0, to: 1.0 }];
        let init = Some(PathBuf::from("song.wav"));
        assert_eq!(key(Wishes { keep: keep.clone(), ..Wishes::default() }), "--keep");
        assert_eq!(key(Wishes { strength: Some(0.5), ..Wishes::default() }), "--strength");
        assert_eq!(
            key(Wishes { strength: Some(0.0), init: init.clone(), ..Wishes::default() }),
            "--strength"
        );
        assert_eq!(key(Wishes { init: init.clone(), ..Wishes::default() }), "--init");
        assert_eq!(key(Wishes { seconds: Some(f64::NAN), ..Wishes::default() }), "--seconds");
        assert!(Wishes { init, keep, ..Wishes::default() }.check().is_ok());
    }

    #[test]
    fn what_was_kept_comes_back_to_the_bit_and_joins_what_was_made() {
        let sound: Vec<f32> = (0..4000).map(|i| (i as f32 * 0.01).sin() * 0.5).collect();
        let finish =
            Finish { sound: vec![sound.clone()], kept: vec![0..1000, 3000..4000], ..Finish::default() };
        let mut channels = vec![vec![2.0; 4000]];
        finish.splice(&mut channels, 1000, 0.98);
        let made = &channels[0];
        assert_eq!(made[..1000], sound[..1000]);
        assert_eq!(made[3000..], sound[3000..]);
        assert_eq!(made[2000], 0.98, "what was made is turned down, and nothing else");
        let jump = made.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(0.0, f32::max);
        assert!(jump < 0.1, "a step of {jump}");
    }

    #[test]
    fn a_loop_goes_on_where_it_began() {
        let (margin, len) = (100, 1000);
        // What follows the end has another phase than what was there at the beginning.
        let wave = |i: usize| (i as f32 * 0.021).sin();
        let mut channels = vec![(0..len + 2 * margin).map(wave).collect::<Vec<f32>>()];
        Finish { loops: true, ..Finish::default() }.close_loop(&mut channels, margin);
        let made = &channels[0];
        assert_eq!(made.len(), len);
        assert!((made[0] - made[len - 1]).abs() < 0.03, "{} to {}", made[len - 1], made[0]);
    }
}
