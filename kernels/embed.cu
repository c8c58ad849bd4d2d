// sets: f32 bf16
//
// The sinusoidal step embedding, rows of a table by index, and means over tokens. All of it is small: a few rows a sample.
//
//   step    out[b] = concat(sin(t f), cos(t f)), f_i = max_period^(-i / half)
//   lookup  forward out[r, :] = table[indices[r], :]; backward dtable[indices[r], :] += dout[r, :], in the order of r
//   pool    forward out[b, :] = sum over n < lengths[b] of x[b, n, :] / lengths[b]; backward dx[b, n, :] = dout[b, :] / lengths[b]
//
// Layout: t [batch], out [batch, 2 half]; table [.., dim], out and dout [count, dim]; x and dx [batch, tokens, dim], lengths
// [batch]. Nothing is saved.
//
// Parallelism: a thread an element of the result; a lookup's backward, a block has the table row of the first r that names it, and adds all the others.

#include "common.cuh"

constexpr unsigned THREADS = 256;
// Where a block has elements of one row.
constexpr unsigned ROW_THREADS = 128;

// The angle reaches 1000 and more, where an f32 has four decimals left: it is computed in f64, as half turns, and only what is
// left of them after whole turns is rounded. sinpi and cospi need no table for large arguments.
extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_step(float* out, const float* t, unsigned half, float max_period) {
    __shared__ float step; // read once
    unsigned blocks = (half + ROW_THREADS - 1) / ROW_THREADS;
    size_t b = blockIdx.x / blocks, i = blockIdx.x % blocks * ROW_THREADS + threadIdx.x;
    if (threadIdx.x == 0) step = t[b];
    __syncthreads();
    if (i >= half) return;
    constexpr double HALF_TURNS = 0.31830988618379067; // 1 / pi
    double frequency = exp2(-log2(double(max_period)) * double(i) / double(half));
    double half_turns = double(step) * frequency * HALF_TURNS;
    float rest = float(half_turns - 2.0 * rint(0.5 * half_turns));
    out[b * 2 * half + i] = sinpif(rest);
    out[b * 2 * half + half + i] = cospif(rest);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embed_lookup_forward(Element* out, const float* table, const unsigned* indices, unsigned count, unsigned dim) {
    size_t number = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= size_t(count) * dim) return;
    store(&out[number], table[size_t(indices[number / dim]) * dim + number % dim]);
}

extern "C" __global__ void __launch_bounds__(ROW_THREADS)
    embed_lookup_backward(float* dtable, const Element* dout, const unsigned* indices, unsigned count, unsigned dim) {
    unsigned first = blockIdx.x, index = indices[first];
    bool named_before = false;
    for (unsigned r = threadIdx.x; r < first; r += ROW_THREADS) named_before |= indices[r] == index;
    if (__syncthreads_or(named_before)) return;
    for (unsigned column = threadIdx.x; column < dim; column += ROW_THREADS) {
        float sum = dtable[size_t(index) * dim + column];
        for (unsigned r = first; r < count; r++) {
            if (indices[r] == index) sum += load(&dout[size_t(r) * dim + column]);
        }
        dtable[size_t(index) * dim + column] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embed_pool_forward(float* out, const Element* x, const float* lengths, unsigned batch, unsigned tokens, unsigned dim) {
    size_t number = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= size_t(batch) * dim) return;
    size_t b = number / dim, column = number % dim;
    float length = lengths[b], sum = 0.0f;
    const Element* row = x + b * tokens * dim + column;
    for (unsigned n = 0; n < unsigned(length); n++, row += dim) sum += load(row);
    out[number] = sum / length;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    embed_pool_backward(Element* dx, unsigned add, const float* dout, const float* lengths, unsigned batch, unsigned tokens,
                        unsigned dim) {
    size_t number = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (number >= size_t(batch) * tokens * dim) return;
    size_t b = number / dim / tokens, n = number / dim % tokens;
    float length = lengths[b], gradient = n < unsigned(length) ? dout[b * dim + number % dim] / length : 0.0f;
    store(&dx[number], add ? load(&dx[number]) + gradient : gradient);
}
