// sets: f32
//
// The weighted mean squared error and its gradient, one pass.
//
//   losses[b] = mean over the sample of (prediction - target)^2
//   dprediction = 2 weights[b] (prediction - target) / (batch * elements)
//
// Layout: prediction, target, dprediction [batch, elements]; losses, weights [batch]. Parallelism: each sample is cut into pieces
// of `loss_piece` elements, a block each. A block's sum of squares is a partial sum; the last block of a sample adds them up.
// Nothing is saved for backward: this is where backward begins.

#include "flat.cuh"

constexpr unsigned THREADS = 256;
// Four packs of each array a thread are under way at once, and a sum in f32 stays short.
constexpr unsigned RUNS = 4;
HOST_CONSTANT(loss_piece, THREADS * RUN * RUNS);

// Writes the gradient of this thread's runs of a piece, which begins at `start`; returns their sum of squares.
__device__ __forceinline__ float piece_of_thread(float* dprediction, const float* prediction, const float* target, float factor,
                                                 size_t start, unsigned elements) {
    float sums[RUN] = {};
#pragma unroll
    for (unsigned i = 0; i < RUNS; i++) {
        Run run = run_at(start + (i * THREADS + threadIdx.x) * RUN, elements, dprediction, prediction, target);
        Pack<float> p = run.load(prediction), t = run.load(target), d;
#pragma unroll
        for (unsigned j = 0; j < RUN; j++) {
            float difference = p.element[j] - t.element[j];
            sums[j] += difference * difference;
            d.element[j] = factor * difference;
        }
        run.store(dprediction, d);
    }
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

// `pieces` a sample; partials [batch, pieces], counters [batch].
extern "C" __global__ void __launch_bounds__(THREADS)
    loss_mse(float* losses, float* dprediction, const float* prediction, const float* target, const float* weights,
             float* partials, unsigned* counters, unsigned batch, unsigned elements, unsigned pieces) {
    unsigned sample = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    size_t offset = size_t(sample) * elements, start = size_t(piece) * (THREADS * RUN * RUNS);
    float factor = 2.0f * weights[sample] / (float(batch) * float(elements));
    float sum = piece_of_thread(dprediction + offset, prediction + offset, target + offset, factor, start, elements);
    sum = block_sum<THREADS>(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
    if (!last_block_here(counters + sample, pieces)) return;
    double total = sum_of_partials<THREADS>(partials + size_t(sample) * pieces, pieces);
    if (threadIdx.x == 0) losses[sample] = float(total / double(elements));
}
