//! Loops compiled for the best instruction set that the machine has.

use pulp::{Arch, NullaryFnOnce};

/// Runs `work` with all that is inlined into it compiled for AVX-512, or AVX2 and FMA, or Neon, if the machine has them.
///
/// Write `vectorised(#[inline(always)] || ...)`, and `#[inline(always)]` on every function that the loops call: what
/// is not inlined keeps the instruction set of the whole program, where each `mul_add` is a call and a hundred
/// times slower. For the same reason not `Arch::dispatch` on a closure: it calls the closure through a shim of
/// `FnOnce`, which does not have to be inlined.
#[inline(always)]
pub fn vectorised<R>(work: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Inlined(work))
}

/// A closure that is called as `FnMut`, that is, directly.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{activation, exp::exp, pieces, softmax};
    use super::*;

    /// What the loops of a step are made of: exp, division, sums, the softmax with its rest.
    #[inline(always)]
    fn numbers(x: &[f32]) -> Vec<u32> {
        let mut all: Vec<f32> = x.iter().map(|&x| exp(x)).collect();
        all.extend(x.iter().map(|&x| activation::gelu(x)));
        all.extend(x.iter().map(|&x| activation::gelu_derivative(x)));
        all.push(pieces::sum(
            x,
            #[inline(always)]
            |x| x * x,
        ));
        let (mut products, mut states, mut sums) =
            (x.to_vec(), [softmax::State::default(); 3], vec![1.0; 3 * 5]);
        softmax::block(&mut products, x.len() / 3, &mut states, &mut sums, 5, 0.3);
        all.extend(products.iter().chain(&sums));
        all.extend(states.iter().map(|state| state.log_of_sum()));
        all.into_iter().map(f32::to_bits).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        // Rows of 333: no whole number of vectors of any width.
        let x: Vec<f32> = (0..3 * 333).map(|i| 90.0 * (i as f32 * 0.7).sin().powi(3)).collect();
        let want = numbers(&x);
        let best = vectorised(
            #[inline(always)]
            || numbers(&x),
        );
        assert!(best == want, "the best instruction set's bits differ");
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            let given = avx2.vectorize(Inlined(
                #[inline(always)]
                || numbers(&x),
            ));
            assert!(given == want, "AVX2's bits differ");
        }
    }
}
