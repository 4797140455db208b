/* runtime.cc - the runtime behind cuda_runtime.h of this folder: memory, streams, graphs.
 *
 * A stream does what it is given at once, but for copies from and to pinned memory and launches of
 * graphs: these, and all that follows them, are done when the host waits for the stream. So a host
 * that writes to a block that is still to be sent, or reads a result before it waited, is shown up.
 * What a device refuses while it captures is refused here too, and breaks the capture. */
#include <cuda_runtime.h>

#include "arena.h"

#include <fcntl.h>
#include <mutex>
#include <stdlib.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

struct sim_work { /* copies share it: a graph may go before it was done */
    std::vector<std::function<void()>> list;
};

struct block { /* of pinned memory */
    const char *at;
    size_t bytes;
};

#if defined(__SANITIZE_ADDRESS__)
static const bool on_heap = true; /* device memory, see arena.h */
#else
static const bool on_heap = false;
#endif

static const size_t MEMORY = (size_t)64 << 30;
static std::mutex pinned_lock;
static std::vector<struct block> pinned;
static thread_local cudaStream_t capturing; /* by this thread */

/* --- streams -------------------------------------------------------------------------------- */

void sim_submit(struct sim_stream *on, std::function<void()> work) {
    if (on && on->taken)
        on->taken->list.push_back(work);
    else if (on && on->later)
        on->later->list.push_back(work);
    else
        work();
}

static void submit_late(struct sim_stream *on, std::function<void()> work) {
    if (on && !on->taken && !on->later) on->later = new struct sim_work();
    sim_submit(on, work);
}

static void drain(struct sim_stream *s) {
    if (!s || !s->later) return;
    struct sim_work *work = s->later;
    s->later = nullptr;
    for (auto &w : work->list)
        w();
    delete work;
}

/* What no stream may do while it is captured, or its thread while it captures one. */
static cudaError_t refused(struct sim_stream *s) {
    if (!s || !s->taken) return cudaSuccess;
    s->broken = true;
    return cudaErrorStreamCaptureUnsupported;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    (void)flags;
    *out = new struct sim_stream();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
    drain(s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t s) {
    if (cudaError_t e = refused(s)) return e;
    drain(s);
    return s && s->busy ? cudaErrorNotReady : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (cudaError_t e = refused(s)) return e;
    drain(s);
    return cudaSuccess;
}

/* An event is nothing: all before it is done when it is recorded. */
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    *out = nullptr;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t) {
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t s) {
    if (cudaError_t e = refused(s)) return e;
    drain(s);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t, unsigned) {
    return refused(s);
}

/* --- memory --------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **out, size_t bytes) {
    if (cudaError_t e = refused(capturing)) return e;
    void *p = arena_take(bytes);
    if (!p) return cudaErrorMemoryAllocation;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p) {
    if (cudaError_t e = refused(capturing)) return e;
    arena_release(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total) {
    *total = MEMORY;
    *left = MEMORY - arena_used();
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    (void)flags;
    if (cudaError_t e = refused(capturing)) return e;
    void *p = aligned_alloc(64, (bytes / 64 + 1) * 64);
    if (!p) return cudaErrorMemoryAllocation;
    std::lock_guard<std::mutex> hold(pinned_lock);
    pinned.push_back({static_cast<const char *>(p), bytes});
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *p) {
    std::lock_guard<std::mutex> hold(pinned_lock);
    for (size_t i = 0; i < pinned.size(); i++)
        if (pinned[i].at == p) {
            pinned.erase(pinned.begin() + (ptrdiff_t)i);
            free(p);
            return cudaSuccess;
        }
    return cudaErrorInvalidValue;
}

static bool is_pinned(const void *p, size_t bytes) {
    const char *from = static_cast<const char *>(p);
    std::lock_guard<std::mutex> hold(pinned_lock);
    for (const struct block &b : pinned)
        if (from >= b.at && from + bytes <= b.at + b.bytes) return true;
    return false;
}

static void move(void *dst, const void *src, size_t n) {
    arena_enter();
    memmove(dst, src, n);
    arena_leave();
}

/* A side that should be the device's but is not, or the other way round, is an error: a driver
 * would take it for what it is, on machines that can. */
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t n, cudaMemcpyKind k,
                            cudaStream_t s) {
    bool to_device = k != cudaMemcpyDeviceToHost, from_device = k != cudaMemcpyHostToDevice;
    if (n == 0) return cudaSuccess;
    if (!on_heap && (arena_has(dst) != to_device || arena_has(src) != from_device))
        return cudaErrorInvalidValue;
    auto work = [=] { move(dst, src, n); };
    if (to_device && from_device) {
        sim_submit(s, work);
    } else if (is_pinned(to_device ? src : dst, n)) {
        submit_late(s, work);
    } else {
        if (cudaError_t e = refused(s)) return e;
        drain(s);
        work();
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *dst, int value, size_t n, cudaStream_t s) {
    if (n == 0) return cudaSuccess;
    if (!arena_has(dst)) return cudaErrorInvalidValue;
    sim_submit(s, [=] {
        arena_enter();
        memset(dst, value, n);
        arena_leave();
    });
    return cudaSuccess;
}

/* --- between processes ---------------------------------------------------------------------- */

struct place { /* what a handle says */
    int64_t pid;
    int64_t fd;
    uint64_t bytes;
};

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *out, void *p) {
    struct place at = {getpid(), -1, 0};
    size_t bytes = 0;
    at.fd = arena_share(p, &bytes);
    at.bytes = bytes;
    if (at.fd < 0) return cudaErrorNotSupported;
    memset(out, 0, sizeof *out);
    memcpy(out->reserved, &at, sizeof at);
    return cudaSuccess;
}

/* A process cannot open what is its own, as with a driver. */
cudaError_t cudaIpcOpenMemHandle(void **out, cudaIpcMemHandle_t handle, unsigned) {
    struct place at;
    struct stat st;
    memcpy(&at, handle.reserved, sizeof at);
    std::string path = "/proc/" + std::to_string(at.pid) + "/fd/" + std::to_string(at.fd);
    if (at.pid == getpid() || at.bytes == 0) return cudaErrorInvalidResourceHandle;
    int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return cudaErrorInvalidResourceHandle;
    void *p = nullptr;
    if (fstat(fd, &st) == 0 && (uint64_t)st.st_size == at.bytes) p = arena_map(fd, at.bytes);
    close(fd);
    if (!p) return cudaErrorInvalidResourceHandle;
    *out = p;
    return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void *p) {
    arena_release(p);
    return cudaSuccess;
}

/* --- graphs --------------------------------------------------------------------------------- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) {
    if (!s || s->taken || capturing) return cudaErrorInvalidValue;
    s->taken = new struct sim_work();
    s->broken = false;
    capturing = s;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out) {
    if (!s || !s->taken || capturing != s) return cudaErrorInvalidValue;
    *out = s->taken;
    s->taken = nullptr;
    capturing = nullptr;
    if (!s->broken) return cudaSuccess;
    delete *out;
    *out = nullptr;
    return cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t g, unsigned long long) {
    *out = new struct sim_work(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t g, cudaStream_t s) {
    auto list = g->list;
    submit_late(s, [list] {
        for (auto &w : list)
            w();
    });
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t g) {
    delete g;
    return cudaSuccess;
}

/* --- the device ----------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *n) {
    *n = 3;
    return cudaSuccess;
}

static thread_local int current;

cudaError_t cudaGetDevice(int *device) {
    *device = current;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
    *out = {};
    memcpy(out->uuid.bytes, "cudasim", 7);
    out->uuid.bytes[15] = (char)device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
    sim_descend(device == 1);
    current = device;
    if (device == 2) arena_guard();
    return device >= 0 && device <= 2 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaGetLastError(void) {
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid value";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNotReady: return "not ready";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorNotSupported: return "operation not supported";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    }
    return "unknown error";
}
