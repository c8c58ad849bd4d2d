// Flat arrays of f32, and their sums: what noise, loss, adam and sampler share. They compute in f32 in both precisions.
//
// A thread has a run of four elements, one pack of 16 bytes of each array. Where an address is not a multiple of 16, or where a
// run reaches over an end of the arrays, it goes element by element.
#pragma once

#include "common.cuh"

constexpr unsigned RUN = Pack<float>::COUNT;

// Elements first + from .. first + to of some arrays, to - from of a pack's.
struct Run {
    long long first; // may lie before the beginning of the arrays
    unsigned from, to;
    bool packed;

    __device__ __forceinline__ bool has(unsigned i) const { return from <= i && i < to; }

    // Elements that the run does not have are 0.
    __device__ __forceinline__ Pack<float> load(const float* x) const {
        if (packed) return load_pack(x + first);
        Pack<float> pack;
#pragma unroll
        for (unsigned i = 0; i < RUN; i++) pack.element[i] = has(i) ? x[first + i] : 0.0f;
        return pack;
    }

    __device__ __forceinline__ void store(float* y, const Pack<float>& pack) const {
        if (packed) {
            // The instruction by its name: stores that a compiler sees both here and below become single ones.
            const float* x = pack.element;
            __stwb(reinterpret_cast<float4*>(y + first), make_float4(x[0], x[1], x[2], x[3]));
        } else {
#pragma unroll
            for (unsigned i = 0; i < RUN; i++)
                if (has(i)) y[first + i] = pack.element[i];
        }
    }
};

// The run that begins at `first`, as far as it lies inside of arrays of n elements.
template <class... Arrays> __device__ __forceinline__ Run run_at(long long first, long long n, const Arrays*... array) {
    bool aligned = ((reinterpret_cast<uintptr_t>(array + first) | ...) & 15) == 0;
    unsigned from = first < 0 ? unsigned(min(-first, (long long)RUN)) : 0;
    unsigned to = unsigned(max(0ll, min(n - first, (long long)RUN)));
    return {first, from, to, aligned && from == 0 && to == RUN};
}

// The sum over a block of THREADS threads, in every thread; all threads call it, once.
template <unsigned THREADS> __device__ __forceinline__ double block_sum_double(double x) {
    __shared__ double partial[THREADS / WARP];
#pragma unroll
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL_WARP, x, offset);
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = x;
    __syncthreads();
    double sum = 0.0;
#pragma unroll
    for (unsigned warp = 0; warp < THREADS / WARP; warp++) sum += partial[warp];
    return sum;
}

// The sum of `count` partial sums, by the last block, in f64: their number may be large.
template <unsigned THREADS> __device__ __forceinline__ double sum_of_partials(const float* partials, unsigned count) {
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < count; i += THREADS) sum += partials[i];
    return block_sum_double<THREADS>(sum);
}
