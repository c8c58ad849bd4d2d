// layernorm   y[r,c] = (x[r,c] - mean[r]) * rstd[r] * gamma[c] + beta[c], rstd = 1 / sqrt(variance + eps)
//   one warp a row: grid ceil(rows/4), block (32, 4); x and y are [rows, columns] row-major
//   (x[rows*columns], gamma[columns], beta[columns], y[rows*columns], mean[rows], rstd[rows], rows, columns, eps)

__device__ float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
    return x;
}

extern "C" __global__ void layernorm(const float* __restrict__ x, const float* __restrict__ gamma,
                                     const float* __restrict__ beta, float* __restrict__ y, float* __restrict__ mean,
                                     float* __restrict__ rstd, int rows, int columns, float eps) {
    int r = blockIdx.x * blockDim.y + threadIdx.y;
    if (r >= rows) return; // a whole warp leaves together
    const float* row = x + (size_t)r * columns;
    float sum = 0.0f;
    for (int c = threadIdx.x; c < columns; c += 32) sum += row[c];
    float mu = warp_sum(sum) / columns;
    // The second pass avoids the cancellation of E[x^2] - mean^2.
    float squares = 0.0f;
    for (int c = threadIdx.x; c < columns; c += 32) squares += (row[c] - mu) * (row[c] - mu);
    float scale = rsqrtf(warp_sum(squares) / columns + eps);
    for (int c = threadIdx.x; c < columns; c += 32) y[(size_t)r * columns + c] = (row[c] - mu) * scale * gamma[c] + beta[c];
    if (threadIdx.x == 0) {
        mean[r] = mu;
        rstd[r] = scale;
    }
}
