// Element-wise kernels.
//
// vector_add          c[i] = a[i] + b[i]                 grid ceil(n/256), block 256
//   (a[n], b[n], c[n], n)
// saxpy               y[i] = alpha * x[i] + y[i]         grid ceil(n/256), block 256
//   (n, alpha, x[n], y[n])
// saxpy_grid_stride   the same, any grid and any block: every thread strides over the whole vector
//   (n, alpha, x[n], y[n])
// vector_add_float4   c = a + b, four at a time          grid ceil(n/1024), block 256; n a multiple of 4
//   (a[n], b[n], c[n], n), pointers aligned to 16 bytes

extern "C" __global__ void vector_add(const float* a, const float* b, float* c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) c[i] = a[i] + b[i];
}

extern "C" __global__ void saxpy(int n, float alpha, const float* x, float* y) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = alpha * x[i] + y[i];
}

extern "C" __global__ void saxpy_grid_stride(int n, float alpha, const float* __restrict__ x, float* __restrict__ y) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        y[i] = alpha * x[i] + y[i];
}

extern "C" __global__ void vector_add_float4(const float4* __restrict__ a, const float4* __restrict__ b,
                                             float4* __restrict__ c, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n / 4) return;
    float4 x = a[i], y = b[i];
    c[i] = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
}
