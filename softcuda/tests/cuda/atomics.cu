// Atomics of every kind. Every thread i < n applies x[i] to the cells; the results do not depend on the order, except
// where said.
//
// atomics_i32     cells (i32): 0 add, 1 sub, 2 min, 3 max, 4 and, 5 or, 6 xor
//   any grid, any block; (x[n] (i32), cells[7], n)
// atomics_u32     cells (u32): 0 add, 1 min, 2 max, 3 inc (modulo 7), 4 dec (modulo 7), 5 exch (any one x), 6 sum by CAS loop;
//                 old[i] = what add gave back (u32; all distinct when x > 0)
//   any grid, any block; (x[n] (u32), cells[7], old[n], n)
// atomics_u64     cells (u64): 0 add, 1 min, 2 max, 3 and, 4 or, 5 xor, 6 sum by CAS loop, 7 exch (any one x)
//   any grid, any block; (x[n] (u64), cells[8], n)
// atomics_i64     cells (i64): 0 min, 1 max
//   any grid, any block; (x[n] (i64), cells[2], n)
// atomics_float   f[0] += x (f32), d[0] += x (f64), h[0] += (x, 1) (half2), b[0] += x (bf16), m[0] = max(x) by CAS on bits
//   any grid, any block; (x[n] (f32), f[1], d[1], h[1] (f16x2), s[1] (f16), m[1], n); s[0] += x (f16)
// atomics_u16     c[0] = 16-bit CAS loop that adds 1 for each thread
//   any grid, any block; (c[2] (u16), n)
// atomics_scopes  cells (u32): add by block, add by system, and the same in shared memory of each block (cell 2 gets the
//                 blocks' sums); release/acquire forms by inline asm
//   any grid, any block; (x[n] (u32), cells[4], n)
// atomics_return  results not used: red instead of atom; cells (u32): add, max, or; and (f32) add
//   any grid, any block; (x[n] (u32), cells[3] (u32), f[1] (f32), n)

#include <cuda_fp16.h>

#define FOR_EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)

extern "C" __global__ void atomics_i32(const int* x, int* cells, int n) {
    FOR_EACH(i, n) {
        atomicAdd(&cells[0], x[i]);
        atomicSub(&cells[1], x[i]);
        atomicMin(&cells[2], x[i]);
        atomicMax(&cells[3], x[i]);
        atomicAnd(&cells[4], x[i]);
        atomicOr(&cells[5], x[i]);
        atomicXor(&cells[6], x[i]);
    }
}

extern "C" __global__ void atomics_u32(const unsigned* x, unsigned* cells, unsigned* old, int n) {
    FOR_EACH(i, n) {
        old[i] = atomicAdd(&cells[0], x[i]);
        atomicMin(&cells[1], x[i]);
        atomicMax(&cells[2], x[i]);
        atomicInc(&cells[3], 6u);
        atomicDec(&cells[4], 6u);
        atomicExch(&cells[5], x[i]);
        unsigned seen = *(volatile unsigned*)&cells[6], assumed;
        do {
            assumed = seen;
            seen = atomicCAS(&cells[6], assumed, assumed + x[i]);
        } while (seen != assumed);
    }
}

extern "C" __global__ void atomics_u64(const unsigned long long* x, unsigned long long* cells, int n) {
    FOR_EACH(i, n) {
        atomicAdd(&cells[0], x[i]);
        atomicMin(&cells[1], x[i]);
        atomicMax(&cells[2], x[i]);
        atomicAnd(&cells[3], x[i]);
        atomicOr(&cells[4], x[i]);
        atomicXor(&cells[5], x[i]);
        unsigned long long seen = atomicAdd(&cells[6], 0ull), assumed;
        do {
            assumed = seen;
            seen = atomicCAS(&cells[6], assumed, assumed + x[i]);
        } while (seen != assumed);
        atomicExch(&cells[7], x[i]);
    }
}

extern "C" __global__ void atomics_i64(const long long* x, long long* cells, int n) {
    FOR_EACH(i, n) {
        atomicMin(&cells[0], x[i]);
        atomicMax(&cells[1], x[i]);
    }
}

extern "C" __global__ void atomics_float(const float* x, float* f, double* d, __half2* h, __half* s, float* m, int n) {
    FOR_EACH(i, n) {
        atomicAdd(f, x[i]);
        atomicAdd(d, (double)x[i]);
        atomicAdd(h, __floats2half2_rn(x[i], 1.0f));
        atomicAdd(s, __float2half_rn(x[i]));
        int* bits = reinterpret_cast<int*>(m);
        int seen = atomicAdd(bits, 0), assumed;
        do {
            assumed = seen;
            seen = atomicCAS(bits, assumed, __float_as_int(fmaxf(x[i], __int_as_float(assumed))));
        } while (seen != assumed);
    }
}

extern "C" __global__ void atomics_u16(unsigned short* c, int n) {
    FOR_EACH(i, n) {
        unsigned short seen = *(volatile unsigned short*)c, assumed;
        do {
            assumed = seen;
            seen = atomicCAS(c, assumed, (unsigned short)(assumed + 1));
        } while (seen != assumed);
    }
}

extern "C" __global__ void atomics_scopes(const unsigned* x, unsigned* cells, int n) {
    __shared__ unsigned sum;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    FOR_EACH(i, n) {
        atomicAdd_system(&cells[0], x[i]);
        unsigned old;
        asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(&cells[1]), "r"(x[i]) : "memory");
        atomicAdd_block(&sum, x[i]);
        asm volatile("red.release.sys.global.add.u32 [%0], %1;" ::"l"(&cells[3]), "r"(old >= x[i] || old < x[i] ? 1u : 0u) : "memory");
    }
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd(&cells[2], sum);
}

extern "C" __global__ void atomics_return(const unsigned* x, unsigned* cells, float* f, int n) {
    FOR_EACH(i, n) {
        atomicAdd(&cells[0], x[i]);
        atomicMax(&cells[1], x[i]);
        atomicOr(&cells[2], x[i]);
        atomicAdd(f, (float)x[i]);
    }
}
