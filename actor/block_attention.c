/* block_attention.c - the attention block: projections, qk-norm, rotation, paged attention, output.
 * Letters as in MODEL.md.
 *
 * Keys and values go through the pool in training too, and get their gradients in pools of one
 * layer's size with the same pages, because attention reads them there. What arrives at keys of
 * live segments is added up in KEPT_GK, KEPT_GV of the layer until the segment's own backward pass
 * (actor_pop) takes it from there. */
#include "actor/block.h"

enum { NORM = BLOCK_NORM, Q, K, V, Q_BIAS, K_BIAS, V_BIAS, Q_NORM, K_NORM, O, O_BIAS, TENSORS };

enum {
    A_Q,   /* rotated queries */
    A_Q0,  /* queries before qk-norm, where there is one: else A_Q's memory */
    A_K0,  /* keys before qk-norm, where there is one: else A_K's memory */
    A_ATT, /* attention's result, and the log of its softmax's denominator [R, H] */
    A_LSE,
    POOL_K, /* [pages, page, G, D] */
    POOL_V,
    KEPT_GK, /* gradients of the segments' keys and values */
    KEPT_GV,
    A_K, /* what goes into the pools */
    A_V,
    G_ATT,
    G_Q,
    G_K,
    G_V,
    G_Q0,
    G_K0,
    GPOOL_K, /* f32 */
    GPOOL_V,
    SUM_GK, /* f32, from there, where G_K and G_V are bf16 */
    SUM_GV,
    ARRAYS
};

_Static_assert((int)TENSORS <= (int)BLOCK_TENSORS_MAX, "tensors");
_Static_assert((int)ARRAYS <= (int)BLOCK_ARRAYS_MAX, "arrays");

static void attention_tensors(struct block_tensor *out, const struct shape *s) {
    int64_t d = s->d, q = (int64_t)s->heads * s->head_width;
    int64_t kv = (int64_t)s->kv_heads * s->head_width;
    bool bare = !s->qkv_bias, no_norm = !s->qk_norm;
    out[NORM] = (struct block_tensor){"input_layernorm.weight", 1, d, false, false};
    out[Q] = (struct block_tensor){"self_attn.q_proj.weight", q, d, true, false};
    out[K] = (struct block_tensor){"self_attn.k_proj.weight", kv, d, true, false};
    out[V] = (struct block_tensor){"self_attn.v_proj.weight", kv, d, true, false};
    out[Q_BIAS] = (struct block_tensor){"self_attn.q_proj.bias", 1, q, false, bare};
    out[K_BIAS] = (struct block_tensor){"self_attn.k_proj.bias", 1, kv, false, bare};
    out[V_BIAS] = (struct block_tensor){"self_attn.v_proj.bias", 1, kv, false, bare};
    out[Q_NORM] =
        (struct block_tensor){"self_attn.q_norm.weight", 1, s->head_width, false, no_norm};
    out[K_NORM] =
        (struct block_tensor){"self_attn.k_norm.weight", 1, s->head_width, false, no_norm};
    out[O] = (struct block_tensor){"self_attn.o_proj.weight", d, q, true, false};
    out[O_BIAS] = (struct block_tensor){"self_attn.o_proj.bias", 1, d, false, !s->out_bias};
}

/* Widths of 0 leave out what this shape or configuration has no use for. */
static void attention_arrays(struct block_array *out, const struct actor_config *cfg) {
    const struct shape *s = &cfg->shape;
    int64_t q = (int64_t)s->heads * s->head_width, kv = (int64_t)s->kv_heads * s->head_width;
    int64_t kept = cfg->segment_keys ? kv : 0, sum = s->bf16 ? kv : 0;
    int64_t q0 = s->qk_norm ? q : 0, k0 = s->qk_norm ? kv : 0;
    out[A_Q] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, q, false};
    out[A_Q0] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, q0, false};
    out[A_K0] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, k0, false};
    out[A_ATT] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, q, false};
    out[A_LSE] = (struct block_array){BLOCK_ACTIVATION, BLOCK_ROWS, s->heads, true};
    out[POOL_K] = out[POOL_V] = (struct block_array){BLOCK_KEYS, BLOCK_SLOTS, kv, false};
    out[KEPT_GK] = out[KEPT_GV] = (struct block_array){BLOCK_KEYS, BLOCK_SEGMENTS, kept, true};
    out[A_K] = out[A_V] = (struct block_array){BLOCK_SCRATCH, BLOCK_ROWS, kv, false};
    out[G_ATT] = out[G_Q] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, q, false};
    out[G_K] = out[G_V] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, kv, false};
    out[G_Q0] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, q0, false};
    out[G_K0] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, k0, false};
    out[GPOOL_K] = out[GPOOL_V] = (struct block_array){BLOCK_GRADIENT, BLOCK_SLOTS, kv, true};
    out[SUM_GK] = out[SUM_GV] = (struct block_array){BLOCK_GRADIENT, BLOCK_ROWS, sum, true};
}

/* Rows of heads: [n, heads, D]; a pool: [pages, page, G, D]. */
static struct kern_tensor heads_of(const struct actor_pass *p, void *x, int32_t heads) {
    return kern_view3(x, actor_type(p->cfg), p->n, heads, p->cfg->shape.head_width);
}
static struct kern_tensor pool_of(const struct actor_pass *p, void *x, enum kern_dtype t) {
    const struct shape *s = &p->cfg->shape;
    return kern_view4(x, t, p->cfg->pages, p->cfg->page, s->kv_heads, s->head_width);
}

/* x = the rotation of x0, or of the norm of each of its heads where the shape has one. */
static int rotate_heads(struct actor_pass *p, void *x, void *x0, int32_t heads,
                        const struct block_weight *w) {
    struct kern_tensor to = heads_of(p, x, heads), from = heads_of(p, x0, heads);
    return kern_norm_rope(p->b, p->s, &to, &from, w->has ? &w->w : NULL, p->cfg->shape.norm_eps,
                          &p->pos, &p->cos, &p->sin);
}

/* h -> k, v -> (k-norm) -> rope -> pool */
static int attention_keys(struct actor_pass *p, const struct block *b) {
    int32_t heads = p->cfg->shape.kv_heads;
    void *k0 = b->a[A_K0] ? b->a[A_K0] : b->a[A_K];
    struct kern_tensor k = heads_of(p, b->a[A_K], heads), v = heads_of(p, b->a[A_V], heads);
    struct kern_tensor pool_k = pool_of(p, b->a[POOL_K], actor_type(p->cfg)),
                       pool_v = pool_of(p, b->a[POOL_V], actor_type(p->cfg));
    TRY(block_linear(p, b, K, K_BIAS, k0, b->h));
    TRY(block_linear(p, b, V, V_BIAS, v.data, b->h));
    TRY(rotate_heads(p, k.data, k0, heads, &b->w[K_NORM]));
    return kern_kv_write(p->b, p->s, &pool_k, &pool_v, &k, &v, &p->slot);
}

/* h -> keys; h -> q -> (q-norm) -> rope -> attention over the keys -> output */
static int attention_forward(struct actor_pass *p, const struct block *b, void *out) {
    const struct shape *s = &p->cfg->shape;
    void *q0 = b->a[A_Q0] ? b->a[A_Q0] : b->a[A_Q];
    struct kern_tensor q = heads_of(p, b->a[A_Q], s->heads);
    struct kern_tensor att = heads_of(p, b->a[A_ATT], s->heads);
    struct kern_tensor lse = kern_view2(b->a[A_LSE], KERN_F32, p->n, s->heads);
    struct kern_tensor pool_k = pool_of(p, b->a[POOL_K], actor_type(p->cfg)),
                       pool_v = pool_of(p, b->a[POOL_V], actor_type(p->cfg));
    TRY(attention_keys(p, b));
    TRY(block_linear(p, b, Q, Q_BIAS, q0, b->h));
    TRY(rotate_heads(p, q.data, q0, s->heads, &b->w[Q_NORM]));
    p->attn.window = shape_window(s, b->layer);
    TRY(kern_attention(p->b, p->s, &att, &lse, &q, &pool_k, &pool_v, &p->attn));
    return out ? block_linear(p, b, O, O_BIAS, out, att.data) : 0;
}

/* y[keys from, n] += x[keys from, n] */
static int add_keys(struct actor_pass *p, float *y, float *x, int32_t from, int32_t n) {
    int64_t kv = (int64_t)p->cfg->shape.kv_heads * p->cfg->shape.head_width, at = from * kv;
    if (n == 0) return 0;
    struct kern_tensor ty = kern_view2(y + at, KERN_F32, n, kv);
    struct kern_tensor tx = kern_view2(x + at, KERN_F32, n, kv);
    return kern_axpby(p->b, p->s, &ty, 1, &tx, 1);
}

/* What arrived at keys of the segments below goes to them; what waited for the batch's own keys,
 * where it is a segment itself, joins what arrived now. */
static int exchange_keys(struct actor_pass *p, const struct block *b) {
    TRY(add_keys(p, b->a[KEPT_GK], b->a[GPOOL_K], 0, p->keys));
    TRY(add_keys(p, b->a[KEPT_GV], b->a[GPOOL_V], 0, p->keys));
    if (!p->is_segment) return 0;
    TRY(add_keys(p, b->a[GPOOL_K], b->a[KEPT_GK], p->keys, p->n));
    return add_keys(p, b->a[GPOOL_V], b->a[KEPT_GV], p->keys, p->n);
}

static int zero_key_gradients(struct actor_pass *p, const struct block *b) {
    const struct shape *s = &p->cfg->shape;
    size_t key = (size_t)s->kv_heads * (size_t)s->head_width * sizeof(float);
    TRY(kern_zero(p->b, p->s, b->a[GPOOL_K], (size_t)p->slots * key));
    return kern_zero(p->b, p->s, b->a[GPOOL_V], (size_t)p->slots * key);
}

/* G_K, G_V of the batch's own keys, before rope; they are sums and stay f32 until they are whole.
 */
static int collect_keys(struct actor_pass *p, const struct block *b) {
    const struct shape *s = &p->cfg->shape;
    struct kern_tensor gk = heads_of(p, b->a[G_K], s->kv_heads), sum_k = gk;
    struct kern_tensor gv = heads_of(p, b->a[G_V], s->kv_heads), sum_v = gv;
    if (s->bf16) sum_k = kern_view3(b->a[SUM_GK], KERN_F32, p->n, s->kv_heads, s->head_width);
    if (s->bf16) sum_v = kern_view3(b->a[SUM_GV], KERN_F32, p->n, s->kv_heads, s->head_width);
    struct kern_tensor gpool_k = pool_of(p, b->a[GPOOL_K], KERN_F32),
                       gpool_v = pool_of(p, b->a[GPOOL_V], KERN_F32);
    TRY(exchange_keys(p, b));
    TRY(kern_kv_read(p->b, p->s, &sum_k, &sum_v, &gpool_k, &gpool_v, &p->slot));
    TRY(kern_rope(p->b, p->s, &sum_k, &p->pos, &p->cos, &p->sin, true));
    if (!s->bf16) return 0;
    TRY(kern_cast(p->b, p->s, &gk, &sum_k));
    return kern_cast(p->b, p->s, &gv, &sum_v);
}

/* Attention and the rotation: from G_ATT to G_Q, G_K, G_V (before rope, after qk-norm). */
static int softmax_backward(struct actor_pass *p, const struct block *b) {
    const struct shape *s = &p->cfg->shape;
    struct kern_tensor q = heads_of(p, b->a[A_Q], s->heads);
    struct kern_tensor att = heads_of(p, b->a[A_ATT], s->heads);
    struct kern_tensor gq = heads_of(p, b->a[G_Q], s->heads);
    struct kern_tensor gatt = heads_of(p, b->a[G_ATT], s->heads);
    struct kern_tensor lse = kern_view2(b->a[A_LSE], KERN_F32, p->n, s->heads);
    struct kern_tensor pool_k = pool_of(p, b->a[POOL_K], actor_type(p->cfg)),
                       pool_v = pool_of(p, b->a[POOL_V], actor_type(p->cfg));
    struct kern_tensor gpool_k = pool_of(p, b->a[GPOOL_K], KERN_F32),
                       gpool_v = pool_of(p, b->a[GPOOL_V], KERN_F32);
    TRY(zero_key_gradients(p, b));
    p->attn.window = shape_window(s, b->layer);
    TRY(kern_attention_bwd(p->b, p->s, &gq, &gpool_k, &gpool_v, &gatt, &att, &lse, &q, &pool_k,
                           &pool_v, &p->attn));
    TRY(kern_rope(p->b, p->s, &gq, &p->pos, &p->cos, &p->sin, true));
    return collect_keys(p, b);
}

/* From G_K, G_V through the projections: gh (=, +=). */
static int project_keys_backward(struct actor_pass *p, const struct block *b, void *gh,
                                 bool accumulate) {
    void *gk0 = b->a[G_K0] ? b->a[G_K0] : b->a[G_K];
    int64_t rows = (int64_t)p->n * p->cfg->shape.kv_heads;
    if (b->w[K_NORM].has)
        TRY(block_norm_bwd(p, &b->w[K_NORM].w, &b->g[K_NORM].w, gk0, b->a[G_K], b->a[A_K0], rows,
                           false));
    TRY(block_linear_bwd(p, b, K, K_BIAS, gh, gk0, b->h, accumulate));
    return block_linear_bwd(p, b, V, V_BIAS, gh, b->a[G_V], b->h, true);
}

/* Of a block whose forward was attention_keys: the keys are all that has a gradient. */
static int attention_keys_backward(struct actor_pass *p, const struct block *b, void *gh) {
    ASSERT(p->is_segment);
    TRY(zero_key_gradients(p, b));
    TRY(collect_keys(p, b));
    return project_keys_backward(p, b, gh, false);
}

static int attention_backward(struct actor_pass *p, const struct block *b, void *gh, void *g,
                              bool again) {
    void *gq0 = b->a[G_Q0] ? b->a[G_Q0] : b->a[G_Q];
    int64_t rows = (int64_t)p->n * p->cfg->shape.heads;
    (void)again; /* reads no scratch */
    TRY(block_linear_bwd(p, b, O, O_BIAS, b->a[G_ATT], g, b->a[A_ATT], false));
    TRY(softmax_backward(p, b));
    if (b->w[Q_NORM].has)
        TRY(block_norm_bwd(p, &b->w[Q_NORM].w, &b->g[Q_NORM].w, gq0, b->a[G_Q], b->a[A_Q0], rows,
                           false));
    TRY(block_linear_bwd(p, b, Q, Q_BIAS, gh, gq0, b->h, false));
    return project_keys_backward(p, b, gh, true);
}

const struct block_kind block_attention = {
    .n_tensors = TENSORS,
    .n_arrays = ARRAYS,
    .tensors = attention_tensors,
    .arrays = attention_arrays,
    .forward = attention_forward,
    .backward = attention_backward,
    .keys = attention_keys,
    .keys_backward = attention_keys_backward,
};
