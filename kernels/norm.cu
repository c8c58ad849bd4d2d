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
// from the mean, which are at hand. Kernels are named after the largest dim that they take. A block has `block_rows` rows of
// one group; it reads their scale and shift once, into shared memory, and moves their statistics together. Backward, it sums
// dscale and dshift in registers, then over its warps, then over the group's blocks (sum_over_blocks).

#include "common.cuh"

// Most rows of a group that a block has.
constexpr unsigned MOST_ROWS = 128;
HOST_CONSTANT(norm_most_rows, MOST_ROWS);
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

    // A thread's elements of a row as they are stored, which takes half the registers where they are bf16.
    using Some = Pack<Element, COUNT>;
    using Stored = Some[N / COUNT];

    // Which of the block's rows this thread works on.
    static __device__ __forceinline__ unsigned row() { return threadIdx.x / ROW_THREADS; }

    // The column of this thread's element n of a row.
    static __device__ __forceinline__ unsigned column(unsigned n) {
        return (n / COUNT * ROW_THREADS + threadIdx.x % ROW_THREADS) * COUNT + n % COUNT;
    }

    // This thread's elements of a row; 0 beyond its end.
    static __device__ __forceinline__ void load(Stored& to, const Element* row, unsigned dim) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) {
            to[n / COUNT] = column(n) < dim ? *reinterpret_cast<const Some*>(row + column(n)) : Some{};
        }
    }
    static __device__ __forceinline__ float value(const Stored& stored, unsigned n) {
        return ::load(&stored[n / COUNT].element[n % COUNT]);
    }

    static __device__ __forceinline__ void store(Element* row, const float (&from)[N], unsigned dim) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) {
            if (column(n) < dim) store_some<COUNT>(row + column(n), &from[n]);
        }
    }

    // f(n, vector[column n]) for this thread's elements of a vector in shared memory.
    template <class F> static __device__ __forceinline__ void each(const float (&vector)[SLOTS], F f) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) {
            float some[COUNT];
            load_some<COUNT>(some, &vector[column(n)]);
#pragma unroll
            for (unsigned i = 0; i < COUNT; i++) f(n + i, some[i]);
        }
    }

    // Lays the group's vector plus `more` into shared memory, 0 beyond its end; a barrier has to follow.
    static __device__ __forceinline__ void share(float (&to)[SLOTS], const float* vector, float more, unsigned dim) {
        for (unsigned first = threadIdx.x * COUNT; first < SLOTS; first += THREADS * COUNT) {
            float values[COUNT] = {};
            if (first < dim) {
                load_some<COUNT>(values, vector + first);
#pragma unroll
                for (unsigned i = 0; i < COUNT; i++) values[i] += more;
            }
            store_some<COUNT>(to + first, values);
        }
    }

    // Lays this thread's elements of a row into shared memory; a barrier has to follow.
    static __device__ __forceinline__ void share_row(float (&to)[SLOTS], const float (&from)[N]) {
#pragma unroll
        for (unsigned n = 0; n < N; n += COUNT) store_some<COUNT>(&to[column(n)], &from[n]);
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

// The rows of this block: `count` of its group's, from row `first` of all rows on.
struct Place {
    unsigned group, block, count;
    size_t first;
    __device__ __forceinline__ Place(unsigned rows, unsigned blocks, unsigned block_rows)
        : group(blockIdx.x / blocks), block(blockIdx.x % blocks) {
        count = min(block_rows, rows - block * block_rows);
        first = size_t(group) * rows + block * block_rows;
    }
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

template <class L>
__device__ __forceinline__ void forward(Element* y, float* stats, const Element* x, const float* scale, const float* shift,
                                        unsigned stride, float one, float eps, unsigned rows, unsigned dim, unsigned blocks,
                                        unsigned block_rows) {
    __shared__ alignas(16) float scales[L::SLOTS], shifts[L::SLOTS];
    __shared__ float found[2 * MOST_ROWS];
    Place place(rows, blocks, block_rows);
    L::share(scales, scale + size_t(place.group) * stride, one, dim);
    L::share(shifts, shift + size_t(place.group) * stride, 0.0f, dim);
    __syncthreads();
    for (unsigned r = L::row(); r < place.count; r += L::ROWS_AT_ONCE) {
        size_t row = (place.first + r) * dim;
        typename L::Stored stored;
        float values[L::N];
        L::load(stored, x + row, dim);
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) values[n] = L::value(stored, n);
        float2 of_row = statistics<L>(values, eps, dim);
#pragma unroll
        for (unsigned n = 0; n < L::N; n++) values[n] = (values[n] - of_row.x) * of_row.y;
        L::each(scales, [&](unsigned n, float scale) { values[n] *= scale; });
        L::each(shifts, [&](unsigned n, float shift) { values[n] += shift; });
        L::store(y + row, values, dim);
        if (threadIdx.x % L::ROW_THREADS == 0) {
            found[2 * r] = of_row.x;
            found[2 * r + 1] = of_row.y;
        }
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < 2 * place.count; i += L::THREADS) stats[2 * place.first + i] = found[i];
}

// ---- backward -------------------------------------------------------------------------------------------------------------

// What a row adds to the sums of dscale and dshift, and its dx, added to what is there where `add`. Beyond the end of the row
// dy is 0, so that xhat, which is not, adds to no sum.
template <class L>
__device__ __forceinline__ void backward_row(Element* dx, bool add, float (&sum_scale)[L::N], float (&sum_shift)[L::N],
                                             const Element* dy, const Element* x, float2 of_row,
                                             const float (&scales)[L::SLOTS], unsigned dim) {
    typename L::Stored dys, xs, before = {};
    L::load(dys, dy, dim);
    L::load(xs, x, dim);
    if (add) L::load(before, dx, dim); // now, so that its latency is not one more
    // Not fused with what is subtracted below: what cancels exactly on paper (a row of one element) does so here.
    auto g = [&](unsigned n, float scale) { return __fmul_rn(L::value(dys, n), scale); };
    auto xhat = [&](unsigned n) { return (L::value(xs, n) - of_row.x) * of_row.y; };
    float sum = 0.0f, sum_xhat = 0.0f;
    L::each(scales, [&](unsigned n, float scale) {
        sum_scale[n] = fmaf(L::value(dys, n), xhat(n), sum_scale[n]);
        sum_shift[n] += L::value(dys, n);
        sum += g(n, scale);
        sum_xhat = fmaf(g(n, scale), xhat(n), sum_xhat);
    });
    float mean = L::sum(sum) / float(dim), mean_xhat = L::sum(sum_xhat) / float(dim);
    float result[L::N];
    L::each(scales, [&](unsigned n, float scale) {
        result[n] = L::value(before, n) + of_row.y * (g(n, scale) - mean - xhat(n) * mean_xhat);
    });
    L::store(dx, result, dim);
}

// put(first + column, the sum of `sums` over this block's rows)
template <class L, class Put>
__device__ __forceinline__ void sum_over_rows(const float (&sums)[L::N], unsigned first, unsigned dim, const Put& put) {
    __shared__ alignas(16) float of_rows[L::ROWS_AT_ONCE][L::SLOTS];
    __syncthreads(); // an earlier call may still be read
    L::share_row(of_rows[L::row()], sums);
    __syncthreads();
    for (unsigned column = threadIdx.x; column < dim; column += L::THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned row = 0; row < L::ROWS_AT_ONCE; row++) sum += of_rows[row][column];
        put(first + column, sum);
    }
}

template <class L>
__device__ __forceinline__ void backward(Element* dx, unsigned add, float* dscale, float* dshift, const Element* dy,
                                         const Element* x, const float* stats, const float* scale, unsigned stride, float one,
                                         unsigned rows, unsigned dim, unsigned blocks, unsigned block_rows, float* partials,
                                         unsigned* counters) {
    __shared__ alignas(16) float scales[L::SLOTS];
    __shared__ float saved[2 * MOST_ROWS];
    Place place(rows, blocks, block_rows);
    L::share(scales, scale + size_t(place.group) * stride, one, dim);
    for (unsigned i = threadIdx.x; i < 2 * place.count; i += L::THREADS) saved[i] = stats[2 * place.first + i];
    __syncthreads();
    float sum_scale[L::N] = {}, sum_shift[L::N] = {};
    for (unsigned r = L::row(); r < place.count; r += L::ROWS_AT_ONCE) {
        size_t row = (place.first + r) * dim;
        float2 of_row = make_float2(saved[2 * r], saved[2 * r + 1]);
        backward_row<L>(dx + row, add != 0, sum_scale, sum_shift, dy + row, x + row, of_row, scales, dim);
    }

    dscale += size_t(place.group) * stride;
    dshift += size_t(place.group) * stride;
    auto add_to_gradient = [=](unsigned slot, float sum) { (slot < dim ? dscale : dshift - dim)[slot] += sum; };
    bool alone = blocks == 1; // then there is nothing to add up
    float* partial = partial_row(partials, place.group, blocks, place.block, 2 * dim);
    auto put = [=](unsigned slot, float sum) {
        if (alone) {
            add_to_gradient(slot, sum);
        } else {
            partial[slot] = sum;
        }
    };
    sum_over_rows<L>(sum_scale, 0, dim, put);
    sum_over_rows<L>(sum_shift, dim, dim, put);
    if (alone) return;
    sum_over_blocks<L::THREADS>(partials, counters, place.group, blocks, place.block, 2 * dim, add_to_gradient);
}

// ---- the kernels ----------------------------------------------------------------------------------------------------------

// Templates have no names that the host could look up, so a macro gives each layout a pair of kernels. A multiprocessor has
// room for `forward_blocks` and `backward_blocks` of them, a bound without which ptxas saves registers by spilling.
#define NORM_KERNELS(size, forward_blocks, backward_blocks, ...)                                                               \
    using Layout_##size = Layout<__VA_ARGS__>;                                                                                 \
    HOST_CONSTANT(norm_##size##_rows_at_once, Layout_##size::ROWS_AT_ONCE);                                                    \
    extern "C" __global__ void __launch_bounds__(Layout_##size::THREADS, forward_blocks)                                       \
        norm_forward_##size(Element* y, float* stats, const Element* x, const float* scale, const float* shift,                \
                            unsigned stride, float one, float eps, unsigned rows, unsigned dim, unsigned blocks,               \
                            unsigned block_rows) {                                                                             \
        forward<Layout_##size>(y, stats, x, scale, shift, stride, one, eps, rows, dim, blocks, block_rows);                    \
    }                                                                                                                          \
    extern "C" __global__ void __launch_bounds__(Layout_##size::THREADS, backward_blocks)                                      \
        norm_backward_##size(Element* dx, unsigned add, float* dscale, float* dshift, const Element* dy, const Element* x,     \
                             const float* stats, const float* scale, unsigned stride, float one, unsigned rows,                \
                             unsigned dim, unsigned blocks, unsigned block_rows, float* partials, unsigned* counters) {        \
        backward<Layout_##size>(dx, add, dscale, dshift, dy, x, stats, scale, stride, one, rows, dim, blocks, block_rows,      \
                                partials, counters);                                                                           \
    }

// Packs of 4 in both sets: with 8 of bf16 the two halves of a pack's f32 scale would lie 32 bytes apart from lane to lane.
constexpr unsigned PACK = 4;
NORM_KERNELS(256, 4, 4, 8, PACK, 1, 8)
NORM_KERNELS(384, 4, 2, 12, PACK, 1, 8)
NORM_KERNELS(512, 7, 4, 16, PACK, 1, 4)
NORM_KERNELS(768, 5, sizeof(Element) == 2 ? 4 : 3, 24, PACK, 1, 4)
NORM_KERNELS(1024, 8, 7, 8, PACK, 4, 4)
NORM_KERNELS(2048, 4, 3, 8, PACK, 8, 8)
NORM_KERNELS(4096, 4, 2, 16, PACK, 8, 8)
// Rows that do not divide into packs.
NORM_KERNELS(odd, 3, 2, 16, 1, 8, 8)
