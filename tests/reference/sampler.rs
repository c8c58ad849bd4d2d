//! One step of a sampler, and guidance, by the book.

use dit_engine::backend::SamplerStep;

use crate::common::real::Real;

/// x and saved afterwards.
pub fn step<R: Real>(
    x: &[R],
    saved: Option<&[R]>,
    prediction: &[R],
    z: Option<&[R]>,
    step: SamplerStep,
) -> (Vec<R>, Vec<R>) {
    let number = |x: f32| R::from_f64(f64::from(x));
    let clip = number(step.clip);
    (0..x.len())
        .map(|i| {
            let x0 = number(step.from_x) * x[i] + number(step.from_prediction) * prediction[i];
            let x0 = x0.map(|x0| x0.clamp(-clip.to_f64(), clip.to_f64()));
            let mut moved = number(step.keep) * x[i] + number(step.to_x0) * x0;
            if let Some(saved) = saved {
                moved += number(step.from_saved) * saved[i];
            }
            if let Some(z) = z {
                moved += number(step.noise) * z[i];
            }
            (moved, number(step.save_x) * x[i] + number(step.save_x0) * x0)
        })
        .unzip()
}

pub fn guide<R: Real>(c: &[R], u: &[R], samples: usize, scale: f32, rescale: f32) -> Vec<R> {
    let number = |x: f32| R::from_f64(f64::from(x));
    let elements = c.len() / samples;
    let mut out = Vec::new();
    for (c, u) in c.chunks(elements).zip(u.chunks(elements)) {
        let g: Vec<R> = c.iter().zip(u).map(|(&c, &u)| u + number(scale) * (c - u)).collect();
        let factor = number(1.0 - rescale) + number(rescale) * (deviation(c) / deviation(&g));
        out.extend(g.iter().map(|&g| if rescale == 0.0 { g } else { g * factor }));
    }
    out
}

fn deviation<R: Real>(x: &[R]) -> R {
    let (mut sum, mut squares) = (R::zero(), R::zero());
    for &x in x {
        sum += x;
    }
    let mean = sum / R::count(x.len());
    for &x in x {
        squares += (x - mean) * (x - mean);
    }
    (squares / R::count(x.len())).map(f64::sqrt)
}
