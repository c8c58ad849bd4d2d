//! Noise schedules: abar_t for t = 0 .. T, and what follows from it.

use crate::backend::Objective;
use crate::config::{DiffusionConfig, LossWeight, NoiseSchedule};

/// The signal and noise levels of every timestep.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// abar_t = product over s <= t of (1 - beta_s), t = 0 .. T.
    abar: Vec<f64>,
}

impl Schedule {
    /// The schedule of a configuration.
    pub fn new(config: &DiffusionConfig) -> Self {
        let steps = config.steps;
        let betas: Vec<f64> = match config.schedule {
            NoiseSchedule::Linear | NoiseSchedule::Seed => linear_betas(steps),
            NoiseSchedule::Cosine => cosine_betas(steps),
        };
        let mut product = 1.0;
        let abar = betas
            .iter()
            .map(|beta| {
                product *= 1.0 - beta;
                product
            })
            .collect();
        Schedule { abar }
    }

    /// Number of timesteps T.
    pub fn steps(&self) -> usize {
        self.abar.len()
    }

    /// abar_t
    pub fn abar(&self, t: usize) -> f64 {
        self.abar[t]
    }

    /// alpha = sqrt(abar_t), the share of the signal.
    pub fn alpha(&self, t: usize) -> f64 {
        self.abar[t].sqrt()
    }

    /// sigma = sqrt(1 - abar_t), the share of the noise.
    pub fn sigma(&self, t: usize) -> f64 {
        (1.0 - self.abar[t]).sqrt()
    }

    /// Weight of a sample's squared error. `min_snr` (Hang et al. 2023): min(SNR, gamma) in the loss on x0, divided
    /// by SNR for eps and by SNR + 1 for v, which is the same loss in those coordinates.
    pub fn loss_weight(&self, config: &DiffusionConfig, t: usize) -> f64 {
        let abar = self.abar[t];
        let snr = abar / (1.0 - abar);
        match (config.loss_weight, config.objective) {
            (LossWeight::Uniform, _) => 1.0,
            (LossWeight::MinSnr, Objective::X0) => snr.min(config.min_snr_gamma),
            (LossWeight::MinSnr, Objective::Eps) => snr.min(config.min_snr_gamma) / snr,
            (LossWeight::MinSnr, Objective::V) => snr.min(config.min_snr_gamma) / (snr + 1.0),
        }
    }
}

/// beta from 1e-4 to 0.02 (Ho et al. 2020, section 4), for T = 1000; for another T both ends are scaled by
/// 1000 / T, so that abar_T stays about the same.
fn linear_betas(steps: usize) -> Vec<f64> {
    let scale = 1000.0 / steps as f64;
    let (first, last) = (1e-4 * scale, (0.02 * scale).min(0.999));
    (0..steps).map(|t| first + (last - first) * t as f64 / (steps - 1).max(1) as f64).collect()
}

/// beta_t = 1 - abar(t + 1) / abar(t), at most 0.999, with abar(t) = cos^2((t / T + s) / (1 + s) pi / 2), s = 0.008
/// (Nichol and Dhariwal 2021, eq. 17).
fn cosine_betas(steps: usize) -> Vec<f64> {
    let abar = |t: usize| {
        let angle = (t as f64 / steps as f64 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2;
        angle.cos().powi(2)
    };
    (0..steps).map(|t| (1.0 - abar(t + 1) / abar(t)).min(0.999)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn schedule(schedule: NoiseSchedule, steps: usize) -> Schedule {
        Schedule::new(&DiffusionConfig { schedule, steps, ..DiffusionConfig::default() })
    }

    #[test]
    fn linear_matches_ho_et_al() {
        let linear = schedule(NoiseSchedule::Linear, 1000);
        assert_relative_eq!(linear.abar(0), 1.0 - 1e-4, epsilon = 1e-15);
        assert_relative_eq!(linear.abar(1), (1.0 - 1e-4) * (1.0 - 1e-4 - 0.0199 / 999.0), epsilon = 1e-15);
        // The well-known end of the schedule: sqrt(abar_T) is about 0.00635.
        assert_relative_eq!(linear.alpha(999), 0.006_353, epsilon = 1e-5);
    }

    #[test]
    fn every_schedule_falls_from_almost_one_to_almost_zero() {
        for kind in [NoiseSchedule::Linear, NoiseSchedule::Cosine, NoiseSchedule::Seed] {
            for steps in [50, 1000, 4000] {
                let schedule = schedule(kind, steps);
                assert!(schedule.abar(0) > 0.99 && schedule.abar(steps - 1) < 1e-4, "{kind:?} {steps}");
                assert!((1..steps).all(|t| schedule.abar(t) < schedule.abar(t - 1)));
            }
        }
    }

    #[test]
    fn min_snr_is_the_same_loss_in_every_objective() {
        let schedule = schedule(NoiseSchedule::Cosine, 1000);
        let weight = |objective, t| {
            let config =
                DiffusionConfig { objective, loss_weight: LossWeight::MinSnr, ..DiffusionConfig::default() };
            schedule.loss_weight(&config, t)
        };
        for t in [0, 10, 500, 900, 999] {
            let snr = schedule.abar(t) / (1.0 - schedule.abar(t));
            // An error e in x0 is an error e alpha/sigma in eps and e/sigma in v.
            let alpha2 = schedule.abar(t);
            let x0 = weight(Objective::X0, t);
            assert_relative_eq!(x0, weight(Objective::Eps, t) * snr, max_relative = 1e-9);
            assert_relative_eq!(x0, weight(Objective::V, t) / (1.0 - alpha2), max_relative = 1e-9);
        }
    }
}
