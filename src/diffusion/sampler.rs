//! Samplers: from noise to images, in a number of model evaluations.

use crate::backend::{Backend, NoiseKey, Objective, Purpose, SamplerStep};
use crate::config::{DiffusionConfig, SampleConfig, SamplerKind};
use crate::diffusion::schedule::Schedule;
use crate::dit::Dit;
use crate::error::Result;
use crate::params::Layout;
use crate::tape::Tape;

/// One evaluation of the model, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// Timestep at which the model is asked.
    pub t: usize,
    /// How x moves on.
    pub step: SamplerStep,
}

/// The whole path from pure noise to a sample.
///
/// The timesteps are `T - 1` down to 0, evenly spaced. With alpha, sigma the levels at t and alpha', sigma' those
/// of the next t (1 and 0 after the last): `x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z`, `eps = (x - alpha x0)
/// / sigma` (Song, Meng and Ermon 2021, eq. 12). DDIM has s = 0; DDPM has `s^2 = sigma'^2 / sigma^2 (1 - abar / abar')`,
/// which at every T is the posterior of Ho et al. 2020, eq. 7.
pub fn path(schedule: &Schedule, diffusion: &DiffusionConfig, sample: &SampleConfig) -> Vec<Move> {
    let count = sample.steps;
    let timestep = |i: usize| {
        let place = 1.0 - i as f64 / (count - 1).max(1) as f64;
        (place * (schedule.steps() - 1) as f64).round() as usize
    };
    let clip = if sample.clip > 0.0 { sample.clip as f32 } else { f32::INFINITY };
    (0..count)
        .map(|i| {
            let t = timestep(i);
            let abar = schedule.abar(t);
            let next = if i + 1 < count { schedule.abar(timestep(i + 1)) } else { 1.0 };
            Move { t, step: step_between(abar, next, diffusion.objective, sample.sampler, clip) }
        })
        .collect()
}

fn step_between(abar: f64, next: f64, objective: Objective, kind: SamplerKind, clip: f32) -> SamplerStep {
    let (alpha, sigma) = (abar.sqrt(), (1.0 - abar).sqrt());
    let (from_x, from_prediction) = match objective {
        Objective::X0 => (0.0, 1.0),
        Objective::Eps => (1.0 / alpha, -sigma / alpha),
        Objective::V => (alpha, -sigma),
    };
    let noise2 = match kind {
        SamplerKind::Ddim => 0.0,
        SamplerKind::Ddpm => (1.0 - next) / (1.0 - abar) * (1.0 - abar / next),
    };
    let keep = (1.0 - next - noise2).max(0.0).sqrt() / sigma;
    SamplerStep {
        from_x: from_x as f32,
        from_prediction: from_prediction as f32,
        clip,
        keep: keep as f32,
        to_x0: (next.sqrt() - keep * alpha) as f32,
        noise: noise2.sqrt() as f32,
        ..SamplerStep::default()
    }
}

/// What samples are drawn from.
pub struct Model<'a, B: Backend> {
    /// The device.
    pub backend: &'a B,
    /// The network.
    pub dit: &'a Dit,
    /// Its flat parameters (the EMA, as a rule).
    pub weights: &'a B::Buf,
}

/// Draws `count` samples, numbers `first .. first + count` of `seed`: `[count, channels, height, width]` on the host.
///
/// A sample depends on (seed, its number), not on how many are drawn at a time. `progress` is told the steps done;
/// when it returns false the drawing stops with [`crate::Error::Interrupted`].
pub fn draw<B: Backend>(
    model: &Model<'_, B>,
    path: &[Move],
    seed: u64,
    first: u64,
    count: usize,
    progress: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<f32>> {
    let Model { backend, dit, weights } = model;
    let config = dit.config();
    let shape = [count, config.channels, config.image[0], config.image[1]];
    let (each, len) = (dit.image_len(), count * dit.image_len());
    let offset = first * each as u64;
    let key = |purpose, step| NoiseKey { seed, step, purpose };

    let mut x = backend.alloc(len)?;
    backend.normal(B::view_mut(&mut x, 0..len), key(Purpose::Sample, 0), offset);
    for (i, Move { t, step }) in path.iter().enumerate() {
        let prediction = predict(model, dit.layout(), &shape, &x, *t, weights)?;
        let mut z = None;
        if step.noise > 0.0 {
            let buffer = z.insert(backend.alloc(len)?);
            backend.normal(B::view_mut(buffer, 0..len), key(Purpose::SamplerStep, i as u64), offset);
        }
        let z = z.as_ref().map(|z| B::view(z, 0..len));
        backend.sampler_step(B::view_mut(&mut x, 0..len), None, prediction.data(), z, *step);
        if !progress(i + 1) {
            return Err(crate::Error::Interrupted);
        }
    }
    let mut images = vec![0.0; len];
    backend.download(&mut images, B::view(&x, 0..len));
    Ok(images)
}

fn predict<B: Backend>(
    model: &Model<'_, B>,
    layout: &Layout,
    shape: &[usize; 4],
    x: &B::Buf,
    t: usize,
    weights: &B::Buf,
) -> Result<crate::tape::Var<B>> {
    let len = B::len(x);
    let mut copy = model.backend.alloc(len)?;
    model.backend.copy(B::view_mut(&mut copy, 0..len), B::view(x, 0..len));
    let mut tape = Tape::forward_only(model.backend, layout, weights);
    let x = tape.constant(shape, copy);
    model.dit.forward(&mut tape, &x, &vec![t as f32; shape[0]], None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NoiseSchedule;
    use approx::assert_relative_eq;

    fn diffusion(objective: Objective) -> DiffusionConfig {
        DiffusionConfig { objective, schedule: NoiseSchedule::Cosine, ..DiffusionConfig::default() }
    }

    /// With a model that knows x0, every sampler ends at x0, from every objective.
    #[test]
    fn a_perfect_model_is_followed_to_its_x0() {
        for objective in [Objective::X0, Objective::Eps, Objective::V] {
            for sampler in [SamplerKind::Ddim, SamplerKind::Ddpm] {
                for steps in [1, 4, 50, 1000] {
                    let diffusion = diffusion(objective);
                    let schedule = Schedule::new(&diffusion);
                    let sample = SampleConfig { sampler, steps, clip: 0.0, ..SampleConfig::default() };
                    let x0 = 0.7;
                    let mut x = 1.3;
                    for Move { t, step } in path(&schedule, &diffusion, &sample) {
                        let (alpha, sigma) = (schedule.alpha(t), schedule.sigma(t));
                        let eps = (x - alpha * x0) / sigma;
                        let prediction = match objective {
                            Objective::X0 => x0,
                            Objective::Eps => eps,
                            Objective::V => alpha * eps - sigma * x0,
                        };
                        let guess = f64::from(step.from_x) * x + f64::from(step.from_prediction) * prediction;
                        assert_relative_eq!(guess, x0, epsilon = 2e-3);
                        x = f64::from(step.keep) * x
                            + f64::from(step.to_x0) * guess
                            + f64::from(step.noise) * 0.3;
                    }
                    assert_relative_eq!(x, x0, epsilon = 1e-3);
                }
            }
        }
    }

    /// At full length DDPM's step is the posterior mean of Ho et al. 2020, eq. 7.
    #[test]
    fn full_ddpm_is_the_posterior() {
        let diffusion = diffusion(Objective::X0);
        let schedule = Schedule::new(&diffusion);
        let sample =
            SampleConfig { sampler: SamplerKind::Ddpm, steps: 1000, clip: 0.0, ..SampleConfig::default() };
        for Move { t, step } in path(&schedule, &diffusion, &sample) {
            if t == 0 {
                continue;
            }
            let (abar, before) = (schedule.abar(t), schedule.abar(t - 1));
            let beta = 1.0 - abar / before;
            let to_x0 = before.sqrt() * beta / (1.0 - abar);
            let keep = (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - abar);
            assert_relative_eq!(f64::from(step.to_x0), to_x0, epsilon = 1e-6);
            assert_relative_eq!(f64::from(step.keep), keep, epsilon = 1e-6);
            assert_relative_eq!(
                f64::from(step.noise).powi(2),
                (1.0 - before) / (1.0 - abar) * beta,
                epsilon = 1e-6
            );
        }
    }
}
