// bfloat16.
//
// bf16_arithmetic   6 rows of bf16: a+b, a*b, fma(a,b,a), max, min, a/b
//   any grid, any block; (a[n] (bf16), b[n] (bf16), out[6*n] (bf16), n)
// bf16x2_arithmetic 4 rows of bf16x2: a+b, a*b, fma(a,b,a), |a|; n counts pairs
//   any grid, any block; (a[n] (bf16x2), b[n] (bf16x2), out[4*n] (bf16x2), n)
// bf16_convert      2 rows of f32: float(bf16(x)) to nearest and towards zero
//   any grid, any block; (x[n] (f32), out[2*n] (f32), n)
// bf16_pack         out[i] = bf16x2 of (x[2i] low, x[2i+1] high) by cvt.rn.bf16x2.f32; n counts pairs
//   any grid, any block; (x[2*n] (f32), out[n] (u32), n)

#include <cuda_bf16.h>

#define FOR_EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)

extern "C" __global__ void bf16_arithmetic(const __nv_bfloat16* a, const __nv_bfloat16* b, __nv_bfloat16* out, int n) {
    FOR_EACH(i, n) {
        __nv_bfloat16 x = a[i], y = b[i];
        out[0 * n + i] = __hadd(x, y);
        out[1 * n + i] = __hmul(x, y);
        out[2 * n + i] = __hfma(x, y, x);
        out[3 * n + i] = __hmax(x, y);
        out[4 * n + i] = __hmin(x, y);
        out[5 * n + i] = __hdiv(x, y);
    }
}

extern "C" __global__ void bf16x2_arithmetic(const __nv_bfloat162* a, const __nv_bfloat162* b, __nv_bfloat162* out, int n) {
    FOR_EACH(i, n) {
        __nv_bfloat162 x = a[i], y = b[i];
        out[0 * n + i] = __hadd2(x, y);
        out[1 * n + i] = __hmul2(x, y);
        out[2 * n + i] = __hfma2(x, y, x);
        out[3 * n + i] = __habs2(x);
    }
}

extern "C" __global__ void bf16_convert(const float* x, float* out, int n) {
    FOR_EACH(i, n) {
        out[0 * n + i] = __bfloat162float(__float2bfloat16_rn(x[i]));
        out[1 * n + i] = __bfloat162float(__float2bfloat16_rz(x[i]));
    }
}

extern "C" __global__ void bf16_pack(const float* x, unsigned* out, int n) {
    FOR_EACH(i, n) {
        unsigned packed;
        // The first source is the upper half.
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(x[2 * i + 1]), "f"(x[2 * i]));
        out[i] = packed;
    }
}
