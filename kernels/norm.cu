// sets: f32 bf16
//
// Layer normalisation, affine and modulated: one pass over memory forward, one backward.
//
//   forward   y = xhat scale + shift, xhat = (x - mean) rstd, rstd = 1 / sqrt(variance + eps)
//   backward  dx = rstd (g - mean(g) - xhat mean(g xhat)), g = dy scale; dscale += sum dy xhat; dshift += sum dy
//
// Layout: x, y, dx, dy [groups, rows, dim]; stats [groups, rows, 2] (mean, rstd), saved for backward. A group of rows shares
// its scale and shift, `stride` elements apart. The affine form is one group; the modulated form has one a sample, and its
// scale is 1 more than what is stored: `one` is added to it.
//
// Parallelism: a row stays in the registers of one warp (dim <= 768) or of one block; the variance is that of the differences
// from the mean, which are at hand. Kernels are named after the largest dim that they take. Backward, a block has ROWS rows of
// one group and sums dscale and dshift in registers, then over its warps, then over the group's blocks (sum_over_blocks). The
// sums lie in the order of the registers, not of the columns, so that neither shared memory nor partial sums are strided.

#include "common.cuh"

// Rows of a group that a block of a backward kernel has.
constexpr unsigned ROWS = 64;
HOST_CONSTANT(norm_rows, ROWS);
HOST_CONSTANT(norm_set, SUM_SET);

// How rows lie in threads: WARPS warps have a row, each thread N elements of it, in packs of COUNT neighbours. A block has
// BLOCK_WARPS warps.
template <unsigned N_, unsigned COUNT, unsigned WARPS, unsigned BLOCK_WARPS> struct Layout {
    static constexpr unsigned N = N_;
    static constexpr unsigned THREADS = BLOCK_WARPS * WARP;
    static constexpr unsigned ROW_THREADS = WARPS * WARP;
    static constexpr unsigned ROWS_AT_ONCE = BLOCK_WARPS / WARPS;
    static constexpr unsigned SLOTS = N * ROW_THREADS;
    static_assert(WARPS == 1 || WARPS == BLOCK_WARPS, "a row belongs to a warp or to a block");
    static_assert(N % COUNT == 0, "whole packs");

    // Which of the block's rows this thread works on.
    static __device__ __forceinline__ unsigned row() { return threadIdx.x / ROW_THREADS; }

    // The column of element n of thread `thread` of a row.
    static __device__ __forceinline__ unsigned column(unsigned n, unsigned thread) {
        return (n / COUNT * ROW_THREADS + thread) * COUNT + n % COUNT;
    }
    static __device__ __forceinline__ unsigned column(unsigned n) { return column(n, threadIdx.x % ROW_THREADS); }

    // This thread's elements of a row; 0 beyond its end.
    template <class T> static __device__ __forceinline__ void load(float (&to)[N], const T* row, unsigned dim) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) {
            if (column(n) < dim) {
                load_some<COUNT>(&to[n], row + column(n));
            } else {
#pragma unroll
                for (unsigned i = 0; i < COUNT; i++) to[n + i] = 0.0f;
            }
        }
    }

    static __device__ __forceinline__ void store(Element* row, const float (&from)[N], unsigned dim) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) {
            if (column(n) < dim) store_some<COUNT>(row + column(n), &from[n]);
        }
    }

    // The sum over the threads of a row, in all of them.
    static __device__ __forceinline__ float sum(float x) {
        if constexpr (WARPS == 1) {
            return warp_sum(x);
        } else {
            return block_sum<THREADS>(x);
        }
    }
};

// The group and the place in it of this block.
struct Place {
    unsigned group, block;
    __device__ explicit Place(unsigned blocks) : group(blockIdx.x / blocks), block(blockIdx.x % blocks) {}
};

// ---- forward --------------------------------------------------------------------------------------------------------------

// Mean and 1 / sqrt(variance + eps) of a row.
template <class L> __device__ __forceinline__ float2 statistics(const float (&x)[L::N], float eps, unsigned dim) {
    float sum = 0.0f, squares = 0.0f;
#pragma unroll
    for (unsigned n = 0; n < L::N; n++) sum += x[n];
    float mean = L::sum(sum) / float(dim);
#pragma unroll
    for (unsigned n = 0; n < L::N; n++) {
        float difference = L::column(n) < dim ? x[n] - mean : 0.0f;
        squares = fmaf(difference, difference, squares);
    }
    return make_float2(mean, 1.0f / sqrtf(L::sum(squares) / float(dim) + eps));
}

// `blocks` blocks a group take turns at its rows.
template <class L>
__device__ __forceinline__ void forward(Element* y, float* stats, const Element* x, const float* scale, const float* shift,
                                        unsigned stride, float one, float eps, unsigned rows, unsigned dim, unsigned blocks) {
    Place place(blocks);
    scale += size_t(place.group) * stride;
    shift += size_t(place.group) * stride;
    for (unsigned r = place.block * L::ROWS_AT_ONCE + L::row(); r < rows; r += blocks * L::ROWS_AT_ONCE) {
        size_t row = size_t(place.group) * rows + r;
        float values[L::N], a[L::N], b[L::N];
        L::load(values, x + row * dim, dim);
        float2 found = statistics<L>(values, eps, dim);
        L::load(a, scale, dim);
        L::load(b, shift, dim);
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) values[n] = fmaf((values[n] - found.x) * found.y, a[n] + one, b[n]);
        L::store(y + row * dim, values, dim);
        if (threadIdx.x % L::ROW_THREADS == 0) {
            stats[2 * row] = found.x;
            stats[2 * row + 1] = found.y;
        }
    }
}

// ---- backward -------------------------------------------------------------------------------------------------------------

// dx of one row, added to `before`. Beyond the end of the row dy is 0, so that xhat, which is not, adds to no sum.
template <class L>
__device__ __forceinline__ void backward_row(Element* dx, float (&before)[L::N], const float (&xhat)[L::N],
                                             const float (&dy)[L::N], float rstd, const float* scale, float one, unsigned dim) {
    float g[L::N], sum = 0.0f, sum_xhat = 0.0f;
    L::load(g, scale, dim);
#pragma unroll
    for (unsigned n = 0; n < L::N; n++) {
        // Not fused with what is subtracted below: what cancels exactly on paper (a row of one element) does so here.
        g[n] = __fmul_rn(dy[n], g[n] + one);
        sum += g[n];
        sum_xhat = fmaf(g[n], xhat[n], sum_xhat);
    }
    float mean = L::sum(sum) / float(dim), mean_xhat = L::sum(sum_xhat) / float(dim);
#pragma unroll
    for (unsigned n = 0; n < L::N; n++) before[n] += rstd * (g[n] - mean - xhat[n] * mean_xhat);
    L::store(dx, before, dim);
}

// Writes this block's sum over its rows of each thread's `sums` to partial [SLOTS].
template <class L> __device__ __forceinline__ void sum_over_rows(float* partial, const float (&sums)[L::N]) {
    if constexpr (L::ROWS_AT_ONCE == 1) {
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) partial[n * L::ROW_THREADS + threadIdx.x] = sums[n];
    } else {
        __shared__ float of_rows[L::ROWS_AT_ONCE][L::SLOTS];
        __syncthreads(); // an earlier call may still be read
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) of_rows[L::row()][n * L::ROW_THREADS + threadIdx.x % L::ROW_THREADS] = sums[n];
        __syncthreads();
        for (unsigned slot = threadIdx.x; slot < L::SLOTS; slot += L::THREADS) {
            float sum = 0.0f;
#pragma unroll
            for (unsigned row = 0; row < L::ROWS_AT_ONCE; row++) sum += of_rows[row][slot];
            partial[slot] = sum;
        }
    }
}

template <class L>
__device__ __forceinline__ void backward(Element* dx, unsigned add, float* dscale, float* dshift, const Element* dy,
                                         const Element* x, const float* stats, const float* scale, unsigned stride, float one,
                                         unsigned rows, unsigned dim, unsigned blocks, float* partials, unsigned* counters) {
    Place place(blocks);
    scale += size_t(place.group) * stride;
    float sum_scale[L::N] = {}, sum_shift[L::N] = {};
    for (unsigned i = 0; i < ROWS; i += L::ROWS_AT_ONCE) {
        unsigned r = place.block * ROWS + i + L::row();
        if (r >= rows) break;
        size_t row = size_t(place.group) * rows + r;
        float xhat[L::N], dy_row[L::N], before[L::N] = {};
        L::load(xhat, x + row * dim, dim);
        L::load(dy_row, dy + row * dim, dim);
        if (add) L::load(before, dx + row * dim, dim); // now, so that its latency is not one more
        float mean = stats[2 * row], rstd = stats[2 * row + 1];
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) {
            xhat[n] = (xhat[n] - mean) * rstd;
            sum_scale[n] = fmaf(dy_row[n], xhat[n], sum_scale[n]);
            sum_shift[n] += dy_row[n];
        }
        backward_row<L>(dx + row * dim, before, xhat, dy_row, rstd, scale, one, dim);
    }
    constexpr unsigned WIDTH = 2 * L::SLOTS;
    float* partial = partial_row(partials, place.group, blocks, place.block, WIDTH);
    sum_over_rows<L>(partial, sum_scale);
    sum_over_rows<L>(partial + L::SLOTS, sum_shift);

    dscale += size_t(place.group) * stride;
    dshift += size_t(place.group) * stride;
    auto add_to_gradient = [=](unsigned slot, float sum) {
        unsigned n = slot % L::SLOTS / L::ROW_THREADS, thread = slot % L::ROW_THREADS;
        unsigned column = L::column(n, thread);
        if (column < dim) (slot < L::SLOTS ? dscale : dshift)[column] += sum;
    };
    sum_over_blocks<L::THREADS>(partials, counters, place.group, blocks, place.block, WIDTH, add_to_gradient);
}

// ---- the kernels ----------------------------------------------------------------------------------------------------------

// Templates have no names that the host could look up, so a macro gives each layout a pair of kernels.
#define NORM_KERNELS(size, ...)                                                                                                \
    using Layout_##size = Layout<__VA_ARGS__>;                                                                                 \
    HOST_CONSTANT(norm_forward_##size##_rows, Layout_##size::ROWS_AT_ONCE);                                                    \
    HOST_CONSTANT(norm_backward_##size##_width, 2 * Layout_##size::SLOTS);                                                     \
    extern "C" __global__ void __launch_bounds__(Layout_##size::THREADS)                                                       \
        norm_forward_##size(Element* y, float* stats, const Element* x, const float* scale, const float* shift,                \
                            unsigned stride, float one, float eps, unsigned rows, unsigned dim, unsigned blocks) {             \
        forward<Layout_##size>(y, stats, x, scale, shift, stride, one, eps, rows, dim, blocks);                                \
    }                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(Layout_##size::THREADS)                                                       \
        norm_backward_##size(Element* dx, unsigned add, float* dscale, float* dshift, const Element* dy, const Element* x,     \
                             const float* stats, const float* scale, unsigned stride, float one, unsigned rows,                \
                             unsigned dim, unsigned blocks, float* partials, unsigned* counters) {                             \
        backward<Layout_##size>(dx, add, dscale, dshift, dy, x, stats, scale, stride, one, rows, dim, blocks, partials,        \
                                counters);                                                                                     \
    }

// Packs of 4 in both sets: with 8 of bf16 the two halves of a pack's f32 scale would lie 32 bytes apart from lane to lane.
constexpr unsigned PACK = 4;
NORM_KERNELS(256, 8, PACK, 1, 8)
NORM_KERNELS(384, 12, PACK, 1, 8)
NORM_KERNELS(512, 16, PACK, 1, 4)
NORM_KERNELS(768, 24, PACK, 1, 4)
NORM_KERNELS(1024, 8, PACK, 4, 4)
NORM_KERNELS(2048, 8, PACK, 8, 8)
NORM_KERNELS(4096, 16, PACK, 8, 8)
// Rows that do not divide into packs.
NORM_KERNELS(odd, 16, 1, 8, 8)
