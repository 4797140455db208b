/* share.cu - memory of one process opened by another on the same device (CUDA IPC).
 *
 * A handle names the driver's own block, in which the memory that alloc gave may lie anywhere, so
 * its offset goes along; the driver is asked for it through the runtime, because the plugin does
 * not link the driver. What comes from another process is checked here as far as it can be; that
 * the bytes are the right ones only their hash can tell. */
#include "kernels/cuda/cuda.h"

static_assert(sizeof(cudaIpcMemHandle_t) == KERN_HANDLE, "a handle's size");

static int offset_in_block(uint64_t *out, const void *p) {
#if CUDA_ON_DEVICE
    typedef int range_fn(unsigned long long *base, size_t *bytes, unsigned long long at);
    unsigned long long base = 0, at = (unsigned long long)(uintptr_t)p;
    size_t bytes = 0;
    void *fn = nullptr;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    CUDA_TRY(cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &fn, 12000, cudaEnableDefault,
                                              &found));
#else
    CUDA_TRY(cudaGetDriverEntryPoint("cuMemGetAddressRange", &fn, cudaEnableDefault, &found));
#endif
    if (found != cudaDriverEntryPointSuccess || !fn)
        return FAIL(ERR_UNSUP, "cuda: the driver has no cuMemGetAddressRange");
    int e = reinterpret_cast<range_fn *>(fn)(&base, &bytes, at);
    if (e != 0) return FAIL(ERR_DEVICE, "cuda: cuMemGetAddressRange: error %d", e);
    *out = at - base;
#else
    (void)p;
    *out = 0; /* blocks of the simulated device are whole */
#endif
    return 0;
}

/* The properties take a driver milliseconds, so they are asked for once in a thread. */
int cuda_device_id(uint8_t out[KERN_DEVICE_ID]) {
    static thread_local int known = -1;
    static thread_local cudaDeviceProp properties;
    int device;
    static_assert(sizeof properties.uuid == KERN_DEVICE_ID, "an id's size");
    TRY(cuda_use_device());
    CUDA_TRY(cudaGetDevice(&device));
    if (device != known) CUDA_TRY(cudaGetDeviceProperties(&properties, device));
    known = device;
    memcpy(out, &properties.uuid, KERN_DEVICE_ID);
    return 0;
}

int cuda_share(struct kern_shared *out, void *p, size_t bytes) {
    struct kern_shared m = {};
    cudaIpcMemHandle_t handle;
    TRY(cuda_device_id(m.device));
    TRY(offset_in_block(&m.offset, p));
    CUDA_TRY(cudaIpcGetMemHandle(&handle, p));
    memcpy(m.handle, &handle, sizeof handle);
    m.bytes = bytes;
    *out = m;
    return 0;
}

int cuda_open_shared(void **out, const struct kern_shared *m) {
    cudaIpcMemHandle_t handle;
    void *base = nullptr;
    memcpy(&handle, m->handle, sizeof handle);
    TRY(cuda_use_device());
    CUDA_TRY(cudaIpcOpenMemHandle(&base, handle, cudaIpcMemLazyEnablePeerAccess));
    *out = static_cast<char *>(base) + m->offset;
    return 0;
}

void cuda_close_shared(void *p, const struct kern_shared *m) {
    if (p) cudaIpcCloseMemHandle(static_cast<char *>(p) - m->offset);
}
