//! The attention family against the whole score matrix in f64.

mod common;
#[path = "reference/attention.rs"]
mod reference;

use common::cuda::{both, cuda};
use common::*;
use dit_engine::backend::{AttentionDims, Backend, CrossAttentionDims, Precision};
use dit_engine::cpu::{Cpu, scratch};
use dit_engine::cuda::Cuda;
use half::bf16;

/// (batch, tokens, heads, head_dim)
type Case = (usize, usize, usize, usize);

const CASES: [Case; 11] = [
    (1, 1, 1, 1),
    (2, 31, 3, 5),
    (1, 33, 1, 64),
    (3, 65, 2, 31),
    (2, 127, 1, 1),
    (1, 257, 2, 33),
    (2, 64, 2, 64),
    (1, 256, 1, 16),
    (1, 513, 1, 65),
    (1, 1100, 1, 8),
    (1, 70, 1, 256),
];

/// (queries, keys, heads, head_dim, how many keys each sample has)
type CrossCase = (usize, usize, usize, usize, &'static [usize]);

const CROSS_CASES: [CrossCase; 9] = [
    (1, 1, 1, 1, &[1]),
    (1, 33, 2, 5, &[1, 33, 17]),
    (65, 3, 1, 64, &[1, 2]),
    (31, 48, 3, 16, &[48, 1, 7]),
    (127, 65, 2, 33, &[64, 65]),
    (257, 31, 1, 32, &[30]),
    (66, 300, 1, 40, &[257, 300]),
    (130, 129, 2, 64, &[65, 128]),
    (64, 64, 1, 128, &[63, 64]),
];

/// The widest head of the CUDA kernels.
const WIDEST_CUDA: usize = 128;
/// Head dims that have CUDA kernels of their own, and numbers of tokens around the sides of their tiles.
const CUDA_HEAD_DIMS: [usize; 4] = [32, 64, 96, 128];
const CUDA_TOKENS: [usize; 4] = [1, 65, 130, 257];

fn dims((batch, tokens, heads, head_dim): Case) -> AttentionDims {
    AttentionDims { batch, tokens, heads, head_dim }
}

fn qkv_len(dims: AttentionDims) -> usize {
    3 * out_len(dims)
}

fn out_len(dims: AttentionDims) -> usize {
    dims.batch * dims.tokens * dims.dim()
}

/// A device, what it rounds activations to, and how many elements before each array lie in the same buffer: with one,
/// no array of activations is aligned.
struct Device<'a, B: Backend> {
    backend: &'a B,
    round: fn(f32) -> f32,
    offset: usize,
}

impl<'a, B: Backend> Device<'a, B> {
    fn new(backend: &'a B, precision: Precision) -> Self {
        let round = match precision {
            Precision::F32 => |x| x,
            Precision::Bf16 => |x| bf16::from_f32(x).to_f32(),
        };
        Self { backend, round, offset: 0 }
    }

    /// Numbers that the device's activations can be.
    fn random(&self, seed: u64, len: usize, spread: f32) -> Vec<f32> {
        random(seed, len).iter().map(|x| (self.round)(x * spread)).collect()
    }

    fn activations(&self, x: &[f32]) -> B::Buf {
        let mut buf = self.backend.alloc_activation(self.offset + x.len()).expect("memory for a test");
        self.backend.upload(B::view_mut(&mut buf, self.offset..self.offset + x.len()), x);
        buf
    }

    fn poisoned(&self, len: usize) -> B::Buf {
        self.activations(&vec![f32::NAN; len])
    }

    fn view<'b>(&self, buf: &'b B::Buf) -> B::Ref<'b> {
        B::view(buf, self.offset..B::len(buf))
    }

    fn view_mut<'b>(&self, buf: &'b mut B::Buf) -> B::Mut<'b> {
        let len = B::len(buf);
        B::view_mut(buf, self.offset..len)
    }

    fn download(&self, buf: &B::Buf) -> Vec<f32> {
        let mut x = vec![0.0; B::len(buf) - self.offset];
        self.backend.download(&mut x, self.view(buf));
        self.backend.check().expect("the kernels run");
        x
    }

    /// out and lse
    fn forward(&self, qkv: &[f32], dims: AttentionDims) -> (Vec<f32>, Vec<f32>) {
        let qkv = self.activations(qkv);
        let mut out = self.poisoned(out_len(dims));
        let mut lse = poisoned(self.backend, dims.batch * dims.heads * dims.tokens);
        let (out_view, lse_view) = (self.view_mut(&mut out), all_mut::<B>(&mut lse));
        self.backend.attention_forward(out_view, lse_view, self.view(&qkv), dims);
        (self.download(&out), download(self.backend, &lse))
    }

    /// dqkv, from what forward saved
    fn backward(
        &self,
        dout: &[f32],
        saved: &(Vec<f32>, Vec<f32>),
        qkv: &[f32],
        dims: AttentionDims,
    ) -> Vec<f32> {
        let [dout, out, qkv] = [dout, &saved.0, qkv].map(|x| self.activations(x));
        let lse = upload(self.backend, &saved.1);
        let mut dqkv = self.poisoned(qkv_len(dims));
        self.backend.attention_backward(
            self.view_mut(&mut dqkv),
            self.view(&dout),
            self.view(&out),
            all::<B>(&lse),
            self.view(&qkv),
            dims,
        );
        self.download(&dqkv)
    }

    /// `spread` scales q and k: large ones make the softmax nearly one-hot.
    fn check(&self, case: Case, spread: f32) {
        let dims = dims(case);
        let qkv = self.random(1, qkv_len(dims), spread);
        let dout = self.random(2, out_len(dims), 1.0);
        let name = format!("{case:?} x {spread} on {}", self.backend.name());
        let got = self.forward(&qkv, dims);
        let want = reference::forward(&wide(&qkv), dims);
        let naive = reference::forward_rounded(&qkv, dims, self.round);
        assert_close(&format!("out {name}"), &got.0, &want.0, &naive.0);
        assert_close(&format!("lse {name}"), &got.1, &want.1, &naive.1);
        let dqkv = self.backward(&dout, &got, &qkv, dims);
        let want = reference::backward(&wide(&dout), &wide(&qkv), dims);
        let naive = reference::backward_rounded(&dout, &qkv, dims, self.round);
        assert_close(&format!("dqkv {name}"), &dqkv, &want, &naive);
    }
}

/// What cross-attention is given.
struct Cross {
    q: Vec<f32>,
    kv: Vec<f32>,
    lengths: Vec<usize>,
    dims: CrossAttentionDims,
}

impl Cross {
    /// Padding holds NaN: it must not be read, or must not matter.
    fn new<B: Backend>(device: &Device<'_, B>, case: CrossCase) -> Cross {
        let (queries, keys, heads, head_dim, lengths) = case;
        let dims = CrossAttentionDims { batch: lengths.len(), queries, keys, heads, head_dim };
        let q = device.random(1, dims.batch * queries * dims.dim(), 1.0);
        let mut kv = device.random(2, dims.batch * keys * 2 * dims.dim(), 1.0);
        for (sample, &length) in kv.chunks_exact_mut(keys * 2 * dims.dim()).zip(lengths) {
            sample[length * 2 * dims.dim()..].fill(f32::NAN);
        }
        Cross { q, kv, lengths: lengths.to_vec(), dims }
    }

    fn dout<B: Backend>(&self, device: &Device<'_, B>) -> Vec<f32> {
        device.random(3, self.q.len(), 1.0)
    }

    fn inputs(&self) -> reference::Inputs<'_, f32> {
        reference::Inputs { q: &self.q, kv: &self.kv, lengths: &self.lengths }
    }

    fn lengths<B: Backend>(&self, backend: &B) -> B::Buf {
        upload(backend, &self.lengths.iter().map(|&length| length as f32).collect::<Vec<_>>())
    }
}

impl<B: Backend> Device<'_, B> {
    /// out and lse
    fn cross_forward(&self, cross: &Cross) -> (Vec<f32>, Vec<f32>) {
        let Cross { q, kv, dims, .. } = cross;
        let [q, kv] = [q, kv].map(|x| self.activations(x));
        let lengths = cross.lengths(self.backend);
        let mut out = self.poisoned(cross.q.len());
        let mut lse = poisoned(self.backend, dims.batch * dims.heads * dims.queries);
        self.backend.cross_attention_forward(
            self.view_mut(&mut out),
            all_mut::<B>(&mut lse),
            self.view(&q),
            self.view(&kv),
            all::<B>(&lengths),
            *dims,
        );
        (self.download(&out), download(self.backend, &lse))
    }

    /// dq and dkv, from what forward saved
    fn cross_backward(
        &self,
        dout: &[f32],
        saved: &(Vec<f32>, Vec<f32>),
        cross: &Cross,
    ) -> (Vec<f32>, Vec<f32>) {
        let [dout, out, q, kv] = [dout, &saved.0, &cross.q, &cross.kv].map(|x| self.activations(x));
        let (lse, lengths) = (upload(self.backend, &saved.1), cross.lengths(self.backend));
        let (mut dq, mut dkv) = (self.poisoned(cross.q.len()), self.poisoned(cross.kv.len()));
        self.backend.cross_attention_backward(
            self.view_mut(&mut dq),
            self.view_mut(&mut dkv),
            self.view(&dout),
            self.view(&out),
            all::<B>(&lse),
            self.view(&q),
            self.view(&kv),
            all::<B>(&lengths),
            cross.dims,
        );
        (self.download(&dq), self.download(&dkv))
    }

    fn check_cross(&self, case: CrossCase) {
        let cross = Cross::new(self, case);
        let (wide_q, wide_kv) = (wide(&cross.q), wide(&cross.kv));
        let exact = reference::Inputs { q: &wide_q, kv: &wide_kv, lengths: &cross.lengths };
        let name = format!("{case:?} on {}", self.backend.name());
        let got = self.cross_forward(&cross);
        let want = reference::cross_forward(exact, cross.dims, |x| x);
        let naive = reference::cross_forward(cross.inputs(), cross.dims, self.round);
        assert_close(&format!("out {name}"), &got.0, &want.0, &naive.0);
        assert_close(&format!("lse {name}"), &got.1, &want.1, &naive.1);
        let dout = cross.dout(self);
        let got = self.cross_backward(&dout, &got, &cross);
        let want = reference::cross_backward(&wide(&dout), exact, cross.dims, |x| x);
        let naive = reference::cross_backward(&dout, cross.inputs(), cross.dims, self.round);
        assert_close(&format!("dq {name}"), &got.0, &want.0, &naive.0);
        assert_close(&format!("dkv {name}"), &got.1, &want.1, &naive.1);
    }
}

/// The CPU, whose scratch is poisoned.
fn on_cpu(work: impl FnOnce(Device<Cpu>)) {
    work(Device::new(&Cpu::poisoned(), Precision::F32));
}

/// CUDA in both precisions.
fn on_cuda(work: impl Fn(Device<Cuda>)) {
    for backend in both() {
        work(Device::new(&backend, backend.precision()));
    }
}

#[test]
fn forward_and_backward_against_the_whole_matrix() {
    on_cpu(|cpu| CASES.into_iter().for_each(|case| cpu.check(case, 1.0)));
}

#[test]
fn cross_attention_against_the_whole_matrix() {
    on_cpu(|cpu| CROSS_CASES.into_iter().for_each(|case| cpu.check_cross(case)));
}

#[test]
fn cuda_cross_attention_against_the_whole_matrix() {
    on_cuda(|device| CROSS_CASES.into_iter().for_each(|case| device.check_cross(case)));
}

#[test]
fn cuda_cross_attention_needs_no_alignment() {
    on_cuda(|device| Device { offset: 1, ..device }.check_cross((67, 34, 2, 32, &[34, 33])));
}

#[test]
fn cuda_forward_and_backward_against_the_whole_matrix() {
    let narrow = CASES.into_iter().filter(|case| case.3 <= WIDEST_CUDA);
    let sides = CUDA_HEAD_DIMS.into_iter().flat_map(|d| CUDA_TOKENS.map(|tokens| (1, tokens, 1, d)));
    let cases: Vec<Case> = narrow.chain(sides).collect();
    on_cuda(|device| cases.iter().for_each(|&case| device.check(case, 1.0)));
}

/// Rows of whole packs, which a wide load could read, but from an address between packs.
#[test]
fn cuda_arrays_need_no_alignment() {
    on_cuda(|device| Device { offset: 1, ..device }.check((2, 67, 2, 32), 1.0));
}

/// Rows of whole packs that are shorter than the kernels' tiles.
#[test]
fn cuda_tiles_are_filled_up() {
    on_cuda(|device| [8, 40, 72, 104].into_iter().for_each(|d| device.check((1, 66, 2, d), 1.0)));
}

#[test]
fn cuda_refuses_wider_heads() {
    let backend = cuda(Precision::F32);
    let dims = dims((1, 2, 1, WIDEST_CUDA + 1));
    let (qkv, mut out) = (upload(&backend, &vec![0.0; qkv_len(dims)]), poisoned(&backend, out_len(dims)));
    let mut lse = poisoned(&backend, 2);
    backend.attention_forward(out.view_mut(0..out_len(dims)), lse.view_mut(0..2), all::<Cuda>(&qkv), dims);
    let error = backend.check().expect_err("no kernel is so wide");
    assert!(error.to_string().contains("129 features"), "{error}");
}

#[test]
fn peaked_softmax() {
    on_cpu(|cpu| cpu.check((1, 300, 1, 33), 6.0));
    on_cuda(|cuda| cuda.check((1, 300, 1, 33), 6.0));
}

#[test]
fn gradients_against_differences() {
    let dims = dims((2, 33, 2, 7));
    let (qkv, dout) = (random(3, qkv_len(dims)), random(4, out_len(dims)));
    let loss = |qkv: &[f64]| -> f64 {
        let (out, _) = reference::forward(qkv, dims);
        out.iter().zip(&dout).map(|(out, &g)| out * f64::from(g)).sum()
    };
    let mut results = Vec::new();
    on_cpu(|cpu| results.push(cpu.backward(&dout, &cpu.forward(&qkv, dims), &qkv, dims)));
    let cuda = cuda(Precision::F32);
    let cuda = Device::new(&cuda, Precision::F32);
    results.push(cuda.backward(&dout, &cuda.forward(&qkv, dims), &qkv, dims));
    for dqkv in results {
        assert_gradient("dqkv", &dqkv, &qkv, 2e-6, loss);
    }
}

#[test]
fn cross_attention_gradients_against_differences() {
    on_cpu(|cpu| {
        let cross = Cross::new(&cpu, (33, 9, 2, 7, &[9, 9]));
        let dout = cross.dout(&cpu);
        let (dq, dkv) = cpu.cross_backward(&dout, &cpu.cross_forward(&cross), &cross);
        let (q, kv) = (wide(&cross.q), wide(&cross.kv));
        let loss = |q: &[f64], kv: &[f64]| -> f64 {
            let inputs = reference::Inputs { q, kv, lengths: &cross.lengths };
            let (out, _) = reference::cross_forward(inputs, cross.dims, |x| x);
            out.iter().zip(&dout).map(|(out, &g)| out * f64::from(g)).sum()
        };
        assert_gradient("dq", &dq, &cross.q, 2e-6, |q| loss(q, &kv));
        assert_gradient("dkv", &dkv, &cross.kv, 2e-6, |kv| loss(&q, kv));
    });
}

/// Scores of +-10,000 overflow every exp that is not taken relative to the maximum.
#[test]
fn huge_scores_stay_finite() {
    fn check<B: Backend>(device: Device<B>) {
        let dims = dims((1, 300, 1, 8));
        let qkv = device.random(5, qkv_len(dims), 100.0);
        let saved = device.forward(&qkv, dims);
        let dqkv = device.backward(&device.random(6, out_len(dims), 1.0), &saved, &qkv, dims);
        assert!(saved.0.iter().chain(&saved.1).chain(&dqkv).all(|x| x.is_finite()));
    }
    on_cpu(check);
    on_cuda(check);
}

/// Scores of -280 everywhere: a key that a tile has too many, with a score of 0, would weigh more than all others together,
/// and its exp(score - lse) overflows.
#[test]
fn low_scores_are_not_drowned_by_padding() {
    fn check<B: Backend>(device: Device<B>) {
        let dims = dims((1, 70, 1, 8));
        let mut qkv = device.random(14, qkv_len(dims), 1.0);
        for token in qkv.chunks_exact_mut(24) {
            token[..8].fill(10.0);
            token[8..16].fill(-10.0);
        }
        let saved = device.forward(&qkv, dims);
        let (want, naive) = (reference::forward(&wide(&qkv), dims), reference::forward(&qkv, dims));
        assert_close("lse", &saved.1, &want.1, &naive.1);
        let dqkv = device.backward(&device.random(15, out_len(dims), 1.0), &saved, &qkv, dims);
        assert!(dqkv.iter().all(|x| x.is_finite()));
    }
    on_cpu(check);
    on_cuda(check);
}

/// A NaN in must come out, not be hidden by a maximum: training stops on it.
#[test]
fn nan_is_not_hidden() {
    fn check<B: Backend>(device: Device<B>) {
        let dims = dims((1, 40, 1, 8));
        for at in [0, 8, 16] {
            let mut qkv = device.random(7, qkv_len(dims), 1.0);
            qkv[24 * 3 + at] = f32::NAN;
            let (out, _) = device.forward(&qkv, dims);
            assert!(out.iter().any(|x| x.is_nan()), "NaN in q, k or v (element {at}) is gone");
        }
    }
    on_cpu(check);
    on_cuda(check);
}

#[test]
fn no_samples_do_nothing() {
    fn check<B: Backend>(device: Device<B>) {
        let dims = dims((0, 31, 2, 5));
        let saved = device.forward(&[], dims);
        assert!(device.backward(&[], &saved, &[], dims).is_empty());
    }
    on_cpu(check);
    on_cuda(check);
}

#[test]
fn bits_do_not_depend_on_threads() {
    for case in [(2, 257, 3, 33), (1, 1100, 1, 16)] {
        let dims = dims(case);
        let (qkv, dout) = (random(8, qkv_len(dims)), random(9, out_len(dims)));
        assert_same_bits_for_any_threads(&format!("{case:?}"), || {
            let mut all = Vec::new();
            on_cpu(|cpu| {
                let saved = cpu.forward(&qkv, dims);
                let dqkv = cpu.backward(&dout, &saved, &qkv, dims);
                all = [saved.0, saved.1, dqkv].concat();
            });
            all
        });
    }
}

/// softcuda takes blocks and warps in another order in every process of another seed; here, two runs of one.
#[test]
fn cuda_bits_are_the_same_again() {
    on_cuda(|device| {
        let dims = dims((2, 130, 2, 64));
        let (qkv, dout) = (device.random(8, qkv_len(dims), 1.0), device.random(9, out_len(dims), 1.0));
        let run = || {
            let saved = device.forward(&qkv, dims);
            let dqkv = device.backward(&dout, &saved, &qkv, dims);
            [saved.0, saved.1, dqkv].concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        assert!(run() == run());
    });
}

/// The scores of 1,100 tokens would take more than everything else does.
#[test]
fn cuda_memory_holds_no_scores() {
    on_cuda(|device| {
        let dims = dims((1, 1100, 1, 8));
        let qkv = device.random(12, qkv_len(dims), 1.0);
        let saved = device.forward(&qkv, dims);
        device.backward(&device.random(13, out_len(dims), 1.0), &saved, &qkv, dims);
        let all_scores = dims.tokens * dims.tokens * size_of::<bf16>();
        let used = device.backend.memory().peak_bytes;
        assert!(used < all_scores as u64, "{used} bytes at once");
    });
}

/// Bytes of scratch that forward and backward take on one thread.
fn scratch_bytes(tokens: usize) -> usize {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread pool");
    pool.install(|| {
        let dims = dims((1, tokens, 1, 4));
        let (qkv, dout) = (random(10, qkv_len(dims)), random(11, out_len(dims)));
        let (mut out, mut lse, mut dqkv) = (dout.clone(), vec![0.0; tokens], qkv.clone());
        dit_engine::cpu::attention::forward(&mut out, &mut lse, &qkv, dims);
        dit_engine::cpu::attention::backward(&mut dqkv, &dout, &out, &lse, &qkv, dims);
        scratch::held_bytes()
    })
}

/// Four times the tokens: a score matrix would take 16 times the memory.
#[test]
fn memory_is_linear_in_tokens() {
    let (short, long) = (scratch_bytes(2048), scratch_bytes(8192));
    assert!(long <= 4 * short, "{short} bytes at 2,048 tokens, {long} at 8,192");
    let all_scores = 8192 * 8192 * size_of::<f32>();
    assert!(long < all_scores / 32, "{long} bytes");
}
