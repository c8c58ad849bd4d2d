// Dynamic shared memory.
//
// reverse_dynamic   out[b*block + t] = in[b*block + block-1 - t]
//   any grid, any block, dynamic shared 4*block bytes; (in[grid*block] (i32), out[grid*block] (i32))
// carve_dynamic     two arrays carved from one allocation, behind 64 static bytes: out[t] = doubles[block-1-t] +
//                   floats[block-1-t], where doubles[t] = in[t], floats[t] = 2 * in[t]; grid 1
//   any block, dynamic shared 12*block bytes; (in[block] (f32), out[block] (f64))
// large_dynamic     writes words 0..words of shared memory and sums them back: out[0] = words*(words-1)/2 (u32); more than
//                   48 KiB needs the opt-in by cuFuncSetAttribute
//   grid 1, block 256, dynamic shared 4*words bytes; (out[1] (u32) = 0, words)
// dynamic_size      out[0] = %dynamic_smem_size, out[1] = %total_smem_size (static 16 bytes and dynamic, rounded up)
//   grid 1, block 1, any dynamic shared; (out[2] (u32))

extern __shared__ __align__(16) unsigned char dynamic[];

extern "C" __global__ void reverse_dynamic(const int* in, int* out) {
    int* cells = reinterpret_cast<int*>(dynamic);
    int first = blockIdx.x * blockDim.x;
    cells[threadIdx.x] = in[first + threadIdx.x];
    __syncthreads();
    out[first + threadIdx.x] = cells[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void carve_dynamic(const float* in, double* out) {
    __shared__ float static_cells[16];
    double* doubles = reinterpret_cast<double*>(dynamic);
    float* floats = reinterpret_cast<float*>(doubles + blockDim.x);
    if (threadIdx.x < 16) static_cells[threadIdx.x] = 0.0f;
    doubles[threadIdx.x] = in[threadIdx.x];
    floats[threadIdx.x] = 2.0f * in[threadIdx.x];
    __syncthreads();
    int mirrored = blockDim.x - 1 - threadIdx.x;
    out[threadIdx.x] = doubles[mirrored] + floats[mirrored] + static_cells[threadIdx.x % 16];
}

extern "C" __global__ void large_dynamic(unsigned* out, unsigned words) {
    unsigned* cells = reinterpret_cast<unsigned*>(dynamic);
    for (unsigned i = threadIdx.x; i < words; i += blockDim.x) cells[i] = i;
    __syncthreads();
    unsigned sum = 0;
    for (unsigned i = threadIdx.x; i < words; i += blockDim.x) sum += cells[words - 1 - i];
    atomicAdd(out, sum);
}

extern "C" __global__ void dynamic_size(unsigned* out) {
    __shared__ volatile int anchor[4];
    anchor[0] = 0;
    asm volatile("mov.u32 %0, %%dynamic_smem_size;" : "=r"(out[0]));
    asm volatile("mov.u32 %0, %%total_smem_size;" : "=r"(out[1]));
}
