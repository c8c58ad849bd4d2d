// sets: f32 bf16
//
// Fills, sums, activations, residuals and vectors added to rows: one pass over memory each, nothing saved.
//
// Layout: dense arrays of n elements, or [groups, rows, columns] with a vector [columns] for each group: a position embedding
// is one group whose rows are the samples, all their tokens side by side; a step embedding or a gate is a group a sample, whose
// rows are the tokens.
//
// Parallelism: a thread has one pack of 16 bytes of each array, or a few columns of some rows of a group, whose vector a block
// reads once. Where an address is not a multiple of 16, or at the end, it goes element by element. Sums over rows are made in
// registers, then over the rows of a block, then over the blocks of a group (sum_over_blocks). `_few` is for groups of few
// rows, of which a thread has all.

#include "common.cuh"

constexpr unsigned THREADS = 256;

// Whether all of them can be read in packs.
template <class... Arrays> __device__ __forceinline__ bool aligned(const Arrays*... array) {
    return ((reinterpret_cast<uintptr_t>(array) | ...) & 15) == 0;
}

// y[i] = f(i-th of each input) for this thread's pack of the n elements. An input may be y itself.
template <class F, class... Inputs> __device__ __forceinline__ void each(Element* y, size_t n, F f, const Inputs*... input) {
    constexpr unsigned COUNT = Pack<Element>::COUNT;
    size_t first = (size_t(blockIdx.x) * THREADS + threadIdx.x) * COUNT;
    if (aligned(y, input...) && first + COUNT <= n) {
        Pack<Element> result;
        auto apply = [&](const Pack<Inputs>&... pack) {
#pragma unroll
            for (unsigned i = 0; i < COUNT; i++) store(&result.element[i], f(load(&pack.element[i])...));
        };
        apply(load_pack(input + first)...);
        store_pack(y + first, result);
    } else {
        for (size_t i = first; i < n && i < first + COUNT; i++) store(&y[i], f(load(&input[i])...));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) elementwise_fill(Element* y, float value, size_t n) {
    each(y, n, [=]() { return value; });
}

// y += x
extern "C" __global__ void __launch_bounds__(THREADS) elementwise_add(Element* y, const Element* x, size_t n) {
    each(y, n, [](float y, float x) { return y + x; }, y, x);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_activation_forward(Element* y, const Element* x, unsigned activation, size_t n) {
    with_known(activation, [=](auto known) { each(y, n, [=](float x) { return activate(x, known); }, x); });
}

// dx = dy activation'(x), or dx += where `add`; dx may be dy.
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_activation_backward(Element* dx, unsigned add, const Element* dy, const Element* x, unsigned activation,
                                    size_t n) {
    with_known(activation, [=](auto known) {
        if (add) {
            each(dx, n, [=](float dx, float dy, float x) { return dx + dy * activation_slope(x, known); }, dx, dy, x);
        } else {
            each(dx, n, [=](float dy, float x) { return dy * activation_slope(x, known); }, dy, x);
        }
    });
}

// y = x + branch
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_residual_forward(Element* y, const Element* x, const Element* branch, size_t n) {
    each(y, n, [](float x, float branch) { return x + branch; }, x, branch);
}

// *found = max(n - i) over the elements i that are NaN or infinite: the first of them, or 0 for none if it was 0 before.
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_find_non_finite(unsigned long long* found, const Element* x, size_t n) {
    constexpr unsigned COUNT = Pack<Element>::COUNT;
    size_t first = (size_t(blockIdx.x) * THREADS + threadIdx.x) * COUNT;
    size_t bad = n;
    auto look = [&](float value, size_t i) {
        if (!isfinite(value)) bad = min(bad, i);
    };
    if (aligned(x) && first + COUNT <= n) {
        Pack<Element> pack = load_pack(x + first);
#pragma unroll
        for (unsigned i = 0; i < COUNT; i++) look(load(&pack.element[i]), first + i);
    } else {
        for (size_t i = first; i < n && i < first + COUNT; i++) look(load(&x[i]), i);
    }
    if (bad < n) atomicMax(found, (unsigned long long)(n - bad));
}

// ---- vectors that are shared by the rows of a group ------------------------------------------------------------------------

// Rows of a tile of the plain kernels, and columns; a block has ROWS_AT_ONCE of them, in packs of PACK columns.
constexpr unsigned PACK = 4; // an f32 vector's 16 bytes
constexpr unsigned ROWS_AT_ONCE = 16;
constexpr unsigned TILE_ROWS = 8 * ROWS_AT_ONCE;
constexpr unsigned TILE = THREADS / ROWS_AT_ONCE * PACK;
// Most rows, and columns of a tile, of the kernels for few rows.
constexpr unsigned FEW_ROWS = 32;
constexpr unsigned FEW_THREADS = 64;
constexpr unsigned FEW_TILE = FEW_THREADS * PACK;
HOST_CONSTANT(elementwise_tile_columns, TILE);
HOST_CONSTANT(elementwise_tile_rows, TILE_ROWS);
HOST_CONSTANT(elementwise_few_columns, FEW_TILE);
HOST_CONSTANT(elementwise_few_rows, FEW_ROWS);
HOST_CONSTANT(elementwise_set, SUM_SET);

// A block's part of an array [groups, rows, columns]: COLUMNS columns of ROWS rows of a group, AT_ONCE of them at a time; a
// thread has a pack's columns.
template <unsigned COLUMNS, unsigned ROWS, unsigned AT_ONCE> struct Tile {
    static constexpr unsigned PACKS = COLUMNS / PACK;
    unsigned rows, columns, chunks, group, chunk, tiles, tile;
    bool packed;

    __device__ __forceinline__ Tile(unsigned rows, unsigned columns, bool aligned) : rows(rows), columns(columns) {
        chunks = (rows + ROWS - 1) / ROWS;
        tiles = (columns + COLUMNS - 1) / COLUMNS;
        tile = blockIdx.x % tiles;
        chunk = blockIdx.x / tiles % chunks;
        group = blockIdx.x / tiles / chunks;
        packed = aligned && columns % PACK == 0;
    }

    // This thread's first column.
    __device__ __forceinline__ unsigned column() const { return tile * COLUMNS + threadIdx.x % PACKS * PACK; }

    // PACK neighbours, the first of which is in this thread's first column; 0 behind the last column.
    template <class T> __device__ __forceinline__ void load_columns(float (&to)[PACK], const T* from) const {
        if (packed && column() < columns) {
            load_some<PACK>(to, from);
        } else {
#pragma unroll
            for (unsigned i = 0; i < PACK; i++) to[i] = column() + i < columns ? load(&from[i]) : 0.0f;
        }
    }

    template <class T> __device__ __forceinline__ void store_columns(T* to, const float (&from)[PACK]) const {
        if (packed && column() < columns) {
            store_some<PACK>(to, from);
        } else {
#pragma unroll
            for (unsigned i = 0; i < PACK; i++) {
                if (column() + i < columns) store(&to[i], from[i]);
            }
        }
    }

    // This thread's columns of the group's vector, which the block reads once. All threads call it.
    __device__ __forceinline__ void load_vector(float (&to)[PACK], const float* vector) const {
        if constexpr (AT_ONCE == 1) {
            load_columns(to, vector + column());
        } else {
            __shared__ alignas(PACK * sizeof(float)) float shared[COLUMNS];
            float* place = &shared[threadIdx.x % PACKS * PACK];
            if (threadIdx.x < PACKS) {
                load_columns(to, vector + column());
                store_some<PACK>(place, to);
            }
            __syncthreads();
            load_some<PACK>(to, place);
        }
    }

    // body(index of the first element) for each of this thread's rows.
    template <class Body> __device__ __forceinline__ void each_row(Body body) const {
        unsigned end = min(rows, (chunk + 1) * ROWS);
        for (unsigned row = chunk * ROWS + threadIdx.x / PACKS; row < end; row += AT_ONCE) {
            body((size_t(group) * rows + row) * columns + column());
        }
    }

    // to[column] += what its only thread found.
    __device__ __forceinline__ void add_own_sums(float* to, float (&sums)[PACK]) const {
        static_assert(AT_ONCE == 1, "a thread has all rows");
        float before[PACK];
        load_columns(before, to + column());
#pragma unroll
        for (unsigned i = 0; i < PACK; i++) sums[i] += before[i];
        store_columns(to + column(), sums);
    }

    // to[column] += the sum over all rows of the group of what its threads found.
    __device__ __forceinline__ void add_sums(float* to, const float (&sums)[PACK], float* partials, unsigned* counters) const {
        __shared__ alignas(PACK * sizeof(float)) float of_rows[AT_ONCE][COLUMNS];
        store_some<PACK>(&of_rows[threadIdx.x / PACKS][threadIdx.x % PACKS * PACK], sums);
        __syncthreads();
        auto add = [&](unsigned slot, float sum) {
            unsigned column = tile * COLUMNS + slot;
            if (column < columns) to[column] += sum;
        };
        unsigned of_all = group * tiles + tile;
        float* partial = partial_row(partials, of_all, chunks, chunk, COLUMNS);
        for (unsigned slot = threadIdx.x; slot < COLUMNS; slot += PACKS * AT_ONCE) {
            float sum = 0.0f;
#pragma unroll
            for (unsigned row = 0; row < AT_ONCE; row++) sum += of_rows[row][slot];
            if (chunks == 1) {
                add(slot, sum);
            } else {
                partial[slot] = sum;
            }
        }
        if (chunks == 1) return;
        sum_over_blocks<PACKS * AT_ONCE>(partials, counters, of_all, chunks, chunk, COLUMNS, add);
    }
};

using Plain = Tile<TILE, TILE_ROWS, ROWS_AT_ONCE>;
using Few = Tile<FEW_TILE, FEW_ROWS, 1>;

// y = x + vector
template <class Part>
__device__ __forceinline__ void add_rows(Element* y, const Element* x, const float* vectors, unsigned rows, unsigned columns) {
    Part tile(rows, columns, aligned(y, x, vectors));
    float vector[PACK];
    tile.load_vector(vector, vectors + size_t(tile.group) * columns);
    tile.each_row([&](size_t first) {
        float values[PACK];
        tile.load_columns(values, x + first);
#pragma unroll
        for (unsigned i = 0; i < PACK; i++) values[i] += vector[i];
        tile.store_columns(y + first, values);
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_add_rows_forward(Element* y, const Element* x, const float* vectors, unsigned rows, unsigned columns) {
    add_rows<Plain>(y, x, vectors, rows, columns);
}

extern "C" __global__ void __launch_bounds__(FEW_THREADS)
    elementwise_add_rows_forward_few(Element* y, const Element* x, const float* vectors, unsigned rows, unsigned columns) {
    add_rows<Few>(y, x, vectors, rows, columns);
}

// The sum of dy over this thread's rows.
template <class Part>
__device__ __forceinline__ void sum_of_rows(float (&sums)[PACK], const Part& tile, const Element* dy) {
    tile.each_row([&](size_t first) {
        float values[PACK];
        tile.load_columns(values, dy + first);
#pragma unroll
        for (unsigned i = 0; i < PACK; i++) sums[i] += values[i];
    });
}

// dvectors += sum over rows of dy
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_add_rows_backward(float* dvectors, const Element* dy, unsigned rows, unsigned columns, float* partials,
                                  unsigned* counters) {
    Plain tile(rows, columns, aligned(dy));
    float sums[PACK] = {};
    sum_of_rows(sums, tile, dy);
    tile.add_sums(dvectors + size_t(tile.group) * columns, sums, partials, counters);
}

extern "C" __global__ void __launch_bounds__(FEW_THREADS)
    elementwise_add_rows_backward_few(float* dvectors, const Element* dy, unsigned rows, unsigned columns) {
    Few tile(rows, columns, aligned(dvectors, dy));
    float sums[PACK] = {};
    sum_of_rows(sums, tile, dy);
    tile.add_own_sums(dvectors + size_t(tile.group) * columns, sums);
}

// y = x + gate branch; the gates of groups are `stride` elements apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_gated_residual_forward(Element* y, const Element* x, const Element* branch, const float* gates, unsigned stride,
                                       unsigned rows, unsigned columns) {
    Plain tile(rows, columns, aligned(y, x, branch, gates));
    float gate[PACK];
    tile.load_vector(gate, gates + size_t(tile.group) * stride);
    tile.each_row([&](size_t first) {
        float values[PACK], branches[PACK];
        tile.load_columns(values, x + first);
        tile.load_columns(branches, branch + first);
#pragma unroll
        for (unsigned i = 0; i < PACK; i++) values[i] = fmaf(gate[i], branches[i], values[i]);
        tile.store_columns(y + first, values);
    });
}

// dbranch = gate dy; dgate += sum over rows of dy branch
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_gated_residual_backward(Element* dbranch, float* dgates, const Element* dy, const Element* branch,
                                        const float* gates, unsigned stride, unsigned rows, unsigned columns, float* partials,
                                        unsigned* counters) {
    Plain tile(rows, columns, aligned(dbranch, dy, branch, gates));
    float gate[PACK], sums[PACK] = {};
    tile.load_vector(gate, gates + size_t(tile.group) * stride);
    tile.each_row([&](size_t first) {
        float values[PACK], branches[PACK];
        tile.load_columns(values, dy + first);
        tile.load_columns(branches, branch + first);
#pragma unroll
        for (unsigned i = 0; i < PACK; i++) {
            sums[i] = fmaf(values[i], branches[i], sums[i]);
            values[i] *= gate[i];
        }
        tile.store_columns(dbranch + first, values);
    });
    tile.add_sums(dgates + size_t(tile.group) * stride, sums, partials, counters);
}
