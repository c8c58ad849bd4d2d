//! What the kernel tests share: seeded inputs, memory of a backend, and the rule for "close enough".
#![allow(dead_code)] // Each test file uses its own part.

pub mod cuda;
pub mod program;
pub mod real;

use dit_engine::backend::Backend;
use dit_engine::config::{TextConfig, TextMode};
use dit_engine::text::Captions;

/// Seeded numbers, uniform in [-1, 1) (splitmix64: Steele, Lea and Flood 2014).
pub fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    (0..len).map(|_| (next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0).collect()
}

/// Captions of seeded tokens and lengths, for a model that hears them so; of the first sample there is none.
pub fn captions(seed: u64, batch: usize, config: &TextConfig) -> Option<Captions> {
    if config.mode == TextMode::None {
        return None;
    }
    let below = |seed: u64, len: usize, most: usize| -> Vec<usize> {
        random(seed, len).iter().map(|x| ((0.5 + 0.5 * x) * most as f32) as usize).collect()
    };
    let mut captions = Captions::none(batch, config.tokens);
    let lengths = below(seed, batch, config.tokens);
    let ids = below(seed + 1, batch * config.tokens, config.vocabulary);
    for (sample, &length) in lengths.iter().enumerate().skip(1) {
        captions.lengths[sample] = (length + 1) as f32;
        let places = sample * config.tokens..sample * config.tokens + length + 1;
        captions.ids[places.clone()].iter_mut().zip(&ids[places]).for_each(|(to, &id)| *to = id as u32);
    }
    captions.features = random(seed + 2, batch * config.tokens * config.features);
    Some(captions)
}

/// The same numbers with all their digits in f64.
pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// A buffer of the backend that holds `x`.
pub fn upload<B: Backend>(backend: &B, x: &[f32]) -> B::Buf {
    let mut buf = backend.alloc(x.len()).expect("memory for a test");
    backend.upload(B::view_mut(&mut buf, 0..x.len()), x);
    buf
}

/// Activations of the backend that hold `x`, as near as the device's precision can.
pub fn upload_activation<B: Backend>(backend: &B, x: &[f32]) -> B::Buf {
    let mut buf = backend.alloc_activation(x.len()).expect("memory for a test");
    backend.upload(B::view_mut(&mut buf, 0..x.len()), x);
    buf
}

/// Parameters of the backend that hold `x`.
pub fn upload_weights<B: Backend>(backend: &B, x: &[f32]) -> B::Buf {
    let mut buf = backend.alloc_weights(x.len()).expect("memory for a test");
    backend.upload(B::view_mut(&mut buf, 0..x.len()), x);
    buf
}

/// `x` as the backend's activations hold it: what a reference has to be given, and how a naive result is rounded.
pub fn rounded<B: Backend>(backend: &B, x: &[f32]) -> Vec<f32> {
    download(backend, &upload_activation(backend, x))
}

/// Activations full of NaN.
pub fn poisoned_activation<B: Backend>(backend: &B, len: usize) -> B::Buf {
    upload_activation(backend, &vec![f32::NAN; len])
}

/// A buffer full of NaN: an element that a kernel forgets to write, or reads first, is seen.
pub fn poisoned<B: Backend>(backend: &B, len: usize) -> B::Buf {
    upload(backend, &vec![f32::NAN; len])
}

/// What a buffer holds.
pub fn download<B: Backend>(backend: &B, buf: &B::Buf) -> Vec<f32> {
    let mut x = vec![0.0; B::len(buf)];
    backend.download(&mut x, B::view(buf, 0..B::len(buf)));
    x
}

/// All of a buffer, to read.
pub fn all<B: Backend>(buf: &B::Buf) -> B::Ref<'_> {
    B::view(buf, 0..B::len(buf))
}

/// All of a buffer, to write.
pub fn all_mut<B: Backend>(buf: &mut B::Buf) -> B::Mut<'_> {
    let len = B::len(buf);
    B::view_mut(buf, 0..len)
}

/// Roundings of the largest value that are allowed beyond twice the naive error, so that a naive result that
/// happens to be exact does not demand the same of everybody.
const FLOOR_ROUNDINGS: f64 = 4.0;

/// The rule of the house: the largest error against the f64 truth is at most twice that of a naive f32
/// implementation, plus a floor of a few roundings of the largest value.
pub fn assert_close(name: &str, got: &[f32], want: &[f64], naive: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}: length");
    assert_eq!(naive.len(), want.len(), "{name}: length of the naive result");
    let largest = want.iter().fold(0.0_f64, |m, w| m.max(w.abs()));
    let naive_error = naive.iter().zip(want).fold(0.0_f64, |m, (&n, w)| m.max((f64::from(n) - w).abs()));
    let bound = 2.0 * naive_error + FLOOR_ROUNDINGS * f64::from(f32::EPSILON) * largest;
    for (i, (&g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(g) - w).abs();
        assert!(error <= bound, "{name}[{i}] = {g}, want {w}: error {error:e}, allowed {bound:e}"); // NaN fails
    }
}

/// Elements of a gradient that are held against central differences: enough to meet every row and column
/// class of a tile, few enough to be quick.
const DIFFERENCES: usize = 24;
/// Step of the differences: balances the h^2 of the truncation against the rounding of f64.
const STEP: f64 = 1e-5;

/// Holds some elements of a gradient against central differences of an f64 `loss` around `at`.
/// `relative` is the error allowed as a part of the largest element.
pub fn assert_gradient(name: &str, got: &[f32], at: &[f32], relative: f64, loss: impl Fn(&[f64]) -> f64) {
    assert_eq!(got.len(), at.len(), "{name}: length");
    let mut x = wide(at);
    let largest = got.iter().fold(0.0_f64, |m, &g| m.max(f64::from(g).abs()));
    for k in 0..DIFFERENCES.min(at.len()) {
        // First, last, and evenly between.
        let i = k * (at.len() - 1) / (DIFFERENCES.min(at.len()) - 1).max(1);
        let centre = x[i];
        x[i] = centre + STEP;
        let above = loss(&x);
        x[i] = centre - STEP;
        let below = loss(&x);
        x[i] = centre;
        let want = (above - below) / (2.0 * STEP);
        let error = (f64::from(got[i]) - want).abs();
        assert!(error <= relative * largest + 1e-8, "{name}[{i}] = {}, differences say {want}", got[i]);
    }
}

/// Runs `work` in a pool of 1, 2 and 3 threads and asserts that the results have the same bits.
pub fn assert_same_bits_for_any_threads(name: &str, work: impl Fn() -> Vec<f32> + Send + Sync) {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(&work).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3), "{name}: bits depend on the number of threads");
}
