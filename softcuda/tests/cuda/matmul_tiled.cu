// Matrix product with 16 x 16 tiles in shared memory, the textbook form.
//
// matmul_tiled   C[m,n] = sum over k of A[m,k] * B[k,n]; all row-major, any M, N, K (edges are padded with zeros)
//   grid (ceil(N/16), ceil(M/16)), block (16, 16)
//   (A[M*K], B[K*N], C[M*N], M, N, K)

constexpr int TILE = 16;

extern "C" __global__ void matmul_tiled(const float* A, const float* B, float* C, int M, int N, int K) {
    __shared__ float tile_a[TILE][TILE];
    __shared__ float tile_b[TILE][TILE];
    int row = blockIdx.y * TILE + threadIdx.y;
    int column = blockIdx.x * TILE + threadIdx.x;
    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += TILE) {
        int ka = k0 + threadIdx.x, kb = k0 + threadIdx.y;
        tile_a[threadIdx.y][threadIdx.x] = row < M && ka < K ? A[row * K + ka] : 0.0f;
        tile_b[threadIdx.y][threadIdx.x] = kb < K && column < N ? B[kb * N + column] : 0.0f;
        __syncthreads();
        for (int k = 0; k < TILE; k++) sum += tile_a[threadIdx.y][k] * tile_b[k][threadIdx.x];
        // Nobody may overwrite the tiles before everybody has read them.
        __syncthreads();
    }
    if (row < M && column < N) C[row * N + column] = sum;
}
