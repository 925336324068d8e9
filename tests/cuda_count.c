// What a program asks of a GPU's driver, counted between the two: with any driver, also one that computes nothing.
//
//     cc -O1 -shared -fPIC tests/cuda_count.c -o cuda_count.so -ldl
//     LD_PRELOAD=./cuda_count.so CUDA_COUNT=FILE lafter run … --device cuda
//
// FILE gets a line when the program ends: kernels; products, and the megabytes of their matrices; allocations; memory that is cleared or
// copied on the device; copies up; reads; and how often the host waited, which is a read or a wait with work begun since the last
// one. A line a kernel follows: name, launches, million threads.
//
// CUDA_COUNT_ONES=1 is for a driver that computes nothing: each word that is read back is 1, since zeros are refused where they
// cannot be right, and page-locked memory is the host's.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static long launches, products, allocations, uploads, reads, waits, busy;
static double up, down, matrices, moved;
static struct {
    void *function;
    char name[64];
    long launches;
    double threads;
} kernels[1024];
static int known;

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) fprintf(stderr, "cuda_count: the driver has no %s\n", name), exit(1);
    return found;
}
// the driver's own function of this name
#define NEXT(name)                                                                                                                     \
    static __typeof__(&name) real;                                                                                                     \
    if (!real) real = (__typeof__(&name))next(#name)

static int ones(void) { return getenv("CUDA_COUNT_ONES") != NULL; }

static void wait(void) {
    waits += busy;
    busy = 0;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    NEXT(cuModuleGetFunction);
    int answer = real(function, module, name), i = 0;
    while (i < known && kernels[i].function != *function) i++;
    if (answer == 0 && i == known && known < 1024) {
        kernels[known].function = *function;
        strncpy(kernels[known++].name, name, 63);
    }
    return answer;
}

int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared, void *stream,
                   void **arguments, void **more) {
    NEXT(cuLaunchKernel);
    launches++;
    for (int i = 0; i < known; i++)
        if (kernels[i].function == function) kernels[i].launches++, kernels[i].threads += (double)x * y * z * bx * by * bz;
    busy = 1;
    return real(function, x, y, z, bx, by, bz, shared, stream, arguments, more);
}

// bytes of a number of a product
static double size(int type) { return type == 0 ? 4 : type == 1 ? 8 : 2; }

int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda,
                               long long sa, const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc,
                               long long sc, int count, int compute, int algorithm) {
    NEXT(cublasGemmStridedBatchedEx);
    products++;
    // each matrix once, the result twice if it is added to
    double first = (double)m * k * size(at) * (sa ? count : 1), second = (double)k * n * size(bt) * (sb ? count : 1);
    matrices += first + second + (double)m * n * size(ct) * count * (*(const float *)beta == 0 ? 1 : 2);
    busy = 1;
    return real(handle, ta, tb, m, n, k, alpha, a, at, lda, sa, b, bt, ldb, sb, beta, c, ct, ldc, sc, count, compute, algorithm);
}

int cuMemAllocAsync(void **to, size_t bytes, void *stream) {
    NEXT(cuMemAllocAsync);
    allocations++;
    return real(to, bytes, stream);
}

int cuMemsetD8Async(void *to, unsigned char value, size_t bytes, void *stream) {
    NEXT(cuMemsetD8Async);
    moved += bytes;
    return real(to, value, bytes, stream);
}

int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    NEXT(cuMemcpyDtoDAsync_v2);
    moved += 2.0 * bytes;
    return real(to, from, bytes, stream);
}

int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    NEXT(cuMemcpyHtoDAsync_v2);
    uploads++;
    up += bytes;
    return real(to, from, bytes, stream);
}

int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, void *stream) {
    NEXT(cuMemcpyDtoHAsync_v2);
    reads++;
    down += bytes;
    wait();
    int answer = real(to, from, bytes, stream);
    if (ones())
        for (size_t i = 0; i < bytes / 4; i++) ((unsigned *)to)[i] = 1;
    return answer;
}

int cuStreamSynchronize(void *stream) {
    NEXT(cuStreamSynchronize);
    wait();
    return real(stream);
}

int cuMemHostAlloc(void **to, size_t bytes, unsigned flags) {
    if (ones()) return (*to = malloc(bytes ? bytes : 1)) ? 0 : 2;
    NEXT(cuMemHostAlloc);
    return real(to, bytes, flags);
}

int cuMemFreeHost(void *memory) {
    if (ones()) return free(memory), 0;
    NEXT(cuMemFreeHost);
    return real(memory);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("CUDA_COUNT");
    FILE *file = path && launches ? fopen(path, "w") : NULL; // a program that only starts others has none
    if (!file) return;
    fprintf(file, "kernels %ld products %ld (%.3f MB) allocations %ld moved (%.3f MB) ", launches, products, matrices / 1e6, allocations,
            moved / 1e6);
    fprintf(file, "uploads %ld (%.3f MB) reads %ld (%.3f MB) waits %ld\n", uploads, up / 1e6, reads, down / 1e6, waits);
    for (int i = 0; i < known; i++) fprintf(file, "  %-36s %8ld %12.3f\n", kernels[i].name, kernels[i].launches, kernels[i].threads / 1e6);
    fclose(file);
}
