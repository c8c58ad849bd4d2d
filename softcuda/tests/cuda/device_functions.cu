// Functions that are really called: struct arguments and results, recursion, a pointer to a local variable, a function
// pointer.
//
// complex_power   z[i] = z[i]^power by repeated squaring; the product is a __noinline__ function of two structs
//   any grid, any block; (z[2*n] interleaved, n, power >= 0)
// ackermann       out[i] = A(2, in[i]) by recursion (2 * in[i] + 3); needs a stack of some kilobytes for in[i] <= 10
//   any grid, any block; (in[n], out[n], n)
// through_pointer out[i] = in[i] op 3, op chosen by which[i] % 3 (add, subtract, multiply) from a table of functions
//   any grid, any block; (in[n], which[n], out[n], n)

struct Complex {
    float re, im;
};

__noinline__ __device__ Complex multiply(Complex a, Complex b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

// The results come back through pointers to the caller's local memory.
__noinline__ __device__ void halve(int power, int* half, bool* odd) {
    *half = power / 2;
    *odd = power % 2 != 0;
}

extern "C" __global__ void complex_power(Complex* z, int n, int power) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    Complex result = {1.0f, 0.0f}, base = z[i];
    while (power > 0) {
        bool odd;
        halve(power, &power, &odd);
        if (odd) result = multiply(result, base);
        base = multiply(base, base);
    }
    z[i] = result;
}

__noinline__ __device__ int recurse(int m, int n) {
    if (m == 0) return n + 1;
    if (n == 0) return recurse(m - 1, 1);
    return recurse(m - 1, recurse(m, n - 1));
}

extern "C" __global__ void ackermann(const int* in, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = recurse(2, in[i]);
}

__noinline__ __device__ int add(int a, int b) { return a + b; }
__noinline__ __device__ int subtract(int a, int b) { return a - b; }
__noinline__ __device__ int product(int a, int b) { return a * b; }

using Operation = int (*)(int, int);
__device__ Operation OPERATIONS[3] = {add, subtract, product};

extern "C" __global__ void through_pointer(const int* in, const int* which, int* out, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) out[i] = OPERATIONS[which[i] % 3](in[i], 3);
}
