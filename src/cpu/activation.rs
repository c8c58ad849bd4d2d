//! The pointwise nonlinearities and their derivatives, one number at a time, branch-free, so that loops over
//! them vectorise. Formulas: [`Activation`].

use super::exp::exp;
use crate::backend::Activation;

/// Slope of the leaky ReLU below 0.
const LEAK: f32 = 0.01;
/// sqrt(2 / pi)
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBIC: f32 = 0.044_715;
/// Where tanh changes from its polynomial to its exponential form.
const TANH_SPLIT: f32 = 0.625;
/// Beyond this GELU is x or 0 to the last bit, and its derivative 1 or 0.
const GELU_FLAT: f32 = 16.0;

/// max(x, 0) + 0.01 min(x, 0)
#[inline(always)]
pub fn leaky_relu(x: f32) -> f32 {
    if x > 0.0 { x } else { LEAK * x }
}

/// 1 for x > 0, else 0.01, as PyTorch has it.
#[inline(always)]
pub fn leaky_relu_derivative(x: f32) -> f32 {
    // NaN is neither above 0 nor at most 0, and must not become a slope.
    if x > 0.0 {
        1.0
    } else if x <= 0.0 {
        LEAK
    } else {
        x
    }
}

/// tanh(x) to a few ulp.
///
/// `1 - 2 / (e^2x + 1)`; near 0, where that cancels, `x + x^3 P(x^2)` (coefficients of Cephes' tanhf, Moshier 1989).
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
    let square = x * x;
    let mut p = -5.704_988_7e-3_f32;
    p = p.mul_add(square, 2.063_909e-2);
    p = p.mul_add(square, -5.373_971_6e-2);
    p = p.mul_add(square, 1.333_144_2e-1);
    p = p.mul_add(square, -3.333_328e-1);
    let near = (p * square).mul_add(x, x);
    if magnitude < TANH_SPLIT { near } else { far.copysign(x) }
}

/// 1 - tanh(x)^2
#[inline(always)]
pub fn tanh_derivative(x: f32) -> f32 {
    // 4 e / (1 + e)^2 with e = exp(-2|x|): no cancellation where tanh is near 1.
    let e = exp(-2.0 * x.abs());
    let below = 1.0 + e;
    4.0 * e / (below * below)
}

/// 1 / (1 + exp(-x))
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x / (1 + exp(-x))
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// sigmoid(x) and 1 - sigmoid(x), neither of them by a difference.
#[inline(always)]
fn sigmoid_and_rest(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let large = 1.0 / (1.0 + e);
    let small = e * large;
    if x > 0.0 { (large, small) } else { (small, large) }
}

/// s (1 + x (1 - s)), s = sigmoid(x)
#[inline(always)]
pub fn silu_derivative(x: f32) -> f32 {
    let (s, rest) = sigmoid_and_rest(x);
    s * x.mul_add(rest, 1.0)
}

/// x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    x * sigmoid(gelu_argument(x))
}

/// s (1 + x (1 - s) 2u'), s = sigmoid(2u), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)
#[inline(always)]
pub fn gelu_derivative(x: f32) -> f32 {
    // Flat beyond the bound; without it x^3 overflows and 0 * inf appears.
    let x = if x > GELU_FLAT { GELU_FLAT } else { x };
    let x = if x < -GELU_FLAT { -GELU_FLAT } else { x };
    let (s, rest) = sigmoid_and_rest(gelu_argument(x));
    let twice_slope = (x * x).mul_add(6.0 * GELU_SCALE * GELU_CUBIC, 2.0 * GELU_SCALE);
    s * (x * rest).mul_add(twice_slope, 1.0)
}

/// 2u of GELU.
#[inline(always)]
fn gelu_argument(x: f32) -> f32 {
    x * (x * x).mul_add(2.0 * GELU_SCALE * GELU_CUBIC, 2.0 * GELU_SCALE)
}

/// `x = activation(x)` for a slice. To be called inside a dispatch on the instruction set, or inlined into one.
#[inline(always)]
pub fn apply(x: &mut [f32], activation: Activation) {
    match activation {
        Activation::Identity => {}
        Activation::LeakyRelu => each(x, leaky_relu),
        Activation::Tanh => each(x, tanh),
        Activation::Silu => each(x, silu),
        Activation::Gelu => each(x, gelu),
    }
}

/// `y = activation(x)`, of the same length; as [`apply`].
#[inline(always)]
pub fn apply_to(y: &mut [f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::Identity => y.copy_from_slice(x),
        Activation::LeakyRelu => map(y, x, leaky_relu),
        Activation::Tanh => map(y, x, tanh),
        Activation::Silu => map(y, x, silu),
        Activation::Gelu => map(y, x, gelu),
    }
}

/// `dy *= activation'(x)`, x at least as long; as [`apply`].
#[inline(always)]
pub fn multiply_derivative(dy: &mut [f32], x: &[f32], activation: Activation) {
    match activation {
        Activation::Identity => {}
        Activation::LeakyRelu => chain(dy, x, leaky_relu_derivative),
        Activation::Tanh => chain(dy, x, tanh_derivative),
        Activation::Silu => chain(dy, x, silu_derivative),
        Activation::Gelu => chain(dy, x, gelu_derivative),
    }
}

#[inline(always)]
fn chain(dy: &mut [f32], x: &[f32], derivative: impl Fn(f32) -> f32) {
    for (dy, &x) in dy.iter_mut().zip(x) {
        *dy *= derivative(x);
    }
}

#[inline(always)]
fn map(y: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = f(x);
    }
}

#[inline(always)]
fn each(x: &mut [f32], f: impl Fn(f32) -> f32) {
    for value in x {
        *value = f(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (&'static str, fn(f32) -> f32, fn(f64) -> f64);

    fn gelu_tanh(x: f64) -> f64 {
        x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }

    #[test]
    fn values_and_derivatives_against_f64() {
        let silu_64 = |x: f64| x / (1.0 + (-x).exp());
        let pairs: [Pair; 8] = [
            ("leaky_relu", leaky_relu, |x| x.max(0.0) + 0.01 * x.min(0.0)),
            ("tanh", tanh, f64::tanh),
            ("silu", silu, silu_64),
            ("gelu", gelu, gelu_tanh),
            ("leaky_relu'", leaky_relu_derivative, |x| if x > 0.0 { 1.0 } else { 0.01 }),
            ("tanh'", tanh_derivative, |x| x.cosh().powi(-2)),
            ("silu'", silu_derivative, |x| {
                let s = 1.0 / (1.0 + (-x).exp());
                s * (1.0 + x * (1.0 - s))
            }),
            ("gelu'", gelu_derivative, |x| (gelu_tanh(x + 1e-5) - gelu_tanh(x - 1e-5)) / 2e-5),
        ];
        for (name, ours, exact) in pairs {
            for i in -120_000..=120_000 {
                let x = i as f32 * 1e-4;
                let (got, want) = (f64::from(ours(x)), exact(f64::from(x)));
                let bound = 4.0 * f64::from(f32::EPSILON) * want.abs().max(1.0);
                assert!((got - want).abs() <= bound, "{name}({x}) = {got}, not {want}");
            }
        }
    }

    #[test]
    fn tanh_is_accurate_relative_to_its_value() {
        for i in 1..=200_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).tanh();
            let error = (f64::from(tanh(x)) - want).abs() / want;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "tanh({x}): {error}");
            assert_eq!(tanh(-x), -tanh(x));
        }
        assert_eq!(tanh(1e-20), 1e-20);
    }

    #[test]
    fn extremes_stay_finite_and_nan_stays_nan() {
        let all = [
            leaky_relu,
            leaky_relu_derivative,
            tanh,
            tanh_derivative,
            silu,
            silu_derivative,
            gelu,
            gelu_derivative,
        ];
        for f in all {
            assert!(f(f32::NAN).is_nan());
            assert!(f(1e30).is_finite() && f(-1e30).is_finite());
        }
        assert_eq!((gelu(1e30), gelu_derivative(1e30), gelu_derivative(-1e30)), (1e30, 1.0, 0.0));
    }
}
