// Kernels of the strong view: a picture's crop resized, then changed step by step, in whole numbers as Pillow has them.
//
// `strong.ptx` is made of this by `make_ptx.sh`. What is random was drawn on the host: each picture has a head of HEAD words, which
// says where its pixels, taps and steps lie (`strong.rs` writes it, `recipe.rs` says what each number is).

#include "common.cuh"

#define HEAD 16

__device__ inline u64 long_at(const int *words) { return (u64)(unsigned)words[0] | (u64)(unsigned)words[1] << 32; }
__device__ inline double double_at(const int *words) { return __hiloint2double(words[1], words[0]); }
__device__ inline float float_at(const int *words) { return __int_as_float(*words); }

// the first (pass 0) or the second way of a resize: bytes of pixels -> work + 2 frames -> work; pictures along x, values along y
extern "C" __global__ void resized(const unsigned char *bytes, u64 pixels, unsigned side, unsigned pass, unsigned char *work) {
    const int *words = (const int *)bytes, *head = words + blockIdx.x * HEAD;
    u64 frame = 3ull * side * side, width = (unsigned)head[4], height = (unsigned)head[5];
    bool down = (head[6] != 0) == (pass == 0);
    unsigned char *to = work + long_at(head + 2);
    const unsigned char *from = bytes + pixels + long_at(head);
    if (pass == 0) {
        to += 2 * frame;
    } else {
        from = to + 2 * frame;
        if (down) width = side; else height = side; // as the first pass left it
    }
    const int *taps = words + head[down ? 9 : 7];
    unsigned most = (unsigned)head[down ? 10 : 8];
    u64 wide = down ? width : side, high = down ? side : height, stride = down ? 3 * width : 3;
    for (u64 i = (u64)blockIdx.y * blockDim.x + threadIdx.x; i < 3 * wide * high; i += (u64)gridDim.y * blockDim.x) {
        u64 column = i / 3 % wide, row = i / 3 / wide, channel = i % 3, target = down ? row : column;
        unsigned start = (unsigned)taps[target], length = (unsigned)taps[side + target];
        const int *weights = taps + 2 * side + target * most;
        const unsigned char *at = from + channel + (down ? start * stride + 3 * column : 3 * (row * width + start));
        int sum = 1 << 21;
        for (unsigned k = 0; k < length; k++) sum += at[k * stride] * weights[k];
        to[i] = (unsigned char)min(max(sum >> 22, 0), 255);
    }
}

// (19595 r + 38470 g + 7471 b + 2^15) / 2^16: the three weights sum to 2^16
__device__ inline unsigned luma(const unsigned char *p) {
    int b = p[2], over = 19595 * (p[0] - b) + 38470 * (p[1] - b) + 0x8000;
    return (unsigned)(b + (over >> 16));
}

__device__ inline unsigned char blended(unsigned simple, unsigned value, float factor) {
    float s = (float)simple, v = (float)value;
    return (unsigned char)(int)fminf(fmaxf(s + factor * (v - s), 0.0f), 255.0f); // not a number is 0
}

__device__ inline unsigned whole(double value) { return (unsigned)(int)value; }
__device__ inline unsigned char cut(double value) { return (unsigned char)(int)fmin(fmax(value, 0.0), 255.0); }

__device__ inline unsigned level(unsigned v, double share) { return whole((double)v * (1.0 - share) + 0.5); }

// the hue of a pixel turned by `shift` of 256, in the steps of torchvision on Pillow images
__device__ inline void turned(unsigned char *pixel, unsigned shift) {
    unsigned r = pixel[0], g = pixel[1], b = pixel[2], high = max(max(r, g), b), low = min(min(r, g), b);
    float range = (float)max(high - low, 1u), share = (float)(high - low) / (float)max(high, 1u);
    float rc = (float)(high - r) / range, gc = (float)(high - g) / range, bc = (float)(high - b) / range;
    float of_r = bc - gc, of_g = (float)(2.0 + (double)rc - (double)bc), of_b = (float)(4.0 + (double)gc - (double)rc);
    float sextant = r == high ? of_r : g == high ? of_g : of_b;
    double around = (double)sextant / 6.0 + 1.0;
    float hue = (float)(around >= 1.0 ? around - 1.0 : around);
    unsigned h = (whole((double)hue * 255.0) + shift) & 255u, s = whole((double)share * 255.0), v = high;

    double position = (double)h * 6.0 / 255.0;
    unsigned part = whole(position);
    double rest = (double)(float)(position - (double)part), saturation = (double)(float)((double)s / 255.0);
    unsigned p = level(v, saturation), q = level(v, saturation * rest), t = level(v, saturation * (1.0 - rest));
    unsigned red = v, green = t, blue = p; // parts 0 and 6
    if (part == 1) { red = q; green = v; }
    if (part == 2) { red = p; green = v; blue = t; }
    if (part == 3) { red = p; green = q; blue = v; }
    if (part == 4) { red = t; green = p; blue = v; }
    if (part == 5) { green = p; blue = q; }
    pixel[0] = (unsigned char)red;
    pixel[1] = (unsigned char)green;
    pixel[2] = (unsigned char)blue;
}

__device__ inline double cubic(double a, double b, double c, double d, double at) {
    double p2 = -a + c, p3 = 2.0 * (a - b) + c - d, p4 = -a + b - c + d;
    return b + at * (p2 + at * (p3 + at * p4));
}

__device__ inline unsigned beside(long long first, int k, unsigned side) {
    long long at = first - 1 + k;
    return (unsigned)(at < 0 ? 0 : at >= side ? side - 1 : at);
}

// pixel (x, y) of a warped picture: a cubic through four pixels each way around the place that it comes from
__device__ inline void warped(const unsigned char *from, unsigned side, unsigned x, unsigned y, const int *m, unsigned char *to) {
    double px = (double)x + 0.5, py = (double)y + 0.5;
    double depth = double_at(m + 12) * px + double_at(m + 14) * py + 1.0;
    double u = (double_at(m) * px + double_at(m + 2) * py + double_at(m + 4)) / depth;
    double v = (double_at(m + 6) * px + double_at(m + 8) * py + double_at(m + 10)) / depth;
    if (!(u >= 0.0 && u < (double)side && v >= 0.0 && v < (double)side)) {
        for (int c = 0; c < 3; c++) to[c] = (unsigned char)m[16 + c];
        return;
    }
    u -= 0.5;
    v -= 0.5;
    double left = floor(u), top = floor(v);
    for (int c = 0; c < 3; c++) {
        double across[4];
        for (int j = 0; j < 4; j++) {
            const unsigned char *row = from + 3ull * side * beside((long long)top, j, side) + c;
            double value[4];
            for (int k = 0; k < 4; k++) value[k] = (double)row[3 * beside((long long)left, k, side)];
            across[j] = cubic(value[0], value[1], value[2], value[3], u - left);
        }
        to[c] = cut(cubic(across[0], across[1], across[2], across[3], v - top));
    }
}

// pixel (x, y) of a picture warped in fixed point of 16 bits: the pixel that it comes from
__device__ inline void nearest(const unsigned char *from, unsigned side, unsigned x, unsigned y, const int *m, unsigned char *to) {
    long long u = (long long)long_at(m) * x + (long long)long_at(m + 2) * y + (long long)long_at(m + 4);
    long long v = (long long)long_at(m + 6) * x + (long long)long_at(m + 8) * y + (long long)long_at(m + 10);
    u >>= 16;
    v >>= 16;
    bool inside = u >= 0 && u < side && v >= 0 && v < side;
    for (int c = 0; c < 3; c++) to[c] = inside ? from[3 * (v * side + u) + c] : (unsigned char)m[12 + c];
}

// what autocontrast (spread) or equalize makes of each level of a channel
__device__ inline void spread_levels(const unsigned *counts, unsigned char *levels, u64 pixels, bool spread) {
    unsigned least = 255, greatest = 0;
    for (unsigned i = 0; i < 256; i++) {
        levels[i] = (unsigned char)i;
        if (counts[i]) {
            least = min(least, i);
            greatest = i;
        }
    }
    if (spread) {
        if (greatest <= least) return;
        double scale = 255.0 / (double)(greatest - least), offset = -(double)least * scale;
        for (unsigned i = 0; i < 256; i++) levels[i] = cut((double)i * scale + offset);
    } else {
        u64 step = (pixels - counts[greatest]) / 255, below = step / 2;
        if (step == 0) return;
        for (unsigned i = 0; i < 256; i++) {
            levels[i] = (unsigned char)min(below / step, 255ull);
            below += counts[i];
        }
    }
}

// All steps of a picture, in the two frames of its work, then its normalized planes [3, side * side]: one block per picture.
extern "C" __global__ void __launch_bounds__(512)
    strong_steps(const unsigned char *bytes, const float *table, unsigned side, unsigned char *work, float *planes) {
    __shared__ unsigned counts[3 * 256];
    __shared__ unsigned char levels[3 * 256];
    __shared__ u64 sum;
    const int *words = (const int *)bytes, *head = words + blockIdx.x * HEAD;
    const int *step = words + head[11], *end = step + head[12];
    u64 pixels = (u64)side * side, size = 3 * pixels, stride = 3ull * side;
    unsigned char *from = work + long_at(head + 2), *to = from + size;
    unsigned first = threadIdx.x, by = blockDim.x;

    while (step < end) {
        int kind = step[0];
        const int *given = step + 2;
        bool moved = false;
        step += step[1];
        if (kind == 0) { // each level by a table
            const unsigned char *map = (const unsigned char *)given;
            for (u64 i = first; i < size; i += by) from[i] = map[from[i]];
        } else if (kind == 1) { // blend with the mean gray
            if (first == 0) sum = 0;
            __syncthreads();
            u64 mine = 0;
            for (u64 i = first; i < pixels; i += by) mine += luma(from + 3 * i);
            atomicAdd(&sum, mine);
            __syncthreads();
            unsigned mean = whole((double)sum / (double)pixels + 0.5);
            for (u64 i = first; i < size; i += by) from[i] = blended(mean, from[i], float_at(given));
        } else if (kind == 2) { // blend with the gray picture
            for (u64 i = first; i < pixels; i += by) {
                unsigned char *p = from + 3 * i;
                unsigned gray = luma(p);
                for (int c = 0; c < 3; c++) p[c] = blended(gray, p[c], float_at(given));
            }
        } else if (kind == 3) { // hue
            for (u64 i = first; i < pixels; i += by) turned(from + 3 * i, (unsigned)given[0]);
        } else if (kind == 4) { // gray
            for (u64 i = first; i < pixels; i += by) {
                unsigned char *p = from + 3 * i;
                p[0] = p[1] = p[2] = (unsigned char)luma(p);
            }
        } else if (kind == 5) { // one box blur, across or down; at the edges the outermost pixel goes on
            long long radius = given[1];
            unsigned inner = (unsigned)given[2], outer = (unsigned)given[3];
            u64 apart = given[0] ? stride : 3;
            for (u64 i = first; i < size; i += by) {
                long long at = given[0] ? i / stride : i % stride / 3, last = side - 1;
                const unsigned char *line = from + i - at * apart;
                unsigned inside = 0;
                for (long long k = at - radius; k <= at + radius; k++) inside += line[min(max(k, 0ll), last) * apart];
                unsigned ends = line[max(at - radius - 1, 0ll) * apart] + line[min(at + radius + 1, last) * apart];
                to[i] = (unsigned char)((inside * inner + ends * outer + (1u << 23)) >> 24);
            }
            moved = true;
        } else if (kind == 6 || kind == 7) { // autocontrast, equalize
            for (unsigned i = first; i < 768; i += by) counts[i] = 0;
            __syncthreads();
            for (u64 i = first; i < size; i += by) atomicAdd(&counts[i % 3 * 256 + from[i]], 1u);
            __syncthreads();
            if (first < 3) spread_levels(counts + 256 * first, levels + 256 * first, pixels, kind == 6);
            __syncthreads();
            for (u64 i = first; i < size; i += by) from[i] = levels[i % 3 * 256 + from[i]];
        } else if (kind == 8) { // sharpness: blend with the smoothed picture
            for (u64 i = first; i < size; i += by) {
                u64 x = i % stride / 3, y = i / stride;
                to[i] = from[i];
                if (x == 0 || y == 0 || x + 1 == side || y + 1 == side) continue;
                unsigned around = 4u * from[i];
                for (int dy = -1; dy <= 1; dy++)
                    for (int dx = -1; dx <= 1; dx++) around += from[i + dy * (long long)stride + 3 * dx];
                to[i] = blended((2 * around + 13) / 26, from[i], float_at(given));
            }
            moved = true;
        } else { // warps
            for (u64 i = first; i < pixels; i += by) {
                unsigned x = (unsigned)(i % side), y = (unsigned)(i / side);
                if (kind == 9) nearest(from, side, x, y, given, to + 3 * i);
                else warped(from, side, x, y, given, to + 3 * i);
            }
            moved = true;
        }
        __syncthreads();
        if (moved) {
            unsigned char *other = from;
            from = to;
            to = other;
        }
    }
    planes += blockIdx.x * size;
    for (u64 i = first; i < size; i += by) planes[i] = table[i / pixels * 256 + from[i % pixels * 3 + i / pixels]];
}
