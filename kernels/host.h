/* host.h - what the two host backends share: memory, streams, and the checks of index contents that
 * only code with the data at hand can make. Private to this folder. */
#ifndef KERNELS_HOST_H
#define KERNELS_HOST_H

#include "kernels/backend.h"

#include <math.h>
#include <string.h>

struct kern_stream { /* of a host backend: ops run inline, so it is only scratch */
    char *scratch;   /* 64-byte aligned */
    size_t bytes;
};

int host_alloc(void **out, size_t bytes);
void host_release(void *p);
int host_stream_open(struct kern_stream **out, size_t scratch_bytes);
void host_stream_close(struct kern_stream *s);
int host_sync(struct kern_stream *s);
int host_put(struct kern_stream *s, void *dst, const void *src, size_t bytes);
int host_copy(struct kern_stream *s, void *dst, const void *src, size_t bytes); /* may overlap */
int host_zero(struct kern_stream *s, void *dst, size_t bytes);
int host_after(struct kern_stream *s, struct kern_stream *other);
int host_hash_leaves(struct kern_stream *s, struct hash *leaf, const void *data, size_t bytes);

/* The stream's scratch if it holds `bytes`, else ERR_CONFIG naming op and both sizes. */
MUST_CHECK int host_scratch(void *out_pointer, struct kern_stream *s, const char *op, size_t bytes);
/* Every entry of the i32 vector t is in [0, limit). */
MUST_CHECK int host_check_index(const char *op, const char *arg, kern_arg t, int64_t limit);
/* q_start rises from 0 to n, kv_len covers the rows, and every page in use exists. */
MUST_CHECK int host_check_attn(const char *op, const struct kern_attn *a, int64_t n_rows,
                               int64_t n_pages);

#define HOST_MEMORY                                                                                \
    .alloc = host_alloc, .release = host_release, .stream_open = host_stream_open,                 \
    .stream_close = host_stream_close, .sync = host_sync, .put = host_put, .get = host_put,        \
    .copy = host_copy, .zero = host_zero, .after = host_after, .alloc_host = host_alloc,           \
    .release_host = host_release, .hash_leaves = host_hash_leaves

/* Typed data of a view whose dtype was checked by kern_x(). */
static inline float *host_f32(kern_arg t) {
    return t ? t->data : NULL;
}
static inline const int32_t *host_i32(kern_arg t) {
    return t->data;
}

/* Round to nearest even; a NaN keeps its sign and stays a NaN. */
static inline uint16_t host_to_bf16(float x) {
    uint32_t u = 0;
    memcpy(&u, &x, sizeof u);
    if (isnan(x)) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
static inline float host_from_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float x = 0;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Element i of a f32 or bf16 view; a store rounds. */
static inline bool host_is_bf16(kern_arg t) {
    return t->dtype == KERN_BF16;
}
static inline double host_load(kern_arg t, int64_t i) {
    if (host_is_bf16(t)) return (double)host_from_bf16(((const uint16_t *)t->data)[i]);
    return (double)((const float *)t->data)[i];
}
static inline void host_store(kern_arg t, int64_t i, double x) {
    if (host_is_bf16(t))
        ((uint16_t *)t->data)[i] = host_to_bf16((float)x);
    else
        ((float *)t->data)[i] = (float)x;
}

#endif
