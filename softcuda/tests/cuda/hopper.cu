// arch: compute_90
// What needs sm_90: transaction barriers, bulk copies, clusters of one block.
//
// bulk_reverse   out[b*256 + t] = in[b*256 + 255 - t]: one thread starts a bulk copy of 1 KiB that completes on an
//                mbarrier (expect_tx), everybody waits with try_wait
//   any grid, block 256; (in[grid*256] (i32), aligned to 16 bytes, out[grid*256] (i32))
// elect          out[0] = how many lanes of a full warp elect.sync chose (always 1); out[1 + lane] = the leader's lane
//   grid 1, block 32; (out[33] (u32), out[0] = 0)

__device__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

extern "C" __global__ void bulk_reverse(const int* in, int* out) {
    __shared__ __align__(16) int cells[256];
    __shared__ unsigned long long barrier;
    unsigned at = shared_address(&barrier);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
        // The copy engine is another proxy: it must see the barrier initialised.
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("{ .reg .b64 token; mbarrier.arrive.expect_tx.shared::cta.b64 token, [%0], 1024; }" ::"r"(at) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 1024, [%2];" ::"r"(
                         shared_address(cells)),
                     "l"(in + blockIdx.x * 256), "r"(at)
                     : "memory");
    }
    unsigned done;
    do {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(at) : "memory");
    } while (!done);
    out[blockIdx.x * 256 + threadIdx.x] = cells[255 - threadIdx.x];
}

extern "C" __global__ void elect(unsigned* out) {
    unsigned leader, chosen;
    asm volatile("{ .reg .pred p; elect.sync %0|p, 0xffffffff; selp.u32 %1, 1, 0, p; }" : "=r"(leader), "=r"(chosen));
    if (chosen) atomicAdd(out, 1u);
    out[1 + threadIdx.x] = leader;
}
