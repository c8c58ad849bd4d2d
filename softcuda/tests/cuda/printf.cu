// printf from the device.
//
// print_values   every thread prints "thread T of block B: i I, x X, s text"; i is in[t], x is in[t] / 2 (a double by
//                promotion), s is a string of the module
//   any grid, any block; (in[block])
// print_kinds    one line with %d %u %x %lld %c %s %5.2f %e %p and a literal %%: -7 7 ff -5000000000 c word  3.14
//   grid 1, block 1; (pointer, printed with %p)

#include <cstdio>

extern "C" __global__ void print_values(const int* in) {
    printf("thread %d of block %d: i %d, x %.2f, s %s\n", threadIdx.x, blockIdx.x, in[threadIdx.x], in[threadIdx.x] * 0.5f, "text");
}

extern "C" __global__ void print_kinds(const void* pointer) {
    printf("%d %u %x %lld %c %s %5.2f %e %p 100%%\n", -7, 7u, 0xff, -5000000000ll, 'c', "word", 3.14159, 1.5e10, pointer);
    printf("no arguments\n");
}
