/* sampler.c - one call's arrays, and the numbers that make sampling repeatable.
 *
 * The uniform number of a token is Philox(key of the seed; trajectory id, position): a resumed,
 * preempted or moved trajectory continues as if nothing had happened, and no generator state exists
 * that could be lost (I5).
 *
 * All inputs of a call lie in one slab that goes to the backend in one copy, all outputs in one
 * that comes back in one: on a GPU each copy costs more than the sampling. The slab may be the
 * caller's, so that the call can be a part of a larger recording (decode.c). */
#include "rollout/engine/sampler.h"

#include "base/mem.h"
#include "base/rng.h"

#include <inttypes.h>
#include <math.h>

/* Columns of `rows` 4-byte words. Inputs come first; uniform takes two. */
enum column {
    TEMPERATURE,
    TOP_P,
    TOP_K,
    UNIFORM,
    TARGET = UNIFORM + 2,
    INV_TEMP,
    ROW,
    INPUTS,
    TOKEN = INPUTS,
    LOGPROB,
    KEPT,
    FORCED_LOGPROB,
    LSE,
    COLUMNS
};

union word {
    float f;
    int32_t i;
};

struct sampler {
    const struct kern_backend *b;
    uint64_t key;
    struct sampler_slab own;
};

/* A multiple of 16: columns start on cache lines. */
static int32_t stride_of(int32_t rows) {
    return (rows + 15) / 16 * 16;
}

static size_t columns_bytes(enum column n, int32_t rows) {
    return (size_t)n * (size_t)stride_of(rows) * sizeof(union word);
}

size_t sampler_bytes(int32_t rows) {
    return columns_bytes(COLUMNS, rows);
}

size_t sampler_input_bytes(int32_t rows) {
    return columns_bytes(INPUTS, rows);
}

int sampler_open(struct sampler **out, const struct kern_backend *b, int32_t rows, uint64_t seed) {
    int rc = 0;
    struct sampler *s = mem_zalloc(sizeof *s);
    ASSERT(rows > 0);
    s->b = b;
    s->key = rng_key(seed, RNG_SAMPLE);
    s->own.rows = rows;
    TRY_OUT(kern_alloc(b, &s->own.device, sampler_bytes(rows)));
    TRY_OUT(kern_alloc_host(b, &s->own.host, sampler_bytes(rows)));
    *out = s;
    s = NULL;
out:
    sampler_close(&s);
    return rc;
}

void sampler_close(struct sampler **s) {
    if (!*s) return;
    kern_release((*s)->b, (*s)->own.device);
    kern_release_host((*s)->b, (*s)->own.host);
    mem_free(*s);
    *s = NULL;
}

const struct sampler_slab *sampler_own(const struct sampler *s) {
    return &s->own;
}

static union word *host_column(const struct sampler_slab *s, enum column c) {
    return (union word *)s->host + (int32_t)c * stride_of(s->rows);
}

static void *device_column(const struct sampler_slab *s, enum column c, int32_t first) {
    return (union word *)s->device + (int32_t)c * stride_of(s->rows) + first;
}

void *sampler_rows_at(const struct sampler_slab *slab, int32_t first) {
    return device_column(slab, ROW, first);
}

void sampler_fill(const struct sampler *s, const struct sampler_slab *to,
                  const struct sampler_row *rows, int32_t n, bool *forced) {
    ASSERT(n <= to->rows);
    *forced = false;
    for (int32_t i = 0; i < n; i++) {
        const struct sampler_row *r = &rows[i];
        host_column(to, TEMPERATURE)[i].f = r->temperature;
        host_column(to, TOP_P)[i].f = r->top_p;
        host_column(to, TOP_K)[i].i = r->top_k;
        double u = r->temperature > 0 ? rng_uniform(s->key, r->id, (uint64_t)r->position) : 0;
        float high = (float)u;
        host_column(to, UNIFORM)[2 * i].f = high;
        host_column(to, UNIFORM)[2 * i + 1].f = (float)(u - (double)high);
        host_column(to, TARGET)[i].i = r->forced >= 0 ? r->forced : 0;
        host_column(to, INV_TEMP)[i].f = r->temperature > 0 ? 1.0F / r->temperature : 1.0F;
        host_column(to, ROW)[i].i = r->row;
        *forced |= r->forced >= 0;
    }
}

int sampler_put(const struct sampler *s, struct kern_stream *stream,
                const struct sampler_slab *slab) {
    return kern_put(s->b, stream, slab->device, slab->host, sampler_input_bytes(slab->rows));
}

struct call { /* rows first .. first + n - 1 of a slab */
    const struct sampler_slab *slab;
    int32_t first, n;
};

static struct kern_tensor view(const struct call *c, enum column column, enum kern_dtype t) {
    return kern_view1(device_column(c->slab, column, c->first), t, c->n);
}

static int issue_draw(const struct sampler *s, struct kern_stream *stream,
                      const struct kern_tensor *logits, const struct call *c) {
    struct kern_tensor temperature = view(c, TEMPERATURE, KERN_F32);
    struct kern_tensor top_p = view(c, TOP_P, KERN_F32), top_k = view(c, TOP_K, KERN_I32);
    struct kern_tensor uniform =
        kern_view2(device_column(c->slab, UNIFORM, 2 * c->first), KERN_F32, c->n, 2);
    struct kern_tensor token = view(c, TOKEN, KERN_I32);
    struct kern_tensor logprob = view(c, LOGPROB, KERN_F32), kept = view(c, KEPT, KERN_F32);
    return kern_sample(s->b, stream, &token, &logprob, &kept, logits, &temperature, &top_p, &top_k,
                       &uniform);
}

static int issue_forced(const struct sampler *s, struct kern_stream *stream,
                        const struct kern_tensor *logits, const struct call *c) {
    struct kern_tensor logprob = view(c, FORCED_LOGPROB, KERN_F32), lse = view(c, LSE, KERN_F32);
    struct kern_tensor target = view(c, TARGET, KERN_I32), inv_temp = view(c, INV_TEMP, KERN_F32);
    return kern_logprob(s->b, stream, &logprob, NULL, &lse, logits, &target, &inv_temp);
}

int sampler_issue(const struct sampler *s, struct kern_stream *stream,
                  const struct sampler_slab *slab, const struct kern_tensor *logits, int32_t first,
                  int32_t n, bool forced) {
    struct call c = {slab, first, n};
    ASSERT(n > 0 && first + n <= stride_of(slab->rows));
    TRY(issue_draw(s, stream, logits, &c));
    return forced ? issue_forced(s, stream, logits, &c) : 0;
}

int sampler_get(const struct sampler *s, struct kern_stream *stream,
                const struct sampler_slab *slab) {
    size_t at = sampler_input_bytes(slab->rows);
    return kern_get(s->b, stream, (char *)slab->host + at, (char *)slab->device + at,
                    sampler_bytes(slab->rows) - at);
}

int sampler_read(const struct sampler_slab *slab, const struct sampler_row *rows, int32_t n,
                 struct sampler_token *out) {
    for (int32_t i = 0; i < n; i++) {
        bool forced = rows[i].forced >= 0;
        out[i].token = forced ? rows[i].forced : host_column(slab, TOKEN)[i].i;
        out[i].logprob = host_column(slab, forced ? FORCED_LOGPROB : LOGPROB)[i].f;
        out[i].kept = forced ? 1.0F : host_column(slab, KEPT)[i].f;
        if (!isfinite(out[i].logprob))
            return FAIL(ERR_CORRUPT,
                        "trajectory %" PRIu64 ", position %d: the log-prob is %g; the weights give "
                        "no finite distribution",
                        rows[i].id, (int)rows[i].position, (double)out[i].logprob);
    }
    return 0;
}

int sampler_draw(struct sampler *s, struct kern_stream *stream, const struct kern_tensor *logits,
                 const struct sampler_row *rows, int32_t n, struct sampler_token *out) {
    bool forced;
    sampler_fill(s, &s->own, rows, n, &forced);
    TRY(sampler_put(s, stream, &s->own));
    TRY(sampler_issue(s, stream, &s->own, logits, 0, n, forced));
    TRY(sampler_get(s, stream, &s->own));
    TRY(kern_sync(s->b, stream));
    return sampler_read(&s->own, rows, n, out);
}
