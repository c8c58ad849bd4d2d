// Warp intrinsics. One block of 32 threads unless said otherwise; x[32] (i32); out is [rows, 32] (u32), row-major.
//
// warp_vote       rows: ballot(x > 0), any(x > 100), all(x > 0), activemask, lane mask lt, lane mask ge
//   grid 1, block 32; (x[32], out[6*32])
// warp_match      rows: match_any(x), match_all(x) mask, match_all predicate, match_any of the 64-bit value x * 2^32
//   grid 1, block 32; (x[32], out[4*32])
// warp_shuffle    rows: up 1, down 2, xor 5, idx 7, up 1 width 8, down 2 width 8, xor 3 width 16, idx lane+1 width 4
//   grid 1, block 32; (x[32], out[8*32])
// warp_reduce     rows: redux add, min (signed), max (signed), min (unsigned), max (unsigned), and, or, xor, and add
//                 within the halves of the warp (masks 0x0000ffff and 0xffff0000)
//   grid 1, block 32; (x[32], out[9*32])
// warp_divergent  legal use under divergence: odd lanes shuffle among odd lanes, even ones vote among even ones;
//                 out[lane] = odd ? x[lane ^ 2] : ballot(0x55555555, x > 0)
//   grid 1, block 32; (x[32], out[32])
// warp_aggregate  lanes with x > 0 take places in a list by one atomic a warp, the leader's answer shuffled to the
//                 others (uses activemask, popc and ffs); out[place] = x
//   any grid, block a multiple of 32; (x[n], out[n], counter[1] = 0, n); the order in out is not determined
// warp_syncwarp   neighbours exchange through shared memory, ordered by __syncwarp: out[i] = x[i ^ 1]
//   grid 1, block 64; (x[64], out[64])
// warp_partial    the last warp of the block has 8 lanes: out[i] = ballot of __activemask() and x > 0
//   grid 1, block 40; (x[40], out[40])

constexpr unsigned FULL = 0xffffffffu;

extern "C" __global__ void warp_vote(const int* x, unsigned* out) {
    int lane = threadIdx.x, v = x[lane];
    unsigned below, from;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    asm("mov.u32 %0, %%lanemask_ge;" : "=r"(from));
    out[0 * 32 + lane] = __ballot_sync(FULL, v > 0);
    out[1 * 32 + lane] = __any_sync(FULL, v > 100);
    out[2 * 32 + lane] = __all_sync(FULL, v > 0);
    out[3 * 32 + lane] = __activemask();
    out[4 * 32 + lane] = below;
    out[5 * 32 + lane] = from;
}

extern "C" __global__ void warp_match(const int* x, unsigned* out) {
    int lane = threadIdx.x, v = x[lane], same;
    out[0 * 32 + lane] = __match_any_sync(FULL, v);
    out[1 * 32 + lane] = __match_all_sync(FULL, v, &same);
    out[2 * 32 + lane] = same;
    out[3 * 32 + lane] = __match_any_sync(FULL, (unsigned long long)v << 32);
}

extern "C" __global__ void warp_shuffle(const int* x, int* out) {
    int lane = threadIdx.x, v = x[lane];
    out[0 * 32 + lane] = __shfl_up_sync(FULL, v, 1);
    out[1 * 32 + lane] = __shfl_down_sync(FULL, v, 2);
    out[2 * 32 + lane] = __shfl_xor_sync(FULL, v, 5);
    out[3 * 32 + lane] = __shfl_sync(FULL, v, 7);
    out[4 * 32 + lane] = __shfl_up_sync(FULL, v, 1, 8);
    out[5 * 32 + lane] = __shfl_down_sync(FULL, v, 2, 8);
    out[6 * 32 + lane] = __shfl_xor_sync(FULL, v, 3, 16);
    out[7 * 32 + lane] = __shfl_sync(FULL, v, lane + 1, 4);
}

extern "C" __global__ void warp_reduce(const int* x, unsigned* out) {
    int lane = threadIdx.x, v = x[lane];
    unsigned u = v;
    out[0 * 32 + lane] = __reduce_add_sync(FULL, v);
    out[1 * 32 + lane] = __reduce_min_sync(FULL, v);
    out[2 * 32 + lane] = __reduce_max_sync(FULL, v);
    out[3 * 32 + lane] = __reduce_min_sync(FULL, u);
    out[4 * 32 + lane] = __reduce_max_sync(FULL, u);
    out[5 * 32 + lane] = __reduce_and_sync(FULL, u);
    out[6 * 32 + lane] = __reduce_or_sync(FULL, u);
    out[7 * 32 + lane] = __reduce_xor_sync(FULL, u);
    // The mask differs between the two groups of lanes, so each group executes the instruction for itself.
    out[8 * 32 + lane] = lane < 16 ? __reduce_add_sync(0x0000ffffu, v) : __reduce_add_sync(0xffff0000u, v);
}

extern "C" __global__ void warp_divergent(const int* x, unsigned* out) {
    int lane = threadIdx.x, v = x[lane];
    if (lane & 1)
        out[lane] = __shfl_xor_sync(0xaaaaaaaau, v, 2);
    else
        out[lane] = __ballot_sync(0x55555555u, v > 0);
}

extern "C" __global__ void warp_aggregate(const int* x, int* out, int* counter, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || x[i] <= 0) return;
    unsigned active = __activemask();
    unsigned below;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    int leader = __ffs(active) - 1, first = 0;
    if ((active & below) == 0) first = atomicAdd(counter, __popc(active));
    first = __shfl_sync(active, first, leader);
    out[first + __popc(active & below)] = x[i];
}

extern "C" __global__ void warp_syncwarp(const int* x, int* out) {
    __shared__ int cells[64];
    cells[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

extern "C" __global__ void warp_partial(const int* x, unsigned* out) {
    out[threadIdx.x] = __ballot_sync(__activemask(), x[threadIdx.x] > 0);
}
