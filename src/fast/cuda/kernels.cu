// The GPU's own kernels: layer norm, softmax, argmax, activations, noise on unit features, smoothed cross entropy, AdamW. Those of a
// block's branches are in branches.cu, those of the views in views.cu.
//
// `kernels.ptx` is made of this by `make_ptx.sh`; the PTX is committed, so that building needs no nvcc for it. Products
// and sums are never fused (-fmad=false), so the noise has the bits of the host's generator (rng.rs of the crate lafter).
//
// Where rows are handled, one warp takes one row; sums over a row end with the same bits in all of its lanes, and no
// kernel uses atomics: the same inputs give the same bits.

#include "common.cuh"

// ---- layer norm: y = (x - mean) / sqrt(variance + eps) * weight + bias

extern "C" __global__ void layer_norm(const float *x, const float *weight, const float *bias, float eps, unsigned rows,
                                      unsigned width, float *y) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    y += (u64)row * width;
    float mean, scale;
    row_moments(x, width, eps, &mean, &scale);
    for (unsigned j = lane(); j < width; j += 32) y[j] = (x[j] - mean) * scale * weight[j] + bias[j];
}

// dx of every row, and (mean, scale) of every row for the sums over rows
extern "C" __global__ void layer_norm_backward(const float *x, const float *weight, const float *g, float eps, unsigned rows,
                                               unsigned width, float *dx, float *stats) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    g += (u64)row * width;
    dx += (u64)row * width;
    float mean, scale;
    row_moments(x, width, eps, &mean, &scale);
    float of_g = 0.0f, of_gx = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) {
        float gw = g[j] * weight[j];
        of_g += gw;
        of_gx += gw * ((x[j] - mean) * scale);
    }
    of_g = warp_sum(of_g) / width;
    of_gx = warp_sum(of_gx) / width;
    for (unsigned j = lane(); j < width; j += 32)
        dx[j] = scale * (g[j] * weight[j] - of_g - (x[j] - mean) * scale * of_gx);
    if (lane() == 0) {
        stats[2 * row] = mean;
        stats[2 * row + 1] = scale;
    }
}

// partial[0, strip, j] = sum of g * (x - mean) * scale, partial[1, strip, j] = sum of g, over the rows of a strip
extern "C" __global__ void layer_norm_sums(const float *x, const float *g, const float *stats, unsigned rows, unsigned width,
                                           unsigned strip_rows, float *partial) {
    unsigned j = blockIdx.y * blockDim.x + threadIdx.x, strip = blockIdx.x, strips = gridDim.x;
    if (j >= width) return;
    unsigned from = strip * strip_rows, to = min(rows, from + strip_rows);
    float of_gx = 0.0f, of_g = 0.0f;
    for (unsigned row = from; row < to; row++) {
        u64 at = (u64)row * width + j;
        of_gx += g[at] * ((x[at] - stats[2 * row]) * stats[2 * row + 1]);
        of_g += g[at];
    }
    partial[(u64)strip * width + j] = of_gx;
    partial[((u64)strips + strip) * width + j] = of_g;
}

// ---- softmax over rows

template <typename T> __device__ inline void softmax_row(const T *x, unsigned rows, unsigned width, T *y) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    y += (u64)row * width;
    float most = -INFINITY;
    for (unsigned j = lane(); j < width; j += 32) most = fmaxf(most, get(x[j]));
    most = warp_max(most);
    float total = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) total += expf(get(x[j]) - most);
    total = warp_sum(total);
    for (unsigned j = lane(); j < width; j += 32) put(y + j, expf(get(x[j]) - most) / total);
}

// dx = p * (g - sum of g * p)
template <typename T> __device__ inline void softmax_backward_row(const T *p, const T *g, unsigned rows, unsigned width, T *dx) {
    unsigned row = warp_row();
    if (row >= rows) return;
    p += (u64)row * width;
    g += (u64)row * width;
    dx += (u64)row * width;
    float sum = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) sum += get(g[j]) * get(p[j]);
    sum = warp_sum(sum);
    for (unsigned j = lane(); j < width; j += 32) put(dx + j, get(p[j]) * (get(g[j]) - sum));
}

extern "C" __global__ void softmax_f32(const float *x, unsigned rows, unsigned width, float *y) { softmax_row(x, rows, width, y); }
extern "C" __global__ void softmax_bf16(const bf16 *x, unsigned rows, unsigned width, bf16 *y) { softmax_row(x, rows, width, y); }
extern "C" __global__ void softmax_backward_f32(const float *p, const float *g, unsigned rows, unsigned width, float *dx) {
    softmax_backward_row(p, g, rows, width, dx);
}
extern "C" __global__ void softmax_backward_bf16(const bf16 *p, const bf16 *g, unsigned rows, unsigned width, bf16 *dx) {
    softmax_backward_row(p, g, rows, width, dx);
}

// ---- the column of each row's greatest value, the first of equals; as on the CPU, what is not a number counts in the first column alone

extern "C" __global__ void argmax(const float *x, unsigned rows, unsigned width, unsigned *columns) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    float most = x[0];
    unsigned first = 0;
    for (unsigned j = lane(); j < width; j += 32) {
        if (x[j] > most) {
            most = x[j];
            first = j;
        }
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, most, offset);
        unsigned column = __shfl_xor_sync(0xffffffffu, first, offset);
        if (other > most || (other == most && column < first)) {
            most = other;
            first = column;
        }
    }
    if (lane() == 0) columns[row] = first;
}

// ---- activations: x * sigmoid(1.702 x) where quick, x * Phi(x) where not

template <typename T> __device__ inline void activate(const T *x, unsigned quick, u64 count, T *y) {
    u64 i = element();
    if (i >= count) return;
    float v = get(x[i]);
    put(y + i, activation(v, quick));
}

template <typename T> __device__ inline void activate_backward(const T *x, const T *g, unsigned quick, u64 count, T *dx) {
    u64 i = element();
    if (i >= count) return;
    put(dx + i, get(g[i]) * activation_slope(get(x[i]), quick));
}

extern "C" __global__ void activation_f32(const float *x, unsigned quick, u64 count, float *y) { activate(x, quick, count, y); }
extern "C" __global__ void activation_bf16(const bf16 *x, unsigned quick, u64 count, bf16 *y) { activate(x, quick, count, y); }
extern "C" __global__ void activation_backward_f32(const float *x, const float *g, unsigned quick, u64 count, float *dx) {
    activate_backward(x, g, quick, count, dx);
}
extern "C" __global__ void activation_backward_bf16(const bf16 *x, const bf16 *g, unsigned quick, u64 count, bf16 *dx) {
    activate_backward(x, g, quick, count, dx);
}

// ---- the host's generator: rng.rs, bit for bit

__device__ inline u64 mix(u64 z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

__device__ inline float ln(float x) {
    int exponent = (int)(__float_as_uint(x) - 0x3f3504f3u) >> 23;
    float m = __uint_as_float(__float_as_uint(x) - ((unsigned)exponent << 23)) - 1.0f;
    float e = (float)exponent, square = m * m;
    float p = 7.0376836e-2f;
    p = p * m - 1.151461e-1f;
    p = p * m + 1.1676999e-1f;
    p = p * m - 1.2420141e-1f;
    p = p * m + 1.4249323e-1f;
    p = p * m - 1.6668058e-1f;
    p = p * m + 2.0000715e-1f;
    p = p * m - 2.4999994e-1f;
    p = p * m + 3.3333331e-1f;
    float y = p * m * square - e * 2.1219444e-4f - 0.5f * square;
    return (m + y) + e * 0.6933594f;
}

__device__ inline float with_sign(int negative, float v) { return __uint_as_float(__float_as_uint(v) ^ ((unsigned)negative << 31)); }

__device__ inline void sin_cos_24(int turn, float *sin, float *cos) {
    int quarter = (turn + (1 << 21)) >> 22;
    float x = (float)(turn - (int)((unsigned)quarter << 22)) * (6.28318530717958647692f / 16777216.0f);
    float z = x * x;
    float s = ((-1.9515296e-4f * z + 8.332161e-3f) * z - 1.6666655e-1f) * z * x + x;
    float c = ((2.4433157e-5f * z - 1.3887316e-3f) * z + 4.1666646e-2f) * z * z - 0.5f * z + 1.0f;
    bool swap = quarter & 1;
    *sin = with_sign((quarter >> 1) & 1, swap ? c : s);
    *cos = with_sign(((quarter + 1) >> 1) & 1, swap ? s : c);
}

__device__ inline void box_muller(u64 bits, float *first, float *second) {
    float u = ((float)(int)(bits >> 40) + 1.0f) * (1.0f / 16777217.0f);
    float radius = sqrtf(-2.0f * ln(u)), sin, cos;
    sin_cos_24((int)(bits & 0xffffffull), &sin, &cos);
    *first = radius * cos;
    *second = radius * sin;
}

// out = x / |x| + sigma * noise; `first` is the number of the draw of the first row's first value, `counter` the generator's
// place of draw 0: two draws come from one place
extern "C" __global__ void noisy_unit(const float *x, unsigned rows, unsigned width, u64 key, u64 counter, u64 first, float sigma,
                                      float *out) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    out += (u64)row * width;
    float square = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) square += x[j] * x[j];
    float length = sqrtf(warp_sum(square));
    if (sigma == 0.0f) {
        for (unsigned j = lane(); j < width; j += 32) out[j] = x[j] / length;
        return;
    }
    u64 begin = first + (u64)row * width, end = begin + width;
    for (u64 pair = begin / 2 + lane(); 2 * pair < end; pair += 32) {
        float a, b;
        box_muller(mix(key + (counter + pair) * 0x9e3779b97f4a7c15ull), &a, &b);
        u64 j = 2 * pair - begin; // wraps where the pair began in the row before; then only its second value is used
        if (2 * pair >= begin) out[j] = x[j] / length + a * sigma;
        if (2 * pair + 1 < end) out[j + 1] = x[j + 1] / length + b * sigma;
    }
}

// dx of y = x / |x|: (g - y * sum of g * y) / |x|
extern "C" __global__ void unit_backward(const float *x, const float *g, unsigned rows, unsigned width, float *dx) {
    unsigned row = warp_row();
    if (row >= rows) return;
    x += (u64)row * width;
    g += (u64)row * width;
    dx += (u64)row * width;
    float square = 0.0f, along = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) {
        square += x[j] * x[j];
        along += g[j] * x[j];
    }
    float length = sqrtf(warp_sum(square));
    along = warp_sum(along) / length;
    for (unsigned j = lane(); j < width; j += 32) dx[j] = (g[j] - x[j] / length * along) / length;
}

// ---- smoothed cross entropy of rows of logits: the gradient times `scale`, each row's loss, and whether its label has the
// greatest logit (the first of several); a label that is no class reads nothing and makes the loss NaN. The
// gradient may take the logits' place
extern "C" __global__ void smoothed_rows(const float *logits, const unsigned *labels, unsigned rows, unsigned classes,
                                         float smoothing, float scale, float *gradient, float *losses, float *right) {
    unsigned row = warp_row();
    if (row >= rows) return;
    logits += (u64)row * classes;
    gradient += (u64)row * classes;
    float most = -INFINITY;
    for (unsigned j = lane(); j < classes; j += 32) most = fmaxf(most, logits[j]);
    most = warp_max(most);
    float total = 0.0f, centred = 0.0f;
    unsigned first = classes;
    for (unsigned j = lane(); j < classes; j += 32) {
        float v = logits[j] - most;
        total += expf(v);
        centred += v;
        if (v == 0.0f) first = min(first, j);
    }
    unsigned label = labels[row];
    float own = label < classes ? logits[label] - most : NAN; // read before the lanes meet, and so before it is written over
    total = warp_sum(total);
    centred = warp_sum(centred) / classes;
    first = warp_min(first);
    float factor = scale / total, share = scale * smoothing / classes;
    for (unsigned j = lane(); j < classes; j += 32) {
        float g = expf(logits[j] - most) * factor - share;
        gradient[j] = j == label ? g - scale * (1.0f - smoothing) : g;
    }
    if (lane() == 0) {
        losses[row] = logf(total) - (1.0f - smoothing) * own - smoothing * centred;
        right[row] = first == label ? 1.0f : 0.0f;
    }
}

// ---- AdamW: all parameters and both moments [2, count] in one pass (adamw.rs has the formula). Of each parameter, `table` has five
// numbers: its place among the moments, where its values and its gradient lie, and keep and rate as bits. The places ascend.
extern "C" __global__ void adamw(const u64 *table, unsigned parameters, u64 count, float beta1, float rest1, float beta2, float rest2,
                                 float correct2, float eps, float *moments) {
    u64 i = element();
    if (i >= count) return;
    unsigned from = 0, to = parameters; // the parameter of value i is the last that begins at or before it
    while (to - from > 1) {
        unsigned middle = (from + to) / 2;
        if (table[5 * middle] <= i) from = middle;
        else to = middle;
    }
    table += 5 * from;
    u64 at = i - table[0];
    float *parameter = (float *)table[1] + at;
    float g = ((const float *)table[2])[at], keep = __uint_as_float((unsigned)table[3]), rate = __uint_as_float((unsigned)table[4]);
    float first = moments[i] * beta1 + g * rest1;
    float second = moments[count + i] * beta2 + g * g * rest2;
    *parameter = *parameter * keep - first / (sqrtf(second) * correct2 + eps) * rate;
    moments[i] = first;
    moments[count + i] = second;
}
