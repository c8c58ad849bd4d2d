// Local memory (arrays indexed at run time) and the mathematical functions of libdevice.
//
// local_permute   out[i] = i-th thread's insertion-sorted window: sorts in[8*i .. 8*i+8] in a local array, then writes
//                 element pick[i] & 7 of it
//   any grid, any block; (in[8*n], pick[n], out[n], n)
// transcendental  f(x) for a function a row: out is [14, n]: sincosf (sine, cosine), expf, logf, powf(|x|, 1.7), tanhf,
//                 erff, sqrtf, rsqrtf, cbrtf, exp2f, log2f, fmodf(x, 0.7), x / 3 (correctly rounded)
//   any grid, any block; (x[n], out[14*n], n)
// fast_math       out is [6, n]: __sinf, __cosf, __expf, __logf, __fdividef(1, x), __powf(|x|, 1.7)
//   any grid, any block; (x[n], out[6*n], n)

extern "C" __global__ void local_permute(const float* in, const int* pick, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float window[8];
#pragma unroll 1
    for (int j = 0; j < 8; j++) {
        float x = in[8 * i + j];
        int k = j;
#pragma unroll 1
        for (; k > 0 && window[k - 1] > x; k--) window[k] = window[k - 1];
        window[k] = x;
    }
    out[i] = window[pick[i] & 7];
}

extern "C" __global__ void transcendental(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i], sine, cosine;
    sincosf(v, &sine, &cosine);
    float* to = out + i;
    to[0 * n] = sine;
    to[1 * n] = cosine;
    to[2 * n] = expf(v);
    to[3 * n] = logf(v);
    to[4 * n] = powf(fabsf(v), 1.7f);
    to[5 * n] = tanhf(v);
    to[6 * n] = erff(v);
    to[7 * n] = sqrtf(v);
    to[8 * n] = rsqrtf(v);
    to[9 * n] = cbrtf(v);
    to[10 * n] = exp2f(v);
    to[11 * n] = log2f(v);
    to[12 * n] = fmodf(v, 0.7f);
    to[13 * n] = v / 3.0f;
}

extern "C" __global__ void fast_math(const float* x, float* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    float* to = out + i;
    to[0 * n] = __sinf(v);
    to[1 * n] = __cosf(v);
    to[2 * n] = __expf(v);
    to[3 * n] = __logf(v);
    to[4 * n] = __fdividef(1.0f, v);
    to[5 * n] = __powf(fabsf(v), 1.7f);
}
