//! Learning rate, EMA decay, and the flat buffers that a step updates.

use crate::backend::{AdamStep, Backend};
use crate::config::{LrSchedule, TrainConfig};
use crate::error::Result;
use crate::params::Layout;

/// Parameters, gradients, moments and EMA on the device: five flat buffers of one layout.
pub struct State<B: Backend> {
    /// Parameters.
    pub weights: B::Buf,
    /// Gradients of the step in progress.
    pub gradients: B::Buf,
    /// Adam's first moments.
    pub first: B::Buf,
    /// Adam's second moments.
    pub second: B::Buf,
    /// EMA of the parameters.
    pub ema: B::Buf,
    norm2: B::Buf,
    len: usize,
}

impl<B: Backend> State<B> {
    /// A fresh state: moments zero, EMA equal to the weights.
    pub fn new(backend: &B, weights: &[f32]) -> Result<Self> {
        Self::restore(backend, weights, weights, None)
    }

    /// A state from the host; without moments they are zero.
    pub fn restore(
        backend: &B,
        weights: &[f32],
        ema: &[f32],
        moments: Option<(&[f32], &[f32])>,
    ) -> Result<Self> {
        let len = weights.len();
        let upload = |host: &[f32], mut buf: B::Buf| {
            backend.upload(B::view_mut(&mut buf, 0..len), host);
            buf
        };
        let moment = |host: Option<&[f32]>| match host {
            Some(host) => Ok(upload(host, backend.alloc(len)?)),
            None => zeroed(backend, len),
        };
        Ok(State {
            weights: upload(weights, backend.alloc_weights(len)?),
            gradients: zeroed(backend, len)?,
            first: moment(moments.map(|(first, _)| first))?,
            second: moment(moments.map(|(_, second)| second))?,
            ema: upload(ema, backend.alloc_weights(len)?),
            norm2: zeroed(backend, 2)?,
            len,
        })
    }

    /// Takes the norm of the gradients, which [`Self::update`] clips by.
    pub fn measure_gradients(&mut self, backend: &B) {
        let gradients = B::view(&self.gradients, 0..self.len);
        backend.sum_of_squares(B::view_mut(&mut self.norm2, 0..2), gradients);
    }

    /// What [`Self::measure_gradients`] found: the sum of their squares, and how many such sums have not been finite so far.
    pub fn norm2(&self) -> B::Ref<'_> {
        B::view(&self.norm2, 0..2)
    }

    /// Lets [`Self::update`] work again after gradients that were not finite.
    pub fn forget_non_finite(&mut self, backend: &B) {
        backend.fill(B::view_mut(&mut self.norm2, 0..2), 0.0);
    }

    /// One Adam update with the gradients whose norm was taken last.
    pub fn update(&mut self, backend: &B, step: AdamStep) {
        let all = 0..self.len;
        backend.adam(
            B::view_mut(&mut self.weights, all.clone()),
            B::view_mut(&mut self.first, all.clone()),
            B::view_mut(&mut self.second, all.clone()),
            B::view_mut(&mut self.ema, all.clone()),
            B::view(&self.gradients, all),
            B::view(&self.norm2, 0..2),
            step,
        );
    }

    /// A buffer's content on the host.
    pub fn download(backend: &B, buf: &B::Buf) -> Vec<f32> {
        let mut host = vec![0.0; B::len(buf)];
        let all = 0..host.len();
        backend.download(&mut host, B::view(buf, all));
        host
    }
}

fn zeroed<B: Backend>(backend: &B, len: usize) -> Result<B::Buf> {
    let mut buf = backend.alloc(len)?;
    backend.fill(B::view_mut(&mut buf, 0..len), 0.0);
    Ok(buf)
}

/// The numbers of update number `step` (0-based).
pub fn adam_step(config: &TrainConfig, layout: &Layout, step: u64) -> AdamStep {
    AdamStep {
        lr: learning_rate(config, step) as f32,
        beta1: config.beta1 as f32,
        beta2: config.beta2 as f32,
        eps: config.eps as f32,
        weight_decay: config.weight_decay as f32,
        decayed: layout.decayed(),
        step: step + 1,
        max_norm: if config.clip > 0.0 { config.clip as f32 } else { f32::INFINITY },
        ema_decay: ema_decay(config, step) as f32,
    }
}

/// Linear warm-up to `train.lr`, then constant, or half a cosine down to `train.lr_final` of it at the last step.
pub fn learning_rate(config: &TrainConfig, step: u64) -> f64 {
    if step < config.warmup {
        return config.lr * (step + 1) as f64 / config.warmup as f64;
    }
    match config.schedule {
        LrSchedule::Constant => config.lr,
        LrSchedule::Cosine => {
            let span = config.steps.saturating_sub(config.warmup + 1).max(1) as f64;
            let done = ((step - config.warmup) as f64 / span).min(1.0);
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
            config.lr * (config.lr_final + (1.0 - config.lr_final) * cosine)
        }
    }
}

/// `min(train.ema, (1 + step) / (10 + step))`: a young EMA forgets its random start.
pub fn ema_decay(config: &TrainConfig, step: u64) -> f64 {
    config.ema.min((1.0 + step as f64) / (10.0 + step as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn the_learning_rate_rises_then_falls_to_its_end() {
        let config = TrainConfig { lr: 1.0, warmup: 10, steps: 110, lr_final: 0.1, ..TrainConfig::default() };
        assert_relative_eq!(learning_rate(&config, 0), 0.1);
        assert_relative_eq!(learning_rate(&config, 9), 1.0);
        assert_relative_eq!(learning_rate(&config, 10), 1.0);
        assert_relative_eq!(learning_rate(&config, 109), 0.1, epsilon = 1e-12);
        assert!((10..109).all(|step| learning_rate(&config, step + 1) < learning_rate(&config, step)));
        let constant = TrainConfig { schedule: LrSchedule::Constant, ..config };
        assert_relative_eq!(learning_rate(&constant, 109), 1.0);
    }
}
