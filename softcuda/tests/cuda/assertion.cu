// assert() on the device.
//
// check_positive   out[i] = in[i]; asserts in[i] > 0, so that one value that is not stops the launch with
//                  CUDA_ERROR_ASSERT (710) and a message that names file, line, function, block and thread
//   any grid, any block; (in[n], out[n], n)

#include <cassert>

extern "C" __global__ void check_positive(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    assert(in[i] > 0);
    out[i] = in[i];
}
