// The bf16 kernels of attention: mma.m16n8k16 with f32 sums, tiles by cp.async, fragments by ldmatrix.
//
// A warp owns rows (queries, or keys for dk and dv) and holds their fragments in registers for the whole kernel. The other
// side streams through shared memory in two stages: while one is multiplied, the next is on its way. The first products'
// sums lie in registers as the second products' left operand wants them, so that neither scores nor probabilities leave
// the warp. Columns past head_dim and rows past the last token are zeros in shared memory.
#pragma once

#include "attention_layout.cuh"

constexpr unsigned ELEMENT_BYTES = 2;
constexpr unsigned CHUNK_BYTES = 16; // what cp.async and a row of ldmatrix move
constexpr unsigned CHUNK = CHUNK_BYTES / ELEMENT_BYTES;
constexpr unsigned MMA = 16; // rows and depth of a product; two of its 8 columns make a step too
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

// One f32, or zero.
__device__ __forceinline__ void copy_float(unsigned to, const float* from, bool exists) {
    unsigned bytes = exists ? sizeof(float) : 0;
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <unsigned PENDING> __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

struct Fragment {
    unsigned part[4];
};

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ Fragment load_fragment(unsigned row) {
    Fragment f;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f.part[0]), "=r"(f.part[1]), "=r"(f.part[2]), "=r"(f.part[3])
                 : "r"(row)
                 : "memory");
    return f;
}

__device__ __forceinline__ Fragment load_transposed(unsigned row) {
    Fragment f;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(f.part[0]), "=r"(f.part[1]), "=r"(f.part[2]), "=r"(f.part[3])
                 : "r"(row)
                 : "memory");
    return f;
}

// Sums of 16 x 16: two products of 8 columns. Lane l holds columns 2 (l % 4) and the next, of rows l / 4 and l / 4 + 8.
struct Sums {
    float half[2][4];
};

__device__ __forceinline__ void multiply(float (&c)[4], const Fragment& a, unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.part[0]), "r"(a.part[1]), "r"(a.part[2]), "r"(a.part[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply(Sums& c, const Fragment& a, const Fragment& b) {
    multiply(c.half[0], a, b.part[0], b.part[1]);
    multiply(c.half[1], a, b.part[2], b.part[3]);
}

__device__ __forceinline__ unsigned round_pair(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<unsigned*>(&pair);
}

// The sums, rounded, as left operand of the next product.
__device__ __forceinline__ Fragment as_operand(const Sums& c) {
    return {{round_pair(c.half[0][0], c.half[0][1]), round_pair(c.half[0][2], c.half[0][3]),
             round_pair(c.half[1][0], c.half[1][1]), round_pair(c.half[1][2], c.half[1][3])}};
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

// Rows of D elements. The chunks of a row are permuted so that 8 rows of ldmatrix, and the two half rows that 8 lanes of
// cp.async write, lie in all 32 banks.
template <unsigned D> struct Tile {
    static constexpr unsigned PITCH = D * ELEMENT_BYTES;
    static constexpr unsigned STEPS = D / MMA;
    static constexpr unsigned PERMUTED = D % 64 == 0 ? 8 : 4; // chunks that change places among themselves

    static __device__ __forceinline__ unsigned permutation(unsigned row) {
        return (row / 2 % 4) ^ (PERMUTED == 8 ? row % 2 * 4 : 0);
    }

    static __device__ __forceinline__ unsigned offset(unsigned row, unsigned chunk) {
        return row * PITCH + (chunk ^ permutation(row)) * CHUNK_BYTES;
    }
};

// The address that a lane gives to ldmatrix, for any 16 rows and 16 columns of a tile.
template <unsigned D> struct LaneAddress {
    static constexpr unsigned STEP_BYTES = MMA * ELEMENT_BYTES;
    static constexpr unsigned GROUP = Tile<D>::PERMUTED * CHUNK / MMA; // steps whose chunks change places

    unsigned row, chunk; // bytes

    __device__ __forceinline__ LaneAddress(unsigned lane_row, unsigned lane_chunk)
        : row(lane_row * Tile<D>::PITCH), chunk((lane_chunk ^ Tile<D>::permutation(lane_row)) * CHUNK_BYTES) {}

    // Matrices: rows 0-7, rows 8-15, then the same of the next 8 columns. A left operand, or a right operand transposed.
    static __device__ __forceinline__ LaneAddress rows_first() {
        unsigned lane = threadIdx.x % WARP;
        return {lane % 16, lane / 16};
    }

    // Matrices: columns 0-7, columns 8-15, then the same of the next 8 rows. A right operand whose rows lie as columns.
    static __device__ __forceinline__ LaneAddress columns_first() {
        unsigned lane = threadIdx.x % WARP;
        return {lane / 16 * 8 + lane % 8, lane / 8 % 2};
    }

    __device__ __forceinline__ unsigned at(unsigned tile, unsigned first_row, unsigned step) const {
        return tile + row + (chunk ^ step % GROUP * STEP_BYTES) + first_row * Tile<D>::PITCH + step / GROUP * GROUP * STEP_BYTES;
    }
};

// Begins to fill a tile with ROWS rows from `first` on: four lanes a row, 64 bytes of it at a time.
template <unsigned D, unsigned ROWS>
__device__ __forceinline__ void fetch_tile(unsigned char* tile, HeadRows<const Element> from, unsigned first,
                                           const AttentionShape& shape) {
    constexpr unsigned ROWS_AT_ONCE = ATTENTION_THREADS / ROW_LANES;
    if (!shape.aligned) {
#pragma unroll 1
        for (unsigned i = threadIdx.x; i < ROWS * D; i += ATTENTION_THREADS) {
            unsigned row = i / D, column = i % D;
            bool exists = first + row < shape.tokens && column < shape.head_dim;
            Element x = exists ? from.row(first + row)[column] : Element(0.0f);
            unsigned offset = Tile<D>::offset(row, column / CHUNK) + column % CHUNK * ELEMENT_BYTES;
            *reinterpret_cast<Element*>(tile + offset) = x;
        }
        return;
    }
    unsigned lane_row = threadIdx.x / ROW_LANES, lane_chunk = threadIdx.x % ROW_LANES;
#pragma unroll
    for (unsigned row = 0; row < ROWS; row += ROWS_AT_ONCE) {
        const Element* source = from.row(first + row + lane_row) + lane_chunk * CHUNK;
        bool row_exists = first + row + lane_row < shape.tokens;
#pragma unroll
        for (unsigned chunk = 0; chunk < D / CHUNK; chunk += ROW_LANES) {
            bool exists = row_exists && (chunk + lane_chunk) * CHUNK < shape.head_dim;
            unsigned to = shared_address(tile) + row * Tile<D>::PITCH + Tile<D>::offset(lane_row, chunk + lane_chunk);
            copy_chunk(to, source + chunk * CHUNK, exists);
        }
    }
}

// A warp's rows as left operands, for the whole kernel.
template <unsigned D, unsigned BLOCKS> struct Operand {
    Fragment fragment[BLOCKS][Tile<D>::STEPS];

    __device__ __forceinline__ void load(const unsigned char* tile) {
        auto lane = LaneAddress<D>::rows_first();
        unsigned first = threadIdx.x / WARP * BLOCKS * MMA;
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned k = 0; k < Tile<D>::STEPS; k++)
                fragment[i][k] = load_fragment(lane.at(shared_address(tile) + first * Tile<D>::PITCH, i * MMA, k));
    }
};

// sums[i][j] = rows of `left` times rows of the tile from `first` on, over all D columns.
template <unsigned D, unsigned BLOCKS, unsigned COLUMNS>
__device__ __forceinline__ void multiply_rows(Sums (&sums)[BLOCKS][COLUMNS], const Operand<D, BLOCKS>& left, unsigned tile,
                                              unsigned first, const LaneAddress<D>& columns_first) {
#pragma unroll
    for (unsigned k = 0; k < Tile<D>::STEPS; k++)
#pragma unroll
        for (unsigned j = 0; j < COLUMNS; j++) {
            Fragment right = load_fragment(columns_first.at(tile, first + j * MMA, k));
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++) multiply(sums[i][j], left.fragment[i][k], right);
        }
}

// sums[i][.] += left[i] times the 16 rows of the tile from `first` on.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void multiply_columns(Sums (&sums)[BLOCKS][Tile<D>::STEPS], const Fragment (&left)[BLOCKS],
                                                 unsigned tile, unsigned first, const LaneAddress<D>& rows_first) {
#pragma unroll
    for (unsigned n = 0; n < Tile<D>::STEPS; n++) {
        Fragment right = load_transposed(rows_first.at(tile, first, n));
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++) multiply(sums[i][n], left[i], right);
    }
}

// Writes a warp's sums times `factor` of their row as rows of `to`, through the warp's own part of `shared`, so that whole
// sectors are written.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void write_rows(HeadRows<Element> to, unsigned first, const Sums (&sums)[BLOCKS][Tile<D>::STEPS],
                                           const float (&factor)[BLOCKS][2], unsigned char* shared, const AttentionShape& shape) {
    unsigned lane = threadIdx.x % WARP, warp_row = threadIdx.x / WARP * BLOCKS * MMA;
    unsigned char* rows = shared + warp_row * Tile<D>::PITCH;
    __syncwarp(); // an earlier call may still be read
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned n = 0; n < 2 * Tile<D>::STEPS; n++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                const float* c = &sums[i][n / 2].half[n % 2][2 * half];
                unsigned row = i * MMA + 8 * half + lane / ROW_LANES;
                unsigned offset = Tile<D>::offset(row, n) + lane % ROW_LANES * 2 * ELEMENT_BYTES;
                *reinterpret_cast<unsigned*>(rows + offset) = round_pair(c[0] * factor[i][half], c[1] * factor[i][half]);
            }
    __syncwarp();
#pragma unroll
    for (unsigned row = lane / ROW_LANES; row < BLOCKS * MMA; row += WARP / ROW_LANES) {
        if (first + warp_row + row >= shape.tokens) continue;
#pragma unroll
        for (unsigned chunk = lane % ROW_LANES; chunk < D / CHUNK; chunk += ROW_LANES) {
            auto pack = load_pack(reinterpret_cast<const Element*>(rows + Tile<D>::offset(row, chunk)));
            store_guarded(to.row(first + warp_row + row), chunk * CHUNK, pack, shape);
        }
    }
}

// ---- forward ------------------------------------------------------------------------------------------------------------

template <unsigned D> struct ForwardTiles {
    static constexpr unsigned BLOCKS = 2; // of 16 queries a warp: each fragment of k and v serves both
    static constexpr unsigned ROWS = ATTENTION_WARPS * BLOCKS * MMA;
    static constexpr unsigned KEYS = D <= 96 ? 64 : 32; // a stage; what the registers allow
    static constexpr unsigned STAGE_BYTES = 2 * KEYS * Tile<D>::PITCH;
    static constexpr unsigned SHARED_BYTES = STAGES * STAGE_BYTES; // q passes through it first
    static_assert(ROWS * Tile<D>::PITCH <= SHARED_BYTES, "q does not fit");
};

// The running softmax of a warp's rows: maximum of the raw scores, and this lane's part of the sum.
template <unsigned BLOCKS> struct Softmax {
    float maximum[BLOCKS][2], sum[BLOCKS][2];

    __device__ __forceinline__ Softmax() {
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++) {
            maximum[i][0] = maximum[i][1] = -INFINITY;
            sum[i][0] = sum[i][1] = 0.0f;
        }
    }

    // Raises the maxima where the scores demand it and scales what was summed with the old ones.
    template <unsigned COLUMNS, unsigned STEPS>
    __device__ __forceinline__ void raise(const Sums (&scores)[BLOCKS][COLUMNS], Sums (&out)[BLOCKS][STEPS], float scale_log2) {
        float largest[BLOCKS][2];
        bool behind = false;
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float x = -INFINITY;
#pragma unroll
                for (unsigned j = 0; j < 2 * COLUMNS; j++) {
                    const float* c = &scores[i][j / 2].half[j % 2][2 * half];
                    x = fmaxf(x, fmaxf(c[0], c[1]));
                }
                largest[i][half] = row_max(x);
                behind |= (largest[i][half] - maximum[i][half]) * scale_log2 > MAXIMUM_SLACK;
            }
        if (!__any_sync(FULL_WARP, behind)) return;
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float raised = fmaxf(maximum[i][half], largest[i][half]);
                float factor = power_of_two((maximum[i][half] - raised) * scale_log2);
                maximum[i][half] = raised;
                sum[i][half] *= factor;
#pragma unroll
                for (unsigned n = 0; n < 2 * STEPS; n++) {
                    out[i][n / 2].half[n % 2][2 * half] *= factor;
                    out[i][n / 2].half[n % 2][2 * half + 1] *= factor;
                }
            }
    }

    // From scores to exp(score - maximum), added to the sums.
    template <unsigned COLUMNS>
    __device__ __forceinline__ void exponentiate(Sums (&scores)[BLOCKS][COLUMNS], float scale_log2) {
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float offset = maximum[i][half] * scale_log2;
#pragma unroll
                for (unsigned j = 0; j < 2 * COLUMNS; j++) {
                    float* c = &scores[i][j / 2].half[j % 2][2 * half];
                    c[0] = power_of_two(fmaf(c[0], scale_log2, -offset));
                    c[1] = power_of_two(fmaf(c[1], scale_log2, -offset));
                    sum[i][half] += c[0] + c[1];
                }
            }
    }
};

// Scores of columns that do not exist become -infinity.
template <unsigned BLOCKS, unsigned COLUMNS>
__device__ __forceinline__ void mask_columns(Sums (&scores)[BLOCKS][COLUMNS], unsigned columns) {
    unsigned lane_column = threadIdx.x % ROW_LANES * 2;
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned j = 0; j < 2 * COLUMNS; j++)
#pragma unroll
            for (unsigned element = 0; element < 4; element++)
                if (j * 8 + lane_column + element % 2 >= columns) scores[i][j / 2].half[j % 2][element] = -INFINITY;
}

template <unsigned D>
__device__ __forceinline__ void attention_forward(Element* out, float* lse, const Element* qkv, AttentionShape shape,
                                                  float scale) {
    using Tiles = ForwardTiles<D>;
    constexpr unsigned BLOCKS = Tiles::BLOCKS, COLUMNS = Tiles::KEYS / MMA;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    auto keys = packed_head(qkv, 1, shape), values = packed_head(qkv, 2, shape);
    auto fetch = [&](unsigned stage, unsigned first) {
        unsigned char* tiles = shared + stage * Tiles::STAGE_BYTES;
        fetch_tile<D, Tiles::KEYS>(tiles, keys, first, shape);
        fetch_tile<D, Tiles::KEYS>(tiles + Tiles::KEYS * Tile<D>::PITCH, values, first, shape);
        commit_copies();
    };

    fetch_tile<D, Tiles::ROWS>(shared, packed_head(qkv, 0, shape), first_row, shape);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    Operand<D, BLOCKS> queries;
    queries.load(shared);
    __syncthreads();

    auto rows_first = LaneAddress<D>::rows_first(), columns_first = LaneAddress<D>::columns_first();
    float scale_log2 = scale * LOG2_E;
    Softmax<BLOCKS> softmax;
    Sums sums[BLOCKS][Tile<D>::STEPS] = {};
    fetch(0, 0);
    for (unsigned first = 0, stage = 0; first < shape.tokens; first += Tiles::KEYS, stage ^= 1) {
        if (first + Tiles::KEYS < shape.tokens) fetch(stage ^ 1, first + Tiles::KEYS);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
        unsigned key_tile = shared_address(shared) + stage * Tiles::STAGE_BYTES;
        unsigned value_tile = key_tile + Tiles::KEYS * Tile<D>::PITCH;
        Sums scores[BLOCKS][COLUMNS] = {};
        multiply_rows(scores, queries, key_tile, 0, columns_first);
        if (first + Tiles::KEYS > shape.tokens) mask_columns(scores, shape.tokens - first);
        softmax.raise(scores, sums, scale_log2);
        softmax.exponentiate(scores, scale_log2);
#pragma unroll
        for (unsigned j = 0; j < COLUMNS; j++) {
            Fragment probabilities[BLOCKS];
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++) probabilities[i] = as_operand(scores[i][j]);
            multiply_columns(sums, probabilities, value_tile, j * MMA, rows_first);
        }
        __syncthreads(); // the next copies overwrite this stage
    }

    float factor[BLOCKS][2];
    float* row_lse = head_statistics(lse, shape);
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            float sum = row_sum(softmax.sum[i][half]);
            factor[i][half] = 1.0f / sum;
            unsigned lane = threadIdx.x % WARP;
            unsigned row = first_row + (threadIdx.x / WARP * BLOCKS + i) * MMA + 8 * half + lane / ROW_LANES;
            if (lane % ROW_LANES == 0 && row < shape.tokens) row_lse[row] = softmax.maximum[i][half] * scale + logf(sum);
        }
    write_rows<D>(plain_head(out, shape), first_row, sums, factor, shared, shape);
}

// ---- backward -----------------------------------------------------------------------------------------------------------

// For dq the rows are queries (q and dout) and the stream is keys (k and v); for dk and dv the rows are keys and the stream
// is queries. So both are: scores = left rows x stream^T, dp = right rows x stream^T, then sums over the stream.
enum class Rows { QUERIES, KEYS };

template <unsigned D> struct BackwardTiles {
    static constexpr unsigned BLOCKS = D <= 64 ? 2 : 1; // of 16 rows a warp; what the registers allow
    static constexpr unsigned ROWS = ATTENTION_WARPS * BLOCKS * MMA;
    static constexpr unsigned STREAM = ROWS / 2; // rows of a stage
    static constexpr unsigned STATISTICS = 2 * STREAM * Tile<D>::PITCH; // where lse and delta lie in a stage, for dk and dv
    static constexpr unsigned STAGE_BYTES = STATISTICS + 2 * STREAM * sizeof(float);
    static constexpr unsigned SHARED_BYTES = STAGES * STAGE_BYTES; // the rows pass through it first
    static_assert(2 * ROWS * Tile<D>::PITCH <= SHARED_BYTES, "the rows do not fit");
    static_assert(STREAM <= ATTENTION_THREADS, "a thread fetches one statistic of each kind");
};

// sum(dout out) of this lane's rows: four lanes a row, as in a fragment. Saved for the keys' kernel.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void row_delta(float (&delta)[BLOCKS][2], float* saved, HeadRows<const Element> dout,
                                          HeadRows<const Element> out, unsigned first, const AttentionShape& shape) {
    unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            unsigned row = first + i * MMA + 8 * half + lane / ROW_LANES;
            bool exists = row < shape.tokens;
            float sum = 0.0f;
#pragma unroll
            for (unsigned chunk = lane % ROW_LANES; chunk < D / CHUNK; chunk += ROW_LANES) {
                auto left = guarded_pack(dout.row(row), chunk * CHUNK, exists, shape);
                auto right = guarded_pack(out.row(row), chunk * CHUNK, exists, shape);
#pragma unroll
                for (unsigned e = 0; e < CHUNK; e++) sum = fmaf(load(&left.element[e]), load(&right.element[e]), sum);
            }
            delta[i][half] = row_sum(sum);
            if (exists && lane % ROW_LANES == 0) saved[row] = delta[i][half];
        }
}

// What the scores of a block of 16 x 16 need besides: log2(e) lse and delta of each element's query.
struct QueryStatistics {
    float lse[2][4], delta[2][4];
};

// From scores to p = exp(score - lse), and from dp to ds = p (dp - delta), without the scale, which the end applies once.
__device__ __forceinline__ void score_gradients(Sums& scores, Sums& dp, const QueryStatistics& query, float scale_log2) {
#pragma unroll
    for (unsigned j = 0; j < 2; j++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            float p = power_of_two(fmaf(scores.half[j][e], scale_log2, -query.lse[j][e]));
            scores.half[j][e] = p;
            dp.half[j][e] = p * (dp.half[j][e] - query.delta[j][e]);
        }
}

// Statistics of queries that are columns, from a stage.
__device__ __forceinline__ QueryStatistics column_statistics(const float* lse, const float* delta, unsigned first) {
    QueryStatistics query;
    unsigned column = first + threadIdx.x % ROW_LANES * 2;
#pragma unroll
    for (unsigned j = 0; j < 2; j++) {
        float2 l = *reinterpret_cast<const float2*>(&lse[column + 8 * j]);
        float2 d = *reinterpret_cast<const float2*>(&delta[column + 8 * j]);
        query.lse[j][0] = query.lse[j][2] = l.x * LOG2_E;
        query.lse[j][1] = query.lse[j][3] = l.y * LOG2_E;
        query.delta[j][0] = query.delta[j][2] = d.x;
        query.delta[j][1] = query.delta[j][3] = d.y;
    }
    return query;
}

// Statistics of queries that are rows.
__device__ __forceinline__ QueryStatistics row_statistics(const float (&lse_log2)[2], const float (&delta)[2]) {
    QueryStatistics query;
#pragma unroll
    for (unsigned j = 0; j < 2; j++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            query.lse[j][e] = lse_log2[e / 2];
            query.delta[j][e] = delta[e / 2];
        }
    return query;
}

// dq, or dk and dv. `delta` is written with the queries as rows and read with the keys as rows: the queries come first.
template <unsigned D, Rows ROWS>
__device__ __forceinline__ void attention_backward(Element* dqkv, float* delta, const Element* dout, const Element* out,
                                                   const float* lse, const Element* qkv, AttentionShape shape, float scale) {
    using Tiles = BackwardTiles<D>;
    constexpr unsigned BLOCKS = Tiles::BLOCKS;
    constexpr bool KEYS = ROWS == Rows::KEYS;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    lse = head_statistics(lse, shape);
    delta = head_statistics(delta, shape);
    auto queries = packed_head(qkv, 0, shape), keys = packed_head(qkv, 1, shape), values = packed_head(qkv, 2, shape);
    auto gradients = plain_head(dout, shape);
    // scores from the first of each pair, dp from the second
    HeadRows<const Element> rows[2] = {KEYS ? keys : queries, KEYS ? values : gradients};
    HeadRows<const Element> stream[2] = {KEYS ? queries : keys, KEYS ? gradients : values};
    auto fetch = [&](unsigned stage, unsigned first) {
        unsigned char* tiles = shared + stage * Tiles::STAGE_BYTES;
        fetch_tile<D, Tiles::STREAM>(tiles, stream[0], first, shape);
        fetch_tile<D, Tiles::STREAM>(tiles + Tiles::STREAM * Tile<D>::PITCH, stream[1], first, shape);
        unsigned query = first + threadIdx.x;
        if (KEYS && threadIdx.x < Tiles::STREAM) {
            unsigned to = shared_address(tiles) + Tiles::STATISTICS + threadIdx.x * sizeof(float);
            copy_float(to, lse + query, query < shape.tokens);
            copy_float(to + Tiles::STREAM * sizeof(float), delta + query, query < shape.tokens);
        }
        commit_copies();
    };

    fetch_tile<D, Tiles::ROWS>(shared, rows[0], first_row, shape);
    fetch_tile<D, Tiles::ROWS>(shared + Tiles::ROWS * Tile<D>::PITCH, rows[1], first_row, shape);
    commit_copies();
    float row_lse[BLOCKS][2] = {}, row_deltas[BLOCKS][2] = {};
    if (!KEYS) {
        unsigned warp_row = first_row + threadIdx.x / WARP * BLOCKS * MMA;
        row_delta<D>(row_deltas, delta, gradients, plain_head(out, shape), warp_row, shape);
#pragma unroll
        for (unsigned i = 0; i < 2 * BLOCKS; i++) {
            unsigned row = warp_row + 8 * i + threadIdx.x % WARP / ROW_LANES;
            row_lse[i / 2][i % 2] = row < shape.tokens ? lse[row] * LOG2_E : 0.0f;
        }
    }
    wait_copies<0>();
    __syncthreads();
    Operand<D, BLOCKS> left, right;
    left.load(shared);
    right.load(shared + Tiles::ROWS * Tile<D>::PITCH);
    __syncthreads();

    auto rows_first = LaneAddress<D>::rows_first(), columns_first = LaneAddress<D>::columns_first();
    float scale_log2 = scale * LOG2_E;
    Sums by_ds[BLOCKS][Tile<D>::STEPS] = {}, by_p[BLOCKS][Tile<D>::STEPS] = {};
    fetch(0, 0);
    for (unsigned first = 0, stage = 0; first < shape.tokens; first += Tiles::STREAM, stage ^= 1) {
        if (first + Tiles::STREAM < shape.tokens) fetch(stage ^ 1, first + Tiles::STREAM);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
        const unsigned char* tiles = shared + stage * Tiles::STAGE_BYTES;
        unsigned tile[2] = {shared_address(tiles), shared_address(tiles) + Tiles::STREAM * Tile<D>::PITCH};
        const float* stage_lse = reinterpret_cast<const float*>(tiles + Tiles::STATISTICS);
        const float* stage_delta = stage_lse + Tiles::STREAM;
#pragma unroll 1
        for (unsigned at = 0; at < Tiles::STREAM; at += MMA) {
            Sums scores[BLOCKS][1] = {}, dp[BLOCKS][1] = {};
            multiply_rows(scores, left, tile[0], at, columns_first);
            multiply_rows(dp, right, tile[1], at, columns_first);
            // A query that does not exist is all zeros and adds nothing; a key that does not exist has a score of 0.
            if (!KEYS && first + at + MMA > shape.tokens) mask_columns(scores, max(shape.tokens, first + at) - (first + at));
            Fragment p[BLOCKS], ds[BLOCKS];
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++) {
                QueryStatistics query =
                    KEYS ? column_statistics(stage_lse, stage_delta, at) : row_statistics(row_lse[i], row_deltas[i]);
                score_gradients(scores[i][0], dp[i][0], query, scale_log2);
                p[i] = as_operand(scores[i][0]);
                ds[i] = as_operand(dp[i][0]);
            }
            multiply_columns(by_ds, ds, tile[0], at, rows_first);
            if (KEYS) multiply_columns(by_p, p, tile[1], at, rows_first);
        }
        __syncthreads(); // the next copies overwrite this stage
    }

    float scales[BLOCKS][2], ones[BLOCKS][2];
#pragma unroll
    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        scales[i / 2][i % 2] = scale;
        ones[i / 2][i % 2] = 1.0f;
    }
    write_rows<D>(packed_head(dqkv, KEYS ? 1 : 0, shape), first_row, by_ds, scales, shared, shape);
    if (KEYS) write_rows<D>(packed_head(dqkv, 2, shape), first_row, by_p, ones, shared, shape);
}
