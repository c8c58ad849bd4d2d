// Matrix products on tensor cores: mma.sync fed by ldmatrix from a double-buffered cp.async pipeline.
//
// C[m,n] (f32) = sum over k of A[m,k] * B[n,k]: A is [M,K] row-major, B is [N,K] row-major (weights, "out x in"), C is
// [M,N] row-major. M and N multiples of 64, pointers aligned to 16 bytes.
//
// gemm_f16    A, B f16, K a multiple of 32, mma.m16n8k16
// gemm_bf16   A, B bf16, K a multiple of 32, mma.m16n8k16
// gemm_tf32   A, B f32 (rounded to tf32 by cvt.rna), K a multiple of 16, mma.m16n8k8
//   all three: grid (N/64, M/64), block 128: four warps, a 32 x 32 quarter each
//   (A[M*K], B[N*K], C[M*N], M, N, K)

#include <cuda_bf16.h>
#include <cuda_fp16.h>

constexpr int BLOCK = 64, ROW_BYTES = 64, PITCH_BYTES = 80; // 16 bytes of padding: ldmatrix rows hit distinct banks

__device__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

__device__ void copy_16_bytes(void* to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

__device__ void commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING> __device__ void wait_group() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8 x 8 matrices of 16-bit cells (or 8 x 4 of 32-bit cells); lane l gives the address of row l % 8 of matrix l / 8.
__device__ void load_matrices(unsigned (&fragment)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(shared_address(row))
                 : "memory");
}

struct F16 {
    static __device__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static __device__ unsigned round(unsigned x) { return x; }
};

struct Bf16 {
    static __device__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static __device__ unsigned round(unsigned x) { return x; }
};

struct Tf32 {
    static __device__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    }
    static __device__ unsigned round(unsigned x) {
        unsigned rounded;
        asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(x)));
        return rounded;
    }
};

// A step of the main loop covers 64 bytes of each row: 32 cells of 16 bits or 16 of 32 bits, two mma deep. In bytes the
// fragments of m16n8k16 (16-bit cells) and of m16n8k8 (32-bit cells) lie alike, so one body serves all three.
template <typename Kind> __device__ void gemm(const unsigned char* A, const unsigned char* B, float* C, int N, int row_bytes) {
    __shared__ __align__(16) unsigned char tile_a[2][BLOCK][PITCH_BYTES];
    __shared__ __align__(16) unsigned char tile_b[2][BLOCK][PITCH_BYTES];
    int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    int m_warp = warp / 2 * 32, n_warp = warp % 2 * 32;
    const unsigned char* from_a = A + (size_t)blockIdx.y * BLOCK * row_bytes;
    const unsigned char* from_b = B + (size_t)blockIdx.x * BLOCK * row_bytes;

    auto load = [&](int stage, int offset) {
        for (int piece = thread; piece < BLOCK * (ROW_BYTES / 16); piece += 128) {
            int row = piece / 4, byte = piece % 4 * 16;
            copy_16_bytes(&tile_a[stage][row][byte], from_a + (size_t)row * row_bytes + offset + byte);
            copy_16_bytes(&tile_b[stage][row][byte], from_b + (size_t)row * row_bytes + offset + byte);
        }
        commit();
    };

    float sum[2][4][4] = {};
    int steps = row_bytes / ROW_BYTES;
    load(0, 0);
    for (int step = 0; step < steps; step++) {
        int stage = step % 2;
        if (step + 1 < steps) {
            load(stage ^ 1, (step + 1) * ROW_BYTES);
            wait_group<1>();
        } else {
            wait_group<0>();
        }
        // wait_group covers this thread's own copies only; the barrier covers everybody's.
        __syncthreads();
#pragma unroll
        for (int k = 0; k < ROW_BYTES; k += 32) {
            unsigned a[2][4], b[2][4];
#pragma unroll
            for (int i = 0; i < 2; i++) { // matrices: rows 0-7, rows 8-15, then the same 16 bytes further on
                load_matrices(a[i], &tile_a[stage][m_warp + 16 * i + lane % 16][k + lane / 16 * 16]);
                for (unsigned& x : a[i]) x = Kind::round(x);
            }
#pragma unroll
            for (int j = 0; j < 2; j++) { // matrices: columns 0-7 (both halves of k), columns 8-15 (both halves)
                load_matrices(b[j], &tile_b[stage][n_warp + 16 * j + lane / 16 * 8 + lane % 8][k + lane / 8 % 2 * 16]);
                for (unsigned& x : b[j]) x = Kind::round(x);
            }
#pragma unroll
            for (int i = 0; i < 2; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) Kind::multiply(sum[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
        }
        // The next round's copies overwrite this stage.
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int m = blockIdx.y * BLOCK + m_warp + 16 * i + lane / 4, n = blockIdx.x * BLOCK + n_warp + 8 * j + lane % 4 * 2;
            *reinterpret_cast<float2*>(&C[(size_t)m * N + n]) = make_float2(sum[i][j][0], sum[i][j][1]);
            *reinterpret_cast<float2*>(&C[(size_t)(m + 8) * N + n]) = make_float2(sum[i][j][2], sum[i][j][3]);
        }
}

extern "C" __global__ void __launch_bounds__(128) gemm_f16(const __half* A, const __half* B, float* C, int M, int N, int K) {
    gemm<F16>(reinterpret_cast<const unsigned char*>(A), reinterpret_cast<const unsigned char*>(B), C, N, 2 * K);
}

extern "C" __global__ void __launch_bounds__(128)
    gemm_bf16(const __nv_bfloat16* A, const __nv_bfloat16* B, float* C, int M, int N, int K) {
    gemm<Bf16>(reinterpret_cast<const unsigned char*>(A), reinterpret_cast<const unsigned char*>(B), C, N, 2 * K);
}

extern "C" __global__ void __launch_bounds__(128) gemm_tf32(const float* A, const float* B, float* C, int M, int N, int K) {
    gemm<Tf32>(reinterpret_cast<const unsigned char*>(A), reinterpret_cast<const unsigned char*>(B), C, N, 4 * K);
}
