// Parameters by value: structs, small types, padding, an array inside a struct.
//
// affine   out[i] = view.scale * in[view.offset + i * view.stride] + view.shift[i & 3]; out of view.count
//   View is 48 bytes: in (u64 pointer) at 0, count (i32) 8, offset (i32) 12, stride (i64) 16, scale (f64) 24,
//   shift (f32[4]) 32
//   any grid, any block; (View by value, out[count] (f32))
// small    out[0..6] = the arguments as f64, in order
//   grid 1, block 1; (a (i8), b (u16), c (f32), d (i8), e (f64), f (bool, 1 byte), out[6] (f64))
// pick     out[t] = table.value[t] by a run-time index into a parameter, which makes a local copy of it; t < 16
//   grid 1, block 16; (Table by value: value (i32[16]), out[16] (i32))
// vectors  out[0..3] = p.x + q.x, p.y + q.y, p.z + q.z with p a float3 (align 4) and q a float4 (align 16)
//   grid 1, block 1; (p (float3), q (float4), out[3] (f32))

struct View {
    const float* in;
    int count, offset;
    long long stride;
    double scale;
    float shift[4];
};

struct Table {
    int value[16];
};

extern "C" __global__ void affine(View view, float* out) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < view.count; i += gridDim.x * blockDim.x)
        out[i] = (float)(view.scale * view.in[view.offset + i * view.stride]) + view.shift[i & 3];
}

extern "C" __global__ void small(signed char a, unsigned short b, float c, signed char d, double e, bool f, double* out) {
    out[0] = a, out[1] = b, out[2] = c, out[3] = d, out[4] = e, out[5] = f;
}

extern "C" __global__ void pick(Table table, int* out) {
    out[threadIdx.x] = table.value[threadIdx.x];
}

extern "C" __global__ void vectors(float3 p, float4 q, float* out) {
    out[0] = p.x + q.x, out[1] = p.y + q.y, out[2] = p.z + q.z;
}
