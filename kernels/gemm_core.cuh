// The inside of gemm.cuh: a tile's operands in shared memory, and the multiplication of what lies there. Once for each set of
// kernels:
//
//   Tile<ALONG_K, EXTENT>   EXTENT (of m or n) x STEP (of k) elements of an operand in shared memory, and where each chunk lies
//   Core<.., SIDE>          SIDE x SIDE sums in registers. In the bf16 set mma.sync.m16n8k16 fed by ldmatrix, 64 x 32 or
//                           32 x 32 sums a warp; in the f32 set 8 x 8 sums a thread, fed by packs of 4
//
// A core hands out its sums through a staging area in shared memory, a few rows of its warp's part at a time, so that whole
// rows are stored.
#pragma once

#include "unrolled.cuh"

constexpr unsigned CHUNK = Pack<Element>::COUNT; // elements of 16 bytes

// Sums over k of an operand alone, which the gradient of a bias is.
enum Sums { NO_SUMS, SUMS_OF_A, SUMS_OF_B };

constexpr unsigned STAGING_ROWS = 16;

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

#ifdef DIT_BF16

constexpr unsigned STEP = 32;  // k of a stage
constexpr unsigned STAGES = 3; // of a side of 128: 48 KB, what a block may have without asking
constexpr unsigned WARP_COLUMNS = 32, WARPS_DOWN = 2; // a warp's columns of a tile, and warps that share the rows among them
// With 64 x 32 sums a warp, the registers hold 16 warps a multiprocessor, with 64 x 64 only 8.
template <unsigned SIDE> constexpr unsigned THREADS_OF = SIDE / WARP_COLUMNS * WARPS_DOWN * WARP;

// Rows as the source has them: EXTENT rows of 64 bytes (ALONG_K), or STEP rows of EXTENT elements. The chunks of a row are
// permuted by the row's number, so that the same chunk of 8 rows, which ldmatrix reads at once, is in different banks.
template <bool ALONG_K, unsigned EXTENT> struct Tile {
    static constexpr unsigned ROWS = ALONG_K ? EXTENT : STEP;
    static constexpr unsigned CHUNKS = (ALONG_K ? STEP : EXTENT) / CHUNK; // of a row
    static constexpr unsigned ROW_BYTES = CHUNKS * sizeof(Pack<Element>);
    static constexpr unsigned BYTES = ROWS * ROW_BYTES;
    static constexpr unsigned PERIOD = 8; // rows after which the permutations repeat

    static __device__ __forceinline__ unsigned offset(unsigned row, unsigned chunk) {
        const unsigned permutation = ALONG_K ? row / 2 % 4 : row % 8;
        return row * ROW_BYTES + (chunk ^ permutation) * sizeof(Pack<Element>);
    }
    static __device__ __forceinline__ void put(unsigned char* tile, unsigned row, unsigned chunk, const Pack<Element>& value) {
        *reinterpret_cast<Pack<Element>*>(tile + offset(row, chunk)) = value;
    }
};

// Four 8 x 8 matrices, `OFFSET` bytes behind; lane l gives the address of row l % 8 of matrix l / 8.
template <bool TRANSPOSED, unsigned OFFSET>
__device__ __forceinline__ void load_matrices(unsigned (&fragment)[4], unsigned address) {
    if constexpr (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                     : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                     : "r"(address), "n"(OFFSET)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                     : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                     : "r"(address), "n"(OFFSET)
                     : "memory");
    }
}

__device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Both at once, `OFFSET` bytes behind; the compiler would take the first of several stores apart.
template <unsigned OFFSET> __device__ __forceinline__ void store_two(unsigned to, float first, float second) {
    asm volatile("st.shared.v2.f32 [%0 + %1], {%2, %3};" ::"r"(to), "n"(OFFSET), "f"(first), "f"(second) : "memory");
}

// What a lane reads of an operand: pieces of 16 (of m or n) x 16 (of k).
template <bool ALONG_K, unsigned EXTENT> class Fragments {
  public:
    // The lane's halves of 8: which of m or n, which of k.
    __device__ __forceinline__ Fragments(unsigned first, unsigned extent_half, unsigned k_half) {
        const unsigned row = threadIdx.x % 8 + 8 * (ALONG_K ? extent_half : k_half);
        const unsigned chunk = ALONG_K ? k_half : first / CHUNK + extent_half;
        address = Place::offset(row + (ALONG_K ? first : 0), chunk);
        asm volatile("" : "+r"(address)); // otherwise the compiler computes it anew for every stage
    }
    // Step `STEP_OF_16` in k of all pieces. Whole steps change bits of the chunk that the address had as 0, so they are an
    // exclusive or.
    template <unsigned STEP_OF_16, unsigned PIECES>
    __device__ __forceinline__ void load(unsigned (&fragments)[PIECES][4], unsigned tile) const {
        for_known<0, PIECES>([&](auto known) {
            constexpr unsigned PIECE = known;
            constexpr unsigned CHUNK_BITS = CHUNK_BYTES * (ALONG_K ? STEP_OF_16 : PIECE);
            constexpr unsigned ROW_OFFSET = ROW_BYTES * (ALONG_K ? PIECE : STEP_OF_16);
            load_matrices<!ALONG_K, ROW_OFFSET>(fragments[PIECE], (tile + address) ^ CHUNK_BITS);
        });
    }
    template <unsigned STEP_OF_16>
    __device__ __forceinline__ void load_one(unsigned (&fragment)[4], unsigned tile, unsigned piece) const {
        static_assert(!ALONG_K, "a sum over k of an operand alone is part of a weight's gradient");
        load_matrices<true, ROW_BYTES * STEP_OF_16>(fragment, (tile + address) ^ CHUNK_BYTES * piece);
    }

  private:
    using Place = Tile<ALONG_K, EXTENT>;
    static constexpr unsigned CHUNK_BYTES = 2 * sizeof(Pack<Element>), ROW_BYTES = 16 * Place::ROW_BYTES; // of 16
    unsigned address;
};

// Two rows of warps, each with half of the tile's rows.
template <bool A_ALONG_K, bool B_ALONG_K, unsigned SIDE> class Core {
  public:
    static constexpr unsigned WARP_ROWS = SIDE / WARPS_DOWN, WARP_COLUMNS = ::WARP_COLUMNS;
    static constexpr unsigned WARPS_ACROSS = SIDE / WARP_COLUMNS;
    static constexpr unsigned MS = WARP_ROWS / 16, NS = WARP_COLUMNS / 8; // pieces of an mma
    static constexpr unsigned COUNT = MS * NS * 4;
    // 8 floats of padding, so that the stores of 4 rows are in different banks.
    static constexpr unsigned STAGING_PITCH = WARP_COLUMNS + 8;

    float sum[MS][NS][4] = {};
    float own[NS / WARPS_DOWN][4] = {}; // of an operand alone

    __device__ __forceinline__ Core()
        : lane(threadIdx.x % WARP), m_warp(threadIdx.x / WARP / WARPS_ACROSS), n_warp(threadIdx.x / WARP % WARPS_ACROSS),
          a_fragments(m_warp * WARP_ROWS, lane / 8 % 2, lane / 16),
          b_fragments(n_warp * WARP_COLUMNS, lane / 16, lane / 8 % 2) {}

    template <Sums SUMS>
    __device__ __forceinline__ void multiply(const unsigned char* a_tile, const unsigned char* b_tile, bool summing) {
        const unsigned a_address = shared_address(a_tile), b_address = shared_address(b_tile);
        // The fragments of a step are loaded while the one before is multiplied.
        unsigned a[2][MS][4], b[2][NS / 2][4];
        a_fragments.template load<0>(a[0], a_address);
        b_fragments.template load<0>(b[0], b_address);
        for_known<0, STEP / 16>([&](auto known) {
            constexpr unsigned NOW = known, NEXT = NOW + 1;
            if constexpr (NEXT < STEP / 16) {
                a_fragments.template load<NEXT>(a[NEXT % 2], a_address);
                b_fragments.template load<NEXT>(b[NEXT % 2], b_address);
            }
            multiply(a[NOW % 2], b[NOW % 2]);
            if constexpr (SUMS == SUMS_OF_A) {
                if (summing) sum_a<NOW>(a_address);
            }
            if constexpr (SUMS == SUMS_OF_B) {
                if (summing) sum_b(b[NOW % 2]);
            }
        });
    }

    // The sum over k that this thread holds of A or B alone, and where it belongs in the tile; SIDE for nowhere.
    template <Sums SUMS> __device__ __forceinline__ float own_sum(unsigned& index) const {
        const unsigned row = lane / 4, quad = lane % 4;
        float value = 0.0f;
        if constexpr (SUMS == SUMS_OF_A) {
            // See sum_a: all columns hold the same, of rows `row` and `row + 8` of the warp's piece.
            value = quad == 0 ? own[0][0] : own[0][2];
            index = quad < 2 ? m_warp * WARP_ROWS + n_warp * 16 + quad * 8 + row : SIDE;
        } else {
            // All eight rows hold the same: columns 2 quad and 2 quad + 1 of each piece.
#pragma unroll
            for (unsigned i = 0; i < NS; i++) value = row == i ? own[i / 2][i % 2] : value;
            index = row < NS ? n_warp * WARP_COLUMNS + (m_warp * (NS / 2) + row / 2) * 8 + 2 * quad + row % 2 : SIDE;
        }
        return value;
    }

    // Where the warp's part begins in the tile, and which of its rows is row r of part i of the staging area.
    __device__ __forceinline__ unsigned first_row() const { return m_warp * WARP_ROWS; }
    __device__ __forceinline__ unsigned first_column() const { return n_warp * WARP_COLUMNS; }
    static __device__ __forceinline__ unsigned row_of(unsigned part, unsigned r) { return part * STAGING_ROWS + r; }

    // Where a number lies in the staging area: the two packs of 4 in a chunk of 8 are exchanged in every other row, against
    // bank conflicts where lanes read chunks.
    static __device__ __forceinline__ unsigned staging_place(unsigned row, unsigned column) {
        return row * STAGING_PITCH + (column ^ row % 2 * 4);
    }
    __device__ __forceinline__ void stage(float* staging, unsigned part) const {
        const unsigned to = shared_address(staging + staging_place(lane / 4, lane % 4 * 2));
        for_known<0, NS>([&](auto known) {
            constexpr unsigned J = known, PIECE = 8 * J * sizeof(float), LOWER = 8 * STAGING_PITCH * sizeof(float);
            store_two<PIECE>(to, sum[part][J][0], sum[part][J][1]);
            store_two<PIECE + LOWER>(to, sum[part][J][2], sum[part][J][3]);
        });
    }

  private:
    static constexpr unsigned ONES = 0x3f803f80; // two of bf16

    __device__ __forceinline__ void multiply(const unsigned (&a)[MS][4], const unsigned (&b)[NS / 2][4]) {
#pragma unroll
        for (unsigned i = 0; i < MS; i++)
#pragma unroll
            for (unsigned j = 0; j < NS; j++) mma(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
    // The sums are products with ones. The warps of the same rows, or columns, share the pieces; of A each has one.
    template <unsigned STEP_OF_16> __device__ __forceinline__ void sum_a(unsigned a_tile) {
        static_assert(MS == WARPS_ACROSS, "a piece a warp");
        unsigned piece[4];
        a_fragments.template load_one<STEP_OF_16>(piece, a_tile, n_warp);
        mma(own[0], piece, ONES, ONES);
    }
    __device__ __forceinline__ void sum_b(const unsigned (&b)[NS / 2][4]) {
        const unsigned ones[4] = {ONES, ONES, ONES, ONES};
#pragma unroll
        for (unsigned j = 0; j < NS / 2; j++) {
            const unsigned(&lower)[4] = b[j / 2], (&upper)[4] = b[(j + NS / 2) / 2];
            const unsigned half = j % 2 * 2;
            mma(own[j], ones, m_warp == 0 ? lower[half] : upper[half], m_warp == 0 ? lower[half + 1] : upper[half + 1]);
        }
    }

    const unsigned lane, m_warp, n_warp;
    const Fragments<A_ALONG_K, SIDE> a_fragments;
    const Fragments<B_ALONG_K, SIDE> b_fragments;
};

#else

constexpr unsigned STEP = 8;
constexpr unsigned STAGES = 2;
template <unsigned SIDE> constexpr unsigned THREADS_OF = SIDE * SIDE / 64;

// STEP rows of EXTENT elements in both orientations: ALONG_K is transposed on the way in. With 4 elements of padding the two
// chunks of 16 source rows, which a warp stores at once, are in different banks.
template <bool ALONG_K, unsigned EXTENT> struct Tile {
    static constexpr unsigned ROWS = ALONG_K ? EXTENT : STEP;
    static constexpr unsigned CHUNKS = (ALONG_K ? STEP : EXTENT) / CHUNK;
    static constexpr unsigned PITCH = EXTENT + CHUNK;
    static constexpr unsigned BYTES = STEP * PITCH * sizeof(Element);

    static __device__ __forceinline__ void put(unsigned char* tile, unsigned row, unsigned chunk, const Pack<Element>& value) {
        float* to = reinterpret_cast<float*>(tile);
        if constexpr (ALONG_K) {
#pragma unroll
            for (unsigned i = 0; i < CHUNK; i++) to[(chunk * CHUNK + i) * PITCH + row] = value.element[i];
        } else {
            store_pack(to + row * PITCH + chunk * CHUNK, value);
        }
    }
};

// All four at once; the compiler would take the first of several stores apart.
__device__ __forceinline__ void store_four(float* to, float a, float b, float c, float d) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(to)), "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
}

// Warps of 64 x 32, each thread 8 x 8 in four pieces of 4 x 4, so that a warp reads consecutive packs.
template <bool A_ALONG_K, bool B_ALONG_K, unsigned SIDE> class Core {
  public:
    static constexpr unsigned WARP_ROWS = 64, WARP_COLUMNS = 32;
    static constexpr unsigned COUNT = 64;
    static constexpr unsigned STAGING_PITCH = WARP_COLUMNS;

    float sum[8][8] = {};
    float own = 0.0f; // of an operand alone

    __device__ __forceinline__ Core()
        : m_lane(threadIdx.x % WARP / 4), n_lane(threadIdx.x % 4), m_warp(threadIdx.x / WARP / (SIDE / WARP_COLUMNS)),
          n_warp(threadIdx.x / WARP % (SIDE / WARP_COLUMNS)) {}

    template <Sums SUMS>
    __device__ __forceinline__ void multiply(const unsigned char* a_tile, const unsigned char* b_tile, bool summing) {
        const float *a = reinterpret_cast<const float*>(a_tile), *b = reinterpret_cast<const float*>(b_tile);
        const unsigned m = first_row() + m_lane * CHUNK, n = first_column() + n_lane * CHUNK;
#pragma unroll
        for (unsigned k = 0; k < STEP; k++) {
            const Pack<float> a_pack[2] = {load_pack(a + k * PITCH + m), load_pack(a + k * PITCH + m + M_STRIDE)};
            const Pack<float> b_pack[2] = {load_pack(b + k * PITCH + n), load_pack(b + k * PITCH + n + N_STRIDE)};
#pragma unroll
            for (unsigned i = 0; i < 8; i++)
#pragma unroll
                for (unsigned j = 0; j < 8; j++) sum[i][j] += a_pack[i / 4].element[i % 4] * b_pack[j / 4].element[j % 4];
        }
        if (SUMS != NO_SUMS && summing && threadIdx.x < SIDE) {
            const float* x = (SUMS == SUMS_OF_A ? a : b) + threadIdx.x;
#pragma unroll
            for (unsigned k = 0; k < STEP; k++) own += x[k * PITCH];
        }
    }

    // The sum over k that this thread holds of A or B alone, and where it belongs in the tile; SIDE for nowhere.
    template <Sums SUMS> __device__ __forceinline__ float own_sum(unsigned& index) const {
        index = min(threadIdx.x, SIDE);
        return own;
    }

    // Where the warp's part begins in the tile, and which of its rows is row r of part i of the staging area.
    __device__ __forceinline__ unsigned first_row() const { return m_warp * WARP_ROWS; }
    __device__ __forceinline__ unsigned first_column() const { return n_warp * WARP_COLUMNS; }
    static __device__ __forceinline__ unsigned row_of(unsigned part, unsigned r) {
        return part / 2 * M_STRIDE + r / 2 * CHUNK + part % 2 * 2 + r % 2;
    }

    // Where a number lies in the staging area: every other two rows have their halves exchanged, so that the stores of two
    // lanes are in different banks.
    static __device__ __forceinline__ unsigned staging_place(unsigned row, unsigned column) {
        return row * STAGING_PITCH + (column ^ row / 2 % 2 * N_STRIDE);
    }
    // Two neighbouring rows of each thread's.
    __device__ __forceinline__ void stage(float* staging, unsigned part) const {
#pragma unroll
        for (unsigned i = 0; i < 2; i++)
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                const float* four = sum[part * 2 + i] + half * CHUNK;
                float* to = staging + staging_place(m_lane * 2 + i, half * N_STRIDE + n_lane * CHUNK);
                store_four(to, four[0], four[1], four[2], four[3]);
            }
    }

  private:
    static constexpr unsigned PITCH = Tile<true, SIDE>::PITCH;
    static constexpr unsigned M_STRIDE = 32, N_STRIDE = 16; // between a thread's pieces

    const unsigned m_lane, n_lane, m_warp, n_warp;
};
#endif
