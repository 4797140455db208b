/* frame.c - the stack of frames: rows whose reverse waits (actor_push, actor_pop).
 *
 * A shared level of many sequences is computed once and reversed once, after all that read its
 * keys: its activations have to outlive their passes. Frames and the newest batch share one set of
 * activation arrays: a frame keeps the rows it was computed in and the next forward begins behind
 * them (base), so that a frame costs no copy and the memory plan is one number of rows. With
 * `offload` the rows are copied to the host and given back instead; the reverse of a frame brings
 * them back to the rows that are free by then.
 *
 * Keys and values stay in the pool either way: that is what the passes in between read. */
#include "actor/actor_impl.h"
#include "actor/inputs.h"
#include "base/mem.h"

/* --- offload ------------------------------------------------------------------------------- */

enum { KEPT_MAX = 12 };

struct kept { /* arrays of a layer that its reverse needs, and the bytes of their rows */
    void *p[KEPT_MAX];
    size_t row[KEPT_MAX], size;
    int n;
};

static void keep_sized(struct kept *k, void *p, int64_t width, size_t size) {
    ASSERT(k->n < KEPT_MAX);
    k->p[k->n] = p;
    k->row[k->n++] = (size_t)width * size;
}

static void keep(struct kept *k, void *p, int64_t width) {
    keep_sized(k, p, width, k->size);
}

static struct kept kept_of(const struct actor_config *cfg, const struct actor_acts *t, int32_t l) {
    const struct shape *s = &cfg->shape;
    int64_t q = (int64_t)s->heads * s->head_width, kv = (int64_t)s->kv_heads * s->head_width;
    struct kept k = {.size = actor_size(cfg)};
    keep(&k, t->x0, s->d);
    if (l == s->layers - 1) keep(&k, t->x2, s->d);
    if (actor_recomputes(cfg, l)) return k;
    keep(&k, t->h1, s->d);
    keep(&k, t->q, q);
    if (s->qk_norm) keep(&k, t->q0, q);
    if (s->qk_norm) keep(&k, t->k0, kv);
    keep(&k, t->att, q);
    keep_sized(&k, t->lse, s->heads, sizeof(float));
    keep(&k, t->x1, s->d);
    keep(&k, t->h2, s->d);
    keep(&k, t->gate, s->ffn);
    keep(&k, t->up, s->ffn);
    return k;
}

size_t actor_kept_bytes(const struct actor_config *cfg) {
    const struct actor_acts none = {0};
    size_t bytes = 0;
    for (int32_t l = 0; l < cfg->shape.layers; l++) {
        struct kept k = kept_of(cfg, &none, l);
        for (int i = 0; i < k.n; i++)
            bytes += k.row[i];
    }
    return bytes;
}

/* The rows of the loaded or newest batch, to the host (save) or back; inputs that wait there are
 * only moved aside. */
static int move(struct actor *a, const struct actor_frame *f, bool save) {
    char *host = a->host + (size_t)f->key * actor_kept_bytes(&a->cfg);
    for (int32_t l = 0; l < a->cfg.shape.layers; l++) {
        const struct actor_acts t = actor_acts_at(a, l);
        struct kept k = kept_of(&a->cfg, &t, l);
        for (int i = 0; i < k.n; i++) {
            size_t n = (size_t)f->rows * k.row[i];
            bool waits = i == 0 && inputs_wait(&a->cfg) && actor_recomputes(&a->cfg, l);
            if (waits)
                TRY(inputs_exchange(a, l, host, n, save));
            else if (save)
                TRY(kern_get(a->b, a->s, host, k.p[i], n));
            else
                TRY(kern_put(a->b, a->s, k.p[i], host, n));
            host += n;
        }
    }
    return 0;
}

/* --- the stack ----------------------------------------------------------------------------- */

static int check_push(const struct actor *a) {
    if (!a->reverse)
        return FAIL(ERR_CONFIG, "push: no training forward, or its activations are used up");
    if (a->n_seqs != 1 || a->slot0 != a->keys)
        return FAIL(ERR_CONFIG,
                    "push: a frame is one sequence in the slots from %d on, not %d in"
                    " those from %d on",
                    a->keys, a->n_seqs, a->slot0);
    if (a->n % a->cfg.page || a->n > a->cfg.frames - a->keys)
        return FAIL(ERR_CONFIG, "push: %d rows, allowed are multiples of %d up to %d", a->n,
                    a->cfg.page, a->cfg.frames - a->keys);
    return 0;
}

/* No gradient has arrived at the keys from a->keys on yet. */
static int clear_gradient(struct actor *a) {
    int64_t kv = (int64_t)a->cfg.shape.kv_heads * a->cfg.shape.head_width;
    size_t bytes = (size_t)a->n * (size_t)kv * sizeof(float);
    for (int32_t l = 0; l < a->cfg.shape.layers; l++) {
        TRY(kern_zero(a->b, a->s, actor_row_f32(a->acts[l].kept_gk, a->keys, kv), bytes));
        TRY(kern_zero(a->b, a->s, actor_row_f32(a->acts[l].kept_gv, a->keys, kv), bytes));
    }
    return 0;
}

int actor_push(struct actor *a) {
    TRY(check_push(a));
    struct actor_frame f = {.rows = a->n, .key = a->keys, .keys_only = a->keys_only};
    TRY(clear_gradient(a));
    if (a->cfg.offload) TRY(move(a, &f, true));
    mem_grow(&a->frame, &a->frame_cap, (size_t)a->n_frames + 1, sizeof *a->frame);
    a->frame[a->n_frames++] = f;
    a->keys += f.rows;
    if (!a->cfg.offload) a->base += f.rows;
    a->n = 0;
    a->reverse = false;
    return 0;
}

static int check_pop(const struct actor_frame *f, const struct actor_batch *b, int64_t n) {
    if (b->n_rows != f->rows || b->n_seqs != 1 || b->slot[0] != f->key ||
        b->keys_only != f->keys_only)
        return FAIL(ERR_CONFIG, "pop: another batch than the newest frame's, of %d rows from %d on",
                    f->rows, f->key);
    if (n > 0 && f->keys_only) return FAIL(ERR_CONFIG, "pop: a frame of keys only has no head");
    return 0;
}

int actor_pop(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
              const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss, void *ctx,
              struct params *grads) {
    if (a->n_frames == 0) return FAIL(ERR_CONFIG, "pop: there is no frame");
    struct actor_frame f = a->frame[a->n_frames - 1];
    TRY(check_pop(&f, batch, n));
    a->n_frames--;
    a->keys = f.key;
    if (!a->cfg.offload) a->base -= f.rows;
    TRY(actor_load(a, batch));
    inputs_forget(a);
    if (a->cfg.offload) TRY(move(a, &f, false));
    if (!f.keys_only) TRY(actor_last_norm(a));
    return actor_reverse(a, batch, rows, targets, n, inv_temp, loss, ctx, grads, true);
}

void actor_unwind(struct actor *a) {
    a->n_frames = a->base = a->keys = 0;
    a->n = 0;
    a->reverse = false;
}
