// Philox4x32-10 (Salmon et al., 2011), counter-based random numbers.
//
// Counter (index low, index high, stream low, stream high), key (seed low, seed high). Known answers: counter 0, key 0
// gives 6627e8d5 e169c58d bc57ac4c 9b00dbd8; counter and key all ones gives 408f276d 41c83b0e a20bc7c6 6d5451fd.
//
// philox_words    out[4*i .. 4*i+4] = philox(counter = (i, 0, stream), key = seed)
//   any grid, any block; (out[4*n], n, seed (u64), stream (u64))
// philox_counter  out[0..4] = philox(counter[0..4], key[0..2]), for known answers
//   grid 1, block 1; (out[4], counter[4], key[2])
// philox_normal   out[i]: Box-Muller over the same words, two normals from two words; n a multiple of 4
//   any grid, any block; (out[n], n, seed (u64), stream (u64))

__device__ uint4 philox(uint4 counter, uint2 key) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
        unsigned high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0);
        key.x += 0x9E3779B9u;
        key.y += 0xBB67AE85u;
    }
    return counter;
}

__device__ uint4 words(unsigned i, unsigned long long seed, unsigned long long stream) {
    return philox(make_uint4(i, 0, (unsigned)stream, (unsigned)(stream >> 32)), make_uint2((unsigned)seed, (unsigned)(seed >> 32)));
}

extern "C" __global__ void philox_words(uint4* out, unsigned n, unsigned long long seed, unsigned long long stream) {
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) out[i] = words(i, seed, stream);
}

extern "C" __global__ void philox_counter(unsigned* out, const unsigned* counter, const unsigned* key) {
    uint4 w = philox(make_uint4(counter[0], counter[1], counter[2], counter[3]), make_uint2(key[0], key[1]));
    out[0] = w.x, out[1] = w.y, out[2] = w.z, out[3] = w.w;
}

// In (0, 1]: the logarithm must not see 0.
__device__ float unit(unsigned word) {
    return ((word >> 8) + 1) * (1.0f / 16777216.0f);
}

__device__ float2 box_muller(unsigned a, unsigned b) {
    float radius = sqrtf(-2.0f * logf(unit(a)));
    float sine, cosine;
    sincospif(2.0f * unit(b), &sine, &cosine);
    return make_float2(radius * cosine, radius * sine);
}

extern "C" __global__ void philox_normal(float4* out, unsigned n, unsigned long long seed, unsigned long long stream) {
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < n / 4; i += gridDim.x * blockDim.x) {
        uint4 w = words(i, seed, stream);
        float2 first = box_muller(w.x, w.y), second = box_muller(w.z, w.w);
        out[i] = make_float4(first.x, first.y, second.x, second.y);
    }
}
