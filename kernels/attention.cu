// sets: f32 bf16
//
// Attention of every token to every token of its sample, or to those of another sequence, head by head, without the scores ever
// being in global memory.
//
//   s = scale q k^T, p = softmax(s), out = p v, lse = log sum exp(s), scale = 1 / sqrt(head_dim)
//   dp = dout v^T, delta = sum(dout out), ds = p (dp - delta), with p = exp(s - lse)
//   dq = scale ds k, dk = scale ds^T q, dv = p^T dout
//
// Layout: qkv and dqkv [batch, tokens, 3, heads, head_dim], out and dout [batch, tokens, heads, head_dim], lse
// [batch, heads, tokens]. Another sequence: q [batch, queries, heads, head_dim], kv [batch, keys, 2, heads, head_dim], lengths
// [batch] (of the keys, the rest is padding). Any number of tokens; a kernel named for D serves every head_dim up to D.
//
// Parallelism: a block has some rows of a head, blockIdx = (rows, head, sample), and streams the head's other side through
// shared memory. Forward runs the softmax online (Milakov and Gimelshein 2018; Dao et al. 2022): sums relative to a running
// maximum. Backward computes the scores again, once for dq (rows are queries) and once for dk and dv (rows are keys): two of
// seven products more than with one kernel that adds dq up in global memory, and no atomics, so the bits are always the same.
//
// Saved for backward: out and lse. The queries' kernel leaves (log2(e) lse, delta) [batch, heads, tokens] for the keys'.

#ifdef DIT_BF16
#include "attention_mma_backward.cuh"
#include "attention_mma_forward.cuh"
#else
#include "attention_simt.cuh"
#endif

template <unsigned D> using QueriesTiles = BackwardTiles<D, Rows::QUERIES>;
template <unsigned D> using KeysTiles = BackwardTiles<D, Rows::KEYS>;

// A template has no name that the host could load it by.
#define ATTENTION_KERNELS(D)                                                                                                 \
    HOST_CONSTANT(attention_forward_##D##_rows, ForwardTiles<D>::ROWS);                                                      \
    HOST_CONSTANT(attention_forward_##D##_shared_bytes, ForwardTiles<D>::SHARED_BYTES);                                      \
    HOST_CONSTANT(attention_backward_queries_##D##_rows, QueriesTiles<D>::ROWS);                                             \
    HOST_CONSTANT(attention_backward_queries_##D##_shared_bytes, QueriesTiles<D>::SHARED_BYTES);                             \
    HOST_CONSTANT(attention_backward_keys_##D##_rows, KeysTiles<D>::ROWS);                                                   \
    HOST_CONSTANT(attention_backward_keys_##D##_shared_bytes, KeysTiles<D>::SHARED_BYTES);                                   \
    HOST_CONSTANT(attention_cross_forward_##D##_shared_bytes, ForwardTiles<D>::SHARED_BYTES);                                \
    HOST_CONSTANT(attention_cross_backward_queries_##D##_shared_bytes, QueriesTiles<D>::SHARED_BYTES);                       \
    HOST_CONSTANT(attention_cross_backward_keys_##D##_shared_bytes, KeysTiles<D>::SHARED_BYTES);                             \
                                                                                                                             \
    extern "C" __global__ void __launch_bounds__(ForwardTiles<D>::THREADS, ForwardTiles<D>::BLOCKS_PER_SM)                   \
        attention_forward_##D(Element* out, float* lse, const Element* qkv, unsigned tokens, unsigned heads,                 \
                              unsigned head_dim, unsigned aligned, float scale) {                                            \
        AttentionShape shape = {tokens, heads, head_dim, aligned != 0};                                                      \
        attention_forward<D, false>(out, lse, qkv, qkv, shape, {}, scale);                                                   \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(QueriesTiles<D>::THREADS, QueriesTiles<D>::BLOCKS_PER_SM)                   \
        attention_backward_queries_##D(Element* dqkv, float2* saved, const Element* dout, const Element* out,                \
                                       const float* lse, const Element* qkv, unsigned tokens, unsigned heads,                \
                                       unsigned head_dim, unsigned aligned, float scale) {                                   \
        AttentionShape shape = {tokens, heads, head_dim, aligned != 0};                                                      \
        attention_backward<D, Rows::QUERIES, false>(dqkv, saved, dout, out, lse, qkv, qkv, shape, {}, scale);                \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(KeysTiles<D>::THREADS, KeysTiles<D>::BLOCKS_PER_SM)                         \
        attention_backward_keys_##D(Element* dqkv, float2* saved, const Element* dout, const Element* out, const float* lse, \
                                    const Element* qkv, unsigned tokens, unsigned heads, unsigned head_dim,                  \
                                    unsigned aligned, float scale) {                                                         \
        AttentionShape shape = {tokens, heads, head_dim, aligned != 0};                                                      \
        attention_backward<D, Rows::KEYS, false>(dqkv, saved, dout, out, lse, qkv, qkv, shape, {}, scale);                   \
    }                                                                                                                        \
                                                                                                                             \
    extern "C" __global__ void __launch_bounds__(ForwardTiles<D>::THREADS, ForwardTiles<D>::BLOCKS_PER_SM)                   \
        attention_cross_forward_##D(Element* out, float* lse, const Element* q, const Element* kv, const float* lengths,     \
                                    unsigned queries, unsigned keys, unsigned heads, unsigned head_dim, unsigned aligned,    \
                                    float scale) {                                                                           \
        AttentionShape shape = {queries, heads, head_dim, aligned != 0};                                                     \
        attention_forward<D, true>(out, lse, q, kv, shape, {keys, lengths}, scale);                                          \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(QueriesTiles<D>::THREADS, QueriesTiles<D>::BLOCKS_PER_SM)                   \
        attention_cross_backward_queries_##D(Element* dq, float2* saved, const Element* dout, const Element* out,            \
                                             const float* lse, const Element* q, const Element* kv, const float* lengths,    \
                                             unsigned queries, unsigned keys, unsigned heads, unsigned head_dim,             \
                                             unsigned aligned, float scale) {                                                \
        AttentionShape shape = {queries, heads, head_dim, aligned != 0};                                                     \
        attention_backward<D, Rows::QUERIES, true>(dq, saved, dout, out, lse, q, kv, shape, {keys, lengths}, scale);         \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(KeysTiles<D>::THREADS, KeysTiles<D>::BLOCKS_PER_SM)                         \
        attention_cross_backward_keys_##D(Element* dkv, float2* saved, const Element* dout, const Element* out,              \
                                          const float* lse, const Element* q, const Element* kv, const float* lengths,       \
                                          unsigned queries, unsigned keys, unsigned heads, unsigned head_dim,                \
                                          unsigned aligned, float scale) {                                                   \
        AttentionShape shape = {queries, heads, head_dim, aligned != 0};                                                     \
        attention_backward<D, Rows::KEYS, true>(dkv, saved, dout, out, lse, q, kv, shape, {keys, lengths}, scale);           \
    }

ATTENTION_KERNELS(32)
ATTENTION_KERNELS(64)
ATTENTION_KERNELS(96)
ATTENTION_KERNELS(128)
