// Barriers between blocks by spinning: all blocks must be resident at once (a cooperative launch).
//
// grid_barrier   heat flow by Jacobi steps, double-buffered in a[2*n]; step s reads half s % 2 and writes the other:
//                cell i becomes (left + 2 * own + right) / 4, the ends stay. The result lies in half steps % 2.
//   any grid that fits the device at once, block 128; grid*block >= n
//   (a[2*n] (f32; the first half is the start, the ends of both halves equal), n, steps, arrived[1] (u32) = 0)
// hand_over      block 0 produces, block 1 waits on a flag: out[i] = 2 * in[i], i < 128, through the buffer
//   grid 2, block 128; (in[128], buffer[128], out[128], flag[1] (u32) = 0)
// lane_lock      every thread takes a lock of the whole grid in turn, lanes of one warp too, and increments a plain
//                counter; needs independent thread scheduling (sm_70 and up)
//   any grid, any block; (lock[1] (u32) = 0, counter[1] (u32) = 0); counter becomes grid * block

__device__ void wait_for_all(unsigned* arrived, unsigned target) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(arrived, 1u);
        while (*(volatile unsigned*)arrived < target) {}
        __threadfence();
    }
    __syncthreads();
}

extern "C" __global__ void grid_barrier(float* a, int n, int steps, unsigned* arrived) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int step = 0; step < steps; step++) {
        // Volatile: another block's cells must not come from this processor's L1.
        const volatile float* from = a + (step % 2) * n;
        volatile float* to = a + (1 - step % 2) * n;
        if (i > 0 && i < n - 1) to[i] = 0.25f * (from[i - 1] + 2.0f * from[i] + from[i + 1]);
        wait_for_all(arrived, gridDim.x * (step + 1));
    }
}

extern "C" __global__ void hand_over(const float* in, volatile float* buffer, float* out, unsigned* flag) {
    if (blockIdx.x == 0) {
        buffer[threadIdx.x] = 2.0f * in[threadIdx.x];
        __threadfence();
        __syncthreads();
        if (threadIdx.x == 0) atomicExch(flag, 1u);
    } else {
        if (threadIdx.x == 0) {
            while (atomicAdd(flag, 0u) == 0) {}
            __threadfence();
        }
        __syncthreads();
        out[threadIdx.x] = buffer[threadIdx.x];
    }
}

extern "C" __global__ void lane_lock(unsigned* lock, volatile unsigned* counter) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0u, 1u) == 0) {
            __threadfence();
            *counter = *counter + 1;
            __threadfence();
            atomicExch(lock, 0u);
            done = true;
        }
    }
}
