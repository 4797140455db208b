/* plugin.cu - the table of the CUDA backend, its memory and streams.
 *
 * weir-cuda.so exports one data symbol, kern_plugin (kernels/load.c finds it beside the
 * executable). Errors are written through the host's err_set, which the executable exports. A CUDA
 * device is current per thread, so each thread that opens a stream or takes memory chooses it
 * there. */
#include "kernels/cuda/attention.h"

#include <mutex>
#include <vector>

static int device_open = -1;

struct pinned { /* host memory that the device reaches */
    const char *at;
    size_t bytes;
};
static std::mutex pinned_lock;
static std::vector<struct pinned> pinned;

int cuda_fail(cudaError_t e, const char *what, const char *file, int line) {
    err_set(file, line, "cuda: %s: %s", what, cudaGetErrorString(e));
    cudaGetLastError(); /* read and cleared, unless it is one that sticks */
    return e == cudaErrorMemoryAllocation ? ERR_NOMEM : ERR_DEVICE;
}

int cuda_scratch(void **out, struct kern_stream *s, const char *op, size_t bytes) {
    if (bytes > s->bytes)
        return FAIL(ERR_CONFIG, "%s: needs %zu bytes of scratch, the stream has %zu", op, bytes,
                    s->bytes);
    *out = s->scratch;
    return 0;
}

int cuda_use_device(void) {
    CUDA_TRY(cudaSetDevice(device_open));
    return 0;
}

static int cuda_open(int device, int threads) {
    int n = 0;
    (void)threads;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess) {
        cudaGetLastError();
        return FAIL(ERR_DEVICE, "cuda: %s", cudaGetErrorString(e));
    }
    if (device < 0 || device >= n)
        return FAIL(ERR_DEVICE, "cuda: device %d asked for, this machine has %d", device, n);
    CUDA_TRY(cudaSetDevice(device));
    device_open = device;
    return 0;
}

static void cuda_close(void) {
    device_open = -1;
}

static int cuda_alloc(void **out, size_t bytes) {
    void *p = nullptr;
    TRY(cuda_use_device());
    CUDA_TRY(cudaMalloc(&p, bytes ? bytes : 1));
    cudaError_t e = cudaMemsetAsync(p, 0, bytes, nullptr);
    if (e == cudaSuccess) e = cudaStreamSynchronize(nullptr);
    if (e != cudaSuccess) {
        cudaFree(p);
        return cuda_fail(e, "zeroing new memory", __FILE__, __LINE__);
    }
    *out = p;
    return 0;
}

static void cuda_release(void *p) {
    if (p) cudaFree(p);
}

/* rmsnorm_bwd: of rows, and of heads of rows (norm.cu); attention_bwd: a number a row and head;
 * attention: parts of rows (attention_fwd.cu); dot: three sums a block. */
static size_t cuda_scratch_bytes(const struct kern_limits *l) {
    int64_t norm = cuda_norm_floats(l->rows, l->width_max);
    int64_t heads = cuda_norm_floats(l->rows * l->heads, l->head_width);
    int64_t dot = 3 * 1024 * 2 + 16, most = norm > heads ? norm : heads;
    size_t bytes = (size_t)(most > dot ? most : dot) * sizeof(float), parts = attention_scratch(l);
    return (bytes > parts ? bytes : parts) + 4096;
}

static int cuda_stream_open(struct kern_stream **out, size_t scratch_bytes) {
    void *scratch = nullptr;
    cudaStream_t on;
    TRY(cuda_alloc(&scratch, scratch_bytes));
    cudaError_t e = cudaStreamCreateWithFlags(&on, cudaStreamNonBlocking);
    if (e != cudaSuccess) {
        cudaFree(scratch);
        return cuda_fail(e, "cudaStreamCreate", __FILE__, __LINE__);
    }
    struct kern_stream *s = new kern_stream();
    s->on = on;
    s->scratch = static_cast<char *>(scratch);
    s->bytes = scratch_bytes;
    *out = s;
    return 0;
}

static void cuda_stream_close(struct kern_stream *s) {
    if (!s) return;
    cudaStreamSynchronize(s->on);
    cudaStreamDestroy(s->on);
    cudaFree(s->scratch);
    delete s;
}

static int cuda_exact(struct kern_stream *s, bool exact) {
    s->inexact = !exact;
    return 0;
}

static int cuda_sync(struct kern_stream *s) {
    TRY(cuda_not_recording(s, "sync"));
    CUDA_TRY(cudaStreamSynchronize(s->on));
    return 0;
}

static int cuda_alloc_host(void **out, size_t bytes) {
    void *p = nullptr;
    TRY(cuda_use_device());
    CUDA_TRY(cudaHostAlloc(&p, bytes ? bytes : 1, cudaHostAllocDefault));
    memset(p, 0, bytes);
    std::lock_guard<std::mutex> hold(pinned_lock);
    pinned.push_back({static_cast<const char *>(p), bytes});
    *out = p;
    return 0;
}

static void cuda_release_host(void *p) {
    if (!p) return;
    std::lock_guard<std::mutex> hold(pinned_lock);
    for (size_t i = 0; i < pinned.size(); i++)
        if (pinned[i].at == p) {
            pinned[i] = pinned.back();
            pinned.pop_back();
            break;
        }
    cudaFreeHost(p);
}

static bool is_pinned(const void *p, size_t bytes) {
    const char *from = static_cast<const char *>(p);
    std::lock_guard<std::mutex> hold(pinned_lock);
    for (const struct pinned &x : pinned)
        if (from >= x.at && bytes <= x.bytes && (size_t)(from - x.at) <= x.bytes - bytes)
            return true;
    return false;
}

/* Pageable memory may be gone or wanted when this returns, so it is waited for. */
static int transfer(struct kern_stream *s, void *dst, const void *src, size_t bytes,
                    enum cudaMemcpyKind kind) {
    bool put = kind == cudaMemcpyHostToDevice, later = is_pinned(put ? src : dst, bytes);
    if (bytes == 0) return 0;
    if (!later)
        TRY(cuda_not_recording(s, put ? "put of pageable memory" : "get to pageable memory"));
    CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, kind, s->on));
    if (!later) CUDA_TRY(cudaStreamSynchronize(s->on));
    return 0;
}

static int cuda_put(struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    return transfer(s, dst, src, bytes, cudaMemcpyHostToDevice);
}

static int cuda_get_bytes(struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    return transfer(s, dst, src, bytes, cudaMemcpyDeviceToHost);
}

static int cuda_memory(size_t *left, size_t *total) {
    TRY(cuda_use_device());
    CUDA_TRY(cudaMemGetInfo(left, total));
    return 0;
}

static int cuda_copy(struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    if (bytes == 0) return 0;
    CUDA_TRY(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, s->on));
    return 0;
}

static int cuda_zero(struct kern_stream *s, void *dst, size_t bytes) {
    if (bytes == 0) return 0;
    CUDA_TRY(cudaMemsetAsync(dst, 0, bytes, s->on));
    return 0;
}

static int cuda_after(struct kern_stream *s, struct kern_stream *other) {
    cudaEvent_t done;
    TRY(cuda_not_recording(s, "after"));
    TRY(cuda_not_recording(other, "after"));
    CUDA_TRY(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    cudaError_t e = cudaEventRecord(done, other->on);
    if (e == cudaSuccess) e = cudaStreamWaitEvent(s->on, done, 0);
    cudaEventDestroy(done); /* goes when it has happened */
    if (e != cudaSuccess) return cuda_fail(e, "cudaStreamWaitEvent", __FILE__, __LINE__);
    return 0;
}

extern "C" const struct kern_backend kern_plugin = {
    .abi = KERN_ABI,
    .size = sizeof(struct kern_backend),
    .name = "cuda",
    .on_host = false,
    .numbered = true,
    .open = cuda_open,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .scratch_bytes = cuda_scratch_bytes,
    .stream_open = cuda_stream_open,
    .stream_close = cuda_stream_close,
    .sync = cuda_sync,
    .put = cuda_put,
    .get = cuda_get_bytes,
    .copy = cuda_copy,
    .zero = cuda_zero,
    .after = cuda_after,
    .alloc_host = cuda_alloc_host,
    .release_host = cuda_release_host,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .graph_close = cuda_graph_close,
    .memory = cuda_memory,
    .hash_leaves = cuda_hash_leaves,
    .exact = cuda_exact,
    .device_id = cuda_device_id,
    .share = cuda_share,
    .open_shared = cuda_open_shared,
    .close_shared = cuda_close_shared,
    OPS_TABLE(cuda),
    OPS_TABLE_COLL(cuda),
};
