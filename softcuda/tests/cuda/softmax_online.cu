// softmax_online   y[r,c] = exp(x[r,c] - max) / sum, the maximum and the sum found in one pass (running rescale)
//   grid rows, block 128; x and y are [rows, columns] row-major
//   (x[rows*columns], y[rows*columns], columns)

#include <math_constants.h>

struct Running {
    float max, sum;
};

__device__ Running merge(Running a, Running b) {
    bool a_is_larger = a.max > b.max;
    Running large = a_is_larger ? a : b, small = a_is_larger ? b : a;
    // Two empty halves: -inf - -inf would be NaN.
    float scale = small.sum == 0.0f ? 0.0f : __expf(small.max - large.max);
    return {large.max, large.sum + small.sum * scale};
}

extern "C" __global__ void softmax_online(const float* __restrict__ x, float* __restrict__ y, int columns) {
    __shared__ Running of_warp[4];
    const float* row = x + (size_t)blockIdx.x * columns;
    Running mine = {-CUDART_INF_F, 0.0f};
    for (int c = threadIdx.x; c < columns; c += blockDim.x) mine = merge(mine, {row[c], 1.0f});
    for (int offset = 16; offset > 0; offset /= 2) {
        Running other = {__shfl_xor_sync(0xffffffffu, mine.max, offset), __shfl_xor_sync(0xffffffffu, mine.sum, offset)};
        mine = merge(mine, other);
    }
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = mine;
    __syncthreads();
    Running all = merge(merge(of_warp[0], of_warp[1]), merge(of_warp[2], of_warp[3]));
    float inverse = 1.0f / all.sum;
    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        y[(size_t)blockIdx.x * columns + c] = expf(row[c] - all.max) * inverse;
}
