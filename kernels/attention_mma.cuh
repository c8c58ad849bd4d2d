// What the bf16 kernels of attention are made of: mma.m16n8k16 with f32 sums, tiles by cp.async, fragments by ldmatrix.
//
// A warp owns rows (queries, or keys for dk and dv) and holds their fragments in registers for the whole kernel. The other
// side streams through shared memory in two stages: while one is multiplied, the next is on its way. The first products'
// sums lie in registers as the second products' left operand wants them, so that neither scores nor probabilities leave
// the warp. Columns past head_dim and rows past the last token are zeros in shared memory.
#pragma once

#include "attention_layout.cuh"
#include "unrolled.cuh"

constexpr unsigned ELEMENT_BYTES = 2;
constexpr unsigned CHUNK_BYTES = 16; // what cp.async and a row of ldmatrix move
constexpr unsigned CHUNK = CHUNK_BYTES / ELEMENT_BYTES;
constexpr unsigned MMA_ROWS = 16, MMA_COLUMNS = 8, MMA_DEPTH = 16; // of one product
constexpr unsigned ROW_LANES = 4; // lanes that hold one row of a fragment
constexpr unsigned STAGES = 2;

// ---- instructions -------------------------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return unsigned(__cvta_generic_to_shared(pointer));
}

// 16 bytes of global memory to shared memory, or 16 zeros.
__device__ __forceinline__ void copy_chunk(unsigned to, const void* from, bool exists) {
    unsigned bytes = exists ? CHUNK_BYTES : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Two f32, or zeros.
__device__ __forceinline__ void copy_pair(unsigned to, const float2* from, bool exists) {
    unsigned bytes = exists ? sizeof(float2) : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <unsigned PENDING> __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

struct Fragment {
    unsigned part[4];
};

// Four 8 x 8 matrices, `OFFSET` bytes behind; lane l gives the address of row l % 8 of matrix l / 8.
template <unsigned OFFSET> __device__ __forceinline__ Fragment load_fragment(unsigned row) {
    Fragment f;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                 : "=r"(f.part[0]), "=r"(f.part[1]), "=r"(f.part[2]), "=r"(f.part[3])
                 : "r"(row), "n"(OFFSET)
                 : "memory");
    return f;
}

template <unsigned OFFSET> __device__ __forceinline__ Fragment load_transposed(unsigned row) {
    Fragment f;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                 : "=r"(f.part[0]), "=r"(f.part[1]), "=r"(f.part[2]), "=r"(f.part[3])
                 : "r"(row), "n"(OFFSET)
                 : "memory");
    return f;
}

// Sums of 16 x 8: lane l holds columns 2 (l % 4) and the next, of row l / 4 and then of row l / 4 + 8.
struct Sums {
    float element[4];
};

__device__ __forceinline__ void multiply(Sums& c, const Fragment& a, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c.element[0]), "+f"(c.element[1]), "+f"(c.element[2]), "+f"(c.element[3])
        : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b0), "r"(b1));
}

// The same with sums that are 0 before.
__device__ __forceinline__ void multiply_first(Sums& c, const Fragment& a, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %10, %10, %10};"
        : "=f"(c.element[0]), "=f"(c.element[1]), "=f"(c.element[2]), "=f"(c.element[3])
        : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

__device__ __forceinline__ unsigned round_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<unsigned*>(&pair);
}

// Columns 0-7 or 8-15 of a left operand from sums: as these lie in the lanes, so does the operand.
__device__ __forceinline__ void set_columns(Fragment& operand, unsigned half, const Sums& sums) {
    operand.part[2 * half] = round_pair(sums.element[0], sums.element[1]);
    operand.part[2 * half + 1] = round_pair(sums.element[2], sums.element[3]);
}

// Over the four lanes of a row.
__device__ __forceinline__ float row_sum(float x) {
    x += __shfl_xor_sync(FULL_WARP, x, 1);
    return x + __shfl_xor_sync(FULL_WARP, x, 2);
}

__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 1));
    return fmaxf(x, __shfl_xor_sync(FULL_WARP, x, 2));
}

// ---- tiles in shared memory ---------------------------------------------------------------------------------------------

// Rows of D elements. One chunk more than D, which is an odd number of chunks: the same chunk of 8 rows, one after another,
// lies in all 32 banks, and so do four chunks of a row and the same four of the fourth row after it.
template <unsigned D> struct Tile {
    static constexpr unsigned PITCH = D * ELEMENT_BYTES + CHUNK_BYTES;
    static constexpr unsigned STEPS = D / MMA_DEPTH;
    static constexpr unsigned COLUMNS = D / MMA_COLUMNS;
};

// The row that four threads move at once: pairs of four have rows r and r + 4, see Tile.
__device__ __forceinline__ unsigned moved_row(unsigned thread) {
    unsigned four = thread / ROW_LANES;
    return four % 2 * 4 + four / 2 % 4 + four / 8 * 8;
}

// What a lane adds to the address of the first of four 8 x 8 matrices of a tile, for ldmatrix. A square: rows 0-7 and 8-15 of 8
// columns, then of the next 8. A left operand, or, transposed, right operands for 16 columns of sums.
template <unsigned D> __device__ __forceinline__ unsigned square_lane() {
    unsigned lane = thread_again() % WARP;
    return lane % 16 * Tile<D>::PITCH + lane / 16 * CHUNK_BYTES;
}

// A strip: 8 rows of 4 x 8 columns. Right operands for two steps of depth.
template <unsigned D> __device__ __forceinline__ unsigned strip_lane() {
    unsigned lane = thread_again() % WARP;
    return lane % 8 * Tile<D>::PITCH + lane / 8 * CHUNK_BYTES;
}

// Element by element, for rows that cannot be moved in chunks.
template <unsigned D, unsigned ROWS, unsigned THREADS>
__device__ __forceinline__ void fill_tile(unsigned char* tile, HeadRows<const Element> from, unsigned first,
                                          const AttentionShape& shape) {
#pragma unroll 1
    for (unsigned i = thread_again(); i < ROWS * D; i += THREADS) {
        unsigned row = i / D, column = i % D;
        bool exists = first + row < shape.tokens && column < shape.head_dim;
        Element x = exists ? from.row(first + row)[column] : Element(0.0f);
        *reinterpret_cast<Element*>(tile + row * Tile<D>::PITCH + column * ELEMENT_BYTES) = x;
    }
}

// Begins to fill TILES tiles, DISTANCE bytes apart, with ROWS rows each from `first` on: four lanes a row, 64 bytes of it at a
// time, or eight where there are more threads than that takes.
template <unsigned D, unsigned ROWS, unsigned THREADS, unsigned DISTANCE, unsigned TILES>
__device__ __forceinline__ void fetch_tiles(unsigned char* tile, const HeadRows<const Element> (&from)[TILES], unsigned first,
                                            const AttentionShape& shape) {
    constexpr unsigned LANES = ROWS * ROW_LANES < THREADS ? 2 * ROW_LANES : ROW_LANES, ROWS_AT_ONCE = THREADS / LANES;
    static_assert(ROWS % ROWS_AT_ONCE == 0 && LANES * CHUNK <= D, "every thread moves something");
    if (!shape.aligned) {
#pragma unroll
        for (unsigned i = 0; i < TILES; i++) fill_tile<D, ROWS, THREADS>(tile + i * DISTANCE, from[i], first, shape);
        return;
    }
    unsigned thread = thread_again();
    unsigned lane_row = LANES == ROW_LANES ? moved_row(thread) : thread / LANES, lane_column = thread % LANES * CHUNK;
    unsigned to = shared_address(tile) + lane_row * Tile<D>::PITCH + lane_column * ELEMENT_BYTES;
#pragma unroll
    for (unsigned row = 0; row < ROWS; row += ROWS_AT_ONCE) {
        unsigned source_row = first + row + lane_row;
#pragma unroll
        for (unsigned i = 0; i < TILES; i++)
#pragma unroll
            for (unsigned column = 0; column < D; column += LANES * CHUNK) {
                bool exists = source_row < shape.tokens && column + lane_column < shape.head_dim;
                unsigned place = i * DISTANCE + row * Tile<D>::PITCH + column * ELEMENT_BYTES;
                copy_chunk(to + place, from[i].row(source_row) + lane_column + column, exists);
            }
    }
}

// The same with one tile.
template <unsigned D, unsigned ROWS, unsigned THREADS>
__device__ __forceinline__ void fetch_tile(unsigned char* tile, HeadRows<const Element> from, unsigned first,
                                           const AttentionShape& shape) {
    const HeadRows<const Element> sources[] = {from};
    fetch_tiles<D, ROWS, THREADS, 0>(tile, sources, first, shape);
}

// A warp's rows as left operands, for the whole kernel.
template <unsigned D, unsigned BLOCKS> struct Operand {
    Fragment fragment[BLOCKS][Tile<D>::STEPS];

    __device__ __forceinline__ void load(const unsigned char* tile) {
        unsigned rows = shared_address(tile) + threadIdx.x / WARP * BLOCKS * MMA_ROWS * Tile<D>::PITCH + square_lane<D>();
        for_known<0, BLOCKS * Tile<D>::STEPS>([&](auto known) {
            constexpr unsigned I = known / Tile<D>::STEPS, K = known % Tile<D>::STEPS;
            constexpr unsigned OFFSET = I * MMA_ROWS * Tile<D>::PITCH + K * MMA_DEPTH * ELEMENT_BYTES;
            fragment[I][K] = load_fragment<OFFSET>(rows);
        });
    }
};

// sums[i] = rows of `left` times 8 rows of a tile, over all D columns. `strip` is this lane's address in these, without OFFSET.
template <unsigned OFFSET, unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void multiply_rows(Sums (&sums)[BLOCKS], const Operand<D, BLOCKS>& left, unsigned strip) {
    for_known<0, Tile<D>::STEPS / 2>([&](auto known) {
        constexpr unsigned K = 2 * known;
        Fragment right = load_fragment<OFFSET + K * MMA_DEPTH * ELEMENT_BYTES>(strip);
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++) {
            if constexpr (K == 0) multiply_first(sums[i], left.fragment[i][K], right.part[0], right.part[1]);
            else multiply(sums[i], left.fragment[i][K], right.part[0], right.part[1]);
        }
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++) multiply(sums[i], left.fragment[i][K + 1], right.part[2], right.part[3]);
    });
}

// sums[j][i] = rows of `left` in shared memory times 16 rows of a tile, over all D columns. Both are this lane's addresses in
// squares, that of the tile without OFFSET.
template <unsigned D, unsigned OFFSET, unsigned BLOCKS>
__device__ __forceinline__ void multiply_shared_rows(Sums (&sums)[2][BLOCKS], unsigned left_square, unsigned square) {
    for_known<0, Tile<D>::STEPS>([&](auto step) {
        constexpr unsigned K = step, COLUMN = K * MMA_DEPTH * ELEMENT_BYTES;
        Fragment right = load_fragment<OFFSET + COLUMN>(square);
        for_known<0, BLOCKS>([&](auto block) {
            constexpr unsigned I = block;
            Fragment left = load_fragment<I * MMA_ROWS * Tile<D>::PITCH + COLUMN>(left_square);
#pragma unroll
            for (unsigned j = 0; j < 2; j++) {
                if constexpr (K == 0) multiply_first(sums[j][I], left, right.part[j], right.part[2 + j]);
                else multiply(sums[j][I], left, right.part[j], right.part[2 + j]);
            }
        });
    });
}

// sums[.][i] += left[i] times 16 rows of a tile. `square` is this lane's address in these, without OFFSET.
template <unsigned D, unsigned OFFSET, unsigned BLOCKS>
__device__ __forceinline__ void multiply_columns(Sums (&sums)[Tile<D>::COLUMNS][BLOCKS], const Fragment (&left)[BLOCKS],
                                                 unsigned square) {
    for_known<0, Tile<D>::COLUMNS / 2>([&](auto known) {
        constexpr unsigned N = 2 * known;
        Fragment right = load_transposed<OFFSET + N * MMA_COLUMNS * ELEMENT_BYTES>(square);
#pragma unroll
        for (unsigned half = 0; half < 2; half++)
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++)
                multiply(sums[N + half][i], left[i], right.part[2 * half], right.part[2 * half + 1]);
    });
}

// Writes a warp's sums times `factor` of their row as rows of `to`, through the warp's own part of `shared`, so that whole
// sectors are written.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void write_rows(HeadRows<Element> to, unsigned first, const Sums (&sums)[Tile<D>::COLUMNS][BLOCKS],
                                           const float (&factor)[BLOCKS][2], unsigned char* shared,
                                           const AttentionShape& shape) {
    unsigned lane = threadIdx.x % WARP, warp_row = threadIdx.x / WARP * BLOCKS * MMA_ROWS;
    unsigned char* rows = shared + warp_row * Tile<D>::PITCH;
    __syncwarp(); // an earlier call may still be read
#pragma unroll
    for (unsigned i = 0; i < 2 * BLOCKS; i++)
#pragma unroll
        for (unsigned n = 0; n < Tile<D>::COLUMNS; n++) {
            const float* x = &sums[n][i / 2].element[i % 2 * 2];
            float by = factor[i / 2][i % 2];
            unsigned row = 8 * i + lane / ROW_LANES, column = n * MMA_COLUMNS + lane % ROW_LANES * 2;
            unsigned char* to_pair = rows + row * Tile<D>::PITCH + column * ELEMENT_BYTES;
            *reinterpret_cast<unsigned*>(to_pair) = round_pair(x[0] * by, x[1] * by);
        }
    __syncwarp();
    first += warp_row;
    if (!shape.aligned) {
#pragma unroll 1
        for (unsigned i = lane; i < BLOCKS * MMA_ROWS * D; i += WARP) {
            unsigned row = i / D, column = i % D;
            if (first + row >= shape.tokens || column >= shape.head_dim) continue;
            to.row(first + row)[column] = reinterpret_cast<const Element*>(rows + row * Tile<D>::PITCH)[column];
        }
        return;
    }
#pragma unroll
    for (unsigned row = moved_row(lane); row < BLOCKS * MMA_ROWS; row += WARP / ROW_LANES) {
        if (first + row >= shape.tokens) continue;
#pragma unroll
        for (unsigned column = lane % ROW_LANES * CHUNK; column < D; column += ROW_LANES * CHUNK) {
            if (column >= shape.head_dim) break;
            uint4 chunk = *reinterpret_cast<const uint4*>(rows + row * Tile<D>::PITCH + column * ELEMENT_BYTES);
            *reinterpret_cast<uint4*>(to.row(first + row) + column) = chunk;
        }
    }
}

// Scores of keys that do not exist become -infinity: all but the first `keys`.
template <unsigned BLOCKS> __device__ __forceinline__ void mask_keys(Sums (&scores)[BLOCKS], int keys) {
    int lane_column = threadIdx.x % ROW_LANES * 2;
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (int element = 0; element < 4; element++)
            if (lane_column + element % 2 >= keys) scores[i].element[element] = -INFINITY;
}
