// What the kernels have in common: number types, sums over a warp, where a thread works, layer norm's moments, the activations.
#pragma once

typedef unsigned long long u64;

struct bf16 {
    unsigned short bits;
};

__device__ inline float get(float v) { return v; }
__device__ inline float get(bf16 v) { return __uint_as_float((unsigned)v.bits << 16); }
__device__ inline void put(float *to, float v) { *to = v; }
__device__ inline void put(bf16 *to, float v) {
    unsigned bits = __float_as_uint(v);
    // to the nearest, ties to even; a NaN stays one
    to->bits = v == v ? (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16) : (unsigned short)0x7fffu;
}

__device__ inline float warp_sum(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    return v;
}

__device__ inline float warp_max(float v) {
    for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

__device__ inline unsigned warp_min(unsigned v) {
    for (int offset = 16; offset > 0; offset /= 2) v = min(v, __shfl_xor_sync(0xffffffffu, v, offset));
    return v;
}

__device__ inline unsigned warp_row() { return blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; }
__device__ inline unsigned lane() { return threadIdx.x % 32; }
__device__ inline u64 element() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }

// mean and 1 / sqrt(variance + eps) of a row
__device__ inline void row_moments(const float *x, unsigned width, float eps, float *mean, float *scale) {
    float sum = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) sum += x[j];
    *mean = warp_sum(sum) / width;
    float square = 0.0f;
    for (unsigned j = lane(); j < width; j += 32) square += (x[j] - *mean) * (x[j] - *mean);
    *scale = 1.0f / sqrtf(warp_sum(square) / width + eps);
}

// x * sigmoid(1.702 x) where quick, x * Phi(x) where not
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ inline float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }
__device__ inline float activation(float v, unsigned quick) {
    if (v == -INFINITY) return v; // as the CPU, instead of infinity times 0
    return quick ? v * sigmoid(1.702f * v) : v * normal_cdf(v);
}

__device__ inline float activation_slope(float v, unsigned quick) {
    if (!quick) return normal_cdf(v) + v * 0.39894228040143268f * expf(-0.5f * v * v);
    float s = sigmoid(1.702f * v);
    return s + 1.702f * v * s * (1.0f - s);
}
