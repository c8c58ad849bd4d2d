//! One step of a sampler by the book.

use dit_engine::backend::SamplerStep;

use crate::common::real::Real;

pub fn step<R: Real>(x: &[R], prediction: &[R], z: Option<&[R]>, step: SamplerStep) -> Vec<R> {
    let number = |x: f32| R::from_f64(f64::from(x));
    let clip = number(step.clip);
    (0..x.len())
        .map(|i| {
            let x0 = number(step.from_x) * x[i] + number(step.from_prediction) * prediction[i];
            let x0 = x0.map(|x0| x0.clamp(-clip.to_f64(), clip.to_f64()));
            let moved = number(step.keep) * x[i] + number(step.to_x0) * x0;
            z.map_or(moved, |z| moved + number(step.noise) * z[i])
        })
        .collect()
}
