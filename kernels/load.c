/* load.c - choosing and opening a backend, by the name of a device.
 *
 * A backend is a table with process-wide state behind it (threads, a driver context), so it is
 * opened once per process and counted: kern_open may be called by every part that computes, and the
 * last kern_close closes. While it is open, further opens share what the first one set up (its
 * device and thread count). The plugin is looked up beside the executable and nowhere else, so
 * neither the working directory nor the environment can put code into the process. */
#include "kernels/builtin.h"
#include "kernels/kernels.h"

#include "base/log.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { DEVICE_MAX = 1023 };

static struct backend {
    const char *device; /* what it is asked for by; a plugin's devices are numbered: "cuda:0" */
    const char *plugin; /* its file, NULL: built in */
    const struct kern_backend *table; /* a plugin's: NULL until it was loaded */
    int opened, number;               /* how often, and which device */
} backends[] = {
    {.device = "ref", .table = &ref_backend},
    {.device = "cpu", .table = &cpu_backend},
    {.device = "cuda", .plugin = "weir-cuda.so"},
    /* the CUDA sources compiled for the host (tests/cudasim), beside the test program only */
    {.device = "cudasim", .plugin = "weir-cudasim.so"},
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

/* Guards backends, and is held through an open: a second caller waits for the first one's device.
 */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int check_table(const struct kern_backend *b, const char *path) {
    if (b->abi != KERN_ABI || b->size != sizeof *b)
        return FAIL(ERR_DEVICE, "%s has ABI %u size %u, this program %d size %zu: rebuild both",
                    path, b->abi, b->size, KERN_ABI, sizeof *b);
    if (!b->open || !b->close || !b->name) return FAIL(ERR_DEVICE, "%s: incomplete table", path);
    return 0;
}

/* The plugin stays loaded until the process ends: drivers do not survive being unloaded. */
static int load_plugin(struct backend *of) {
    if (of->table) return 0;
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - strlen(of->plugin) - 1);
    if (n <= 0) return FAIL(ERR_DEVICE, "cuda: the path of the executable is unknown");
    path[n] = '\0';
    char *slash = strrchr(path, '/');
    if (!slash) return FAIL(ERR_DEVICE, "cuda: the executable has no folder");
    memcpy(slash + 1, of->plugin, strlen(of->plugin) + 1);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!so) return FAIL(ERR_DEVICE, "cuda: %s", dlerror());
    const struct kern_backend *b = dlsym(so, "kern_plugin");
    int rc =
        b ? check_table(b, path) : FAIL(ERR_DEVICE, "cuda: %s has no symbol kern_plugin", path);
    if (rc < 0) {
        dlclose(so);
        return rc;
    }
    of->table = b;
    return 0;
}

static int open_backend(const struct kern_backend **out, struct backend *of, int number,
                        int threads) {
    if (of->plugin) TRY(load_plugin(of));
    if (of->opened > 0 && of->number != number)
        return FAIL(ERR_DEVICE, "%s: device %d is open in this process, device %d cannot be too",
                    of->table->name, of->number, number);
    if (of->opened == 0) TRY(of->table->open(number, threads));
    of->opened++;
    of->number = number;
    *out = of->table;
    return 0;
}

/* The N of "cuda:N", -1 if malformed. */
static int device_number(const char *text) {
    int n = 0;
    if (*text < '0' || *text > '9') return -1;
    for (; *text >= '0' && *text <= '9'; text++) {
        n = n * 10 + (*text - '0');
        if (n > DEVICE_MAX) return -1;
    }
    return *text ? -1 : n;
}

/* The backend that a device is of, and the device's number there; NULL: no such name. */
static struct backend *find_backend(const char *device, int *number) {
    for (int i = 0; i < BACKENDS; i++) {
        size_t n = strlen(backends[i].device);
        if (strncmp(device, backends[i].device, n) != 0) continue;
        *number = backends[i].plugin && device[n] == ':' ? device_number(device + n + 1) : 0;
        if (backends[i].plugin ? device[n] == ':' && *number >= 0 : !device[n]) return &backends[i];
    }
    return NULL;
}

static int open_auto(const struct kern_backend **out, int threads) {
    int number;
    if (open_backend(out, find_backend("cuda:0", &number), 0, threads) == 0) {
        LOG(INFO, KERN, "device=auto chosen=cuda:0");
        return 0;
    }
    LOG(INFO, KERN, "device=auto chosen=cpu because=\"%s\"", err_text());
    return open_backend(out, find_backend("cpu", &number), 0, threads);
}

int kern_open(const struct kern_backend **out, const char *device, int threads) {
    int number, rc;
    if (threads < 0 || threads > 1024)
        return FAIL(ERR_CONFIG, "threads = %d, wanted 0..1024", threads);
    struct backend *of = find_backend(device, &number);
    pthread_mutex_lock(&lock);
    if (strcmp(device, "auto") == 0)
        rc = open_auto(out, threads);
    else if (of)
        rc = open_backend(out, of, number, threads);
    else
        rc = FAIL(ERR_CONFIG, "device \"%s\": wanted ref, cpu, cuda:N or auto", device);
    pthread_mutex_unlock(&lock);
    return rc;
}

void kern_close(const struct kern_backend *b) {
    if (!b) return;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < BACKENDS; i++)
        if (backends[i].table == b && backends[i].opened > 0 && --backends[i].opened == 0)
            b->close();
    pthread_mutex_unlock(&lock);
}

bool kern_device_on_host(const char *device) {
    int number;
    const struct backend *of = find_backend(device, &number);
    return of && !of->plugin && of->table->on_host;
}
