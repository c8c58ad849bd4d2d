// arch: compute_75
// The tensor core of sm_75: no cp.async, k is 8.
//
// mma_turing   D[16,8] (f32) = A[16,8] * B[8,8]^T + C (f32); A, B f16 row-major, A through ldmatrix
//   grid 1, block 32; (A[128] (f16), B[64] (f16), C[128], D[128])

extern "C" __global__ void mma_turing(const unsigned* A, const unsigned* B, const float* C, float* D) {
    __shared__ uint4 rows[16];
    int lane = threadIdx.x, group = lane / 4, t = lane % 4, cell = group * 8 + 2 * t;
    if (lane < 16) rows[lane] = reinterpret_cast<const uint4*>(A)[lane];
    __syncwarp();
    unsigned a0, a1;
    // Lanes 0-15 give the addresses; the others' are not used, but must be there.
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(a0), "=r"(a1)
                 : "r"((unsigned)__cvta_generic_to_shared(&rows[lane % 16]))
                 : "memory");
    float d0, d1, d2, d3;
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%7, %8, %9, %10};"
                 : "=f"(d0), "=f"(d1), "=f"(d2), "=f"(d3)
                 : "r"(a0), "r"(a1), "r"(B[group * 4 + t]), "f"(C[cell]), "f"(C[cell + 1]), "f"(C[cell + 64]), "f"(C[cell + 65]));
    D[cell] = d0, D[cell + 1] = d1, D[cell + 64] = d2, D[cell + 65] = d3;
}
