/* params.c - see params.h. The table is built by one function from the shape alone; everything that
 * must agree on a layout (weights, gradients, moments, a version in shared memory, the file) is
 * derived from it, so there is no second list of tensor names anywhere.
 *
 * All traffic with the backend goes in pieces through a host buffer: the slab may be on a device,
 * and converting a model must not need a second copy of it in memory. Without a backend there is
 * the table alone, and reading a folder checks it. */
#include "actor/params.h"

#include "actor/block.h"
#include "actor/safetensors.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/json_write.h"
#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    ALIGN = 16,      /* elements: entries start at multiples of 64 bytes */
    PIECE = 1 << 20, /* elements moved at a time */
    SHARDS_MAX = 4096
};

static const char embed_name[] = "model.embed_tokens.weight", head_name[] = "lm_head.weight";
static const char single_file[] = "model.safetensors";
static const char value_name[] = "value_head.weight", value_file[] = "value_head.safetensors";

struct params {
    const struct kern_backend *backend; /* NULL: only the table, for params_check */
    struct kern_stream *stream;
    struct shape shape;
    struct params_entry *entries;
    size_t count;
    int64_t elements; /* of the slab, gaps included */
    enum kern_dtype dtype;
    size_t size; /* of an element */
    void *slab;
    float *piece; /* host, PIECE elements */
};

/* --- the table ------------------------------------------------------------------------------ */

struct table { /* entries NULL: only counting */
    struct params_entry *entries;
    size_t count;
    int64_t elements;
};

/* Appends an entry. A vector is [1, cols]; ASSERT on the name because it comes from below, with
 * layer numbers bounded by shape.c. */
__attribute__((format(printf, 5, 6))) static void
add_entry(struct table *t, int64_t rows, int64_t cols, bool is_matrix, const char *fmt, ...) {
    if (t->entries) {
        struct params_entry *e = &t->entries[t->count];
        *e = (struct params_entry){.offset = t->elements,
                                   .n = rows * cols,
                                   .rows = rows,
                                   .cols = cols,
                                   .is_matrix = is_matrix};
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(e->name, sizeof e->name, fmt, ap);
        va_end(ap);
        ASSERT(n > 0 && (size_t)n < sizeof e->name);
    }
    t->count++;
    t->elements += (rows * cols + ALIGN - 1) / ALIGN * ALIGN;
}

static void add_layer(struct table *t, const struct shape *s, int32_t l) {
    struct block_tensor tensor[BLOCK_TENSORS_MAX];
    int n;
    const struct block_kind *const *kind = block_layer(s, &n);
    for (int j = 0; j < n; j++) {
        kind[j]->tensors(tensor, s);
        for (int i = 0; i < kind[j]->n_tensors; i++)
            if (!tensor[i].absent)
                add_entry(t, tensor[i].rows, tensor[i].cols, tensor[i].is_matrix,
                          "model.layers.%d.%s", l, tensor[i].name);
    }
}

/* The one list of tensors; a layer's are its blocks' tables. */
static void build_table(struct table *t, const struct shape *s) {
    add_entry(t, s->vocab, s->d, true, "%s", embed_name);
    for (int32_t l = 0; l < s->layers; l++)
        add_layer(t, s, l);
    add_entry(t, 1, s->d, false, "model.norm.weight");
    if (!s->tied_head) add_entry(t, s->vocab, s->d, true, "%s", head_name);
    if (s->value_head) add_entry(t, 1, s->d, false, "%s", value_name);
}

int64_t params_slab_elements(const struct shape *s) {
    struct table t = {0};
    build_table(&t, s);
    return t.elements;
}

int64_t params_policy_elements(const struct shape *s) {
    struct shape policy = *s;
    policy.value_head = false;
    return params_slab_elements(&policy);
}

static size_t element_bytes(const struct shape *s) {
    return kern_dtype_bytes(s->bf16 ? KERN_BF16 : KERN_F32);
}

size_t params_slab_bytes(const struct shape *s) {
    return (size_t)params_slab_elements(s) * element_bytes(s);
}

size_t params_policy_bytes(const struct shape *s) {
    return (size_t)params_policy_elements(s) * element_bytes(s);
}

static struct params *open_table(const struct shape *s) {
    struct table t = {0};
    build_table(&t, s);
    struct params *p = mem_zalloc(sizeof *p);
    *p = (struct params){.shape = *s, .count = t.count, .elements = t.elements};
    p->dtype = s->bf16 ? KERN_BF16 : KERN_F32;
    p->size = kern_dtype_bytes(p->dtype);
    p->entries = mem_array(t.count, sizeof *p->entries);
    t = (struct table){.entries = p->entries};
    build_table(&t, s);
    return p;
}

int params_open(struct params **out, const struct kern_backend *b, const struct shape *s) {
    struct params *p = open_table(s);
    int rc;
    p->backend = b;
    p->piece = mem_array(PIECE, sizeof *p->piece);
    TRY_OUT(kern_alloc(b, &p->slab, (size_t)p->elements * p->size));
    TRY_OUT(kern_stream_open(b, &p->stream,
                             hash_blocks((size_t)p->elements * p->size) * sizeof(struct hash)));
    *out = p;
    p = NULL;
out:
    params_close(&p);
    return rc;
}

void params_close(struct params **p) {
    if (!*p) return;
    if ((*p)->backend) {
        kern_stream_close((*p)->backend, (*p)->stream);
        kern_release((*p)->backend, (*p)->slab);
    }
    mem_free((*p)->entries);
    mem_free((*p)->piece);
    mem_free(*p);
    *p = NULL;
}

const struct shape *params_shape(const struct params *p) {
    return &p->shape;
}

const struct kern_backend *params_backend(const struct params *p) {
    return p->backend;
}

size_t params_count(const struct params *p) {
    return p->count;
}

const struct params_entry *params_entry(const struct params *p, size_t i) {
    ASSERT(i < p->count);
    return &p->entries[i];
}

const struct params_entry *params_find(const struct params *p, const char *name) {
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->entries[i].name, name) == 0) return &p->entries[i];
    return NULL;
}

struct kern_tensor params_slab(const struct params *p) {
    return kern_view1(p->slab, p->dtype, p->elements);
}

static void *slab_at(const struct params *p, int64_t element) {
    return (char *)p->slab + (size_t)element * p->size;
}

struct kern_tensor params_view(const struct params *p, const struct params_entry *e) {
    if (!e->is_matrix) return kern_view1(slab_at(p, e->offset), p->dtype, e->cols);
    return kern_view2(slab_at(p, e->offset), p->dtype, e->rows, e->cols);
}

/* --- moving the whole slab ------------------------------------------------------------------ */

static int check_bytes(const struct params *p, size_t bytes) {
    size_t want = (size_t)p->elements * p->size;
    if (bytes != want)
        return FAIL(ERR_CONFIG, "a slab of this shape has %zu bytes, got %zu", want, bytes);
    return 0;
}

int params_put(struct params *p, const void *host, size_t bytes) {
    TRY(check_bytes(p, bytes));
    TRY(kern_put(p->backend, p->stream, p->slab, host, bytes));
    return kern_sync(p->backend, p->stream);
}

int params_get(const struct params *p, void *host, size_t bytes) {
    if (bytes != params_policy_bytes(&p->shape)) TRY(check_bytes(p, bytes));
    return kern_get(p->backend, p->stream, host, p->slab, bytes);
}

int params_zero(struct params *p) {
    TRY(kern_zero(p->backend, p->stream, p->slab, (size_t)p->elements * p->size));
    return kern_sync(p->backend, p->stream);
}

int params_cast(struct params *to, const struct params *from, struct kern_stream *s) {
    struct kern_tensor dst = params_slab(to), src = params_slab(from);
    if (!shape_equal(&to->shape, &from->shape) || to->backend != from->backend)
        return FAIL(ERR_MISMATCH, "params: the weights to copy have another shape or backend");
    return kern_cast(to->backend, s, &dst, &src);
}

/* Copies the first n numbers of the host buffer to the slab; bf16: after rounding them in place. */
static int put_piece(struct params *p, int64_t element, int64_t n) {
    uint8_t *bytes = (uint8_t *)p->piece;
    for (int64_t i = 0; p->dtype == KERN_BF16 && i < n; i++) {
        uint16_t h = safetensors_to_bf16(p->piece[i]);
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
    TRY(kern_put(p->backend, p->stream, slab_at(p, element), p->piece, (size_t)n * p->size));
    return kern_sync(p->backend, p->stream); /* the buffer is used again at once */
}

static size_t block_end(size_t bytes, size_t block) {
    return bytes / HASH_BLOCK <= block ? bytes : (block + 1) * HASH_BLOCK;
}

/* From a device, some blocks at a time: to != NULL into its place there, else through the buffer.
 */
static int get_leaves(struct hash *leaf, const struct params *p, struct kern_stream *s, char *to,
                      size_t bytes) {
    const size_t blocks = hash_blocks(bytes), step = PIECE * sizeof *p->piece / HASH_BLOCK;
    for (size_t b = 0; b < blocks; b += step) {
        size_t last = b + step < blocks ? b + step : blocks;
        size_t at = b * HASH_BLOCK, n = block_end(bytes, last - 1) - at;
        char *host = to ? to + at : (char *)p->piece;
        TRY(kern_get(p->backend, s, host, (const char *)p->slab + at, n));
        hash_leaves(leaf + b, NULL, host, n, 0, last - b);
    }
    return 0;
}

/* The hash is computed where the weights are; only a copy has to come to the host. */
static int leaves_of(struct hash *leaf, const struct params *p, struct kern_stream *s, char *to,
                     size_t bytes) {
    if (!to && p->backend->hash_leaves)
        return kern_hash_leaves(p->backend, s, leaf, p->slab, bytes);
    return get_leaves(leaf, p, s, to, bytes);
}

static int get_hashed(struct hash *out, const struct params *p, struct kern_stream *s, void *to,
                      size_t bytes) {
    if (p->backend->on_host) {
        TRY(kern_sync(p->backend, s));
        *out = hash_slab(to, p->slab, bytes, 0);
        return 0;
    }
    struct hash *leaf = mem_array(hash_blocks(bytes), sizeof *leaf);
    int rc = leaves_of(leaf, p, s, to, bytes);
    if (rc == 0) *out = hash_root(leaf, bytes);
    mem_free(leaf);
    return rc;
}

static size_t policy_bytes(const struct params *p) {
    return params_policy_bytes(&p->shape);
}

static int check_policy_bytes(const struct params *p, size_t bytes) {
    if (bytes == policy_bytes(p)) return 0;
    return FAIL(ERR_CONFIG, "a policy of this shape has %zu bytes, got %zu", policy_bytes(p),
                bytes);
}

int params_hash(struct hash *out, const struct params *p) {
    return get_hashed(out, p, p->stream, NULL, policy_bytes(p));
}

int params_get_hashed(struct hash *out, const struct params *p, struct kern_stream *s, void *host,
                      size_t bytes) {
    TRY(check_policy_bytes(p, bytes));
    return get_hashed(out, p, s ? s : p->stream, host, bytes);
}

int params_put_blocks(struct params *p, const void *host, size_t bytes, size_t first, size_t n,
                      struct hash *leaf) {
    TRY(check_policy_bytes(p, bytes));
    ASSERT(n <= hash_blocks(bytes) && first <= hash_blocks(bytes) - n);
    if (p->backend->on_host) {
        hash_leaves(leaf, p->slab, host, bytes, first, n);
        return 0;
    }
    for (size_t b = first; b < first + n; b++) {
        size_t at = b * HASH_BLOCK, size = block_end(bytes, b) - at;
        hash_leaves(leaf, NULL, host, bytes, b, 1);
        TRY(kern_put(p->backend, p->stream, (char *)p->slab + at, (const char *)host + at, size));
    }
    return kern_sync(p->backend, p->stream);
}

int params_copy_blocks(struct params *p, const void *there, size_t bytes, size_t first, size_t n,
                       struct hash *leaf) {
    TRY(check_policy_bytes(p, bytes));
    ASSERT(n > 0 && n <= hash_blocks(bytes) && first <= hash_blocks(bytes) - n);
    size_t from = first * HASH_BLOCK, size = block_end(bytes, first + n - 1) - from;
    char *to = (char *)p->slab + from;
    TRY(kern_copy(p->backend, p->stream, to, (const char *)there + from, size));
    return kern_hash_leaves(p->backend, p->stream, leaf + first, to, size);
}

int params_put_hashed(struct params *p, const void *host, size_t bytes, struct hash hash) {
    struct hash *leaf = mem_array(hash_blocks(bytes), sizeof *leaf);
    int rc = params_put_blocks(p, host, bytes, 0, hash_blocks(bytes), leaf);
    if (rc == 0 && !hash_equal(hash_root(leaf, bytes), hash))
        rc = FAIL(ERR_CORRUPT, "weights: the hash differs from the one announced");
    mem_free(leaf);
    return rc;
}

/* --- random weights ------------------------------------------------------------------------- */

static bool name_ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* Norms start at 1 and biases at 0; the matrices that write into the residual stream start smaller,
 * so that its variance does not grow with depth (GPT-2). */
static int init_entry(struct params *p, size_t i, uint64_t key) {
    const struct params_entry *e = &p->entries[i];
    double sigma = 0.02;
    if (name_ends_with(e->name, "o_proj.weight") || name_ends_with(e->name, "down_proj.weight"))
        sigma /= sqrt(2.0 * p->shape.layers);
    bool zero = name_ends_with(e->name, ".bias") || strcmp(e->name, value_name) == 0;
    float constant = zero ? 0.0f : 1.0f;
    for (int64_t first = 0; first < e->n; first += PIECE) {
        int64_t n = e->n - first < PIECE ? e->n - first : PIECE;
        for (int64_t j = 0; j < n; j++)
            p->piece[j] = e->is_matrix ? (float)(sigma * rng_normal(key, i, (uint64_t)(first + j)))
                                       : constant;
        TRY(put_piece(p, e->offset + first, n));
    }
    return 0;
}

int params_init(struct params *p, uint64_t seed) {
    uint64_t key = rng_key(seed, RNG_INIT);
    TRY(params_zero(p));
    for (size_t i = 0; i < p->count; i++)
        TRY(init_entry(p, i, key));
    return 0;
}

/* --- reading -------------------------------------------------------------------------------- */

static void shape_text(char *out, size_t n, int32_t rank, const int64_t *dim) {
    size_t used = 0;
    out[0] = '\0';
    for (int32_t r = 0; r < rank && used < n; r++)
        used += (size_t)snprintf(out + used, n - used, "%s%" PRId64, r ? ", " : "", dim[r]);
}

static int check_dims(const struct safetensors *f, const struct safetensors_tensor *t, int64_t rows,
                      int64_t cols, bool is_matrix) {
    int64_t want[2] = {rows, cols};
    int32_t rank = is_matrix ? 2 : 1;
    if (t->rank == rank && t->dim[rank - 1] == cols && (rank == 1 || t->dim[0] == rows)) return 0;
    char has[SAFETENSORS_RANK_MAX * 24], wanted[64];
    shape_text(has, sizeof has, t->rank, t->dim);
    shape_text(wanted, sizeof wanted, rank, want + 2 - rank);
    return FAIL(ERR_MISMATCH, "%s: tensor %.96s has shape [%s], config.json needs [%s]",
                safetensors_name(f), t->name, has, wanted);
}

/* Tensors of a folder while it is read. */
struct loading {
    bool *found; /* by entry */
    char *head;  /* file with a head that is stored although it is tied; NULL: none */
};

/* Buffers of older exports, and a head that is stored although it is tied: not parameters. */
static int check_unknown(const struct params *p, const struct safetensors *f,
                         const struct safetensors_tensor *t, struct loading *l) {
    if (name_ends_with(t->name, "rotary_emb.inv_freq")) return 0;
    if (!p->shape.tied_head || strcmp(t->name, head_name) != 0)
        return FAIL(ERR_MISMATCH, "%s: tensor %.96s is not part of the network of config.json",
                    safetensors_name(f), t->name);
    mem_free(l->head);
    l->head = mem_strdup(safetensors_name(f));
    return check_dims(f, t, p->shape.vocab, p->shape.d, true);
}

/* Reads one tensor of a file into its entry, or only checks it. found guards against a name that
 * two shards claim: the result would depend on their order. */
static int load_tensor(struct params *p, const struct safetensors *f,
                       const struct safetensors_tensor *t, struct loading *l) {
    const struct params_entry *e = params_find(p, t->name);
    if (!e) return check_unknown(p, f, t, l);
    bool *seen = &l->found[e - p->entries];
    if (*seen)
        return FAIL(ERR_CORRUPT, "%s: tensor %s was already in another shard", safetensors_name(f),
                    e->name);
    *seen = true;
    TRY(check_dims(f, t, e->rows, e->cols, e->is_matrix));
    if (!p->backend) return safetensors_read_f32(f, t, 0, 0, NULL); /* whether the type is known */
    for (int64_t first = 0; first < e->n; first += PIECE) {
        int64_t n = e->n - first < PIECE ? e->n - first : PIECE;
        TRY(safetensors_read_f32(f, t, first, n, p->piece));
        TRY(put_piece(p, e->offset + first, n));
    }
    return 0;
}

/* All tensors of one file, in the order of their data, so that the map is read front to back. */
static int load_file(struct params *p, const char *dir, const char *name, struct loading *l) {
    struct safetensors *f = NULL;
    char *path = file_join(dir, name);
    int rc;
    TRY_OUT(safetensors_open(&f, path));
    for (size_t i = 0; i < safetensors_count(f); i++)
        TRY_OUT(load_tensor(p, f, safetensors_at(f, i), l));
out:
    safetensors_close(&f);
    mem_free(path);
    return rc;
}

/* A shard's name is used as a file name: it must stay inside the folder. */
static int shard_name(const char **out, const struct json *v, const char *index) {
    const char *name = json_str(v);
    if (!name || name[0] == '\0' || name[0] == '.' || strchr(name, '/') || json_len(v) > 255 ||
        strlen(name) != json_len(v))
        return FAIL(ERR_CORRUPT,
                    "%s: weight_map.%.96s is \"%.64s\", not a file name in this folder", index,
                    json_key(v, NULL), name ? name : "");
    *out = name;
    return 0;
}

/* The distinct shards of the weight map, each read whole. What the map says about single tensors is
 * not needed: a tensor is where it is found, and check_complete finds what is nowhere. */
static int load_shards(struct params *p, const char *dir, const struct json *map, const char *index,
                       struct loading *l) {
    const char **names = mem_array(SHARDS_MAX, sizeof *names), *name = NULL;
    size_t n = 0;
    int rc = 0;
    if (json_type(map) != JSON_OBJECT) {
        rc = FAIL(ERR_CORRUPT, "%s: weight_map must be an object", index);
        goto out;
    }
    for (const struct json *v = json_first(map); v; v = json_next(v)) {
        size_t known = 0;
        TRY_OUT(shard_name(&name, v, index));
        while (known < n && strcmp(names[known], name) != 0)
            known++;
        if (known < n) continue;
        if (n == SHARDS_MAX) {
            rc = FAIL(ERR_CORRUPT, "%s: more than %d shards", index, SHARDS_MAX);
            goto out;
        }
        names[n++] = name;
    }
    for (size_t i = 0; i < n; i++)
        TRY_OUT(err_wrap(load_file(p, dir, names[i], l), "%s", index));
out:
    mem_free(names);
    return rc;
}

static int load_index(struct params *p, const char *dir, const char *index, struct loading *l) {
    struct json_doc *doc = NULL;
    int rc;
    TRY_OUT(json_parse_file(&doc, index, SAFETENSORS_HEADER_MAX));
    TRY_OUT(load_shards(p, dir, json_get(json_root(doc), "weight_map"), index, l));
out:
    json_close(&doc);
    return rc;
}

/* Names the first missing tensor and how many there are: one is a bug, all are the wrong model. */
static int check_complete(const struct params *p, const struct loading *l, const char *dir) {
    const char *first = NULL;
    size_t missing = 0;
    for (size_t i = 0; i < p->count; i++) {
        if (l->found[i]) continue;
        if (!first) first = p->entries[i].name;
        missing++;
    }
    if (missing == 0) return 0;
    return FAIL(ERR_NOTFOUND, "%s: tensor %s is missing (%zu of %zu are)", dir, first, missing,
                p->count);
}

/* Nothing beside the policy: a fresh critic, which predicts 0. */
static int load_value_head(struct params *p, const char *dir, struct loading *l) {
    char *path = file_join(dir, value_file);
    bool there = file_exists(path);
    mem_free(path);
    if (there) return load_file(p, dir, value_file, l);
    const struct params_entry *e = params_find(p, value_name);
    l->found[e - p->entries] = true;
    if (!p->backend) return 0;
    TRY(kern_zero(p->backend, p->stream, slab_at(p, e->offset), (size_t)e->n * p->size));
    return kern_sync(p->backend, p->stream);
}

/* The embedding is where the index says, or in the file that holds the head. */
static int open_embedding(struct safetensors **out, const char *dir, const char *head) {
    char *index = file_join(dir, "model.safetensors.index.json"), *path = NULL;
    struct json_doc *doc = NULL;
    int rc = 0;
    if (strcmp(head + strlen(head) - strlen(single_file), single_file) != 0) {
        TRY_OUT(json_parse_file(&doc, index, SAFETENSORS_HEADER_MAX));
        const char *name = json_str(json_get(json_get(json_root(doc), "weight_map"), embed_name));
        if (name) path = file_join(dir, name);
    }
    TRY_OUT(safetensors_open(out, path ? path : head));
out:
    json_close(&doc);
    mem_free(index);
    mem_free(path);
    return rc;
}

/* Equal as numbers, whatever types the two are stored in. */
static int same_values(bool *same, const struct safetensors *fa, const struct safetensors_tensor *a,
                       const struct safetensors *fb, const struct safetensors_tensor *b) {
    float *x = mem_array(2 * PIECE, sizeof *x);
    int rc = 0;
    *same = a->n == b->n;
    if (*same && a->dtype == b->dtype && a->bytes == b->bytes) {
        *same = memcmp(a->data, b->data, a->bytes) == 0;
        goto out;
    }
    for (int64_t first = 0; *same && first < a->n; first += PIECE) {
        int64_t n = a->n - first < PIECE ? a->n - first : PIECE;
        TRY_OUT(safetensors_read_f32(fa, a, first, n, x));
        TRY_OUT(safetensors_read_f32(fb, b, first, n, x + PIECE));
        *same = memcmp(x, x + PIECE, (size_t)n * sizeof *x) == 0;
    }
out:
    mem_free(x);
    return rc;
}

/* A head that is stored beside a tied one would be ignored: fine if it is the same. */
static int check_head(const struct loading *l, const char *dir) {
    struct safetensors *f = NULL, *g = NULL;
    const struct safetensors_tensor *head, *embedding;
    bool same = false;
    int rc = 0;
    if (!l->head) return 0;
    TRY_OUT(safetensors_open(&f, l->head));
    TRY_OUT(open_embedding(&g, dir, l->head));
    head = safetensors_find(f, head_name);
    embedding = safetensors_find(g, embed_name);
    if (head && embedding) TRY_OUT(same_values(&same, f, head, g, embedding));
    if (!same)
        rc =
            FAIL(ERR_MISMATCH,
                 "%s: config.json says tie_word_embeddings: true, but the %s that is stored is not "
                 "%s: set it to false if the model was trained with a head of its own, or take the "
                 "tensor out",
                 l->head, head_name, embed_name);
out:
    safetensors_close(&f);
    safetensors_close(&g);
    return rc;
}

/* What other frameworks leave in a folder, where model.safetensors is missing. */
static int explain_no_weights(int rc, const char *dir) {
    static const char *const others[] = {
        "pytorch_model.bin",  "pytorch_model.bin.index.json", "model.bin",          "tf_model.h5",
        "flax_model.msgpack", "consolidated.safetensors",     "consolidated.00.pth"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        char *path = file_join(dir, others[i]);
        bool there = file_exists(path);
        mem_free(path);
        if (there)
            return FAIL(rc,
                        "%s has no %s, but %s: load it with transformers and save_pretrained() it, "
                        "which writes safetensors with Hugging Face's names",
                        dir, single_file, others[i]);
    }
    return rc;
}

int params_load(struct params *p, const char *dir) {
    char *single = file_join(dir, single_file);
    char *index = file_join(dir, "model.safetensors.index.json");
    struct loading l = {.found = mem_array(p->count, sizeof *l.found)};
    int rc;
    if (file_exists(single) || !file_exists(index)) {
        rc = load_file(p, dir, single_file, &l);
        if (!file_exists(single)) rc = explain_no_weights(rc, dir);
        TRY_OUT(rc);
    } else {
        TRY_OUT(load_index(p, dir, index, &l));
    }
    if (p->shape.value_head) TRY_OUT(load_value_head(p, dir, &l));
    TRY_OUT(check_complete(p, &l, dir));
    TRY_OUT(check_head(&l, dir));
out:
    mem_free(single);
    mem_free(index);
    mem_free(l.found);
    mem_free(l.head);
    return rc;
}

int params_check(const struct shape *s, const char *dir) {
    struct params *p = open_table(s);
    int rc = params_load(p, dir);
    params_close(&p);
    return rc;
}

/* --- writing -------------------------------------------------------------------------------- */

struct shard { /* entries first..first+n-1 */
    const struct params *p;
    size_t first, n;
};

/* safetensors_write asks for a piece of item i of the shard. */
static int fill_normal(void *ctx, size_t i, int64_t first, int64_t n, float *out) {
    const struct shard *s = ctx;
    const struct params *p = s->p;
    const void *from = slab_at(p, p->entries[s->first + i].offset + first);
    uint8_t *bytes = (uint8_t *)out;
    TRY(kern_get(p->backend, p->stream, out, from, (size_t)n * p->size));
    for (int64_t k = n; p->dtype == KERN_BF16 && k-- > 0;) { /* widened in place, from the end */
        uint32_t u = (uint32_t)bytes[2 * k] << 16 | (uint32_t)bytes[2 * k + 1] << 24;
        memcpy(out + k, &u, sizeof u);
    }
    return 0;
}

/* Writes entries first..first+n-1 as one file. */
static int save_shard(const struct params *p, const char *dir, const char *name, size_t first,
                      size_t n, bool bf16) {
    struct shard s = {p, first, n};
    struct safetensors_item *items = mem_array(n, sizeof *items);
    char *path = file_join(dir, name);
    for (size_t i = 0; i < n; i++) {
        const struct params_entry *e = &p->entries[first + i];
        items[i] = (struct safetensors_item){e->name, e->is_matrix ? 2 : 1, {e->rows, e->cols}};
        if (!e->is_matrix) items[i].dim[0] = e->cols;
    }
    int rc = safetensors_write(path, items, n, bf16, fill_normal, &s);
    mem_free(path);
    mem_free(items);
    return rc;
}

/* Entries of model.safetensors. */
static size_t policy_count(const struct params *p) {
    return p->count - (p->shape.value_head ? 1 : 0);
}

/* First entry after the shard that starts at `first`: as many as fit, at least one. */
static size_t shard_end(const struct params *p, size_t first, size_t shard_bytes, size_t size) {
    size_t bytes = 0, i = first;
    while (i < policy_count(p) &&
           (i == first || bytes + (size_t)p->entries[i].n * size <= shard_bytes))
        bytes += (size_t)p->entries[i++].n * size;
    return i;
}

/* All shards, then the index: a reader that finds the index finds every file it names. */
static int save_sharded(const struct params *p, const char *dir, const char *index, bool bf16,
                        size_t shard_bytes, size_t shards) {
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_PRETTY);
    size_t size = bf16 ? 2 : 4, first = 0;
    int64_t total = 0;
    int rc = 0;
    for (size_t i = 0; i < policy_count(p); i++)
        total += p->entries[i].n * (int64_t)size;
    json_write_object(&w, NULL);
    json_write_object(&w, "metadata");
    json_write_int(&w, "total_size", total);
    json_write_end(&w);
    json_write_object(&w, "weight_map");
    for (size_t k = 1; k <= shards; k++) {
        char name[64];
        size_t end = shard_end(p, first, shard_bytes, size);
        snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", k, shards);
        TRY_OUT(save_shard(p, dir, name, first, end - first, bf16));
        for (; first < end; first++)
            json_write_str(&w, p->entries[first].name, name);
    }
    json_write_end(&w);
    json_write_end(&w);
    json_write_newline(&w);
    TRY_OUT(file_write_atomic(index, b.data, b.len));
out:
    buf_close(&b);
    return rc;
}

/* Whichever of the two forms is not written is removed afterwards: an older one must not win. */
int params_save(const struct params *p, const char *dir, enum kern_dtype dtype,
                size_t shard_bytes) {
    bool bf16 = dtype == KERN_BF16;
    char *single = file_join(dir, "model.safetensors");
    char *index = file_join(dir, "model.safetensors.index.json");
    size_t shards = 0;
    int rc;
    for (size_t i = 0; i < policy_count(p); shards++)
        i = shard_bytes ? shard_end(p, i, shard_bytes, bf16 ? 2 : 4) : policy_count(p);
    if (dtype != KERN_F32 && !bf16) {
        rc = FAIL(ERR_CONFIG, "%s: dtype is %s, supported are f32, bf16", dir,
                  kern_dtype_name(dtype));
    } else if (shards > 1) {
        TRY_OUT(save_sharded(p, dir, index, bf16, shard_bytes, shards));
        rc = file_remove_tree(single);
    } else {
        TRY_OUT(save_shard(p, dir, "model.safetensors", 0, policy_count(p), bf16));
        rc = file_remove_tree(index);
    }
    if (rc == 0 && p->shape.value_head) rc = save_shard(p, dir, value_file, p->count - 1, 1, false);
out:
    mem_free(single);
    mem_free(index);
    return rc;
}
