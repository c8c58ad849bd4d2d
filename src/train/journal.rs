//! What a run writes about itself: `log.jsonl` and TensorBoard events.

use std::path::Path;

use crate::error::{Error, Result};
use crate::render::Written;
use crate::train::log::{Line, Log};
use crate::train::tensorboard::{AudioShape, ImageShape, TensorBoard};
use crate::train::validate::Validation;

pub use crate::train::log::StepLog;

/// Weight of the past in the smoothed loss.
const SMOOTHING: f64 = 0.98;

/// The open journal of a run.
pub struct Journal {
    log: Log,
    events: TensorBoard,
    smoothed_loss: Option<f64>,
}

impl Journal {
    /// Opens the journal of a run that goes on after `step` steps.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn open(folder: &Path, step: u64) -> Result<Journal> {
        let (log, last) = Log::open(&folder.join("log.jsonl"), step)?;
        let events = TensorBoard::create(folder, if step == 0 { 0 } else { step + 1 })?;
        Ok(Journal { log, events, smoothed_loss: last.map(|last| last.smoothed_loss) })
    }

    /// Writes a step and returns its line.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn step(
        &mut self,
        step: u64,
        loss: f64,
        gradient_norm: f64,
        lr: f64,
        samples_per_second: f64,
        wait_ms: f64,
    ) -> Result<StepLog> {
        let smoothed_loss =
            self.smoothed_loss.map_or(loss, |past| SMOOTHING * past + (1.0 - SMOOTHING) * loss);
        self.smoothed_loss = Some(smoothed_loss);
        let log = StepLog { step, loss, smoothed_loss, gradient_norm, lr, samples_per_second, wait_ms };
        self.log.write(&Line::Step(log.clone()))?;
        let scalars = [
            ("train/loss", loss),
            ("train/loss_smoothed", smoothed_loss),
            ("train/gradient_norm", gradient_norm),
            ("train/lr", lr),
            ("speed/samples_per_second", samples_per_second),
            ("speed/loader_wait_ms", wait_ms),
        ];
        self.events.scalars(step, &scalars.map(|(tag, value)| (tag, value as f32)))?;
        self.events.flush()?;
        Ok(log)
    }

    /// Writes a validation.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn validation(&mut self, step: u64, validation: &Validation) -> Result<()> {
        self.log.write(&Line::Validation { step, validation: validation.clone() })?;
        self.events.scalars(step, &[("validation/loss", validation.loss as f32)])?;
        for (bin, loss) in validation.bins.iter().enumerate() {
            if let Some(loss) = loss {
                self.events.scalars(step, &[(&format!("validation/timestep_bin_{bin}"), *loss as f32)])?;
            }
        }
        Ok(())
    }

    /// Puts samples among the events: sound and picture.
    ///
    /// # Errors
    /// [`crate::Error::Io`].
    pub fn samples(&mut self, step: u64, written: &[Written]) -> Result<()> {
        let read = |path: &Path| std::fs::read(path).map_err(Error::io("read", path));
        for (number, sample) in written.iter().enumerate() {
            let tag = format!("samples/{number}");
            let [width, height] = sample.pixels;
            let image = ImageShape { width, height, channels: 3 };
            self.events.image(step, &tag, &read(&sample.png)?, image)?;
            let sound = sample.sound;
            let audio = AudioShape {
                sample_rate_hz: sound.sample_rate,
                channels: sound.channels as u32,
                frames: sound.frames as u64,
            };
            self.events.audio(step, &tag, &read(&sample.wav)?, audio)?;
        }
        self.events.flush()
    }
}
