// sets: f32 bf16
//
// Fills, sums and activations: one pass over memory each, nothing saved.
//
// Layout: any dense arrays of n elements. Parallelism: a thread has one pack of 16 bytes of each array; where an address is not a
// multiple of 16, or at the end, it goes element by element.

#include "common.cuh"

constexpr unsigned THREADS = 256;

// Whether all of them can be read in packs.
template <class... Arrays> __device__ __forceinline__ bool aligned(const Arrays*... array) {
    return ((reinterpret_cast<uintptr_t>(array) | ...) & 15) == 0;
}

// y[i] = f(i-th of each input) for this thread's pack of the n elements. An input may be y itself.
template <class F, class... Inputs> __device__ __forceinline__ void each(Element* y, size_t n, F f, const Inputs*... input) {
    constexpr unsigned COUNT = Pack<Element>::COUNT;
    size_t first = (size_t(blockIdx.x) * THREADS + threadIdx.x) * COUNT;
    if (aligned(y, input...) && first + COUNT <= n) {
        Pack<Element> result;
        auto apply = [&](const Pack<Inputs>&... pack) {
#pragma unroll
            for (unsigned i = 0; i < COUNT; i++) store(&result.element[i], f(load(&pack.element[i])...));
        };
        apply(load_pack(input + first)...);
        store_pack(y + first, result);
    } else {
        for (size_t i = first; i < n && i < first + COUNT; i++) store(&y[i], f(load(&input[i])...));
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) elementwise_fill(Element* y, float value, size_t n) {
    each(y, n, [=]() { return value; });
}

// y += x
extern "C" __global__ void __launch_bounds__(THREADS) elementwise_add(Element* y, const Element* x, size_t n) {
    each(y, n, [](float y, float x) { return y + x; }, y, x);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_activation_forward(Element* y, const Element* x, unsigned activation, size_t n) {
    each(y, n, [=](float x) { return activate(x, activation); }, x);
}

// dx = dy activation'(x), or dx += where `add`; dx may be dy.
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_activation_backward(Element* dx, unsigned add, const Element* dy, const Element* x, unsigned activation, size_t n) {
    if (add) {
        each(dx, n, [=](float dx, float dy, float x) { return dx + dy * activation_slope(x, activation); }, dx, dy, x);
    } else {
        each(dx, n, [=](float dy, float x) { return dy * activation_slope(x, activation); }, dy, x);
    }
}

// y = x + branch
extern "C" __global__ void __launch_bounds__(THREADS)
    elementwise_residual_forward(Element* y, const Element* x, const Element* branch, size_t n) {
    each(y, n, [](float x, float branch) { return x + branch; }, x, branch);
}
