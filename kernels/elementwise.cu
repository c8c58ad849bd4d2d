// sets: f32 bf16
//
// Fills, sums, activations, residuals and vectors added to rows: one pass over memory each, nothing saved.
//
// Layout: dense arrays of n elements, or [groups, rows, columns] with a vector [columns] for each group: a position embedding
// is one group whose rows are the samples, all their tokens side by side; a step embedding or a gate is a group a sample, whose
// rows are the tokens.
//
// Parallelism: a thread has one pack of 16 bytes of each array, or one pack's columns of some rows of a group, whose vector it
// reads once. Where an address is not a multiple of 16, or at the end, it goes element by element. Sums over rows are made in
// registers, then over the rows of a block, then over the blocks of a group (sum_over_blocks).

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

// Columns of a tile, in packs; the other threads of the block take other rows of it.
constexpr unsigned TILE_PACKS = 16;
constexpr unsigned TILE = TILE_PACKS * Pack<Element>::COUNT;
constexpr unsigned ROWS_AT_ONCE = THREADS / TILE_PACKS;
// Rows of a tile.
constexpr unsigned TILE_ROWS = 8 * ROWS_AT_ONCE;
HOST_CONSTANT(elementwise_tile_columns, TILE);
HOST_CONSTANT(elementwise_tile_rows, TILE_ROWS);
HOST_CONSTANT(elementwise_set, SUM_SET);

// A block's part of an array [groups, rows, columns]: TILE columns of TILE_ROWS rows of a group; a thread has a pack's columns.
struct Tile {
    static constexpr unsigned COUNT = Pack<Element>::COUNT;
    unsigned rows, columns, chunks, group, chunk, tiles, tile;
    bool packed;

    __device__ __forceinline__ Tile(unsigned rows, unsigned columns, bool aligned) : rows(rows), columns(columns) {
        chunks = (rows + TILE_ROWS - 1) / TILE_ROWS;
        tiles = (columns + TILE - 1) / TILE;
        tile = blockIdx.x % tiles;
        chunk = blockIdx.x / tiles % chunks;
        group = blockIdx.x / tiles / chunks;
        packed = aligned && columns % COUNT == 0;
    }

    // This thread's first column.
    __device__ __forceinline__ unsigned column() const { return tile * TILE + threadIdx.x % TILE_PACKS * COUNT; }

    // COUNT neighbours, the first of which is in this thread's first column; 0 behind the last column.
    template <class T> __device__ __forceinline__ void load_columns(float (&to)[COUNT], const T* from) const {
        if (packed && column() < columns) {
            load_some<COUNT>(to, from);
        } else {
#pragma unroll
            for (unsigned i = 0; i < COUNT; i++) to[i] = column() + i < columns ? load(&from[i]) : 0.0f;
        }
    }

    __device__ __forceinline__ void store_columns(Element* to, const float (&from)[COUNT]) const {
        if (packed && column() < columns) {
            store_some<COUNT>(to, from);
        } else {
#pragma unroll
            for (unsigned i = 0; i < COUNT; i++) {
                if (column() + i < columns) store(&to[i], from[i]);
            }
        }
    }

    // body(index of the first element) for each of this thread's rows.
    template <class Body> __device__ __forceinline__ void each_row(Body body) const {
        unsigned end = min(rows, (chunk + 1) * TILE_ROWS);
        for (unsigned row = chunk * TILE_ROWS + threadIdx.x / TILE_PACKS; row < end; row += ROWS_AT_ONCE) {
            body((size_t(group) * rows + row) * columns + column());
        }
    }

    // to[column] += the sum over all rows of the group of what its threads found.
    __device__ __forceinline__ void add_sums(float* to, const float (&sums)[COUNT], float* partials, unsigned* counters) const {
        // Slots are in the order of registers; half a warp is one row, and the other half finds the other half of the banks.
        __shared__ float of_rows[ROWS_AT_ONCE][TILE + TILE_PACKS];
        unsigned lane = threadIdx.x % TILE_PACKS, of_all = group * tiles + tile;
#pragma unroll
        for (unsigned i = 0; i < COUNT; i++) of_rows[threadIdx.x / TILE_PACKS][i * TILE_PACKS + lane] = sums[i];
        __syncthreads();
        float* partial = partial_row(partials, of_all, chunks, chunk, TILE);
        for (unsigned slot = threadIdx.x; slot < TILE; slot += THREADS) {
            float sum = 0.0f;
#pragma unroll
            for (unsigned row = 0; row < ROWS_AT_ONCE; row++) sum += of_rows[row][slot];
            partial[slot] = sum;
        }
        sum_over_blocks<THREADS>(partials, counters, of_all, chunks, chunk, TILE, [&](unsigned slot, float sum) {
            unsigned column = tile * TILE + slot % TILE_PACKS * COUNT + slot / TILE_PACKS;
            if (column < columns) to[column] += sum;
        });
    }
};

// y = x + vector
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_add_rows_forward(Element* y, const Element* x, const float* vectors, unsigned rows, unsigned columns) {
    Tile tile(rows, columns, aligned(y, x, vectors));
    float vector[Tile::COUNT];
    tile.load_columns(vector, vectors + size_t(tile.group) * columns + tile.column());
    tile.each_row([&](size_t first) {
        float values[Tile::COUNT];
        tile.load_columns(values, x + first);
#pragma unroll
        for (unsigned i = 0; i < Tile::COUNT; i++) values[i] += vector[i];
        tile.store_columns(y + first, values);
    });
}

// dvectors += sum over rows of dy
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_add_rows_backward(float* dvectors, const Element* dy, unsigned rows, unsigned columns, float* partials,
                                  unsigned* counters) {
    Tile tile(rows, columns, aligned(dy));
    float sums[Tile::COUNT] = {};
    tile.each_row([&](size_t first) {
        float values[Tile::COUNT];
        tile.load_columns(values, dy + first);
#pragma unroll
        for (unsigned i = 0; i < Tile::COUNT; i++) sums[i] += values[i];
    });
    tile.add_sums(dvectors + size_t(tile.group) * columns, sums, partials, counters);
}

// y = x + gate branch; the gates of groups are `stride` elements apart.
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_gated_residual_forward(Element* y, const Element* x, const Element* branch, const float* gates, unsigned stride,
                                       unsigned rows, unsigned columns) {
    Tile tile(rows, columns, aligned(y, x, branch, gates));
    float gate[Tile::COUNT];
    tile.load_columns(gate, gates + size_t(tile.group) * stride + tile.column());
    tile.each_row([&](size_t first) {
        float values[Tile::COUNT], branches[Tile::COUNT];
        tile.load_columns(values, x + first);
        tile.load_columns(branches, branch + first);
#pragma unroll
        for (unsigned i = 0; i < Tile::COUNT; i++) values[i] = fmaf(gate[i], branches[i], values[i]);
        tile.store_columns(y + first, values);
    });
}

// dbranch = gate dy; dgate += sum over rows of dy branch
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_gated_residual_backward(Element* dbranch, float* dgates, const Element* dy, const Element* branch,
                                        const float* gates, unsigned stride, unsigned rows, unsigned columns, float* partials,
                                        unsigned* counters) {
    Tile tile(rows, columns, aligned(dbranch, dy, branch, gates));
    float gate[Tile::COUNT], sums[Tile::COUNT] = {};
    tile.load_columns(gate, gates + size_t(tile.group) * stride + tile.column());
    tile.each_row([&](size_t first) {
        float values[Tile::COUNT], branches[Tile::COUNT];
        tile.load_columns(values, dy + first);
        tile.load_columns(branches, branch + first);
#pragma unroll
        for (unsigned i = 0; i < Tile::COUNT; i++) {
            sums[i] = fmaf(values[i], branches[i], sums[i]);
            values[i] *= gate[i];
        }
        tile.store_columns(dbranch + first, values);
    });
    tile.add_sums(dgates + size_t(tile.group) * stride, sums, partials, counters);
}
