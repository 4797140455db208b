/* sampler.c - one call's arrays, and the numbers that make sampling repeatable.
 *
 * The uniform number of a token is Philox(key of the seed; trajectory id, position): a resumed,
 * preempted or moved trajectory continues as if nothing had happened, and no generator state exists
 * that could be lost (I5).
 *
 * All inputs of a call lie in one slab that goes to the backend in one copy, all outputs in one
 * that comes back in one: on a GPU each copy costs more than the sampling. */
#include "rollout/sampler.h"

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
    INPUTS,
    TOKEN = INPUTS,
    LOGPROB,
    KEPT,
    FORCED_LOGPROB,
    LSE,
    COLUMNS
};

struct sampler {
    const struct kern_backend *b;
    uint64_t key;
    int32_t rows; /* a multiple of 16: columns start on cache lines */
    union word {
        float f;
        int32_t i;
    } * host, *device; /* [COLUMNS, rows] */
};

static int32_t stride_of(int32_t rows) {
    return (rows + 15) / 16 * 16;
}

size_t sampler_bytes(int32_t rows) {
    return (size_t)COLUMNS * (size_t)stride_of(rows) * sizeof(union word);
}

int sampler_open(struct sampler **out, const struct kern_backend *b, int32_t rows, uint64_t seed) {
    ASSERT(rows > 0);
    void *device = NULL;
    TRY(kern_alloc(b, &device, sampler_bytes(rows)));
    struct sampler *s = mem_zalloc(sizeof *s);
    s->b = b;
    s->key = rng_key(seed, RNG_SAMPLE);
    s->rows = stride_of(rows);
    s->device = device;
    s->host = mem_zalloc(sampler_bytes(rows));
    *out = s;
    return 0;
}

void sampler_close(struct sampler **s) {
    if (!*s) return;
    kern_release((*s)->b, (*s)->device);
    mem_free((*s)->host);
    mem_free(*s);
    *s = NULL;
}

static union word *host_column(const struct sampler *s, enum column c) {
    return s->host + (int32_t)c * s->rows;
}

static struct kern_tensor view(const struct sampler *s, enum column c, enum kern_dtype t,
                               int32_t n) {
    return kern_view1(s->device + (int32_t)c * s->rows, t, n);
}

/* false if no row is forced. */
static bool fill_inputs(const struct sampler *s, const struct sampler_row *rows, int32_t n) {
    bool any_forced = false;
    for (int32_t i = 0; i < n; i++) {
        const struct sampler_row *r = &rows[i];
        host_column(s, TEMPERATURE)[i].f = r->temperature;
        host_column(s, TOP_P)[i].f = r->top_p;
        host_column(s, TOP_K)[i].i = r->top_k;
        double u = r->temperature > 0 ? rng_uniform(s->key, r->id, (uint64_t)r->position) : 0;
        float high = (float)u;
        host_column(s, UNIFORM)[2 * i].f = high;
        host_column(s, UNIFORM)[2 * i + 1].f = (float)(u - (double)high);
        host_column(s, TARGET)[i].i = r->forced >= 0 ? r->forced : 0;
        host_column(s, INV_TEMP)[i].f = r->temperature > 0 ? 1.0F / r->temperature : 1.0F;
        any_forced |= r->forced >= 0;
    }
    return any_forced;
}

static int issue_draw(struct sampler *s, struct kern_stream *stream,
                      const struct kern_tensor *logits, int32_t n) {
    struct kern_tensor temperature = view(s, TEMPERATURE, KERN_F32, n);
    struct kern_tensor top_p = view(s, TOP_P, KERN_F32, n);
    struct kern_tensor top_k = view(s, TOP_K, KERN_I32, n);
    struct kern_tensor uniform = kern_view2(s->device + UNIFORM * s->rows, KERN_F32, n, 2);
    struct kern_tensor token = view(s, TOKEN, KERN_I32, n);
    struct kern_tensor logprob = view(s, LOGPROB, KERN_F32, n);
    struct kern_tensor kept = view(s, KEPT, KERN_F32, n);
    return kern_sample(s->b, stream, &token, &logprob, &kept, logits, &temperature, &top_p, &top_k,
                       &uniform);
}

static int issue_forced(struct sampler *s, struct kern_stream *stream,
                        const struct kern_tensor *logits, int32_t n) {
    struct kern_tensor logprob = view(s, FORCED_LOGPROB, KERN_F32, n);
    struct kern_tensor lse = view(s, LSE, KERN_F32, n);
    struct kern_tensor target = view(s, TARGET, KERN_I32, n);
    struct kern_tensor inv_temp = view(s, INV_TEMP, KERN_F32, n);
    return kern_logprob(s->b, stream, &logprob, NULL, &lse, logits, &target, &inv_temp);
}

int sampler_draw(struct sampler *s, struct kern_stream *stream, const struct kern_tensor *logits,
                 const struct sampler_row *rows, int32_t n, struct sampler_token *out) {
    ASSERT(n > 0 && n <= s->rows);
    size_t column = (size_t)s->rows * sizeof(union word);
    bool any_forced = fill_inputs(s, rows, n);
    TRY(kern_put(s->b, stream, s->device, s->host, INPUTS * column));
    TRY(issue_draw(s, stream, logits, n));
    if (any_forced) TRY(issue_forced(s, stream, logits, n));
    TRY(kern_get(s->b, stream, s->host + INPUTS * s->rows, s->device + INPUTS * s->rows,
                 (COLUMNS - INPUTS) * column));
    for (int32_t i = 0; i < n; i++) {
        bool forced = rows[i].forced >= 0;
        out[i].token = forced ? rows[i].forced : host_column(s, TOKEN)[i].i;
        out[i].logprob = host_column(s, forced ? FORCED_LOGPROB : LOGPROB)[i].f;
        out[i].kept = forced ? 1.0F : host_column(s, KEPT)[i].f;
        if (!isfinite(out[i].logprob))
            return FAIL(ERR_CORRUPT,
                        "trajectory %" PRIu64 ", position %d: the log-prob is %g; the weights give "
                        "no finite distribution",
                        rows[i].id, (int)rows[i].position, (double)out[i].logprob);
    }
    return 0;
}
