// What both sets of attention kernels share: where a head lies, and how a kernel takes its arguments. A sequence attends to
// itself (qkv packed), or, CROSS, to another one (q and kv apart), of which each sample has its own length.
#pragma once

#include "common.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// A running maximum is raised only when it falls behind by more than this many powers of two: the sums stay exact (any offset
// gives the same softmax), 2^8 is far from overflow, and sums are almost never scaled again.
constexpr float MAXIMUM_SLACK = 8.0f;

// What the rows of a block are in backward. For dq they are queries (q and dout), and keys (k and v) stream past; for dk and dv
// they are keys, and queries stream past. Both are: scores = first rows x first stream^T, dp = second rows x second stream^T,
// then sums over the stream.
enum class Rows { QUERIES, KEYS };

struct AttentionShape {
    unsigned tokens, heads, head_dim;
    bool aligned; // rows begin at multiples of 16 bytes, and head_dim is a multiple of 16 bytes
};

// Hides from the compiler what it knows of a number: what depends on it is computed again, not kept in registers meanwhile.
__device__ __forceinline__ unsigned forgotten(unsigned x) {
    asm volatile("" : "+r"(x));
    return x;
}

// Indices, read once more where they are wanted: no register holds them meanwhile.
__device__ __forceinline__ unsigned thread_again() {
    unsigned x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
}

__device__ __forceinline__ unsigned block_again() {
    unsigned x;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(x));
    return x;
}

__device__ __forceinline__ unsigned head_again() {
    unsigned y;
    asm volatile("mov.u32 %0, %%ctaid.y;" : "=r"(y));
    return y;
}

__device__ __forceinline__ unsigned sample_again() {
    unsigned z;
    asm volatile("mov.u32 %0, %%ctaid.z;" : "=r"(z));
    return z;
}

__device__ __forceinline__ void forget(AttentionShape& shape) {
    shape.tokens = forgotten(shape.tokens);
    shape.heads = forgotten(shape.heads);
    shape.head_dim = forgotten(shape.head_dim);
}

// The rows of one head of one sample: row i begins at data + i * stride.
template <class T> struct HeadRows {
    T* data;
    unsigned stride;

    __device__ __forceinline__ T* row(unsigned i) const { return data + size_t(i) * stride; }
};

// This block's head of one part of x [batch, tokens, PARTS, heads, head_dim].
template <unsigned PARTS, class T>
__device__ __forceinline__ HeadRows<T> packed_head(T* x, unsigned part, const AttentionShape& shape) {
    unsigned width = shape.heads * shape.head_dim;
    size_t sample = size_t(sample_again()) * shape.tokens * PARTS * width;
    return {x + sample + part * width + head_again() * shape.head_dim, PARTS * width};
}

// This block's head of x [batch, tokens, heads, head_dim].
template <class T> __device__ __forceinline__ HeadRows<T> plain_head(T* x, const AttentionShape& shape) {
    return packed_head<1>(x, 0, shape);
}

// This block's head of the queries, in q or in qkv.
template <bool CROSS, class T> __device__ __forceinline__ HeadRows<T> query_head(T* q, const AttentionShape& shape) {
    return packed_head<CROSS ? 1 : 3>(q, 0, shape);
}

// This block's head of the keys (0) or values (1), in kv or in qkv.
template <bool CROSS, class T>
__device__ __forceinline__ HeadRows<T> key_head(T* kv, unsigned part, const AttentionShape& shape) {
    return packed_head<CROSS ? 2 : 3>(kv, part + !CROSS, shape);
}

// What is attended to: how many places there are for a sample's keys, and how many of them this block's sample fills.
struct Attended {
    unsigned keys;
    const float* lengths;
};

// The keys' side of a shape: all places, and those that are filled. A sequence that attends to itself has one shape.
template <bool CROSS> __device__ __forceinline__ AttentionShape all_keys(AttentionShape shape, const Attended& attended) {
    if (CROSS) shape.tokens = attended.keys;
    return shape;
}

template <bool CROSS> __device__ __forceinline__ AttentionShape filled_keys(AttentionShape shape, const Attended& attended) {
    if (CROSS) shape.tokens = unsigned(attended.lengths[sample_again()]);
    return shape;
}

// This block's head of x [batch, heads, tokens].
template <class T> __device__ __forceinline__ T* head_statistics(T* x, const AttentionShape& shape) {
    return x + (size_t(sample_again()) * shape.heads + head_again()) * shape.tokens;
}

// 2^x, flushing what is too small to matter beside the largest term, which is 2^-8 at least.
__device__ __forceinline__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
