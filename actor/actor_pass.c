/* actor_pass.c - a batch on its way to the ops: checked, uploaded, viewed.
 *
 * The batch comes from files and sockets by way of the engine and the trainer, so all of its
 * indices are checked against the vocabulary, the context and the pool before an op sees them. It
 * is uploaded as one block: a decode step of a few rows would otherwise spend its time on six
 * copies. */
#include "actor/actor_pass.h"

#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { PIECE = 16 }; /* pieces of the block start at multiples of so many elements: 64 bytes */

/* --- open and close ------------------------------------------------------------------------- */

/* The batch's six arrays with the padding between them; a page table has no more columns than the
 * context has pages. */
static int64_t meta_elements(const struct actor_config *cfg) {
    int64_t table = ((int64_t)cfg->context + cfg->page - 1) / cfg->page;
    return 3 * (int64_t)cfg->rows_max + 2 * (int64_t)cfg->seqs_max + 1 +
           (int64_t)cfg->seqs_max * table + 6 * PIECE;
}

void actor_pass_carve(struct actor_pass *p, struct actor_carve *c, const struct actor_config *cfg) {
    int64_t half = cfg->shape.head_width / 2;
    p->meta = actor_carve_f32(c, meta_elements(cfg), 1);
    p->cos = kern_view2(actor_carve_f32(c, cfg->context, half), KERN_F32, cfg->context, half);
    p->sin = kern_view2(actor_carve_f32(c, cfg->context, half), KERN_F32, cfg->context, half);
}

/* Made on the host in double once; they are a few megabytes even at 128k positions. */
static int fill_rope_tables(struct actor_pass *p) {
    size_t n = (size_t)kern_elements(&p->cos);
    float *cos = mem_array(n, sizeof *cos), *sin = mem_array(n, sizeof *sin);
    int rc;
    shape_rope_tables(&p->cfg->shape, p->cfg->context, cos, sin);
    TRY_OUT(kern_put(p->b, p->s, p->cos.data, cos, n * sizeof *cos));
    TRY_OUT(kern_put(p->b, p->s, p->sin.data, sin, n * sizeof *sin));
    TRY_OUT(kern_sync(p->b, p->s));
out:
    mem_free(cos);
    mem_free(sin);
    return rc;
}

int actor_pass_open(struct actor_pass *p) {
    void *meta = NULL;
    TRY(kern_alloc_host(p->b, &meta, (size_t)meta_elements(p->cfg) * sizeof *p->meta_host));
    p->meta_host = meta;
    if (p->cfg->train) p->slot_mark = mem_array((size_t)p->cfg->pages, (size_t)p->cfg->page);
    return fill_rope_tables(p);
}

void actor_pass_close(struct actor_pass *p) {
    mem_free(p->slot_mark);
    kern_release_host(p->b, p->meta_host);
}

void actor_pass_check(const struct actor_pass *p) {
    const struct actor_config *c = p->cfg;
    ASSERT(p->n >= 0 && p->base >= 0 && p->base + p->n <= c->rows_max);
    ASSERT(p->n == 0 || (p->n_seqs >= 1 && p->n_seqs <= c->seqs_max));
    ASSERT(!p->whole || (c->train && p->n > 0 && !p->is_segment));
    ASSERT(p->keys >= 0 && p->keys <= c->segment_keys);
    ASSERT(p->base == (c->offload_segments ? 0 : p->keys));
}

/* --- checks of a batch ---------------------------------------------------------------------- */

static int out_of_range(const char *field, int64_t i, int64_t value, int64_t min, int64_t max) {
    return FAIL(ERR_CONFIG,
                "batch: %s[%" PRId64 "] is %" PRId64 ", allowed is %" PRId64 "..%" PRId64, field, i,
                value, min, max);
}

static int check_entries(const char *field, const int32_t *x, int32_t n, int64_t max) {
    for (int32_t i = 0; i < n; i++)
        if (x[i] < 0 || x[i] > max) return out_of_range(field, i, x[i], 0, max);
    return 0;
}

/* The sizes first: they bound every loop and every array below. */
static int check_counts(const struct actor_pass *p, const struct actor_batch *b) {
    const struct actor_config *c = p->cfg;
    int32_t table = (int32_t)(((int64_t)c->context + c->page - 1) / c->page);
    if (b->n_rows < 1 || b->n_rows > c->rows_max - p->base)
        return FAIL(ERR_CONFIG, "batch: n_rows is %d, allowed is 1..%d", b->n_rows,
                    c->rows_max - p->base);
    if (b->n_seqs < 1 || b->n_seqs > c->seqs_max)
        return FAIL(ERR_CONFIG, "batch: n_seqs is %d, allowed is 1..%d", b->n_seqs, c->seqs_max);
    if (b->pages_max < 1 || b->pages_max > table)
        return FAIL(ERR_CONFIG, "batch: pages_max is %d, allowed is 1..%d (context %d, page %d)",
                    b->pages_max, table, c->context, c->page);
    return 0;
}

/* One sequence's pages and the places of its rows. Pages that lie before every row's window may
 * hold anything: the engine has given them back. */
static int check_sequence(const struct actor_pass *p, const struct actor_batch *b, int32_t s) {
    const struct shape *shape = &p->cfg->shape;
    int32_t page = p->cfg->page, first = b->q_start[s], n = b->q_start[s + 1] - first;
    int32_t len = b->kv_len[s], window = shape->window_layer == 0 ? shape->window : 0;
    int64_t limit = (int64_t)b->pages_max * page;
    if (limit > p->cfg->context) limit = p->cfg->context;
    if (len < n || len > limit) return out_of_range("kv_len", s, len, n, limit);
    if (n == 0) return 0;
    const int32_t *pages = b->pages + (int64_t)s * b->pages_max;
    int32_t oldest = window && len - n - window + 1 > 0 ? len - n - window + 1 : 0;
    for (int32_t i = oldest / page; i * (int64_t)page < len; i++)
        if (pages[i] < 0 || pages[i] >= p->cfg->pages)
            return out_of_range("pages", (int64_t)s * b->pages_max + i, pages[i], 0,
                                p->cfg->pages - 1);
    for (int32_t r = 0; r < n; r++) {
        int32_t key = len - n + r, slot = pages[key / page] * page + key % page;
        if (b->slot[first + r] != slot)
            return FAIL(ERR_CONFIG,
                        "batch: slot[%d] is %d, but key %d of sequence %d lies at %d by its pages",
                        first + r, b->slot[first + r], key, s, slot);
    }
    return 0;
}

int actor_pass_check_batch(const struct actor_pass *p, const struct actor_batch *b) {
    TRY(check_counts(p, b));
    TRY(check_entries("ids", b->ids, b->n_rows, p->cfg->shape.vocab - 1));
    TRY(check_entries("pos", b->pos, b->n_rows, p->cfg->context - 1));
    if (b->q_start[0] != 0) return out_of_range("q_start", 0, b->q_start[0], 0, 0);
    for (int32_t s = 0; s < b->n_seqs; s++)
        if (b->q_start[s + 1] < b->q_start[s] || b->q_start[s + 1] > b->n_rows)
            return out_of_range("q_start", s + 1, b->q_start[s + 1], b->q_start[s], b->n_rows);
    if (b->q_start[b->n_seqs] != b->n_rows)
        return out_of_range("q_start", b->n_seqs, b->q_start[b->n_seqs], b->n_rows, b->n_rows);
    for (int32_t s = 0; s < b->n_seqs; s++)
        TRY(check_sequence(p, b, s));
    return 0;
}

/* A gradient that arrived at a place of no row would be lost, one that arrived at a place of two
 * counted twice. */
int actor_pass_check_keys(struct actor_pass *p, const struct actor_batch *b) {
    int32_t page = p->cfg->page, slots = p->cfg->pages * page;
    memset(p->slot_mark, 0, (size_t)slots);
    memset(p->slot_mark, 1, (size_t)p->keys);
    p->slots = p->keys;
    for (int32_t r = 0; r < b->n_rows; r++) {
        if (b->slot[r] < 0 || b->slot[r] >= slots || p->slot_mark[b->slot[r]])
            return FAIL(ERR_CONFIG, "backward: slot[%d] = %d is not the row's own", r, b->slot[r]);
        p->slot_mark[b->slot[r]] = 1;
        if (b->slot[r] >= p->slots) p->slots = b->slot[r] + 1;
    }
    for (int32_t s = 0; s < b->n_seqs; s++) {
        const int32_t *pages = b->pages + (int64_t)s * b->pages_max;
        int32_t own = b->q_start[s + 1] - b->q_start[s];
        for (int32_t key = 0; key < b->kv_len[s] - own; key++) {
            int32_t at = pages[key / page];
            if (at < 0 || at >= p->cfg->pages || !p->slot_mark[at * page + key % page])
                return FAIL(ERR_CONFIG,
                            "backward: key %d of sequence %d is of no row of this batch", key, s);
        }
    }
    return 0;
}

/* --- upload --------------------------------------------------------------------------------- */

/* Appends n numbers to the block that goes to the device in one piece. */
static void *stage(struct actor_pass *p, int64_t *used, const int32_t *x, int64_t n) {
    int64_t at = *used;
    ASSERT(at + n <= meta_elements(p->cfg));
    memcpy(p->meta_host + at, x, (size_t)n * sizeof *x);
    *used = (at + n + PIECE - 1) / PIECE * PIECE;
    return (int32_t *)p->meta + at;
}

/* Makes b, whose arrays lie at these places, the newest pass: the views that the ops use. */
static void set_newest(struct actor_pass *p, const struct actor_batch *b,
                       const struct actor_places *at, int32_t q_max) {
    p->n = b->n_rows;
    p->n_seqs = b->n_seqs;
    p->slot0 = b->slot[0];
    p->keys_only = b->keys_only;
    p->ids = kern_view1(at->ids, KERN_I32, b->n_rows);
    p->pos = kern_view1(at->pos, KERN_I32, b->n_rows);
    p->slot = kern_view1(at->slot, KERN_I32, b->n_rows);
    p->attn = (struct kern_attn){
        .q_start = kern_view1(at->q_start, KERN_I32, b->n_seqs + 1),
        .kv_len = kern_view1(at->kv_len, KERN_I32, b->n_seqs),
        .pages = kern_view2(at->pages, KERN_I32, b->n_seqs, b->pages_max),
        .n_seqs = b->n_seqs,
        .page = p->cfg->page,
        .q_max = q_max,
        .kv_max = at->kv_max,
        .scale = (float)(1.0 / sqrt((double)p->cfg->shape.head_width)),
    };
    actor_pass_check(p);
}

/* The length of what is sent is what was staged, not the maximum. Nobody waits for it: the block is
 * left alone until somebody waits for the stream. */
int actor_pass_load(struct actor_pass *p, const struct actor_batch *b) {
    int64_t used = 0, last, n_pages = (int64_t)b->n_seqs * b->pages_max;
    struct actor_places at = {0};
    int32_t q_max = 0;
    actor_pass_reset(p);
    TRY(actor_pass_check_batch(p, b));
    if (p->staged) TRY(actor_pass_wait(p));
    at.ids = stage(p, &used, b->ids, b->n_rows);
    at.pos = stage(p, &used, b->pos, b->n_rows);
    at.slot = stage(p, &used, b->slot, b->n_rows);
    at.q_start = stage(p, &used, b->q_start, b->n_seqs + 1);
    at.kv_len = stage(p, &used, b->kv_len, b->n_seqs);
    last = used;
    at.pages = stage(p, &used, b->pages, n_pages);
    for (int32_t s = 0; s < b->n_seqs; s++) {
        int32_t rows = b->q_start[s + 1] - b->q_start[s];
        if (rows > q_max) q_max = rows;
        if (b->kv_len[s] > at.kv_max) at.kv_max = b->kv_len[s];
    }
    p->staged = true;
    TRY(kern_put(p->b, p->s, p->meta, p->meta_host, (size_t)(last + n_pages) * sizeof(int32_t)));
    set_newest(p, b, &at, q_max);
    return 0;
}

int actor_pass_load_at(struct actor_pass *p, const struct actor_batch *b,
                       const struct actor_places *at) {
    actor_pass_reset(p);
    TRY(actor_pass_check_batch(p, b));
    if (b->n_rows != b->n_seqs || b->keys_only || at->kv_max > p->cfg->context)
        return FAIL(ERR_CONFIG,
                    "batch: %d rows of %d sequences, %d keys; wanted a row each, up to %d",
                    b->n_rows, b->n_seqs, at->kv_max, p->cfg->context);
    set_newest(p, b, at, 1);
    return 0;
}

int actor_pass_wait(struct actor_pass *p) {
    p->waits++;
    TRY(kern_sync(p->b, p->s));
    p->staged = false;
    return 0;
}
