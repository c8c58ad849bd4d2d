// What every family shares: the element of activations, loads and stores of it, sums over warps and blocks, activations.
//
// Conventions
// - A kernel is extern "C" __global__ with __launch_bounds__(THREADS): the host reads the block's size from the PTX.
// - Whatever else the host has to know (tile sides, bytes of dynamic shared memory) is a constant of the module, HOST_CONSTANT,
//   which the host reads from the PTX too. Nothing is written down twice.
// - Arrays are dense and row-major; the shape stands beside the pointer. Sizes come as unsigned; an index into an array is
//   size_t.
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

// As many elements as fit into 16 bytes (or ELEMENTS of them), moved at once; the address must be a multiple of their bytes.
template <class T, unsigned ELEMENTS = 16 / sizeof(T)> struct alignas(sizeof(T) * ELEMENTS) Pack {
    static constexpr unsigned COUNT = ELEMENTS;
    T element[COUNT];
};

template <class T> __device__ __forceinline__ Pack<T> load_pack(const T* x) { return *reinterpret_cast<const Pack<T>*>(x); }
template <class T> __device__ __forceinline__ void store_pack(T* y, const Pack<T>& pack) {
    *reinterpret_cast<Pack<T>*>(y) = pack;
}

// How many of COUNT elements are moved at once by the two below, a power of 2; the address must be a multiple of their bytes.
template <class T, unsigned COUNT> constexpr unsigned AT_ONCE = COUNT * sizeof(T) <= 16 ? COUNT : 16 / sizeof(T);

// COUNT neighbours as numbers.
template <unsigned COUNT, class T> __device__ __forceinline__ void load_some(float* to, const T* from) {
    using Part = Pack<T, AT_ONCE<T, COUNT>>;
#pragma unroll
    for (unsigned first = 0; first < COUNT; first += Part::COUNT) {
        Part part = *reinterpret_cast<const Part*>(from + first);
#pragma unroll
        for (unsigned i = 0; i < Part::COUNT; i++) to[first + i] = load(&part.element[i]);
    }
}

template <unsigned COUNT, class T> __device__ __forceinline__ void store_some(T* to, const float* from) {
    using Part = Pack<T, AT_ONCE<T, COUNT>>;
#pragma unroll
    for (unsigned first = 0; first < COUNT; first += Part::COUNT) {
        Part part;
#pragma unroll
        for (unsigned i = 0; i < Part::COUNT; i++) store(&part.element[i], from[first + i]);
        *reinterpret_cast<Part*>(to + first) = part;
    }
}

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
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); // after the barrier, so that it also passes on what the other threads wrote
        last = atomicInc(counter, blocks - 1) == blocks - 1; // back to 0 by itself
        __threadfence();
    }
    __syncthreads();
    return last;
}

// Sums over the blocks of a group, in a fixed order: each block writes its row of `width` partial sums (partial_row), then all
// of them call sum_over_blocks, where the last one finds the totals. Blocks are summed in sets, by the last block of each set,
// so that no block has to read all of it alone. For each group there are blocks + sets rows, and sets + 1 counters.

// How many partial sums are added by one block; the host has to know it: HOST_CONSTANT(FAMILY_set, SUM_SET).
constexpr unsigned SUM_SET = 32;

__device__ __forceinline__ unsigned sum_sets(unsigned blocks) { return (blocks + SUM_SET - 1) / SUM_SET; }

__device__ __forceinline__ float* partial_row(float* partials, unsigned group, unsigned blocks, unsigned row, unsigned width) {
    return partials + (size_t(group) * (blocks + sum_sets(blocks)) + row) * width;
}

// Sum number `slot` of `count` rows, in their order.
__device__ __forceinline__ float sum_rows(const float* rows, unsigned count, unsigned width, unsigned slot) {
    float sum = 0.0f;
#pragma unroll 8
    for (unsigned row = 0; row < count; row++) sum += __ldcg(&rows[size_t(row) * width + slot]); // of other blocks: from the L2
    return sum;
}

// Calls add(slot, sum) for every slot, in one block of the group. All threads of its blocks (0 .. blocks) call it.
template <unsigned THREADS, class Add>
__device__ __forceinline__ void sum_over_blocks(float* partials, unsigned* counters, unsigned group, unsigned blocks,
                                                unsigned block, unsigned width, Add add) {
    unsigned set = block / SUM_SET, sets = sum_sets(blocks), members = min(SUM_SET, blocks - set * SUM_SET);
    counters += group * (sets + 1);
    if (!last_block_here(&counters[1 + set], members)) return;
    const float* of_set = partial_row(partials, group, blocks, set * SUM_SET, width);
    float* of_sets = partial_row(partials, group, blocks, blocks, width);
    for (unsigned slot = threadIdx.x; slot < width; slot += THREADS) {
        float sum = sum_rows(of_set, members, width, slot);
        if (sets == 1) {
            add(slot, sum);
        } else {
            of_sets[size_t(set) * width + slot] = sum;
        }
    }
    if (sets == 1 || !last_block_here(&counters[0], sets)) return;
    for (unsigned slot = threadIdx.x; slot < width; slot += THREADS) add(slot, sum_rows(of_sets, sets, width, slot));
}

// ---- activations (backend.rs: Activation, in its order; the same forms as cpu/activation.rs) -------------------------------

enum Activation : unsigned { IDENTITY = 0, LEAKY_RELU = 1, TANH = 2, SILU = 3, GELU = 4 };

constexpr float LEAKY_SLOPE = 0.01f;
constexpr float GELU_SCALE = 0.7978845608028654f; // sqrt(2 / pi)
constexpr float GELU_CUBIC = 0.044715f;
// Beyond this GELU is x or 0 to the last bit, and its derivative 1 or 0.
constexpr float GELU_FLAT = 16.0f;

// exp(x) and 1 / x. Where results are rounded to bf16, which hides a few wrong bits of an f32, an instruction or two each.
#ifdef DIT_BF16
__device__ __forceinline__ float exponential(float x) { return __expf(x); }
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ float reciprocal(float x) { return 1.0f / x; }
#endif

__device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.0f + exponential(-x)); }

// sigmoid(x) and 1 - sigmoid(x), neither of them by a difference.
__device__ __forceinline__ float2 sigmoid_and_rest(float x) {
    float e = exponential(-fabsf(x));
    float large = reciprocal(1.0f + e), small = e * large;
    return x > 0.0f ? make_float2(large, small) : make_float2(small, large);
}

// 2u of GELU: x/2 (1 + tanh(u)) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3).
__device__ __forceinline__ float gelu_argument(float x) {
    return x * fmaf(x * x, 2.0f * GELU_SCALE * GELU_CUBIC, 2.0f * GELU_SCALE);
}

__device__ __forceinline__ float activate(float x, unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return x > 0.0f ? x : LEAKY_SLOPE * x;
    case TANH: return tanhf(x);
    case SILU: return x * sigmoid(x);
    case GELU: return x * sigmoid(gelu_argument(x));
    default: return x;
    }
}

// 1 - tanh(x)^2 = 4 e / (1 + e)^2, e = exp(-2|x|): no difference of equal numbers where tanh is near 1.
__device__ __forceinline__ float tanh_slope(float x) {
    float e = exponential(-2.0f * fabsf(x));
    float root = reciprocal(1.0f + e);
    return 4.0f * e * root * root;
}

// s (1 + x (1 - s)), s = sigmoid(x)
__device__ __forceinline__ float silu_slope(float x) {
    float2 s = sigmoid_and_rest(x);
    return s.x * fmaf(x, s.y, 1.0f);
}

// s (1 + x (1 - s) 2u'), s = sigmoid(2u), u' = sqrt(2/pi) (1 + 3 * 0.044715 x^2)
__device__ __forceinline__ float gelu_slope(float x) {
    // Without the bound x^3 overflows and 0 * inf appears; comparisons, not fmin and fmax, so that NaN stays.
    x = x > GELU_FLAT ? GELU_FLAT : x;
    x = x < -GELU_FLAT ? -GELU_FLAT : x;
    float2 s = sigmoid_and_rest(gelu_argument(x));
    float twice_slope = fmaf(x * x, 6.0f * GELU_SCALE * GELU_CUBIC, 2.0f * GELU_SCALE);
    return s.x * fmaf(x * s.y, twice_slope, 1.0f);
}

// The derivative of `activate` at x. NaN is neither above 0 nor at most 0, and must not become a slope.
__device__ __forceinline__ float activation_slope(float x, unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return x > 0.0f ? 1.0f : x <= 0.0f ? LEAKY_SLOPE : x;
    case TANH: return tanh_slope(x);
    case SILU: return silu_slope(x);
    case GELU: return gelu_slope(x);
    default: return 1.0f;
    }
}

// An activation that the compiler knows.
template <unsigned VALUE> struct Known {
    __device__ constexpr operator unsigned() const { return VALUE; }
};

// f(activation) with the activation known, so that the choice is made once and not for every element.
template <class F> __device__ __forceinline__ void with_known(unsigned activation, F f) {
    switch (activation) {
    case LEAKY_RELU: return f(Known<LEAKY_RELU>());
    case TANH: return f(Known<TANH>());
    case SILU: return f(Known<SILU>());
    case GELU: return f(Known<GELU>());
    default: return f(Known<IDENTITY>());
    }
}
