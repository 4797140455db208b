/* op.c - see op.h. Buffers are filled on the host and put, fetched with get: a backend with memory
 * of its own runs through the same code. */
#include "tests/op/op.h"

#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>

enum { GUARD = 64 };
static const unsigned char guard_byte = 0xa5;

/* Tolerances: |x - ref| <= abs + rel |ref|, the one place. The fast backends keep float
 * intermediates of n terms, so ops with long sums allow a few hundred roundings (1.2e-7 each) of a
 * typical partial sum (matmul: one chain of k products, about sqrt(k) roundings of a sum of size
 * sqrt(k)); elementwise ones a few. */
static const struct tolerance {
    const char *op;
    double abs, rel;
} tolerances[] = {
    {"embed", 0, 0},
    {"gather", 0, 0},
    {"kv_write", 0, 0},
    {"kv_read", 0, 0},
    {"add", 0, 0},
    {"cast", 0, 0},
    {"scatter_add", 0, 0},
    {"embed_bwd", 2e-6, 1e-6},
    {"rope", 1e-6, 1e-6},
    {"rmsnorm", 2e-6, 2e-6},
    {"add_rmsnorm", 2e-6, 2e-6},
    {"norm_rope", 4e-6, 4e-6},
    {"rmsnorm_bwd", 2e-5, 1e-5},
    {"matmul", 3e-4, 1e-5},
    {"matmul_dx", 3e-4, 1e-5},
    {"matmul_dw", 3e-4, 1e-5},
    {"attention", 5e-6, 1e-5},
    {"attention_bwd", 5e-5, 1e-5},
    {"swiglu", 1e-6, 2e-6},
    {"swiglu_bwd", 1e-6, 4e-6},
    {"logprob", 2e-5, 1e-5}, /* lse - z cancels: absolute, in units of lse */
    {"logprob_bwd", 2e-6, 2e-5},
    {"sample", 2e-5, 1e-5},
    {"adamw", 5e-7, 2e-6}, /* w - update cancels: absolute, in units of w */
    {"axpby", 1e-6, 1e-6},
    {"dot", 1e-3, 1e-6}, /* stored as float by its case */
    {"count_bits", 0, 0},
};

/* A bf16 result may be the neighbour of the reference's: 2^-7 of it at most. The reverse of
 * attention also reads such a result (its own forward's). */
static const double bf16_rel = 1.0 / 128, bf16_attention_abs = 0.02;

static bool is_always_f32(const char *name) {
    static const char *const names[] = {"gtable",  "gw",      "gbias", "y32", "lse",
                                        "gpool_k", "gpool_v", "cos",   "sin"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(name, names[i]) == 0) return true;
    return false;
}

static const struct tolerance *tolerance_of(const char *op) {
    for (size_t i = 0; i < sizeof tolerances / sizeof tolerances[0]; i++)
        if (strcmp(tolerances[i].op, op) == 0) return &tolerances[i];
    test_fail(__FILE__, __LINE__, "no tolerance for %s", op);
}

double op_random(const struct op_run *r, uint64_t stream, uint64_t i) {
    uint64_t id = (uint64_t)(r->c - op_cases) << 16 | stream;
    return rng_uniform(rng_key(test_seed(), RNG_TEST), id, i);
}

static void fill_f32(const struct op_run *r, float *x, int64_t n, enum op_fill fill) {
    uint64_t key = rng_key(test_seed(), RNG_TEST);
    uint64_t id = (uint64_t)(r->c - op_cases) << 16 | (uint64_t)r->n_bufs;
    for (int64_t i = 0; i < n; i++) {
        if (fill == OP_NAN)
            x[i] = NAN;
        else if (fill == OP_UNIFORM || fill == OP_POSITIVE)
            x[i] = (float)rng_uniform(key, id, (uint64_t)i) + (fill == OP_POSITIVE ? 0.5f : 0);
        else
            x[i] = (float)rng_normal(key, id, (uint64_t)i);
    }
}

static uint16_t to_bf16(float x) {
    uint32_t u = 0;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)(isnan(x) ? 0x7fc0 : (u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Element k of a buffer on the host. */
static double element(const struct op_buf *b, int64_t k) {
    const char *data = b->host + GUARD;
    if (b->all.dtype != KERN_BF16) return (double)((const float *)data)[k];
    uint32_t u = (uint32_t)((const uint16_t *)data)[k] << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return (double)x;
}

/* Puts guard, content, guard into backend memory and makes the view the op gets. */
static struct kern_tensor *place(struct op_run *r, struct op_buf buf, const void *content) {
    ASSERT(r->n_bufs < OP_BUFS_MAX);
    const size_t bytes = buf.all.bytes;
    char *host = mem_alloc(bytes + 2 * GUARD);
    void *base = NULL;
    memset(host, guard_byte, bytes + 2 * GUARD);
    if (bytes) memcpy(host + GUARD, content, bytes);
    CHECK_OK(kern_alloc(r->b, &base, bytes + 2 * GUARD));
    CHECK_OK(kern_put(r->b, r->s, base, host, bytes + 2 * GUARD));
    buf.base = base;
    buf.host = host;
    buf.all.data = buf.base + GUARD;
    struct kern_tensor *view = &r->views[r->n_bufs];
    *view = buf.all;
    if (buf.is_rows && r->count >= 0) {
        const size_t row = view->dim[0] ? bytes / (size_t)view->dim[0] : 0;
        view->data = buf.base + GUARD + row * (size_t)r->first;
        view->dim[0] = r->count;
        view->bytes = row * (size_t)r->count;
    }
    r->bufs[r->n_bufs++] = buf;
    return view;
}

static struct kern_tensor *make(struct op_run *r, const char *name, enum op_fill fill,
                                const int64_t dim[4], bool is_rows) {
    struct op_buf buf = {.name = name, .is_rows = is_rows};
    buf.is_out = fill == OP_NAN || fill == OP_KEEP;
    buf.all.dtype = r->c->bf16 && !is_always_f32(name) ? KERN_BF16 : KERN_F32;
    int64_t n = 1;
    for (int i = 0; i < 4 && (i == 0 || dim[i] > 0); i++) {
        buf.all.dim[buf.all.rank++] = dim[i];
        n *= dim[i];
    }
    buf.all.bytes = (size_t)n * kern_dtype_bytes(buf.all.dtype);
    float *x = mem_array((size_t)n + 1, sizeof *x);
    uint16_t *bf16 = mem_array((size_t)n + 1, sizeof *bf16);
    fill_f32(r, x, n, fill);
    for (int64_t i = 0; i < n; i++)
        bf16[i] = to_bf16(x[i]);
    const void *content = buf.all.dtype == KERN_BF16 ? (const void *)bf16 : x;
    struct kern_tensor *view = place(r, buf, content);
    mem_free(bf16);
    mem_free(x);
    return view;
}

struct kern_tensor *op_rows(struct op_run *r, const char *name, enum op_fill fill, int64_t n,
                            int64_t a, int64_t b) {
    return make(r, name, fill, (const int64_t[4]){n, a, b, 0}, true);
}

struct kern_tensor *op_whole(struct op_run *r, const char *name, enum op_fill fill, int64_t n,
                             int64_t a, int64_t b, int64_t c) {
    return make(r, name, fill, (const int64_t[4]){n, a, b, c}, false);
}

static struct kern_tensor *ints(struct op_run *r, const char *name, const int32_t *x, int64_t n,
                                int64_t m, bool is_rows, bool is_out) {
    struct op_buf buf = {.name = name, .is_rows = is_rows, .is_out = is_out};
    buf.all.dtype = KERN_I32;
    buf.all.rank = m > 0 ? 2 : 1;
    buf.all.dim[0] = n;
    buf.all.dim[1] = m;
    buf.all.bytes = (size_t)(n * (m > 0 ? m : 1)) * sizeof *x;
    return place(r, buf, x);
}

struct kern_tensor *op_index(struct op_run *r, const char *name, int64_t n, int64_t limit,
                             bool distinct) {
    int32_t *x = mem_array((size_t)n + 1, sizeof *x);
    uint32_t *all = mem_array((size_t)limit, sizeof *all);
    rng_permutation(rng_key(test_seed(), RNG_TEST), (uint64_t)r->n_bufs, all, (uint32_t)limit);
    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)(distinct ? all[i]
                                  : all[(int64_t)(op_random(r, 900, (uint64_t)i) * (double)limit)]);
    struct kern_tensor *t = ints(r, name, x, n, 0, true, false);
    mem_free(all);
    mem_free(x);
    return t;
}

struct kern_tensor *op_ints(struct op_run *r, const char *name, const int32_t *x, int64_t n,
                            int64_t m) {
    return ints(r, name, x, n, m, m == 0 && n == r->c->shape[0], false);
}

struct kern_tensor *op_ints_out(struct op_run *r, const char *name, int64_t n) {
    int32_t *x = mem_array((size_t)n + 1, sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = -1;
    struct kern_tensor *t = ints(r, name, x, n, 0, true, true);
    mem_free(x);
    return t;
}

void op_set(struct op_run *r, const struct kern_tensor *t, const float *x, int64_t n) {
    struct op_buf *b = &r->bufs[t - r->views];
    ASSERT((size_t)n * sizeof *x == b->all.bytes);
    memcpy(b->host + GUARD, x, b->all.bytes);
    CHECK_OK(kern_put(r->b, r->s, b->all.data, x, b->all.bytes));
}

const struct kern_backend *op_device(const char *device, int threads) {
    const struct kern_backend *b = NULL;
    int rc = kern_open(&b, device, threads);
    if (rc == ERR_DEVICE && strncmp(device, "cuda", 4) == 0) test_skip(err_text());
    CHECK_OK(rc);
    return b;
}

/* Fetches a buffer; its guards, and what lies outside the window or is no output, are untouched. */
static void fetch(struct op_run *r, struct op_buf *b, const struct kern_tensor *view) {
    const size_t bytes = b->all.bytes;
    char *now = mem_alloc(bytes + 2 * GUARD);
    CHECK_OK(kern_get(r->b, r->s, now, b->base, bytes + 2 * GUARD));
    size_t from = (size_t)((char *)view->data - b->base), to = from + view->bytes;
    if (!b->is_out) to = from;
    for (size_t i = 0; i < bytes + 2 * GUARD; i++)
        if ((i < from || i >= to) && now[i] != b->host[i])
            test_fail(__FILE__, __LINE__, "%s on %s: wrote outside %s, at byte %td of %zu",
                      r->c->op, r->b->name, b->name, (ptrdiff_t)i - GUARD, bytes);
    mem_free(b->host);
    b->host = now;
}

void op_execute(struct op_run *r, const struct kern_backend *b, const struct op_case *c,
                int64_t first, int64_t count, bool packed) {
    struct kern_limits l = {
        .rows = 4096, .width_max = 60000, .heads = 64, .head_width = 256, .kv_max = 4096};
    if (c->bf16) l.bf16_width = 4096;
    memset(r, 0, sizeof *r);
    r->b = b;
    r->c = c;
    r->first = first;
    r->count = count;
    r->packed = packed;
    CHECK_OK(kern_stream_open(b, &r->s, kern_scratch_bytes(b, &l)));
    c->fn(r, c->shape);
    CHECK_OK(kern_sync(b, r->s));
    for (int i = 0; i < r->n_bufs; i++)
        fetch(r, &r->bufs[i], &r->views[i]);
}

void op_free(struct op_run *r) {
    for (int i = 0; i < r->n_bufs; i++) {
        kern_release(r->b, r->bufs[i].base);
        mem_free(r->bufs[i].host);
    }
    kern_stream_close(r->b, r->s);
}

static void shape_text(char *out, size_t n, const struct op_case *c) {
    size_t at = 0;
    for (int i = 0; i < OP_SHAPE_MAX && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%lld", i ? "," : "", (long long)c->shape[i]);
}

/* Tensor cores take the probabilities of bf16 attention as bf16; the reverse rounds them anywhere.
 */
static bool rounds_inside(const struct op_run *x) {
    if (!x->c->bf16) return false;
    if (strcmp(x->c->op, "attention_bwd") == 0) return true;
    return strcmp(x->c->op, "attention") == 0 && !x->b->on_host;
}

static void check_near(const struct op_run *x, const struct op_run *y, int i) {
    const struct tolerance *t = tolerance_of(x->c->op);
    const bool bf16 = x->bufs[i].all.dtype == KERN_BF16, exact = t->abs == 0;
    const double rel = bf16 && !exact ? bf16_rel : t->rel;
    const double abs = rounds_inside(x) ? bf16_attention_abs : t->abs;
    char shape[128];
    shape_text(shape, sizeof shape, x->c);
    for (int64_t k = 0, n = kern_elements(&x->bufs[i].all); k < n; k++) {
        double a = element(&x->bufs[i], k), b = element(&y->bufs[i], k);
        if (fabs(a - b) <= abs + rel * fabs(b)) continue;
        if (a == b) continue; /* infinities */
        test_fail(__FILE__, __LINE__, "%s [%s]: %s[%lld] = %.9g on %s, %.9g on %s", x->c->op, shape,
                  x->bufs[i].name, (long long)k, a, x->b->name, b, y->b->name);
    }
}

static void check_ints(const struct op_run *x, const struct op_run *y, int i) {
    for (int64_t k = 0; k < kern_elements(&x->bufs[i].all); k++)
        CHECK_INT(((const int32_t *)(x->bufs[i].host + GUARD))[k],
                  ((const int32_t *)(y->bufs[i].host + GUARD))[k]);
}

/* A draw within rounding of the boundary of two tokens may fall on either side: the row, of at most
 * one in a case, takes the reference's values. A wrong sampler differs in more rows than one, and
 * sample_inverts_the_cumulative_sum looks at single draws. */
static void forgive_a_draw(struct op_run *x, const struct op_run *y) {
    int64_t row = -1;
    for (int i = 0; i < x->n_bufs && row < 0; i++) {
        if (!x->bufs[i].is_out || x->bufs[i].all.dtype != KERN_I32) continue;
        const char *a = x->bufs[i].host + GUARD, *b = y->bufs[i].host + GUARD;
        for (int64_t k = 0; k < x->bufs[i].all.dim[0] && row < 0; k++)
            if (memcmp(a + 4 * k, b + 4 * k, 4) != 0) row = k;
    }
    if (row < 0 || x->c->shape[0] == 1) return;
    for (int i = 0; i < x->n_bufs; i++)
        if (x->bufs[i].is_out) /* token, logprob, kept: four bytes a row */
            memcpy(x->bufs[i].host + GUARD + 4 * row, y->bufs[i].host + GUARD + 4 * row, 4);
}

void op_check_near(struct op_run *x, const struct op_run *y) {
    CHECK_INT(x->n_bufs, y->n_bufs);
    if (strcmp(x->c->op, "sample") == 0) forgive_a_draw(x, y);
    for (int i = 0; i < x->n_bufs; i++) {
        if (!x->bufs[i].is_out) continue;
        if (x->bufs[i].all.dtype == KERN_I32)
            check_ints(x, y, i);
        else
            check_near(x, y, i);
    }
}

/* Byte ranges [from, to) of output i in both runs. */
static void check_range(const struct op_run *x, const struct op_run *y, int i, size_t from,
                        size_t to, const char *what) {
    char shape[128];
    shape_text(shape, sizeof shape, x->c);
    size_t size = kern_dtype_bytes(x->bufs[i].all.dtype);
    for (size_t k = from; k < to; k += size)
        if (memcmp(x->bufs[i].host + GUARD + k, y->bufs[i].host + GUARD + k, size) != 0)
            test_fail(__FILE__, __LINE__, "%s [%s] %s: %s[%zu] = %.9g and %.9g", x->c->op, shape,
                      what, x->bufs[i].name, k / size, element(&x->bufs[i], (int64_t)(k / size)),
                      element(&y->bufs[i], (int64_t)(k / size)));
}

void op_check_bits(const struct op_run *x, const struct op_run *y, const char *what) {
    for (int i = 0; i < x->n_bufs; i++)
        if (x->bufs[i].is_out) check_range(x, y, i, 0, x->bufs[i].all.bytes, what);
}

void op_check_rows(const struct op_run *part, const struct op_run *whole) {
    char what[64];
    snprintf(what, sizeof what, "rows %lld+%lld alone and in the batch", (long long)part->first,
             (long long)part->count);
    for (int i = 0; i < part->n_bufs; i++) {
        const struct op_buf *b = &part->bufs[i];
        if (!b->is_out || !b->is_rows) continue;
        size_t row = b->all.bytes / (size_t)b->all.dim[0];
        check_range(part, whole, i, row * (size_t)part->first,
                    row * (size_t)(part->first + part->count), what);
    }
}
