// Module-scope memory: __constant__ with and without an initialiser, __device__ arrays with one.
//
// polynomial       out[i] = sum over p of COEFFICIENTS[p] * x[i]^p, p < 5; the host may overwrite COEFFICIENTS through
//                  cuModuleGetGlobal (its initial values are 1, 0.5, 0.25, 0.125, 0.0625)
//   any grid, any block; (x[n], out[n], n)
// table_lookup     out[i] = PRIMES[index[i] & 15] + OFFSET; PRIMES holds the first 16 primes, OFFSET is 100
//   any grid, any block; (index[n], out[n], n)
// count_launches   LAUNCHES += 1 and out[0] = its old value: a __device__ variable lives as long as the module
//   grid 1, block 1; (out[1])
// read_message     out[i] = MESSAGE[i] for the 14 bytes of "hello, device" with its 0; follows a pointer to it that is
//                  itself initialised with an address
//   grid 1, block 14; (out[14])
// zeroed           out[i] = ZEROED[i]: a __device__ array without an initialiser is zero
//   grid 1, block 64; (out[64])

__constant__ float COEFFICIENTS[5] = {1.0f, 0.5f, 0.25f, 0.125f, 0.0625f};
__constant__ int OFFSET = 100;
__device__ int PRIMES[16] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53};
__device__ unsigned LAUNCHES;
__device__ float ZEROED[64];
__device__ char MESSAGE[14] = "hello, device";
__device__ char* MESSAGE_POINTER = MESSAGE;

extern "C" __global__ void polynomial(const float* x, float* out, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        float y = COEFFICIENTS[4];
#pragma unroll 1
        for (int p = 3; p >= 0; p--) y = y * x[i] + COEFFICIENTS[p];
        out[i] = y;
    }
}

extern "C" __global__ void table_lookup(const int* index, int* out, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        out[i] = PRIMES[index[i] & 15] + OFFSET;
}

extern "C" __global__ void count_launches(unsigned* out) {
    out[0] = atomicAdd(&LAUNCHES, 1u);
}

extern "C" __global__ void read_message(char* out) {
    out[threadIdx.x] = MESSAGE_POINTER[threadIdx.x];
}

extern "C" __global__ void zeroed(float* out) {
    out[threadIdx.x] = ZEROED[threadIdx.x];
    // A store keeps the array from being folded away as a constant.
    if (out[threadIdx.x] != 0.0f) ZEROED[threadIdx.x] = 0.0f;
}
