// sets: f32
//
// The gradient's norm, and one update of all parameters.
//
//   norm2[0] = sum of gradient^2; norm2[1] += 1 when that is not finite
//   g = gradient min(1, max_norm / sqrt(norm2[0]))
//   m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2
//   w = w keep - rate m / (root sqrt(v) + eps), keep = 1 - lr decay on the first `decayed` parameters, 1 on the others
//   ema = ema_decay ema + (1 - ema_decay) w
//   rate = lr / (1 - beta1^step), root = 1 / sqrt(1 - beta2^step): Kingma and Ba 2015, algorithm 1, with its divisions moved
//
// Layout: flat buffers of n parameters (src/params.rs); weights and EMA have a bf16 copy where products are computed in bf16, which
// is written in the same pass. Parallelism: a thread has one pack of each buffer; for the norm a block has a piece, and the last
// one adds up the partial sums. Nothing changes when norm2[1] is not 0. Nothing is saved.

#include "flat.cuh"

constexpr unsigned THREADS = 256;

// ---- the norm -----------------------------------------------------------------------------------------------------------

constexpr unsigned RUNS = 8;
HOST_CONSTANT(adam_piece, THREADS * RUN * RUNS);

extern "C" __global__ void __launch_bounds__(THREADS)
    adam_sum_of_squares(float* norm2, const float* x, float* partials, unsigned* counter, size_t n) {
    float sums[RUN] = {};
#pragma unroll
    for (unsigned i = 0; i < RUNS; i++) {
        Run run = run_at(((size_t(blockIdx.x) * RUNS + i) * THREADS + threadIdx.x) * RUN, n, x);
        Pack<float> pack = run.load(x);
#pragma unroll
        for (unsigned j = 0; j < RUN; j++) sums[j] += pack.element[j] * pack.element[j];
    }
    float sum = block_sum<THREADS>((sums[0] + sums[1]) + (sums[2] + sums[3]));
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
    if (!last_block_here(counter, gridDim.x)) return;
    float total = float(sum_of_partials<THREADS>(partials, gridDim.x));
    if (threadIdx.x == 0) {
        norm2[0] = total;
        if (!isfinite(total)) norm2[1] += 1.0f;
    }
}

// ---- the update ---------------------------------------------------------------------------------------------------------

// What of a step is the same for every parameter; comes from the host anew for each step, as memory, so that a captured launch
// stays the same.
struct alignas(16) Factors {
    float max_norm, beta1, beta2, rate, root, eps, ema_decay, keep;
};

struct Parameter {
    float w, m, v, ema;
};

__device__ __forceinline__ void update(Parameter& p, float gradient, float clip, float keep, const Factors& f) {
    float g = gradient * clip;
    p.m = fmaf(f.beta1, p.m, (1.0f - f.beta1) * g);
    p.v = fmaf(f.beta2, p.v, (1.0f - f.beta2) * g * g);
    p.w = fmaf(p.w, keep, -f.rate * p.m / fmaf(sqrtf(p.v), f.root, f.eps));
    p.ema = fmaf(f.ema_decay, p.ema, (1.0f - f.ema_decay) * p.w);
}

// The bf16 copy of a run, if there is one: copies begin at multiples of 8 bytes wherever their f32 begin at multiples of 16.
__device__ __forceinline__ void store_copy(__nv_bfloat16* copy, Run run, const Pack<float>& pack) {
    if (copy == nullptr) return;
    if (run.packed) {
        const float* x = pack.element;
        __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(x[0], x[1]), __floats2bfloat162_rn(x[2], x[3])};
        uint2 bits;
        memcpy(&bits, pairs, sizeof(bits));
        *reinterpret_cast<uint2*>(copy + run.first) = bits;
    } else {
#pragma unroll
        for (unsigned i = 0; i < RUN; i++)
            if (run.has(i)) store(&copy[run.first + i], pack.element[i]);
    }
}

// A copy is null where the buffer has none.
extern "C" __global__ void __launch_bounds__(THREADS)
    adam_update(float* weights, float* first, float* second, float* ema, __nv_bfloat16* weights_copy, __nv_bfloat16* ema_copy,
                const float* gradient, const float* norm2, const Factors* factors, size_t decayed, size_t n) {
    if (norm2[1] != 0.0f) return;
    Factors f = *factors;
    float clip = fminf(f.max_norm / sqrtf(norm2[0]), 1.0f);
    Run run = run_at((size_t(blockIdx.x) * THREADS + threadIdx.x) * RUN, n, weights, first, second, ema, gradient);
    Pack<float> w = run.load(weights), m = run.load(first), v = run.load(second), e = run.load(ema), g = run.load(gradient);
#pragma unroll
    for (unsigned i = 0; i < RUN; i++) {
        Parameter p = {w.element[i], m.element[i], v.element[i], e.element[i]};
        update(p, g.element[i], clip, run.first + i < decayed ? f.keep : 1.0f, f);
        w.element[i] = p.w, m.element[i] = p.m, v.element[i] = p.v, e.element[i] = p.ema;
    }
    run.store(weights, w);
    run.store(first, m);
    run.store(second, v);
    run.store(ema, e);
    store_copy(weights_copy, run, w);
    store_copy(ema_copy, run, e);
}
