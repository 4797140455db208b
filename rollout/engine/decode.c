/* decode.c - recordings of decode steps, by buckets.
 *
 * A decode step on a GPU is hundreds of launches that each take less time than issuing them. What
 * is issued follows from four numbers only: rows, width of the page table, whether a row is forced,
 * and where the weights lie. So rows are rounded up to a power of two and the width to one of its
 * own, and what is issued for these is recorded once, with one copy in front (the batch and the
 * sampling parameters, one block of pinned memory) and one behind (token, log-prob and mass kept).
 * Then a step is one launch and one wait.
 *
 * The rows that fill a bucket up are sequences of their own on spare pages behind the engine's, so
 * they change nobody's keys, and by batch invariance (I6) nobody's bits. Greedy and of one page,
 * they cost little. A width only says how many page numbers a row of the table has and how far
 * attention's launch reaches, which does not change bits either (attention_fwd.cu).
 *
 * A bucket's first step is issued plainly, so that libraries choose their algorithms and kernels
 * are loaded outside of a recording; its second is recorded. Recordings of two slabs of weights
 * live side by side, since rollouts take versions into two by turns; the least recently used goes
 * when there are RECORDINGS. A recording that fails is logged, and steps are issued plainly from
 * then on. */
#include "rollout/engine/decode.h"

#include "base/log.h"
#include "base/mem.h"

#include <string.h>

enum { RECORDINGS = 64, KEYS = 256, WORDS = 16 /* of a cache line */ };

struct bucket {
    int32_t rows, width; /* sequences; pages of each */
    bool forced;
    const void *weights;
};

struct recording {
    struct bucket of;
    struct kern_graph *graph; /* NULL: issued once, not recorded yet */
    uint64_t used;            /* when, in steps; 0: free */
};

struct block { /* where a bucket's arrays begin, in words */
    int64_t ids, pos, slot, q_start, kv_len, pages, slab, results, end;
};

struct decode {
    struct decode_config cfg;
    const struct kern_backend *b;
    struct actor *actor;
    int32_t page, pages_max; /* keys of a page; pages of a sequence */
    void *host, *device;     /* the block, of the largest bucket */
    struct bucket now;       /* of the newest step */
    struct recording recordings[RECORDINGS];
    bool plain; /* a recording failed */
    uint64_t steps;
    struct decode_counts counts;
};

/* The largest is of seqs_max rows, power of two or not. */
static int32_t rows_bucket(int32_t n, int32_t seqs_max) {
    int32_t rows = 1;
    while (rows < n)
        rows *= 2;
    return rows < seqs_max ? rows : seqs_max;
}

int32_t decode_spare_pages(int32_t seqs_max, int32_t page) {
    int32_t most = 0;
    for (int32_t n = 1; n <= seqs_max; n = rows_bucket(n, seqs_max) + 1)
        if (rows_bucket(n, seqs_max) - n > most) most = rows_bucket(n, seqs_max) - n;
    return (most + page - 1) / page;
}

static int32_t pages_of_one(const struct actor_config *a) {
    return (a->context + a->page - 1) / a->page;
}

static struct block block_of(int32_t rows, int32_t width) {
    const int64_t sizes[] = {rows, rows, rows, rows + 1, rows, (int64_t)rows * width};
    struct block x;
    int64_t *at[] = {&x.ids, &x.pos, &x.slot, &x.q_start, &x.kv_len, &x.pages}, used = 0;
    for (int i = 0; i < 6; i++) {
        *at[i] = used;
        used += (sizes[i] + WORDS - 1) / WORDS * WORDS;
    }
    x.slab = used;
    x.results = used + (int64_t)(sampler_input_bytes(rows) / sizeof(int32_t));
    x.end = used + (int64_t)(sampler_bytes(rows) / sizeof(int32_t));
    return x;
}

size_t decode_bytes(const struct actor_config *a) {
    return (size_t)block_of(a->seqs_max, pages_of_one(a)).end * sizeof(int32_t);
}

int decode_open(struct decode **out, const struct decode_config *cfg) {
    int rc = 0;
    const struct actor_config *a = actor_config(cfg->actor);
    struct decode *d = mem_zalloc(sizeof *d);
    d->cfg = *cfg;
    d->b = a->backend;
    d->actor = cfg->actor;
    d->page = a->page;
    d->pages_max = pages_of_one(a);
    if (d->cfg.keys == 0) d->cfg.keys = KEYS;
    ASSERT(kern_records(d->b) && cfg->seqs_max <= a->seqs_max);
    ASSERT(cfg->pages + decode_spare_pages(cfg->seqs_max, a->page) <= a->pages);
    TRY_OUT(kern_alloc(d->b, &d->device, decode_bytes(a)));
    TRY_OUT(kern_alloc_host(d->b, &d->host, decode_bytes(a)));
    *out = d;
    d = NULL;
out:
    decode_close(&d);
    return rc;
}

void decode_close(struct decode **pd) {
    struct decode *d = *pd;
    if (!d) return;
    for (int i = 0; i < RECORDINGS; i++)
        kern_graph_close(d->b, d->recordings[i].graph);
    kern_release(d->b, d->device);
    kern_release_host(d->b, d->host);
    mem_free(d);
    *pd = NULL;
}

void decode_counts(const struct decode *d, struct decode_counts *out) {
    *out = d->counts;
}

/* --- the block ------------------------------------------------------------------------------ */

static int32_t *words(const struct decode *d, int64_t at) {
    return (int32_t *)d->host + at;
}

static struct sampler_slab slab_of(const struct decode *d, const struct block *x) {
    return (struct sampler_slab){d->now.rows, words(d, x->slab), (int32_t *)d->device + x->slab};
}

static int32_t width_bucket(const struct decode *d, struct seq *const *seqs, int32_t n) {
    int32_t width = (d->cfg.keys + d->page - 1) / d->page, keys = 0;
    for (int32_t i = 0; i < n; i++)
        if (seqs[i]->n > keys) keys = seqs[i]->n;
    while (width < d->pages_max && width * (int64_t)d->page < keys)
        width *= 2;
    return width < d->pages_max ? width : d->pages_max;
}

/* Row i feeds this token as key `key`, the last of its sequence. */
static void set_row(const struct decode *d, const struct block *x, int32_t i, int32_t token,
                    int32_t key, const int32_t *pages, int32_t n_pages) {
    int32_t *table = words(d, x->pages) + (int64_t)i * d->now.width;
    words(d, x->ids)[i] = token;
    words(d, x->pos)[i] = key;
    words(d, x->slot)[i] = pages[key / d->page] * d->page + key % d->page;
    words(d, x->q_start)[i] = i;
    words(d, x->kv_len)[i] = key + 1;
    if (n_pages > d->now.width) n_pages = d->now.width;
    memcpy(table, pages, (size_t)n_pages * sizeof *table);
    memset(table + n_pages, 0, (size_t)(d->now.width - n_pages) * sizeof *table);
}

/* The rows behind n: the spare pages' keys, one after another. */
static void set_spare_rows(const struct decode *d, const struct block *x, int32_t n) {
    for (int32_t i = n; i < d->now.rows; i++) {
        int32_t page = d->cfg.pages + (i - n) / d->page;
        set_row(d, x, i, 0, (i - n) % d->page, &page, 1);
    }
    words(d, x->q_start)[d->now.rows] = d->now.rows;
}

static struct actor_batch batch_of(const struct decode *d, const struct block *x) {
    return (struct actor_batch){.n_rows = d->now.rows,
                                .n_seqs = d->now.rows,
                                .pages_max = d->now.width,
                                .ids = words(d, x->ids),
                                .pos = words(d, x->pos),
                                .slot = words(d, x->slot),
                                .q_start = words(d, x->q_start),
                                .kv_len = words(d, x->kv_len),
                                .pages = words(d, x->pages)};
}

/* --- issuing, recording --------------------------------------------------------------------- */

/* All of a step, of the bucket d->now. */
static int issue(const struct decode *d, const struct block *x) {
    struct kern_stream *s = actor_stream(d->actor);
    struct actor_batch batch = batch_of(d, x);
    struct sampler_slab slab = slab_of(d, x);
    int32_t *at = d->device, rows = batch.n_rows, some = actor_config(d->actor)->head_rows;
    int64_t keys = (int64_t)d->now.width * d->page, most = actor_config(d->actor)->context;
    struct actor_places places = {at + x->ids,
                                  at + x->pos,
                                  at + x->slot,
                                  at + x->q_start,
                                  at + x->kv_len,
                                  at + x->pages,
                                  (int32_t)(keys < most ? keys : most)};
    TRY(kern_put(d->b, s, at, d->host, (size_t)x->results * sizeof *at));
    TRY(actor_forward_at(d->actor, &batch, &places));
    for (int32_t i = 0; i < rows; i += some) {
        struct kern_tensor logits;
        int32_t n = rows - i < some ? rows - i : some;
        TRY(actor_logits_at(d->actor, &i, NULL, n, &logits));
        TRY(sampler_issue(d->cfg.sampler, s, &slab, &logits, i, n, d->now.forced));
    }
    return sampler_get(d->cfg.sampler, s, &slab);
}

static bool same_bucket(const struct bucket *a, const struct bucket *b) {
    return a->rows == b->rows && a->width == b->width && a->forced == b->forced &&
           a->weights == b->weights;
}

/* That of d->now; a new one takes the place of the least recently used. *first: it is new. */
static struct recording *find_recording(struct decode *d, bool *first) {
    struct recording *oldest = &d->recordings[0];
    *first = false;
    for (int i = 0; i < RECORDINGS; i++) {
        struct recording *r = &d->recordings[i];
        if (r->used && same_bucket(&r->of, &d->now)) return r;
        if (r->used < oldest->used) oldest = r;
    }
    kern_graph_close(d->b, oldest->graph);
    *oldest = (struct recording){.of = d->now};
    *first = true;
    return oldest;
}

static int record(struct decode *d, const struct block *x, struct recording *r) {
    struct kern_stream *s = actor_stream(d->actor);
    struct kern_graph *graph = NULL;
    TRY(kern_record_begin(d->b, s));
    int rc = issue(d, x), end = kern_record_end(d->b, s, &graph);
    if (rc < 0 || end < 0) {
        kern_graph_close(d->b, graph);
        return rc < 0 ? rc : end;
    }
    r->graph = graph;
    d->counts.records++;
    LOG(DEBUG, ROLLOUT, "decode=recorded rows=%d keys=%d forced=%d recordings=%lld",
        (int)d->now.rows, (int)(d->now.width * d->page), (int)d->now.forced,
        (long long)d->counts.records);
    return 0;
}

static int run(struct decode *d, const struct block *x) {
    bool first;
    struct recording *r = find_recording(d, &first);
    r->used = ++d->steps;
    if (!first && !r->graph && !d->plain && record(d, x, r) < 0) {
        LOG(WARN, ROLLOUT, "decode=plain rows=%d keys=%d recording failed: %s", (int)d->now.rows,
            (int)(d->now.width * d->page), err_text());
        d->plain = true;
    }
    if (!r->graph) return issue(d, x);
    d->counts.replays++;
    return kern_replay(d->b, actor_stream(d->actor), r->graph);
}

int decode_issue(struct decode *d, struct seq *const *seqs, const struct sampler_row *rows,
                 int32_t n, const void *weights) {
    ASSERT(n > 0 && n <= d->cfg.seqs_max);
    d->now = (struct bucket){.rows = rows_bucket(n, d->cfg.seqs_max),
                             .width = width_bucket(d, seqs, n),
                             .weights = weights};
    struct block x = block_of(d->now.rows, d->now.width);
    struct sampler_slab slab = slab_of(d, &x);
    for (int32_t i = 0; i < n; i++)
        set_row(d, &x, i, seqs[i]->tokens[seqs[i]->n - 1], seqs[i]->n - 1, seqs[i]->pages,
                seqs[i]->n_pages);
    set_spare_rows(d, &x, n);
    memset(slab.host, 0, sampler_input_bytes(slab.rows)); /* spare rows: greedy */
    sampler_fill(d->cfg.sampler, &slab, rows, n, &d->now.forced);
    struct actor_batch batch = batch_of(d, &x);
    TRY(actor_check(d->actor, &batch));
    return run(d, &x);
}

int decode_read(const struct decode *d, const struct sampler_row *rows, int32_t n,
                struct sampler_token *out) {
    struct block x = block_of(d->now.rows, d->now.width);
    struct sampler_slab slab = slab_of(d, &x);
    return sampler_read(&slab, rows, n, out);
}
