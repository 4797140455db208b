/* cuda.h - what the files of the CUDA plugin share: errors, streams, launches, element types and
 * reductions. Private to this folder.
 *
 * The same sources are compiled twice: by nvcc for GPUs, and by a C++ compiler against
 * tests/cudasim, whose cuda_runtime.h runs the kernels on the host for the op suite. So a launch is
 * CUDA_LAUNCH, dynamic shared memory is CUDA_SHARED, and what only a GPU has (tensor cores,
 * libraries) stands beside a plain path under CUDA_ON_DEVICE.
 *
 * Batch invariance (I6): a row is reduced by one block of a fixed size with a fixed tree, so its
 * bits depend on the row's width alone. No float atomics anywhere. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#define _Noreturn [[noreturn]]
extern "C" {
#include "kernels/backend.h"
#include "kernels/ops.h"
OPS_DECLARE(cuda);
OPS_DECLARE_COLL(cuda);
#include "base/hash.h"
int cuda_hash_leaves(struct kern_stream *s, struct hash *leaf, const void *data, size_t bytes);
int cuda_device_id(uint8_t out[KERN_DEVICE_ID]);
int cuda_share(struct kern_shared *out, void *p, size_t bytes);
int cuda_open_shared(void **out, const struct kern_shared *m);
void cuda_close_shared(void *p, const struct kern_shared *m);
}
#undef _Noreturn

#ifdef __CUDACC__
#define CUDA_ON_DEVICE 1
#else
#define CUDA_ON_DEVICE 0
#endif

struct kern_stream {
    cudaStream_t on;
    char *scratch; /* 256-byte aligned device memory */
    size_t bytes;
    bool inexact; /* exact false */
    bool recording;
    const char *broken; /* what was called that cannot be recorded, null: nothing */
};

typedef __nv_bfloat16 bf16;

static const int CUDA_BLOCK = 256, CUDA_WARP = 32, CUDA_WARPS = CUDA_BLOCK / CUDA_WARP;
static const int CUDA_NORM_SLICE = 64;       /* rows whose weight gradients one thread adds up */
static const int64_t CUDA_NORM_NARROW = 512; /* widest row whose norm is one warp's work */

/* norm.cu: floats of scratch for the reverse of n rows of d. */
int64_t cuda_norm_floats(int64_t n, int64_t d);

/* --- errors and launches (host) ------------------------------------------------------------- */

/* Records the driver's message; ERR_NOMEM or ERR_DEVICE. */
int cuda_fail(cudaError_t e, const char *what, const char *file, int line);

/* ERR_CONFIG while s is recording, which is then broken: for what waits or touches pageable memory.
 */
MUST_CHECK int cuda_not_recording(struct kern_stream *s, const char *what);

/* record.cu, for the table in plugin.cu */
int cuda_record_begin(struct kern_stream *s);
int cuda_record_end(struct kern_stream *s, struct kern_graph **out);
int cuda_replay(struct kern_stream *s, struct kern_graph *g);
void cuda_graph_close(struct kern_graph *g);

/* Makes the device of this process the calling thread's. */
MUST_CHECK int cuda_use_device(void);

#define CUDA_TRY(expr)                                                                             \
    do {                                                                                           \
        cudaError_t e_ = (expr);                                                                   \
        if (e_ != cudaSuccess) return cuda_fail(e_, #expr, __FILE__, __LINE__);                    \
    } while (0)

/* kernel is an expression without commas (name an instance first). Returns from the caller when the
 * launch is refused. */
#if CUDA_ON_DEVICE
#define CUDA_LAUNCH(kernel, grid, block, shared, s, ...)                                           \
    do {                                                                                           \
        kernel<<<grid, block, shared, (s)->on>>>(__VA_ARGS__);                                     \
        cudaError_t e_ = cudaGetLastError();                                                       \
        if (e_ != cudaSuccess) return cuda_fail(e_, #kernel, __FILE__, __LINE__);                  \
    } while (0)
#define CUDA_SHARED(type, name)                                                                    \
    extern __shared__ __align__(16) char cuda_shared_[];                                           \
    type *name = reinterpret_cast<type *>(cuda_shared_)
#else
#define CUDA_LAUNCH(kernel, grid, block, shared, s, ...)                                           \
    sim_launch((s)->on, dim3(grid), dim3(block), shared, kernel __VA_OPT__(, ) __VA_ARGS__)
#define CUDA_SHARED(type, name) type *name = static_cast<type *>(sim_shared())
#endif

/* Blocks of CUDA_BLOCK threads that cover n elements; a kernel strides over what is beyond. */
static inline unsigned cuda_blocks(int64_t n) {
    int64_t blocks = (n + CUDA_BLOCK - 1) / CUDA_BLOCK;
    return (unsigned)(blocks < 1 ? 1 : blocks > (1 << 20) ? (1 << 20) : blocks);
}

/* The stream's scratch if it holds `bytes`, else ERR_CONFIG naming op and both sizes. */
MUST_CHECK int cuda_scratch(void **out, struct kern_stream *s, const char *op, size_t bytes);

template <typename T> static inline T *cuda_data(kern_arg t) {
    return t ? static_cast<T *>(t->data) : nullptr;
}

/* --- elements ------------------------------------------------------------------------------- */

static __device__ __forceinline__ float cuda_get(const float *p) {
    return *p;
}
static __device__ __forceinline__ float cuda_get(const bf16 *p) {
    return __bfloat162float(*p);
}
static __device__ __forceinline__ void cuda_set(float *p, float x) {
    *p = x;
}
static __device__ __forceinline__ void cuda_set(bf16 *p, float x) {
    *p = __float2bfloat16_rn(x);
}

/* First element of this thread and the stride of the grid, in 64 bits. */
#define CUDA_EACH(i, n)                                                                            \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x,                               \
                 step_ = (int64_t)gridDim.x * blockDim.x;                                          \
         i < (n); i += step_)

/* --- reductions over a block of CUDA_BLOCK threads; every thread gets the result ------------ */

struct cuda_sum {
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a + b;
    }
};
struct cuda_max {
    template <typename T> static __device__ __forceinline__ T of(T a, T b) {
        return a > b ? a : b;
    }
};

template <typename Op, typename T> static __device__ __forceinline__ T cuda_warp_reduce(T x) {
    for (int other = CUDA_WARP / 2; other > 0; other /= 2)
        x = Op::of(x, __shfl_xor_sync(0xffffffffu, x, other));
    return x;
}

/* Uses the barrier twice, so it may be called again at once. */
template <typename Op, typename T> static __device__ __forceinline__ T cuda_block_reduce(T x) {
    __shared__ T part[CUDA_WARPS];
    x = cuda_warp_reduce<Op>(x);
    if (threadIdx.x % CUDA_WARP == 0) part[threadIdx.x / CUDA_WARP] = x;
    __syncthreads();
    T sum = part[0];
    for (int w = 1; w < CUDA_WARPS; w++)
        sum = Op::of(sum, part[w]);
    __syncthreads();
    return sum;
}

#endif
