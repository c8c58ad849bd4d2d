// sets: f32 bf16
//
// Linear layers. Products of row-major matrices on the core of gemm.cuh; every kernel is one launch.
//
//   matmul_forward            h = x w^T + bias; y = activation(h); h is kept in `pre` where backward needs it
//   matmul_residual_forward   h = x w^T + bias; y = residual + gate[sample] h; h is kept where the gate's gradient needs it
//   matmul_backward_input     dx = dh w, or +=; or dx = (dh w) activation'(pre), the gradient before the previous activation
//   matmul_backward_weight    dw += dh^T x; dbias += sum over rows of dh
//
// x [rows, inner], w [columns, inner], y, h, dh [rows, columns], dx and its pre [rows, inner]: Element. bias [columns], gate's
// modulation [batch, slots, columns], dw [columns, inner], dbias [columns]: f32. Optional pointers may be null.
//
// Parallelism: a block computes a tile of the output. Where there are few tiles and long sums, as in the weight's gradient and
// wherever there are few rows, several blocks share a tile (Split in gemm.cuh); grid = tiles * splits.
//
// Variants of each: `_wide` has tiles of 128 x 128, for outputs with many tiles, the plain one 64 x 64, and `_unaligned` is the
// plain one for sizes or addresses that are not multiples of 16 bytes. The wide one has no use for splits, except for the
// weight's gradient. `_few` is for at most 32 rows of f32 (matmul_few.cuh), `_fewer` for at most 16.
#include "gemm.cuh"

constexpr unsigned WIDE = 128, NARROW = 64;

template <unsigned SIDE, bool ALIGNED>
using Forward = Product<Matrix<Element, ALIGNED>, true, Matrix<Element, ALIGNED>, true, SIDE>;
template <unsigned SIDE, bool ALIGNED>
using BackwardInput = Product<Matrix<Element, ALIGNED>, true, Matrix<Element, ALIGNED>, false, SIDE>;
template <unsigned SIDE, bool ALIGNED>
using BackwardWeight = Product<Matrix<Element, ALIGNED>, false, Matrix<Element, ALIGNED>, false, SIDE>;

constexpr unsigned WIDE_THREADS = THREADS_OF<WIDE>, NARROW_THREADS = THREADS_OF<NARROW>;
constexpr unsigned BLOCKS = 2; // of the wide variants on a multiprocessor

// What the host lays out: sides of tiles, splits of a group, f32 of a partial tile.
HOST_CONSTANT(matmul_wide_side, WIDE);
HOST_CONSTANT(matmul_narrow_side, NARROW);
HOST_CONSTANT(matmul_split_group, SPLIT_GROUP);
HOST_CONSTANT(matmul_wide_partial, PARTIAL_LEN<WIDE>);
HOST_CONSTANT(matmul_narrow_partial, PARTIAL_LEN<NARROW>);

template <class P, class Epilogue>
__device__ __forceinline__ void product(const typename P::SourceA& a, const typename P::SourceB& b, Epilogue& epilogue,
                                        const Split& split, unsigned rows, unsigned columns, unsigned inner) {
    if constexpr (P::TILE_SIDE == WIDE) {
        P::whole(a, b, epilogue, rows, columns, inner);
    } else {
        P::template part<NO_SUMS>(a, b, epilogue, nullptr, split, rows, columns, inner);
    }
}

// ---- activations of a run ------------------------------------------------------------------------------------------------

template <unsigned ACTIVATION> __device__ __forceinline__ void activate_all(float (&run)[CHUNK]) {
#pragma unroll
    for (unsigned i = 0; i < CHUNK; i++) run[i] = activate(run[i], ACTIVATION);
}

// The choice is made once a run.
__device__ __forceinline__ void activate_run(float (&run)[CHUNK], unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return activate_all<LEAKY_RELU>(run);
    case TANH: return activate_all<TANH>(run);
    case SILU: return activate_all<SILU>(run);
    case GELU: return activate_all<GELU>(run);
    default: return;
    }
}

template <unsigned ACTIVATION>
__device__ __forceinline__ void multiply_by_slopes(float (&run)[CHUNK], const float (&x)[CHUNK]) {
#pragma unroll
    for (unsigned i = 0; i < CHUNK; i++) run[i] *= activation_slope(x[i], ACTIVATION);
}

__device__ __forceinline__ void multiply_by_slopes(float (&run)[CHUNK], const float (&x)[CHUNK], unsigned activation) {
    switch (activation) {
    case LEAKY_RELU: return multiply_by_slopes<LEAKY_RELU>(run, x);
    case TANH: return multiply_by_slopes<TANH>(run, x);
    case SILU: return multiply_by_slopes<SILU>(run, x);
    case GELU: return multiply_by_slopes<GELU>(run, x);
    default: return;
    }
}

// ---- forward -------------------------------------------------------------------------------------------------------------

// h = product + bias; y = activation(h)
template <bool ALIGNED> struct Activated {
    static constexpr unsigned RUN = CHUNK;
    Element *y, *pre;
    const float* bias;
    unsigned activation, columns;
    unsigned column = 0, count = 0;
    float column_bias[CHUNK] = {};

    __device__ __forceinline__ void start(unsigned first, unsigned elements) {
        column = first, count = elements;
        if (bias) load_run<ALIGNED>(column_bias, bias + column, count);
    }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[CHUNK]) {
        const size_t at = static_cast<size_t>(row) * columns + column;
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++) run[i] += column_bias[i];
        if (pre) store_run<ALIGNED>(pre + at, run, count);
        activate_run(run, activation);
        store_run<ALIGNED>(y + at, run, count);
    }
};

template <unsigned SIDE, bool ALIGNED>
__device__ __forceinline__ void forward(Element* y, Element* pre, const Element* x, const Element* w, const float* bias,
                                        unsigned activation, const Split& split, unsigned rows, unsigned columns,
                                        unsigned inner) {
    Activated<ALIGNED> epilogue{y, pre, bias, activation, columns};
    product<Forward<SIDE, ALIGNED>>({x, rows, inner}, {w, columns, inner}, epilogue, split, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(WIDE_THREADS, BLOCKS)
    matmul_forward_wide(Element* y, Element* pre, const Element* x, const Element* w, const float* bias, unsigned activation,
                        float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    forward<WIDE, true>(y, pre, x, w, bias, activation, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_forward(Element* y, Element* pre, const Element* x, const Element* w, const float* bias, unsigned activation,
                   float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    forward<NARROW, true>(y, pre, x, w, bias, activation, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_forward_unaligned(Element* y, Element* pre, const Element* x, const Element* w, const float* bias,
                             unsigned activation, float* partial, unsigned* counters, unsigned splits, unsigned rows,
                             unsigned columns, unsigned inner) {
    forward<NARROW, false>(y, pre, x, w, bias, activation, {partial, counters, splits}, rows, columns, inner);
}

// h = product + bias; y = residual + gate[sample] h
template <bool ALIGNED> struct Residual {
    static constexpr unsigned RUN = CHUNK;
    Element *y, *h;
    const float* bias;
    const Element* residual;
    const float* modulation; // or null: no gate
    unsigned slots, slot, tokens, columns;
    unsigned column = 0, count = 0;
    float column_bias[CHUNK] = {};

    __device__ __forceinline__ void start(unsigned first, unsigned elements) {
        column = first, count = elements;
        if (bias) load_run<ALIGNED>(column_bias, bias + column, count);
    }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[CHUNK]) {
        const size_t at = static_cast<size_t>(row) * columns + column;
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++) run[i] += column_bias[i];
        if (h) store_run<ALIGNED>(h + at, run, count);
        if (modulation) {
            float gate[CHUNK];
            load_run<ALIGNED>(gate, modulation + (static_cast<size_t>(row / tokens) * slots + slot) * columns + column, count);
#pragma unroll
            for (unsigned i = 0; i < CHUNK; i++) run[i] *= gate[i];
        }
        add_to_run<ALIGNED>(run, residual + at, count);
        store_run<ALIGNED>(y + at, run, count);
    }
};

template <unsigned SIDE, bool ALIGNED>
__device__ __forceinline__ void
residual_forward(Element* y, Element* h, const Element* residual, const Element* x, const Element* w, const float* bias,
                 const float* modulation, unsigned slots, unsigned slot, unsigned tokens, const Split& split, unsigned rows,
                 unsigned columns, unsigned inner) {
    Residual<ALIGNED> epilogue{y, h, bias, residual, modulation, slots, slot, tokens, columns};
    product<Forward<SIDE, ALIGNED>>({x, rows, inner}, {w, columns, inner}, epilogue, split, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(WIDE_THREADS, BLOCKS)
    matmul_residual_forward_wide(Element* y, Element* h, const Element* residual, const Element* x, const Element* w,
                                 const float* bias, const float* modulation, unsigned slots, unsigned slot, unsigned tokens,
                                 float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                                 unsigned inner) {
    residual_forward<WIDE, true>(y, h, residual, x, w, bias, modulation, slots, slot, tokens, {partial, counters, splits}, rows,
                                 columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_residual_forward(Element* y, Element* h, const Element* residual, const Element* x, const Element* w,
                            const float* bias, const float* modulation, unsigned slots, unsigned slot, unsigned tokens,
                            float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                            unsigned inner) {
    residual_forward<NARROW, true>(y, h, residual, x, w, bias, modulation, slots, slot, tokens, {partial, counters, splits},
                                   rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_residual_forward_unaligned(Element* y, Element* h, const Element* residual, const Element* x, const Element* w,
                                      const float* bias, const float* modulation, unsigned slots, unsigned slot,
                                      unsigned tokens, float* partial, unsigned* counters, unsigned splits, unsigned rows,
                                      unsigned columns, unsigned inner) {
    residual_forward<NARROW, false>(y, h, residual, x, w, bias, modulation, slots, slot, tokens, {partial, counters, splits},
                                    rows, columns, inner);
}

// ---- backward ------------------------------------------------------------------------------------------------------------

// dx = or += product activation'(pre); without `pre` the product itself
template <bool ALIGNED> struct Sloped {
    static constexpr unsigned RUN = CHUNK;
    Element* dx;
    const Element* pre;
    unsigned activation, columns;
    bool add;
    unsigned column = 0, count = 0;

    __device__ __forceinline__ void start(unsigned first, unsigned elements) { column = first, count = elements; }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[CHUNK]) {
        const size_t at = static_cast<size_t>(row) * columns + column;
        if (pre) {
            float x[CHUNK];
            load_run<ALIGNED>(x, pre + at, count);
            multiply_by_slopes(run, x, activation);
        }
        if (add) add_to_run<ALIGNED>(run, dx + at, count);
        store_run<ALIGNED>(dx + at, run, count);
    }
};

template <unsigned SIDE, bool ALIGNED>
__device__ __forceinline__ void backward_input(Element* dx, const Element* dh, const Element* w, const Element* pre,
                                               unsigned activation, bool add, const Split& split, unsigned rows,
                                               unsigned columns, unsigned inner) {
    Sloped<ALIGNED> epilogue{dx, pre, activation, inner, add};
    product<BackwardInput<SIDE, ALIGNED>>({dh, rows, columns}, {w, columns, inner}, epilogue, split, rows, inner, columns);
}

extern "C" __global__ void __launch_bounds__(WIDE_THREADS, BLOCKS)
    matmul_backward_input_wide(Element* dx, const Element* dh, const Element* w, const Element* pre, unsigned activation,
                               unsigned add, float* partial, unsigned* counters, unsigned splits, unsigned rows,
                               unsigned columns, unsigned inner) {
    backward_input<WIDE, true>(dx, dh, w, pre, activation, add != 0, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_backward_input(Element* dx, const Element* dh, const Element* w, const Element* pre, unsigned activation,
                          unsigned add, float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                          unsigned inner) {
    backward_input<NARROW, true>(dx, dh, w, pre, activation, add != 0, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_backward_input_unaligned(Element* dx, const Element* dh, const Element* w, const Element* pre, unsigned activation,
                                    unsigned add, float* partial, unsigned* counters, unsigned splits, unsigned rows,
                                    unsigned columns, unsigned inner) {
    backward_input<NARROW, false>(dx, dh, w, pre, activation, add != 0, {partial, counters, splits}, rows, columns, inner);
}

template <unsigned SIDE, bool ALIGNED>
__device__ __forceinline__ void
backward_weight(float* dw, float* dbias, const Element* dh, const Element* x, float* partial, unsigned* counters,
                unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    Plain<ALIGNED, float> epilogue{dw, inner, true};
    BackwardWeight<SIDE, ALIGNED>::template part<SUMS_OF_A>({dh, rows, columns}, {x, rows, inner}, epilogue, dbias,
                                                            {partial, counters, splits}, columns, inner, rows);
}

extern "C" __global__ void __launch_bounds__(WIDE_THREADS, BLOCKS)
    matmul_backward_weight_wide(float* dw, float* dbias, const Element* dh, const Element* x, float* partial,
                                unsigned* counters, unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    backward_weight<WIDE, true>(dw, dbias, dh, x, partial, counters, splits, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_backward_weight(float* dw, float* dbias, const Element* dh, const Element* x, float* partial, unsigned* counters,
                           unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    backward_weight<NARROW, true>(dw, dbias, dh, x, partial, counters, splits, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(NARROW_THREADS)
    matmul_backward_weight_unaligned(float* dw, float* dbias, const Element* dh, const Element* x, float* partial,
                                     unsigned* counters, unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    backward_weight<NARROW, false>(dw, dbias, dh, x, partial, counters, splits, rows, columns, inner);
}

// ---- few rows ------------------------------------------------------------------------------------------------------------

#ifndef DIT_BF16 // the layers on a sample's vectors are f32 in both precisions
#include "matmul_few.cuh"

HOST_CONSTANT(matmul_few_rows, few::MOST_ROWS);
HOST_CONSTANT(matmul_few_half, few::MOST_ROWS / 2);
HOST_CONSTANT(matmul_few_columns, few::COLUMNS);
HOST_CONSTANT(matmul_few_set, SUM_SET);
HOST_CONSTANT(matmul_few_weight_rows, few::DW_ROWS);
HOST_CONSTANT(matmul_few_weight_columns, few::DW_COLUMNS);

extern "C" __global__ void __launch_bounds__(few::THREADS, few::BLOCKS)
    matmul_forward_few(float* y, float* pre, const float* x, const float* w, const float* bias, unsigned activation,
                       float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns, unsigned inner) {
    few::forward<few::MOST_ROWS>(y, pre, x, w, bias, activation, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(few::THREADS, few::BLOCKS)
    matmul_forward_fewer(float* y, float* pre, const float* x, const float* w, const float* bias, unsigned activation,
                         float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                         unsigned inner) {
    few::forward<few::MOST_ROWS / 2>(y, pre, x, w, bias, activation, {partial, counters, splits}, rows, columns, inner);
}

extern "C" __global__ void __launch_bounds__(few::THREADS, few::BLOCKS)
    matmul_backward_input_few(float* dx, const float* dh, const float* w, const float* pre, unsigned activation, unsigned add,
                              float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                              unsigned inner) {
    few::backward_input<few::MOST_ROWS>(dx, dh, w, pre, activation, add != 0, {partial, counters, splits}, rows, columns,
                                        inner);
}

extern "C" __global__ void __launch_bounds__(few::THREADS, few::BLOCKS)
    matmul_backward_input_fewer(float* dx, const float* dh, const float* w, const float* pre, unsigned activation, unsigned add,
                                float* partial, unsigned* counters, unsigned splits, unsigned rows, unsigned columns,
                                unsigned inner) {
    few::backward_input<few::MOST_ROWS / 2>(dx, dh, w, pre, activation, add != 0, {partial, counters, splits}, rows, columns,
                                            inner);
}

extern "C" __global__ void __launch_bounds__(few::THREADS, few::DW_BLOCKS)
    matmul_backward_weight_few(float* dw, float* dbias, const float* dh, const float* x, unsigned rows, unsigned columns,
                               unsigned inner) {
    few::backward_weight(dw, dbias, dh, x, rows, columns, inner);
}
#endif
