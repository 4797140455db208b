/* call.c - the checked calls of call.h.
 *
 * Checks live here and not in the backends so that they are written once, are the same for every
 * device and can be trusted by kernels, which then hold no shape logic. They look at views only,
 * never at tensor contents (which may be on another device): ranges of ids and slots are checked by
 * the host backends and by the callers' validators. A check is a few compares per argument, far
 * below the cost of the smallest op.
 *
 * DIMS lists the wanted dimensions; ANY accepts what is there and is used for the argument that
 * defines the letter. `op` in each function is the name that error texts carry. */
#include "kernels/call.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ANY (-1)
#define F32 KERN_F32
#define I32 KERN_I32
#define DIMS(...) ((const int64_t[KERN_RANK_MAX]){__VA_ARGS__})
/* Checks argument t of the op against dtype, rank and dimensions. */
#define WANT(t, dtype, rank, ...) TRY(want_view(op, #t, t, dtype, rank, DIMS(__VA_ARGS__)))
#define WANT_OPT(t, dtype, rank, ...)                                                              \
    if (t) WANT(t, dtype, rank, __VA_ARGS__)
/* Checks that t is a matrix of the type and shape of `as`, which was checked. */
#define WANT_LIKE(as, t) WANT(t, (as)->dtype, 2, (as)->dim[0], (as)->dim[1])
#define ENTER(entry, stream)                                                                       \
    const char *const op = #entry;                                                                 \
    do {                                                                                           \
        if (!b->entry) return missing_op(b, op);                                                   \
        if (!(stream)) return FAIL(ERR_CONFIG, "%s: no stream", op);                               \
    } while (0)

static int missing_op(kern_on b, const char *op) {
    return FAIL(ERR_UNSUP, "backend %s has no %s", b->name, op);
}

static void dims_text(char *out, size_t n, int32_t rank, const int64_t *dim) {
    size_t at = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < rank && i < KERN_RANK_MAX && at + 1 < n; i++) {
        const char *sep = i ? ", " : "";
        int k = dim[i] == ANY ? snprintf(out + at, n - at, "%sany", sep)
                              : snprintf(out + at, n - at, "%s%" PRId64, sep, dim[i]);
        if (k > 0) at += (size_t)k;
    }
}

/* Elements and bytes fit; sets *n. */
static int check_view(const char *op, const char *arg, const struct kern_tensor *t) {
    size_t bytes = kern_dtype_bytes(t->dtype);
    if (bytes == 0) return FAIL(ERR_CONFIG, "%s: %s has unknown dtype %d", op, arg, (int)t->dtype);
    if (t->rank < 1 || t->rank > KERN_RANK_MAX)
        return FAIL(ERR_CONFIG, "%s: %s has rank %d, wanted 1..%d", op, arg, (int)t->rank,
                    KERN_RANK_MAX);
    for (int32_t i = 0; i < t->rank; i++) {
        if (t->dim[i] < 0)
            return FAIL(ERR_CONFIG, "%s: %s has dimension %d = %" PRId64, op, arg, (int)i,
                        t->dim[i]);
        if (__builtin_mul_overflow(bytes, (size_t)t->dim[i], &bytes))
            return FAIL(ERR_CONFIG, "%s: the size of %s overflows", op, arg);
    }
    if (bytes > t->bytes)
        return FAIL(ERR_CONFIG, "%s: %s needs %zu bytes, its view has %zu", op, arg, bytes,
                    t->bytes);
    if (!t->data && bytes > 0) return FAIL(ERR_CONFIG, "%s: %s has no memory", op, arg);
    return 0;
}

static int want_view(const char *op, const char *arg, const struct kern_tensor *t,
                     enum kern_dtype dtype, int32_t rank, const int64_t *dim) {
    if (!t) return FAIL(ERR_CONFIG, "%s: %s is missing", op, arg);
    TRY(check_view(op, arg, t));
    bool same = t->rank == rank;
    for (int32_t i = 0; same && i < rank; i++)
        same = dim[i] == ANY || dim[i] == t->dim[i];
    if (same && t->dtype == dtype) return 0;
    char has[96], wanted[96];
    dims_text(has, sizeof has, t->rank, t->dim);
    dims_text(wanted, sizeof wanted, rank, dim);
    return FAIL(ERR_CONFIG, "%s: %s is %s [%s], wanted %s [%s]", op, arg, kern_dtype_name(t->dtype),
                has, kern_dtype_name(dtype), wanted);
}

/* Any rank, f32, n elements. */
static int want_flat(const char *op, const char *arg, const struct kern_tensor *t, int64_t n) {
    if (!t) return FAIL(ERR_CONFIG, "%s: %s is missing", op, arg);
    TRY(check_view(op, arg, t));
    if (t->dtype != F32)
        return FAIL(ERR_CONFIG, "%s: %s is %s, wanted f32", op, arg, kern_dtype_name(t->dtype));
    if (n != ANY && kern_elements(t) != n)
        return FAIL(ERR_CONFIG, "%s: %s has %" PRId64 " elements, wanted %" PRId64, op, arg,
                    kern_elements(t), n);
    return 0;
}

/* f32 or bf16; nothing is asked of a tensor without data. */
static int want_either(const char *op, const char *arg, const struct kern_tensor *t, int64_t n) {
    if (!t->data) return 0;
    if (t->dtype != KERN_BF16) return want_flat(op, arg, t, n);
    TRY(check_view(op, arg, t));
    if (kern_elements(t) == n) return 0;
    return FAIL(ERR_CONFIG, "%s: %s has %" PRId64 " elements, wanted %" PRId64, op, arg,
                kern_elements(t), n);
}

/* The type that an op computes in, by one of its arguments: bf16, else f32 is wanted. */
static enum kern_dtype real_of(kern_arg t) {
    return t && t->dtype == KERN_BF16 ? KERN_BF16 : F32;
}

static int finite_positive(const char *op, const char *arg, float x, bool or_zero) {
    if (isfinite(x) && (x > 0 || (or_zero && x == 0))) return 0;
    return FAIL(ERR_CONFIG, "%s: %s is %g, wanted a finite number %s 0", op, arg, (double)x,
                or_zero ? ">=" : ">");
}

/* --- device, memory, streams ---------------------------------------------------------------- */

int kern_alloc(kern_on b, void **out, size_t bytes) {
    if (!b->alloc) return missing_op(b, "alloc");
    return b->alloc(out, bytes);
}

void kern_release(kern_on b, void *p) {
    if (p && b->release) b->release(p);
}

int kern_stream_open(kern_on b, struct kern_stream **out, size_t scratch_bytes) {
    if (!b->stream_open) return missing_op(b, "stream_open");
    return b->stream_open(out, scratch_bytes);
}

void kern_stream_close(kern_on b, struct kern_stream *s) {
    if (s && b->stream_close) b->stream_close(s);
}

size_t kern_scratch_bytes(kern_on b, const struct kern_limits *l) {
    return b->scratch_bytes(l);
}

int kern_sync(kern_on b, struct kern_stream *s) {
    ENTER(sync, s);
    return err_wrap(b->sync(s), "%s", op);
}

int kern_put(kern_on b, struct kern_stream *s, void *dst, const void *host_src, size_t bytes) {
    ENTER(put, s);
    if (bytes == 0) return 0;
    if (!dst || !host_src) return FAIL(ERR_CONFIG, "%s: no memory", op);
    return b->put(s, dst, host_src, bytes);
}

int kern_get(kern_on b, struct kern_stream *s, void *host_dst, const void *src, size_t bytes) {
    ENTER(get, s);
    if (bytes == 0) return 0;
    if (!host_dst || !src) return FAIL(ERR_CONFIG, "%s: no memory", op);
    return b->get(s, host_dst, src, bytes);
}

int kern_copy(kern_on b, struct kern_stream *s, void *dst, const void *src, size_t bytes) {
    ENTER(copy, s);
    if (bytes == 0) return 0;
    if (!dst || !src) return FAIL(ERR_CONFIG, "%s: no memory", op);
    return b->copy(s, dst, src, bytes);
}

int kern_after(kern_on b, struct kern_stream *s, struct kern_stream *other) {
    ENTER(after, s);
    if (!other) return FAIL(ERR_CONFIG, "%s: no stream to wait for", op);
    return err_wrap(b->after(s, other), "%s", op);
}

int kern_zero(kern_on b, struct kern_stream *s, void *dst, size_t bytes) {
    ENTER(zero, s);
    if (bytes == 0) return 0;
    if (!dst) return FAIL(ERR_CONFIG, "%s: no memory", op);
    return b->zero(s, dst, bytes);
}

int kern_alloc_host(kern_on b, void **out, size_t bytes) {
    if (!b->alloc_host) return missing_op(b, "alloc_host");
    return b->alloc_host(out, bytes);
}

void kern_release_host(kern_on b, void *p) {
    if (p && b->release_host) b->release_host(p);
}

bool kern_records(kern_on b) {
    return b->record_begin && b->record_end && b->replay && b->graph_close;
}

int kern_record_begin(kern_on b, struct kern_stream *s) {
    ENTER(record_begin, s);
    return b->record_begin(s);
}

int kern_record_end(kern_on b, struct kern_stream *s, struct kern_graph **out) {
    ENTER(record_end, s);
    return b->record_end(s, out);
}

int kern_replay(kern_on b, struct kern_stream *s, struct kern_graph *g) {
    ENTER(replay, s);
    if (!g) return FAIL(ERR_CONFIG, "%s: no graph", op);
    return b->replay(s, g);
}

void kern_graph_close(kern_on b, struct kern_graph *g) {
    if (g && b->graph_close) b->graph_close(g);
}

bool kern_has_memory(kern_on b) {
    return b->memory != NULL;
}

int kern_memory(kern_on b, size_t *left, size_t *total) {
    if (!b->memory) return missing_op(b, "memory");
    return b->memory(left, total);
}

bool kern_always_exact(kern_on b) {
    return !b->exact;
}

int kern_exact(kern_on b, struct kern_stream *s, bool exact) {
    ENTER(exact, s);
    return b->exact(s, exact);
}

bool kern_can_share(kern_on b) {
    return b->device_id && b->share && b->open_shared && b->close_shared;
}

int kern_share(kern_on b, struct kern_shared *out, void *p, size_t bytes) {
    if (!kern_can_share(b)) return missing_op(b, "share");
    if (!p || bytes == 0) return FAIL(ERR_CONFIG, "share: no memory");
    return err_wrap(b->share(out, p, bytes), "share");
}

int kern_open_shared(kern_on b, void **out, const struct kern_shared *m, size_t bytes) {
    uint8_t here[KERN_DEVICE_ID];
    if (!kern_can_share(b)) return missing_op(b, "open_shared");
    TRY(b->device_id(here));
    if (memcmp(here, m->device, sizeof here) != 0)
        return FAIL(ERR_MISMATCH, "open_shared: the memory is on another device");
    if (m->bytes != bytes || m->offset > SIZE_MAX / 2)
        return FAIL(ERR_MISMATCH, "open_shared: %" PRIu64 " bytes at %" PRIu64 ", wanted %zu",
                    m->bytes, m->offset, bytes);
    return err_wrap(b->open_shared(out, m), "open_shared");
}

void kern_close_shared(kern_on b, void *p, const struct kern_shared *m) {
    if (p) b->close_shared(p, m);
}

/* --- forward ops ---------------------------------------------------------------------------- */

int kern_embed(kern_on b, struct kern_stream *s, kern_arg out, kern_arg table, kern_arg ids) {
    ENTER(embed, s);
    const enum kern_dtype real = real_of(out);
    WANT(out, real, 2, ANY, ANY);
    WANT(table, real, 2, ANY, out->dim[1]);
    WANT(ids, I32, 1, out->dim[0]);
    return out->dim[0] ? b->embed(s, out, table, ids) : 0;
}

int kern_rmsnorm(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg w,
                 float eps) {
    ENTER(rmsnorm, s);
    const enum kern_dtype real = real_of(x);
    WANT(x, real, 2, ANY, ANY);
    WANT(out, real, 2, x->dim[0], x->dim[1]);
    WANT(w, real, 1, x->dim[1]);
    TRY(finite_positive(op, "eps", eps, true));
    return kern_elements(x) ? b->rmsnorm(s, out, x, w, eps) : 0;
}

/* w of a matmul may be absent behind its shape when the packed copy is given. */
static int want_packed(kern_on b, const char *op, kern_arg w, kern_arg packed,
                       enum kern_dtype real) {
    if (!w || w->rank != 2 || w->dim[0] < 0 || w->dim[1] < 0 || w->dtype != real)
        return FAIL(ERR_CONFIG, "%s: w must be a %s matrix", op, kern_dtype_name(real));
    size_t need = kern_pack_bytes(b, real, w->dim[0], w->dim[1]);
    if (need == 0) return FAIL(ERR_CONFIG, "%s: backend %s does not pack", op, b->name);
    if (packed->data && packed->bytes >= need) return 0;
    return FAIL(ERR_CONFIG, "%s: packed has %zu bytes, wanted %zu", op, packed->bytes, need);
}

int kern_matmul(kern_on b, struct kern_stream *s, kern_arg y, kern_arg x, kern_arg w,
                kern_arg packed, kern_arg bias) {
    ENTER(matmul, s);
    const enum kern_dtype real = real_of(x);
    WANT(x, real, 2, ANY, ANY);
    WANT(y, real == KERN_BF16 ? real_of(y) : F32, 2, x->dim[0], ANY);
    if (packed) {
        TRY(want_packed(b, op, w, packed, real));
        if (w->dim[0] != y->dim[1] || w->dim[1] != x->dim[1])
            return FAIL(ERR_CONFIG,
                        "%s: w is [%" PRId64 ", %" PRId64 "], wanted [%" PRId64 ", %" PRId64 "]",
                        op, w->dim[0], w->dim[1], y->dim[1], x->dim[1]);
    } else {
        WANT(w, real, 2, y->dim[1], x->dim[1]);
    }
    WANT_OPT(bias, real, 1, y->dim[1]);
    return kern_elements(y) ? b->matmul(s, y, x, w, packed, bias) : 0;
}

int kern_rope(kern_on b, struct kern_stream *s, kern_arg x, kern_arg pos, kern_arg cos,
              kern_arg sin, bool inverse) {
    ENTER(rope, s);
    const enum kern_dtype real = real_of(x);
    WANT(x, real, 3, ANY, ANY, ANY);
    WANT(pos, I32, 1, x->dim[0]);
    if (x->dim[2] % 2) return FAIL(ERR_CONFIG, "%s: head width %" PRId64 " is odd", op, x->dim[2]);
    WANT(cos, F32, 2, ANY, x->dim[2] / 2);
    WANT(sin, F32, 2, cos->dim[0], x->dim[2] / 2);
    return kern_elements(x) ? b->rope(s, x, pos, cos, sin, inverse) : 0;
}

int kern_add_rmsnorm(kern_on b, struct kern_stream *s, kern_arg out, kern_arg sum, kern_arg x,
                     kern_arg r, kern_arg w, float eps) {
    ENTER(add_rmsnorm, s);
    const enum kern_dtype real = real_of(x);
    WANT(x, real, 2, ANY, ANY);
    WANT(r, real, 2, x->dim[0], x->dim[1]);
    WANT(sum, real, 2, x->dim[0], x->dim[1]);
    WANT(out, real, 2, x->dim[0], x->dim[1]);
    WANT(w, real, 1, x->dim[1]);
    TRY(finite_positive(op, "eps", eps, true));
    if (kern_elements(x) == 0) return 0;
    if (out->data == sum->data || out->data == x->data || out->data == r->data)
        return FAIL(ERR_CONFIG, "%s: out is the memory of another argument", op);
    return b->add_rmsnorm(s, out, sum, x, r, w, eps);
}

int kern_norm_rope(kern_on b, struct kern_stream *s, kern_arg q, kern_arg q0, kern_arg w, float eps,
                   kern_arg pos, kern_arg cos, kern_arg sin) {
    ENTER(norm_rope, s);
    const enum kern_dtype real = real_of(q);
    WANT(q, real, 3, ANY, ANY, ANY);
    WANT(q0, real, 3, q->dim[0], q->dim[1], q->dim[2]);
    WANT_OPT(w, real, 1, q->dim[2]);
    WANT(pos, I32, 1, q->dim[0]);
    if (q->dim[2] % 2) return FAIL(ERR_CONFIG, "%s: head width %" PRId64 " is odd", op, q->dim[2]);
    WANT(cos, F32, 2, ANY, q->dim[2] / 2);
    WANT(sin, F32, 2, cos->dim[0], q->dim[2] / 2);
    TRY(finite_positive(op, "eps", eps, true));
    return kern_elements(q) ? b->norm_rope(s, q, q0, w, eps, pos, cos, sin) : 0;
}

/* Pools are [pages, page, Hkv, D]; rows k and v are [n, Hkv, D]. */
static int want_kv(const char *op, kern_arg pool_k, kern_arg pool_v, kern_arg k, kern_arg v,
                   kern_arg slot) {
    const enum kern_dtype real = real_of(k);
    WANT(k, real, 3, ANY, ANY, ANY);
    WANT(v, real, 3, k->dim[0], k->dim[1], k->dim[2]);
    WANT(pool_k, real, 4, ANY, ANY, k->dim[1], k->dim[2]);
    WANT(pool_v, real, 4, pool_k->dim[0], pool_k->dim[1], k->dim[1], k->dim[2]);
    WANT(slot, I32, 1, k->dim[0]);
    return 0;
}

int kern_kv_write(kern_on b, struct kern_stream *s, kern_arg pool_k, kern_arg pool_v, kern_arg k,
                  kern_arg v, kern_arg slot) {
    ENTER(kv_write, s);
    TRY(want_kv(op, pool_k, pool_v, k, v, slot));
    return kern_elements(k) ? b->kv_write(s, pool_k, pool_v, k, v, slot) : 0;
}

int kern_kv_read(kern_on b, struct kern_stream *s, kern_arg k, kern_arg v, kern_arg pool_k,
                 kern_arg pool_v, kern_arg slot) {
    ENTER(kv_read, s);
    TRY(want_kv(op, pool_k, pool_v, k, v, slot));
    return kern_elements(k) ? b->kv_read(s, k, v, pool_k, pool_v, slot) : 0;
}

/* What can be said of attention's arguments without reading them: tables as long as the batch says,
 * heads that divide, and page tables that reach to the longest sequence. */
static int want_attn(const char *op, kern_arg q, kern_arg pool_k, kern_arg pool_v,
                     const struct kern_attn *a) {
    if (!a) return FAIL(ERR_CONFIG, "%s: no struct kern_attn", op);
    const enum kern_dtype real = real_of(q);
    WANT(q, real, 3, ANY, ANY, ANY);
    WANT(pool_k, real, 4, ANY, a->page, ANY, q->dim[2]);
    WANT(pool_v, real, 4, pool_k->dim[0], a->page, pool_k->dim[2], q->dim[2]);
    if (pool_k->dim[2] < 1 || q->dim[1] % pool_k->dim[2])
        return FAIL(ERR_CONFIG,
                    "%s: %" PRId64 " query heads do not divide by %" PRId64 " key heads", op,
                    q->dim[1], pool_k->dim[2]);
    if (a->n_seqs < 0 || a->page < 1 || a->q_max < 0 || a->kv_max < 0 || a->window < 0)
        return FAIL(ERR_CONFIG, "%s: n_seqs %d, page %d, q_max %d, kv_max %d, window %d", op,
                    (int)a->n_seqs, (int)a->page, (int)a->q_max, (int)a->kv_max, (int)a->window);
    const struct kern_tensor *q_start = &a->q_start, *kv_len = &a->kv_len, *pages = &a->pages;
    WANT(q_start, I32, 1, (int64_t)a->n_seqs + 1);
    WANT(kv_len, I32, 1, a->n_seqs);
    WANT(pages, I32, 2, a->n_seqs, ANY);
    if (a->kv_max > pages->dim[1] * a->page)
        return FAIL(ERR_CONFIG, "%s: kv_max %d exceeds %" PRId64 " pages of %d", op, (int)a->kv_max,
                    pages->dim[1], (int)a->page);
    return finite_positive(op, "scale", a->scale, true);
}

int kern_attention(kern_on b, struct kern_stream *s, kern_arg out, kern_arg lse, kern_arg q,
                   kern_arg pool_k, kern_arg pool_v, const struct kern_attn *a) {
    ENTER(attention, s);
    TRY(want_attn(op, q, pool_k, pool_v, a));
    WANT(out, real_of(q), 3, q->dim[0], q->dim[1], q->dim[2]);
    WANT_OPT(lse, F32, 2, q->dim[0], q->dim[1]);
    return kern_elements(q) ? b->attention(s, out, lse, q, pool_k, pool_v, a) : 0;
}

int kern_swiglu(kern_on b, struct kern_stream *s, kern_arg out, kern_arg gate, kern_arg up) {
    ENTER(swiglu, s);
    WANT(out, real_of(out), 2, ANY, ANY);
    WANT_LIKE(out, gate);
    WANT_LIKE(out, up);
    return kern_elements(out) ? b->swiglu(s, out, gate, up) : 0;
}

int kern_add(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg y) {
    ENTER(add, s);
    WANT(out, real_of(out), 2, ANY, ANY);
    WANT_LIKE(out, x);
    WANT_LIKE(out, y);
    return kern_elements(out) ? b->add(s, out, x, y) : 0;
}

int kern_gather(kern_on b, struct kern_stream *s, kern_arg out, kern_arg x, kern_arg rows) {
    ENTER(gather, s);
    const enum kern_dtype real = real_of(out);
    WANT(out, real, 2, ANY, ANY);
    WANT(x, real, 2, ANY, out->dim[1]);
    WANT(rows, I32, 1, out->dim[0]);
    return kern_elements(out) ? b->gather(s, out, x, rows) : 0;
}

int kern_logprob(kern_on b, struct kern_stream *s, kern_arg logprob, kern_arg entropy, kern_arg lse,
                 kern_arg logits, kern_arg target, kern_arg inv_temp) {
    ENTER(logprob, s);
    WANT(logits, F32, 2, ANY, ANY);
    const int64_t n = logits->dim[0];
    WANT(logprob, F32, 1, n);
    WANT_OPT(entropy, F32, 1, n);
    WANT(lse, F32, 1, n);
    WANT(target, I32, 1, n);
    WANT(inv_temp, F32, 1, n);
    return n ? b->logprob(s, logprob, entropy, lse, logits, target, inv_temp) : 0;
}

int kern_sample(kern_on b, struct kern_stream *s, kern_arg token, kern_arg logprob, kern_arg kept,
                kern_arg logits, kern_arg temperature, kern_arg top_p, kern_arg top_k,
                kern_arg uniform) {
    ENTER(sample, s);
    WANT(logits, F32, 2, ANY, ANY);
    const int64_t n = logits->dim[0];
    WANT(token, I32, 1, n);
    WANT(logprob, F32, 1, n);
    WANT(kept, F32, 1, n);
    WANT(temperature, F32, 1, n);
    WANT(top_p, F32, 1, n);
    WANT(top_k, I32, 1, n);
    WANT(uniform, F32, 2, n, 2);
    if (n && logits->dim[1] == 0) return FAIL(ERR_CONFIG, "%s: the vocabulary is empty", op);
    return n ? b->sample(s, token, logprob, kept, logits, temperature, top_p, top_k, uniform) : 0;
}

/* --- weights -------------------------------------------------------------------------------- */

size_t kern_pack_bytes(kern_on b, enum kern_dtype t, int64_t out, int64_t in) {
    return b->pack_bytes && b->pack_weight ? b->pack_bytes(t, out, in) : 0;
}

int kern_pack_weight(kern_on b, struct kern_stream *s, kern_arg packed, kern_arg w) {
    ENTER(pack_weight, s);
    if (!packed) return FAIL(ERR_CONFIG, "%s: packed is missing", op);
    WANT(w, real_of(w), 2, ANY, ANY);
    TRY(want_packed(b, op, w, packed, real_of(w)));
    return kern_elements(w) ? b->pack_weight(s, packed, w) : 0;
}

int kern_cast(kern_on b, struct kern_stream *s, kern_arg dst, kern_arg src) {
    ENTER(cast, s);
    if (!dst || !src) return FAIL(ERR_CONFIG, "%s: an argument is missing", op);
    TRY(check_view(op, "dst", dst));
    TRY(check_view(op, "src", src));
    if (dst->dtype == I32 || src->dtype == I32)
        return FAIL(ERR_UNSUP, "%s: only f32 and bf16, not %s to %s", op,
                    kern_dtype_name(src->dtype), kern_dtype_name(dst->dtype));
    if (kern_elements(dst) != kern_elements(src))
        return FAIL(ERR_CONFIG, "%s: dst has %" PRId64 " elements, src %" PRId64, op,
                    kern_elements(dst), kern_elements(src));
    return kern_elements(dst) ? b->cast(s, dst, src) : 0;
}

int kern_hash_leaves(kern_on b, struct kern_stream *s, struct hash *leaf, const void *data,
                     size_t bytes) {
    uint8_t last[KERN_HASH_MIN];
    ENTER(hash_leaves, s);
    if (bytes > 0 && (!leaf || !data)) return FAIL(ERR_CONFIG, "%s: an argument is missing", op);
    size_t n = bytes % HASH_BLOCK;
    if (n > 0 && n < sizeof last) {
        bytes -= n;
        TRY(kern_get(b, s, last, (const char *)data + bytes, n));
        leaf[bytes / HASH_BLOCK] = hash_bytes(last, n);
    }
    return bytes ? err_wrap(b->hash_leaves(s, leaf, data, bytes), "%s", op) : 0;
}

/* --- reverse ops ---------------------------------------------------------------------------- */

int kern_embed_bwd(kern_on b, struct kern_stream *s, kern_arg gtable, kern_arg gout, kern_arg ids) {
    ENTER(embed_bwd, s);
    WANT(gout, real_of(gout), 2, ANY, ANY);
    WANT(gtable, F32, 2, ANY, gout->dim[1]);
    WANT(ids, I32, 1, gout->dim[0]);
    return kern_elements(gout) ? b->embed_bwd(s, gtable, gout, ids) : 0;
}

int kern_rmsnorm_bwd(kern_on b, struct kern_stream *s, kern_arg gx, kern_arg gw, kern_arg gout,
                     kern_arg x, kern_arg w, float eps, bool accumulate) {
    ENTER(rmsnorm_bwd, s);
    WANT(gx, real_of(gx), 2, ANY, ANY);
    WANT_LIKE(gx, gout);
    WANT_LIKE(gx, x);
    WANT(gw, F32, 1, x->dim[1]);
    WANT(w, real_of(x), 1, x->dim[1]);
    TRY(finite_positive(op, "eps", eps, true));
    return kern_elements(x) ? b->rmsnorm_bwd(s, gx, gw, gout, x, w, eps, accumulate) : 0;
}

int kern_matmul_dx(kern_on b, struct kern_stream *s, kern_arg gx, kern_arg gy, kern_arg w,
                   bool accumulate) {
    ENTER(matmul_dx, s);
    const enum kern_dtype real = real_of(gy);
    WANT(gy, real, 2, ANY, ANY);
    WANT(gx, real, 2, gy->dim[0], ANY);
    WANT(w, real, 2, gy->dim[1], gx->dim[1]);
    return kern_elements(gx) ? b->matmul_dx(s, gx, gy, w, accumulate) : 0;
}

int kern_matmul_dw(kern_on b, struct kern_stream *s, kern_arg gw, kern_arg gbias, kern_arg gy,
                   kern_arg x) {
    ENTER(matmul_dw, s);
    const enum kern_dtype real = real_of(gy);
    WANT(gy, real, 2, ANY, ANY);
    WANT(x, real, 2, gy->dim[0], ANY);
    WANT(gw, F32, 2, gy->dim[1], x->dim[1]);
    WANT_OPT(gbias, F32, 1, gy->dim[1]);
    return kern_elements(gy) ? b->matmul_dw(s, gw, gbias, gy, x) : 0;
}

int kern_attention_bwd(kern_on b, struct kern_stream *s, kern_arg gq, kern_arg gpool_k,
                       kern_arg gpool_v, kern_arg gout, kern_arg out, kern_arg lse, kern_arg q,
                       kern_arg pool_k, kern_arg pool_v, const struct kern_attn *a) {
    ENTER(attention_bwd, s);
    TRY(want_attn(op, q, pool_k, pool_v, a));
    const int64_t *d = q->dim, *p = pool_k->dim;
    const enum kern_dtype real = real_of(q);
    WANT(gq, real, 3, d[0], d[1], d[2]);
    WANT(gout, real, 3, d[0], d[1], d[2]);
    WANT(out, real, 3, d[0], d[1], d[2]);
    WANT(lse, F32, 2, d[0], d[1]);
    WANT(gpool_k, F32, 4, p[0], p[1], p[2], p[3]);
    WANT(gpool_v, F32, 4, p[0], p[1], p[2], p[3]);
    if (kern_elements(q) == 0) return 0;
    return b->attention_bwd(s, gq, gpool_k, gpool_v, gout, out, lse, q, pool_k, pool_v, a);
}

int kern_swiglu_bwd(kern_on b, struct kern_stream *s, kern_arg ggate, kern_arg gup, kern_arg gout,
                    kern_arg gate, kern_arg up) {
    ENTER(swiglu_bwd, s);
    WANT(ggate, real_of(ggate), 2, ANY, ANY);
    WANT_LIKE(ggate, gup);
    WANT_LIKE(ggate, gout);
    WANT_LIKE(ggate, gate);
    WANT_LIKE(ggate, up);
    return kern_elements(gout) ? b->swiglu_bwd(s, ggate, gup, gout, gate, up) : 0;
}

int kern_scatter_add(kern_on b, struct kern_stream *s, kern_arg x, kern_arg g, kern_arg rows) {
    ENTER(scatter_add, s);
    const enum kern_dtype real = real_of(g);
    WANT(g, real, 2, ANY, ANY);
    WANT(x, real, 2, ANY, g->dim[1]);
    WANT(rows, I32, 1, g->dim[0]);
    return kern_elements(g) ? b->scatter_add(s, x, g, rows) : 0;
}

int kern_logprob_bwd(kern_on b, struct kern_stream *s, kern_arg logits, kern_arg g_logprob,
                     kern_arg g_entropy, kern_arg entropy, kern_arg lse, kern_arg target,
                     kern_arg inv_temp) {
    ENTER(logprob_bwd, s);
    WANT(logits, F32, 2, ANY, ANY);
    const int64_t n = logits->dim[0];
    WANT(g_logprob, F32, 1, n);
    if (!g_entropy != !entropy)
        return FAIL(ERR_CONFIG, "%s: g_entropy and entropy come together or not at all", op);
    WANT_OPT(g_entropy, F32, 1, n);
    WANT_OPT(entropy, F32, 1, n);
    WANT(lse, F32, 1, n);
    WANT(target, I32, 1, n);
    WANT(inv_temp, F32, 1, n);
    if (kern_elements(logits) == 0) return 0;
    return b->logprob_bwd(s, logits, g_logprob, g_entropy, entropy, lse, target, inv_temp);
}

/* --- optimizer ------------------------------------------------------------------------------ */

/* The weights rounded, and the bitmap of those that changed. */
static int want_policy(const char *op, const struct kern_adamw *p, int64_t n) {
    const struct kern_tensor *changed = &p->changed;
    const int64_t at = p->changed_at, words = at < 0 ? 0 : (at + n + 31) / 32;
    TRY(want_either(op, "rounded", &p->rounded, n));
    if (p->rounded.data && p->rounded.dtype != KERN_BF16)
        return FAIL(ERR_CONFIG, "%s: rounded is f32, wanted bf16", op);
    if (!changed->data) return 0;
    WANT(changed, I32, 1, ANY);
    if (at < 0 || at % 16)
        return FAIL(ERR_CONFIG, "%s: changed_at is %" PRId64 ", wanted a multiple of 16", op, at);
    if (changed->dim[0] >= words) return 0;
    return FAIL(ERR_CONFIG,
                "%s: changed has %" PRId64 " words, wanted %" PRId64 " for %" PRId64
                " bits from %" PRId64 " on",
                op, changed->dim[0], words, n, at);
}

int kern_adamw(kern_on b, struct kern_stream *s, kern_arg w, kern_arg m, kern_arg v, kern_arg g,
               const struct kern_adamw *p) {
    ENTER(adamw, s);
    TRY(want_flat(op, "w", w, ANY));
    const int64_t n = kern_elements(w);
    TRY(want_flat(op, "m", m, n));
    TRY(want_flat(op, "v", v, n));
    TRY(want_flat(op, "g", g, n));
    if (!p) return FAIL(ERR_CONFIG, "%s: no struct kern_adamw", op);
    if (p->step < 1) return FAIL(ERR_CONFIG, "%s: step %" PRId64 ", wanted >= 1", op, p->step);
    if (!(p->beta1 >= 0 && p->beta1 < 1 && p->beta2 >= 0 && p->beta2 < 1))
        return FAIL(ERR_CONFIG, "%s: betas %g, %g, wanted [0, 1)", op, (double)p->beta1,
                    (double)p->beta2);
    TRY(want_either(op, "along", &p->along, n));
    if (p->along.data && !isfinite(p->along_scale))
        return FAIL(ERR_CONFIG, "%s: along_scale is %g", op, (double)p->along_scale);
    TRY(want_either(op, "keep", &p->keep, n));
    if (p->keep.data && p->keep.dtype != KERN_BF16)
        return FAIL(ERR_CONFIG, "%s: keep is f32, wanted bf16", op);
    TRY(want_policy(op, p, n));
    return n ? b->adamw(s, w, m, v, g, p) : 0;
}

int kern_dot(kern_on b, struct kern_stream *s, double out[3], kern_arg x, kern_arg y) {
    ENTER(dot, s);
    TRY(want_flat(op, "x", x, ANY));
    if (y) TRY(want_either(op, "y", y, kern_elements(x)));
    return b->dot(s, out, x, y);
}

int kern_axpby(kern_on b, struct kern_stream *s, kern_arg y, float alpha, kern_arg x, float beta) {
    ENTER(axpby, s);
    TRY(want_flat(op, "x", x, ANY));
    TRY(want_flat(op, "y", y, kern_elements(x)));
    return kern_elements(x) ? b->axpby(s, y, alpha, x, beta) : 0;
}

int kern_count_bits(kern_on b, struct kern_stream *s, int64_t *out, kern_arg words) {
    ENTER(count_bits, s);
    if (!words) return FAIL(ERR_CONFIG, "%s: words are missing", op);
    TRY(check_view(op, "words", words));
    if (words->dtype != I32)
        return FAIL(ERR_CONFIG, "%s: words are %s, wanted i32", op, kern_dtype_name(words->dtype));
    return b->count_bits(s, out, words);
}

/* --- collectives ---------------------------------------------------------------------------- */

int kern_coll_open(kern_on b, struct kern_coll **out, const char *name, int rank, int n_ranks,
                   int deadline_ms) {
    if (!b->coll_open) return missing_op(b, "coll_open");
    if (!name || n_ranks < 1 || rank < 0 || rank >= n_ranks || deadline_ms < 1)
        return FAIL(ERR_CONFIG, "coll_open: rank %d of %d, deadline %d ms", rank, n_ranks,
                    deadline_ms);
    return b->coll_open(out, name, rank, n_ranks, deadline_ms);
}

void kern_coll_close(kern_on b, struct kern_coll *c) {
    if (c && b->coll_close) b->coll_close(c);
}

int kern_coll_all_reduce(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x) {
    ENTER(coll_all_reduce, s);
    if (!c) return FAIL(ERR_CONFIG, "%s: no communicator", op);
    TRY(want_flat(op, "x", x, ANY));
    return b->coll_all_reduce(c, s, x);
}

int kern_coll_reduce_scatter(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg shard,
                             kern_arg x) {
    ENTER(coll_reduce_scatter, s);
    if (!c) return FAIL(ERR_CONFIG, "%s: no communicator", op);
    TRY(want_flat(op, "x", x, ANY));
    TRY(want_flat(op, "shard", shard, ANY));
    return b->coll_reduce_scatter(c, s, shard, x);
}

int kern_coll_all_gather(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x,
                         kern_arg shard) {
    ENTER(coll_all_gather, s);
    if (!c) return FAIL(ERR_CONFIG, "%s: no communicator", op);
    TRY(want_flat(op, "x", x, ANY));
    TRY(want_flat(op, "shard", shard, ANY));
    return b->coll_all_gather(c, s, x, shard);
}

int kern_coll_broadcast(kern_on b, struct kern_coll *c, struct kern_stream *s, kern_arg x,
                        int root) {
    ENTER(coll_broadcast, s);
    if (!c) return FAIL(ERR_CONFIG, "%s: no communicator", op);
    TRY(want_flat(op, "x", x, ANY));
    return b->coll_broadcast(c, s, x, root);
}

int kern_coll_barrier(kern_on b, struct kern_coll *c) {
    ENTER(coll_barrier, c);
    return b->coll_barrier(c);
}
