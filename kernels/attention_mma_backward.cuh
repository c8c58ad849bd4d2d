// Backward in bf16: see attention_mma.cuh.
#pragma once

#include "attention_mma.cuh"

template <unsigned D, Rows SIDE> struct BackwardTiles {
    // Heads up to 64: 16 warps a multiprocessor. The registers hold fewer with wider ones.
    static constexpr unsigned THREADS = D <= 64 ? 256 : 128, BLOCKS_PER_SM = D <= 64 ? 2 : 1;
    static constexpr unsigned BLOCKS = 1; // of 16 rows a warp
    static constexpr unsigned ROWS = THREADS / WARP * BLOCKS * MMA_ROWS;
    // Whether the second rows are held in registers as the first are, or read from shared memory whenever they are needed.
    static constexpr bool SECOND_HELD = !(SIDE == Rows::KEYS && (D == 64 || D == 128));
    static constexpr unsigned STREAM = SECOND_HELD ? ROWS / 2 : ROWS / 4; // rows of a stage
    static constexpr unsigned SECOND = STREAM * Tile<D>::PITCH; // where the second tile lies in a stage
    static constexpr unsigned STATISTICS = 2 * SECOND;          // and what was saved of its queries
    static constexpr unsigned STAGE_BYTES = STATISTICS + STREAM * sizeof(float2);
    static constexpr unsigned SECOND_ROWS = SECOND_HELD ? ROWS * Tile<D>::PITCH : STAGES * STAGE_BYTES; // where they lie
    static constexpr unsigned SHARED_BYTES = STAGES * STAGE_BYTES + (SECOND_HELD ? 0 : ROWS * Tile<D>::PITCH);
    static_assert(ROWS * Tile<D>::PITCH <= STAGES * STAGE_BYTES, "rows that are held pass through the stages");
    static_assert(SECOND_ROWS + ROWS * Tile<D>::PITCH <= SHARED_BYTES, "rows that are held pass through the stages");
    static_assert(STREAM <= THREADS, "a thread fetches the statistics of one query");
};

// This lane's part of sum(x y) over a row, of four lanes.
template <unsigned D>
__device__ __forceinline__ float row_product(const Element* x, const Element* y, const AttentionShape& shape) {
    unsigned lane = threadIdx.x % ROW_LANES;
    float sum = 0.0f;
    if (!shape.aligned) {
        for (unsigned i = lane; i < shape.head_dim; i += ROW_LANES) sum = fmaf(load(x + i), load(y + i), sum);
        return sum;
    }
#pragma unroll
    for (unsigned column = lane * CHUNK; column < D; column += ROW_LANES * CHUNK) {
        if (column >= shape.head_dim) break;
        auto left = load_pack(x + column), right = load_pack(y + column);
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++) sum = fmaf(load(&left.element[i]), load(&right.element[i]), sum);
    }
    return sum;
}

// (log2(e) lse, sum(dout out)) of this lane's rows: four lanes a row, as in a fragment. Saved for the keys' kernel.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void row_statistics(float2 (&statistics)[BLOCKS][2], float2* saved, const float* lse,
                                               HeadRows<const Element> dout, HeadRows<const Element> out, unsigned first,
                                               const AttentionShape& shape) {
    unsigned lane = threadIdx.x % WARP;
#pragma unroll
    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        unsigned row = first + 8 * i + lane / ROW_LANES;
        bool exists = row < shape.tokens;
        float sum = exists ? row_product<D>(dout.row(row), out.row(row), shape) : 0.0f;
        float2 of_row = {exists ? lse[row] * LOG2_E : 0.0f, row_sum(sum)};
        if (exists && lane % ROW_LANES == 0) saved[row] = of_row;
        statistics[i / 2][i % 2] = of_row;
    }
}

// Begins to fetch what the queries' kernel saved of ROWS queries.
template <unsigned ROWS>
__device__ __forceinline__ void fetch_statistics(unsigned char* to, const float2* saved, unsigned first, AttentionShape shape) {
    unsigned thread = thread_again();
    if (thread >= ROWS) return;
    forget(shape);
    unsigned row = first + thread;
    copy_pair(shared_address(to) + thread * sizeof(float2), head_statistics(saved, shape) + row, row < shape.tokens);
}

// From a score to p = exp(score - lse), and from dp to ds = p (dp - delta), without the scale, which the end applies once.
__device__ __forceinline__ void score_gradient(float& score, float& dp, float2 query, float scale_log2) {
    score = power_of_two(fmaf(score, scale_log2, -query.x));
    dp = score * (dp - query.y);
}

// The same for 16 x 8 whose rows are queries.
template <unsigned BLOCKS>
__device__ __forceinline__ void score_gradients(Sums (&scores)[BLOCKS], Sums (&dp)[BLOCKS], const float2 (&rows)[BLOCKS][2],
                                                float scale_log2) {
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) score_gradient(scores[i].element[e], dp[i].element[e], rows[i][e / 2], scale_log2);
}

// The same for 16 x 8 whose columns are queries, with their statistics in shared memory.
template <unsigned BLOCKS>
__device__ __forceinline__ void score_gradients(Sums (&scores)[BLOCKS], Sums (&dp)[BLOCKS], const float2* columns,
                                                float scale_log2) {
    float4 pair = *reinterpret_cast<const float4*>(columns + threadIdx.x % ROW_LANES * 2);
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned e = 0; e < 4; e++) {
            float2 query = e % 2 ? make_float2(pair.z, pair.w) : make_float2(pair.x, pair.y);
            score_gradient(scores[i].element[e], dp[i].element[e], query, scale_log2);
        }
}

// What a warp holds of its rows.
template <unsigned D, Rows SIDE> struct BackwardRows {
    using Tiles = BackwardTiles<D, SIDE>;
    static constexpr unsigned BLOCKS = Tiles::BLOCKS;
    static constexpr bool KEYS = SIDE == Rows::KEYS;

    Operand<D, BLOCKS> first, second; // the second only if it is held
    float2 statistics[BLOCKS][2];     // of rows that are queries
    Sums by_ds[Tile<D>::COLUMNS][BLOCKS] = {}, by_p[Tile<D>::COLUMNS][BLOCKS] = {};
    float scale_log2;

    // Takes in 16 rows of the stream, whose lane addresses these are; `second_square` is that of the second rows where they are
    // not held. Of keys, the first `keys` exist, and of queries `queries` are the statistics.
    __device__ __forceinline__ void
    step(unsigned strip, unsigned square, unsigned second_square, const float2* queries, int keys) {
        Sums dp[2][BLOCKS];
        if (!Tiles::SECOND_HELD) multiply_shared_rows<D, Tiles::SECOND>(dp, second_square, square);
        Fragment p[BLOCKS], ds[BLOCKS];
        for_known<0, 2>([&](auto known) {
            constexpr unsigned HALF = known, COLUMN = HALF * MMA_COLUMNS, ROW = COLUMN * Tile<D>::PITCH;
            Sums scores[BLOCKS];
            multiply_rows<ROW>(scores, first, strip);
            if (Tiles::SECOND_HELD) multiply_rows<Tiles::SECOND + ROW>(dp[HALF], second, strip);
            // A query that does not exist is all zeros and adds nothing; a key that does not exist has a score of 0.
            if (!KEYS && keys < int(COLUMN + MMA_COLUMNS)) mask_keys(scores, keys - int(COLUMN));
            if (KEYS) score_gradients(scores, dp[HALF], queries + COLUMN, scale_log2);
            else score_gradients(scores, dp[HALF], statistics, scale_log2);
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++) {
                set_columns(p[i], HALF, scores[i]);
                set_columns(ds[i], HALF, dp[HALF][i]);
            }
        });
        multiply_columns<D, 0>(by_ds, ds, square);
        if (KEYS) multiply_columns<D, Tiles::SECOND>(by_p, p, square);
    }

    __device__ __forceinline__ void write(Element* dqkv, unsigned first_row, unsigned char* shared, float scale,
                                          const AttentionShape& shape) const {
        float scales[BLOCKS][2], ones[BLOCKS][2];
#pragma unroll
        for (unsigned i = 0; i < 2 * BLOCKS; i++) {
            scales[i / 2][i % 2] = scale;
            ones[i / 2][i % 2] = 1.0f;
        }
        write_rows<D>(packed_head(dqkv, KEYS ? 1 : 0, shape), first_row, by_ds, scales, shared, shape);
        if (KEYS) write_rows<D>(packed_head(dqkv, 2, shape), first_row, by_p, ones, shared, shape);
    }
};

// dq, or dk and dv. `saved` is written where the rows are queries and read where they are keys: the queries come first.
template <unsigned D, Rows SIDE>
__device__ __forceinline__ void attention_backward(Element* dqkv, float2* saved, const Element* dout, const Element* out,
                                                   const float* lse, const Element* qkv, AttentionShape shape, float scale) {
    using Tiles = BackwardTiles<D, SIDE>;
    constexpr bool KEYS = SIDE == Rows::KEYS;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS, warp_row = threadIdx.x / WARP * Tiles::BLOCKS * MMA_ROWS;
    auto queries = packed_head(qkv, 0, shape), keys = packed_head(qkv, 1, shape), values = packed_head(qkv, 2, shape);
    auto gradients = plain_head(dout, shape);
    const HeadRows<const Element> stream[] = {KEYS ? queries : keys, KEYS ? gradients : values};
    auto fetch = [&](unsigned stage, unsigned first) { // a stage is where it begins, in bytes
        fetch_tiles<D, Tiles::STREAM, Tiles::THREADS, Tiles::SECOND>(shared + stage, stream, first, shape);
        if (KEYS) fetch_statistics<Tiles::STREAM>(shared + stage + Tiles::STATISTICS, saved, first, shape);
        commit_copies();
    };

    fetch_tile<D, Tiles::ROWS, Tiles::THREADS>(shared, KEYS ? keys : queries, first_row, shape);
    fetch_tile<D, Tiles::ROWS, Tiles::THREADS>(shared + Tiles::SECOND_ROWS, KEYS ? values : gradients, first_row, shape);
    commit_copies();
    BackwardRows<D, SIDE> rows;
    rows.scale_log2 = scale * LOG2_E;
    if (!KEYS) {
        auto save = head_statistics(saved, shape);
        auto outs = plain_head(out, shape);
        row_statistics<D>(rows.statistics, save, head_statistics(lse, shape), gradients, outs, first_row + warp_row, shape);
    }
    wait_copies<0>();
    __syncthreads();
    rows.first.load(shared);
    if (Tiles::SECOND_HELD) rows.second.load(shared + Tiles::SECOND_ROWS);
    __syncthreads();

    fetch(0, 0);
    for (unsigned first = 0; first < shape.tokens; first += Tiles::STREAM) {
        unsigned stage = first / Tiles::STREAM % STAGES * Tiles::STAGE_BYTES;
        if (first + Tiles::STREAM < shape.tokens) fetch(Tiles::STAGE_BYTES - stage, first + Tiles::STREAM);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
        // Computed anew in every stage: no registers hold them while the next one is fetched.
        unsigned strip = shared_address(shared) + strip_lane<D>(), square = shared_address(shared) + square_lane<D>();
        unsigned own_row = thread_again() / WARP * Tiles::BLOCKS * MMA_ROWS;
        unsigned second_square = square + Tiles::SECOND_ROWS + own_row * Tile<D>::PITCH;
        auto statistics = reinterpret_cast<const float2*>(shared + stage + Tiles::STATISTICS);
#pragma unroll 1
        for (unsigned at = 0; at < Tiles::STREAM; at += MMA_DEPTH) {
            unsigned tile_row = stage + at * Tile<D>::PITCH;
            int keys_left = int(shape.tokens) - int(first + at);
            rows.step(strip + tile_row, square + tile_row, second_square, statistics + at, keys_left);
        }
        __syncthreads(); // the next copies overwrite this stage
    }
    forget(shape);
    rows.write(dqkv, block_again() * Tiles::ROWS, shared, scale, shape);
}
