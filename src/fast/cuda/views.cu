// Kernels of the views: 8-bit pictures to the tower's input, and that to patches.
//
// `views.ptx` is made of this by `make_ptx.sh`.

#include "common.cuh"

// pictures [n, pixels, 3] of bytes -> planes [n, 3, pixels]: the host's own table [3, 256] has each level of each channel
extern "C" __global__ void planes(const unsigned char *bytes, const float *table, u64 pixels, u64 count, float *to) {
    u64 i = element();
    if (i >= count) return;
    u64 pixel = i % pixels, plane = i / pixels, channel = plane % 3;
    to[i] = table[channel * 256 + bytes[(plane / 3 * pixels + pixel) * 3 + channel]];
}

// [batch, channels, grid * side, grid * side] -> [batch, grid * grid, channels * side * side]
extern "C" __global__ void patches(const float *pixels, unsigned channels, unsigned grid, unsigned side, u64 count, float *to) {
    u64 i = element();
    if (i >= count) return;
    u64 edge = (u64)grid * side, row = (u64)channels * side * side;
    unsigned inside = (unsigned)(i % row), across = inside % side, down = inside / side % side, channel = inside / side / side;
    u64 patch = i / row;
    u64 right = patch % grid * side + across, below = patch / grid % grid * side + down, image = patch / grid / grid;
    to[i] = pixels[((image * channels + channel) * edge + below) * edge + right];
}
