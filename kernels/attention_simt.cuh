// The f32 kernels of attention: fused multiply-adds on registers, tiles in shared memory.
//
// A block owns ROWS rows (queries, or keys for dk and dv) and streams the other side past them. Its threads are 16 x 8: a
// thread holds the products of rows y, y + 16, ... with columns x, x + 8, ... of the tile, and of the output the same rows and
// every eighth chunk of four columns. A row is held by eight lanes of a warp, so that probabilities, which pass through
// shared memory, do not leave the warp. The next tile is fetched into registers while this one is multiplied. Columns past
// head_dim and rows past the last token are zeros in shared memory.
#pragma once

#include "attention_layout.cuh"

constexpr unsigned ROW_LANES = 8;                              // threads along a row
constexpr unsigned ATTENTION_THREADS = 128;
constexpr unsigned ROW_STEP = ATTENTION_THREADS / ROW_LANES;   // distance of a thread's rows
constexpr unsigned CHUNK = Pack<float>::COUNT;

__device__ __forceinline__ unsigned lane_x() { return threadIdx.x % ROW_LANES; }
__device__ __forceinline__ unsigned lane_y() { return threadIdx.x / ROW_LANES; }

// ---- tiles --------------------------------------------------------------------------------------------------------------

// Rows of D columns in shared memory. One chunk more than D: the same chunk of 8 rows, one after another, lies in all 32 banks.
template <unsigned D> struct Tile {
    static constexpr unsigned PITCH = D + CHUNK;
    static constexpr unsigned COLUMNS = D / ROW_LANES; // of a thread
};

// Probabilities and their gradients, ROWS x STREAM. Eight columns more: 8 columns of the 4 rows of a warp lie in all 32 banks.
template <unsigned STREAM> struct ScoreTile {
    static constexpr unsigned PITCH = STREAM + 8;
};

// This thread's part of a tile on its way through registers: rows y, y + 16, ..., every eighth chunk.
template <unsigned D, unsigned ROWS> struct Fetched {
    Pack<float> pack[ROWS / ROW_STEP][D / CHUNK / ROW_LANES];

    __device__ __forceinline__ void fetch(HeadRows<const Element> from, unsigned first, const AttentionShape& shape) {
#pragma unroll
        for (unsigned i = 0; i < ROWS / ROW_STEP; i++) {
            unsigned row = first + lane_y() + i * ROW_STEP;
#pragma unroll
            for (unsigned j = 0; j < D / CHUNK / ROW_LANES; j++) {
                unsigned column = (lane_x() + j * ROW_LANES) * CHUNK;
                pack[i][j] = {};
                if (row < shape.tokens) fetch_chunk(pack[i][j], from.row(row), column, shape);
            }
        }
    }

    __device__ __forceinline__ void put(float* tile) const {
#pragma unroll
        for (unsigned i = 0; i < ROWS / ROW_STEP; i++)
#pragma unroll
            for (unsigned j = 0; j < D / CHUNK / ROW_LANES; j++) {
                unsigned chunk = lane_x() + j * ROW_LANES;
                store_pack(tile + (lane_y() + i * ROW_STEP) * Tile<D>::PITCH + chunk * CHUNK, pack[i][j]);
            }
    }

private:
    static __device__ __forceinline__ void fetch_chunk(Pack<float>& to, const float* row, unsigned column,
                                                       const AttentionShape& shape) {
        if (shape.aligned) {
            if (column < shape.head_dim) to = load_pack(row + column);
            return;
        }
#pragma unroll
        for (unsigned e = 0; e < CHUNK; e++)
            if (column + e < shape.head_dim) to.element[e] = row[column + e];
    }
};

// Rows that stay: straight into shared memory.
template <unsigned D, unsigned ROWS>
__device__ __forceinline__ void fetch_tile(float* tile, HeadRows<const Element> from, unsigned first,
                                           const AttentionShape& shape) {
#pragma unroll 1
    for (unsigned row = 0; row < ROWS; row += ROW_STEP) {
        Fetched<D, ROW_STEP> part;
        part.fetch(from, first + row, shape);
        part.put(tile + row * Tile<D>::PITCH);
    }
}

// ---- products -----------------------------------------------------------------------------------------------------------

// sums[i][j] = row y + 16 i of `left` times row x + 8 j of `right`, over all D columns.
template <unsigned D, unsigned ROWS, unsigned COLUMNS>
__device__ __forceinline__ void multiply_rows(float (&sums)[ROWS][COLUMNS], const float* left, const float* right) {
    left += lane_y() * Tile<D>::PITCH;
    right += lane_x() * Tile<D>::PITCH;
#pragma unroll
    for (unsigned i = 0; i < ROWS * COLUMNS; i++) sums[i / COLUMNS][i % COLUMNS] = 0.0f;
#pragma unroll 4
    for (unsigned d = 0; d < D; d += CHUNK) {
        Pack<float> a[ROWS], b[COLUMNS];
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) a[i] = load_pack(left + i * ROW_STEP * Tile<D>::PITCH + d);
#pragma unroll
        for (unsigned j = 0; j < COLUMNS; j++) b[j] = load_pack(right + j * ROW_LANES * Tile<D>::PITCH + d);
#pragma unroll
        for (unsigned e = 0; e < CHUNK; e++)
#pragma unroll
            for (unsigned i = 0; i < ROWS; i++)
#pragma unroll
                for (unsigned j = 0; j < COLUMNS; j++) sums[i][j] = fmaf(a[i].element[e], b[j].element[e], sums[i][j]);
    }
}

// sums[i][.] += row y + 16 i of the score tile times the STREAM rows of `right`, whose columns are this thread's chunks.
template <unsigned D, unsigned STREAM, unsigned ROWS>
__device__ __forceinline__ void multiply_columns(float (&sums)[ROWS][Tile<D>::COLUMNS], const float* scores,
                                                 const float* right) {
    scores += lane_y() * ScoreTile<STREAM>::PITCH;
    right += lane_x() * CHUNK;
#pragma unroll 2
    for (unsigned n = 0; n < STREAM; n += CHUNK) {
        Pack<float> a[ROWS];
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) a[i] = load_pack(scores + i * ROW_STEP * ScoreTile<STREAM>::PITCH + n);
#pragma unroll
        for (unsigned e = 0; e < CHUNK; e++)
#pragma unroll
            for (unsigned j = 0; j < Tile<D>::COLUMNS; j += CHUNK) {
                Pack<float> b = load_pack(right + (n + e) * Tile<D>::PITCH + j * ROW_LANES);
#pragma unroll
                for (unsigned i = 0; i < ROWS; i++)
#pragma unroll
                    for (unsigned c = 0; c < CHUNK; c++)
                        sums[i][j + c] = fmaf(a[i].element[e], b.element[c], sums[i][j + c]);
            }
    }
}

// This thread's scores, for its warp to read.
template <unsigned STREAM, unsigned ROWS>
__device__ __forceinline__ void put_scores(float* tile, const float (&scores)[ROWS][STREAM / ROW_LANES]) {
    __syncwarp(); // what was there may still be read
#pragma unroll
    for (unsigned i = 0; i < ROWS; i++)
#pragma unroll
        for (unsigned j = 0; j < STREAM / ROW_LANES; j++)
            tile[(lane_y() + i * ROW_STEP) * ScoreTile<STREAM>::PITCH + lane_x() + j * ROW_LANES] = scores[i][j];
    __syncwarp();
}

// Scores of keys that do not exist become -infinity: all but the first `keys` columns.
template <unsigned ROWS, unsigned COLUMNS>
__device__ __forceinline__ void mask_keys(float (&scores)[ROWS][COLUMNS], unsigned keys) {
#pragma unroll
    for (unsigned j = 0; j < COLUMNS; j++)
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++)
            if (lane_x() + j * ROW_LANES >= keys) scores[i][j] = -INFINITY;
}

// A pack of a row's elements from `column` on, as far as the head goes.
__device__ __forceinline__ void write_chunk(float* row, unsigned column, const Pack<float>& pack, const AttentionShape& shape) {
    if (shape.aligned) {
        if (column < shape.head_dim) store_pack(row + column, pack);
        return;
    }
#pragma unroll
    for (unsigned e = 0; e < CHUNK; e++)
        if (column + e < shape.head_dim) row[column + e] = pack.element[e];
}

// Writes sums times `factor` of their row as rows of `to`.
template <unsigned D, unsigned ROWS>
__device__ __forceinline__ void write_rows(HeadRows<Element> to, unsigned first, const float (&sums)[ROWS][Tile<D>::COLUMNS],
                                           const float (&factor)[ROWS], const AttentionShape& shape) {
#pragma unroll
    for (unsigned i = 0; i < ROWS; i++) {
        unsigned row = first + lane_y() + i * ROW_STEP;
        if (row >= shape.tokens) break;
#pragma unroll
        for (unsigned j = 0; j < Tile<D>::COLUMNS; j += CHUNK) {
            Pack<float> pack;
#pragma unroll
            for (unsigned c = 0; c < CHUNK; c++) pack.element[c] = sums[i][j + c] * factor[i];
            write_chunk(to.row(row), lane_x() * CHUNK + j * ROW_LANES, pack, shape);
        }
    }
}

// Over the eight lanes of a row.
__device__ __forceinline__ float row_sum(float x) {
#pragma unroll
    for (unsigned offset = ROW_LANES / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(FULL_WARP, x, offset);
    return x;
}

__device__ __forceinline__ float row_max(float x) {
#pragma unroll
    for (unsigned offset = ROW_LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(FULL_WARP, x, offset));
    return x;
}

// ---- forward ------------------------------------------------------------------------------------------------------------

// Fits the 64 KiB that a block may have on every device.
template <unsigned D> struct ForwardTiles {
    static constexpr unsigned THREADS = ATTENTION_THREADS;
    static constexpr unsigned ROWS = 64;
    static constexpr unsigned KEYS = 32;
    static constexpr unsigned BLOCKS_PER_SM = 2; // that the registers are to allow
    static constexpr unsigned TILE = ROWS * Tile<D>::PITCH;           // where keys or values lie, behind the queries
    static constexpr unsigned SCORES = TILE + KEYS * Tile<D>::PITCH;  // and the probabilities
    static constexpr unsigned SHARED_BYTES = (SCORES + ROWS * ScoreTile<KEYS>::PITCH) * sizeof(float);
};

// The running softmax of a thread's rows: maximum of the raw scores, and this lane's part of the sum.
template <unsigned ROWS> struct Softmax {
    float maximum[ROWS], sum[ROWS];

    __device__ __forceinline__ Softmax() {
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) {
            maximum[i] = -INFINITY;
            sum[i] = 0.0f;
        }
    }

    // Raises the maxima where the scores demand it and scales what was summed with the old ones.
    template <unsigned KEYS, unsigned COLUMNS>
    __device__ __forceinline__ void raise(const float (&scores)[ROWS][KEYS], float (&out)[ROWS][COLUMNS], float scale_log2) {
        float largest[ROWS];
        bool behind = false;
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) {
            float x = scores[i][0];
#pragma unroll
            for (unsigned j = 1; j < KEYS; j++) x = fmaxf(x, scores[i][j]);
            largest[i] = row_max(x);
            behind |= (largest[i] - maximum[i]) * scale_log2 > MAXIMUM_SLACK;
        }
        if (!__any_sync(FULL_WARP, behind)) return;
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) {
            float raised = fmaxf(maximum[i], largest[i]);
            float factor = power_of_two((maximum[i] - raised) * scale_log2);
            maximum[i] = raised;
            sum[i] *= factor;
#pragma unroll
            for (unsigned c = 0; c < COLUMNS; c++) out[i][c] *= factor;
        }
    }

    // From scores to exp(score - maximum), added to the sums.
    template <unsigned KEYS> __device__ __forceinline__ void exponentiate(float (&scores)[ROWS][KEYS], float scale_log2) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++)
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) {
                scores[i][j] = power_of_two((scores[i][j] - maximum[i]) * scale_log2);
                sum[i] += scores[i][j];
            }
    }
};

template <unsigned D, bool CROSS>
__device__ __forceinline__ void attention_forward(Element* out, float* lse, const Element* q, const Element* kv,
                                                  AttentionShape shape, const Attended& attended, float scale) {
    using Tiles = ForwardTiles<D>;
    constexpr unsigned ROWS = Tiles::ROWS / ROW_STEP;
    extern __shared__ __align__(128) float shared[];
    float *queries = shared, *tile = shared + Tiles::TILE, *probabilities = shared + Tiles::SCORES;
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    const AttentionShape places = all_keys<CROSS>(shape, attended), filled = filled_keys<CROSS>(shape, attended);
    auto keys = key_head<CROSS>(kv, 0, places), values = key_head<CROSS>(kv, 1, places);
    Fetched<D, Tiles::KEYS> next;
    next.fetch(keys, 0, filled);
    fetch_tile<D, Tiles::ROWS>(queries, query_head<CROSS>(q, shape), first_row, shape);

    float scale_log2 = scale * LOG2_E;
    Softmax<ROWS> softmax;
    float sums[ROWS][Tile<D>::COLUMNS] = {};
    for (unsigned first = 0; first < filled.tokens; first += Tiles::KEYS) {
        __syncthreads(); // the tile may still be read
        next.put(tile);
        __syncthreads();
        next.fetch(values, first, filled);
        float scores[ROWS][Tiles::KEYS / ROW_LANES];
        multiply_rows<D>(scores, queries, tile);
        if (first + Tiles::KEYS > filled.tokens) mask_keys(scores, filled.tokens - first);
        softmax.raise(scores, sums, scale_log2);
        softmax.exponentiate(scores, scale_log2);
        put_scores<Tiles::KEYS>(probabilities, scores);
        __syncthreads();
        next.put(tile);
        __syncthreads();
        next.fetch(keys, first + Tiles::KEYS, filled);
        multiply_columns<D, Tiles::KEYS>(sums, probabilities, tile);
    }

    float factor[ROWS];
    float* row_lse = head_statistics(lse, shape);
#pragma unroll
    for (unsigned i = 0; i < ROWS; i++) {
        float sum = row_sum(softmax.sum[i]);
        factor[i] = 1.0f / sum;
        unsigned row = first_row + lane_y() + i * ROW_STEP;
        if (lane_x() == 0 && row < shape.tokens) row_lse[row] = softmax.maximum[i] * scale + logf(sum);
    }
    write_rows<D>(plain_head(out, shape), first_row, sums, factor, shape);
}

// ---- backward -----------------------------------------------------------------------------------------------------------

// Fits the 64 KiB that a block may have on every device.
template <unsigned D, Rows> struct BackwardTiles {
    static constexpr unsigned THREADS = ATTENTION_THREADS, BLOCKS_PER_SM = 1;
    static constexpr unsigned ROWS = D <= 64 ? 64 : 32;
    static constexpr unsigned STREAM = D <= 96 ? 32 : 16;
    static constexpr unsigned ROWS_SECOND = ROWS * Tile<D>::PITCH; // where things lie, in floats
    static constexpr unsigned STREAM_FIRST = 2 * ROWS_SECOND;
    static constexpr unsigned STREAM_SECOND = STREAM_FIRST + STREAM * Tile<D>::PITCH;
    static constexpr unsigned SCORES = STREAM_SECOND + STREAM * Tile<D>::PITCH;
    static constexpr unsigned STATISTICS = SCORES + ROWS * ScoreTile<STREAM>::PITCH; // of queries that are the stream
    static constexpr unsigned SHARED_BYTES = (STATISTICS + 2 * STREAM) * sizeof(float);
};

// (log2(e) lse, sum(dout out)) of this thread's rows, from eight lanes a row. Saved for the keys' kernel.
template <unsigned ROWS>
__device__ __forceinline__ void row_statistics(float2 (&statistics)[ROWS], float2* saved, const float* lse,
                                               HeadRows<const Element> dout, HeadRows<const Element> out, unsigned first,
                                               const AttentionShape& shape) {
#pragma unroll
    for (unsigned i = 0; i < ROWS; i++) {
        unsigned row = first + lane_y() + i * ROW_STEP;
        bool exists = row < shape.tokens;
        float sum = 0.0f;
        for (unsigned d = lane_x(); exists && d < shape.head_dim; d += ROW_LANES)
            sum = fmaf(dout.row(row)[d], out.row(row)[d], sum);
        statistics[i] = {exists ? lse[row] * LOG2_E : 0.0f, row_sum(sum)};
        if (exists && lane_x() == 0) saved[row] = statistics[i];
    }
}

// From a score to p = exp(score - lse), and from dp to ds = p (dp - delta), without the scale, which the end applies once.
__device__ __forceinline__ void score_gradient(float& score, float& dp, float2 query, float scale_log2) {
    score = power_of_two(fmaf(score, scale_log2, -query.x));
    dp = score * (dp - query.y);
}

// What a thread holds of its rows.
template <unsigned D, Rows SIDE> struct BackwardRows {
    using Tiles = BackwardTiles<D, SIDE>;
    static constexpr unsigned ROWS = Tiles::ROWS / ROW_STEP, COLUMNS = Tiles::STREAM / ROW_LANES;
    static constexpr bool KEYS = SIDE == Rows::KEYS;

    float2 statistics[ROWS]; // of rows that are queries
    float by_ds[ROWS][Tile<D>::COLUMNS] = {}, by_p[ROWS][Tile<D>::COLUMNS] = {};

    // Takes in the stream's tiles; of keys, the first `keys` exist.
    __device__ __forceinline__ void step(float* shared, float scale_log2, unsigned keys) {
        float scores[ROWS][COLUMNS], dp[ROWS][COLUMNS];
        multiply_rows<D>(scores, shared, shared + Tiles::STREAM_FIRST);
        multiply_rows<D>(dp, shared + Tiles::ROWS_SECOND, shared + Tiles::STREAM_SECOND);
        // A query that does not exist is all zeros and adds nothing; a key that does not exist has a score of 0.
        if (!KEYS && keys < Tiles::STREAM) mask_keys(scores, keys);
        auto queries = reinterpret_cast<const float2*>(shared + Tiles::STATISTICS);
#pragma unroll
        for (unsigned j = 0; j < COLUMNS; j++)
#pragma unroll
            for (unsigned i = 0; i < ROWS; i++) {
                float2 query = KEYS ? queries[lane_x() + j * ROW_LANES] : statistics[i];
                score_gradient(scores[i][j], dp[i][j], query, scale_log2);
            }
        if (KEYS) {
            put_scores<Tiles::STREAM>(shared + Tiles::SCORES, scores);
            multiply_columns<D, Tiles::STREAM>(by_p, shared + Tiles::SCORES, shared + Tiles::STREAM_SECOND);
        }
        put_scores<Tiles::STREAM>(shared + Tiles::SCORES, dp);
        multiply_columns<D, Tiles::STREAM>(by_ds, shared + Tiles::SCORES, shared + Tiles::STREAM_FIRST);
    }

    // Rows from `filled` on are padding, and get 0.
    __device__ __forceinline__ void clear_padding(unsigned first_row, unsigned filled) {
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) {
            if (first_row + lane_y() + i * ROW_STEP < filled) continue;
#pragma unroll
            for (unsigned c = 0; c < Tile<D>::COLUMNS; c++) by_ds[i][c] = by_p[i][c] = 0.0f;
        }
    }

    // To dq or dqkv, or to dkv or dqkv.
    template <bool CROSS>
    __device__ __forceinline__ void write(Element* gradient, unsigned first_row, float scale,
                                          const AttentionShape& shape) const {
        float scales[ROWS], ones[ROWS];
#pragma unroll
        for (unsigned i = 0; i < ROWS; i++) {
            scales[i] = scale;
            ones[i] = 1.0f;
        }
        auto to = KEYS ? key_head<CROSS>(gradient, 0, shape) : query_head<CROSS>(gradient, shape);
        write_rows<D>(to, first_row, by_ds, scales, shape);
        if (KEYS) write_rows<D>(key_head<CROSS>(gradient, 1, shape), first_row, by_p, ones, shape);
    }
};

// dq, or dk and dv. `saved` is written where the rows are queries and read where they are keys: the queries come first.
template <unsigned D, Rows SIDE, bool CROSS>
__device__ __forceinline__ void attention_backward(Element* gradient, float2* saved, const Element* dout, const Element* out,
                                                   const float* lse, const Element* q, const Element* kv, AttentionShape shape,
                                                   const Attended& attended, float scale) {
    using Tiles = BackwardTiles<D, SIDE>;
    constexpr bool KEYS = SIDE == Rows::KEYS;
    extern __shared__ __align__(128) float shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    saved = head_statistics(saved, shape);
    const AttentionShape places = all_keys<CROSS>(shape, attended), filled = filled_keys<CROSS>(shape, attended);
    const AttentionShape row_shape = KEYS ? filled : shape, stream_shape = KEYS ? shape : filled;
    auto queries = query_head<CROSS>(q, shape);
    auto keys = key_head<CROSS>(kv, 0, places), values = key_head<CROSS>(kv, 1, places);
    auto gradients = plain_head(dout, shape);
    Fetched<D, Tiles::STREAM> first_next, second_next;
    float2 next_statistics = {};
    auto fetch = [&](unsigned first) {
        first_next.fetch(KEYS ? queries : keys, first, stream_shape);
        second_next.fetch(KEYS ? gradients : values, first, stream_shape);
        unsigned query = first + threadIdx.x;
        if (KEYS && threadIdx.x < Tiles::STREAM) next_statistics = query < shape.tokens ? saved[query] : float2{};
    };

    fetch(0);
    fetch_tile<D, Tiles::ROWS>(shared, KEYS ? keys : queries, first_row, row_shape);
    fetch_tile<D, Tiles::ROWS>(shared + Tiles::ROWS_SECOND, KEYS ? values : gradients, first_row, row_shape);
    BackwardRows<D, SIDE> rows;
    if (!KEYS) {
        auto outs = plain_head(out, shape);
        row_statistics(rows.statistics, saved, head_statistics(lse, shape), gradients, outs, first_row, shape);
    }
    for (unsigned first = 0; first < stream_shape.tokens; first += Tiles::STREAM) {
        __syncthreads(); // the tiles may still be read
        first_next.put(shared + Tiles::STREAM_FIRST);
        second_next.put(shared + Tiles::STREAM_SECOND);
        auto statistics = reinterpret_cast<float2*>(shared + Tiles::STATISTICS);
        if (KEYS && threadIdx.x < Tiles::STREAM) statistics[threadIdx.x] = next_statistics;
        __syncthreads();
        fetch(first + Tiles::STREAM);
        rows.step(shared, scale * LOG2_E, stream_shape.tokens - first);
    }
    forget(shape);
    if (CROSS && KEYS) rows.clear_padding(first_row, filled_keys<CROSS>(shape, attended).tokens);
    rows.template write<CROSS>(gradient, first_row, scale, KEYS ? all_keys<CROSS>(shape, attended) : shape);
}
