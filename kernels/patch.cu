// sets: f32 bf16
//
// Patch embedding (strided convolution) and de-embedding (transposed convolution), kernel = stride = patch. All are products
// between tokens and patches on the core of gemm.cuh; nothing of the size of im2col is made: patches are read from the image,
// and written to it, in place.
//
//   gather     tokens = patches(image) weight^T       patch_embed_forward, patch_deembed_backward_input
//   scatter    patches(image) = tokens weight         patch_deembed_forward, patch_embed_backward_input
//   weight     dweight += tokens^T patches(image)     patch_embed_backward_weight, patch_deembed_backward_weight
//
// patch_embed_forward adds bias [dim], and, if they are not null, position [tokens, dim] and rows [batch, dim] (the step
// embedding): nothing else has to pass over the tokens. patch_deembed_forward adds bias [channels].
//
// image [batch, channels, height, width]: f32. tokens [batch, tokens, dim], weight [dim, channels, patch_height, patch_width]:
// Element. bias, position, rows and the parameters' gradients: f32. In the bf16 set the image is rounded on the way to shared
// memory.
//
// Parallelism: a block computes a tile of 64 x 64; for the weight several blocks share a tile (Split in gemm.cuh). `_unaligned`
// is for sizes that are no multiples of 16 bytes, or patches whose width is no multiple of 4.
#include "gemm.cuh"

constexpr unsigned TILE = 64, BLOCK = THREADS_OF<TILE>;

HOST_CONSTANT(patch_tile, TILE);
HOST_CONSTANT(patch_split_group, SPLIT_GROUP);
HOST_CONSTANT(patch_partial, PARTIAL_LEN<TILE>);

// ---- patches of an image as a matrix [batch * tokens, patch_len] ---------------------------------------------------------

struct Shape {
    unsigned batch, channels, height, width, patch_height, patch_width;
    unsigned grid_width, tokens, area, patch_len; // of a sample's grid; elements of a patch in a channel and in all

    __device__ __forceinline__ Shape(unsigned batch, unsigned channels, unsigned height, unsigned width, unsigned patch_height,
                                     unsigned patch_width)
        : batch(batch), channels(channels), height(height), width(width), patch_height(patch_height), patch_width(patch_width),
          grid_width(width / patch_width), tokens(height / patch_height * grid_width), area(patch_height * patch_width),
          patch_len(channels * area) {}

    __device__ __forceinline__ unsigned rows() const { return batch * tokens; }
    // Where the patch of a token (counted over all samples) begins in the image.
    __device__ __forceinline__ size_t token_offset(unsigned row) const {
        const unsigned sample = row / tokens, token = row % tokens;
        const unsigned y = token / grid_width * patch_height, x = token % grid_width * patch_width;
        return static_cast<size_t>(sample) * channels * height * width + static_cast<size_t>(y) * width + x;
    }
    // Where an element of a patch lies from there.
    __device__ __forceinline__ unsigned element_offset(unsigned element) const {
        const unsigned channel = element / area, y = element % area / patch_width, x = element % patch_width;
        return (channel * height + y) * width + x;
    }
};

// Elements of a run that are neighbours in the image, too, and how many such pieces a run has.
template <bool ALIGNED> constexpr unsigned PIECE = ALIGNED ? Pack<float>::COUNT : 1;
template <bool ALIGNED> constexpr unsigned PIECES = CHUNK / PIECE<ALIGNED>;

template <bool ALIGNED> struct Patches {
    static constexpr bool ASYNC = false;
    using Row = const float*;
    struct Column {
        unsigned offset[PIECES<ALIGNED>], count;
    };

    const float* image;
    Shape shape;
    unsigned rows, columns;

    __device__ __forceinline__ Patches(const float* image, const Shape& shape)
        : image(image), shape(shape), rows(shape.rows()), columns(shape.patch_len) {}

    __device__ __forceinline__ Row row(unsigned r) const { return image + shape.token_offset(r); }
    __device__ __forceinline__ Column column(unsigned c) const {
        Column column;
        column.count = c < columns ? min(columns - c, CHUNK) : 0;
#pragma unroll
        for (unsigned i = 0; i < PIECES<ALIGNED>; i++) column.offset[i] = shape.element_offset(c + i * PIECE<ALIGNED>);
        return column;
    }
    __device__ __forceinline__ void fetch(Pack<Element>& chunk, Row row, const Column& column) const {
        float run[CHUNK];
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i += PIECE<ALIGNED>) {
            const float* piece = row + column.offset[i / PIECE<ALIGNED>];
            if constexpr (ALIGNED) {
                const Pack<float> pack = load_pack(piece);
#pragma unroll
                for (unsigned j = 0; j < PIECE<ALIGNED>; j++) run[i + j] = pack.element[j];
            } else {
                run[i] = i < column.count ? *piece : 0.0f;
            }
        }
        chunk = round_to_pack(run, chunk.element);
    }
};

// ---- gather --------------------------------------------------------------------------------------------------------------

template <bool ALIGNED> using Gather = Product<Patches<ALIGNED>, true, Matrix<Element, ALIGNED>, true, TILE>;

// tokens = product + bias + position[token] + rows[sample]
template <bool ALIGNED> struct Embedded {
    static constexpr unsigned RUN = CHUNK;
    Element* tokens;
    const float *bias, *position, *sample_rows;
    unsigned tokens_a_sample, dim;
    unsigned column = 0, count = 0;
    float column_bias[CHUNK] = {};

    __device__ __forceinline__ void start(unsigned first, unsigned elements) {
        column = first, count = elements;
        load_run<ALIGNED>(column_bias, bias + column, count);
    }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[CHUNK]) {
        const unsigned sample = row / tokens_a_sample, token = row % tokens_a_sample;
#pragma unroll
        for (unsigned i = 0; i < CHUNK; i++) run[i] += column_bias[i];
        if (position) add_to_run<ALIGNED>(run, position + static_cast<size_t>(token) * dim + column, count);
        if (sample_rows) add_to_run<ALIGNED>(run, sample_rows + static_cast<size_t>(sample) * dim + column, count);
        store_run<ALIGNED>(tokens + static_cast<size_t>(row) * dim + column, run, count);
    }
};

template <bool ALIGNED>
__device__ __forceinline__ void embed_forward(Element* tokens, const float* image, const Element* weight, const float* bias,
                                              const float* position, const float* rows, const Shape& shape, unsigned dim) {
    Embedded<ALIGNED> epilogue{tokens, bias, position, rows, shape.tokens, dim};
    Gather<ALIGNED>::whole({image, shape}, {weight, dim, shape.patch_len}, epilogue, shape.rows(), dim, shape.patch_len);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_forward(Element* tokens, const float* image, const Element* weight, const float* bias, const float* position,
                        const float* rows, unsigned batch, unsigned channels, unsigned height, unsigned width,
                        unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    embed_forward<true>(tokens, image, weight, bias, position, rows, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_forward_unaligned(Element* tokens, const float* image, const Element* weight, const float* bias,
                                  const float* position, const float* rows, unsigned batch, unsigned channels, unsigned height,
                                  unsigned width, unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    embed_forward<false>(tokens, image, weight, bias, position, rows, shape, dim);
}

template <bool ALIGNED>
__device__ __forceinline__ void deembed_backward_input(Element* dtokens, bool add, const float* dimage, const Element* weight,
                                                       const Shape& shape, unsigned dim) {
    Plain<ALIGNED, Element> epilogue{dtokens, dim, add};
    Gather<ALIGNED>::whole({dimage, shape}, {weight, dim, shape.patch_len}, epilogue, shape.rows(), dim, shape.patch_len);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_backward_input(Element* dtokens, unsigned add, const float* dimage, const Element* weight, unsigned batch,
                                 unsigned channels, unsigned height, unsigned width, unsigned patch_height,
                                 unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    deembed_backward_input<true>(dtokens, add != 0, dimage, weight, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_backward_input_unaligned(Element* dtokens, unsigned add, const float* dimage, const Element* weight,
                                           unsigned batch, unsigned channels, unsigned height, unsigned width,
                                           unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    deembed_backward_input<false>(dtokens, add != 0, dimage, weight, shape, dim);
}

// ---- scatter -------------------------------------------------------------------------------------------------------------

template <bool ALIGNED> using Scatter = Product<Matrix<Element, ALIGNED>, true, Matrix<Element, ALIGNED>, false, TILE>;

// image = or += product + bias[channel], each element in its place
template <bool ALIGNED> struct Placed {
    static constexpr unsigned RUN = Pack<float>::COUNT, PARTS = RUN / PIECE<ALIGNED>;
    float* image;
    const float* bias; // or null
    Shape shape;
    bool add;
    unsigned count = 0;
    unsigned offset[PARTS] = {};
    float part_bias[PARTS] = {};

    __device__ __forceinline__ void start(unsigned first, unsigned elements) {
        count = elements;
#pragma unroll
        for (unsigned i = 0; i < PARTS; i++) {
            const unsigned element = first + i * PIECE<ALIGNED>;
            offset[i] = shape.element_offset(element);
            if (bias && i < count) part_bias[i] = bias[element / shape.area];
        }
    }
    __device__ __forceinline__ void finish(unsigned row, float (&run)[RUN]) {
        float* patch = image + shape.token_offset(row);
#pragma unroll
        for (unsigned i = 0; i < RUN; i++) run[i] += part_bias[i / PIECE<ALIGNED>];
        if constexpr (ALIGNED) {
            if (add) add_to_run<true>(run, patch + offset[0], RUN);
            store_run<true>(patch + offset[0], run, RUN);
        } else {
#pragma unroll
            for (unsigned i = 0; i < RUN; i++)
                if (i < count) patch[offset[i]] = run[i] + (add ? patch[offset[i]] : 0.0f);
        }
    }
};

template <bool ALIGNED>
__device__ __forceinline__ void scatter(float* image, bool add, const Element* tokens, const Element* weight, const float* bias,
                                        const Shape& shape, unsigned dim) {
    Placed<ALIGNED> epilogue{image, bias, shape, add};
    Scatter<ALIGNED>::whole({tokens, shape.rows(), dim}, {weight, dim, shape.patch_len}, epilogue, shape.rows(),
                            shape.patch_len, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_forward(float* image, const Element* tokens, const Element* weight, const float* bias, unsigned batch,
                          unsigned channels, unsigned height, unsigned width, unsigned patch_height, unsigned patch_width,
                          unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    scatter<true>(image, false, tokens, weight, bias, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_forward_unaligned(float* image, const Element* tokens, const Element* weight, const float* bias,
                                    unsigned batch, unsigned channels, unsigned height, unsigned width, unsigned patch_height,
                                    unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    scatter<false>(image, false, tokens, weight, bias, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_backward_input(float* dimage, unsigned add, const Element* dtokens, const Element* weight, unsigned batch,
                               unsigned channels, unsigned height, unsigned width, unsigned patch_height, unsigned patch_width,
                               unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    scatter<true>(dimage, add != 0, dtokens, weight, nullptr, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_backward_input_unaligned(float* dimage, unsigned add, const Element* dtokens, const Element* weight,
                                         unsigned batch, unsigned channels, unsigned height, unsigned width,
                                         unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    scatter<false>(dimage, add != 0, dtokens, weight, nullptr, shape, dim);
}

// ---- weight --------------------------------------------------------------------------------------------------------------

template <bool ALIGNED> using Weight = Product<Matrix<Element, ALIGNED>, false, Patches<ALIGNED>, false, TILE>;

template <bool ALIGNED>
__device__ __forceinline__ void embed_backward_weight(float* dweight, float* dbias, const Element* dtokens, const float* image,
                                                      const Split& split, const Shape& shape, unsigned dim) {
    Plain<ALIGNED, float> epilogue{dweight, shape.patch_len, true};
    Weight<ALIGNED>::template part<SUMS_OF_A>({dtokens, shape.rows(), dim}, {image, shape}, epilogue, dbias, split, dim,
                                              shape.patch_len, shape.rows());
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_backward_weight(float* dweight, float* dbias, const Element* dtokens, const float* image, float* partial,
                                unsigned* counters, unsigned splits, unsigned batch, unsigned channels, unsigned height,
                                unsigned width, unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    embed_backward_weight<true>(dweight, dbias, dtokens, image, {partial, counters, splits}, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_embed_backward_weight_unaligned(float* dweight, float* dbias, const Element* dtokens, const float* image,
                                          float* partial, unsigned* counters, unsigned splits, unsigned batch,
                                          unsigned channels, unsigned height, unsigned width, unsigned patch_height,
                                          unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    embed_backward_weight<false>(dweight, dbias, dtokens, image, {partial, counters, splits}, shape, dim);
}

// The sums of the image's elements over all patches, [patch_len], come with the product, from the tiles of the first rows. The
// last of those tiles adds them up by channel; its counter is the one behind those of all tiles.
__device__ __forceinline__ void add_by_channel(float* dbias, const float* element_sums, const Shape& shape) {
    for (unsigned channel = threadIdx.x / WARP; channel < shape.channels; channel += BLOCK / WARP) {
        float sum = 0.0f;
        for (unsigned i = threadIdx.x % WARP; i < shape.area; i += WARP) sum += element_sums[channel * shape.area + i];
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) dbias[channel] += sum;
    }
}

template <bool ALIGNED>
__device__ __forceinline__ void deembed_backward_weight(float* dweight, float* dbias, const float* dimage,
                                                        const Element* tokens, float* element_sums, const Split& split,
                                                        const Shape& shape, unsigned dim) {
    Plain<ALIGNED, float> epilogue{dweight, shape.patch_len, true};
    const bool finished = Weight<ALIGNED>::template part<SUMS_OF_B>({tokens, shape.rows(), dim}, {dimage, shape}, epilogue,
                                                                    element_sums, split, dim, shape.patch_len, shape.rows());
    const unsigned tiles_across = ceil_div(shape.patch_len, TILE), tiles = ceil_div(dim, TILE) * tiles_across;
    if (!finished || blockIdx.x % tiles >= tiles_across) return;
    __shared__ unsigned flag;
    unsigned* counter = split.counters + tiles * (ceil_div(split.splits, SPLIT_GROUP) + 1);
    if (last_of(counter, tiles_across, &flag)) add_by_channel(dbias, element_sums, shape);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_backward_weight(float* dweight, float* dbias, const float* dimage, const Element* tokens, float* element_sums,
                                  float* partial, unsigned* counters, unsigned splits, unsigned batch, unsigned channels,
                                  unsigned height, unsigned width, unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    deembed_backward_weight<true>(dweight, dbias, dimage, tokens, element_sums, {partial, counters, splits}, shape, dim);
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    patch_deembed_backward_weight_unaligned(float* dweight, float* dbias, const float* dimage, const Element* tokens,
                                            float* element_sums, float* partial, unsigned* counters, unsigned splits,
                                            unsigned batch, unsigned channels, unsigned height, unsigned width,
                                            unsigned patch_height, unsigned patch_width, unsigned dim) {
    const Shape shape(batch, channels, height, width, patch_height, patch_width);
    deembed_backward_weight<false>(dweight, dbias, dimage, tokens, element_sums, {partial, counters, splits}, shape, dim);
}
