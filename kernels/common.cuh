// What every family shares: the element of activations, loads and stores of it, sums over warps and blocks, activations.
//
// Conventions
// - A kernel is extern "C" __global__ with __launch_bounds__(THREADS): the host reads the block's size from the PTX.
// - Whatever else the host has to know (tile sides, bytes of dynamic shared memory) is a constant of the module, HOST_CONSTANT,
//   which the host reads from the PTX too. Nothing is written down twice.
// - Arrays are dense and row-major; the shape stands beside the pointer. Sizes come as unsigned; an index into an array is size_t.
// - "Element" is what activations are made of in this set of kernels, f32 or bf16. Sums, statistics, parameters' gradients and
//   the loss are f32 in both.
// - No atomic on floats, and no sum in an order that depends on the hardware: the same inputs give the same bits.
#pragma once

#include <cuda_bf16.h>
#include <stdint.h>

#ifdef DIT_BF16
using Element = __nv_bfloat16;
#else
using Element = float;
#endif

// A number that the host reads from the PTX by its name.
#define HOST_CONSTANT(name, value) extern "C" __constant__ unsigned name = (value)

constexpr unsigned WARP = 32;
constexpr unsigned FULL_WARP = 0xffffffffu;

// ---- elements -----------------------------------------------------------------------------------------------------------

__device__ __forceinline__ float load(const float* x) { return *x; }
__device__ __forceinline__ float load(const __nv_bfloat16* x) { return __bfloat162float(*x); }
__device__ __forceinline__ void store(float* y, float value) { *y = value; }
__device__ __forceinline__ void store(__nv_bfloat16* y, float value) { *y = __float2bfloat16_rn(value); }

// As many elements as fit into 16 bytes, moved at once; the address must be a multiple of 16 bytes.
template <class T> struct alignas(16) Pack {
    static constexpr unsigned COUNT = 16 / sizeof(T);
    T element[COUNT];
};

template <class T> __device__ __forceinline__ Pack<T> load_pack(const T* x) { return *reinterpret_cast<const Pack<T>*>(x); }
template <class T> __device__ __forceinline__ void store_pack(T* y, const Pack<T>& pack) { *reinterpret_cast<Pack<T>*>(y) = pack; }

// ---- sums in a fixed order ----------------------------------------------------------------------------------------------

// The sum over the lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL_WARP, x, offset);
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (unsigned offset = WARP / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
    return x;
}

// The sum over a block of THREADS threads (a multiple of 32), in every thread; all threads call it.
template <unsigned THREADS> __device__ __forceinline__ float block_sum(float x) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    __shared__ float partial[THREADS / WARP];
    x = warp_sum(x);
    __syncthreads(); // an earlier call may still be read
    if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP] = x;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (unsigned warp = 0; warp < THREADS / WARP; warp++) sum += partial[warp];
    return sum;
}

// Whether this block is the last of `blocks` to come here: it then sees what all of them wrote before, and may add it up in a
// fixed order, without a second launch. `counter` is 0 before and after. All threads call it; all get the same answer.
__device__ __forceinline__ bool last_block_here(unsigned* counter, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(counter, 1u) == blocks - 1;
        if (last) *counter = 0;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// ---- activations (backend.rs: Activation, in its order) ------------------------------------------------------------------

enum Activation : unsigned { IDENTITY = 0, LEAKY_RELU = 1, TANH = 2, SILU = 3, GELU = 4 };

constexpr float LEAKY_SLOPE = 0.01f;
constexpr float GELU_SCALE = 0.7978845608028654f; // sqrt(2 / pi)
constexpr float GELU_CUBIC = 0.044715f;

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float activate(float x, unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return x > 0.0f ? x : LEAKY_SLOPE * x;
    case TANH: return tanhf(x);
    case SILU: return x * sigmoid(x);
    case GELU: return 0.5f * x * (1.0f + tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x)));
    default: return x;
    }
}

// The derivative of `activate` at x.
__device__ __forceinline__ float activation_slope(float x, unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return x > 0.0f ? 1.0f : LEAKY_SLOPE;
    case TANH: {
        float y = tanhf(x);
        return 1.0f - y * y;
    }
    case SILU: {
        float s = sigmoid(x);
        return s * (1.0f + x * (1.0f - s));
    }
    case GELU: {
        float t = tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x));
        return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * x * x);
    }
    default: return 1.0f;
    }
}
