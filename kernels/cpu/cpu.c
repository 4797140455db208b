/* cpu.c - the table of the fast host backend. An entry starts life as the reference op and is
 * replaced when its fast form passes the op suite. */
#include "kernels/cpu/cpu.h"

#include "kernels/host.h"
#include "kernels/ref/ref.h"

static int cpu_open(int device, int threads) {
    (void)threads;
    return device == 0 ? 0 : FAIL(ERR_UNSUP, "cpu has one device, 0; asked for %d", device);
}

static void cpu_close(void) {
}

size_t cpu_scratch_bytes(const struct kern_limits *l) {
    return ref_scratch_bytes(l);
}

const struct kern_backend cpu_backend = {
    .abi = KERN_ABI,
    .size = sizeof(struct kern_backend),
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    HOST_MEMORY,
    OPS_TABLE(ref),
    OPS_TABLE_COLL(ref),
};
