// Positive controls: kernels with exactly one fault each, bad_<check>_<what>, and its corrected twin good_<check>_<what>
// with the same signature and launch. A checker must report every bad one and none of the good ones.
//
// The line where the fault shows carries "// FAULT <kernel>"; where a fault is a pair of accesses (a race), the earlier one
// in the source carries "// OTHER <kernel>", and a report may name either first. Intrinsics that the toolkit's headers define
// (__ldg, __shfl_sync) lie at the line where they are inlined (inlined_at in the PTX). Blocks are 1-D. Arguments are 32-bit cells
// (i32) unless said otherwise; "x[n]" is an allocation of exactly n cells, "= 0" and "= v" say what the host fills it with;
// other buffers named in* hold anything initialised, and buffers named out* need no initial value.
//
// check_what                      grid block shared  arguments                       what must be found
// memcheck_after_end               1    64     0     out[64]                         thread 63 writes 4 bytes behind the end
// memcheck_before_start            1    64     0     out[64]                         thread 0 writes 4 bytes before the start
// memcheck_wild                    1    1      0     out[64]                         a write 1 GiB behind the allocation
// memcheck_misaligned              1    32     0     in[132], out[128]               16-byte loads at 4 (modulo 16)
// memcheck_straddle                1    32     0     in[127], out[128]               a 16-byte load of which 4 lie outside
// memcheck_null                    1    32     0     in = null pointer, out[32]      loads from address 0 and up
// memcheck_shared_static           1    32     0     out[32]                         thread 31 writes behind 128 static bytes
// memcheck_shared_dynamic          1    32     128   out[32]                         thread 31 writes behind 128 dynamic bytes
// memcheck_shared_misaligned       1    16     0     out[16]                         8-byte loads at 4 (modulo 8)
// memcheck_local                   1    32     0     out[32], index = 7              read of a local array behind its 8 cells
// memcheck_red_zone                1    1      0     a[5], b[64]                     a write between a and b (b lies higher)
// memcheck_use_after_free          1    32     0     in[32], out[32]                 bad: in is freed before the launch
//                                                                                    good: the same code, in is alive
// memcheck_cp_async                1    32     0     in[132], out[128]               cp.async of 16 bytes from 4 (modulo 16)
// memcheck_atomic                  1    32     0     out[32] = 0                     thread 31 adds to the cell behind the end
// initcheck_global                 1    32     0     scratch[32], out[32]            read of an allocation nobody wrote
// initcheck_global_bytes           1    32     0     scratch[32], out[32]            4 bytes read of which 3 are written
// initcheck_shared                 1    32     0     in[32], out[32]                 odd threads read cells nobody wrote
// initcheck_shared_dynamic         1    32     128   in[32], out[32]                 the same in dynamic shared memory
// initcheck_local                  1    32     0     in[4], out[32], index = 5       read of a local cell nobody wrote
// racecheck_missing_sync           1    64     0     in[64], out[64]                 read after write, no __syncthreads
// racecheck_write_after_read       1    64     0     in[64], out[64]                 write after read, no __syncthreads
// racecheck_two_writers            1    64     0     out[2]                          two warps write one cell
// racecheck_warp                   1    32     0     in[32], out[32]                 lanes exchange without __syncwarp
// racecheck_warp_tree              1    32     0     in[32], out[1]                  reduction without __syncwarp
// racecheck_counter                1    64     0     out[1]                          shared counter without atomics
// racecheck_atomic_and_plain       1    64     0     out[64]                         atomic add, plain read, no barrier
// racecheck_wrong_barrier          1    128    0     in[128], out[128]               each half has its own barrier, and
//                                                                                    reads what the other half wrote
// racecheck_shared_bytes           1    64     0     out[64]                         good: adjacent bytes; bad: one byte twice
// racecheck_shared_halves          1    64     0     out[64]                         good: adjacent halves; bad: one half twice
// racecheck_global_block           1    64     0     scratch[64], out[64]            inside a block, through global memory
// racecheck_global_two_writers     2    32     0     out[2]                          two blocks write one cell
// racecheck_global_read_write      2    32     0     buffer[32] = 0, flag[1] = 0,    block 1 reads what block 0 writes; good:
//                                                    out[32]                         fence, atomic flag, fence
// racecheck_global_no_fence        2    32     0     as above                        the flag without the writer's fence
// racecheck_global_counter         4    32     0     out[1] = 0                      counter of all blocks without atomics
// racecheck_global_bytes           2    32     0     out[16] (64 bytes)              good: adjacent bytes; bad: one byte twice
// synccheck_divergent_barrier      1    64     0     out[64]                         threads 0-47 only at __syncthreads
// synccheck_shfl_divergent         1    32     0     in[32], out[32]                 lanes 0-15 only, mask of all 32
// synccheck_shfl_not_in_mask       1    32     0     in[32], out[32]                 lanes 16-31 are not in the mask
// synccheck_shfl_absent_source     1    32     0     in[32], out[32]                 lanes 0-15 read lane 20
// synccheck_ballot                 1    32     0     in[32], out[32]                 lane 5 is missing
// synccheck_match                  1    32     0     in[32], out[32]                 lane 5 is missing
// synccheck_redux                  1    32     0     in[32], out[32]                 lane 5 is missing
// synccheck_mma                    1    32     0     in[32], out[64]                 mma by lanes 0-15
// synccheck_ldmatrix               1    32     0     in[32], out[32]                 ldmatrix by lanes 0-15
// synccheck_syncwarp               1    32     0     in[32], out[32]                 lanes 0-15 name lanes 16-31
// synccheck_barrier_count          1    64     0     out[64]                         64 threads wait for 96: a hang
// async_before_wait                1    64     0     in[64], out[64]                 read before wait_group
// async_no_barrier                 1    64     0     in[64], out[64]                 others' copies, wait_group, no barrier
// async_barrier_first              1    64     0     in[64], out[64]                 barrier before wait_group
// async_wait_one                   1    64     0     in[128], out[128]               wait_group 1 leaves the second pending
// async_no_commit                  1    64     0     in[64], out[64]                 wait_group 0 without commit_group
// async_overwrite                  1    64     0     in[64], out[64]                 a store to the target of a pending copy
// launch_bounds                    1    128    0     out[128]                        the launch is refused: at most 64 threads
//                                                                                    (no line; good allows 128)
// readonly_own                     1    64     0     a[64] = 0, out[64]              ld.global.nc of what the kernel wrote
// readonly_other_block             2    64     0     a[64] = 0, out[128]             block 0 ld.global.nc, block 1 writes
// deadlock_missing_block           4    1      0     arrived[1] = 0, out[4]          waits for a fifth block
// deadlock_flag                    2    1      0     flag[2] = 0, out[1]             waits for a flag that nobody sets
// deadlock_lanes                   1    32     0     flag[32] = 0, out[32]           good: lane i waits for lane i+1, the last
//                                                                                    for nobody; bad: the last waits for 0
// deadlock_barriers                1    64     0     out[64]                         two warps wait at different barriers
// trap_negative                    1    32     0     in[32], in[7] = -1, out[32]     thread 7 executes trap

constexpr unsigned FULL = 0xffffffffu;

extern __shared__ int dynamic_cells[];

__device__ unsigned shared_address(const void* pointer) {
    return (unsigned)__cvta_generic_to_shared(pointer);
}

// Macros, not functions: the line that a report names must be the line of use.
#define KERNEL extern "C" __global__ void
#define CP_ASYNC_4(to, from) \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory")
#define CP_ASYNC_16(to, from) \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory")
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT_GROUP(pending) asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory")

// ---- memcheck ----

KERNEL bad_memcheck_after_end(int* out) {
    out[threadIdx.x + 1] = threadIdx.x; // FAULT bad_memcheck_after_end
}

KERNEL good_memcheck_after_end(int* out) {
    out[threadIdx.x] = threadIdx.x;
}

KERNEL bad_memcheck_before_start(int* out) {
    out[(int)threadIdx.x - 1] = threadIdx.x; // FAULT bad_memcheck_before_start
}

KERNEL good_memcheck_before_start(int* out) {
    out[threadIdx.x] = threadIdx.x;
}

KERNEL bad_memcheck_wild(int* out) {
    out[1 << 28] = 1; // FAULT bad_memcheck_wild
}

KERNEL good_memcheck_wild(int* out) {
    out[63] = 1;
}

KERNEL bad_memcheck_misaligned(const int* in, int4* out) {
    out[threadIdx.x] = *reinterpret_cast<const int4*>(in + 4 * threadIdx.x + 1); // FAULT bad_memcheck_misaligned
}

KERNEL good_memcheck_misaligned(const int* in, int4* out) {
    out[threadIdx.x] = *reinterpret_cast<const int4*>(in + 4 * threadIdx.x);
}

KERNEL bad_memcheck_straddle(const int* in, int4* out) {
    out[threadIdx.x] = reinterpret_cast<const int4*>(in)[threadIdx.x]; // FAULT bad_memcheck_straddle
}

KERNEL good_memcheck_straddle(const int* in, int4* out) {
    int first = 4 * threadIdx.x;
    int4 x;
    if (first + 3 < 127)
        x = *reinterpret_cast<const int4*>(in + first);
    else
        x = make_int4(in[first], in[first + 1], in[first + 2], 0);
    out[threadIdx.x] = x;
}

KERNEL bad_memcheck_null(const int* in, int* out) {
    out[threadIdx.x] = in[threadIdx.x]; // FAULT bad_memcheck_null
}

KERNEL good_memcheck_null(const int* in, int* out) {
    out[threadIdx.x] = in == nullptr ? 0 : in[threadIdx.x];
}

KERNEL bad_memcheck_shared_static(int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = 0;
    __syncthreads();
    cells[threadIdx.x + 1] = threadIdx.x; // FAULT bad_memcheck_shared_static
    __syncthreads();
    out[threadIdx.x] = cells[31 - threadIdx.x];
}

KERNEL good_memcheck_shared_static(int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = 0;
    __syncthreads();
    cells[(threadIdx.x + 1) % 32] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = cells[31 - threadIdx.x];
}

KERNEL bad_memcheck_shared_dynamic(int* out) {
    dynamic_cells[threadIdx.x] = 0;
    __syncthreads();
    dynamic_cells[threadIdx.x + 1] = threadIdx.x; // FAULT bad_memcheck_shared_dynamic
    __syncthreads();
    out[threadIdx.x] = dynamic_cells[31 - threadIdx.x];
}

KERNEL good_memcheck_shared_dynamic(int* out) {
    dynamic_cells[threadIdx.x] = 0;
    __syncthreads();
    dynamic_cells[(threadIdx.x + 1) % 32] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = dynamic_cells[31 - threadIdx.x];
}

KERNEL bad_memcheck_shared_misaligned(int* out) {
    __shared__ __align__(8) int cells[34];
    cells[2 * threadIdx.x] = threadIdx.x;
    cells[2 * threadIdx.x + 1] = 1;
    if (threadIdx.x == 0) cells[32] = 0;
    __syncthreads();
    int2 x = *reinterpret_cast<int2*>(&cells[2 * threadIdx.x + 1]); // FAULT bad_memcheck_shared_misaligned
    out[threadIdx.x] = x.x + x.y;
}

KERNEL good_memcheck_shared_misaligned(int* out) {
    __shared__ __align__(8) int cells[34];
    cells[2 * threadIdx.x] = threadIdx.x;
    cells[2 * threadIdx.x + 1] = 1;
    if (threadIdx.x == 0) cells[32] = 0;
    __syncthreads();
    int2 x = *reinterpret_cast<int2*>(&cells[2 * threadIdx.x]);
    out[threadIdx.x] = x.x + x.y;
}

KERNEL bad_memcheck_local(int* out, int index) {
    int cells[8];
#pragma unroll
    for (int i = 0; i < 8; i++) cells[i] = threadIdx.x + i;
    out[threadIdx.x] = cells[index + 1]; // FAULT bad_memcheck_local
}

KERNEL good_memcheck_local(int* out, int index) {
    int cells[8];
#pragma unroll
    for (int i = 0; i < 8; i++) cells[i] = threadIdx.x + i;
    out[threadIdx.x] = cells[index];
}

KERNEL bad_memcheck_red_zone(int* a, int* b) {
    b[0] = 1;
    *(b - 1) = a[0] = 2; // FAULT bad_memcheck_red_zone
}

KERNEL good_memcheck_red_zone(int* a, int* b) {
    b[0] = 1;
    a[4] = a[0] = 2;
}

KERNEL bad_memcheck_use_after_free(const int* in, int* out) {
    out[threadIdx.x] = in[threadIdx.x]; // FAULT bad_memcheck_use_after_free
}

KERNEL good_memcheck_use_after_free(const int* in, int* out) {
    out[threadIdx.x] = in[threadIdx.x];
}

KERNEL bad_memcheck_cp_async(const int* in, int4* out) {
    __shared__ int4 cells[32];
    CP_ASYNC_16(&cells[threadIdx.x], in + 4 * threadIdx.x + 1); // FAULT bad_memcheck_cp_async
    COMMIT();
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL good_memcheck_cp_async(const int* in, int4* out) {
    __shared__ int4 cells[32];
    CP_ASYNC_16(&cells[threadIdx.x], in + 4 * threadIdx.x);
    COMMIT();
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL bad_memcheck_atomic(int* out) {
    atomicAdd(&out[threadIdx.x + 1], 1); // FAULT bad_memcheck_atomic
}

KERNEL good_memcheck_atomic(int* out) {
    atomicAdd(&out[(threadIdx.x + 1) % 32], 1);
}

// ---- initcheck ----

KERNEL bad_initcheck_global(int* scratch, int* out) {
    out[threadIdx.x] = scratch[threadIdx.x] + 1; // FAULT bad_initcheck_global
}

KERNEL good_initcheck_global(int* scratch, int* out) {
    scratch[threadIdx.x] = threadIdx.x;
    __syncthreads(); // so that the load is not replaced by what was stored
    out[threadIdx.x] = scratch[threadIdx.x ^ 1] + 1;
}

KERNEL bad_initcheck_global_bytes(int* scratch, int* out) {
    unsigned char* bytes = reinterpret_cast<unsigned char*>(scratch + threadIdx.x);
    bytes[0] = bytes[1] = bytes[2] = 7;
    __syncthreads();
    out[threadIdx.x] = scratch[threadIdx.x ^ 1]; // FAULT bad_initcheck_global_bytes
}

KERNEL good_initcheck_global_bytes(int* scratch, int* out) {
    unsigned char* bytes = reinterpret_cast<unsigned char*>(scratch + threadIdx.x);
    bytes[0] = bytes[1] = bytes[2] = bytes[3] = 7;
    __syncthreads();
    out[threadIdx.x] = scratch[threadIdx.x ^ 1];
}

KERNEL bad_initcheck_shared(const int* in, int* out) {
    __shared__ int cells[32];
    if (threadIdx.x % 2 == 0) cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = cells[threadIdx.x]; // FAULT bad_initcheck_shared
}

KERNEL good_initcheck_shared(const int* in, int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL bad_initcheck_shared_dynamic(const int* in, int* out) {
    if (threadIdx.x % 2 == 0) dynamic_cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = dynamic_cells[threadIdx.x]; // FAULT bad_initcheck_shared_dynamic
}

KERNEL good_initcheck_shared_dynamic(const int* in, int* out) {
    dynamic_cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = dynamic_cells[threadIdx.x];
}

KERNEL bad_initcheck_local(const int* in, int* out, int index) {
    int cells[8];
#pragma unroll
    for (int i = 0; i < 4; i++) cells[i] = in[i];
    out[threadIdx.x] = cells[index]; // FAULT bad_initcheck_local
}

KERNEL good_initcheck_local(const int* in, int* out, int index) {
    int cells[8];
#pragma unroll
    for (int i = 0; i < 8; i++) cells[i] = in[i % 4];
    out[threadIdx.x] = cells[index];
}

// ---- racecheck: shared memory ----

KERNEL bad_racecheck_missing_sync(const int* in, int* out) {
    __shared__ int cells[64];
    cells[threadIdx.x] = in[threadIdx.x]; // OTHER bad_racecheck_missing_sync
    out[threadIdx.x] = cells[63 - threadIdx.x]; // FAULT bad_racecheck_missing_sync
}

KERNEL good_racecheck_missing_sync(const int* in, int* out) {
    __shared__ int cells[64];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = cells[63 - threadIdx.x];
}

KERNEL bad_racecheck_write_after_read(const int* in, int* out) {
    __shared__ int cells[64];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    int x = cells[63 - threadIdx.x]; // OTHER bad_racecheck_write_after_read
    cells[threadIdx.x] = 2 * x; // FAULT bad_racecheck_write_after_read
    __syncthreads();
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

KERNEL good_racecheck_write_after_read(const int* in, int* out) {
    __shared__ int cells[64];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    int x = cells[63 - threadIdx.x];
    __syncthreads();
    cells[threadIdx.x] = 2 * x;
    __syncthreads();
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

KERNEL bad_racecheck_two_writers(int* out) {
    __shared__ int cells[2];
    if (threadIdx.x < 2) cells[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x % 32 == 0) cells[0] = threadIdx.x; // FAULT bad_racecheck_two_writers
    __syncthreads();
    if (threadIdx.x < 2) out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL good_racecheck_two_writers(int* out) {
    __shared__ int cells[2];
    if (threadIdx.x < 2) cells[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x % 32 == 0) cells[threadIdx.x / 32] = threadIdx.x;
    __syncthreads();
    if (threadIdx.x < 2) out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL bad_racecheck_warp(const int* in, int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = in[threadIdx.x]; // OTHER bad_racecheck_warp
    out[threadIdx.x] = cells[threadIdx.x ^ 1]; // FAULT bad_racecheck_warp
}

KERNEL good_racecheck_warp(const int* in, int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncwarp();
    out[threadIdx.x] = cells[threadIdx.x ^ 1];
}

KERNEL bad_racecheck_warp_tree(const int* in, int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
#pragma unroll 1
    for (int half = 16; half > 0; half /= 2)
        if (threadIdx.x < half) cells[threadIdx.x] += cells[threadIdx.x + half]; // FAULT bad_racecheck_warp_tree
    if (threadIdx.x == 0) out[0] = cells[0];
}

KERNEL good_racecheck_warp_tree(const int* in, int* out) {
    __shared__ int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
#pragma unroll 1
    for (int half = 16; half > 0; half /= 2) {
        if (threadIdx.x < half) cells[threadIdx.x] += cells[threadIdx.x + half];
        __syncwarp();
    }
    if (threadIdx.x == 0) out[0] = cells[0];
}

KERNEL bad_racecheck_counter(int* out) {
    __shared__ int counter;
    if (threadIdx.x == 0) counter = 0;
    __syncthreads();
    counter += threadIdx.x; // FAULT bad_racecheck_counter
    __syncthreads();
    if (threadIdx.x == 0) out[0] = counter;
}

KERNEL good_racecheck_counter(int* out) {
    __shared__ int counter;
    if (threadIdx.x == 0) counter = 0;
    __syncthreads();
    atomicAdd(&counter, (int)threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0) out[0] = counter;
}

KERNEL bad_racecheck_atomic_and_plain(int* out) {
    __shared__ int counter;
    if (threadIdx.x == 0) counter = 0;
    __syncthreads();
    atomicAdd(&counter, (int)threadIdx.x); // OTHER bad_racecheck_atomic_and_plain
    out[threadIdx.x] = counter; // FAULT bad_racecheck_atomic_and_plain
}

KERNEL good_racecheck_atomic_and_plain(int* out) {
    __shared__ int counter;
    if (threadIdx.x == 0) counter = 0;
    __syncthreads();
    atomicAdd(&counter, (int)threadIdx.x);
    __syncthreads();
    out[threadIdx.x] = counter;
}

KERNEL bad_racecheck_wrong_barrier(const int* in, int* out) {
    __shared__ int cells[128];
    cells[threadIdx.x] = in[threadIdx.x]; // OTHER bad_racecheck_wrong_barrier
    asm volatile("bar.sync %0, 64;" ::"r"(1 + threadIdx.x / 64) : "memory");
    out[threadIdx.x] = cells[127 - threadIdx.x]; // FAULT bad_racecheck_wrong_barrier
}

KERNEL good_racecheck_wrong_barrier(const int* in, int* out) {
    __shared__ int cells[128];
    cells[threadIdx.x] = in[threadIdx.x];
    asm volatile("bar.sync %0, 64;" ::"r"(1 + threadIdx.x / 64) : "memory");
    out[threadIdx.x] = cells[threadIdx.x ^ 63];
}

KERNEL bad_racecheck_shared_bytes(int* out) {
    __shared__ unsigned char cells[64];
    cells[threadIdx.x % 32] = threadIdx.x; // FAULT bad_racecheck_shared_bytes
    __syncthreads();
    out[threadIdx.x] = cells[(63 - threadIdx.x) % 32];
}

KERNEL good_racecheck_shared_bytes(int* out) {
    __shared__ unsigned char cells[64];
    cells[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = cells[63 - threadIdx.x];
}

KERNEL bad_racecheck_shared_halves(int* out) {
    __shared__ unsigned short cells[64];
    cells[threadIdx.x % 32] = threadIdx.x; // FAULT bad_racecheck_shared_halves
    __syncthreads();
    out[threadIdx.x] = cells[(63 - threadIdx.x) % 32];
}

KERNEL good_racecheck_shared_halves(int* out) {
    __shared__ unsigned short cells[64];
    cells[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = cells[63 - threadIdx.x];
}

// ---- racecheck: global memory ----

KERNEL bad_racecheck_global_block(int* scratch, int* out) {
    scratch[threadIdx.x] = threadIdx.x; // OTHER bad_racecheck_global_block
    out[threadIdx.x] = scratch[63 - threadIdx.x]; // FAULT bad_racecheck_global_block
}

KERNEL good_racecheck_global_block(int* scratch, int* out) {
    scratch[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = scratch[63 - threadIdx.x];
}

KERNEL bad_racecheck_global_two_writers(int* out) {
    if (threadIdx.x == 0) out[0] = blockIdx.x; // FAULT bad_racecheck_global_two_writers
}

KERNEL good_racecheck_global_two_writers(int* out) {
    if (threadIdx.x == 0) out[blockIdx.x] = blockIdx.x;
}

KERNEL bad_racecheck_global_read_write(int* buffer, unsigned* flag, int* out) {
    if (blockIdx.x == 0)
        buffer[threadIdx.x] = threadIdx.x; // OTHER bad_racecheck_global_read_write
    else
        out[threadIdx.x] = buffer[threadIdx.x]; // FAULT bad_racecheck_global_read_write
}

KERNEL good_racecheck_global_read_write(int* buffer, unsigned* flag, int* out) {
    if (blockIdx.x == 0) {
        buffer[threadIdx.x] = threadIdx.x;
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

KERNEL bad_racecheck_global_no_fence(int* buffer, unsigned* flag, int* out) {
    if (blockIdx.x == 0) {
        buffer[threadIdx.x] = threadIdx.x; // OTHER bad_racecheck_global_no_fence
        __syncthreads();
        if (threadIdx.x == 0) atomicExch(flag, 1u);
    } else {
        if (threadIdx.x == 0) {
            while (atomicAdd(flag, 0u) == 0) {}
            __threadfence();
        }
        __syncthreads();
        out[threadIdx.x] = buffer[threadIdx.x]; // FAULT bad_racecheck_global_no_fence
    }
}

KERNEL good_racecheck_global_no_fence(int* buffer, unsigned* flag, int* out) {
    if (blockIdx.x == 0) {
        buffer[threadIdx.x] = threadIdx.x;
        __syncthreads();
        // A fence is cumulative: this one covers what the barrier ordered before it.
        if (threadIdx.x == 0) {
            __threadfence();
            atomicExch(flag, 1u);
        }
    } else {
        if (threadIdx.x == 0) {
            while (atomicAdd(flag, 0u) == 0) {}
            __threadfence();
        }
        __syncthreads();
        out[threadIdx.x] = buffer[threadIdx.x];
    }
}

KERNEL bad_racecheck_global_counter(int* out) {
    if (threadIdx.x == 0) out[0] += 1; // FAULT bad_racecheck_global_counter
}

KERNEL good_racecheck_global_counter(int* out) {
    if (threadIdx.x == 0) atomicAdd(out, 1);
}

KERNEL bad_racecheck_global_bytes(unsigned char* out) {
    out[threadIdx.x] = blockIdx.x; // FAULT bad_racecheck_global_bytes
}

KERNEL good_racecheck_global_bytes(unsigned char* out) {
    out[2 * threadIdx.x + blockIdx.x] = blockIdx.x;
}

// ---- synccheck ----

KERNEL bad_synccheck_divergent_barrier(int* out) {
    out[threadIdx.x] = 0;
    if (threadIdx.x < 48) {
        __syncthreads(); // FAULT bad_synccheck_divergent_barrier
        out[threadIdx.x] = 1;
    }
}

KERNEL good_synccheck_divergent_barrier(int* out) {
    out[threadIdx.x] = 0;
    __syncthreads();
    if (threadIdx.x < 48) out[threadIdx.x] = 1;
}

KERNEL bad_synccheck_shfl_divergent(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x < 16) x = __shfl_sync(FULL, x, 3); // FAULT bad_synccheck_shfl_divergent
    out[threadIdx.x] = x;
}

KERNEL good_synccheck_shfl_divergent(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x < 16) x = __shfl_sync(0x0000ffffu, x, 3);
    out[threadIdx.x] = x;
}

KERNEL bad_synccheck_shfl_not_in_mask(const int* in, int* out) {
    out[threadIdx.x] = __shfl_sync(0x0000ffffu, in[threadIdx.x], 3); // FAULT bad_synccheck_shfl_not_in_mask
}

KERNEL good_synccheck_shfl_not_in_mask(const int* in, int* out) {
    out[threadIdx.x] = __shfl_sync(FULL, in[threadIdx.x], 3);
}

KERNEL bad_synccheck_shfl_absent_source(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x < 16) x = __shfl_sync(0x0000ffffu, x, 20); // FAULT bad_synccheck_shfl_absent_source
    out[threadIdx.x] = x;
}

KERNEL good_synccheck_shfl_absent_source(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x < 16) x = __shfl_sync(0x0000ffffu, x, 12);
    out[threadIdx.x] = x;
}

KERNEL bad_synccheck_ballot(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __ballot_sync(FULL, x > 0); // FAULT bad_synccheck_ballot
    out[threadIdx.x] = x;
}

KERNEL good_synccheck_ballot(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __ballot_sync(FULL & ~(1u << 5), x > 0);
    out[threadIdx.x] = x;
}

KERNEL bad_synccheck_match(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __match_any_sync(FULL, x); // FAULT bad_synccheck_match
    out[threadIdx.x] = x;
}

KERNEL good_synccheck_match(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __match_any_sync(FULL & ~(1u << 5), x);
    out[threadIdx.x] = x;
}

KERNEL bad_synccheck_redux(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __reduce_add_sync(FULL, x); // FAULT bad_synccheck_redux
    out[threadIdx.x] = x;
}

KERNEL good_synccheck_redux(const int* in, int* out) {
    int x = in[threadIdx.x];
    if (threadIdx.x != 5) x = __reduce_add_sync(FULL & ~(1u << 5), x);
    out[threadIdx.x] = x;
}

#define MMA(d, a) \
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %2}, {%2}, {%2, %2};" : "=r"(d[0]), "=r"(d[1]) : "r"(a))

KERNEL bad_synccheck_mma(const int* in, int* out) {
    int x = in[threadIdx.x];
    int d[2] = {x, x};
    if (threadIdx.x < 16) MMA(d, x); // FAULT bad_synccheck_mma
    out[2 * threadIdx.x] = d[0];
    out[2 * threadIdx.x + 1] = d[1];
}

KERNEL good_synccheck_mma(const int* in, int* out) {
    int x = in[threadIdx.x];
    int d[2] = {x, x};
    MMA(d, x);
    out[2 * threadIdx.x] = d[0];
    out[2 * threadIdx.x + 1] = d[1];
}

#define LDMATRIX(d, row) \
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(d) : "r"(shared_address(row)) : "memory")

KERNEL bad_synccheck_ldmatrix(const int* in, int* out) {
    __shared__ __align__(16) int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    int d = 0;
    if (threadIdx.x < 16) LDMATRIX(d, &cells[threadIdx.x % 8 * 4]); // FAULT bad_synccheck_ldmatrix
    out[threadIdx.x] = d;
}

KERNEL good_synccheck_ldmatrix(const int* in, int* out) {
    __shared__ __align__(16) int cells[32];
    cells[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    int d = 0;
    LDMATRIX(d, &cells[threadIdx.x % 8 * 4]);
    out[threadIdx.x] = d;
}

KERNEL bad_synccheck_syncwarp(const int* in, int* out) {
    int x = in[threadIdx.x];
    out[threadIdx.x] = x;
    if (threadIdx.x < 16) {
        __syncwarp(0xffff0000u); // FAULT bad_synccheck_syncwarp
        out[threadIdx.x] = x + 1;
    }
}

KERNEL good_synccheck_syncwarp(const int* in, int* out) {
    int x = in[threadIdx.x];
    out[threadIdx.x] = x;
    if (threadIdx.x < 16) {
        __syncwarp(0x0000ffffu);
        out[threadIdx.x] = x + 1;
    }
}

KERNEL bad_synccheck_barrier_count(int* out) {
    asm volatile("bar.sync 1, 96;" ::: "memory"); // FAULT bad_synccheck_barrier_count
    out[threadIdx.x] = 1;
}

KERNEL good_synccheck_barrier_count(int* out) {
    asm volatile("bar.sync 1, 64;" ::: "memory");
    out[threadIdx.x] = 1;
}

// ---- visibility of cp.async ----

KERNEL bad_async_before_wait(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    COMMIT();
    out[threadIdx.x] = cells[threadIdx.x]; // FAULT bad_async_before_wait
    WAIT_GROUP(0);
}

KERNEL good_async_before_wait(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    COMMIT();
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL bad_async_no_barrier(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x); // OTHER bad_async_no_barrier
    COMMIT();
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[63 - threadIdx.x]; // FAULT bad_async_no_barrier
}

KERNEL good_async_no_barrier(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    COMMIT();
    WAIT_GROUP(0);
    __syncthreads();
    out[threadIdx.x] = cells[63 - threadIdx.x];
}

KERNEL bad_async_barrier_first(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x); // OTHER bad_async_barrier_first
    COMMIT();
    __syncthreads();
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[63 - threadIdx.x]; // FAULT bad_async_barrier_first
}

KERNEL good_async_barrier_first(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    COMMIT();
    WAIT_GROUP(0);
    __syncthreads();
    out[threadIdx.x] = cells[63 - threadIdx.x];
}

KERNEL bad_async_wait_one(const int* in, int* out) {
    __shared__ int cells[2][64];
    CP_ASYNC_4(&cells[0][threadIdx.x], in + threadIdx.x);
    COMMIT();
    CP_ASYNC_4(&cells[1][threadIdx.x], in + 64 + threadIdx.x);
    COMMIT();
    WAIT_GROUP(1);
    out[threadIdx.x] = cells[0][threadIdx.x];
    out[64 + threadIdx.x] = cells[1][threadIdx.x]; // FAULT bad_async_wait_one
    WAIT_GROUP(0);
}

KERNEL good_async_wait_one(const int* in, int* out) {
    __shared__ int cells[2][64];
    CP_ASYNC_4(&cells[0][threadIdx.x], in + threadIdx.x);
    COMMIT();
    CP_ASYNC_4(&cells[1][threadIdx.x], in + 64 + threadIdx.x);
    COMMIT();
    WAIT_GROUP(1);
    out[threadIdx.x] = cells[0][threadIdx.x];
    WAIT_GROUP(0);
    out[64 + threadIdx.x] = cells[1][threadIdx.x];
}

KERNEL bad_async_no_commit(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[threadIdx.x]; // FAULT bad_async_no_commit
    asm volatile("cp.async.wait_all;" ::: "memory");
}

KERNEL good_async_no_commit(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    // Unlike wait_group, wait_all needs no commit.
    asm volatile("cp.async.wait_all;" ::: "memory");
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL bad_async_overwrite(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x); // OTHER bad_async_overwrite
    COMMIT();
    cells[threadIdx.x] = 7; // FAULT bad_async_overwrite
    WAIT_GROUP(0);
    out[threadIdx.x] = cells[threadIdx.x];
}

KERNEL good_async_overwrite(const int* in, int* out) {
    __shared__ int cells[64];
    CP_ASYNC_4(&cells[threadIdx.x], in + threadIdx.x);
    COMMIT();
    WAIT_GROUP(0);
    cells[threadIdx.x] += 7;
    out[threadIdx.x] = cells[threadIdx.x];
}

// ---- limits of a launch ----

KERNEL __launch_bounds__(64) bad_launch_bounds(int* out) {
    out[threadIdx.x] = threadIdx.x;
}

KERNEL __launch_bounds__(128) good_launch_bounds(int* out) {
    out[threadIdx.x] = threadIdx.x;
}

// ---- data read as read-only ----

KERNEL bad_readonly_own(int* a, int* out) {
    a[threadIdx.x] = threadIdx.x; // OTHER bad_readonly_own
    __syncthreads();
    out[threadIdx.x] = __ldg(&a[63 - threadIdx.x]); // FAULT bad_readonly_own
}

KERNEL good_readonly_own(int* a, int* out) {
    a[threadIdx.x] = threadIdx.x;
    __syncthreads();
    out[threadIdx.x] = a[63 - threadIdx.x];
}

KERNEL bad_readonly_other_block(int* a, int* out) {
    if (blockIdx.x == 1)
        a[threadIdx.x] = threadIdx.x; // OTHER bad_readonly_other_block
    else
        out[threadIdx.x] = __ldg(&a[threadIdx.x]); // FAULT bad_readonly_other_block
}

KERNEL good_readonly_other_block(int* a, int* out) {
    if (blockIdx.x == 1)
        out[64 + threadIdx.x] = threadIdx.x;
    else
        out[threadIdx.x] = __ldg(&a[threadIdx.x]);
}

// ---- deadlocks ----

KERNEL bad_deadlock_missing_block(unsigned* arrived, int* out) {
    atomicAdd(arrived, 1u);
    while (atomicAdd(arrived, 0u) < gridDim.x + 1) {} // FAULT bad_deadlock_missing_block
    out[blockIdx.x] = 1;
}

KERNEL good_deadlock_missing_block(unsigned* arrived, int* out) {
    atomicAdd(arrived, 1u);
    while (atomicAdd(arrived, 0u) < gridDim.x) {}
    out[blockIdx.x] = 1;
}

KERNEL bad_deadlock_flag(volatile unsigned* flag, int* out) {
    if (blockIdx.x == 1) {
        flag[1] = 1;
    } else {
        while (flag[0] == 0) {} // FAULT bad_deadlock_flag
        out[0] = 1;
    }
}

KERNEL good_deadlock_flag(volatile unsigned* flag, int* out) {
    if (blockIdx.x == 1) {
        flag[0] = 1;
    } else {
        while (flag[0] == 0) {}
        out[0] = 1;
    }
}

KERNEL bad_deadlock_lanes(volatile unsigned* flag, int* out) {
    while (flag[(threadIdx.x + 1) % 32] == 0) {} // FAULT bad_deadlock_lanes
    flag[threadIdx.x] = 1;
    out[threadIdx.x] = 1;
}

KERNEL good_deadlock_lanes(volatile unsigned* flag, int* out) {
    while (threadIdx.x != 31 && flag[(threadIdx.x + 1) % 32] == 0) {}
    flag[threadIdx.x] = 1;
    out[threadIdx.x] = 1;
}

KERNEL bad_deadlock_barriers(int* out) {
    asm volatile("bar.sync %0, 64;" ::"r"(1 + threadIdx.x / 32) : "memory"); // FAULT bad_deadlock_barriers
    out[threadIdx.x] = 1;
}

KERNEL good_deadlock_barriers(int* out) {
    asm volatile("bar.sync %0, 64;" ::"r"(1 + threadIdx.x / 64) : "memory");
    out[threadIdx.x] = 1;
}

// ---- trap ----

KERNEL bad_trap_negative(const int* in, int* out) {
    if (in[threadIdx.x] < 0) asm volatile("trap;"); // FAULT bad_trap_negative
    out[threadIdx.x] = in[threadIdx.x];
}

KERNEL good_trap_negative(const int* in, int* out) {
    out[threadIdx.x] = in[threadIdx.x] < 0 ? 0 : in[threadIdx.x];
}
