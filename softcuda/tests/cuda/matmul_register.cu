// Matrix product with register tiles, float4 loads and double-buffered shared memory.
//
// matmul_register   C[m,n] = sum over k of A[m,k] * B[k,n]; all row-major
//   M and N multiples of 64, K a multiple of 16; pointers aligned to 16 bytes
//   grid (N/64, M/64), block 256; a thread owns 4 x 4 cells of C
//   (A[M*K], B[K*N], C[M*N], M, N, K)

constexpr int BLOCK_M = 64, BLOCK_N = 64, BLOCK_K = 16;

extern "C" __global__ void __launch_bounds__(256)
    matmul_register(const float* __restrict__ A, const float* __restrict__ B, float* __restrict__ C, int M, int N, int K) {
    // A is kept transposed, so that the four rows of a thread are one float4.
    __shared__ __align__(16) float tile_a[2][BLOCK_K][BLOCK_M];
    __shared__ __align__(16) float tile_b[2][BLOCK_K][BLOCK_N];

    int thread = threadIdx.x;
    int row_a = thread / 4, column_a = thread % 4 * 4;   // 64 rows of 16: one float4 a thread
    int row_b = thread / 16, column_b = thread % 16 * 4; // 16 rows of 64
    const float* from_a = A + (blockIdx.y * BLOCK_M + row_a) * K + column_a;
    const float* from_b = B + row_b * N + blockIdx.x * BLOCK_N + column_b;
    int m0 = thread / 16 * 4, n0 = thread % 16 * 4;

    float sum[4][4] = {};
    float4 next_a = *reinterpret_cast<const float4*>(from_a);
    float4 next_b = *reinterpret_cast<const float4*>(from_b);
    int stage = 0;
    for (int k0 = 0; k0 < K; k0 += BLOCK_K) {
        tile_a[stage][column_a + 0][row_a] = next_a.x;
        tile_a[stage][column_a + 1][row_a] = next_a.y;
        tile_a[stage][column_a + 2][row_a] = next_a.z;
        tile_a[stage][column_a + 3][row_a] = next_a.w;
        *reinterpret_cast<float4*>(&tile_b[stage][row_b][column_b]) = next_b;
        // One barrier a step is enough: the other stage was last read before the previous barrier.
        __syncthreads();
        if (k0 + BLOCK_K < K) {
            next_a = *reinterpret_cast<const float4*>(from_a + k0 + BLOCK_K);
            next_b = *reinterpret_cast<const float4*>(from_b + (k0 + BLOCK_K) * N);
        }
#pragma unroll
        for (int k = 0; k < BLOCK_K; k++) {
            float4 a = *reinterpret_cast<const float4*>(&tile_a[stage][k][m0]);
            float4 b = *reinterpret_cast<const float4*>(&tile_b[stage][k][n0]);
            float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += as[i] * bs[j];
        }
        stage ^= 1;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float* to = C + (blockIdx.y * BLOCK_M + m0 + i) * N + blockIdx.x * BLOCK_N + n0;
        *reinterpret_cast<float4*>(to) = make_float4(sum[i][0], sum[i][1], sum[i][2], sum[i][3]);
    }
}
