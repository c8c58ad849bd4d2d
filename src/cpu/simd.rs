//! Loops compiled for the best instruction set that the machine has.

use pulp::{Arch, NullaryFnOnce};

/// Runs `work` with all that is inlined into it compiled for AVX2 and FMA (AVX-512, Neon) if the machine has them.
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
