//! The way from noise to a sample: at which timesteps the model is asked, and what is made of its answers.

use crate::backend::{Objective, SamplerStep};
use crate::config::{DiffusionConfig, SampleConfig, SamplerKind};
use crate::diffusion::schedule::Schedule;

/// One evaluation of the model, and what is made of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// Timestep at which the model is asked.
    pub t: usize,
    /// How x moves on.
    pub step: SamplerStep,
}

/// The whole path from timestep `from` (`T - 1` is pure noise) to a sample, in `sample.steps` evaluations.
///
/// The timesteps go down to 0, evenly spaced. With alpha, sigma the levels at t, alpha', sigma' those of the next t (1 and 0 after
/// the last), lambda = ln(alpha / sigma), h the growth of lambda, and keep = sigma' / sigma:
///
/// - DDIM (Song, Meng and Ermon 2021, eq. 12, eta = 0): `x' = keep x + c x0`, `c = alpha' - keep alpha`.
/// - DDPM (the same, eta = 1): `x' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s z`, `eps = (x - alpha x0) / sigma`,
///   `s^2 = sigma'^2 / sigma^2 (1 - abar / abar')`: with every T the posterior of Ho et al. 2020, eq. 7.
/// - DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): DDIM with `(1 + 1/2r) x0 - 1/2r x0_before` for x0, `r = h_before / h`; the
///   first and the last step are DDIM's.
/// - Heun: DDIM to x', then once more with the mean of x0 here and x0 at x': the trapezoidal rule for the part of the
///   probability-flow ODE (Song et al. 2021, eq. 13) that is not solved exactly. Two evaluations a step, the last one has one.
pub fn path(
    schedule: &Schedule,
    diffusion: &DiffusionConfig,
    sample: &SampleConfig,
    from: usize,
) -> Vec<Move> {
    let clip = if sample.clip > 0.0 { sample.clip as f32 } else { f32::INFINITY };
    let points = match sample.sampler {
        // Of an odd number of evaluations the last step has one; of an even one it is left out.
        SamplerKind::Heun => sample.steps.div_ceil(2),
        _ => sample.steps,
    };
    let timestep = |i: usize| {
        let place = 1.0 - i as f64 / (points - 1).max(1) as f64;
        (place * from as f64).round() as usize
    };
    let level = |i: usize| if i < points { Level::at(schedule.abar(timestep(i))) } else { Level::CLEAN };
    let mut moves = Vec::with_capacity(sample.steps);
    for i in 0..points {
        let (here, next) = (level(i), level(i + 1));
        let to = Step { here, next, objective: diffusion.objective, clip };
        let mut push = |i: usize, step: SamplerStep| moves.push(Move { t: timestep(i), step });
        let is_last = i + 1 == points;
        match sample.sampler {
            SamplerKind::Ddim => push(i, to.ddim()),
            SamplerKind::Ddpm => push(i, to.ddpm()),
            SamplerKind::Dpm if i > 0 && !is_last => push(i, to.second_order(level(i - 1))),
            SamplerKind::Dpm => push(i, SamplerStep { save_x0: 1.0, ..to.ddim() }),
            SamplerKind::Heun if is_last => push(i, to.ddim()),
            SamplerKind::Heun => {
                push(i, to.heun_forward());
                push(i + 1, to.heun_back());
            }
        }
    }
    moves
}

/// How much signal and how much noise there is.
#[derive(Clone, Copy, Debug)]
struct Level {
    alpha: f64,
    sigma: f64,
}

impl Level {
    const CLEAN: Level = Level { alpha: 1.0, sigma: 0.0 };

    fn at(abar: f64) -> Level {
        Level { alpha: abar.sqrt(), sigma: (1.0 - abar).sqrt() }
    }

    /// Half the logarithm of the signal-to-noise ratio.
    fn lambda(self) -> f64 {
        (self.alpha / self.sigma).ln()
    }

    /// How x0 comes out of x and of what the model says.
    fn estimate(self, objective: Objective) -> (f64, f64) {
        match objective {
            Objective::X0 => (0.0, 1.0),
            Objective::Eps => (1.0 / self.alpha, -self.sigma / self.alpha),
            Objective::V => (self.alpha, -self.sigma),
        }
    }
}

/// A step from one level to the next.
#[derive(Clone, Copy)]
struct Step {
    here: Level,
    next: Level,
    objective: Objective,
    clip: f32,
}

impl Step {
    /// What all have: an estimate of x0 from a prediction at `level`.
    fn estimate(self, level: Level) -> SamplerStep {
        let (from_x, from_prediction) = level.estimate(self.objective);
        SamplerStep {
            from_x: from_x as f32,
            from_prediction: from_prediction as f32,
            clip: self.clip,
            ..SamplerStep::default()
        }
    }

    /// Factors of x and of x0.
    fn factors(self) -> (f64, f64) {
        let keep = self.next.sigma / self.here.sigma;
        (keep, self.next.alpha - keep * self.here.alpha)
    }

    fn ddim(self) -> SamplerStep {
        let (keep, to_x0) = self.factors();
        SamplerStep { keep: keep as f32, to_x0: to_x0 as f32, ..self.estimate(self.here) }
    }

    fn ddpm(self) -> SamplerStep {
        let (here, next) = (self.here, self.next);
        let noise2 = next.sigma.powi(2) / here.sigma.powi(2) * (1.0 - (here.alpha / next.alpha).powi(2));
        let keep = (next.sigma.powi(2) - noise2).max(0.0).sqrt() / here.sigma;
        SamplerStep {
            keep: keep as f32,
            to_x0: (next.alpha - keep * here.alpha) as f32,
            noise: noise2.sqrt() as f32,
            ..self.estimate(here)
        }
    }

    /// DPM-Solver++(2M); the estimate of the step before, at `before`, is what was saved.
    fn second_order(self, before: Level) -> SamplerStep {
        let (keep, to_x0) = self.factors();
        let h = self.next.lambda() - self.here.lambda();
        let share = 0.5 * h / (self.here.lambda() - before.lambda());
        SamplerStep {
            keep: keep as f32,
            to_x0: (to_x0 * (1.0 + share)) as f32,
            from_saved: (-to_x0 * share) as f32,
            save_x0: 1.0,
            ..self.estimate(self.here)
        }
    }

    /// To the next level, and the half of the answer that is known is saved.
    fn heun_forward(self) -> SamplerStep {
        let (keep, to_x0) = self.factors();
        SamplerStep { save_x: keep as f32, save_x0: (0.5 * to_x0) as f32, ..self.ddim() }
    }

    /// The other half.
    fn heun_back(self) -> SamplerStep {
        let (_, to_x0) = self.factors();
        SamplerStep { to_x0: (0.5 * to_x0) as f32, from_saved: 1.0, ..self.estimate(self.next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NoiseSchedule;
    use approx::assert_relative_eq;

    const ALL: [SamplerKind; 4] = [SamplerKind::Ddim, SamplerKind::Ddpm, SamplerKind::Dpm, SamplerKind::Heun];

    fn diffusion(objective: Objective) -> DiffusionConfig {
        DiffusionConfig { objective, schedule: NoiseSchedule::Cosine, ..DiffusionConfig::default() }
    }

    fn sample(sampler: SamplerKind, steps: usize) -> SampleConfig {
        SampleConfig { sampler, steps, clip: 0.0, ..SampleConfig::default() }
    }

    /// Walks a path by the formula of `Backend::sampler_step`, with a model that knows E[x0 | x].
    fn walk(
        schedule: &Schedule,
        objective: Objective,
        moves: &[Move],
        x: f64,
        model: impl Fn(f64, f64, f64) -> f64,
    ) -> f64 {
        let (mut x, mut saved) = (x, 0.0);
        for Move { t, step } in moves {
            let (alpha, sigma) = (schedule.alpha(*t), schedule.sigma(*t));
            let x0 = model(x, alpha, sigma);
            let eps = (x - alpha * x0) / sigma;
            let prediction = match objective {
                Objective::X0 => x0,
                Objective::Eps => eps,
                Objective::V => alpha * eps - sigma * x0,
            };
            let f = f64::from;
            let guess = f(step.from_x) * x + f(step.from_prediction) * prediction;
            assert_relative_eq!(guess, x0, epsilon = 2e-3);
            let next =
                f(step.keep) * x + f(step.to_x0) * guess + f(step.from_saved) * saved + f(step.noise) * 0.3;
            saved = f(step.save_x) * x + f(step.save_x0) * guess;
            x = next;
        }
        x
    }

    /// With a model that knows x0, every sampler ends at x0, from every objective.
    #[test]
    fn a_perfect_model_is_followed_to_its_x0() {
        for objective in [Objective::X0, Objective::Eps, Objective::V] {
            for sampler in ALL {
                for steps in [1, 2, 4, 50, 999, 1000] {
                    let schedule = Schedule::new(&diffusion(objective));
                    let moves = path(&schedule, &diffusion(objective), &sample(sampler, steps), 999);
                    let even_heun = sampler == SamplerKind::Heun && steps % 2 == 0;
                    assert_eq!(moves.len(), if even_heun { steps - 1 } else { steps });
                    let x = walk(&schedule, objective, &moves, 1.3, |_, _, _| 0.7);
                    assert_relative_eq!(x, 0.7, epsilon = 1e-3);
                }
            }
        }
    }

    /// Of data that are normal with deviation `s`, the flow is known: x keeps its quotient to its deviation. The error of a method of
    /// first order halves when the steps do, that of one of second order falls to a quarter. Looked at half way: the last steps,
    /// where lambda goes to infinity, are no longer small.
    #[test]
    fn second_order_samplers_are_of_second_order() {
        let objective = Objective::X0;
        let schedule = Schedule::new(&diffusion(objective));
        let s2 = 0.25;
        let model = |x: f64, alpha: f64, sigma: f64| alpha * s2 * x / (alpha * alpha * s2 + sigma * sigma);
        let deviation = |t: usize| (schedule.abar(t) * s2 + 1.0 - schedule.abar(t)).sqrt();
        let error = |sampler, half: usize| {
            let moves = path(&schedule, &diffusion(objective), &sample(sampler, 2 * half + 1), 800);
            let x = walk(&schedule, objective, &moves[..half], deviation(800), model);
            (x - deviation(400)).abs()
        };
        for (sampler, order) in [(SamplerKind::Ddim, 1), (SamplerKind::Dpm, 2), (SamplerKind::Heun, 2)] {
            let (coarse, fine) = (error(sampler, 20), error(sampler, 40));
            let (least, most) = if order == 1 { (1.7, 2.5) } else { (3.2, 6.0) };
            let gain = coarse / fine;
            assert!(
                (least..most).contains(&gain),
                "{sampler:?}: {coarse:e} and {fine:e}, {gain:.1} times less"
            );
        }
        assert!(error(SamplerKind::Heun, 20) < 0.2 * error(SamplerKind::Ddim, 20));
    }

    /// At full length DDPM's step is the posterior mean of Ho et al. 2020, eq. 7.
    #[test]
    fn full_ddpm_is_the_posterior() {
        let diffusion = diffusion(Objective::X0);
        let schedule = Schedule::new(&diffusion);
        for Move { t, step } in path(&schedule, &diffusion, &sample(SamplerKind::Ddpm, 1000), 999) {
            if t == 0 {
                continue;
            }
            let (abar, before) = (schedule.abar(t), schedule.abar(t - 1));
            let beta = 1.0 - abar / before;
            let to_x0 = before.sqrt() * beta / (1.0 - abar);
            let keep = (1.0 - beta).sqrt() * (1.0 - before) / (1.0 - abar);
            assert_relative_eq!(f64::from(step.to_x0), to_x0, epsilon = 1e-6);
            assert_relative_eq!(f64::from(step.keep), keep, epsilon = 1e-6);
            let noise2 = (1.0 - before) / (1.0 - abar) * beta;
            assert_relative_eq!(f64::from(step.noise).powi(2), noise2, epsilon = 1e-6);
        }
    }
}
