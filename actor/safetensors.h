/* safetensors.h - one .safetensors file: read through a checked map, written in pieces. Knows
 * nothing of models. Format: 8 bytes little-endian header length, JSON header {name: {dtype, shape,
 * data_offsets}}, data. Every length and offset is checked against the file when it is opened, so
 * what is behind a struct safetensors_tensor can be read without further checks. */
#ifndef ACTOR_SAFETENSORS_H
#define ACTOR_SAFETENSORS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SAFETENSORS_RANK_MAX = 8, SAFETENSORS_HEADER_MAX = 8 << 20 };

enum safetensors_dtype {
    SAFETENSORS_F32,
    SAFETENSORS_F16,
    SAFETENSORS_BF16,
    SAFETENSORS_F64,
    SAFETENSORS_I32,
    SAFETENSORS_I64,
    SAFETENSORS_OTHER
};

struct safetensors; /* opaque: the map and the table */

struct safetensors_tensor { /* valid until its file is closed */
    const char *name;
    enum safetensors_dtype dtype;
    const char *dtype_name; /* as the file spells it */
    int32_t rank;
    int64_t dim[SAFETENSORS_RANK_MAX];
    int64_t n;                 /* elements */
    const unsigned char *data; /* not aligned */
    size_t bytes;
};

/* ERR_CORRUPT names the file, the tensor and the limit that was broken. */
MUST_CHECK int safetensors_open(struct safetensors **out, const char *path);
/* The same over borrowed memory; name is used in error texts. */
MUST_CHECK int safetensors_open_memory(struct safetensors **out, const unsigned char *data,
                                       size_t bytes, const char *name);
void safetensors_close(struct safetensors **f);
const char *safetensors_name(const struct safetensors *f);
size_t safetensors_count(const struct safetensors *f);
const struct safetensors_tensor *safetensors_at(const struct safetensors *f, size_t i);
const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name);

/* Elements first..first+n-1 (within the tensor) as f32: F32, F16 and BF16 exactly, others
 * ERR_UNSUP. */
MUST_CHECK int safetensors_read_f32(const struct safetensors *f, const struct safetensors_tensor *t,
                                    int64_t first, int64_t n, float *out);

/* --- writing -------------------------------------------------------------------------------- */

struct safetensors_item { /* one tensor to write */
    const char *name;
    int32_t rank;
    int64_t dim[2];
};

/* Gives elements first..first+n-1 of item i as f32. */
typedef int safetensors_fill_fn(void *ctx, size_t i, int64_t first, int64_t n, float *out);

uint16_t safetensors_to_bf16(float x); /* round to nearest even; a NaN stays one */

/* Writes path atomically as F32 or (bf16) BF16 rounded to nearest even; items in the given order,
 * their data asked for in order, a piece at a time. */
MUST_CHECK int safetensors_write(const char *path, const struct safetensors_item *items, size_t n,
                                 bool bf16, safetensors_fill_fn *fill, void *ctx);

#endif
