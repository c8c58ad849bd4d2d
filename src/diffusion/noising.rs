//! What noise a training sample gets: its timestep, its frames, its weight.

use crate::backend::{Backend, NoiseKey, NoiseRow, Objective, Purpose};
use crate::config::{DiffusionConfig, Region};
use crate::diffusion::schedule::Schedule;
use crate::error::Result;
use crate::random;
use crate::tape::{Tape, Var};

/// The noise levels of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// Timestep of each sample.
    pub t: Vec<usize>,
    /// Signal, noise and frames of each sample.
    pub rows: Vec<NoiseRow>,
    /// Loss weight of each sample.
    pub weights: Vec<f32>,
}

impl Levels {
    /// The levels of given timesteps, noise on every frame.
    pub fn at(schedule: &Schedule, config: &DiffusionConfig, t: &[usize], width: usize) -> Levels {
        let rows = t.iter().map(|&t| row(schedule, t, 0..width)).collect();
        let weights = t.iter().map(|&t| schedule.loss_weight(config, t) as f32).collect();
        Levels { t: t.to_vec(), rows, weights }
    }

    /// The levels of a training step: drawn from (seed, step), so that they never depend on what ran before.
    ///
    /// Stratified: sample i of B gets t uniform in `[i T / B, (i + 1) T / B)`.
    pub fn draw(
        schedule: &Schedule,
        config: &DiffusionConfig,
        seed: u64,
        step: u64,
        batch: usize,
        width: usize,
    ) -> Levels {
        let key = |purpose| NoiseKey { seed, step, purpose };
        let steps = schedule.steps();
        let t: Vec<usize> = (0..batch)
            .map(|i| {
                let u = f64::from(random::uniform_at(key(Purpose::Timestep), i as u64));
                let place = if config.stratified { (i as f64 + u) / batch as f64 } else { u };
                ((place * steps as f64) as usize).min(steps - 1)
            })
            .collect();
        let mut levels = Levels::at(schedule, config, &t, width);
        for (i, row) in levels.rows.iter_mut().enumerate() {
            let draws = [0, 1, 2].map(|j| random::uniform_at(key(Purpose::Range), 3 * i as u64 + j));
            let range = draw_region(config.region, width, draws);
            (row.from, row.to) = (range.start as f32, range.end as f32);
        }
        levels
    }

    /// The timesteps as the model takes them.
    pub fn t_for_model(&self) -> Vec<f32> {
        self.t.iter().map(|&t| t as f32).collect()
    }
}

/// Noisy images and what the model should say to them.
pub struct Noised<B: Backend> {
    /// `[batch, channels, height, width]`
    pub x_t: Var<B>,
    /// Same shape: x0, eps or v.
    pub target: Var<B>,
}

/// Mixes noise into a batch: `x_t = alpha x0 + sigma eps` on the chosen frames.
pub fn apply<B: Backend>(
    tape: &Tape<'_, B>,
    x0: &Var<B>,
    eps: &Var<B>,
    levels: &Levels,
    objective: Objective,
) -> Result<Noised<B>> {
    mixed(tape, x0, levels, |backend, x_t, target, rows| {
        backend.noise_mix(x_t, target, x0.data(), eps.data(), rows, objective, x0.shape()[3]);
    })
}

/// The same with the noise drawn as it is mixed: number `first` and following of the stream `key`.
pub fn draw_and_apply<B: Backend>(
    tape: &Tape<'_, B>,
    x0: &Var<B>,
    key: NoiseKey,
    first: u64,
    levels: &Levels,
    objective: Objective,
) -> Result<Noised<B>> {
    mixed(tape, x0, levels, |backend, x_t, target, rows| {
        backend.noise_mix_drawn(x_t, target, x0.data(), rows, key, first, objective, x0.shape()[3]);
    })
}

/// Images as `mix` makes them of x_t, target and the levels' rows.
fn mixed<B: Backend>(
    tape: &Tape<'_, B>,
    x0: &Var<B>,
    levels: &Levels,
    mix: impl FnOnce(&B, B::Mut<'_>, B::Mut<'_>, B::Ref<'_>),
) -> Result<Noised<B>> {
    let len = x0.len();
    let rows = tape.constant_from_host(&[levels.rows.len(), 4], bytemuck::cast_slice(&levels.rows))?;
    let (mut x_t, mut target) = (tape.backend.alloc(len)?, tape.backend.alloc(len)?);
    mix(tape.backend, B::view_mut(&mut x_t, 0..len), B::view_mut(&mut target, 0..len), rows.data());
    Ok(Noised { x_t: tape.constant(x0.shape(), x_t), target: tape.constant(x0.shape(), target) })
}

fn row(schedule: &Schedule, t: usize, frames: std::ops::Range<usize>) -> NoiseRow {
    NoiseRow {
        alpha: schedule.alpha(t) as f32,
        sigma: schedule.sigma(t) as f32,
        from: frames.start as f32,
        to: frames.end as f32,
    }
}

/// At least one frame; ranges and ends are uniform in length, and ranges uniform in place.
fn draw_region(region: Region, width: usize, [which, length, place]: [f32; 3]) -> std::ops::Range<usize> {
    let region = match region {
        Region::Mixed if which < 1.0 / 3.0 => Region::Whole,
        Region::Mixed if which < 2.0 / 3.0 => Region::Range,
        Region::Mixed => Region::End,
        other => other,
    };
    let length = 1 + ((length * width as f32) as usize).min(width - 1);
    match region {
        Region::Range => {
            let free = width - length;
            let start = ((place * (free + 1) as f32) as usize).min(free);
            start..start + length
        }
        Region::End => width - length..width,
        Region::Whole | Region::Mixed => 0..width,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(region: Region, stratified: bool) -> Vec<Levels> {
        let config = DiffusionConfig { region, stratified, ..DiffusionConfig::default() };
        let schedule = Schedule::new(&config);
        (0..200).map(|step| Levels::draw(&schedule, &config, 7, step, 10, 32)).collect()
    }

    #[test]
    fn stratified_steps_cover_every_stratum() {
        for levels in draws(Region::Whole, true) {
            for (i, &t) in levels.t.iter().enumerate() {
                assert_eq!(t / 100, i);
            }
        }
        let independent = draws(Region::Whole, false);
        assert!(independent.iter().any(|levels| (0..10).any(|i| levels.t[i] / 100 != i)));
    }

    #[test]
    fn regions_are_what_their_names_say() {
        let frames = |region| {
            draws(region, true)
                .into_iter()
                .flat_map(|levels| levels.rows)
                .map(|row| (row.from as usize, row.to as usize))
                .collect::<Vec<_>>()
        };
        assert!(frames(Region::Whole).iter().all(|&range| range == (0, 32)));
        assert!(frames(Region::End).iter().all(|&(from, to)| from < to && to == 32));
        let ranges = frames(Region::Range);
        assert!(ranges.iter().all(|&(from, to)| from < to && to <= 32));
        for frame in 0..32 {
            assert!(ranges.iter().any(|&(from, to)| (from..to).contains(&frame)));
        }
        let mixed = frames(Region::Mixed);
        let whole = mixed.iter().filter(|&&range| range == (0, 32)).count() as f64 / mixed.len() as f64;
        assert!((0.33..0.45).contains(&whole), "whole: {whole}");
    }

    #[test]
    fn a_step_draws_the_same_levels_whatever_ran_before() {
        assert_eq!(draws(Region::Mixed, true), draws(Region::Mixed, true));
    }
}
