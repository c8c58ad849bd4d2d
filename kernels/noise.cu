// sets: f32
//
// Normal numbers, and their mixing into clean samples.
//
//   numbers   Philox4x32-10 (Salmon et al. 2011): block i of a stream is four words, a function of (seed, step, purpose, i).
//             r = sqrt(-2 ln u(word 0)), a = 2 pi u(word 1); number 0 = r cos a, number 1 = r sin a; words 2 and 3 the same.
//   mixing    x_t = alpha x0 + sigma eps on the noised frames of a sample, x0 elsewhere; target = x0, eps or
//             alpha eps - sigma x0, where eps and sigma are 0 outside of the noised frames.
//
// Layout: x_t, target, x0, eps [batch, planes, width]; rows [batch, 4] as NoiseRow in backend/types.rs. Number `first + i` of
// the stream is for element i of a flat array, so that a part of a stream is a part of the whole. Parallelism: a thread has one
// block of the stream, that is, four numbers. `noise_mix_drawn` mixes numbers as it draws them: eps is never in memory.
//
// The functions here are those of src/random.rs, operation by operation: the numbers are the same bits as on a CPU. No product
// is added to anything outside of fmaf, so that a compiler has nothing to contract. Nothing is saved for backward.

#include "flat.cuh"

constexpr unsigned THREADS = 256;

// ---- words --------------------------------------------------------------------------------------------------------------

// Address of the numbers; comes from the host anew for each step, as memory, so that a captured launch stays the same.
struct alignas(16) Draw {
    uint64_t seed;
    uint64_t step;
    uint64_t first; // number of the stream that element 0 gets
    uint32_t purpose;
    uint32_t unused;
};

constexpr unsigned BLOCK_WORDS = 4;
constexpr unsigned ROUNDS = 10;
constexpr uint32_t MULTIPLIER_0 = 0xD2511F53, MULTIPLIER_1 = 0xCD9E8D57;
constexpr uint32_t KEY_STEP_0 = 0x9E3779B9, KEY_STEP_1 = 0xBB67AE85;

struct Words {
    uint32_t word[BLOCK_WORDS];
};

__device__ __forceinline__ Words philox(const Draw& draw, uint32_t block) {
    uint32_t c0 = block, c1 = draw.purpose, c2 = uint32_t(draw.step), c3 = uint32_t(draw.step >> 32);
    uint32_t key0 = uint32_t(draw.seed), key1 = uint32_t(draw.seed >> 32);
#pragma unroll
    for (unsigned round = 0; round < ROUNDS; round++) {
        uint64_t product0 = uint64_t(c0) * MULTIPLIER_0, product1 = uint64_t(c2) * MULTIPLIER_1;
        c0 = uint32_t(product1 >> 32) ^ c1 ^ key0;
        c1 = uint32_t(product1);
        c2 = uint32_t(product0 >> 32) ^ c3 ^ key1;
        c3 = uint32_t(product0);
        key0 += KEY_STEP_0;
        key1 += KEY_STEP_1;
    }
    return {{c0, c1, c2, c3}};
}

// ---- numbers ------------------------------------------------------------------------------------------------------------

constexpr float TWO_TO_24 = 16777216.0f;

// An odd multiple of 2^-24, so that neither 0 nor 1 can come.
__device__ __forceinline__ int odd(uint32_t word) { return int((word >> 8) | 1); }

// ln(x) for normal positive x: x = 2^e m, m in [sqrt(1/2), sqrt(2)), and a polynomial in m - 1 (Cephes' logf, Moshier 1989).
__device__ __forceinline__ float ln(float x) {
    constexpr uint32_t SQRT_HALF_BITS = 0x3F3504F3;
    constexpr float LN_2_HIGH = 0.6933594f, LN_2_LOW = -2.1219444e-4f; // products of the first with exponents are exact
    uint32_t shifted = __float_as_uint(x) - SQRT_HALF_BITS;
    float exponent = float(int(shifted) >> 23);
    float f = __uint_as_float((shifted & 0x007FFFFF) + SQRT_HALF_BITS) - 1.0f;
    float square = f * f;
    float p = 7.0376836e-2f;
    p = fmaf(p, f, -1.151461e-1f);
    p = fmaf(p, f, 1.1676999e-1f);
    p = fmaf(p, f, -1.2420141e-1f);
    p = fmaf(p, f, 1.4249323e-1f);
    p = fmaf(p, f, -1.6668058e-1f);
    p = fmaf(p, f, 2.0000715e-1f);
    p = fmaf(p, f, -2.4999994e-1f);
    p = fmaf(p, f, 3.333333e-1f);
    float tail = fmaf(exponent, LN_2_LOW, p * f * square);
    return fmaf(exponent, LN_2_HIGH, fmaf(square, -0.5f, tail) + f);
}

// `x`, negated when `two` is 2 rather than 0.
__device__ __forceinline__ float flip(float x, int two) { return __uint_as_float(__float_as_uint(x) ^ (uint32_t(two) << 30)); }

// Sine and cosine of 2 pi u(word): the nearest quarter turn is taken off in whole numbers, polynomials do the rest (Cephes'
// sinf and cosf, Moshier 1989).
__device__ __forceinline__ void sin_cos(uint32_t word, float& sine, float& cosine) {
    constexpr int QUARTER_BITS = 22;
    constexpr float RADIANS = 6.2831853f / TWO_TO_24;
    int turns = odd(word);
    int quarter = (turns + (1 << (QUARTER_BITS - 1))) >> QUARTER_BITS;
    float angle = float(turns - (quarter << QUARTER_BITS)) * RADIANS;
    float square = angle * angle;
    float s = -1.9515296e-4f;
    s = fmaf(s, square, 8.332161e-3f);
    s = fmaf(s, square, -1.6666655e-1f);
    s = fmaf(s * square, angle, angle);
    float c = 2.4433157e-5f;
    c = fmaf(c, square, -1.3887316e-3f);
    c = fmaf(c, square, 4.1666646e-2f);
    c = fmaf(c * square, square, fmaf(square, -0.5f, 1.0f));
    bool swapped = quarter & 1;
    sine = flip(swapped ? c : s, quarter & 2);
    cosine = flip(swapped ? s : c, (quarter + 1) & 2);
}

// The numbers of the `index`-th block from the one that holds number `first` on.
__device__ __forceinline__ Pack<float> normal_block(const Draw& draw, uint32_t index) {
    Words words = philox(draw, uint32_t(draw.first / BLOCK_WORDS) + index);
    Pack<float> numbers;
#pragma unroll
    for (unsigned pair = 0; pair < BLOCK_WORDS; pair += 2) {
        float radius = sqrtf(-2.0f * ln(float(odd(words.word[pair])) * (1.0f / TWO_TO_24)));
        float sine, cosine;
        sin_cos(words.word[pair + 1], sine, cosine);
        numbers.element[pair] = radius * cosine;
        numbers.element[pair + 1] = radius * sine;
    }
    return numbers;
}

// The elements that get the numbers of this thread's block of the stream.
template <class... Arrays>
__device__ __forceinline__ Run drawn_run(const Draw& draw, uint32_t index, size_t n, const Arrays*... array) {
    static_assert(RUN == BLOCK_WORDS, "a run is a block");
    return run_at((long long)index * RUN - (long long)(draw.first % BLOCK_WORDS), n, array...);
}

// out[i] = number first + i
extern "C" __global__ void __launch_bounds__(THREADS) noise_normal(float* out, const Draw* draw, size_t n) {
    uint32_t index = blockIdx.x * THREADS + threadIdx.x;
    Draw address = *draw;
    drawn_run(address, index, n, out).store(out, normal_block(address, index));
}

// ---- mixing -------------------------------------------------------------------------------------------------------------

// backend.rs: Objective, in its order.
enum Objective : unsigned { X0 = 0, EPS = 1, V = 2 };

// [batch, elements], elements = planes * width.
struct Shape {
    unsigned batch, elements, width;
};

// A row of `rows`.
struct alignas(16) Noising {
    float alpha, sigma, from, to;
};

__device__ __forceinline__ Noising noising_of(const float* rows, unsigned sample) {
    return reinterpret_cast<const Noising*>(rows)[sample];
}

// One element; eps counts on noised frames only.
__device__ __forceinline__ void mix_one(float& x_t, float& target, float x0, float eps, float frame, Noising row,
                                        unsigned objective) {
    bool noised = row.from <= frame && frame < row.to;
    x_t = noised ? fmaf(row.alpha, x0, row.sigma * eps) : x0;
    switch (objective) {
    case X0: target = x0; break;
    case EPS: target = noised ? eps : 0.0f; break;
    default: target = noised ? fmaf(row.alpha, eps, -(row.sigma * x0)) : 0.0f;
    }
}

__device__ __forceinline__ void mix_run(Run run, float* x_t, float* target, Pack<float> x0, Pack<float> eps, const float* rows,
                                        unsigned objective, Shape shape) {
    if (run.from >= run.to) return;
    unsigned element = unsigned(run.first + run.from);
    unsigned sample = element / shape.elements, frame = element % shape.width;
    unsigned left = shape.elements * (sample + 1) - element; // in this sample; right even if the product wraps
    Noising row = noising_of(rows, sample);
    Pack<float> x_ts, targets;
#pragma unroll
    for (unsigned i = 0; i < RUN; i++) {
        if (!run.has(i)) continue;
        if (left == 0) {
            row = noising_of(rows, ++sample);
            left = shape.elements;
        }
        mix_one(x_ts.element[i], targets.element[i], x0.element[i], eps.element[i], float(frame), row, objective);
        left--;
        if (++frame == shape.width) frame = 0;
    }
    run.store(x_t, x_ts);
    run.store(target, targets);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    noise_mix(float* x_t, float* target, const float* x0, const float* eps, const float* rows, unsigned objective,
              unsigned batch, unsigned elements, unsigned width) {
    unsigned n = batch * elements;
    Run run = run_at((long long)(blockIdx.x * THREADS + threadIdx.x) * RUN, n, x_t, target, x0, eps);
    mix_run(run, x_t, target, run.load(x0), run.load(eps), rows, objective, {batch, elements, width});
}

// `noise_normal` and `noise_mix` in one: eps of element i is number first + i.
extern "C" __global__ void __launch_bounds__(THREADS)
    noise_mix_drawn(float* x_t, float* target, const float* x0, const float* rows, const Draw* draw, unsigned objective,
                    unsigned batch, unsigned elements, unsigned width) {
    uint32_t index = blockIdx.x * THREADS + threadIdx.x;
    Draw address = *draw;
    Run run = drawn_run(address, index, size_t(batch) * elements, x_t, target, x0);
    Pack<float> clean = run.load(x0);
    mix_run(run, x_t, target, clean, normal_block(address, index), rows, objective, {batch, elements, width});
}
