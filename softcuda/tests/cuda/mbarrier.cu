// mbarrier objects in shared memory (sm_80 forms).
//
// mbarrier_reverse    out[b*128 + t] = in[b*128 + 127 - t]: arrive, then test_wait on the token
//   any grid, block 128; (in[grid*128] (i32), out[grid*128] (i32))
// mbarrier_pipeline   out[r*64 + t] = 2 * in[r*64 + t]: warps 0-1 copy rounds of 64 values by cp.async whose completion
//                     arrives on "full" (cp.async.mbarrier.arrive.noinc), warps 2-3 consume and arrive on "empty"; two
//                     stages
//   grid 1, block 128; (in[rounds*64] (i32), out[rounds*64] (i32), rounds)
// mbarrier_drop       out[t] = phases seen: threads 32.. leave by arrive_drop after the first phase, threads 0-31 go on
//                     for 3 phases (the drop halves the count); out[0..32] = 3, out[32..64] = 1
//   grid 1, block 64; (out[64] (i32))

using Barrier = unsigned long long;

__device__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

__device__ void initialise(Barrier* barrier, unsigned count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}

__device__ void invalidate(Barrier* barrier) {
    asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

__device__ Barrier arrive(Barrier* barrier) {
    Barrier token;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1];" : "=l"(token) : "r"(shared_address(barrier)) : "memory");
    return token;
}

__device__ bool test_wait(Barrier* barrier, Barrier token) {
    unsigned done;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "l"(token)
                 : "memory");
    return done;
}

// Waits for the end of the phase of the given parity.
__device__ void wait_parity(Barrier* barrier, unsigned parity) {
    unsigned done;
    do {
        asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                     : "=r"(done)
                     : "r"(shared_address(barrier)), "r"(parity)
                     : "memory");
    } while (!done);
}

extern "C" __global__ void mbarrier_reverse(const int* in, int* out) {
    __shared__ Barrier barrier;
    __shared__ int cells[128];
    if (threadIdx.x == 0) initialise(&barrier, 128);
    __syncthreads();
    cells[threadIdx.x] = in[blockIdx.x * 128 + threadIdx.x];
    Barrier token = arrive(&barrier);
    while (!test_wait(&barrier, token)) {}
    out[blockIdx.x * 128 + threadIdx.x] = cells[127 - threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) invalidate(&barrier);
}

extern "C" __global__ void mbarrier_pipeline(const int* in, int* out, int rounds) {
    __shared__ Barrier full[2], empty[2];
    __shared__ int cells[2][64];
    if (threadIdx.x < 2) {
        initialise(&full[threadIdx.x], 64);
        initialise(&empty[threadIdx.x], 64);
    }
    __syncthreads();
    int t = threadIdx.x % 64;
    for (int r = 0; r < rounds; r++) {
        int stage = r % 2;
        unsigned parity = r / 2 % 2;
        if (threadIdx.x < 64) {
            // The first use of a stage finds it empty: the phase before the first counts as over.
            wait_parity(&empty[stage], parity ^ 1);
            asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(&cells[stage][t])), "l"(in + r * 64 + t) : "memory");
            asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(&full[stage])) : "memory");
        } else {
            wait_parity(&full[stage], parity);
            out[r * 64 + t] = 2 * cells[stage][t];
            arrive(&empty[stage]);
        }
    }
}

extern "C" __global__ void mbarrier_drop(int* out) {
    __shared__ Barrier barrier;
    bool stays = threadIdx.x < 32;
    if (threadIdx.x == 0) initialise(&barrier, 64);
    __syncthreads();
    Barrier token;
    if (stays)
        token = arrive(&barrier);
    else
        asm volatile("mbarrier.arrive_drop.shared.b64 %0, [%1];" : "=l"(token) : "r"(shared_address(&barrier)) : "memory");
    while (!test_wait(&barrier, token)) {}
    // A token may be tested until the next phase ends, not longer.
    __syncthreads();
    int phases = 1;
    for (; stays && phases < 3; phases++) {
        token = arrive(&barrier);
        while (!test_wait(&barrier, token)) {}
    }
    out[threadIdx.x] = phases;
}
