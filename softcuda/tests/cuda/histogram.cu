// Histograms of bytes.
//
// histogram_global   bins[x] += 1 for every input byte, atomics on global memory
//   any grid, any block; (in[n], bins[256] = 0, n)
// histogram_shared   the same through a histogram of each block in shared memory
//   any grid, block 256; (in[n], bins[256] = 0, n)

extern "C" __global__ void histogram_global(const unsigned char* in, unsigned* bins, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&bins[in[i]], 1u);
}

extern "C" __global__ void histogram_shared(const unsigned char* in, unsigned* bins, int n) {
    __shared__ unsigned of_block[256];
    of_block[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&of_block[in[i]], 1u);
    __syncthreads();
    atomicAdd(&bins[threadIdx.x], of_block[threadIdx.x]);
}
