// Integer arithmetic and bit intrinsics. Every kernel writes one row a function: out is [rows, n] row-major.
//
// arithmetic_64   10 rows (i64): a*b, a/b, a%b, unsigned a/b, unsigned a%b, __mul64hi, __umul64hi, a>>(b&63),
//                 unsigned a>>(b&63), a<<(b&63); b must not be 0
//   any grid, any block; (a[n] (i64), b[n] (i64), out[10*n] (i64), n)
// arithmetic_32   10 rows (i32): a/b, a%b, unsigned a/b, unsigned a%b, __mulhi, __umulhi, __mul24, __umul24, __hadd,
//                 __sad(a, b, 1); b must not be 0
//   any grid, any block; (a[n] (i32), b[n] (i32), out[10*n] (i32), n)
// bits            16 rows (u32): popc a, clz a, brev a, ffs a, funnelshift_l(a, b, b), funnelshift_r(a, b, b),
//                 byte_perm(a, b, 0x6420), byte_perm(a, b, b), dp4a signed (a, b, 7), dp4a unsigned (a, b, 7), dp2a_lo
//                 (a, b, 7) signed, bit field extract a[b&31 .. +9] unsigned, the same signed, bit field insert of a
//                 into b at 5, width 11, vabsdiff4, lop3 (majority of a, b, 0x0f0f0f0f)
//   any grid, any block; (a[n], b[n], out[16*n], n)
// bits_64         6 rows (u64): popcll, clzll, brevll, ffsll, a rotated by b&63, carry chain (128-bit a*a + b, low
//                 plus high)
//   any grid, any block; (a[n] (u64), b[n] (u64), out[6*n] (u64), n)
// narrow          loads and stores of 8 and 16 bits: out = a + b + c * d, sum8 = low byte of a + b
//   any grid, any block; (a[n] (i8), b[n] (u8), c[n] (i16), d[n] (u16), sum8[n] (i8), out[n] (i32), n)
// conversions     12 rows (i32): float to int with __float2int_{rn,rz,ru,rd}, cast to u8 (saturating, towards
//                 zero) and to i16 (nearest), float bits, __float2uint_rz, and the bits of
//                 __int2float_{rn,rz,ru,rd} of the integer in the second array
//   any grid, any block; (x[n] (f32), k[n] (i32), out[12*n] (i32), n)

#define FOR_EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)

extern "C" __global__ void arithmetic_64(const long long* a, const long long* b, long long* out, int n) {
    FOR_EACH(i, n) {
        long long x = a[i], y = b[i];
        unsigned long long ux = x, uy = y;
        out[0 * n + i] = x * y;
        out[1 * n + i] = x / y;
        out[2 * n + i] = x % y;
        out[3 * n + i] = ux / uy;
        out[4 * n + i] = ux % uy;
        out[5 * n + i] = __mul64hi(x, y);
        out[6 * n + i] = __umul64hi(ux, uy);
        out[7 * n + i] = x >> (y & 63);
        out[8 * n + i] = ux >> (y & 63);
        out[9 * n + i] = ux << (y & 63);
    }
}

extern "C" __global__ void arithmetic_32(const int* a, const int* b, int* out, int n) {
    FOR_EACH(i, n) {
        int x = a[i], y = b[i];
        unsigned ux = x, uy = y;
        out[0 * n + i] = x / y;
        out[1 * n + i] = x % y;
        out[2 * n + i] = ux / uy;
        out[3 * n + i] = ux % uy;
        out[4 * n + i] = __mulhi(x, y);
        out[5 * n + i] = __umulhi(ux, uy);
        out[6 * n + i] = __mul24(x, y);
        out[7 * n + i] = __umul24(ux, uy);
        out[8 * n + i] = __hadd(x, y);
        out[9 * n + i] = __sad(x, y, 1u);
    }
}

extern "C" __global__ void bits(const unsigned* a, const unsigned* b, unsigned* out, int n) {
    FOR_EACH(i, n) {
        unsigned x = a[i], y = b[i], r;
        int s;
        out[0 * n + i] = __popc(x);
        out[1 * n + i] = __clz(x);
        out[2 * n + i] = __brev(x);
        out[3 * n + i] = __ffs(x);
        out[4 * n + i] = __funnelshift_l(x, y, y);
        out[5 * n + i] = __funnelshift_r(x, y, y);
        out[6 * n + i] = __byte_perm(x, y, 0x6420);
        out[7 * n + i] = __byte_perm(x, y, y);
        out[8 * n + i] = __dp4a((int)x, (int)y, 7);
        out[9 * n + i] = __dp4a(x, y, 7u);
        out[10 * n + i] = __dp2a_lo((int)x, (int)y, 7);
        asm("bfe.u32 %0, %1, %2, 9;" : "=r"(r) : "r"(x), "r"(y & 31));
        out[11 * n + i] = r;
        asm("bfe.s32 %0, %1, %2, 9;" : "=r"(s) : "r"((int)x), "r"(y & 31));
        out[12 * n + i] = s;
        asm("bfi.b32 %0, %1, %2, 5, 11;" : "=r"(r) : "r"(x), "r"(y));
        out[13 * n + i] = r;
        out[14 * n + i] = __vabsdiffu4(x, y);
        asm("lop3.b32 %0, %1, %2, %3, 0xe8;" : "=r"(r) : "r"(x), "r"(y), "r"(0x0f0f0f0fu));
        out[15 * n + i] = r;
    }
}

extern "C" __global__ void bits_64(const unsigned long long* a, const unsigned long long* b, unsigned long long* out, int n) {
    FOR_EACH(i, n) {
        unsigned long long x = a[i], y = b[i];
        out[0 * n + i] = __popcll(x);
        out[1 * n + i] = __clzll(x);
        out[2 * n + i] = __brevll(x);
        out[3 * n + i] = __ffsll(x);
        out[4 * n + i] = x << (y & 63) | x >> (-y & 63);
        unsigned __int128 wide = (unsigned __int128)x * x + y;
        out[5 * n + i] = (unsigned long long)wide + (unsigned long long)(wide >> 64);
    }
}

extern "C" __global__ void narrow(const signed char* a, const unsigned char* b, const short* c, const unsigned short* d,
                                  signed char* sum8, int* out, int n) {
    FOR_EACH(i, n) {
        sum8[i] = a[i] + b[i];
        out[i] = a[i] + b[i] + c[i] * d[i];
    }
}

extern "C" __global__ void conversions(const float* x, const int* k, int* out, int n) {
    FOR_EACH(i, n) {
        float v = x[i];
        unsigned u8;
        short i16;
        asm("{ .reg .u8 t; cvt.rzi.sat.u8.f32 t, %1; cvt.u32.u8 %0, t; }" : "=r"(u8) : "f"(v));
        asm("cvt.rni.s16.f32 %0, %1;" : "=h"(i16) : "f"(v));
        out[0 * n + i] = __float2int_rn(v);
        out[1 * n + i] = __float2int_rz(v);
        out[2 * n + i] = __float2int_ru(v);
        out[3 * n + i] = __float2int_rd(v);
        out[4 * n + i] = u8;
        out[5 * n + i] = i16;
        out[6 * n + i] = __float_as_int(v);
        out[7 * n + i] = __float2uint_rz(v);
        out[8 * n + i] = __float_as_int(__int2float_rn(k[i]));
        out[9 * n + i] = __float_as_int(__int2float_rz(k[i]));
        out[10 * n + i] = __float_as_int(__int2float_ru(k[i]));
        out[11 * n + i] = __float_as_int(__int2float_rd(k[i]));
    }
}
