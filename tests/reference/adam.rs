//! Adam by the book (Kingma and Ba 2015, algorithm 1), with decoupled decay, clipping by norm and an EMA.

use dit_engine::backend::AdamStep;

use crate::common::real::Real;

/// What an optimizer keeps for each parameter.
pub struct State<R> {
    pub weights: Vec<R>,
    pub first: Vec<R>,
    pub second: Vec<R>,
    pub ema: Vec<R>,
}

pub fn sum_of_squares<R: Real>(x: &[R]) -> R {
    let mut sum = R::zero();
    for &x in x {
        sum += x * x;
    }
    sum
}

impl<R: Real> State<R> {
    /// Zero moments; the EMA starts at the weights.
    pub fn new(weights: &[R]) -> Self {
        let zero = vec![R::zero(); weights.len()];
        Self { weights: weights.to_vec(), first: zero.clone(), second: zero, ema: weights.to_vec() }
    }

    pub fn update(&mut self, gradient: &[R], step: AdamStep) {
        let number = |x: f32| R::from_f64(f64::from(x));
        let one = R::from_f64(1.0);
        let (beta1, beta2) = (number(step.beta1), number(step.beta2));
        let corrected = |beta: f32| R::from_f64(1.0 - f64::from(beta).powi(step.step as i32));
        let norm = sum_of_squares(gradient).map(f64::sqrt);
        let limit = number(step.max_norm);
        for (i, &gradient) in gradient.iter().enumerate() {
            let g = if norm > limit { gradient * (limit / norm) } else { gradient };
            self.first[i] = beta1 * self.first[i] + (one - beta1) * g;
            self.second[i] = beta2 * self.second[i] + (one - beta2) * g * g;
            let m_hat = self.first[i] / corrected(step.beta1);
            let v_hat = self.second[i] / corrected(step.beta2);
            let decay = if i < step.decayed { number(step.weight_decay) } else { R::zero() };
            let w = self.weights[i];
            let shrunk = w - number(step.lr) * decay * w;
            self.weights[i] = shrunk - number(step.lr) * m_hat / (v_hat.map(f64::sqrt) + number(step.eps));
            let ema_decay = number(step.ema_decay);
            self.ema[i] = ema_decay * self.ema[i] + (one - ema_decay) * self.weights[i];
        }
    }
}
