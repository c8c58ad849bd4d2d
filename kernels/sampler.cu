// sets: f32
//
// One step of any sampler, in place.
//
//   x0 = clamp(from_x x + from_prediction prediction, -clip, clip);  x = keep x + to_x0 x0 + noise z
//
// Layout: flat arrays of n elements; z may be absent. Parallelism: a thread has one pack of each. Nothing is saved.

#include "flat.cuh"

constexpr unsigned THREADS = 256;

// backend.rs: SamplerStep; comes from the host anew for each step, as memory, so that a captured launch stays the same.
struct alignas(16) Step {
    float from_x, from_prediction, clip, keep, to_x0, noise, unused[2];
};

// The part of a step without noise. Comparisons, because fminf and fmaxf would hide a NaN.
__device__ __forceinline__ float moved(float x, float prediction, const Step& step) {
    float x0 = fmaf(x, step.from_x, step.from_prediction * prediction);
    x0 = x0 > step.clip ? step.clip : x0;
    x0 = x0 < -step.clip ? -step.clip : x0;
    return fmaf(x, step.keep, step.to_x0 * x0);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    sampler_step(float* x, const float* prediction, const float* z, const Step* coefficients, size_t n) {
    Step step = *coefficients;
    size_t first = (size_t(blockIdx.x) * THREADS + threadIdx.x) * RUN;
    Run run = z == nullptr ? run_at(first, n, x, prediction) : run_at(first, n, x, prediction, z);
    Pack<float> xs = run.load(x), predictions = run.load(prediction);
#pragma unroll
    for (unsigned i = 0; i < RUN; i++) xs.element[i] = moved(xs.element[i], predictions.element[i], step);
    if (z != nullptr) {
        Pack<float> zs = run.load(z);
#pragma unroll
        for (unsigned i = 0; i < RUN; i++) xs.element[i] = fmaf(zs.element[i], step.noise, xs.element[i]);
    }
    run.store(x, xs);
}
