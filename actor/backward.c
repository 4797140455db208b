/* backward.c - the reverse of forward.c, layer by layer from the last, written out by hand: each
 * line is the reverse of one line there.
 *
 * g [n, d] is the gradient of the residual stream and flows through all layers in one buffer: a
 * block adds its part to it (rmsnorm_bwd accumulates), which is the reverse of x + block(x). Weight
 * gradients are added into grads, so microbatches sum there. Keys and values get their gradients in
 * pools of one layer's size with the same pages, because attention reads them there.
 *
 * What arrives at keys of live frames is added up in kept_gk, kept_gv of the layer until the
 * frame's own reverse (actor_pop) takes it from there.
 *
 * A recomputed layer's forward runs again from its saved input first; being the same code on the
 * same bits it leaves the same activations, so the gradients are equal too. */
#include "actor/actor_impl.h"
#include "actor/inputs.h"

#include <inttypes.h>
#include <string.h>

/* gw += gy^T x, gbias += column sums; and gx (=, +=) gy w. */
static int linear_bwd(struct actor *a, int32_t l, enum actor_matrix m, void *gx, void *gy, void *x,
                      bool accumulate) {
    const struct actor_weight *w = &a->weights.layers[l].mat[m], *g = &a->grads.layers[l].mat[m];
    struct kern_tensor ty = actor_mat(a, gy, a->n, w->w.dim[0]);
    struct kern_tensor tx = actor_mat(a, x, a->n, w->w.dim[1]);
    struct kern_tensor tgx = actor_mat(a, gx, a->n, w->w.dim[1]);
    TRY(kern_matmul_dw(a->b, a->s, &g->w, g->has_bias ? &g->bias : NULL, &ty, &tx));
    return kern_matmul_dx(a->b, a->s, &tgx, &ty, &w->w, accumulate);
}

/* gx (=, +=) the norm's reverse at x; gw accumulates. */
static int norm_bwd(struct actor *a, void *gx, void *gout, void *x, int64_t rows,
                    const struct kern_tensor *w, const struct kern_tensor *gw, bool accumulate) {
    struct kern_tensor tgx = actor_mat(a, gx, rows, w->dim[0]),
                       tx = actor_mat(a, x, rows, w->dim[0]);
    struct kern_tensor tg = actor_mat(a, gout, rows, w->dim[0]);
    return kern_rmsnorm_bwd(a->b, a->s, &tgx, gw, &tg, &tx, w, a->cfg.shape.norm_eps, accumulate);
}

/* x2 = x1 + down(swiglu(gate(h2), up(h2))): g is d loss / d x2 before, d loss / d x1 after. */
static int ffn_bwd(struct actor *a, int32_t l) {
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    int64_t f = a->cfg.shape.ffn;
    struct kern_tensor gate = actor_mat(a, t->gate, a->n, f), up = actor_mat(a, t->up, a->n, f);
    struct kern_tensor act = actor_mat(a, a->act, a->n, f), gact = actor_mat(a, a->gact, a->n, f);
    if (!actor_recomputes(&a->cfg, l)) TRY(kern_swiglu(a->b, a->s, &act, &gate, &up));
    TRY(linear_bwd(a, l, MAT_DOWN, a->gact, a->g, a->act, false));
    TRY(kern_swiglu_bwd(a->b, a->s, &gate, &up, &gact, &gate, &up)); /* now their gradients */
    TRY(linear_bwd(a, l, MAT_GATE, a->gh, t->gate, t->h2, false));
    TRY(linear_bwd(a, l, MAT_UP, a->gh, t->up, t->h2, true));
    return norm_bwd(a, a->g, a->gh, t->x1, a->n, &a->weights.layers[l].norm[NORM_POST],
                    &a->grads.layers[l].norm[NORM_POST], true);
}

/* y[rows from, n] += x[rows from, n], rows of keys */
static int add_keys(struct actor *a, void *y, void *x, int32_t from, int32_t n) {
    int64_t kv = (int64_t)a->cfg.shape.kv_heads * a->cfg.shape.head_width;
    struct kern_tensor ty = actor_f32(actor_row_f32(y, from, kv), n, kv);
    struct kern_tensor tx = actor_f32(actor_row_f32(x, from, kv), n, kv);
    return n ? kern_axpby(a->b, a->s, &ty, 1, &tx, 1) : 0;
}

/* What other rows' reverse left for the keys of frames below, and of the frame itself. */
static int exchange_keys(struct actor *a, const struct actor_acts *t, bool pop) {
    TRY(add_keys(a, t->kept_gk, a->gpool_k, 0, a->keys));
    TRY(add_keys(a, t->kept_gv, a->gpool_v, 0, a->keys));
    if (!pop) return 0;
    TRY(add_keys(a, a->gpool_k, t->kept_gk, a->keys, a->n));
    return add_keys(a, a->gpool_v, t->kept_gv, a->keys, a->n);
}

static int zero_key_gradients(struct actor *a) {
    size_t bytes = (size_t)a->slots * (size_t)a->cfg.shape.kv_heads *
                   (size_t)a->cfg.shape.head_width * sizeof(float);
    TRY(kern_zero(a->b, a->s, a->gpool_k, bytes));
    return kern_zero(a->b, a->s, a->gpool_v, bytes);
}

/* gk, gv of the batch's own keys, before rope; they are sums and stay f32 until they are whole. */
static int collect_keys(struct actor *a, const struct actor_acts *t, bool pop) {
    const struct shape *s = &a->cfg.shape;
    struct kern_tensor gk = actor_heads(a, a->gk, s->kv_heads), sum_k = gk;
    struct kern_tensor gv = actor_heads(a, a->gv, s->kv_heads), sum_v = gv;
    if (s->bf16) sum_k = kern_view3(a->sum_gk, KERN_F32, a->n, s->kv_heads, s->head_width);
    if (s->bf16) sum_v = kern_view3(a->sum_gv, KERN_F32, a->n, s->kv_heads, s->head_width);
    struct kern_tensor gpool_k = actor_pool(a, a->gpool_k, KERN_F32),
                       gpool_v = actor_pool(a, a->gpool_v, KERN_F32);
    struct kern_tensor cos = actor_f32(a->cos, a->cfg.context, s->head_width / 2);
    struct kern_tensor sin = actor_f32(a->sin, a->cfg.context, s->head_width / 2);
    TRY(exchange_keys(a, t, pop));
    TRY(kern_kv_read(a->b, a->s, &sum_k, &sum_v, &gpool_k, &gpool_v, &a->slot));
    TRY(kern_rope(a->b, a->s, &sum_k, &a->pos, &cos, &sin, true));
    if (!s->bf16) return 0;
    TRY(kern_cast(a->b, a->s, &gk, &sum_k));
    return kern_cast(a->b, a->s, &gv, &sum_v);
}

/* Attention and the rotation: from gatt to gq, gk, gv (before rope, after qk-norm). */
static int mix_bwd(struct actor *a, int32_t l, bool pop) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    struct kern_tensor q = actor_heads(a, t->q, s->heads), att = actor_heads(a, t->att, s->heads);
    struct kern_tensor gq = actor_heads(a, a->gq, s->heads);
    struct kern_tensor gatt = actor_heads(a, a->gatt, s->heads);
    struct kern_tensor lse = actor_f32(t->lse, a->n, s->heads);
    struct kern_tensor pool_k = actor_pool(a, t->pool_k, actor_type(&a->cfg)),
                       pool_v = actor_pool(a, t->pool_v, actor_type(&a->cfg));
    struct kern_tensor gpool_k = actor_pool(a, a->gpool_k, KERN_F32),
                       gpool_v = actor_pool(a, a->gpool_v, KERN_F32);
    struct kern_tensor cos = actor_f32(a->cos, a->cfg.context, s->head_width / 2);
    struct kern_tensor sin = actor_f32(a->sin, a->cfg.context, s->head_width / 2);
    TRY(zero_key_gradients(a));
    a->attn.window = shape_window(s, l);
    TRY(kern_attention_bwd(a->b, a->s, &gq, &gpool_k, &gpool_v, &gatt, &att, &lse, &q, &pool_k,
                           &pool_v, &a->attn));
    TRY(kern_rope(a->b, a->s, &gq, &a->pos, &cos, &sin, true));
    return collect_keys(a, t, pop);
}

/* From gk, gv to gh: = or, accumulate, += */
static int keys_bwd(struct actor *a, int32_t l, const struct actor_acts *t, bool accumulate) {
    const struct actor_layer *w = &a->weights.layers[l], *g = &a->grads.layers[l];
    const struct shape *s = &a->cfg.shape;
    if (s->qk_norm)
        TRY(norm_bwd(a, a->gk0, a->gk, t->k0, (int64_t)a->n * s->kv_heads, &w->norm[NORM_K],
                     &g->norm[NORM_K], false));
    TRY(linear_bwd(a, l, MAT_K, a->gh, a->gk0, t->h1, accumulate));
    return linear_bwd(a, l, MAT_V, a->gh, a->gv, t->h1, true);
}

/* x0 and h1 of a recomputed layer are there; the input of the one below is on its way. */
static int restore_input(struct actor *a, int32_t l) {
    if (!actor_recomputes(&a->cfg, l)) return 0;
    TRY(inputs_settle(a, l));
    TRY(inputs_fetch(a, l - 1));
    return actor_layer_input(a, l);
}

/* A layer that ended with its keys: they are all that has a gradient. g becomes d loss / d x0. */
static int keys_only_bwd(struct actor *a, int32_t l) {
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    size_t bytes = (size_t)a->n * (size_t)a->cfg.shape.d * actor_size(&a->cfg);
    TRY(restore_input(a, l));
    if (actor_recomputes(&a->cfg, l)) TRY(actor_layer_keys(a, l));
    TRY(zero_key_gradients(a));
    TRY(collect_keys(a, t, true));
    TRY(keys_bwd(a, l, t, false));
    TRY(kern_zero(a->b, a->s, a->g, bytes));
    return norm_bwd(a, a->g, a->gh, t->x0, a->n, &a->weights.layers[l].norm[NORM_IN],
                    &a->grads.layers[l].norm[NORM_IN], true);
}

/* x1 = x0 + o(attention(q, k, v of h1)): g is d loss / d x1 before, d loss / d x0 after. */
static int attention_bwd(struct actor *a, int32_t l, bool pop) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_layer *w = &a->weights.layers[l], *g = &a->grads.layers[l];
    const struct actor_acts at = actor_acts_at(a, l), *t = &at;
    TRY(linear_bwd(a, l, MAT_O, a->gatt, a->g, t->att, false));
    TRY(mix_bwd(a, l, pop));
    if (s->qk_norm)
        TRY(norm_bwd(a, a->gq0, a->gq, t->q0, (int64_t)a->n * s->heads, &w->norm[NORM_Q],
                     &g->norm[NORM_Q], false));
    TRY(linear_bwd(a, l, MAT_Q, a->gh, a->gq0, t->h1, false));
    TRY(keys_bwd(a, l, t, true));
    return norm_bwd(a, a->g, a->gh, t->x0, a->n, &w->norm[NORM_IN], &g->norm[NORM_IN], true);
}

/* From gh, which the head left, through the last norm and all layers to the embedding. */
static int layers_bwd(struct actor *a, bool pop) {
    const struct shape *s = &a->cfg.shape;
    const struct actor_acts last = actor_acts_at(a, s->layers - 1);
    int32_t l = s->layers - 1;
    if (a->keys_only)
        TRY(keys_only_bwd(a, l--));
    else
        TRY(norm_bwd(a, a->g, a->gh, last.x2, a->n, &a->weights.norm, &a->grads.norm, false));
    for (; l >= 0; l--) {
        TRY(restore_input(a, l));
        if (actor_recomputes(&a->cfg, l)) {
            TRY(actor_layer_attention(a, l));
            TRY(actor_layer_ffn(a, l));
        }
        TRY(ffn_bwd(a, l));
        TRY(attention_bwd(a, l, pop));
    }
    struct kern_tensor g = actor_mat(a, a->g, a->n, s->d);
    return kern_embed_bwd(a->b, a->s, &a->grads.embed, &g, &a->ids);
}

/* Every row has a place of its own in the pool, and every key that is read lies in one of them or
 * in a frame: a gradient that arrives anywhere else would be lost, one that arrives twice counted
 * twice. */
static int check_keys(struct actor *a, const struct actor_batch *b) {
    int32_t page = a->cfg.page, slots = a->cfg.pages * page;
    memset(a->slot_mark, 0, (size_t)slots);
    memset(a->slot_mark, 1, (size_t)a->keys);
    a->slots = a->keys;
    for (int32_t r = 0; r < b->n_rows; r++) {
        if (b->slot[r] < 0 || b->slot[r] >= slots || a->slot_mark[b->slot[r]])
            return FAIL(ERR_CONFIG, "backward: slot[%d] = %d is not the row's own", r, b->slot[r]);
        a->slot_mark[b->slot[r]] = 1;
        if (b->slot[r] >= a->slots) a->slots = b->slot[r] + 1;
    }
    for (int32_t s = 0; s < b->n_seqs; s++) {
        const int32_t *pages = b->pages + (int64_t)s * b->pages_max;
        int32_t own = b->q_start[s + 1] - b->q_start[s];
        for (int32_t key = 0; key < b->kv_len[s] - own; key++) {
            int32_t p = pages[key / page];
            if (p < 0 || p >= a->cfg.pages || !a->slot_mark[p * page + key % page])
                return FAIL(ERR_CONFIG,
                            "backward: key %d of sequence %d is of no row of this batch", key, s);
        }
    }
    return 0;
}

static int check_batch(const struct actor *a, const struct actor_batch *b) {
    if (!a->cfg.train) return FAIL(ERR_CONFIG, "backward: the actor was not opened for training");
    if (!a->reverse)
        return FAIL(ERR_CONFIG, "backward: no forward, or its activations are used up");
    if (a->keys_only) return FAIL(ERR_CONFIG, "backward: a forward of keys only, not pushed");
    if (b->n_rows != a->n || b->n_seqs != a->attn.n_seqs)
        return FAIL(ERR_CONFIG, "backward: batch of %d rows, %d sequences; the forward had %d, %d",
                    b->n_rows, b->n_seqs, a->n, a->attn.n_seqs);
    return 0;
}

int actor_reverse(struct actor *a, const struct actor_batch *b, const int32_t *rows,
                  const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss, void *ctx,
                  struct params *grads, bool pop) {
    TRY(check_keys(a, b));
    const struct shape *shape = params_shape(grads);
    if (!shape_equal(shape, &a->cfg.shape) || params_backend(grads) != a->b || shape->bf16)
        return FAIL(ERR_MISMATCH, "backward: grads have another shape or backend, or are not f32");
    actor_bind(a, grads, &a->grads);
    TRY(inputs_fetch(a, a->cfg.recompute - 1));
    if (!a->keys_only) TRY(actor_head_backward(a, rows, targets, n, inv_temp, loss, ctx));
    a->reverse = false;
    return layers_bwd(a, pop);
}

int actor_backward(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                   const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss,
                   void *ctx, struct params *grads) {
    TRY(check_batch(a, batch));
    return actor_reverse(a, batch, rows, targets, n, inv_temp, loss, ctx, grads, false);
}
