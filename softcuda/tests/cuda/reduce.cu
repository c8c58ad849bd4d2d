// Sums, three ways.
//
// reduce_shared      partial[block] = sum of the block's 256 inputs, a tree in shared memory
//   grid ceil(n/256), block 256; (in[n], partial[grid], n)
// reduce_shuffle     the same with warp shuffles; any block that is a multiple of 32, at most 1024
//   grid ceil(n/block); (in[n], partial[grid], n)
// reduce_last_block  *out = sum of in[0..n] in one launch: the block that finishes last adds up the partials
//   any grid, block 256; (in[n], partial[grid], out[1], counter[1] = 0, n); the counter is 0 again afterwards

extern "C" __global__ void reduce_shared(const float* in, float* partial, int n) {
    __shared__ float cells[256];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    cells[threadIdx.x] = i < n ? in[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) cells[threadIdx.x] += cells[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = cells[0];
}

__device__ float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_down_sync(0xffffffffu, x, offset);
    return x;
}

// The sum of x over the block, in thread 0.
__device__ float block_sum(float x) {
    __shared__ float of_warp[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    x = warp_sum(x);
    if (lane == 0) of_warp[warp] = x;
    __syncthreads();
    if (warp == 0) {
        x = lane < blockDim.x / 32 ? of_warp[lane] : 0.0f;
        x = warp_sum(x);
    }
    return x;
}

extern "C" __global__ void reduce_shuffle(const float* in, float* partial, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float x = block_sum(i < n ? in[i] : 0.0f);
    if (threadIdx.x == 0) partial[blockIdx.x] = x;
}

extern "C" __global__ void reduce_last_block(const float* in, volatile float* partial, float* out,
                                             unsigned* counter, int n) {
    __shared__ bool is_last;
    float x = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) x += in[i];
    x = block_sum(x);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = x;
        // The partial sum must be visible before the ticket says that it is there.
        __threadfence();
        is_last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) return;
    x = 0.0f;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) x += partial[i];
    x = block_sum(x);
    if (threadIdx.x == 0) *out = x;
}
