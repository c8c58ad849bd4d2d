//! Loops over lanes, compiled for the best instruction set that the machine has.

use pulp::{Arch, NullaryFnOnce};

/// Runs `work` with all that is inlined into it compiled for AVX2 and FMA or AVX-512 where the machine has them. Write
/// `vectorised(#[inline(always)] || ...)`.
#[inline(always)]
pub fn vectorised<R>(work: impl FnMut() -> R) -> R {
    Arch::new().dispatch(Inlined(work))
}

/// A closure that is called as `FnMut`, that is, without the shim of `FnOnce`, which need not be inlined.
struct Inlined<F>(F);

impl<R, F: FnMut() -> R> NullaryFnOnce for Inlined<F> {
    type Output = R;

    #[inline(always)]
    fn call(mut self) -> R {
        (self.0)()
    }
}
