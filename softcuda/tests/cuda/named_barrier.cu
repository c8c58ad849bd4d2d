// Barriers with numbers and thread counts.
//
// pair_barriers      warps 0-1 meet at barrier 1, warps 2-3 at barrier 2, 64 threads each; each half reverses its 64 values
//   grid 1, block 128; (in[128], out[128]); out[h*64 + t] = in[h*64 + 63 - t]
// producer_consumer  warps 0-1 produce and only arrive at "full" (barrier 1), warps 2-3 wait there; "empty" (barrier 2) runs
//                    the other way; out[r*64 + t] = 3 * in[r*64 + t]
//   grid 1, block 128; (in[rounds*64], out[rounds*64], rounds)
// barrier_vote       __syncthreads_count, _and, _or of in[t] > 0: out[t], out[block + t], out[2*block + t]
//   grid 1, any block; (in[block], out[3*block])

__device__ void sync_named(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

__device__ void arrive_named(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

extern "C" __global__ void pair_barriers(const int* in, int* out) {
    __shared__ int cells[128];
    int half = threadIdx.x / 64, t = threadIdx.x % 64;
    cells[threadIdx.x] = in[threadIdx.x];
    // Constants in the two branches: the barrier's number is then an immediate.
    if (half == 0)
        asm volatile("bar.sync 1, 64;" ::: "memory");
    else
        asm volatile("bar.sync 2, 64;" ::: "memory");
    out[threadIdx.x] = cells[half * 64 + 63 - t];
}

extern "C" __global__ void producer_consumer(const int* in, int* out, int rounds) {
    __shared__ int cells[64];
    const int full = 1, empty = 2;
    int t = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        for (int r = 0; r < rounds; r++) {
            if (r > 0) sync_named(empty, 128);
            cells[t] = 3 * in[r * 64 + t];
            arrive_named(full, 128);
        }
    } else {
        for (int r = 0; r < rounds; r++) {
            sync_named(full, 128);
            out[r * 64 + t] = cells[t];
            if (r < rounds - 1) arrive_named(empty, 128);
        }
    }
}

extern "C" __global__ void barrier_vote(const int* in, int* out) {
    bool positive = in[threadIdx.x] > 0;
    out[threadIdx.x] = __syncthreads_count(positive);
    out[blockDim.x + threadIdx.x] = __syncthreads_and(positive);
    out[2 * blockDim.x + threadIdx.x] = __syncthreads_or(positive);
}
