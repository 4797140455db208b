/* shard.c - see shard.h. The collectives carry floats and sum in single precision, which is too
 * little for the scalars that decide about a step. Those travel as bits: every rank gathers all
 * ranks' doubles as pairs of floats that nobody looks at, and adds them itself in rank order. One
 * collective of a few bytes, no rounding, and no rank can come to another decision. */
#include "trainer/ranks/shard.h"

#include <inttypes.h>
#include <string.h>

enum { SHARD_ALIGN = 16, HALVES = sizeof(double) / sizeof(float), SHARD_RANKS_MAX = 1024 };

static void set_part(struct shard *s) {
    int n = s->ranks.n;
    s->part = s->elements / n / SHARD_ALIGN * SHARD_ALIGN;
    s->offset = s->part * s->ranks.rank;
    s->n = s->ranks.rank == n - 1 ? s->elements - s->offset : s->part;
}

int64_t shard_elements(const struct shard_ranks *ranks, int64_t elements) {
    struct shard s = {.ranks = ranks ? *ranks : (struct shard_ranks){.n = 1}, .elements = elements};
    set_part(&s);
    return s.n;
}

int64_t shard_offset(const struct shard_ranks *ranks, int64_t elements) {
    struct shard s = {.ranks = *ranks, .elements = elements};
    set_part(&s);
    return s.offset;
}

int shard_open(struct shard *out, const struct kern_backend *b, const struct shard_ranks *ranks,
               int64_t elements) {
    struct shard s = {
        .backend = b, .ranks = ranks ? *ranks : (struct shard_ranks){.n = 1}, .elements = elements};
    if (s.ranks.n < 1 || s.ranks.n > SHARD_RANKS_MAX || s.ranks.rank < 0 ||
        s.ranks.rank >= s.ranks.n || (s.ranks.n > 1 && !s.ranks.coll))
        return FAIL(ERR_CONFIG, "rank %d of %d trainers", s.ranks.rank, s.ranks.n);
    set_part(&s);
    if (s.ranks.n > 1)
        TRY(kern_alloc(b, &s.bits,
                       (size_t)(s.ranks.n + 1) * HALVES * SHARD_SUMS_MAX * sizeof(float)));
    *out = s;
    return 0;
}

void shard_close(struct shard *s) {
    if (s->bits) kern_release(s->backend, s->bits);
    *s = (struct shard){0};
}

static struct kern_tensor slab_view(const struct kern_tensor *whole, int64_t at, int64_t n) {
    return kern_view1((float *)whole->data + at, KERN_F32, n);
}

static int64_t rest_of(const struct shard *s) {
    return s->elements - s->part * s->ranks.n;
}

int shard_reduce_scatter(const struct shard *s, struct kern_stream *stream, void *own,
                         const struct kern_tensor *whole) {
    int64_t equal = s->part * s->ranks.n, rest = rest_of(s);
    struct kern_tensor x = slab_view(whole, 0, equal), part = kern_view1(own, KERN_F32, s->part);
    if (s->part) TRY(kern_coll_reduce_scatter(s->backend, s->ranks.coll, stream, &part, &x));
    if (rest == 0) return 0;
    struct kern_tensor end = slab_view(whole, equal, rest);
    TRY(kern_coll_all_reduce(s->backend, s->ranks.coll, stream, &end));
    if (s->ranks.rank != s->ranks.n - 1) return 0;
    return kern_copy(s->backend, stream, (float *)own + s->part, end.data,
                     (size_t)rest * sizeof(float));
}

/* Nothing is added up, so bits travel: bf16 values in pairs, as floats. */
int shard_all_gather(const struct shard *s, struct kern_stream *stream,
                     const struct kern_tensor *whole) {
    const int64_t each = (int64_t)(sizeof(float) / kern_dtype_bytes(whole->dtype));
    int64_t equal = s->part * s->ranks.n / each, rest = rest_of(s) / each;
    struct kern_tensor x = slab_view(whole, 0, equal);
    struct kern_tensor part = slab_view(whole, s->offset / each, s->part / each);
    if (s->ranks.n == 1) return 0;
    if (rest_of(s) % each)
        return FAIL(ERR_CONFIG, "a slab of %" PRId64 " numbers of bf16", s->elements);
    if (s->part) TRY(kern_coll_all_gather(s->backend, s->ranks.coll, stream, &x, &part));
    if (rest == 0) return 0;
    struct kern_tensor end = slab_view(whole, equal, rest);
    return kern_coll_broadcast(s->backend, s->ranks.coll, stream, &end, s->ranks.n - 1);
}

int shard_sum(const struct shard *s, struct kern_stream *stream, double *x, int n) {
    double all[SHARD_SUMS_MAX];
    if (s->ranks.n == 1) return 0;
    ASSERT(n <= SHARD_SUMS_MAX);
    int64_t floats = (int64_t)n * HALVES;
    struct kern_tensor own = kern_view1(s->bits, KERN_F32, floats);
    struct kern_tensor gathered =
        kern_view1((float *)s->bits + floats, KERN_F32, floats * s->ranks.n);
    TRY(kern_put(s->backend, stream, own.data, x, (size_t)n * sizeof *x));
    TRY(kern_coll_all_gather(s->backend, s->ranks.coll, stream, &gathered, &own));
    memset(x, 0, (size_t)n * sizeof *x);
    for (int r = 0; r < s->ranks.n; r++) {
        const float *from = (const float *)gathered.data + (int64_t)r * floats;
        TRY(kern_get(s->backend, stream, all, from, (size_t)n * sizeof *all));
        for (int i = 0; i < n; i++)
            x[i] += all[i];
    }
    return 0;
}
