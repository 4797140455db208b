/* ref.c - the table of the reference backend.
 *
 * It has no state: opening counts nothing, the thread count is ignored, packing is declined. Code
 * here is written to be checked by reading, against the formulas in backend.h; speed is the cpu
 * backend's affair. */
#include "kernels/ref/ref.h"

#include "kernels/host.h"

static int ref_open(int device, int threads) {
    (void)threads;
    return device == 0 ? 0 : FAIL(ERR_DEVICE, "ref has one device, 0; asked for %d", device);
}

static void ref_close(void) {
}

size_t ref_pack_bytes(enum kern_dtype t, int64_t out, int64_t in) {
    (void)t;
    (void)out;
    (void)in;
    return 0;
}

int ref_pack_weight(ops_s s, kern_arg packed, kern_arg w) {
    (void)s;
    (void)packed;
    (void)w;
    return FAIL(ERR_UNSUP, "ref does not pack weights");
}

size_t ref_scratch_bytes(const struct kern_limits *l) {
    /* attention: a double per key and two per element of a head; sample: a double and an index per
     * word of the vocabulary; the norm's column sums: a double per element */
    return (size_t)(2 * l->kv_max + 4 * l->head_width + 2 * l->width_max + 64) * sizeof(double);
}

const struct kern_backend ref_backend = {
    .abi = KERN_ABI,
    .size = sizeof(struct kern_backend),
    .name = "ref",
    .on_host = true,
    .open = ref_open,
    .close = ref_close,
    .scratch_bytes = ref_scratch_bytes,
    HOST_MEMORY,
    OPS_TABLE(ref),
    OPS_TABLE_COLL(ref),
};
