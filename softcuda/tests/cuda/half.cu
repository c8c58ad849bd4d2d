// Half precision.
//
// half_arithmetic   11 rows of half: a+b, a-b, a*b, fma(a,b,a), a/b, max, min, -a, |a|, sqrt|a|, exp2(a)
//   any grid, any block; (a[n] (f16), b[n] (f16), out[11*n] (f16), n)
// half2_arithmetic  5 rows of half2: a+b, a*b, fma(a,b,a), max, fma with relu; n counts pairs
//   any grid, any block; (a[n] (f16x2), b[n] (f16x2), out[5*n] (f16x2), n)
// half_convert      out[i] = float(half(x[i])) rounded to nearest, towards zero, up, down: 4 rows of f32
//   any grid, any block; (x[n] (f32), out[4*n] (f32), n)
// half_compare      out[i]: bit 0 a<b, 1 a<=b, 2 a==b, 3 a!=b, 4 a>b, 5 a>=b, 6 isnan(a), 7 isinf(a)
//   any grid, any block; (a[n] (f16), b[n] (f16), out[n] (i32), n)
// half_integers     4 rows of i32: half to int (rn, rz), half bits of int to half (rn), half to u16 (rz)
//   any grid, any block; (a[n] (f16), k[n] (i32), out[4*n] (i32), n)

#include <cuda_fp16.h>

#define FOR_EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)

extern "C" __global__ void half_arithmetic(const __half* a, const __half* b, __half* out, int n) {
    FOR_EACH(i, n) {
        __half x = a[i], y = b[i];
        out[0 * n + i] = __hadd(x, y);
        out[1 * n + i] = __hsub(x, y);
        out[2 * n + i] = __hmul(x, y);
        out[3 * n + i] = __hfma(x, y, x);
        out[4 * n + i] = __hdiv(x, y);
        out[5 * n + i] = __hmax(x, y);
        out[6 * n + i] = __hmin(x, y);
        out[7 * n + i] = __hneg(x);
        out[8 * n + i] = __habs(x);
        out[9 * n + i] = hsqrt(__habs(x));
        out[10 * n + i] = hexp2(x);
    }
}

extern "C" __global__ void half2_arithmetic(const __half2* a, const __half2* b, __half2* out, int n) {
    FOR_EACH(i, n) {
        __half2 x = a[i], y = b[i];
        out[0 * n + i] = __hadd2(x, y);
        out[1 * n + i] = __hmul2(x, y);
        out[2 * n + i] = __hfma2(x, y, x);
        out[3 * n + i] = __hmax2(x, y);
        out[4 * n + i] = __hfma2_relu(x, y, x);
    }
}

extern "C" __global__ void half_convert(const float* x, float* out, int n) {
    FOR_EACH(i, n) {
        out[0 * n + i] = __half2float(__float2half_rn(x[i]));
        out[1 * n + i] = __half2float(__float2half_rz(x[i]));
        out[2 * n + i] = __half2float(__float2half_ru(x[i]));
        out[3 * n + i] = __half2float(__float2half_rd(x[i]));
    }
}

extern "C" __global__ void half_compare(const __half* a, const __half* b, int* out, int n) {
    FOR_EACH(i, n) {
        __half x = a[i], y = b[i];
        out[i] = __hlt(x, y) | __hle(x, y) << 1 | __heq(x, y) << 2 | __hne(x, y) << 3 | __hgt(x, y) << 4 |
                 __hge(x, y) << 5 | __hisnan(x) << 6 | (__hisinf(x) != 0) << 7;
    }
}

extern "C" __global__ void half_integers(const __half* a, const int* k, int* out, int n) {
    FOR_EACH(i, n) {
        out[0 * n + i] = __half2int_rn(a[i]);
        out[1 * n + i] = __half2int_rz(a[i]);
        out[2 * n + i] = __half_as_ushort(__int2half_rn(k[i]));
        out[3 * n + i] = __half2ushort_rz(a[i]);
    }
}
