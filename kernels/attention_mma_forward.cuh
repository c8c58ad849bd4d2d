// Forward in bf16: see attention_mma.cuh. The rows are queries, the stream is keys and values.
#pragma once

#include "attention_mma.cuh"

template <unsigned D> struct ForwardTiles {
    // Heads up to 64: 16 warps a multiprocessor. Wider ones: the registers hold half as many, and more products a warp.
    static constexpr unsigned THREADS = D <= 64 ? 256 : 128, BLOCKS_PER_SM = 2;
    static constexpr unsigned BLOCKS = D <= 64 ? 1 : 2; // of 16 queries a warp: a fragment of k or v serves all
    static constexpr unsigned ROWS = THREADS / WARP * BLOCKS * MMA_ROWS;
    static constexpr unsigned KEYS = D <= 32 ? 64 : 32; // of a stage
    static constexpr unsigned STEP = D <= 96 ? 32 : 16; // keys whose scores the registers can hold at once
    static constexpr unsigned VALUES = KEYS * Tile<D>::PITCH; // where they lie in a stage, behind the keys
    static constexpr unsigned STAGE_BYTES = 2 * VALUES;
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
    template <unsigned KEYS, unsigned COLUMNS>
    __device__ __forceinline__ void raise(const Sums (&scores)[KEYS][BLOCKS], Sums (&out)[COLUMNS][BLOCKS], float scale_log2) {
        float largest[BLOCKS][2];
        bool behind = false;
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float x = -INFINITY;
#pragma unroll
                for (unsigned j = 0; j < KEYS; j++)
                    x = fmaxf(x, fmaxf(scores[j][i].element[2 * half], scores[j][i].element[2 * half + 1]));
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
                for (unsigned n = 0; n < COLUMNS; n++) {
                    out[n][i].element[2 * half] *= factor;
                    out[n][i].element[2 * half + 1] *= factor;
                }
            }
    }

    // From scores to exp(score - maximum), added to the sums.
    template <unsigned KEYS>
    __device__ __forceinline__ void exponentiate(Sums (&scores)[KEYS][BLOCKS], float scale_log2) {
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                float offset = maximum[i][half] * scale_log2;
#pragma unroll
                for (unsigned j = 0; j < KEYS; j++) {
                    float* x = &scores[j][i].element[2 * half];
                    x[0] = power_of_two(fmaf(x[0], scale_log2, -offset));
                    x[1] = power_of_two(fmaf(x[1], scale_log2, -offset));
                    sum[i][half] += x[0] + x[1];
                }
            }
    }
};

// What a warp holds of its queries.
template <unsigned D> struct ForwardRows {
    using Tiles = ForwardTiles<D>;
    static constexpr unsigned BLOCKS = Tiles::BLOCKS, KEYS = Tiles::STEP / MMA_COLUMNS;

    Operand<D, BLOCKS> queries;
    Softmax<BLOCKS> softmax;
    Sums sums[Tile<D>::COLUMNS][BLOCKS] = {};
    float scale_log2;

    // Takes in keys, of which the first `keys` exist, and their values: the lane addresses are those of the keys.
    __device__ __forceinline__ void step(unsigned strip, unsigned square, int keys) {
        Sums scores[KEYS][BLOCKS];
        for_known<0, KEYS>([&](auto known) {
            constexpr unsigned J = known;
            multiply_rows<J * MMA_COLUMNS * Tile<D>::PITCH>(scores[J], queries, strip);
        });
        if (keys < int(Tiles::STEP)) {
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) mask_keys(scores[j], keys - int(j * MMA_COLUMNS));
        }
        softmax.raise(scores, sums, scale_log2);
        softmax.exponentiate(scores, scale_log2);
        for_known<0, KEYS / 2>([&](auto known) {
            constexpr unsigned J = 2 * known;
            Fragment probabilities[BLOCKS];
#pragma unroll
            for (unsigned i = 0; i < 2 * BLOCKS; i++) set_columns(probabilities[i / 2], i % 2, scores[J + i % 2][i / 2]);
            multiply_columns<D, Tiles::VALUES + J * MMA_COLUMNS * Tile<D>::PITCH>(sums, probabilities, square);
        });
    }

    // Writes lse, and what out has to be multiplied with.
    __device__ __forceinline__ void finish(float (&factor)[BLOCKS][2], float* lse, unsigned first_row, unsigned tokens,
                                           float scale) {
        unsigned lane = threadIdx.x % WARP;
#pragma unroll
        for (unsigned i = 0; i < 2 * BLOCKS; i++) {
            float sum = row_sum(softmax.sum[i / 2][i % 2]);
            factor[i / 2][i % 2] = 1.0f / sum;
            unsigned row = first_row + threadIdx.x / WARP * BLOCKS * MMA_ROWS + 8 * i + lane / ROW_LANES;
            if (lane % ROW_LANES == 0 && row < tokens) lse[row] = softmax.maximum[i / 2][i % 2] * scale + logf(sum);
        }
    }
};

template <unsigned D>
__device__ __forceinline__ void attention_forward(Element* out, float* lse, const Element* qkv, AttentionShape shape,
                                                  float scale) {
    using Tiles = ForwardTiles<D>;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    const HeadRows<const Element> stream[] = {packed_head(qkv, 1, shape), packed_head(qkv, 2, shape)};
    auto fetch = [&](unsigned stage, unsigned first) { // a stage is where it begins, in bytes
        fetch_tiles<D, Tiles::KEYS, Tiles::THREADS, Tiles::VALUES>(shared + stage, stream, first, shape);
        commit_copies();
    };

    fetch_tile<D, Tiles::ROWS, Tiles::THREADS>(shared, packed_head(qkv, 0, shape), first_row, shape);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    ForwardRows<D> rows;
    rows.queries.load(shared);
    rows.scale_log2 = scale * LOG2_E;
    __syncthreads();

    unsigned strip = shared_address(shared) + strip_lane<D>(), square = shared_address(shared) + square_lane<D>();
    fetch(0, 0);
    for (unsigned first = 0, stage = 0; first < shape.tokens; first += Tiles::KEYS, stage = Tiles::STAGE_BYTES - stage) {
        if (first + Tiles::KEYS < shape.tokens) fetch(Tiles::STAGE_BYTES - stage, first + Tiles::KEYS);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
#pragma unroll 1
        for (unsigned at = 0; at < Tiles::KEYS; at += Tiles::STEP) {
            unsigned tile_row = stage + at * Tile<D>::PITCH;
            rows.step(strip + tile_row, square + tile_row, int(shape.tokens) - int(first + at));
        }
        __syncthreads(); // the next copies overwrite this stage
    }

    forget(shape);
    float factor[Tiles::BLOCKS][2];
    rows.finish(factor, head_statistics(lse, shape), first_row, shape.tokens, scale);
    write_rows<D>(plain_head(out, shape), first_row, rows.sums, factor, shared, shape);
}
