// bitonic_sort   sorts every 1024 keys, ascending, in shared memory; n a multiple of 1024
//   grid n/1024, block 512; (keys[n])

constexpr int KEYS = 1024;

extern "C" __global__ void bitonic_sort(unsigned* keys) {
    __shared__ unsigned cells[KEYS];
    unsigned* chunk = keys + blockIdx.x * KEYS;
    cells[threadIdx.x] = chunk[threadIdx.x];
    cells[threadIdx.x + KEYS / 2] = chunk[threadIdx.x + KEYS / 2];
    for (int size = 2; size <= KEYS; size *= 2) {
        for (int stride = size / 2; stride > 0; stride /= 2) {
            __syncthreads();
            int low = 2 * threadIdx.x - (threadIdx.x & (stride - 1));
            int high = low + stride;
            bool ascending = (low & size) == 0;
            unsigned a = cells[low], b = cells[high];
            if ((a > b) == ascending) {
                cells[low] = b;
                cells[high] = a;
            }
        }
    }
    __syncthreads();
    chunk[threadIdx.x] = cells[threadIdx.x];
    chunk[threadIdx.x + KEYS / 2] = cells[threadIdx.x + KEYS / 2];
}
