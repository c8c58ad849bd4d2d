//! Sets of clips, measured: samples, real segments, noise. All pass through the same decoder, so that what a representation loses
//! is lost by all alike.

use rayon::prelude::*;
use serde::Serialize;

use super::attributes::Attributes;
use super::features::features;
use super::listen::{Heard, Listener};
use crate::audio::wav::SoundCheck;
use crate::error::Result;
use crate::render::Renderer;

/// What was measured of some clips, in their order.
#[derive(Clone, Debug, Default)]
pub struct Clips {
    /// Features, not scaled.
    pub features: Vec<Vec<f64>>,
    /// Attributes.
    pub attributes: Vec<Attributes>,
    /// Level, peak and damage of the sounds, before they were turned down.
    pub checks: Vec<SoundCheck>,
}

/// How many of a set are no good.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// Clips.
    pub clips: usize,
    /// Part below -80 dBFS.
    pub silent: f64,
    /// Part with samples above full scale.
    pub clipped: f64,
    /// Part with samples that are no numbers.
    pub non_finite: f64,
    /// Mean level, of those that are not silent.
    pub level_dbfs: f64,
}

impl Clips {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.features.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }

    /// Adds a sound.
    pub fn push(&mut self, heard: &Heard, check: SoundCheck) {
        let attributes = Attributes::of(heard);
        self.features.push(features(heard, &attributes));
        self.attributes.push(attributes);
        self.checks.push(check);
    }

    /// Decodes normalised images, listens, and adds them; what was heard.
    ///
    /// # Errors
    /// When the images are not the renderer's.
    pub fn add_images(
        &mut self,
        listener: &Listener,
        renderer: &Renderer,
        images: &[f32],
    ) -> Result<Vec<Heard>> {
        let sounds = renderer.decode(images)?;
        let heard: Vec<Heard> = sounds.par_iter().map(|sound| listener.hear(&sound.channels)).collect();
        heard.iter().zip(&sounds).for_each(|(heard, sound)| self.push(heard, sound.check));
        Ok(heard)
    }

    /// What is wrong with them.
    pub fn rates(&self) -> Rates {
        let part = |is_bad: fn(&SoundCheck) -> bool| {
            self.checks.iter().filter(|check| is_bad(check)).count() as f64 / self.len().max(1) as f64
        };
        let levels = self.checks.iter().filter(|check| !check.silent).map(|check| f64::from(check.rms_dbfs));
        let (sum, count) = levels.fold((0.0, 0), |(sum, count), level| (sum + level, count + 1));
        Rates {
            clips: self.len(),
            silent: part(|check| check.silent),
            clipped: part(|check| check.clipped_fraction > 0.0),
            non_finite: part(|check| check.non_finite > 0),
            level_dbfs: sum / f64::from(count.max(1)),
        }
    }
}
