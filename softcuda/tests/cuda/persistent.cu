// Persistent kernels: few blocks, much work.
//
// collatz_queue   out[i] = steps of the Collatz sequence from i + 1; blocks fetch chunks of 64 items from a counter
//   any grid, block 64; (out[n] (u32), n, next[1] (i32) = 0)
// special_registers   12 values a thread: tid xyz, ntid xyz, ctaid xyz, nctaid xyz; the thread's row is its number in the
//                     grid, x fastest, blocks before threads: (block number * threads of a block + thread number)
//   any grid, any block, both up to three dimensions; (out[12*threads of the grid] (u32))

extern "C" __global__ void collatz_queue(unsigned* out, int n, int* next) {
    __shared__ int first;
    for (;;) {
        if (threadIdx.x == 0) first = atomicAdd(next, 64);
        __syncthreads();
        int i = first + threadIdx.x;
        // Everybody must have read "first" before the next round overwrites it.
        __syncthreads();
        if (i - (int)threadIdx.x >= n) return; // the whole block at once
        if (i < n) {
            unsigned long long x = i + 1;
            unsigned steps = 0;
            while (x != 1) {
                x = x % 2 == 0 ? x / 2 : 3 * x + 1;
                steps++;
            }
            out[i] = steps;
        }
    }
}

extern "C" __global__ void special_registers(unsigned* out) {
    unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    unsigned* row = out + 12 * (block * (blockDim.x * blockDim.y * blockDim.z) + thread);
    row[0] = threadIdx.x, row[1] = threadIdx.y, row[2] = threadIdx.z;
    row[3] = blockDim.x, row[4] = blockDim.y, row[5] = blockDim.z;
    row[6] = blockIdx.x, row[7] = blockIdx.y, row[8] = blockIdx.z;
    row[9] = gridDim.x, row[10] = gridDim.y, row[11] = gridDim.z;
}
