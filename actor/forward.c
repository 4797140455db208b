/* forward.c - the one forward of prefill, decode and training, and the check of what enters it.
 *
 * Every op used here is batch-invariant, and nothing here looks at how many rows there are, so a
 * row's bits depend on its own token, position and keys only (I6): a prompt prefilled in chunks, a
 * token decoded alone and the same token inside a training batch are the same numbers.
 *
 * The batch comes from files and sockets by way of the engine and the trainer, so all of its
 * indices are checked against the vocabulary, the context and the pool before an op sees them. It
 * is uploaded as one block: a decode step of a few rows would otherwise spend its time on six
 * copies. */
#include "actor/actor_impl.h"
#include "actor/inputs.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* --- the batch ------------------------------------------------------------------------------ */

static int out_of_range(const char *field, int64_t i, int64_t value, int64_t min, int64_t max) {
    return FAIL(ERR_CONFIG,
                "batch: %s[%" PRId64 "] is %" PRId64 ", allowed is %" PRId64 "..%" PRId64, field, i,
                value, min, max);
}

static int check_all(const char *field, const int32_t *x, int32_t n, int64_t max) {
    for (int32_t i = 0; i < n; i++)
        if (x[i] < 0 || x[i] > max) return out_of_range(field, i, x[i], 0, max);
    return 0;
}

/* The sizes first: they bound every loop and every array below. */
static int check_counts(const struct actor *a, const struct actor_batch *b) {
    const struct actor_config *c = &a->cfg;
    int32_t table = (int32_t)(((int64_t)c->context + c->page - 1) / c->page);
    if (b->n_rows < 1 || b->n_rows > c->rows_max - a->base)
        return FAIL(ERR_CONFIG, "batch: n_rows is %d, allowed is 1..%d", b->n_rows,
                    c->rows_max - a->base);
    if (b->n_seqs < 1 || b->n_seqs > c->seqs_max)
        return FAIL(ERR_CONFIG, "batch: n_seqs is %d, allowed is 1..%d", b->n_seqs, c->seqs_max);
    if (b->pages_max < 1 || b->pages_max > table)
        return FAIL(ERR_CONFIG, "batch: pages_max is %d, allowed is 1..%d (context %d, page %d)",
                    b->pages_max, table, c->context, c->page);
    return 0;
}

/* One sequence's pages and the places of its rows. Pages that lie before every row's window may
 * hold anything: the engine has given them back. */
static int check_sequence(const struct actor *a, const struct actor_batch *b, int32_t s) {
    const struct shape *shape = &a->cfg.shape;
    int32_t page = a->cfg.page, first = b->q_start[s], n = b->q_start[s + 1] - first;
    int32_t len = b->kv_len[s], window = shape->window_layer == 0 ? shape->window : 0;
    int64_t limit = (int64_t)b->pages_max * page;
    if (limit > a->cfg.context) limit = a->cfg.context;
    if (len < n || len > limit) return out_of_range("kv_len", s, len, n, limit);
    if (n == 0) return 0;
    const int32_t *pages = b->pages + (int64_t)s * b->pages_max;
    int32_t oldest = window && len - n - window + 1 > 0 ? len - n - window + 1 : 0;
    for (int32_t i = oldest / page; i * (int64_t)page < len; i++)
        if (pages[i] < 0 || pages[i] >= a->cfg.pages)
            return out_of_range("pages", (int64_t)s * b->pages_max + i, pages[i], 0,
                                a->cfg.pages - 1);
    for (int32_t r = 0; r < n; r++) {
        int32_t key = len - n + r, slot = pages[key / page] * page + key % page;
        if (b->slot[first + r] != slot)
            return FAIL(ERR_CONFIG,
                        "batch: slot[%d] is %d, but key %d of sequence %d lies at %d by its pages",
                        first + r, b->slot[first + r], key, s, slot);
    }
    return 0;
}

int actor_check(const struct actor *a, const struct actor_batch *b) {
    TRY(check_counts(a, b));
    TRY(check_all("ids", b->ids, b->n_rows, a->cfg.shape.vocab - 1));
    TRY(check_all("pos", b->pos, b->n_rows, a->cfg.context - 1));
    if (b->q_start[0] != 0) return out_of_range("q_start", 0, b->q_start[0], 0, 0);
    for (int32_t s = 0; s < b->n_seqs; s++)
        if (b->q_start[s + 1] < b->q_start[s] || b->q_start[s + 1] > b->n_rows)
            return out_of_range("q_start", s + 1, b->q_start[s + 1], b->q_start[s], b->n_rows);
    if (b->q_start[b->n_seqs] != b->n_rows)
        return out_of_range("q_start", b->n_seqs, b->q_start[b->n_seqs], b->n_rows, b->n_rows);
    for (int32_t s = 0; s < b->n_seqs; s++)
        TRY(check_sequence(a, b, s));
    return 0;
}

/* Appends n numbers to the block; pieces start at multiples of 64 bytes. */
static void *stage(struct actor *a, int64_t *used, const int32_t *x, int64_t n) {
    int64_t at = *used;
    ASSERT(at + n <= a->meta_max);
    memcpy(a->meta_host + at, x, (size_t)n * sizeof *x);
    *used = (at + n + 15) / 16 * 16;
    return (int32_t *)a->meta + at;
}

/* The views that the ops use. */
static void set_views(struct actor *a, const struct actor_batch *b, const struct actor_places *at,
                      int32_t q_max) {
    a->ids = kern_view1(at->ids, KERN_I32, b->n_rows);
    a->pos = kern_view1(at->pos, KERN_I32, b->n_rows);
    a->slot = kern_view1(at->slot, KERN_I32, b->n_rows);
    a->attn = (struct kern_attn){
        .q_start = kern_view1(at->q_start, KERN_I32, b->n_seqs + 1),
        .kv_len = kern_view1(at->kv_len, KERN_I32, b->n_seqs),
        .pages = kern_view2(at->pages, KERN_I32, b->n_seqs, b->pages_max),
        .n_seqs = b->n_seqs,
        .page = a->cfg.page,
        .q_max = q_max,
        .kv_max = at->kv_max,
        .scale = (float)(1.0 / sqrt((double)a->cfg.shape.head_width)),
    };
}

/* Stages the batch, fills the views and sends one block. Its length is what was staged, not the
 * maximum. Nobody waits for it: the block is left alone until somebody waits for the stream. */
static int upload(struct actor *a, const struct actor_batch *b) {
    int64_t used = 0, last, n_pages = (int64_t)b->n_seqs * b->pages_max;
    struct actor_places at = {0};
    int32_t q_max = 0;
    if (a->staged) TRY(actor_wait(a));
    at.ids = stage(a, &used, b->ids, b->n_rows);
    at.pos = stage(a, &used, b->pos, b->n_rows);
    at.slot = stage(a, &used, b->slot, b->n_rows);
    at.q_start = stage(a, &used, b->q_start, b->n_seqs + 1);
    at.kv_len = stage(a, &used, b->kv_len, b->n_seqs);
    last = used;
    at.pages = stage(a, &used, b->pages, n_pages);
    for (int32_t s = 0; s < b->n_seqs; s++) {
        int32_t rows = b->q_start[s + 1] - b->q_start[s];
        if (rows > q_max) q_max = rows;
        if (b->kv_len[s] > at.kv_max) at.kv_max = b->kv_len[s];
    }
    set_views(a, b, &at, q_max);
    a->staged = true;
    return kern_put(a->b, a->s, a->meta, a->meta_host, (size_t)(last + n_pages) * sizeof(int32_t));
}

int actor_wait(struct actor *a) {
    a->waits++;
    TRY(kern_sync(a->b, a->s));
    a->staged = false;
    return 0;
}

int64_t actor_waits(const struct actor *a) {
    return a->waits;
}

/* --- the layers ----------------------------------------------------------------------------- */

/* y[n, out] = x[n, in] w^T (+ bias) */
static int linear(struct actor *a, void *y, void *x, const struct actor_weight *w) {
    struct kern_tensor ty = actor_mat(a, y, a->n, w->w.dim[0]),
                       tx = actor_mat(a, x, a->n, w->w.dim[1]);
    return kern_matmul(a->b, a->s, &ty, &tx, &w->w, w->has_packed ? &w->packed : NULL,
                       w->has_bias ? &w->bias : NULL);
}

/* out = the norm of x */
static int norm(struct actor *a, void *out, void *x, const struct kern_tensor *w) {
    struct kern_tensor to = actor_mat(a, out, a->n, w->dim[0]),
                       tx = actor_mat(a, x, a->n, w->dim[0]);
    return kern_rmsnorm(a->b, a->s, &to, &tx, w, a->cfg.shape.norm_eps);
}

/* sum = x + y, and out = the norm of it: the block that adds to the residual stream and the one
 * that reads it next meet in one op. */
static int add_norm(struct actor *a, void *out, void *sum, void *x, void *y,
                    const struct kern_tensor *w) {
    int64_t d = a->cfg.shape.d;
    struct kern_tensor to = actor_mat(a, out, a->n, d), ts = actor_mat(a, sum, a->n, d);
    struct kern_tensor tx = actor_mat(a, x, a->n, d), ty = actor_mat(a, y, a->n, d);
    return kern_add_rmsnorm(a->b, a->s, &to, &ts, &tx, &ty, w, a->cfg.shape.norm_eps);
}

/* x = the rotation of x0, of the norm of each of its heads where the shape has one */
static int norm_rope(struct actor *a, void *x, void *x0, int32_t heads,
                     const struct kern_tensor *w) {
    const struct shape *s = &a->cfg.shape;
    int64_t half = s->head_width / 2;
    struct kern_tensor to = actor_heads(a, x, heads), from = actor_heads(a, x0, heads);
    struct kern_tensor cos = actor_f32(a->cos, a->cfg.context, half);
    struct kern_tensor sin = actor_f32(a->sin, a->cfg.context, half);
    return kern_norm_rope(a->b, a->s, &to, &from, s->qk_norm ? w : NULL, s->norm_eps, &a->pos, &cos,
                          &sin);
}

int actor_layer_input(struct actor *a, int32_t l) {
    const struct actor_acts t = actor_acts_at(a, l);
    return norm(a, t.h1, t.x0, &a->weights.layers[l].norm[NORM_IN]);
}

/* h1 -> k, v -> (k-norm) -> rope -> pool */
int actor_layer_keys(struct actor *a, int32_t l) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_layer *w = &a->weights.layers[l];
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    void *k0 = s->qk_norm ? t->k0 : a->k;
    struct kern_tensor k = actor_heads(a, a->k, s->kv_heads), v = actor_heads(a, a->v, s->kv_heads);
    struct kern_tensor pool_k = actor_pool(a, t->pool_k, actor_type(&a->cfg)),
                       pool_v = actor_pool(a, t->pool_v, actor_type(&a->cfg));
    TRY(linear(a, k0, t->h1, &w->mat[MAT_K]));
    TRY(linear(a, a->v, t->h1, &w->mat[MAT_V]));
    TRY(norm_rope(a, a->k, k0, s->kv_heads, &w->norm[NORM_K]));
    return kern_kv_write(a->b, a->s, &pool_k, &pool_v, &k, &v, &a->slot);
}

/* h1 -> q -> (q-norm) -> rope -> att -> x1, h2, over the keys */
int actor_layer_attention(struct actor *a, int32_t l) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_layer *w = &a->weights.layers[l];
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    struct kern_tensor q = actor_heads(a, t->q, s->heads);
    struct kern_tensor pool_k = actor_pool(a, t->pool_k, actor_type(&a->cfg)),
                       pool_v = actor_pool(a, t->pool_v, actor_type(&a->cfg));
    struct kern_tensor att = actor_heads(a, t->att, s->heads);
    struct kern_tensor lse = actor_f32(t->lse, a->n, s->heads);
    TRY(actor_layer_keys(a, l));
    TRY(linear(a, t->q0, t->h1, &w->mat[MAT_Q]));
    TRY(norm_rope(a, t->q, t->q0, s->heads, &w->norm[NORM_Q]));
    a->attn.window = shape_window(s, l);
    TRY(kern_attention(a->b, a->s, &att, &lse, &q, &pool_k, &pool_v, &a->attn));
    TRY(linear(a, a->o, t->att, &w->mat[MAT_O]));
    return add_norm(a, t->h2, t->x1, t->x0, a->o, &w->norm[NORM_POST]);
}

/* h2 -> gate, up -> act */
int actor_layer_ffn(struct actor *a, int32_t l) {
    const struct actor_layer *w = &a->weights.layers[l];
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    int64_t f = a->cfg.shape.ffn;
    TRY(linear(a, t->gate, t->h2, &w->mat[MAT_GATE]));
    TRY(linear(a, t->up, t->h2, &w->mat[MAT_UP]));
    struct kern_tensor gate = actor_mat(a, t->gate, a->n, f), up = actor_mat(a, t->up, a->n, f);
    struct kern_tensor act = actor_mat(a, a->act, a->n, f);
    return kern_swiglu(a->b, a->s, &act, &gate, &up);
}

/* act -> x2, and the norm of it: h1 of the next layer, hidden behind the last. */
static int layer_end(struct actor *a, int32_t l) {
    const struct actor_acts t = actor_acts_at(a, l);
    bool last = l == a->cfg.shape.layers - 1;
    void *out = last ? a->hidden : actor_acts_at(a, l + 1).h1;
    const struct kern_tensor *w = last ? &a->weights.norm : &a->weights.layers[l + 1].norm[NORM_IN];
    TRY(linear(a, a->o, a->act, &a->weights.layers[l].mat[MAT_DOWN]));
    TRY(inputs_settle(a, l + 1));
    TRY(add_norm(a, out, t.x2, t.x1, a->o, w));
    return inputs_save(a, l + 1);
}

int actor_last_norm(struct actor *a) {
    const struct actor_acts last = actor_acts_at(a, a->cfg.shape.layers - 1);
    return norm(a, a->hidden, last.x2, &a->weights.norm);
}

/* The residual stream from the embedding to the final norm, kept in hidden for the head. */
static int layers(struct actor *a) {
    const struct shape *s = &a->cfg.shape;
    struct kern_tensor x = actor_mat(a, actor_acts_at(a, 0).x0, a->n, s->d);
    TRY(inputs_settle(a, 0));
    TRY(kern_embed(a->b, a->s, &x, &a->weights.embed, &a->ids));
    TRY(inputs_save(a, 0));
    TRY(actor_layer_input(a, 0));
    for (int32_t l = 0; l < s->layers; l++) {
        if (a->keys_only && l == s->layers - 1) return actor_layer_keys(a, l);
        TRY(actor_layer_attention(a, l));
        TRY(actor_layer_ffn(a, l));
        TRY(layer_end(a, l));
    }
    return 0;
}

int actor_load(struct actor *a, const struct actor_batch *b) {
    a->n = 0;
    a->reverse = false;
    TRY(actor_check(a, b));
    TRY(upload(a, b));
    a->n = b->n_rows;
    a->n_seqs = b->n_seqs;
    a->slot0 = b->slot[0];
    a->keys_only = b->keys_only;
    return 0;
}

int actor_forward(struct actor *a, const struct actor_batch *batch) {
    if (!a->params) return FAIL(ERR_CONFIG, "actor: no weights in use");
    TRY(actor_load(a, batch));
    int rc = layers(a);
    if (rc < 0) a->n = 0;
    a->reverse = rc == 0 && a->cfg.train;
    return rc;
}

int actor_forward_at(struct actor *a, const struct actor_batch *b, const struct actor_places *at) {
    if (!a->params) return FAIL(ERR_CONFIG, "actor: no weights in use");
    a->n = 0;
    a->reverse = false;
    TRY(actor_check(a, b));
    if (b->n_rows != b->n_seqs || b->keys_only || at->kv_max > a->cfg.context)
        return FAIL(ERR_CONFIG,
                    "batch: %d rows of %d sequences, %d keys; wanted a row each, up to %d",
                    b->n_rows, b->n_seqs, at->kv_max, a->cfg.context);
    set_views(a, b, at, 1);
    a->n = b->n_rows;
    a->n_seqs = b->n_seqs;
    a->slot0 = b->slot[0];
    a->keys_only = false;
    int rc = layers(a);
    if (rc < 0) a->n = 0;
    return rc;
}
