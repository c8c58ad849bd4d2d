// sets: f32
//
// One step of any sampler, in place, and guidance.
//
//   step    x0 = clamp(from_x x + from_prediction prediction, -clip, clip), then at once
//           x = keep x + to_x0 x0 + from_saved saved + noise z and saved = save_x x + save_x0 x0
//   guide   g = u + scale (c - u), out = g (1 - rescale + rescale deviation(c) / deviation(g)), the deviations over a sample
//
// Layout: flat arrays of n elements; z and saved may be absent. Guidance: [samples, n], c with and u without the caption.
//
// Parallelism: step, a thread has one pack of each array. Guidance, a block has a sample and passes over it three times (means,
// deviations, results): what it reads again is still in L2, and it runs once for an evaluation of the model. Nothing is saved.

#include "flat.cuh"

constexpr unsigned THREADS = 256;
constexpr unsigned GUIDE_THREADS = 1024;
constexpr float SMALLEST = 1.17549435e-38f; // that is not subnormal: nothing is divided by 0

// backend.rs: SamplerStep; comes from the host anew for each step, as memory, so that a captured launch stays the same.
struct alignas(16) Step {
    float from_x, from_prediction, clip, keep, to_x0, noise, from_saved, save_x, save_x0, unused[3];
};

// What the model says that x0 is. Comparisons, because fminf and fmaxf would hide a NaN.
__device__ __forceinline__ float estimate(float x, float prediction, const Step& step) {
    float x0 = fmaf(x, step.from_x, step.from_prediction * prediction);
    x0 = x0 > step.clip ? step.clip : x0;
    return x0 < -step.clip ? -step.clip : x0;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sampler_step(float* x, float* saved, const float* prediction, const float* z, const Step* coefficients, size_t n) {
    Step step = *coefficients;
    size_t first = (size_t(blockIdx.x) * THREADS + threadIdx.x) * RUN;
    // Where an array is absent, x stands for it: it is as aligned, and it is not touched.
    Run run = run_at(first, n, x, saved == nullptr ? x : saved, prediction, z == nullptr ? x : z);
    Pack<float> xs = run.load(x), predictions = run.load(prediction), saves = {};
    if (saved != nullptr) saves = run.load(saved);
#pragma unroll
    for (unsigned i = 0; i < RUN; i++) {
        float before = xs.element[i], x0 = estimate(before, predictions.element[i], step);
        float moved = fmaf(before, step.keep, step.to_x0 * x0);
        xs.element[i] = saved == nullptr ? moved : fmaf(saves.element[i], step.from_saved, moved);
        saves.element[i] = fmaf(before, step.save_x, step.save_x0 * x0);
    }
    if (z != nullptr) {
        Pack<float> zs = run.load(z);
#pragma unroll
        for (unsigned i = 0; i < RUN; i++) xs.element[i] = fmaf(zs.element[i], step.noise, xs.element[i]);
    }
    run.store(x, xs);
    if (saved != nullptr) run.store(saved, saves);
}

// The deviation over a block's sample of f(i), i below n.
template <class F> __device__ __forceinline__ float deviation(F f, size_t n) {
    float sum = 0.0f, squares = 0.0f;
    for (size_t i = threadIdx.x; i < n; i += GUIDE_THREADS) sum += f(i);
    float mean = block_sum<GUIDE_THREADS>(sum) / float(n);
    for (size_t i = threadIdx.x; i < n; i += GUIDE_THREADS) {
        float difference = f(i) - mean;
        squares = fmaf(difference, difference, squares);
    }
    return sqrtf(block_sum<GUIDE_THREADS>(squares) / float(n));
}

// scales: scale and rescale, as memory for the reason that Step is.
extern "C" __global__ void __launch_bounds__(GUIDE_THREADS)
    sampler_guide(float* out, const float* conditional, const float* unconditional, const float2* scales, size_t n) {
    size_t sample = blockIdx.x * n;
    out += sample, conditional += sample, unconditional += sample;
    float scale = scales->x, rescale = scales->y;
    auto guided = [=](size_t i) { return fmaf(conditional[i] - unconditional[i], scale, unconditional[i]); };
    float factor = 1.0f;
    if (rescale != 0.0f) {
        float wanted = deviation([=](size_t i) { return conditional[i]; }, n);
        factor = 1.0f - rescale + rescale * (wanted / fmaxf(deviation(guided, n), SMALLEST));
    }
    for (size_t i = threadIdx.x; i < n; i += GUIDE_THREADS) out[i] = factor * guided(i);
}
