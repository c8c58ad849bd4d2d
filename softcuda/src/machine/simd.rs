//! Loops over lanes, compiled for the best instruction set that the machine has.

use pulp::NullaryFnOnce;

/// Runs `work` with all that is inlined into it compiled for AVX2 and FMA where the machine has them (AVX-512 would double
/// the code for little). Write `vectorised(#[inline(always)] || ...)`.
#[inline(always)]
pub fn vectorised<R>(work: impl FnMut() -> R) -> R {
    let mut work = Inlined(work);
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(work);
    }
    (work.0)()
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
