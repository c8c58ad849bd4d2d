// stencil_2d   out[y,x] = centre * in[y,x] + side * (in[y,x-1] + in[y,x+1] + in[y-1,x] + in[y+1,x]); outside is 0.
//   grid (ceil(width/16), ceil(height/16)), block (16, 16); a tile of 18 x 18 with its halo lies in shared memory
//   (in[height*width], out[height*width], width, height, centre, side)

constexpr int TILE = 16, HALO = 1, PITCH = TILE + 2 * HALO;

extern "C" __global__ void stencil_2d(const float* __restrict__ in, float* __restrict__ out, int width, int height,
                                      float centre, float side) {
    __shared__ float tile[PITCH][PITCH];
    int x0 = blockIdx.x * TILE - HALO, y0 = blockIdx.y * TILE - HALO;
    // 324 cells and 256 threads: some load twice.
    for (int cell = threadIdx.y * TILE + threadIdx.x; cell < PITCH * PITCH; cell += TILE * TILE) {
        int x = x0 + cell % PITCH, y = y0 + cell / PITCH;
        bool inside = x >= 0 && x < width && y >= 0 && y < height;
        tile[cell / PITCH][cell % PITCH] = inside ? in[y * width + x] : 0.0f;
    }
    __syncthreads();
    int tx = threadIdx.x + HALO, ty = threadIdx.y + HALO;
    int x = blockIdx.x * TILE + threadIdx.x, y = blockIdx.y * TILE + threadIdx.y;
    if (x < width && y < height)
        out[y * width + x] = centre * tile[ty][tx] +
                             side * (tile[ty][tx - 1] + tile[ty][tx + 1] + tile[ty - 1][tx] + tile[ty + 1][tx]);
}
