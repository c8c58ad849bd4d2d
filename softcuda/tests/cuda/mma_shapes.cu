// One warp, one product: every shape of mma.sync that fits here, and ldmatrix in its other forms.
//
// mma_f16_f16       D[16,8] (f16) = A[16,16] * B[8,16]^T + C[16,8], all f16, row-major; f16 accumulators
// mma_m16n8k8_f16   D[16,8] (f32) = A[16,8] * B[8,8]^T + C (f32); A, B f16
// mma_s8            D[16,8] (i32) = A[16,32] * B[8,32]^T + C (i32); A, B i8
// mma_m8n8k4_f64    D[8,8] (f64) = A[8,4] * B[8,4]^T + C (f64)
//   all: grid 1, block 32; (A, B, C, D)
// ldmatrix_forms    out is [7, 32] (u32): x1, x2 (2 rows), x1.trans, x2.trans (2), and x4.trans's first register, of
//                   the 32 x 8 halves in[256] (32 rows of 16 bytes)
//   grid 1, block 32; (in[256] (u16), out[7*32])

__device__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// In every fragment below: group = lane / 4 is the row (of A, C, D) or the column (of B), t = lane % 4 the place in it.
extern "C" __global__ void mma_f16_f16(const unsigned* A, const unsigned* B, const unsigned* C, unsigned* D) {
    int group = threadIdx.x / 4, t = threadIdx.x % 4;
    const unsigned *a = A + group * 8 + t, *b = B + group * 8 + t, *c = C + group * 4 + t;
    unsigned d0, d1;
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%8, %9};"
                 : "=r"(d0), "=r"(d1)
                 : "r"(a[0]), "r"(a[64]), "r"(a[4]), "r"(a[68]), "r"(b[0]), "r"(b[4]), "r"(c[0]), "r"(c[32]));
    D[group * 4 + t] = d0;
    D[group * 4 + t + 32] = d1;
}

extern "C" __global__ void mma_m16n8k8_f16(const unsigned* A, const unsigned* B, const float* C, float* D) {
    int group = threadIdx.x / 4, t = threadIdx.x % 4;
    const float* c = C + group * 8 + 2 * t;
    float* d = D + group * 8 + 2 * t;
    float d0, d1, d2, d3;
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
                 : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)
                 : "r"(A[group * 4 + t]), "r"(A[group * 4 + t + 32]), "r"(B[group * 4 + t]), "f"(c[0]), "f"(c[1]), "f"(c[64]), "f"(c[65]));
    d[0] = d0, d[1] = d1, d[64] = d2, d[65] = d3;
}

extern "C" __global__ void mma_s8(const unsigned* A, const unsigned* B, const int* C, int* D) {
    int group = threadIdx.x / 4, t = threadIdx.x % 4;
    const unsigned *a = A + group * 8 + t, *b = B + group * 8 + t;
    const int* c = C + group * 8 + 2 * t;
    int* d = D + group * 8 + 2 * t;
    int d0, d1, d2, d3;
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
                 : "=r"(d0), "=r"(d1), "=r"(d2), "=r"(d3)
                 : "r"(a[0]), "r"(a[64]), "r"(a[4]), "r"(a[68]), "r"(b[0]), "r"(b[4]), "r"(c[0]), "r"(c[1]), "r"(c[64]), "r"(c[65]));
    d[0] = d0, d[1] = d1, d[64] = d2, d[65] = d3;
}

extern "C" __global__ void mma_m8n8k4_f64(const double* A, const double* B, const double* C, double* D) {
    int group = threadIdx.x / 4, t = threadIdx.x % 4, cell = group * 8 + 2 * t;
    double d0, d1;
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%4, %5};"
                 : "=d"(d0), "=d"(d1)
                 : "d"(A[group * 4 + t]), "d"(B[group * 4 + t]), "d"(C[cell]), "d"(C[cell + 1]));
    D[cell] = d0, D[cell + 1] = d1;
}

extern "C" __global__ void ldmatrix_forms(const uint4* in, unsigned* out) {
    __shared__ uint4 rows[32];
    int lane = threadIdx.x;
    rows[lane] = in[lane];
    __syncwarp();
    unsigned address = shared_address(&rows[lane]), r[4];
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
    out[0 * 32 + lane] = r[0];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
    out[1 * 32 + lane] = r[0];
    out[2 * 32 + lane] = r[1];
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
    out[3 * 32 + lane] = r[0];
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(address) : "memory");
    out[4 * 32 + lane] = r[0];
    out[5 * 32 + lane] = r[1];
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
    out[6 * 32 + lane] = r[0];
}
