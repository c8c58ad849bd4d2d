// Linear layers on a sample's vectors (step embedding, modulation): a product with at most 32 rows, bound by reading or writing
// its weights, which are f32 in both precisions. Included by matmul.cu; formulas there.
//
// Parallelism: forward and backward to the input, a block has 32 columns of the result for all rows. Its warps take turns at
// the terms, and where there are fewer columns than keep a device busy, several blocks share them (sum_over_blocks). For the
// gradient of the weight a block has 32 x 128 of its elements for all rows; there is no sum over blocks.
//
// Sizes and addresses are multiples of 16 bytes.
#pragma once

#include "gemm.cuh"

namespace few {

constexpr unsigned MOST_ROWS = 32;
constexpr unsigned THREADS = 256, WARPS = THREADS / WARP;
constexpr unsigned BLOCKS = 2;   // on a multiprocessor
constexpr unsigned DW_BLOCKS = 3;
constexpr unsigned COLUMNS = 32; // of the result, of a block
constexpr unsigned TERMS = 16;   // that a warp has in shared memory
constexpr unsigned PACK = Pack<float>::COUNT;
constexpr Pack<float> ZEROS = {};

// ---- an operand's terms in shared memory -----------------------------------------------------------------------------------

// TERMS terms of 32 rows (or columns) of an operand, for a warp. Groups of 4 rows are permuted: warps write along the terms
// without bank conflicts, and read 4 rows of a term at once.
struct Staged {
    float terms[TERMS][WARP];

    __device__ __forceinline__ float* group(unsigned term, unsigned group) {
        return &terms[term][(group ^ (term / PACK * 2)) * PACK];
    }
};

// An array [rows, terms]: a lane has a pack of terms of every 8th row.
template <unsigned ROWS> struct AlongTerms {
    static constexpr unsigned LANES = TERMS / PACK, AT_ONCE = WARP / LANES, PIECES = ROWS / AT_ONCE;
    const float* x;
    unsigned rows, terms;
    Pack<float> pieces[PIECES];

    __device__ __forceinline__ void fetch(unsigned first_row, unsigned first_term) {
        unsigned term = first_term + threadIdx.x % LANES * PACK;
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            unsigned row = first_row + i * AT_ONCE + threadIdx.x % WARP / LANES;
            pieces[i] = row < rows && term < terms ? load_pack(x + size_t(row) * terms + term) : ZEROS;
        }
    }
    __device__ __forceinline__ void deposit(Staged& to) const {
        unsigned term = threadIdx.x % LANES * PACK;
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            unsigned row = i * AT_ONCE + threadIdx.x % WARP / LANES;
#pragma unroll
            for (unsigned j = 0; j < PACK; j++) to.group(term + j, row / PACK)[row % PACK] = pieces[i].element[j];
        }
    }
};

// An array [terms, columns]: a lane has a pack of columns of every 4th term.
struct AcrossTerms {
    static constexpr unsigned LANES = COLUMNS / PACK, AT_ONCE = WARP / LANES, PIECES = TERMS / AT_ONCE;
    const float* x;
    unsigned columns, terms;
    Pack<float> pieces[PIECES];

    __device__ __forceinline__ void fetch(unsigned first_column, unsigned first_term) {
        unsigned column = first_column + threadIdx.x % LANES * PACK;
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            unsigned term = first_term + i * AT_ONCE + threadIdx.x % WARP / LANES;
            pieces[i] = column < columns && term < terms ? load_pack(x + size_t(term) * columns + column) : ZEROS;
        }
    }
    __device__ __forceinline__ void deposit(Staged& to) const {
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            store_pack(to.group(i * AT_ONCE + threadIdx.x % WARP / LANES, threadIdx.x % LANES), pieces[i]);
        }
    }
};

// ---- forward, and backward to the input -----------------------------------------------------------------------------------

// How a warp's lanes share ROWS x COLUMNS sums: 8 lanes side by side have 4 columns each, of LANE_ROWS rows.
template <unsigned ROWS> struct Sums {
    static constexpr unsigned LANES = COLUMNS / PACK, LANE_ROWS = ROWS / (WARP / LANES);
    float sums[LANE_ROWS][PACK] = {};

    static __device__ __forceinline__ unsigned lane_column() { return threadIdx.x % LANES; }
    static __device__ __forceinline__ unsigned lane_row() { return threadIdx.x % WARP / LANES; }

    __device__ __forceinline__ void add_products(Staged& a, Staged& b) {
#pragma unroll
        for (unsigned term = 0; term < TERMS; term++) {
            float of_rows[LANE_ROWS];
#pragma unroll
            for (unsigned i = 0; i < LANE_ROWS; i += PACK) {
                load_some<PACK>(&of_rows[i], a.group(term, (lane_row() * LANE_ROWS + i) / PACK));
            }
            Pack<float> of_columns = load_pack(b.group(term, lane_column()));
#pragma unroll
            for (unsigned i = 0; i < LANE_ROWS; i++) {
#pragma unroll
                for (unsigned j = 0; j < PACK; j++) sums[i][j] = fmaf(of_rows[i], of_columns.element[j], sums[i][j]);
            }
        }
    }

    // to [ROWS, COLUMNS]
    __device__ __forceinline__ void store(float* to) const {
#pragma unroll
        for (unsigned i = 0; i < LANE_ROWS; i++) {
            store_some<PACK>(to + (lane_row() * LANE_ROWS + i) * COLUMNS + lane_column() * PACK, sums[i]);
        }
    }
};

// finish(row, column, sum over the terms of a(row, term) b(column, term)); `splits` blocks share the terms of a tile.
template <unsigned ROWS, class B, class Finish>
__device__ __forceinline__ void product(AlongTerms<ROWS> a, B b, unsigned rows, unsigned columns, unsigned terms,
                                        const Split& split, Finish finish) {
    // A warp's two operands, and afterwards its sums.
    __shared__ alignas(16) Staged staged[WARPS][2];
    static_assert(ROWS * COLUMNS * sizeof(float) <= sizeof(staged[0]), "the sums have room");
    unsigned tile = blockIdx.x / split.splits, part = blockIdx.x % split.splits, warp = threadIdx.x / WARP;
    unsigned part_terms = ceil_div(ceil_div(terms, TERMS), split.splits) * TERMS;
    unsigned term = part * part_terms + warp * TERMS, end = min(terms, (part + 1) * part_terms);
    Sums<ROWS> sums;
    auto fetch = [&]() {
        a.fetch(0, term);
        b.fetch(tile * COLUMNS, term);
    };
    if (term < end) fetch();
    while (term < end) {
        __syncwarp(); // the terms before may still be read
        a.deposit(staged[warp][0]);
        b.deposit(staged[warp][1]);
        __syncwarp();
        term += WARPS * TERMS;
        if (term < end) fetch();
        sums.add_products(staged[warp][0], staged[warp][1]);
    }
    __syncwarp();
    sums.store(&staged[warp][0].terms[0][0]);
    __syncthreads();

    unsigned width = rows * COLUMNS;
    float* partial = partial_row(split.partial, tile, split.splits, part, width);
    auto finish_slot = [&](unsigned slot, float sum) {
        unsigned column = tile * COLUMNS + slot % COLUMNS;
        if (column < columns) finish(slot / COLUMNS, column, sum);
    };
    for (unsigned slot = threadIdx.x; slot < width; slot += THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (unsigned i = 0; i < WARPS; i++) sum += (&staged[i][0].terms[0][0])[slot];
        if (split.splits == 1) {
            finish_slot(slot, sum);
        } else {
            partial[slot] = sum;
        }
    }
    if (split.splits == 1) return;
    sum_over_blocks<THREADS>(split.partial, split.counters, tile, split.splits, part, width, finish_slot);
}

template <unsigned ROWS>
__device__ __forceinline__ void forward(float* y, float* pre, const float* x, const float* w, const float* bias,
                                        unsigned activation, const Split& split, unsigned rows, unsigned columns,
                                        unsigned inner) {
    auto finish = [=](unsigned row, unsigned column, float h) {
        size_t at = size_t(row) * columns + column;
        if (bias) h += bias[column];
        if (pre) pre[at] = h;
        y[at] = activate(h, activation);
    };
    AlongTerms<ROWS> a{x, rows, inner};
    AlongTerms<COLUMNS> b{w, columns, inner};
    product<ROWS>(a, b, rows, columns, inner, split, finish);
}

template <unsigned ROWS>
__device__ __forceinline__ void backward_input(float* dx, const float* dh, const float* w, const float* pre,
                                               unsigned activation, bool add, const Split& split, unsigned rows,
                                               unsigned columns, unsigned inner) {
    auto finish = [=](unsigned row, unsigned column, float sum) {
        size_t at = size_t(row) * inner + column;
        if (pre) sum *= activation_slope(pre[at], activation);
        dx[at] = add ? dx[at] + sum : sum;
    };
    AlongTerms<ROWS> a{dh, rows, columns};
    AcrossTerms b{w, inner, columns};
    product<ROWS>(a, b, rows, inner, columns, split, finish);
}

// ---- backward to the weight -----------------------------------------------------------------------------------------------

// The tile of dw: a warp has LANE_ROWS of its rows, a lane a pack of their elements.
constexpr unsigned DW_ROWS = 32, DW_COLUMNS = WARP * PACK, LANE_ROWS = DW_ROWS / WARPS;
static_assert(LANE_ROWS == PACK, "a pack of dh");

// COLUMNS columns of an array [rows, columns] in shared memory; 0 beyond its end.
template <unsigned COLUMNS>
__device__ __forceinline__ void share(float (&to)[MOST_ROWS][COLUMNS], const float* from, unsigned first, unsigned rows,
                                      unsigned columns) {
    constexpr unsigned PACKS = COLUMNS / PACK;
    for (unsigned i = threadIdx.x; i < rows * PACKS; i += THREADS) {
        unsigned row = i / PACKS, column = i % PACKS * PACK;
        bool inside = first + column < columns;
        store_pack(&to[row][column], inside ? load_pack(from + size_t(row) * columns + first + column) : ZEROS);
    }
}

__device__ __forceinline__ void backward_weight(float* dw, float* dbias, const float* dh, const float* x, unsigned rows,
                                                unsigned columns, unsigned inner) {
    __shared__ alignas(16) float dhs[MOST_ROWS][DW_ROWS], xs[MOST_ROWS][DW_COLUMNS];
    unsigned tiles = ceil_div(inner, DW_COLUMNS), first_row = blockIdx.x / tiles * DW_ROWS;
    unsigned first_column = blockIdx.x % tiles * DW_COLUMNS;
    unsigned lane_row = threadIdx.x / WARP * LANE_ROWS, lane_column = threadIdx.x % WARP * PACK;
    share(dhs, dh, first_row, rows, columns);
    share(xs, x, first_column, rows, inner);
    float sums[LANE_ROWS][PACK] = {};
    auto at = [&](unsigned i) { return dw + size_t(first_row + lane_row + i) * inner + first_column + lane_column; };
    bool inside = first_column + lane_column < inner;
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; i++) {
        if (inside && first_row + lane_row + i < columns) load_some<PACK>(sums[i], at(i));
    }
    __syncthreads();
#pragma unroll 4
    for (unsigned row = 0; row < rows; row++) {
        Pack<float> of_dh = load_pack(&dhs[row][lane_row]), of_x = load_pack(&xs[row][lane_column]);
#pragma unroll
        for (unsigned i = 0; i < LANE_ROWS; i++) {
#pragma unroll
            for (unsigned j = 0; j < PACK; j++) sums[i][j] = fmaf(of_dh.element[i], of_x.element[j], sums[i][j]);
        }
    }
#pragma unroll
    for (unsigned i = 0; i < LANE_ROWS; i++) {
        if (inside && first_row + lane_row + i < columns) store_some<PACK>(at(i), sums[i]);
    }
    unsigned column = first_row + threadIdx.x; // of dh
    if (dbias && first_column == 0 && threadIdx.x < DW_ROWS && column < columns) {
        float sum = 0.0f;
        for (unsigned row = 0; row < rows; row++) sum += dhs[row][threadIdx.x];
        dbias[column] += sum;
    }
}

} // namespace few
