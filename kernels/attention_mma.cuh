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

// What a lane adds to an address for ldmatrix, for matrices anywhere in a tile: 8 x 8 matrices in rows of `WIDTH`.
// Squares: rows 0-7 and 8-15 of 8 columns, then of the next 8. A left operand, or, transposed, the right ones of 16 columns.
template <unsigned D> __device__ __forceinline__ unsigned square_lane() {
    unsigned lane = threadIdx.x % WARP;
    return lane % 16 * Tile<D>::PITCH + lane / 16 * CHUNK_BYTES;
}

// Strips: 8 rows of 4 x 8 columns. Right operands for two steps of depth.
template <unsigned D> __device__ __forceinline__ unsigned strip_lane() {
    unsigned lane = threadIdx.x % WARP;
    return lane % 8 * Tile<D>::PITCH + lane / 8 * CHUNK_BYTES;
}

// Begins to fill a tile with ROWS rows from `first` on: four lanes a row, 64 bytes of it at a time.
template <unsigned D, unsigned ROWS>
__device__ __forceinline__ void fetch_tile(unsigned char* tile, HeadRows<const Element> from, unsigned first,
                                           const AttentionShape& shape) {
    constexpr unsigned ROWS_AT_ONCE = ATTENTION_THREADS / ROW_LANES;
    unsigned thread = forgotten(threadIdx.x);
    if (!shape.aligned) {
#pragma unroll 1
        for (unsigned i = thread; i < ROWS * D; i += ATTENTION_THREADS) {
            unsigned row = i / D, column = i % D;
            bool exists = first + row < shape.tokens && column < shape.head_dim;
            Element x = exists ? from.row(first + row)[column] : Element(0.0f);
            *reinterpret_cast<Element*>(tile + row * Tile<D>::PITCH + column * ELEMENT_BYTES) = x;
        }
        return;
    }
    unsigned lane_row = moved_row(thread), lane_column = thread % ROW_LANES * CHUNK;
    unsigned to = shared_address(tile) + lane_row * Tile<D>::PITCH + lane_column * ELEMENT_BYTES;
#pragma unroll
    for (unsigned row = 0; row < ROWS; row += ROWS_AT_ONCE) {
        const Element* source = from.row(first + row + lane_row) + lane_column;
        bool row_exists = first + row + lane_row < shape.tokens;
#pragma unroll
        for (unsigned column = 0; column < D; column += ROW_LANES * CHUNK) {
            bool exists = row_exists && column + lane_column < shape.head_dim;
            copy_chunk(to + row * Tile<D>::PITCH + column * ELEMENT_BYTES, source + column, exists);
        }
    }
}

// A warp's rows as left operands, for the whole kernel.
template <unsigned D, unsigned BLOCKS> struct Operand {
    Fragment fragment[BLOCKS][Tile<D>::STEPS];

    __device__ __forceinline__ void load(const unsigned char* tile) {
        unsigned rows = shared_address(tile) + threadIdx.x / WARP * BLOCKS * MMA_ROWS * Tile<D>::PITCH + square_lane<D>();
#pragma unroll
        for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
            for (unsigned k = 0; k < Tile<D>::STEPS; k++)
                fragment[i][k] = load_fragment(rows + i * MMA_ROWS * Tile<D>::PITCH + k * MMA_DEPTH * ELEMENT_BYTES);
    }
};

// sums[i] = rows of `left` times 8 rows of a tile, over all D columns. `strip` is this lane's address in these.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void multiply_rows(Sums (&sums)[BLOCKS], const Operand<D, BLOCKS>& left, unsigned strip) {
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++) sums[i] = {};
#pragma unroll
    for (unsigned k = 0; k < Tile<D>::STEPS; k += 2) {
        Fragment right = load_fragment(strip + k * MMA_DEPTH * ELEMENT_BYTES);
#pragma unroll
        for (unsigned half = 0; half < 2; half++)
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++)
                multiply(sums[i], left.fragment[i][k + half], right.part[2 * half], right.part[2 * half + 1]);
    }
}

// sums[j][i] = rows of `left` in shared memory times 16 rows of a tile, over all D columns.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void multiply_shared_rows(Sums (&sums)[2][BLOCKS], unsigned left_square, unsigned strip) {
#pragma unroll
    for (unsigned i = 0; i < 2 * BLOCKS; i++) sums[i % 2][i / 2] = {};
#pragma unroll
    for (unsigned k = 0; k < Tile<D>::STEPS; k += 2) {
        Fragment right[2];
#pragma unroll
        for (unsigned j = 0; j < 2; j++)
            right[j] = load_fragment(strip + j * MMA_COLUMNS * Tile<D>::PITCH + k * MMA_DEPTH * ELEMENT_BYTES);
#pragma unroll
        for (unsigned half = 0; half < 2; half++)
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++) {
                unsigned row = i * MMA_ROWS, column = (k + half) * MMA_DEPTH;
                Fragment left = load_fragment(left_square + row * Tile<D>::PITCH + column * ELEMENT_BYTES);
#pragma unroll
                for (unsigned j = 0; j < 2; j++)
                    multiply(sums[j][i], left, right[j].part[2 * half], right[j].part[2 * half + 1]);
            }
    }
}

// sums[.][i] += left[i] times 16 rows of a tile. `square` is this lane's address in these.
template <unsigned D, unsigned BLOCKS>
__device__ __forceinline__ void multiply_columns(Sums (&sums)[Tile<D>::COLUMNS][BLOCKS], const Fragment (&left)[BLOCKS],
                                                 unsigned square) {
#pragma unroll
    for (unsigned n = 0; n < Tile<D>::COLUMNS; n += 2) {
        Fragment right = load_transposed(square + n * MMA_COLUMNS * ELEMENT_BYTES);
#pragma unroll
        for (unsigned half = 0; half < 2; half++)
#pragma unroll
            for (unsigned i = 0; i < BLOCKS; i++)
                multiply(sums[n + half][i], left[i], right.part[2 * half], right.part[2 * half + 1]);
    }
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

// ---- forward ------------------------------------------------------------------------------------------------------------

template <unsigned D> struct ForwardTiles {
    static constexpr unsigned BLOCKS = 2; // of 16 queries a warp: each fragment of k and v serves both
    static constexpr unsigned ROWS = ATTENTION_WARPS * BLOCKS * MMA_ROWS;
    static constexpr unsigned KEYS = D <= 64 ? 64 : 32; // of a stage
    static constexpr unsigned STEP = D <= 64 ? 64 : D <= 96 ? 32 : 16; // keys whose scores the registers can hold at once
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

// Scores of keys that do not exist become -infinity: all but the first `keys`.
template <unsigned BLOCKS> __device__ __forceinline__ void mask_keys(Sums (&scores)[BLOCKS], int keys) {
    int lane_column = threadIdx.x % ROW_LANES * 2;
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (int element = 0; element < 4; element++)
            if (lane_column + element % 2 >= keys) scores[i].element[element] = -INFINITY;
}

template <unsigned D>
__device__ __forceinline__ void attention_forward(Element* out, float* lse, const Element* qkv, AttentionShape shape,
                                                  float scale) {
    using Tiles = ForwardTiles<D>;
    constexpr unsigned BLOCKS = Tiles::BLOCKS, KEYS = Tiles::STEP / MMA_COLUMNS;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    auto keys = packed_head(qkv, 1, shape), values = packed_head(qkv, 2, shape);
    auto fetch = [&](unsigned stage, unsigned first) { // a stage is where it begins, in bytes
        unsigned char* tiles = shared + stage;
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

    unsigned square = shared_address(shared) + square_lane<D>(), strip = shared_address(shared) + strip_lane<D>();
    float scale_log2 = scale * LOG2_E;
    Softmax<BLOCKS> softmax;
    Sums sums[Tile<D>::COLUMNS][BLOCKS] = {};
    fetch(0, 0);
    for (unsigned first = 0, stage = 0; first < shape.tokens; first += Tiles::KEYS, stage = Tiles::STAGE_BYTES - stage) {
        if (first + Tiles::KEYS < shape.tokens) fetch(Tiles::STAGE_BYTES - stage, first + Tiles::KEYS);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
#pragma unroll 1
        for (unsigned at = 0; at < Tiles::KEYS; at += Tiles::STEP) {
            Sums scores[KEYS][BLOCKS];
#pragma unroll
            for (unsigned j = 0; j < KEYS; j++) {
                multiply_rows(scores[j], queries, strip + stage + (at + j * MMA_COLUMNS) * Tile<D>::PITCH);
            }
            if (first + at + Tiles::STEP > shape.tokens) {
#pragma unroll
                for (unsigned j = 0; j < KEYS; j++) mask_keys(scores[j], int(shape.tokens) - int(first + at + j * MMA_COLUMNS));
            }
            softmax.raise(scores, sums, scale_log2);
            softmax.exponentiate(scores, scale_log2);
#pragma unroll
            for (unsigned j = 0; j < KEYS; j += 2) {
                Fragment probabilities[BLOCKS];
#pragma unroll
                for (unsigned i = 0; i < 2 * BLOCKS; i++) set_columns(probabilities[i / 2], i % 2, scores[j + i % 2][i / 2]);
                multiply_columns<D>(sums, probabilities, square + stage + (Tiles::KEYS + at + j * MMA_COLUMNS) * Tile<D>::PITCH);
            }
        }
        __syncthreads(); // the next copies overwrite this stage
    }

    forget(shape);
    float factor[BLOCKS][2];
    float* row_lse = head_statistics(lse, shape);
#pragma unroll
    for (unsigned i = 0; i < BLOCKS; i++)
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            float sum = row_sum(softmax.sum[i][half]);
            factor[i][half] = 1.0f / sum;
            unsigned lane = threadIdx.x % WARP;
            unsigned row = first_row + (threadIdx.x / WARP * BLOCKS + i) * MMA_ROWS + 8 * half + lane / ROW_LANES;
            if (lane % ROW_LANES == 0 && row < shape.tokens) row_lse[row] = softmax.maximum[i][half] * scale + logf(sum);
        }
    write_rows<D>(plain_head(out, shape), first_row, sums, factor, shared, shape);
}

// ---- backward -----------------------------------------------------------------------------------------------------------

// For dq the rows are queries (q and dout) and the stream is keys (k and v); for dk and dv the rows are keys and the stream
// is queries. So both are: scores = left rows x stream^T, dp = right rows x stream^T, then sums over the stream.
enum class Rows { QUERIES, KEYS };

template <unsigned D, Rows SIDE> struct BackwardTiles {
    static constexpr unsigned BLOCKS = D <= 64 ? 2 : 1; // of 16 rows a warp; what the registers allow
    static constexpr unsigned ROWS = ATTENTION_WARPS * BLOCKS * MMA_ROWS;
    // Whether the second rows are held in registers as the first are, or read from shared memory whenever they are needed.
    static constexpr bool SECOND_HELD = !(D == 64 && SIDE == Rows::KEYS);
    static constexpr unsigned STREAM = SECOND_HELD ? ROWS / 2 : ROWS / 4; // rows of a stage
    static constexpr unsigned SECOND = STREAM * Tile<D>::PITCH; // where the second tile lies in a stage
    static constexpr unsigned STATISTICS = 2 * SECOND;          // and those of the queries, for dk and dv
    static constexpr unsigned STAGE_BYTES = STATISTICS + STREAM * sizeof(float2);
    static constexpr unsigned SECOND_ROWS = SECOND_HELD ? ROWS * Tile<D>::PITCH : STAGES * STAGE_BYTES; // where they lie
    static constexpr unsigned SHARED_BYTES = STAGES * STAGE_BYTES + (SECOND_HELD ? 0 : ROWS * Tile<D>::PITCH);
    static_assert(ROWS * Tile<D>::PITCH <= STAGES * STAGE_BYTES, "rows that are held pass through the stages");
    static_assert(SECOND_ROWS + ROWS * Tile<D>::PITCH <= SHARED_BYTES, "rows that are held pass through the stages");
    static_assert(STREAM <= ATTENTION_THREADS, "a thread fetches the statistics of one query");
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

// dq, or dk and dv. `saved` is written where the rows are queries and read where they are keys: the queries come first.
template <unsigned D, Rows SIDE>
__device__ __forceinline__ void attention_backward(Element* dqkv, float2* saved, const Element* dout, const Element* out,
                                                   const float* lse, const Element* qkv, AttentionShape shape, float scale) {
    using Tiles = BackwardTiles<D, SIDE>;
    constexpr unsigned BLOCKS = Tiles::BLOCKS;
    constexpr bool KEYS = SIDE == Rows::KEYS;
    extern __shared__ __align__(128) unsigned char shared[];
    unsigned first_row = blockIdx.x * Tiles::ROWS;
    auto queries = packed_head(qkv, 0, shape), keys = packed_head(qkv, 1, shape), values = packed_head(qkv, 2, shape);
    auto gradients = plain_head(dout, shape);
    // scores from the first of each pair, dp from the second
    HeadRows<const Element> rows[2] = {KEYS ? keys : queries, KEYS ? values : gradients};
    HeadRows<const Element> stream[2] = {KEYS ? queries : keys, KEYS ? gradients : values};
    auto fetch = [&](unsigned stage, unsigned first) { // a stage is where it begins, in bytes
        unsigned char* tiles = shared + stage;
        fetch_tile<D, Tiles::STREAM>(tiles, stream[0], first, shape);
        fetch_tile<D, Tiles::STREAM>(tiles + Tiles::SECOND, stream[1], first, shape);
        if (KEYS && threadIdx.x < Tiles::STREAM) {
            unsigned to = shared_address(tiles) + Tiles::STATISTICS + threadIdx.x * sizeof(float2);
            AttentionShape again = shape;
            forget(again);
            copy_pair(to, head_statistics(saved, again) + first + threadIdx.x, first + threadIdx.x < shape.tokens);
        }
        commit_copies();
    };

    fetch_tile<D, Tiles::ROWS>(shared, rows[0], first_row, shape);
    fetch_tile<D, Tiles::ROWS>(shared + Tiles::SECOND_ROWS, rows[1], first_row, shape);
    commit_copies();
    float2 statistics[BLOCKS][2];
    if (!KEYS) {
        unsigned warp_row = first_row + threadIdx.x / WARP * BLOCKS * MMA_ROWS;
        row_statistics<D>(statistics, head_statistics(saved, shape), head_statistics(lse, shape), gradients, plain_head(out, shape), warp_row, shape);
    }
    wait_copies<0>();
    __syncthreads();
    Operand<D, BLOCKS> left, right;
    left.load(shared);
    if (Tiles::SECOND_HELD) right.load(shared + Tiles::SECOND_ROWS);
    __syncthreads();

    unsigned square = shared_address(shared) + square_lane<D>(), strip = shared_address(shared) + strip_lane<D>();
    float scale_log2 = scale * LOG2_E;
    Sums by_ds[Tile<D>::COLUMNS][BLOCKS] = {}, by_p[Tile<D>::COLUMNS][BLOCKS] = {};
    fetch(0, 0);
    for (unsigned first = 0, stage = 0; first < shape.tokens; first += Tiles::STREAM, stage = Tiles::STAGE_BYTES - stage) {
        if (first + Tiles::STREAM < shape.tokens) fetch(Tiles::STAGE_BYTES - stage, first + Tiles::STREAM);
        else commit_copies(); // an empty group, so that the wait below is the same
        wait_copies<1>();
        __syncthreads(); // a wait covers a thread's own copies
#pragma unroll 1
        for (unsigned at = 0; at < Tiles::STREAM; at += MMA_DEPTH) {
            Sums dp[2][BLOCKS];
            if (!Tiles::SECOND_HELD) {
                unsigned rows = square + Tiles::SECOND_ROWS + threadIdx.x / WARP * BLOCKS * MMA_ROWS * Tile<D>::PITCH;
                multiply_shared_rows<D>(dp, rows, strip + stage + at * Tile<D>::PITCH + Tiles::SECOND);
            }
            Fragment p[BLOCKS], ds[BLOCKS];
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                unsigned column = at + half * MMA_COLUMNS, rows = stage + column * Tile<D>::PITCH;
                Sums scores[BLOCKS];
                multiply_rows(scores, left, strip + rows);
                if (Tiles::SECOND_HELD) multiply_rows(dp[half], right, strip + rows + Tiles::SECOND);
                // A query that does not exist is all zeros and adds nothing; a key that does not exist has a score of 0.
                int keys = int(shape.tokens) - int(first + column);
                if (!KEYS && keys < int(MMA_COLUMNS)) mask_keys(scores, keys);
                auto columns = reinterpret_cast<const float2*>(shared + stage + Tiles::STATISTICS) + column;
                if (KEYS) score_gradients(scores, dp[half], columns, scale_log2);
                else score_gradients(scores, dp[half], statistics, scale_log2);
#pragma unroll
                for (unsigned i = 0; i < BLOCKS; i++) {
                    set_columns(p[i], half, scores[i]);
                    set_columns(ds[i], half, dp[half][i]);
                }
            }
            unsigned rows = stage + at * Tile<D>::PITCH;
            multiply_columns<D>(by_ds, ds, square + rows);
            if (KEYS) multiply_columns<D>(by_p, p, square + rows + Tiles::SECOND);
        }
        __syncthreads(); // the next copies overwrite this stage
    }

    forget(shape);
    float scales[BLOCKS][2], ones[BLOCKS][2];
#pragma unroll
    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        scales[i / 2][i % 2] = scale;
        ones[i / 2][i % 2] = 1.0f;
    }
    write_rows<D>(packed_head(dqkv, KEYS ? 1 : 0, shape), first_row, by_ds, scales, shared, shape);
    if (KEYS) write_rows<D>(packed_head(dqkv, 2, shape), first_row, by_p, ones, shared, shape);
}
