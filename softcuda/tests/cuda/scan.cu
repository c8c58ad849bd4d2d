// Prefix sums: a block at a time, and the pieces of a scan over many blocks.
//
// scan_blelloch        exclusive scan of every 512 inputs; totals[block] = their sum
//   grid ceil(n/512), block 256; (in[n], out[n], totals[grid], n)
// scan_hillis_steele   inclusive scan of every 256 inputs, double-buffered
//   grid ceil(n/256), block 256; (in[n], out[n], totals[grid], n)
// scan_add_offsets     out[i] += offsets[i / chunk]; the exclusive scan of the totals makes the whole scan
//   grid ceil(n/256), block 256; (out[n], offsets[ceil(n/chunk)], chunk, n)

constexpr int CHUNK = 512;

extern "C" __global__ void scan_blelloch(const int* in, int* out, int* totals, int n) {
    __shared__ int cells[CHUNK];
    int thread = threadIdx.x, first = blockIdx.x * CHUNK;
    int low = first + thread, high = low + CHUNK / 2;
    cells[thread] = low < n ? in[low] : 0;
    cells[thread + CHUNK / 2] = high < n ? in[high] : 0;
    int stride = 1;
    for (int active = CHUNK / 2; active > 0; active /= 2) { // up: sums of subtrees
        __syncthreads();
        if (thread < active) cells[stride * (2 * thread + 2) - 1] += cells[stride * (2 * thread + 1) - 1];
        stride *= 2;
    }
    if (thread == 0) {
        totals[blockIdx.x] = cells[CHUNK - 1];
        cells[CHUNK - 1] = 0;
    }
    for (int active = 1; active < CHUNK; active *= 2) { // down: what lies to the left of each subtree
        stride /= 2;
        __syncthreads();
        if (thread < active) {
            int left = stride * (2 * thread + 1) - 1, right = stride * (2 * thread + 2) - 1;
            int sum = cells[left];
            cells[left] = cells[right];
            cells[right] += sum;
        }
    }
    __syncthreads();
    if (low < n) out[low] = cells[thread];
    if (high < n) out[high] = cells[thread + CHUNK / 2];
}

extern "C" __global__ void scan_hillis_steele(const int* in, int* out, int* totals, int n) {
    __shared__ int cells[2][256];
    int thread = threadIdx.x, i = blockIdx.x * 256 + thread;
    int from = 0;
    cells[0][thread] = i < n ? in[i] : 0;
    __syncthreads();
    for (int offset = 1; offset < 256; offset *= 2) {
        int sum = cells[from][thread];
        if (thread >= offset) sum += cells[from][thread - offset];
        cells[from ^ 1][thread] = sum;
        from ^= 1;
        __syncthreads();
    }
    if (i < n) out[i] = cells[from][thread];
    if (thread == 255) totals[blockIdx.x] = cells[from][255];
}

extern "C" __global__ void scan_add_offsets(int* out, const int* offsets, int chunk, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] += offsets[i / chunk];
}
