// Kernels of a transformer block's two branches: what stands between their products, forward and backward, in one pass each.
//
// `branches.ptx` is made of this by `make_ptx.sh`. T is the type in which the products multiply: f32 or bf16. Tokens lie as
// [batch, tokens, width]; heads as [heads, batch, tokens, d], so that a product by a head's columns of a weight writes its tokens. Of
// each sequence's tokens the first `queries` ask: all of them, or the class token alone.

#include "common.cuh"

// normed = layer norm of x, in T; y = x + shift for the rows that ask: the start of what runs past the branch
template <typename T>
__device__ inline void begin(const float *x, const float *weight, const float *bias, const T *shift, float eps, unsigned rows,
                             unsigned width, unsigned tokens, unsigned queries, T *normed, float *y) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    normed += (u64)row * width;
    float mean, scale;
    row_moments(x, width, eps, &mean, &scale);
    for (unsigned j = lane(); j < width; j += 32) put(normed + j, (x[j] - mean) * scale * weight[j] + bias[j]);
    unsigned token = row % tokens;
    if (token >= queries) return;
    y += ((u64)(row / tokens) * queries + token) * width;
    for (unsigned j = lane(); j < width; j += 32) y[j] = x[j] + get(shift[j]);
}

// [batch, tokens, 3 width] and the biases [3 width] -> queries, keys, values by heads, one behind the other
template <typename T>
__device__ inline void split(const T *qkv, const T *bias, unsigned batch, unsigned tokens, unsigned queries, unsigned heads, unsigned d,
                             T *to) {
    u64 i = element(), asking = (u64)batch * heads * queries * d, each = (u64)batch * heads * tokens * d;
    if (i >= asking + 2 * each) return;
    u64 at = i < asking ? i : (i - asking) % each;
    unsigned which = i < asking ? 0 : 1 + (unsigned)((i - asking) / each), length = which == 0 ? queries : tokens;
    unsigned j = (unsigned)(at % d);
    u64 rest = at / d;
    unsigned token = (unsigned)(rest % length), head = (unsigned)(rest / length / batch);
    u64 sequence = rest / length % batch;
    unsigned width = heads * d, column = which * width + head * d + j;
    put(to + i, get(qkv[(sequence * tokens + token) * 3 * width + column]) + get(bias[column]));
}

// by heads -> [batch, queries, width]
template <typename T>
__device__ inline void from_heads(const T *x, unsigned batch, unsigned queries, unsigned heads, unsigned d, T *to) {
    u64 i = element();
    if (i >= (u64)batch * queries * heads * d) return;
    unsigned j = (unsigned)(i % d), head = (unsigned)(i / d % heads);
    u64 rest = i / d / heads;
    unsigned token = (unsigned)(rest % queries);
    u64 sequence = rest / queries;
    to[i] = x[(((u64)head * batch + sequence) * queries + token) * d + j];
}

// the gradients of queries, keys and values by heads, one behind the other -> [batch, tokens, 3 width]; tokens that do not ask have
// no gradient as queries
template <typename T>
__device__ inline void join(const T *x, unsigned batch, unsigned tokens, unsigned queries, unsigned heads, unsigned d, T *to) {
    u64 i = element(), asking = (u64)batch * heads * queries * d, each = (u64)batch * heads * tokens * d;
    if (i >= 3 * each) return;
    unsigned j = (unsigned)(i % d), head = (unsigned)(i / d % heads), which = (unsigned)(i / d / heads % 3);
    u64 rest = i / d / heads / 3;
    unsigned token = (unsigned)(rest % tokens), length = which == 0 ? queries : tokens;
    u64 sequence = rest / tokens;
    if (token >= length) {
        put(to + i, 0.0f);
        return;
    }
    to[i] = x[(which == 0 ? 0 : asking + (which - 1) * each) + (((u64)head * batch + sequence) * length + token) * d + j];
}

// softmax of each row in place; where causal, of what its token sees: itself and those before it
template <typename T> __device__ inline void probabilities(T *x, unsigned rows, unsigned width, unsigned queries, unsigned causal) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    unsigned seen = causal ? min(row % queries + 1, width) : width;
    float most = -INFINITY;
    for (unsigned j = lane(); j < seen; j += 32) most = fmaxf(most, get(x[j]));
    most = warp_max(most);
    float total = 0.0f;
    for (unsigned j = lane(); j < seen; j += 32) total += expf(get(x[j]) - most);
    total = warp_sum(total);
    for (unsigned j = lane(); j < width; j += 32) put(x + j, j < seen ? expf(get(x[j]) - most) / total : 0.0f);
}

// g <- p * (g - sum of g * p), row by row
template <typename T> __device__ inline void probabilities_backward(const T *p, unsigned rows, unsigned width, T *g) {
    unsigned row = warp_row();
    if (row >= rows) return;
    p += (u64)row * width;
    g += (u64)row * width;
    float sum = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) sum += get(g[j]) * get(p[j]);
    sum = warp_sum(sum);
    for (unsigned j = lane(); j < width; j += 32) put(g + j, get(p[j]) * (get(g[j]) - sum));
}

// active = act(z + bias); both may be one
template <typename T>
__device__ inline void hidden(const T *z, const T *bias, unsigned quick, u64 count, unsigned width, T *active) {
    u64 i = element();
    if (i >= count) return;
    put(active + i, activation(get(z[i]) + get(bias[i % width]), quick));
}

// g <- g * act'(z + bias): adding the bias again costs less than writing the sum in between
template <typename T>
__device__ inline void hidden_backward(const T *z, const T *bias, unsigned quick, u64 count, unsigned width, T *g) {
    u64 i = element();
    if (i >= count) return;
    put(g + i, get(g[i]) * activation_slope(get(z[i]) + get(bias[i % width]), quick));
}

// Rows of a strip: `begin_backward` adds up the gradients of scale and shift over so many.
#define STRIP 16

// dx = g of the layer norm's output taken back through it, plus what runs past the branch, for the rows that ask. A block takes a
// strip: partial[0, strip, j] = sum of g * (x - mean) * scale, partial[1, strip, j] = sum of g, over its rows.
template <typename T>
__device__ inline void begin_backward(const float *x, const float *weight, const T *g, const float *past, float eps, unsigned rows,
                                      unsigned width, unsigned tokens, unsigned queries, float *dx, float *partial) {
    __shared__ float stats[2 * STRIP];
    unsigned from = blockIdx.x * STRIP, to = min(rows, from + STRIP);
    for (unsigned row = from + threadIdx.x / 32; row < to; row += blockDim.x / 32) {
        const float *xs = x + (u64)row * width;
        const T *gs = g + (u64)row * width;
        float *out = dx + (u64)row * width;
        float mean, scale;
        row_moments(xs, width, eps, &mean, &scale);
        float of_g = 0.0f, of_gx = 0.0f;
        for (unsigned j = lane(); j < width; j += 32) {
            float gw = get(gs[j]) * weight[j];
            of_g += gw;
            of_gx += gw * ((xs[j] - mean) * scale);
        }
        of_g = warp_sum(of_g) / width;
        of_gx = warp_sum(of_gx) / width;
        unsigned token = row % tokens;
        bool asks = token < queries;
        const float *beside = past + ((u64)(row / tokens) * queries + (asks ? token : 0)) * width;
        for (unsigned j = lane(); j < width; j += 32)
            out[j] = scale * (get(gs[j]) * weight[j] - of_g - (xs[j] - mean) * scale * of_gx) + (asks ? beside[j] : 0.0f);
        if (lane() == 0) {
            stats[2 * (row - from)] = mean;
            stats[2 * (row - from) + 1] = scale;
        }
    }
    __syncthreads();
    for (unsigned j = threadIdx.x; j < width; j += blockDim.x) {
        float of_gx = 0.0f, of_g = 0.0f;
        for (unsigned row = from; row < to; row++) {
            u64 at = (u64)row * width + j;
            of_gx += get(g[at]) * ((x[at] - stats[2 * (row - from)]) * stats[2 * (row - from) + 1]);
            of_g += get(g[at]);
        }
        partial[(u64)blockIdx.x * width + j] = of_gx;
        partial[((u64)gridDim.x + blockIdx.x) * width + j] = of_g;
    }
}

#define BOTH(TYPE, NAME)                                                                                                               \
    extern "C" __global__ void begin_##NAME(const float *x, const float *weight, const float *bias, const TYPE *shift, float eps,      \
                                            unsigned rows, unsigned width, unsigned tokens, unsigned queries, TYPE *normed, float *y) { \
        begin(x, weight, bias, shift, eps, rows, width, tokens, queries, normed, y);                                                   \
    }                                                                                                                                  \
    extern "C" __global__ void split_##NAME(const TYPE *qkv, const TYPE *bias, unsigned batch, unsigned tokens, unsigned queries,      \
                                            unsigned heads, unsigned d, TYPE *to) {                                                    \
        split(qkv, bias, batch, tokens, queries, heads, d, to);                                                                        \
    }                                                                                                                                  \
    extern "C" __global__ void from_heads_##NAME(const TYPE *x, unsigned batch, unsigned queries, unsigned heads, unsigned d,          \
                                                 TYPE *to) {                                                                           \
        from_heads(x, batch, queries, heads, d, to);                                                                                   \
    }                                                                                                                                  \
    extern "C" __global__ void join_##NAME(const TYPE *x, unsigned batch, unsigned tokens, unsigned queries, unsigned heads,           \
                                           unsigned d, TYPE *to) {                                                                     \
        join(x, batch, tokens, queries, heads, d, to);                                                                                 \
    }                                                                                                                                  \
    extern "C" __global__ void probabilities_##NAME(TYPE *x, unsigned rows, unsigned width, unsigned queries, unsigned causal) {       \
        probabilities(x, rows, width, queries, causal);                                                                                \
    }                                                                                                                                  \
    extern "C" __global__ void probabilities_backward_##NAME(const TYPE *p, unsigned rows, unsigned width, TYPE *g) {                  \
        probabilities_backward(p, rows, width, g);                                                                                     \
    }                                                                                                                                  \
    extern "C" __global__ void hidden_##NAME(const TYPE *z, const TYPE *bias, unsigned quick, u64 count, unsigned width,               \
                                             TYPE *active) {                                                                           \
        hidden(z, bias, quick, count, width, active);                                                                                  \
    }                                                                                                                                  \
    extern "C" __global__ void hidden_backward_##NAME(const TYPE *z, const TYPE *bias, unsigned quick, u64 count, unsigned width,      \
                                                      TYPE *g) {                                                                       \
        hidden_backward(z, bias, quick, count, width, g);                                                                              \
    }                                                                                                                                  \
    extern "C" __global__ void begin_backward_##NAME(const float *x, const float *weight, const TYPE *g, const float *past, float eps, \
                                                     unsigned rows, unsigned width, unsigned tokens, unsigned queries, float *dx,      \
                                                     float *partial) {                                                                 \
        begin_backward(x, weight, g, past, eps, rows, width, tokens, queries, dx, partial);                                            \
    }

BOTH(float, f32)
BOTH(bf16, bf16)

extern "C" __global__ void round_bf16(const float *x, u64 count, bf16 *to) {
    u64 i = element();
    if (i < count) put(to + i, x[i]);
}

// [2, strips, width] -> [2, width]: eight sums of every eighth strip, added in their order; a block takes 32 columns
extern "C" __global__ void strip_sums(const float *partial, unsigned strips, unsigned width, float *to) {
    __shared__ float sums[8][32];
    unsigned part = threadIdx.x / 32, j = blockIdx.x * 32 + lane();
    float sum = 0.0f;
    if (j < 2 * width) {
        const float *column = partial + (u64)(j / width) * strips * width + j % width;
        for (unsigned strip = part; strip < strips; strip += 8) sum += column[(u64)strip * width];
    }
    sums[part][lane()] = sum;
    __syncthreads();
    if (part > 0 || j >= 2 * width) return;
    for (unsigned other = 1; other < 8; other++) sum += sums[other][lane()];
    to[j] = sum;
}
