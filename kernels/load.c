/* load.c - choosing and opening a backend, and the small functions over views.
 *
 * A backend is a table with process-wide state behind it (threads, a driver context), so it is
 * opened once per process and counted: kern_open may be called by every part that computes, and the
 * last kern_close closes. While it is open, further opens share what the first one set up (its
 * device and thread count). The plugin is looked up beside the executable and nowhere else, so
 * neither the working directory nor the environment can put code into the process. */
#include "kernels/kernels.h"

#include "base/log.h"
#include "kernels/cpu/cpu.h"
#include "kernels/ref/ref.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SLOT_REF, SLOT_CPU, SLOT_CUDA, SLOT_CUDASIM, SLOTS };

static struct slot {
    const struct kern_backend *table; /* a plugin's: NULL until it was loaded */
    int opened, device;
} slots[SLOTS];

/* cudasim: the CUDA sources compiled for the host (tests/cudasim), beside the test program only. */
static const char *const plugin_files[SLOTS] = {
    [SLOT_CUDA] = "weir-cuda.so", [SLOT_CUDASIM] = "weir-cudasim.so"};

static atomic_flag busy = ATOMIC_FLAG_INIT; /* guards slots; held for the length of an open */

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&busy, memory_order_acquire))
        usleep(50);
}

static void unlock(void) {
    atomic_flag_clear_explicit(&busy, memory_order_release);
}

static int check_table(const struct kern_backend *b, const char *path) {
    if (b->abi != KERN_ABI || b->size != sizeof *b)
        return FAIL(ERR_DEVICE, "%s has ABI %u size %u, this program %d size %zu: rebuild both",
                    path, b->abi, b->size, KERN_ABI, sizeof *b);
    if (!b->open || !b->close || !b->name) return FAIL(ERR_DEVICE, "%s: incomplete table", path);
    return 0;
}

/* The plugin stays loaded until the process ends: drivers do not survive being unloaded. */
static int load_plugin(struct slot *slot, const char *file) {
    if (slot->table) return 0;
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - strlen(file) - 1);
    if (n <= 0) return FAIL(ERR_DEVICE, "cuda: the path of the executable is unknown");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash) return FAIL(ERR_DEVICE, "cuda: the executable has no folder");
    memcpy(slash + 1, file, strlen(file) + 1);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so) return FAIL(ERR_DEVICE, "cuda: %s", dlerror());
    const struct kern_backend *b = dlsym(so, "kern_plugin");
    int rc =
        b ? check_table(b, path) : FAIL(ERR_DEVICE, "cuda: %s has no symbol kern_plugin", path);
    if (rc < 0) {
        dlclose(so);
        return rc;
    }
    slot->table = b;
    return 0;
}

static int open_slot(const struct kern_backend **out, struct slot *slot, int device, int threads) {
    if (slot->opened > 0 && slot->device != device)
        return FAIL(ERR_DEVICE, "%s: device %d is open in this process, device %d cannot be too",
                    slot->table->name, slot->device, device);
    if (slot->opened == 0) TRY(slot->table->open(device, threads));
    slot->opened++;
    slot->device = device;
    *out = slot->table;
    return 0;
}

static int open_plugin(const struct kern_backend **out, int slot, int device, int threads) {
    TRY(load_plugin(&slots[slot], plugin_files[slot]));
    return open_slot(out, &slots[slot], device, threads);
}

/* The N of "cuda:N", -1 if malformed. */
static int device_number(const char *text) {
    int n = 0;
    if (*text < '0' || *text > '9') return -1;
    for (; *text >= '0' && *text <= '9'; text++) {
        n = n * 10 + (*text - '0');
        if (n > 1023) return -1;
    }
    return *text ? -1 : n;
}

static int open_auto(const struct kern_backend **out, int threads) {
    if (open_plugin(out, SLOT_CUDA, 0, threads) == 0) {
        LOG(INFO, KERN, "device=auto chosen=cuda:0");
        return 0;
    }
    LOG(INFO, KERN, "device=auto chosen=cpu because=\"%s\"", err_text());
    return open_slot(out, &slots[SLOT_CPU], 0, threads);
}

static int open_device(const struct kern_backend **out, const char *device, int threads) {
    slots[SLOT_REF].table = &ref_backend;
    slots[SLOT_CPU].table = &cpu_backend;
    if (strcmp(device, "ref") == 0) return open_slot(out, &slots[SLOT_REF], 0, threads);
    if (strcmp(device, "cpu") == 0) return open_slot(out, &slots[SLOT_CPU], 0, threads);
    if (strcmp(device, "auto") == 0) return open_auto(out, threads);
    if (strncmp(device, "cuda:", 5) == 0 && device_number(device + 5) >= 0)
        return open_plugin(out, SLOT_CUDA, device_number(device + 5), threads);
    if (strncmp(device, "cudasim:", 8) == 0 && device_number(device + 8) >= 0)
        return open_plugin(out, SLOT_CUDASIM, device_number(device + 8), threads);
    return FAIL(ERR_CONFIG, "device \"%s\": wanted ref, cpu, cuda:N or auto", device);
}

int kern_open(const struct kern_backend **out, const char *device, int threads) {
    if (threads < 0 || threads > 1024)
        return FAIL(ERR_CONFIG, "threads = %d, wanted 0..1024", threads);
    lock();
    int rc = open_device(out, device, threads);
    unlock();
    return rc;
}

void kern_close(const struct kern_backend *b) {
    if (!b) return;
    lock();
    for (size_t i = 0; i < sizeof slots / sizeof slots[SLOT_REF]; i++)
        if (slots[i].table == b && slots[i].opened > 0 && --slots[i].opened == 0) b->close();
    unlock();
}

size_t kern_dtype_bytes(enum kern_dtype t) {
    switch (t) {
    case KERN_F32: return 4;
    case KERN_BF16: return 2;
    case KERN_I32: return 4;
    }
    return 0;
}

const char *kern_dtype_name(enum kern_dtype t) {
    switch (t) {
    case KERN_F32: return "f32";
    case KERN_BF16: return "bf16";
    case KERN_I32: return "i32";
    }
    return "unknown";
}

int64_t kern_elements(const struct kern_tensor *t) {
    int64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++)
        n *= t->dim[i];
    return n;
}

static struct kern_tensor view(void *data, enum kern_dtype t, int32_t rank, const int64_t dim[4]) {
    struct kern_tensor v = {.data = data, .dtype = t, .rank = rank};
    for (int32_t i = 0; i < rank; i++)
        v.dim[i] = dim[i];
    v.bytes = (size_t)kern_elements(&v) * kern_dtype_bytes(t);
    return v;
}

struct kern_tensor kern_view1(void *data, enum kern_dtype t, int64_t a) {
    return view(data, t, 1, (const int64_t[4]){a});
}

struct kern_tensor kern_view2(void *data, enum kern_dtype t, int64_t a, int64_t b) {
    return view(data, t, 2, (const int64_t[4]){a, b});
}

struct kern_tensor kern_view3(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c) {
    return view(data, t, 3, (const int64_t[4]){a, b, c});
}

struct kern_tensor kern_view4(void *data, enum kern_dtype t, int64_t a, int64_t b, int64_t c,
                              int64_t d) {
    return view(data, t, 4, (const int64_t[4]){a, b, c, d});
}

size_t kern_scratch_bytes(const struct kern_backend *b, const struct kern_limits *l) {
    return b->scratch_bytes(l);
}
