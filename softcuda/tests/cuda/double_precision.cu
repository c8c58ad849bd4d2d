// Double precision.
//
// dgemv    y[r] = alpha * sum over c of A[r,c] * x[c] + beta * y[r]; one warp a row
//   grid ceil(rows/4), block (32, 4); (A[rows*columns], x[columns], y[rows], rows, columns, alpha, beta), all f64
// dmath    8 rows of f64: a/b, sqrt|a|, fma(a,b,a), floor a, a rounded to f32, fmod(a,b), exp(a), log|b|
//   any grid, any block; (a[n], b[n], out[8*n], n)
// dconvert 4 rows of i64: a to i64 (rz), a to i64 (rn), bits of f64(i64 k), bits of f64(u64 k)
//   any grid, any block; (a[n] (f64), k[n] (i64), out[4*n] (i64), n)

#define FOR_EACH(i, n) for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)

extern "C" __global__ void dgemv(const double* __restrict__ A, const double* __restrict__ x, double* __restrict__ y,
                                 int rows, int columns, double alpha, double beta) {
    int r = blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return;
    double sum = 0.0;
    for (int c = threadIdx.x; c < columns; c += 32) sum += A[(size_t)r * columns + c] * x[c];
    // A double travels as two 32-bit halves.
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (threadIdx.x == 0) y[r] = alpha * sum + beta * y[r];
}

extern "C" __global__ void dmath(const double* a, const double* b, double* out, int n) {
    FOR_EACH(i, n) {
        double x = a[i], y = b[i];
        out[0 * n + i] = x / y;
        out[1 * n + i] = sqrt(fabs(x));
        out[2 * n + i] = fma(x, y, x);
        out[3 * n + i] = floor(x);
        out[4 * n + i] = (float)x;
        out[5 * n + i] = fmod(x, y);
        out[6 * n + i] = exp(x);
        out[7 * n + i] = log(fabs(y));
    }
}

extern "C" __global__ void dconvert(const double* a, const long long* k, long long* out, int n) {
    FOR_EACH(i, n) {
        out[0 * n + i] = __double2ll_rz(a[i]);
        out[1 * n + i] = __double2ll_rn(a[i]);
        out[2 * n + i] = __double_as_longlong((double)k[i]);
        out[3 * n + i] = __double_as_longlong((double)(unsigned long long)k[i]);
    }
}
