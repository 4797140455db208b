/* safetensors.c - see safetensors.h. The header is the only part of a model folder that says where
 * data lies, so all of its numbers are checked here, once: the header against the file, each
 * tensor's range against the data, its bytes against shape and dtype (with overflow checks), and
 * all ranges against each other: in order, without overlap or hole, as the format demands. A file
 * that passes can be read anywhere its table points.
 *
 * The map is read-only and private; data may lie at any byte, so elements are read with memcpy. */
#include "actor/safetensors.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/filetype.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 18 }; /* elements converted at a time */

struct safetensors {
    struct file_map map;
    char *name;
    struct json_doc *doc;
    struct safetensors_tensor *tensors; /* in order of their data */
    size_t count;
};

/* Every byte-sized type of the format: tensors of a type that no weight has (a U8 mask, an I64
 * buffer) must not make the rest of the file unreadable. */
static const struct dtype {
    const char *name;
    enum safetensors_dtype dtype;
    size_t bytes;
} dtypes[] = {
    {"F32", SAFETENSORS_F32, 4},       {"F16", SAFETENSORS_F16, 2},
    {"BF16", SAFETENSORS_BF16, 2},     {"F64", SAFETENSORS_F64, 8},
    {"I32", SAFETENSORS_I32, 4},       {"I64", SAFETENSORS_I64, 8},
    {"BOOL", SAFETENSORS_OTHER, 1},    {"U8", SAFETENSORS_OTHER, 1},
    {"I8", SAFETENSORS_OTHER, 1},      {"F8_E5M2", SAFETENSORS_OTHER, 1},
    {"F8_E4M3", SAFETENSORS_OTHER, 1}, {"F8_E8M0", SAFETENSORS_OTHER, 1},
    {"I16", SAFETENSORS_OTHER, 2},     {"U16", SAFETENSORS_OTHER, 2},
    {"U32", SAFETENSORS_OTHER, 4},     {"U64", SAFETENSORS_OTHER, 8},
    {"C64", SAFETENSORS_OTHER, 8},
};

static int read_dtype(struct safetensors_tensor *t, size_t *bytes, const struct json *v,
                      const char *file) {
    const char *name = json_str(json_get(v, "dtype"));
    for (size_t i = 0; name && i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(name, dtypes[i].name) == 0) {
            t->dtype = dtypes[i].dtype;
            t->dtype_name = dtypes[i].name;
            *bytes = dtypes[i].bytes;
            return 0;
        }
    return FAIL(ERR_CORRUPT, "%s: tensor %.96s: unknown dtype \"%.32s\"", file, t->name,
                name ? name : "");
}

/* Dimensions and their product; *bytes comes in as the size of one element. The bound on the
 * product keeps it representable in bytes for every type. */
static int read_dims(struct safetensors_tensor *t, size_t *bytes, const struct json *v,
                     const char *file) {
    const struct json *shape = json_get(v, "shape");
    if (json_type(shape) != JSON_ARRAY || json_len(shape) > SAFETENSORS_RANK_MAX)
        return FAIL(ERR_CORRUPT, "%s: tensor %.96s: shape must be an array of at most %d sizes",
                    file, t->name, SAFETENSORS_RANK_MAX);
    size_t n = 1;
    for (const struct json *e = json_first(shape); e; e = json_next(e)) {
        int64_t dim;
        if (!json_int(e, &dim) || dim < 0)
            return FAIL(ERR_CORRUPT, "%s: tensor %.96s: shape[%d] is not a size", file, t->name,
                        t->rank);
        t->dim[t->rank++] = dim;
        if (!mem_mul(&n, n, (size_t)dim) || n > (size_t)INT64_MAX / 16)
            return FAIL(ERR_CORRUPT, "%s: tensor %.96s: more than 2^59 elements", file, t->name);
    }
    t->n = (int64_t)n;
    *bytes *= n;
    return 0;
}

/* One member of the header. data: the file's bytes after the header. */
static int read_tensor(struct safetensors_tensor *t, const struct json *v,
                       const unsigned char *data, size_t data_bytes, const char *file) {
    size_t want;
    int64_t range[2];
    t->name = json_key(v, NULL);
    if (json_type(v) != JSON_OBJECT)
        return FAIL(ERR_CORRUPT, "%s: tensor %.96s must be an object, it is %s", file, t->name,
                    json_type_name(json_type(v)));
    TRY(read_dtype(t, &want, v, file));
    TRY(read_dims(t, &want, v, file));
    const struct json *offsets = json_get(v, "data_offsets"), *first = json_first(offsets);
    if (json_type(offsets) != JSON_ARRAY || json_len(offsets) != 2 || !json_int(first, &range[0]) ||
        !json_int(json_next(first), &range[1]))
        return FAIL(ERR_CORRUPT, "%s: tensor %.96s: data_offsets must be two whole numbers", file,
                    t->name);
    if (range[0] < 0 || range[1] < range[0] || (uint64_t)range[1] > data_bytes)
        return FAIL(ERR_CORRUPT,
                    "%s: tensor %.96s: data_offsets [%" PRId64 ", %" PRId64
                    "] leave the file's %zu bytes of data",
                    file, t->name, range[0], range[1], data_bytes);
    t->bytes = (size_t)(range[1] - range[0]);
    if (t->bytes != want)
        return FAIL(ERR_CORRUPT, "%s: tensor %.96s: has %zu bytes, its shape and dtype need %zu",
                    file, t->name, t->bytes, want);
    t->data = data + range[0];
    return 0;
}

/* Empty tensors come before the one that starts at the same byte; names break the remaining ties,
 * so that the order is a function of the file. */
static int by_place(const void *a, const void *b) {
    const struct safetensors_tensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes == y->bytes ? strcmp(x->name, y->name) : x->bytes < y->bytes ? -1 : 1;
}

/* The sorted ranges must tile the data exactly. */
static int check_tiling(const struct safetensors *f, const unsigned char *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < f->count; i++) {
        const struct safetensors_tensor *t = &f->tensors[i];
        if (t->data < at)
            return FAIL(ERR_CORRUPT, "%s: tensors %.96s and %.96s overlap", f->name,
                        i ? f->tensors[i - 1].name : "", t->name);
        if (t->data > at)
            return FAIL(ERR_CORRUPT, "%s: %zu bytes before tensor %.96s belong to none", f->name,
                        (size_t)(t->data - at), t->name);
        at += t->bytes;
    }
    if (at != data + bytes)
        return FAIL(ERR_CORRUPT, "%s: the last %zu bytes belong to no tensor", f->name,
                    (size_t)(data + bytes - at));
    return 0;
}

/* Order matters: the length before the header is read, the header before any offset, each tensor by
 * itself before they are compared. */
static int parse_header(struct safetensors *f, const unsigned char *p, size_t bytes) {
    uint64_t header = 0;
    if (bytes < 8)
        return FAIL(ERR_CORRUPT, "%s: has %zu bytes, a safetensors file has at least 8", f->name,
                    bytes);
    for (int i = 7; i >= 0; i--)
        header = header << 8 | p[i];
    if (header > SAFETENSORS_HEADER_MAX)
        return FAIL(ERR_CORRUPT, "%s: header length is %" PRIu64 ", the limit is %d", f->name,
                    header, SAFETENSORS_HEADER_MAX);
    if (header > bytes - 8)
        return FAIL(ERR_CORRUPT,
                    "%s: header length is %" PRIu64 ", only %zu bytes follow (truncated file?)",
                    f->name, header, bytes - 8);
    const unsigned char *data = p + 8 + header;
    size_t data_bytes = bytes - 8 - (size_t)header;
    TRY(json_parse(&f->doc, (const char *)p + 8, (size_t)header, f->name));
    const struct json *root = json_root(f->doc);
    if (json_type(root) != JSON_OBJECT)
        return FAIL(ERR_CORRUPT, "%s: the header must be an object, it is %s", f->name,
                    json_type_name(json_type(root)));
    f->tensors = mem_array(json_len(root), sizeof *f->tensors);
    for (const struct json *v = json_first(root); v; v = json_next(v)) {
        if (strcmp(json_key(v, NULL), "__metadata__") == 0) continue;
        TRY(read_tensor(&f->tensors[f->count], v, data, data_bytes, f->name));
        f->count++;
    }
    qsort(f->tensors, f->count, sizeof *f->tensors, by_place);
    return check_tiling(f, data, data_bytes);
}

int safetensors_open_memory(struct safetensors **out, const unsigned char *data, size_t bytes,
                            const char *name) {
    struct safetensors *f = mem_zalloc(sizeof *f);
    f->name = mem_strdup(name);
    int rc =
        filetype_explain(parse_header(f, data, bytes), data, bytes, name, FILETYPE_SAFETENSORS);
    if (rc < 0)
        safetensors_close(&f);
    else
        *out = f;
    return rc;
}

int safetensors_open(struct safetensors **out, const char *path) {
    struct file_map map;
    struct safetensors *f;
    TRY(file_map_open(&map, path));
    int rc = safetensors_open_memory(&f, map.data, map.bytes, path);
    if (rc < 0) {
        file_map_close(&map);
        return rc;
    }
    f->map = map;
    *out = f;
    return 0;
}

void safetensors_close(struct safetensors **f) {
    if (!*f) return;
    file_map_close(&(*f)->map);
    json_close(&(*f)->doc);
    mem_free((*f)->tensors);
    mem_free((*f)->name);
    mem_free(*f);
    *f = NULL;
}

const char *safetensors_name(const struct safetensors *f) {
    return f->name;
}

size_t safetensors_count(const struct safetensors *f) {
    return f->count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *f, size_t i) {
    ASSERT(i < f->count);
    return &f->tensors[i];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name) {
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->tensors[i].name, name) == 0) return &f->tensors[i];
    return NULL;
}

/* --- elements ------------------------------------------------------------------------------- */

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Every half is a float: denormals are normalised, infinities and NaN payloads kept. */
static float from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 0x3FF;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | fraction << 13);
    if (exponent != 0) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    float x = (float)fraction * 0x1p-24f;
    return sign ? -x : x;
}

/* Round to nearest even; a NaN stays a (quiet) NaN. */
uint16_t safetensors_to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

int safetensors_read_f32(const struct safetensors *f, const struct safetensors_tensor *t,
                         int64_t first, int64_t n, float *out) {
    ASSERT(first >= 0 && n >= 0 && first <= t->n && n <= t->n - first);
    uint16_t h;
    switch (t->dtype) {
    case SAFETENSORS_F32:
        if (n > 0) memcpy(out, t->data + 4 * first, 4 * (size_t)n);
        return 0;
    case SAFETENSORS_F16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, t->data + 2 * (first + i), 2);
            out[i] = from_f16(h);
        }
        return 0;
    case SAFETENSORS_BF16:
        for (int64_t i = 0; i < n; i++) {
            memcpy(&h, t->data + 2 * (first + i), 2);
            out[i] = from_bits((uint32_t)h << 16);
        }
        return 0;
    default:
        return FAIL(ERR_UNSUP, "%s: tensor %.96s: dtype is %s, supported are F32, F16, BF16",
                    f->name, t->name, t->dtype_name);
    }
}

/* --- writing -------------------------------------------------------------------------------- */

static int64_t item_elements(const struct safetensors_item *item) {
    int64_t n = 1;
    for (int32_t r = 0; r < item->rank; r++)
        n *= item->dim[r];
    return n;
}

/* The 8 bytes of length and the header, padded with spaces so that the data starts at a multiple of
 * 64 bytes of the file. */
static void add_header(struct buf *b, const struct safetensors_item *items, size_t n, bool bf16) {
    struct json_write w = json_write_to(b, JSON_COMPACT);
    int64_t at = 0, size = bf16 ? 2 : 4;
    buf_add(b, "\0\0\0\0\0\0\0\0", 8);
    json_write_object(&w, NULL);
    json_write_object(&w, "__metadata__");
    json_write_str(&w, "format", "pt");
    json_write_end(&w);
    for (size_t i = 0; i < n; i++) {
        int64_t bytes = item_elements(&items[i]) * size;
        json_write_object(&w, items[i].name);
        json_write_str(&w, "dtype", bf16 ? "BF16" : "F32");
        json_write_ints(&w, "shape", items[i].dim, (size_t)items[i].rank);
        json_write_ints(&w, "data_offsets", (const int64_t[]){at, at + bytes}, 2);
        json_write_end(&w);
        at += bytes;
    }
    json_write_end(&w);
    while (b->len % 64 != 0)
        buf_str(b, " ");
    uint64_t length = b->len - 8;
    for (int i = 0; i < 8; i++)
        b->data[i] = (char)(length >> 8 * i & 255);
}

/* Converts and writes one tensor; the pieces bound the memory, not the tensor. */
static int write_item(struct file_writer *w, const struct safetensors_item *item, size_t i,
                      bool bf16, safetensors_fill_fn *fill, void *ctx, float *piece,
                      uint16_t *rounded) {
    int64_t n = item_elements(item);
    for (int64_t first = 0; first < n; first += PIECE) {
        int64_t some = n - first < PIECE ? n - first : PIECE;
        TRY(fill(ctx, i, first, some, piece));
        for (int64_t j = 0; bf16 && j < some; j++)
            rounded[j] = safetensors_to_bf16(piece[j]);
        TRY(bf16 ? file_writer_add(w, rounded, 2 * (size_t)some)
                 : file_writer_add(w, piece, 4 * (size_t)some));
    }
    return 0;
}

int safetensors_write(const char *path, const struct safetensors_item *items, size_t n, bool bf16,
                      safetensors_fill_fn *fill, void *ctx) {
    struct file_writer w = {0};
    struct buf header = {0};
    float *piece = mem_array(PIECE, sizeof *piece);
    uint16_t *rounded = mem_array(PIECE, sizeof *rounded);
    int rc;
    add_header(&header, items, n, bf16);
    TRY_OUT(file_writer_open(&w, path));
    TRY_OUT(file_writer_add(&w, header.data, header.len));
    for (size_t i = 0; i < n; i++)
        TRY_OUT(write_item(&w, &items[i], i, bf16, fill, ctx, piece, rounded));
    TRY_OUT(file_writer_commit(&w));
out:
    file_writer_abort(&w);
    buf_close(&header);
    mem_free(piece);
    mem_free(rounded);
    return rc;
}
