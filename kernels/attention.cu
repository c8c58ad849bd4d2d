// Attention.
#ifdef DIT_BF16
#include "attention_mma.cuh"
#else
#include "attention_simt.cuh"
#endif

// A template has no name that the host could load it by.
#define ATTENTION_KERNELS(D)                                                                                                 \
    HOST_CONSTANT(attention_forward_##D##_rows, ForwardTiles<D>::ROWS);                                                      \
    HOST_CONSTANT(attention_forward_##D##_shared_bytes, ForwardTiles<D>::SHARED_BYTES);                                      \
    HOST_CONSTANT(attention_backward_##D##_rows, BackwardTiles<D>::ROWS);                                                    \
    HOST_CONSTANT(attention_backward_##D##_shared_bytes, BackwardTiles<D>::SHARED_BYTES);                                    \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                          \
        attention_forward_##D(Element* out, float* lse, const Element* qkv, unsigned tokens, unsigned heads,                 \
                              unsigned head_dim, unsigned aligned, float scale) {                                            \
        attention_forward<D>(out, lse, qkv, {tokens, heads, head_dim, aligned != 0}, scale);                                 \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                          \
        attention_backward_queries_##D(Element* dqkv, float2* saved, const Element* dout, const Element* out,                 \
                                       const float* lse, const Element* qkv, unsigned tokens, unsigned heads,                \
                                       unsigned head_dim, unsigned aligned, float scale) {                                   \
        AttentionShape shape = {tokens, heads, head_dim, aligned != 0};                                                      \
        attention_backward<D, Rows::QUERIES>(dqkv, saved, dout, out, lse, qkv, shape, scale);                                \
    }                                                                                                                        \
    extern "C" __global__ void __launch_bounds__(ATTENTION_THREADS)                                                          \
        attention_backward_keys_##D(Element* dqkv, float2* saved, const Element* dout, const Element* out, const float* lse,  \
                                    const Element* qkv, unsigned tokens, unsigned heads, unsigned head_dim,                  \
                                    unsigned aligned, float scale) {                                                         \
        AttentionShape shape = {tokens, heads, head_dim, aligned != 0};                                                      \
        attention_backward<D, Rows::KEYS>(dqkv, saved, dout, out, lse, qkv, shape, scale);                                   \
    }

ATTENTION_KERNELS(32)
ATTENTION_KERNELS(64)
ATTENTION_KERNELS(96)
ATTENTION_KERNELS(128)
