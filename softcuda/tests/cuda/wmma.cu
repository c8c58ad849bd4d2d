// Tensor cores through nvcuda::wmma, which becomes wmma.load, wmma.mma and wmma.store.
//
// wmma_f16   C[M,N] (f32) = A[M,K] (f16, row-major) * B[K,N] (f16, row-major); M, N, K multiples of 16; one warp a tile
//   grid (N/16, M/16), block 32; (A[M*K], B[K*N], C[M*N], M, N, K)
// wmma_f16_transposed   the same with B given as [N,K] (column-major) and f16 accumulators and output
//   grid (N/16, M/16), block 32; (A[M*K], B[N*K], C[M*N] (f16), M, N, K)

#include <cuda_fp16.h>
#include <mma.h>

using namespace nvcuda;

extern "C" __global__ void wmma_f16(const __half* A, const __half* B, float* C, int M, int N, int K) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int k = 0; k < K; k += 16) {
        wmma::load_matrix_sync(a, A + (size_t)blockIdx.y * 16 * K + k, K);
        wmma::load_matrix_sync(b, B + (size_t)k * N + blockIdx.x * 16, N);
        wmma::mma_sync(sum, a, b, sum);
    }
    wmma::store_matrix_sync(C + (size_t)blockIdx.y * 16 * N + blockIdx.x * 16, sum, N, wmma::mem_row_major);
}

extern "C" __global__ void wmma_f16_transposed(const __half* A, const __half* B, __half* C, int M, int N, int K) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> a;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::col_major> b;
    wmma::fragment<wmma::accumulator, 16, 16, 16, __half> sum;
    wmma::fill_fragment(sum, __float2half(0.0f));
    for (int k = 0; k < K; k += 16) {
        wmma::load_matrix_sync(a, A + (size_t)blockIdx.y * 16 * K + k, K);
        wmma::load_matrix_sync(b, B + (size_t)blockIdx.x * 16 * K + k, K);
        wmma::mma_sync(sum, a, b, sum);
    }
    wmma::store_matrix_sync(C + (size_t)blockIdx.y * 16 * N + blockIdx.x * 16, sum, N, wmma::mem_row_major);
}
