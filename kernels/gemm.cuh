// The product that the matmul and the patch families share: C [M, N] = sum over k of A(m, k) B(n, k), a tile of C a block.
//
// - A *source* is a row-major matrix that need not exist as one: an array (Matrix), or the patches of an image (patch.cu). It
//   hands out chunks of 16 bytes of a row.
// - A *loader* brings tiles of a source to shared memory. ALONG_K says that k runs along the source's rows (x in x w^T);
//   otherwise the rows are k (x in dh^T x), and nothing is transposed in memory.
// - A *core* (gemm_core.cuh) multiplies what lies in shared memory and keeps the sums in registers.
// - An *epilogue* gets runs of RUN neighbours in a row of C, in f32, and does with them what its kernel is for.
//
// The main loop is the same for all: a pipeline of stages, so that the loads of later steps run while this one is multiplied.
// Everything works for any size. ALIGNED kernels move packs of 16 bytes: rows of all arrays begin at multiples of 16 bytes. The
// others move elements one by one, and are for the sizes that nobody trains with.
#pragma once

#include "gemm_core.cuh"

__device__ __forceinline__ unsigned ceil_div(unsigned x, unsigned y) { return (x + y - 1) / y; }

// What a block leaves of a tile that is shared: its sums, and one number a thread for the sums of an operand alone.
template <unsigned SIDE> constexpr unsigned PARTIAL_LEN = SIDE * SIDE + THREADS_OF<SIDE>;

// ---- runs: neighbours in a row, in f32 ------------------------------------------------------------------------------------

// `count` of them are inside the row: if ALIGNED all or none.
template <bool ALIGNED, unsigned RUN, class T>
__device__ __forceinline__ void load_run(float (&run)[RUN], const T* x, unsigned count) {
    if constexpr (ALIGNED) {
#pragma unroll
        for (unsigned i = 0; i < RUN; i += Pack<T>::COUNT) {
            const Pack<T> pack = load_pack(x + i);
#pragma unroll
            for (unsigned j = 0; j < Pack<T>::COUNT; j++) run[i + j] = load(&pack.element[j]);
        }
    } else {
#pragma unroll
        for (unsigned i = 0; i < RUN; i++) run[i] = i < count ? load(x + i) : 0.0f;
    }
}

__device__ __forceinline__ Pack<float> round_to_pack(const float* run, const float*) {
    return {run[0], run[1], run[2], run[3]};
}
// Two at a time, which is one instruction.
__device__ __forceinline__ Pack<__nv_bfloat16> round_to_pack(const float* run, const __nv_bfloat16*) {
    Pack<__nv_bfloat16> pack;
#pragma unroll
    for (unsigned i = 0; i < pack.COUNT; i += 2)
        *reinterpret_cast<__nv_bfloat162*>(pack.element + i) = __floats2bfloat162_rn(run[i], run[i + 1]);
    return pack;
}

template <bool ALIGNED, unsigned RUN, class T>
__device__ __forceinline__ void store_run(T* y, const float (&run)[RUN], unsigned count) {
    if constexpr (ALIGNED) {
#pragma unroll
        for (unsigned i = 0; i < RUN; i += Pack<T>::COUNT) store_pack(y + i, round_to_pack(run + i, y));
    } else {
#pragma unroll
        for (unsigned i = 0; i < RUN; i++)
            if (i < count) store(y + i, run[i]);
    }
}

template <bool ALIGNED, unsigned RUN, class T>
__device__ __forceinline__ void add_to_run(float (&run)[RUN], const T* x, unsigned count) {
    float other[RUN];
    load_run<ALIGNED>(other, x, count);
#pragma unroll
    for (unsigned i = 0; i < RUN; i++) run[i] += other[i];
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
    __device__ __forceinline__ void fetch(Pack<Element>& chunk, Row row, Column column) const {
        if constexpr (ALIGNED) {
            chunk = load_pack(row + column.first);
        } else {
#pragma unroll
            for (unsigned i = 0; i < CHUNK; i++)
                store(&chunk.element[i], i < column.count ? load(row + column.first + i) : 0.0f);
        }
    }
};

// ---- loaders -------------------------------------------------------------------------------------------------------------

// Which chunks of a tile a thread brings: the same column, of PIECES rows that are ROW_STRIDE apart.
template <bool ALONG_K, unsigned EXTENT> struct Share {
    using Place = Tile<ALONG_K, EXTENT>;
    static constexpr unsigned THREADS = THREADS_OF<EXTENT>;
    static constexpr unsigned PIECES = Place::ROWS * Place::CHUNKS / THREADS, ROW_STRIDE = THREADS / Place::CHUNKS;
    static_assert(PIECES * ROW_STRIDE == Place::ROWS, "every thread brings the same");

    static __device__ __forceinline__ unsigned chunk() { return threadIdx.x % Place::CHUNKS; }
    static __device__ __forceinline__ unsigned row(unsigned piece) {
        return threadIdx.x / Place::CHUNKS + piece * ROW_STRIDE;
    }
};

// Brings tiles of EXTENT x STEP from `first` (of m or n) and `begin` (of k) on. `fetch` starts to bring to registers the one
// for k, counted from there, which goes in steps of STEP from 0 on and has to be less than `terms`; `deposit`, after the
// multiplication of an earlier stage, takes it to shared memory.
template <class Source, bool ALONG_K, unsigned EXTENT, bool ASYNC = Source::ASYNC> class Loader {
  public:
    using Place = Tile<ALONG_K, EXTENT>;

    __device__ __forceinline__ Loader(const Source& source, unsigned first, unsigned begin)
        : source(source), begin(begin) {
        if constexpr (ALONG_K) {
            // Rows beyond the end give results that nobody stores; any row will do for them.
#pragma unroll
            for (unsigned i = 0; i < PIECES; i++) rows[i] = source.row(min(first + Of::row(i), source.rows - 1));
        } else {
            const unsigned c = first + Of::chunk() * CHUNK;
            column = source.column(c < source.columns ? c : 0);
        }
    }

    __device__ __forceinline__ void fetch(unsigned char*, unsigned k, unsigned terms) {
        if constexpr (ALONG_K) column = source.column(begin + k + Of::chunk() * CHUNK);
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) {
            if (ALONG_K ? column.count > 0 : Of::row(i) < terms - k) {
                source.fetch(pieces[i], ALONG_K ? rows[i] : source.row(begin + k + Of::row(i)), column);
            } else {
                pieces[i] = Pack<Element>();
            }
        }
    }

    __device__ __forceinline__ void deposit(unsigned char* tile) const {
#pragma unroll
        for (unsigned i = 0; i < PIECES; i++) Place::put(tile, Of::row(i), Of::chunk(), pieces[i]);
    }

  private:
    using Of = Share<ALONG_K, EXTENT>;
    static constexpr unsigned PIECES = Of::PIECES;

    const Source source;
    const unsigned begin;
    typename Source::Row rows[ALONG_K ? PIECES : 1];
    typename Source::Column column;
    Pack<Element> pieces[PIECES];
};

#ifdef DIT_BF16
// 16 bytes, `OFFSET` behind `to`, or zeros if they are not `inside`; `from` is not read then.
template <unsigned OFFSET> __device__ __forceinline__ void copy_async(unsigned to, const void* from, bool inside) {
    asm volatile("cp.async.cg.shared.global [%0 + %1], [%2], 16, %3;" ::"r"(to), "n"(OFFSET), "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

// The same for an array whose elements go to shared memory as they are: `fetch` starts copies straight to there.
template <class Source, bool ALONG_K, unsigned EXTENT> class Loader<Source, ALONG_K, EXTENT, true> {
  public:
    using Place = Tile<ALONG_K, EXTENT>;

    __device__ __forceinline__ Loader(const Source& source, unsigned first, unsigned begin)
        : own_k(ALONG_K ? Of::chunk() * CHUNK : Of::row(0)), row_len(source.columns),
          to(Place::offset(Of::row(0), Of::chunk())) {
        // What lies beyond the end gives results that nobody stores; any row or column will do for it.
        if constexpr (ALONG_K) {
#pragma unroll
            for (unsigned i = 0; i < PIECES; i++)
                from[i] = source.row(min(first + Of::row(i), source.rows - 1)) + begin + own_k;
        } else {
            const unsigned column = first + Of::chunk() * CHUNK;
            from[0] = source.row(begin + own_k) + (column < source.columns ? column : 0);
        }
        // Otherwise the compiler computes them anew for every copy.
        asm volatile("" : "+r"(to), "+r"(own_k));
    }

    __device__ __forceinline__ void fetch(unsigned char* tile, unsigned k, unsigned terms) {
        static_assert(Of::ROW_STRIDE % Place::PERIOD == 0, "the permutation of all pieces is the same");
        const unsigned address = shared_address(tile) + to;
        for_known<0, PIECES>([&](auto known) {
            constexpr unsigned PIECE = known, OFFSET = PIECE * Of::ROW_STRIDE * Place::ROW_BYTES;
            if constexpr (ALONG_K) {
                copy_async<OFFSET>(address, from[PIECE] + k, own_k < terms - k);
            } else {
                copy_async<OFFSET>(address, from[0], own_k + PIECE * Of::ROW_STRIDE < terms - k);
                // One instruction; the compiler would keep the distance in two registers, of which there are none to spare.
                asm("mad.wide.u32 %0, %1, %2, %0;" : "+l"(from[0]) : "r"(row_len), "n"(Of::ROW_STRIDE * sizeof(Element)));
            }
        });
    }

    __device__ __forceinline__ void deposit(unsigned char*) const {}

  private:
    using Of = Share<ALONG_K, EXTENT>;
    static constexpr unsigned PIECES = Of::PIECES;
    static_assert(ALONG_K || PIECES * Of::ROW_STRIDE == STEP, "the pieces of a tile follow each other");

    const Element* from[ALONG_K ? PIECES : 1];
    unsigned own_k; // of the first piece, in a tile
    const unsigned row_len;
    unsigned to;
};

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <unsigned PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}
#else
__device__ __forceinline__ void commit_copies() {}
template <unsigned PENDING> __device__ __forceinline__ void wait_for_copies() {}
#endif

// ---- tiles that several blocks share ----------------------------------------------------------------------------------------

// Where sums over k have many terms and the result few tiles, `splits` blocks share a tile: each sums a part of k and leaves
// its sums in memory. The last of a group adds those of its group in order, the last group those of the groups.
struct Split {
    float* partial;     // [tiles, splits, PARTIAL_LEN<SIDE>]
    unsigned* counters; // [tiles, groups + 1], 0 before and after
    unsigned splits;
};

constexpr unsigned SPLIT_GROUP = 8;

// As last_block_here, with shared memory that nobody else uses now.
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
template <class A, bool A_ALONG_K, class B, bool B_ALONG_K, unsigned SIDE> struct Product {
    static constexpr unsigned TILE_SIDE = SIDE, THREADS = THREADS_OF<SIDE>;
    using SourceA = A;
    using SourceB = B;
    using Sum = Core<A_ALONG_K, B_ALONG_K, SIDE>;
    using LoadA = Loader<A, A_ALONG_K, SIDE>;
    using LoadB = Loader<B, B_ALONG_K, SIDE>;
    static constexpr unsigned A_BYTES = LoadA::Place::BYTES, STAGE_BYTES = A_BYTES + LoadB::Place::BYTES;
    static constexpr unsigned BYTES = STAGES * STAGE_BYTES;
    static constexpr unsigned STAGING_LEN = STAGING_ROWS * Sum::STAGING_PITCH; // of a warp
    static_assert(THREADS / WARP * STAGING_LEN * sizeof(float) <= BYTES, "the stages' memory is the staging area's later");

    // A block's whole work when nobody shares its tile: tiles are counted along the rows of C, so that neighbouring blocks read
    // the same rows of A. `inner` is the extent of k.
    template <class Epilogue>
    static __device__ __forceinline__ void
    whole(const A& a_source, const B& b_source, Epilogue& epilogue, unsigned rows, unsigned columns, unsigned inner) {
        __shared__ __align__(128) unsigned char memory[BYTES];
        const unsigned tiles_across = ceil_div(columns, SIDE);
        const unsigned first_row = blockIdx.x / tiles_across * SIDE, first_column = blockIdx.x % tiles_across * SIDE;
        LoadA a(a_source, first_row, 0);
        LoadB b(b_source, first_column, 0);
        Sum sum;
        run<NO_SUMS>(sum, a, b, memory, inner, false);
        finish(sum, epilogue, memory, first_row, first_column, rows, columns);
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
        const unsigned begin = min(part * length, steps), end = min(begin + length, steps);
        const unsigned terms = min(end * STEP, inner) - min(begin * STEP, inner);
        const bool summing = sums != nullptr && (SUMS == SUMS_OF_A ? first_column : first_row) == 0;
        LoadA a(a_source, first_row, begin * STEP);
        LoadB b(b_source, first_column, begin * STEP);
        Sum sum;
        run<SUMS>(sum, a, b, memory, terms, summing);

        unsigned index;
        float own_sum = sum.template own_sum<SUMS>(index);
        if (!collect(sum, own_sum, split, tile, part, reinterpret_cast<unsigned*>(memory))) return false;
        finish(sum, epilogue, memory, first_row, first_column, rows, columns);
        const unsigned place = (SUMS == SUMS_OF_A ? first_row : first_column) + index;
        if (summing && index < SIDE && place < (SUMS == SUMS_OF_A ? rows : columns))
            sums[place] = SUMS == SUMS_OF_A ? sums[place] + own_sum : own_sum;
        return true;
    }

  private:
    // Adds the product over the loaders' next `terms` of k.
    template <Sums SUMS>
    static __device__ __forceinline__ void
    run(Sum& sum, LoadA& a, LoadB& b, unsigned char* memory, unsigned terms, bool summing) {
        constexpr unsigned AHEAD = (STAGES - 1) * STEP; // k that are on their way
#pragma unroll
        for (unsigned stage = 0; stage + 1 < STAGES; stage++) {
            unsigned char* tile = memory + stage * STAGE_BYTES;
            if (stage * STEP < terms) {
                a.fetch(tile, stage * STEP, terms);
                b.fetch(tile + A_BYTES, stage * STEP, terms);
                a.deposit(tile);
                b.deposit(tile + A_BYTES);
            }
            commit_copies();
        }
        unsigned char *tile = memory, *ahead = memory + (STAGES - 1) * STAGE_BYTES;
#pragma unroll 1
        for (unsigned k = 0; k < terms; k += STEP) {
            const bool more = k + AHEAD < terms;
            wait_for_copies<STAGES - 2>();
            __syncthreads(); // this stage is there, and the one that is overwritten now has been read
            if (more) {
                a.fetch(ahead, k + AHEAD, terms);
                b.fetch(ahead + A_BYTES, k + AHEAD, terms);
            }
            commit_copies(); // also when there is nothing, so that the number of pending groups stays the same
            sum.template multiply<SUMS>(tile, tile + A_BYTES, summing);
            if (more) {
                a.deposit(ahead);
                b.deposit(ahead + A_BYTES);
            }
            ahead = tile;
            tile = tile + STAGE_BYTES == memory + BYTES ? memory : tile + STAGE_BYTES;
        }
    }

    // Gives the epilogue what of the tile lies inside C, a part of each warp's rows at a time.
    template <class Epilogue>
    static __device__ __forceinline__ void finish(const Sum& sum, Epilogue& epilogue, unsigned char* memory, unsigned first_row,
                                                  unsigned first_column, unsigned rows, unsigned columns) {
        constexpr unsigned RUN = Epilogue::RUN, LANES = Sum::WARP_COLUMNS / RUN; // lanes of a row
        const unsigned lane = threadIdx.x % WARP, own_column = lane % LANES * RUN;
        float* staging = reinterpret_cast<float*>(memory) + threadIdx.x / WARP * STAGING_LEN;
        const unsigned column = first_column + sum.first_column() + own_column;
        const unsigned count = column < columns ? min(columns - column, RUN) : 0;
        if (count > 0) epilogue.start(column, count);
        __syncthreads(); // the last stage has been read
#pragma unroll
        for (unsigned part = 0; part < Sum::WARP_ROWS / STAGING_ROWS; part++) {
            sum.stage(staging, part);
            __syncwarp();
#pragma unroll 1
            for (unsigned r = lane / LANES; r < STAGING_ROWS; r += WARP / LANES) {
                const unsigned row = first_row + sum.first_row() + Sum::row_of(part, r);
                if (row >= rows || count == 0) continue;
                float run[RUN];
#pragma unroll
                for (unsigned i = 0; i < RUN; i += Pack<float>::COUNT) {
                    const Pack<float> pack = load_pack(staging + Sum::staging_place(r, own_column + i));
#pragma unroll
                    for (unsigned j = 0; j < Pack<float>::COUNT; j++) run[i + j] = pack.element[j];
                }
                epilogue.finish(row, run);
            }
            __syncwarp();
        }
    }

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

    // A partial tile lies as the threads hold it, packs of all threads side by side, and goes from L2 to L2.
    static __device__ __forceinline__ void put(float* partial, Sum& sum, float own_sum) {
        const float(&sums)[Sum::COUNT] = reinterpret_cast<float(&)[Sum::COUNT]>(sum.sum);
        float4* packs = reinterpret_cast<float4*>(partial) + threadIdx.x;
#pragma unroll
        for (unsigned i = 0; i < Sum::COUNT; i += 4)
            __stcg(packs + i / 4 * THREADS, make_float4(sums[i], sums[i + 1], sums[i + 2], sums[i + 3]));
        __stcg(partial + Sum::COUNT * THREADS + threadIdx.x, own_sum);
    }
    // In two passes: with the loads for all sums at once, there would be no registers for anything else.
    static __device__ __forceinline__ void take(Sum& sum, float& own_sum, const float* partial, unsigned count, size_t stride) {
        float(&sums)[Sum::COUNT] = reinterpret_cast<float(&)[Sum::COUNT]>(sum.sum);
        constexpr unsigned PASS = Sum::COUNT / 2;
#pragma unroll
        for (unsigned first = 0; first < Sum::COUNT; first += PASS) {
#pragma unroll
            for (unsigned i = first; i < first + PASS; i++) sums[i] = 0.0f;
#pragma unroll 1
            for (unsigned part = 0; part < count; part++) {
                const float4* packs = reinterpret_cast<const float4*>(partial + part * stride) + threadIdx.x;
#pragma unroll
                for (unsigned i = first; i < first + PASS; i += 4) {
                    const float4 pack = __ldcg(packs + i / 4 * THREADS);
                    sums[i] += pack.x, sums[i + 1] += pack.y, sums[i + 2] += pack.z, sums[i + 3] += pack.w;
                }
            }
        }
        own_sum = 0.0f;
        for (unsigned part = 0; part < count; part++)
            own_sum += __ldcg(partial + part * stride + Sum::COUNT * THREADS + threadIdx.x);
    }
};

// ---- epilogues of both families --------------------------------------------------------------------------------------------

// y [_, columns] = or += the product
template <bool ALIGNED, class T> struct Plain {
    static constexpr unsigned RUN = Pack<T>::COUNT;
    T* y;
    unsigned columns;
    bool add;
    unsigned column = 0, count = 0;

    __device__ __forceinline__ void start(unsigned first, unsigned elements) { column = first, count = elements; }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[RUN]) {
        T* to = y + static_cast<size_t>(row) * columns + column;
        if (add) add_to_run<ALIGNED>(run, to, count);
        store_run<ALIGNED>(to, run, count);
    }
};
