// out[x, y] = in[y, x]; in is [height, width] row-major, any size.
//
// transpose_naive       no shared memory: uncoalesced writes
// transpose_conflicts   a 32 x 32 tile in shared memory whose columns all lie in one bank
// transpose_padded      a tile of 33 columns: no bank conflict
//   all three: grid (ceil(width/32), ceil(height/32)), block (32, 8); (in[height*width], out[width*height], width, height)

constexpr int TILE = 32, ROWS = 8;

extern "C" __global__ void transpose_naive(const float* in, float* out, int width, int height) {
    int x = blockIdx.x * TILE + threadIdx.x;
    for (int y = blockIdx.y * TILE + threadIdx.y; y < min((blockIdx.y + 1) * TILE, height); y += ROWS)
        if (x < width) out[x * height + y] = in[y * width + x];
}

template <int PITCH> __device__ void transpose_tile(float (*tile)[PITCH], const float* in, float* out, int width, int height) {
    int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
        if (x < width && y + j < height) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * width + x];
    __syncthreads();
    x = blockIdx.y * TILE + threadIdx.x;
    y = blockIdx.x * TILE + threadIdx.y;
    for (int j = 0; j < TILE; j += ROWS)
        if (x < height && y + j < width) out[(y + j) * height + x] = tile[threadIdx.x][threadIdx.y + j];
}

extern "C" __global__ void transpose_conflicts(const float* in, float* out, int width, int height) {
    __shared__ float tile[TILE][TILE];
    transpose_tile(tile, in, out, width, height);
}

extern "C" __global__ void transpose_padded(const float* in, float* out, int width, int height) {
    __shared__ float tile[TILE][TILE + 1];
    transpose_tile(tile, in, out, width, height);
}
