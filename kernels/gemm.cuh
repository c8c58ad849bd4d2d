// The product that the matmul and the patch families share: C [M, N] = sum over k of A(m, k) B(n, k), for one tile of C a block.
//
// - A *source* is a row-major matrix that need not exist as one: an array (Matrix) or the patches of an image (patch.cu). It
//   hands out chunks of 16 bytes of a row.
// - A *loader* brings a tile of a source to shared memory. ALONG_K says that k runs along the source's rows (x in x w^T);
//   otherwise the rows are k (x in dh^T x), and nothing is transposed in memory.
// - A *core* multiplies what lies in shared memory and keeps the sums in registers. In the bf16 set that is mma.sync.m16n8k16 fed
//   by ldmatrix; in the f32 set every thread computes 8 x 8 sums from packs of 4.
// - An *epilogue* gets runs of 16 bytes of a row of C, in f32, and does with them what its kernel is for.
//
// The main loop is the same for all: a pipeline of stages, so that the loads of later steps run while this one is multiplied.
// Everything works for any size. ALIGNED kernels move packs of 16 bytes: rows of all arrays begin at multiples of 16 bytes. The
// others move elements one by one, and are for the sizes that nobody trains with.
#pragma once

#include "common.cuh"

constexpr unsigned CHUNK = Pack<Element>::COUNT; // elements of 16 bytes

// Sums over k of an operand alone, which the gradient of a bias is.
enum Sums { NO_SUMS, SUMS_OF_A, SUMS_OF_B };

__device__ __forceinline__ unsigned ceil_div(unsigned x, unsigned y) { return (x + y - 1) / y; }

// ---- runs: CHUNK consecutive elements of a row, in f32 -----------------------------------------------------------------

// `count` of them are inside the row: if ALIGNED all or none.
template <bool ALIGNED, class T> __device__ __forceinline__ void load_run(float (&run)[CHUNK], const T* x, unsigned count) {
    if constexpr (ALIGNED) {
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i += Pack<T>::COUNT) {
            const Pack<T> pack = load_pack(x + i);
#pragma unroll
            for (unsigned j = 0; j < Pack<T>::COUNT; j++) run[i + j] = load(&pack.element[j]);
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++) run[i] = i < count ? load(x + i) : 0.0f;
    }
}

template <bool ALIGNED, class T> __device__ __forceinline__ void store_run(T* y, const float (&run)[CHUNK], unsigned count) {
    if constexpr (ALIGNED) {
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i += Pack<T>::COUNT) {
            Pack<T> pack;
#pragma unroll
            for (unsigned j = 0; j < Pack<T>::COUNT; j++) store(&pack.element[j], run[i + j]);
            store_pack(y + i, pack);
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++)
            if (i < count) store(y + i, run[i]);
    }
}

template <bool ALIGNED, class T> __device__ __forceinline__ void add_to_run(float (&run)[CHUNK], const T* x, unsigned count) {
    float other[CHUNK];
    load_run<ALIGNED>(other, x, count);
#pragma unroll
    for (unsigned i = 0; i < CHUNK; i++) run[i] += other[i];
}

// ---- asynchronous copies (bf16 set) --------------------------------------------------------------------------------------

__device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// 16 bytes, or zeros if they are not `inside`; `from` is not read then.
__device__ __forceinline__ void copy_async(unsigned char* to, const void* from, bool inside) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
#endif
}

__device__ __forceinline__ void commit_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <unsigned PENDING> __device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

// ---- sources ---------------------------------------------------------------------------------------------------------------

// x [rows, columns]
template <class T, bool ALIGNED> struct Matrix {
    static constexpr bool ASYNC = ALIGNED && sizeof(T) == sizeof(__nv_bfloat16);
    using Row = const T*;
    struct Column {
        unsigned first, count; // the chunk's elements inside the row
    };

    const T* x;
    unsigned rows, columns;

    __device__ __forceinline__ Row row(unsigned r) const { return x + static_cast<size_t>(r) * columns; }
    __device__ __forceinline__ Column column(unsigned c) const { return {c, c < columns ? min(columns - c, CHUNK) : 0}; }
    __device__ __forceinline__ void copy(unsigned char* to, Row row, Column column, bool inside) const {
        copy_async(to, row + column.first, inside);
    }
    __device__ __forceinline__ void fetch(Pack<Element>& chunk, Row row, Column column) const {
        if constexpr (ALIGNED) {
            chunk = load_pack(row + column.first);
        } else {
#pragma unroll
            for (unsigned i = 0; i < CHUNK; i++) store(&chunk.element[i], i < column.count ? load(row + column.first + i) : 0.0f);
        }
    }
};

// ---- tiles in shared memory ----------------------------------------------------------------------------------------------

#ifdef DIT_BF16
constexpr unsigned STEP = 32;  // k of a stage
constexpr unsigned STAGES = 3; // of a side of 128: 48 KB, what a block may have without asking
constexpr unsigned THREADS_OF_SIDE_128 = 128, THREADS_OF_SIDE_64 = 128;

// EXTENT x STEP elements as the source has them: rows of 64 bytes (ALONG_K) or STEP rows of EXTENT elements. Chunks of a row are
// permuted by the row's number, so that the 8 rows of a chunk's column, which ldmatrix reads at once, are in different banks.
template <bool ALONG_K, unsigned EXTENT> struct Tile {
    static constexpr unsigned ROWS = ALONG_K ? EXTENT : STEP;
    static constexpr unsigned CHUNKS = (ALONG_K ? STEP : EXTENT) / CHUNK; // of a row
    static constexpr unsigned ROW_BYTES = CHUNKS * sizeof(Pack<Element>);
    static constexpr unsigned BYTES = ROWS * ROW_BYTES;

    static __device__ __forceinline__ unsigned permutation(unsigned row) { return ALONG_K ? row / 2 % 4 : row % 8; }
    static __device__ __forceinline__ unsigned offset(unsigned row, unsigned chunk) {
        return row * ROW_BYTES + (chunk ^ permutation(row)) * sizeof(Pack<Element>);
    }
    static __device__ __forceinline__ void put(unsigned char* tile, unsigned row, unsigned chunk, const Pack<Element>& value) {
        *reinterpret_cast<Pack<Element>*>(tile + offset(row, chunk)) = value;
    }
};
#else
constexpr unsigned STEP = 8;
constexpr unsigned STAGES = 2;
constexpr unsigned THREADS_OF_SIDE_128 = 256, THREADS_OF_SIDE_64 = 64;

// STEP rows of EXTENT elements, in both orientations: ALONG_K is transposed on the way in. With 4 elements of padding the two
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
#endif

template <unsigned SIDE> constexpr unsigned THREADS_OF = SIDE == 128 ? THREADS_OF_SIDE_128 : THREADS_OF_SIDE_64;
// What a block leaves of a tile that is shared: its sums, and one number a thread for the sums of an operand alone.
template <unsigned SIDE> constexpr unsigned PARTIAL_LEN = SIDE * SIDE + THREADS_OF<SIDE>;

// ---- loader --------------------------------------------------------------------------------------------------------------

// Brings tiles of EXTENT x STEP from `first` (of m or n) and k on. `fetch` starts a copy, straight to shared memory where the
// source can, else to registers, from where `deposit` takes it after the multiplication of an earlier stage.
template <class Source, bool ALONG_K, unsigned EXTENT> class Loader {
  public:
    using Place = Tile<ALONG_K, EXTENT>;

    __device__ __forceinline__ Loader(const Source& source, unsigned first) : source(source), first(first) {
        if constexpr (ALONG_K) {
            // Rows beyond the end give results that nobody stores; any row will do for them.
#pragma unroll
            for (unsigned i = 0; i < PIECES; i++) rows[i] = source.row(min(first + row_of(i), source.rows - 1));
        } else {
            const unsigned c = first + chunk() * CHUNK;
            column = source.column(c < source.columns ? c : 0);
        }
    }

    __device__ __forceinline__ void fetch(unsigned char* tile, unsigned k) {
        if constexpr (ALONG_K) column = source.column(k + chunk() * CHUNK);
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            const bool inside = ALONG_K ? column.count > 0 : k + row_of(i) < source.rows;
            if constexpr (Source::ASYNC) {
                const auto row = ALONG_K ? rows[i] : source.row(k + row_of(i));
                source.copy(tile + Place::offset(row_of(i), chunk()), row, column, inside);
            } else if (inside) {
                source.fetch(pieces[i], ALONG_K ? rows[i] : source.row(k + row_of(i)), column);
            } else {
                pieces[i] = Pack<Element>();
            }
        }
    }

    __device__ __forceinline__ void deposit(unsigned char* tile) const {
        if constexpr (!Source::ASYNC) {
#pragma unroll
            for (unsigned i = 0; i < PIECES; i++) Place::put(tile, row_of(i), chunk(), pieces[i]);
        }
    }

  private:
    static constexpr unsigned THREADS = THREADS_OF<EXTENT>;
    static constexpr unsigned PIECES = Place::ROWS * Place::CHUNKS / THREADS;
    static_assert(PIECES * THREADS == Place::ROWS * Place::CHUNKS && THREADS % Place::CHUNKS == 0, "every thread the same");

    static __device__ __forceinline__ unsigned chunk() { return threadIdx.x % Place::CHUNKS; }
    static __device__ __forceinline__ unsigned row_of(unsigned i) { return (threadIdx.x + i * THREADS) / Place::CHUNKS; }

    const Source source;
    const unsigned first;
    typename Source::Row rows[ALONG_K ? PIECES : 1];
    typename Source::Column column;
    Pack<Element> pieces[Source::ASYNC ? 1 : PIECES];
};

// ---- cores ---------------------------------------------------------------------------------------------------------------

#ifdef DIT_BF16

// Four 8 x 8 matrices; lane l gives the address of row l % 8 of matrix l / 8.
template <bool TRANSPOSED> __device__ __forceinline__ void load_matrices(unsigned (&fragment)[4], unsigned address) {
    if constexpr (TRANSPOSED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                     : "r"(address)
                     : "memory");
    }
}

__device__ __forceinline__ void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// What a lane reads of an operand: pieces of 16 (of m or n) x 16 (of k).
template <bool ALONG_K, unsigned EXTENT> class Fragments {
  public:
    // The lane's halves of 8: which of m or n, which of k.
    __device__ __forceinline__ Fragments(unsigned first, unsigned extent_half, unsigned k_half) {
        const unsigned row = threadIdx.x % 8 + 8 * (ALONG_K ? extent_half : k_half);
        const unsigned chunk = ALONG_K ? k_half : first / CHUNK + extent_half;
        address = Place::offset(row + (ALONG_K ? first : 0), chunk);
    }
    // Piece i, step of 16 in k. Whole steps change bits of the chunk that the address had as 0, so they are an exclusive or.
    __device__ __forceinline__ void load(unsigned (&fragment)[4], unsigned tile, unsigned i, unsigned step) const {
        const unsigned chunk = 2 * sizeof(Pack<Element>) * (ALONG_K ? step : i);
        const unsigned row = 16 * Place::ROW_BYTES * (ALONG_K ? i : step);
        load_matrices<!ALONG_K>(fragment, ((tile + address) ^ chunk) + row);
    }

  private:
    using Place = Tile<ALONG_K, EXTENT>;
    unsigned address;
};

// Four warps, each a quarter of the tile.
template <bool A_ALONG_K, bool B_ALONG_K, unsigned TILE_SIDE> class Core {
  public:
    static constexpr unsigned SIDE = TILE_SIDE, THREADS = THREADS_OF<SIDE>;
    static constexpr unsigned WARP_SIDE = SIDE / 2;
    static constexpr unsigned MS = WARP_SIDE / 16, NS = WARP_SIDE / 8; // pieces of an mma
    static constexpr unsigned COUNT = MS * NS * 4;
    // The staging area of a warp, for the epilogue: 16 rows, with 8 floats of padding against bank conflicts.
    static constexpr unsigned STAGING_PITCH = WARP_SIDE + 8;
    static constexpr unsigned STAGING_BYTES = THREADS / WARP * 16 * STAGING_PITCH * sizeof(float);

    float sum[MS][NS][4] = {};
    float extra[NS / 2][4] = {}; // of an operand alone

    __device__ __forceinline__ Core()
        : lane(threadIdx.x % WARP), m_warp(threadIdx.x / WARP / 2), n_warp(threadIdx.x / WARP % 2),
          a_fragments(m_warp * WARP_SIDE, lane / 8 % 2, lane / 16), b_fragments(n_warp * WARP_SIDE, lane / 16, lane / 8 % 2) {}

    template <Sums SUMS>
    __device__ __forceinline__ void multiply(const unsigned char* a_tile, const unsigned char* b_tile, bool summing) {
        const unsigned a_address = shared_address(a_tile), b_address = shared_address(b_tile);
        unsigned a[2][MS][4], b[2][NS / 2][4];
        load(a[0], b[0], a_address, b_address, 0);
#pragma unroll
        for (unsigned step = 0; step < STEP / 16; step++) {
            if (step + 1 < STEP / 16) load(a[(step + 1) % 2], b[(step + 1) % 2], a_address, b_address, step + 1);
            multiply(a[step % 2], b[step % 2]);
            if constexpr (SUMS == SUMS_OF_A) {
                if (summing) sum_a(a[step % 2]);
            }
            if constexpr (SUMS == SUMS_OF_B) {
                if (summing) sum_b(b[step % 2]);
            }
        }
    }

    // The sum over k that this thread holds of A or B alone, and where it belongs in the tile; SIDE for nowhere.
    template <Sums SUMS> __device__ __forceinline__ float operand_sum(unsigned& index) const {
        const unsigned row = lane / 4, quad = lane % 4;
        if constexpr (SUMS == SUMS_OF_A) {
            // All four lanes of a quad hold the same: rows `row` and `row + 8` of each piece. Each gives one away.
            float value = 0.0f;
#pragma unroll
            for (unsigned i = 0; i < MS; i++) value = quad == i ? extra[i / 2][i % 2 * 2] : value;
            index = quad < MS ? m_warp * WARP_SIDE + (n_warp * (MS / 2) + quad / 2) * 16 + quad % 2 * 8 + row : SIDE;
            return value;
        } else {
            // All eight rows hold the same: columns 2 quad and 2 quad + 1 of each piece.
            float value = 0.0f;
#pragma unroll
            for (unsigned i = 0; i < NS; i++) value = row == i ? extra[i / 2][i % 2] : value;
            const unsigned piece = m_warp * (NS / 2) + row / 2;
            index = row < NS ? n_warp * WARP_SIDE + piece * 8 + 2 * quad + row % 2 : SIDE;
            return value;
        }
    }

    // Through shared memory, so that a warp stores whole rows of its part of the tile.
    template <class Epilogue>
    __device__ __forceinline__ void
    finish(Epilogue& epilogue, unsigned char* memory, unsigned first_row, unsigned first_column, unsigned rows, unsigned columns) {
        constexpr unsigned LANES = WARP_SIDE / CHUNK; // of a row
        float* staging = reinterpret_cast<float*>(memory) + threadIdx.x / WARP * 16 * STAGING_PITCH;
        const unsigned column = first_column + n_warp * WARP_SIDE + lane % LANES * CHUNK;
        const unsigned count = column < columns ? min(columns - column, CHUNK) : 0;
        if (count > 0) epilogue.start(column, count);
        __syncthreads(); // the last stage has been read
#pragma unroll
        for (unsigned i = 0; i < MS; i++) {
            stage(staging, sum[i]);
            __syncwarp();
#pragma unroll 1
            for (unsigned r = lane / LANES; r < 16; r += WARP / LANES) {
                const unsigned row = first_row + m_warp * WARP_SIDE + i * 16 + r;
                if (row >= rows || count == 0) continue;
                float run[CHUNK];
                unstage(run, staging + r * STAGING_PITCH, r);
                epilogue.finish(row, run);
            }
            __syncwarp();
        }
    }

  private:
    static constexpr unsigned ONES = 0x3f803f80; // two of bf16

    __device__ __forceinline__ void
    load(unsigned (&a)[MS][4], unsigned (&b)[NS / 2][4], unsigned a_tile, unsigned b_tile, unsigned step) const {
#pragma unroll
        for (unsigned i = 0; i < MS; i++) a_fragments.load(a[i], a_tile, i, step);
#pragma unroll
        for (unsigned j = 0; j < NS / 2; j++) b_fragments.load(b[j], b_tile, j, step);
    }
    __device__ __forceinline__ void multiply(const unsigned (&a)[MS][4], const unsigned (&b)[NS / 2][4]) {
#pragma unroll
        for (unsigned i = 0; i < MS; i++)
#pragma unroll
            for (unsigned j = 0; j < NS; j++) mma(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
    // The sums are products with ones. The two warps of the same rows share the pieces.
    __device__ __forceinline__ void sum_a(const unsigned (&a)[MS][4]) {
#pragma unroll
        for (unsigned i = 0; i < MS / 2; i++) {
            unsigned piece[4];
#pragma unroll
            for (unsigned j = 0; j < 4; j++) piece[j] = n_warp == 0 ? a[i][j] : a[i + MS / 2][j];
            mma(extra[i], piece, ONES, ONES);
        }
    }
    __device__ __forceinline__ void sum_b(const unsigned (&b)[NS / 2][4]) {
        const unsigned ones[4] = {ONES, ONES, ONES, ONES};
#pragma unroll
        for (unsigned j = 0; j < NS / 2; j++) {
            const unsigned(&lower)[4] = b[j / 2], (&upper)[4] = b[(j + NS / 2) / 2];
            const unsigned half = j % 2 * 2;
            mma(extra[j], ones, m_warp == 0 ? lower[half] : upper[half], m_warp == 0 ? lower[half + 1] : upper[half + 1]);
        }
    }
    // Columns beyond 32 have their two packs of 4 exchanged (of 16 columns: odd rows), again against bank conflicts.
    static __device__ __forceinline__ unsigned exchange(unsigned row, unsigned column) {
        return (row * (WARP_SIDE / CHUNK) + column / CHUNK) / 4 % 2 * 4;
    }
    __device__ __forceinline__ void stage(float* staging, const float (&sums)[NS][4]) const {
#pragma unroll
        for (unsigned j = 0; j < NS; j++) {
#pragma unroll
            for (unsigned half = 0; half < 2; half++) {
                const unsigned row = lane / 4 + 8 * half, column = (8 * j + lane % 4 * 2) ^ exchange(row, 8 * j);
                *reinterpret_cast<float2*>(staging + row * STAGING_PITCH + column) =
                    make_float2(sums[j][2 * half], sums[j][2 * half + 1]);
            }
        }
    }
    __device__ __forceinline__ void unstage(float (&run)[CHUNK], const float* staging_row, unsigned row) const {
        const unsigned column = lane % (WARP_SIDE / CHUNK) * CHUNK;
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i += Pack<float>::COUNT) {
            const auto pack = load_pack(staging_row + ((column + i) ^ exchange(row, column)));
#pragma unroll
            for (unsigned j = 0; j < Pack<float>::COUNT; j++) run[i + j] = pack.element[j];
        }
    }

    const unsigned lane, m_warp, n_warp;
    const Fragments<A_ALONG_K, SIDE> a_fragments;
    const Fragments<B_ALONG_K, SIDE> b_fragments;
};

#else

// Warps of 64 x 32, each thread 8 x 8 in four pieces of 4 x 4, so that a warp reads consecutive packs.
template <bool A_ALONG_K, bool B_ALONG_K, unsigned TILE_SIDE> class Core {
  public:
    static constexpr unsigned SIDE = TILE_SIDE, THREADS = THREADS_OF<SIDE>;
    static constexpr unsigned COUNT = 64;
    static constexpr unsigned STAGING_BYTES = 0;

    float sum[8][8] = {};
    float extra = 0.0f; // of an operand alone

    __device__ __forceinline__ Core()
        : m(threadIdx.x / WARP / (SIDE / 32) * 64 + threadIdx.x % WARP / 4 * CHUNK),
          n(threadIdx.x / WARP % (SIDE / 32) * 32 + threadIdx.x % 4 * CHUNK) {}

    template <Sums SUMS>
    __device__ __forceinline__ void multiply(const unsigned char* a_tile, const unsigned char* b_tile, bool summing) {
        const float *a = reinterpret_cast<const float*>(a_tile), *b = reinterpret_cast<const float*>(b_tile);
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
            for (unsigned k = 0; k < STEP; k++) extra += x[k * PITCH];
        }
    }

    // The sum over k that this thread holds of A or B alone, and where it belongs in the tile; SIDE for nowhere.
    template <Sums SUMS> __device__ __forceinline__ float operand_sum(unsigned& index) const {
        index = min(threadIdx.x, SIDE);
        return extra;
    }

    template <class Epilogue>
    __device__ __forceinline__ void
    finish(Epilogue& epilogue, unsigned char*, unsigned first_row, unsigned first_column, unsigned rows, unsigned columns) {
#pragma unroll
        for (unsigned half = 0; half < 2; half++) {
            const unsigned column = first_column + n + half * N_STRIDE;
            if (column >= columns) continue;
            epilogue.start(column, min(columns - column, CHUNK));
#pragma unroll
            for (unsigned i = 0; i < 8; i++) {
                const unsigned row = first_row + m + i / 4 * M_STRIDE + i % 4;
                float run[CHUNK];
#pragma unroll
                for (unsigned j = 0; j < CHUNK; j++) run[j] = sum[i][half * CHUNK + j];
                if (row < rows) epilogue.finish(row, run);
            }
        }
    }

  private:
    static constexpr unsigned PITCH = Tile<true, SIDE>::PITCH;
    static constexpr unsigned M_STRIDE = 32, N_STRIDE = 16; // between a thread's pieces

    const unsigned m, n;
};
#endif

// ---- tiles that several blocks share ----------------------------------------------------------------------------------------

// Where sums over k have many terms and the result few tiles, `splits` blocks share a tile: each sums a part of k and leaves its
// sums in memory. The last of a group adds those of its group in order, the last group those of the groups.
struct Split {
    float* partial;     // [tiles, splits, PARTIAL_LEN<SIDE>]
    unsigned* counters; // [tiles, groups + 1], 0 before and after
    unsigned splits;
};

constexpr unsigned SPLIT_GROUP = 8;

// As last_block_here; `flag` is shared memory that nobody else uses now.
__device__ __forceinline__ bool last_of(unsigned* counter, unsigned blocks, unsigned* flag) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence(); // for the whole block, behind the barrier
        *flag = atomicInc(counter, blocks - 1) == blocks - 1; // the last one makes it 0 again
        __threadfence();
    }
    __syncthreads();
    return *flag != 0;
}

// ---- main loop -----------------------------------------------------------------------------------------------------------

// A product's orientations and tile, and the shared memory that it needs.
template <class A, bool A_ALONG_K, class B, bool B_ALONG_K, unsigned TILE_SIDE> struct Product {
    static constexpr unsigned SIDE = TILE_SIDE, THREADS = THREADS_OF<SIDE>;
    using Sum = Core<A_ALONG_K, B_ALONG_K, SIDE>;
    using LoadA = Loader<A, A_ALONG_K, SIDE>;
    using LoadB = Loader<B, B_ALONG_K, SIDE>;
    static constexpr unsigned A_BYTES = LoadA::Place::BYTES, STAGE_BYTES = A_BYTES + LoadB::Place::BYTES;
    static constexpr unsigned BYTES = STAGES * STAGE_BYTES > Sum::STAGING_BYTES ? STAGES * STAGE_BYTES : Sum::STAGING_BYTES;

    // Adds the product over the steps from `begin` to `end`, of STEP each.
    template <Sums SUMS>
    static __device__ __forceinline__ void
    run(Sum& sum, LoadA& a, LoadB& b, unsigned char* memory, unsigned begin, unsigned end, bool summing) {
#pragma unroll
        for (unsigned stage = 0; stage + 1 < STAGES; stage++) {
            unsigned char* tile = memory + stage * STAGE_BYTES;
            if (begin + stage < end) {
                a.fetch(tile, (begin + stage) * STEP);
                b.fetch(tile + A_BYTES, (begin + stage) * STEP);
                a.deposit(tile);
                b.deposit(tile + A_BYTES);
            }
            commit_copies();
        }
        unsigned char *tile = memory, *ahead = memory + (STAGES - 1) * STAGE_BYTES;
#pragma unroll 1
        for (unsigned step = begin; step < end; step++) {
            const bool more = step + STAGES - 1 < end;
            wait_for_copies<STAGES - 2>();
            __syncthreads(); // this stage is there, and the one that is overwritten now has been read
            if (more) {
                a.fetch(ahead, (step + STAGES - 1) * STEP);
                b.fetch(ahead + A_BYTES, (step + STAGES - 1) * STEP);
            }
            commit_copies(); // also when there is nothing, so that the number of pending groups stays the same
            sum.template multiply<SUMS>(tile, tile + A_BYTES, summing);
            if (more) {
                a.deposit(ahead);
                b.deposit(ahead + A_BYTES);
            }
            ahead = tile;
            tile = tile + STAGE_BYTES == memory + STAGES * STAGE_BYTES ? memory : tile + STAGE_BYTES;
        }
    }

    // A block's whole work when nobody shares its tile: tiles are counted along the rows of C, so that neighbouring blocks read
    // the same rows of A. `inner` is the extent of k.
    template <class Epilogue>
    static __device__ __forceinline__ void
    whole(const A& a_source, const B& b_source, Epilogue& epilogue, unsigned rows, unsigned columns, unsigned inner) {
        __shared__ __align__(128) unsigned char memory[BYTES];
        const unsigned tiles = ceil_div(columns, SIDE);
        const unsigned first_row = blockIdx.x / tiles * SIDE, first_column = blockIdx.x % tiles * SIDE;
        LoadA a(a_source, first_row);
        LoadB b(b_source, first_column);
        Sum sum;
        run<NO_SUMS>(sum, a, b, memory, 0, ceil_div(inner, STEP), false);
        sum.finish(epilogue, memory, first_row, first_column, rows, columns);
    }

    // A block's work when `split.splits` blocks share its tile: grid = tiles * splits, and the tiles of the same part of k are
    // neighbours, which read the same rows. `sums` (may be null) [rows] += A's own sums over k, or [columns] = B's own.
    // Gives whether this block has finished the tile.
    template <Sums SUMS, class Epilogue>
    static __device__ __forceinline__ bool part(const A& a_source, const B& b_source, Epilogue& epilogue, float* sums,
                                                const Split& split, unsigned rows, unsigned columns, unsigned inner) {
        __shared__ __align__(128) unsigned char memory[BYTES];
        const unsigned tiles_across = ceil_div(columns, SIDE), tiles = ceil_div(rows, SIDE) * tiles_across;
        const unsigned tile = blockIdx.x % tiles, part = blockIdx.x / tiles;
        const unsigned first_row = tile / tiles_across * SIDE, first_column = tile % tiles_across * SIDE;
        const unsigned steps = ceil_div(inner, STEP), length = ceil_div(steps, split.splits);
        const bool summing = sums != nullptr && (SUMS == SUMS_OF_A ? first_column : first_row) == 0;
        LoadA a(a_source, first_row);
        LoadB b(b_source, first_column);
        Sum sum;
        run<SUMS>(sum, a, b, memory, min(part * length, steps), min((part + 1) * length, steps), summing);

        unsigned index;
        float own_sum = sum.template operand_sum<SUMS>(index);
        if (!collect(sum, own_sum, split, tile, part, reinterpret_cast<unsigned*>(memory))) return false;
        sum.finish(epilogue, memory, first_row, first_column, rows, columns);
        const unsigned place = (SUMS == SUMS_OF_A ? first_row : first_column) + index;
        if (summing && index < SIDE && place < (SUMS == SUMS_OF_A ? rows : columns))
            sums[place] = SUMS == SUMS_OF_A ? sums[place] + own_sum : own_sum;
        return true;
    }

  private:
    // Whether this block has all parts of its tile together, in `sum` and `own_sum`.
    static __device__ __forceinline__ bool
    collect(Sum& sum, float& own_sum, const Split& split, unsigned tile, unsigned part, unsigned* flag) {
        if (split.splits == 1) return true;
        const unsigned groups = ceil_div(split.splits, SPLIT_GROUP), group = part / SPLIT_GROUP, first = group * SPLIT_GROUP;
        const unsigned members = min(SPLIT_GROUP, split.splits - first);
        float* partial = split.partial + static_cast<size_t>(tile) * split.splits * PARTIAL_LEN<SIDE>;
        unsigned* counters = split.counters + tile * (groups + 1);
        put(partial + static_cast<size_t>(part) * PARTIAL_LEN<SIDE>, sum, own_sum);
        if (!last_of(counters + group, members, flag)) return false;
        take(sum, own_sum, partial + static_cast<size_t>(first) * PARTIAL_LEN<SIDE>, members, PARTIAL_LEN<SIDE>);
        if (groups == 1) return true;
        put(partial + static_cast<size_t>(first) * PARTIAL_LEN<SIDE>, sum, own_sum);
        if (!last_of(counters + groups, groups, flag)) return false;
        take(sum, own_sum, partial, groups, static_cast<size_t>(SPLIT_GROUP) * PARTIAL_LEN<SIDE>);
        return true;
    }

    // A partial tile lies as the threads hold it: packs of all threads side by side.
    static __device__ __forceinline__ void put(float* partial, Sum& sum, float own_sum) {
        float(&sums)[Sum::COUNT] = reinterpret_cast<float(&)[Sum::COUNT]>(sum.sum);
#pragma unroll
        for (unsigned i = 0; i < Sum::COUNT; i += 4)
            *reinterpret_cast<float4*>(partial + i * THREADS + threadIdx.x * 4) =
                make_float4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]);
        partial[Sum::COUNT * THREADS + threadIdx.x] = own_sum;
    }
    static __device__ __forceinline__ void take(Sum& sum, float& own_sum, const float* partial, unsigned count, size_t stride) {
        float(&sums)[Sum::COUNT] = reinterpret_cast<float(&)[Sum::COUNT]>(sum.sum);
#pragma unroll
        for (unsigned i = 0; i < Sum::COUNT; i++) sums[i] = 0.0f;
        own_sum = 0.0f;
#pragma unroll 1
        for (unsigned part = 0; part < count; part++, partial += stride) {
#pragma unroll
            for (unsigned i = 0; i < Sum::COUNT; i += 4) {
                const float4 pack = *reinterpret_cast<const float4*>(partial + i * THREADS + threadIdx.x * 4);
                sums[i] += pack.x;
                sums[i + 1] += pack.y;
                sums[i + 2] += pack.z;
                sums[i + 3] += pack.w;
            }
            own_sum += partial[Sum::COUNT * THREADS + threadIdx.x];
        }
    }
};

// ---- epilogues of both families --------------------------------------------------------------------------------------------

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

template <unsigned ACTIVATION> __device__ __forceinline__ void multiply_by_slopes(float (&run)[CHUNK], const float (&x)[CHUNK]) {
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

// y [_, columns] = or += the product
template <bool ALIGNED, class T> struct Plain {
    T* y;
    unsigned columns;
    bool add;
    unsigned column = 0, count = 0;

    __device__ __forceinline__ void start(unsigned first, unsigned elements) { column = first, count = elements; }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[CHUNK]) {
        T* to = y + static_cast<size_t>(row) * columns + column;
        if (add) add_to_run<ALIGNED>(run, to, count);
        store_run<ALIGNED>(to, run, count);
    }
};
