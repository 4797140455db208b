/* actor.c - the actor's life: its configuration, its memory and the weights it uses.
 *
 * All backend memory is one slab, carved by one function. That function runs twice: without a base
 * to say how much is needed (actor_bytes, the plan a user sees before the start) and with one to
 * hand out the pieces. So the plan cannot differ from what is taken, and nothing is allocated after
 * actor_open. Names of tensors are resolved once, on the first actor_use; afterwards a new version
 * of the weights is a loop over indices. */
#include "actor/actor.h"

#include "actor/actor_impl.h"
#include "actor/inputs.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ALIGN = 64, HEAD_ROWS = 64, ROWS_MAX = 1 << 22, PAGE_MAX = 1 << 16 };

/* --- the memory plan ------------------------------------------------------------------------ */

struct carve {
    char *base;        /* NULL: only counting */
    size_t used, size; /* size: of an element of the actor's type */
    size_t *part;      /* of struct actor_plan: what is being taken */
    bool overflow;
};

/* The next x * y elements. */
static void *take_sized(struct carve *c, size_t size, int64_t x, int64_t y) {
    size_t n = size;
    if (!mem_mul(&n, n, (size_t)x) || !mem_mul(&n, n, (size_t)y) || n > SIZE_MAX / 4 ||
        c->used > SIZE_MAX / 4) {
        c->overflow = true;
        return NULL;
    }
    void *p = c->base ? c->base + c->used : NULL;
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    c->used += n;
    *c->part += n;
    return p;
}

static void *take(struct carve *c, int64_t x, int64_t y) { /* of the actor's type */
    return take_sized(c, c->size, x, y);
}

static void *take_f32(struct carve *c, int64_t x, int64_t y) { /* or i32 */
    return take_sized(c, sizeof(float), x, y);
}

struct sizes {
    int64_t r, d, q, kv, f, v, hr, pool;
};

static struct sizes sizes_of(const struct actor_config *cfg) {
    const struct shape *s = &cfg->shape;
    return (struct sizes){.r = cfg->rows_max,
                          .d = s->d,
                          .q = (int64_t)s->heads * s->head_width,
                          .kv = (int64_t)s->kv_heads * s->head_width,
                          .f = s->ffn,
                          .v = s->vocab,
                          .hr = cfg->head_rows ? cfg->head_rows : HEAD_ROWS,
                          .pool = (int64_t)cfg->pages * cfg->page};
}

/* What the reverse of a layer needs of its forward, x0, x1 and x2 apart. */
static void carve_acts(struct carve *c, struct actor_acts *t, const struct sizes *z,
                       const struct shape *s) {
    t->h1 = take(c, z->r, z->d);
    t->q = take(c, z->r, z->q);
    t->q0 = s->qk_norm ? take(c, z->r, z->q) : t->q;
    t->k0 = s->qk_norm ? take(c, z->r, z->kv) : NULL;
    t->att = take(c, z->r, z->q);
    t->lse = take_f32(c, z->r, s->heads);
    t->h2 = take(c, z->r, z->d);
    t->gate = take(c, z->r, z->f);
    t->up = take(c, z->r, z->f);
}

/* Who shares what, see struct actor_acts. Without training the residual stream is one buffer that
 * every block adds to; with it, each layer's input stays, because all of the rest follows from it:
 * in memory of its own, or, where inputs wait on the host, in two buffers in turn. */
static void carve_layers(struct carve *c, struct actor *a, const struct sizes *z,
                         struct actor_plan *parts) {
    const struct actor_config *cfg = &a->cfg;
    struct actor_acts shared = {0}, t;
    c->part = &parts->activations;
    void *x = take(c, z->r, z->d), *turn[2] = {x, NULL};
    if (inputs_wait(cfg)) turn[1] = take(c, z->r, z->d);
    if (!cfg->train || cfg->recompute > 0) carve_acts(c, &shared, z, &cfg->shape);
    if (cfg->train && cfg->recompute > 0) shared.x1 = take(c, z->r, z->d);
    for (int32_t l = 0; l < cfg->shape.layers; l++) {
        bool own = cfg->train && !actor_recomputes(cfg, l);
        t = shared;
        c->part = &parts->activations;
        if (own) carve_acts(c, &t, z, &cfg->shape);
        if (own) t.x1 = take(c, z->r, z->d);
        if (!cfg->train) t.x1 = x;
        t.x0 = x;
        bool waits = inputs_wait(cfg) && actor_recomputes(cfg, l + 1);
        if (cfg->train) x = waits ? turn[(l + 1) % 2] : take(c, z->r, z->d);
        t.x2 = x;
        c->part = &parts->keys;
        t.pool_k = take(c, z->pool, z->kv);
        t.pool_v = take(c, z->pool, z->kv);
        if (cfg->frames) t.kept_gk = take_f32(c, cfg->frames, z->kv);
        if (cfg->frames) t.kept_gv = take_f32(c, cfg->frames, z->kv);
        if (a->acts) a->acts[l] = t;
    }
}

/* Gradients of activations: one layer's worth, reused from layer to layer. */
static void carve_reverse(struct carve *c, struct actor *a, const struct sizes *z) {
    a->g = take(c, z->r, z->d);
    a->gh = take(c, z->r, z->d);
    a->gact = take(c, z->r, z->f);
    a->gatt = take(c, z->r, z->q);
    a->gq = take(c, z->r, z->q);
    a->gk = take(c, z->r, z->kv);
    a->gv = take(c, z->r, z->kv);
    a->gq0 = a->cfg.shape.qk_norm ? take(c, z->r, z->q) : a->gq;
    a->gk0 = a->cfg.shape.qk_norm ? take(c, z->r, z->kv) : a->gk;
    a->gpool_k = take_f32(c, z->pool, z->kv);
    a->gpool_v = take_f32(c, z->pool, z->kv);
    if (!a->cfg.shape.half) return;
    a->sum_gk = take_f32(c, z->r, z->kv);
    a->sum_gv = take_f32(c, z->r, z->kv);
}

/* Room for the packed copy of one matrix, if the backend packs. w NULL: only counting. */
static void carve_packed(struct carve *c, struct actor *a, struct actor_weight *w, int64_t out,
                         int64_t in) {
    size_t bytes = a->cfg.pack ? kern_pack_bytes(a->b, actor_type(&a->cfg), out, in) : 0;
    int64_t words = (int64_t)((bytes + 3) / 4);
    if (bytes == 0) return;
    void *p = take_f32(c, words, 1), *spare = a->cfg.spare ? take_f32(c, words, 1) : NULL;
    if (!w) return;
    w->packed = kern_view1(p, KERN_F32, words);
    w->spare = kern_view1(spare, KERN_F32, words);
    w->has_packed = true;
}

/* Rows and columns of each matrix of a layer. */
static void matrix_dims(const struct sizes *z, int64_t out[MAT_N][2]) {
    int64_t dims[MAT_N][2] = {
        [MAT_Q] = {z->q, z->d},   [MAT_K] = {z->kv, z->d},   [MAT_V] = {z->kv, z->d},
        [MAT_O] = {z->d, z->q},   [MAT_GATE] = {z->f, z->d}, [MAT_UP] = {z->f, z->d},
        [MAT_DOWN] = {z->d, z->f}};
    memcpy(out, dims, sizeof dims);
}

/* The batch's six arrays with the padding between them; a page table has no more columns than the
 * context has pages. */
static int64_t meta_elements(const struct actor_config *cfg) {
    int64_t table = ((int64_t)cfg->context + cfg->page - 1) / cfg->page;
    int64_t pad = 6 * ALIGN / 4;
    return 3 * (int64_t)cfg->rows_max + 2 * (int64_t)cfg->seqs_max + 1 +
           (int64_t)cfg->seqs_max * table + pad;
}

static void carve_head(struct carve *c, struct actor *a, const struct sizes *z) {
    bool train = a->cfg.train, half = train && a->cfg.shape.half;
    a->hh = take(c, z->hr, z->d);
    a->logits = take_f32(c, z->hr, z->v);
    a->head_ids = take_f32(c, 2, z->hr);
    a->lp = take_f32(c, z->hr, 1);
    a->ent = take_f32(c, z->hr, 1);
    a->head_lse = take_f32(c, z->hr, 1);
    a->temp = take_f32(c, z->hr, 1);
    a->val = take_f32(c, z->hr, 1);
    if (train) a->ghh = take(c, z->hr, z->d);
    if (train) a->ghead = take_f32(c, 3, z->hr);
    if (half) a->half_glogits = take(c, z->hr, z->v);
    if (half) a->half_gval = take(c, z->hr, 1);
}

/* The whole slab. With c->base NULL the pointers in *a become NULL and only sizes count. */
static void carve_all(struct carve *c, struct actor *a, struct actor_plan *parts) {
    const struct actor_config *cfg = &a->cfg;
    struct sizes z = sizes_of(cfg);
    int64_t dims[MAT_N][2];
    matrix_dims(&z, dims);
    c->part = &parts->rest;
    a->meta = take_f32(c, meta_elements(cfg), 1);
    a->cos = take_f32(c, cfg->context, cfg->shape.head_width / 2);
    a->sin = take_f32(c, cfg->context, cfg->shape.head_width / 2);
    carve_layers(c, a, &z, parts);
    c->part = &parts->activations;
    a->k = take(c, z.r, z.kv);
    a->v = take(c, z.r, z.kv);
    a->o = take(c, z.r, z.d);
    a->act = take(c, z.r, z.f);
    a->hidden = take(c, z.r, z.d);
    c->part = &parts->head;
    carve_head(c, a, &z);
    c->part = &parts->gradients;
    if (cfg->train) carve_reverse(c, a, &z);
    c->part = &parts->packed;
    for (int32_t l = 0; l < cfg->shape.layers; l++)
        for (int m = 0; m < MAT_N; m++)
            carve_packed(c, a, a->weights.layers ? &a->weights.layers[l].mat[m] : NULL, dims[m][0],
                         dims[m][1]);
    carve_packed(c, a, &a->weights.head, z.v, z.d);
}

/* The widest matmul is the head or the feed-forward; the head's rows may exceed the batch's. */
static size_t scratch_bytes(const struct actor_config *cfg) {
    struct sizes z = sizes_of(cfg);
    int64_t width = z.d;
    width = z.q > width ? z.q : width;
    width = z.f > width ? z.f : width;
    width = z.v > width ? z.v : width;
    int64_t rows_width = z.q > z.f ? z.q : z.f;
    struct kern_limits l = {.rows = z.r > z.hr ? z.r : z.hr,
                            .width_max = width,
                            .heads = cfg->shape.heads,
                            .head_width = cfg->shape.head_width,
                            .kv_max = cfg->context};
    if (cfg->shape.half) l.half_width = rows_width > z.d ? rows_width : z.d;
    return kern_scratch_bytes(cfg->backend, &l);
}

/* slab: of the parts, what is one allocation: all but the stream's scratch. */
static int plan(struct actor_plan *out, size_t *slab, const struct actor_config *cfg) {
    struct actor a = {.cfg = *cfg, .b = cfg->backend};
    struct carve c = {.size = actor_size(cfg)};
    struct actor_plan p = {0};
    carve_all(&c, &a, &p);
    if (c.overflow) return FAIL(ERR_NOMEM, "the actor's memory plan exceeds the address space");
    p.rest += scratch_bytes(cfg);
    p.device = c.used + scratch_bytes(cfg);
    if (cfg->offload) p.frames = (size_t)cfg->frames * actor_kept_bytes(cfg);
    p.inputs = inputs_bytes(cfg);
    *out = p;
    *slab = c.used;
    return 0;
}

int actor_plan(struct actor_plan *out, const struct actor_config *cfg) {
    size_t slab;
    return plan(out, &slab, cfg);
}

size_t actor_bytes(const struct actor_config *cfg) {
    struct actor_plan p;
    return actor_plan(&p, cfg) < 0 ? SIZE_MAX : p.device;
}

size_t actor_host_bytes(const struct actor_config *cfg) {
    struct actor_plan p;
    return actor_plan(&p, cfg) < 0 ? SIZE_MAX : p.frames + p.inputs;
}

int32_t actor_fewest_recomputed(const struct actor_config *cfg, size_t bytes) {
    struct actor_config c = *cfg;
    for (c.recompute = 0; c.recompute <= c.shape.layers; c.recompute++)
        if (actor_bytes(&c) <= bytes) return c.recompute;
    return -1;
}

/* --- open and close ------------------------------------------------------------------------- */

static int check_limit(const char *name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return 0;
    return FAIL(ERR_CONFIG, "actor: %s is %" PRId64 ", allowed is %" PRId64 "..%" PRId64, name,
                value, min, max);
}

static int check_config(const struct actor_config *cfg) {
    TRY(check_limit("rows_max", cfg->rows_max, 1, ROWS_MAX));
    TRY(check_limit("seqs_max", cfg->seqs_max, 1, ROWS_MAX));
    TRY(check_limit("context", cfg->context, 1, cfg->shape.context));
    TRY(check_limit("page", cfg->page, 1, PAGE_MAX));
    TRY(check_limit("pages", cfg->pages, 1, INT32_MAX / cfg->page));
    TRY(check_limit("recompute", cfg->recompute, 0, cfg->shape.layers));
    TRY(check_limit("frames", cfg->frames, 0, cfg->train ? (int64_t)cfg->pages * cfg->page : 0));
    if (cfg->frames % cfg->page)
        return FAIL(ERR_CONFIG, "actor: frames is %d, not a multiple of the page, %d", cfg->frames,
                    cfg->page);
    return check_limit("head_rows", cfg->head_rows, 0, ROWS_MAX);
}

/* Made on the host in double once; they are a few megabytes even at 128k positions. */
static int fill_rope(struct actor *a) {
    const struct shape *s = &a->cfg.shape;
    size_t n = (size_t)a->cfg.context * (size_t)(s->head_width / 2);
    float *cos = mem_array(n, sizeof *cos), *sin = mem_array(n, sizeof *sin);
    int rc;
    shape_rope_tables(s, a->cfg.context, cos, sin);
    TRY_OUT(kern_put(a->b, a->s, a->cos, cos, n * sizeof *cos));
    TRY_OUT(kern_put(a->b, a->s, a->sin, sin, n * sizeof *sin));
    TRY_OUT(kern_sync(a->b, a->s));
out:
    mem_free(cos);
    mem_free(sin);
    return rc;
}

static int alloc_host(struct actor *a) {
    void *meta = NULL;
    size_t layers = (size_t)a->cfg.shape.layers, hr = (size_t)a->cfg.head_rows;
    a->meta_max = meta_elements(&a->cfg);
    TRY(kern_alloc_host(a->b, &meta, (size_t)a->meta_max * sizeof *a->meta_host));
    a->meta_host = meta;
    a->acts = mem_array(layers, sizeof *a->acts);
    a->weights.layers = mem_array(layers, sizeof *a->weights.layers);
    a->grads.layers = mem_array(layers, sizeof *a->grads.layers);
    a->index.layers = mem_array(layers, sizeof *a->index.layers);
    a->head_ids_host = mem_array(2 * hr, sizeof *a->head_ids_host);
    a->head_host = mem_array(6 * hr, sizeof *a->head_host);
    a->mark = mem_array((size_t)a->cfg.rows_max, sizeof *a->mark);
    if (a->cfg.train) a->slot_mark = mem_array((size_t)a->cfg.pages, (size_t)a->cfg.page);
    return 0;
}

/* What waits in host memory: pinned, where the backend knows such a thing. */
static int open_host(struct actor *a, const struct actor_plan *p) {
    void *host = NULL;
    if (p->frames > 0) TRY(err_wrap(kern_alloc_host(a->b, &host, p->frames), "frames"));
    a->host = host;
    return inputs_open(a);
}

int actor_open(struct actor **out, const struct actor_config *cfg) {
    struct actor_plan p;
    size_t bytes;
    int rc;
    TRY(check_config(cfg));
    TRY(plan(&p, &bytes, cfg));
    struct actor *a = mem_zalloc(sizeof *a);
    a->cfg = *cfg;
    a->cfg.head_rows = cfg->head_rows ? cfg->head_rows : HEAD_ROWS;
    a->b = cfg->backend;
    a->bytes = bytes;
    TRY_OUT(alloc_host(a));
    TRY_OUT(err_wrap(kern_alloc(a->b, &a->memory, bytes), "actor"));
    TRY_OUT(kern_stream_open(a->b, &a->s, scratch_bytes(&a->cfg)));
    if (cfg->fast && !kern_always_exact(a->b)) TRY_OUT(kern_exact(a->b, a->s, false));
    struct carve c = {.base = a->memory, .size = actor_size(cfg)};
    carve_all(&c, a, &(struct actor_plan){0});
    ASSERT(c.used == bytes);
    TRY_OUT(err_wrap(open_host(a, &p), "actor"));
    TRY_OUT(fill_rope(a));
    *out = a;
    a = NULL;
out:
    actor_close(&a);
    return rc;
}

void actor_close(struct actor **a) {
    struct actor *p = *a;
    if (!p) return;
    kern_stream_close(p->b, p->s);
    inputs_close(p);
    kern_release_host(p->b, p->host);
    kern_release(p->b, p->memory);
    kern_release_host(p->b, p->meta_host);
    mem_free(p->acts);
    mem_free(p->weights.layers);
    mem_free(p->grads.layers);
    mem_free(p->index.layers);
    mem_free(p->head_ids_host);
    mem_free(p->head_host);
    mem_free(p->mark);
    mem_free(p->slot_mark);
    mem_free(p->frame);
    mem_free(p);
    *a = NULL;
}

const struct actor_config *actor_config(const struct actor *a) {
    return &a->cfg;
}

struct kern_stream *actor_stream(const struct actor *a) {
    return a->s;
}

/* --- weights -------------------------------------------------------------------------------- */

/* Index of model.layers.L.NAME.KIND, -1 if the table has none. */
static int32_t lookup(const struct params *p, int32_t l, const char *name, const char *kind) {
    char full[96];
    snprintf(full, sizeof full, "model.layers.%d.%s.%s", l, name, kind);
    const struct params_entry *e = params_find(p, full);
    return e ? (int32_t)(e - params_entry(p, 0)) : -1;
}

/* Two slabs of one shape have one table, so these indices serve weights and gradients alike. */
static void find_all(struct actor *a, const struct params *p) {
    static const char *const mats[MAT_N] = {
        [MAT_Q] = "self_attn.q_proj", [MAT_K] = "self_attn.k_proj", [MAT_V] = "self_attn.v_proj",
        [MAT_O] = "self_attn.o_proj", [MAT_GATE] = "mlp.gate_proj", [MAT_UP] = "mlp.up_proj",
        [MAT_DOWN] = "mlp.down_proj"};
    static const char *const norms[NORM_N] = {[NORM_IN] = "input_layernorm",
                                              [NORM_POST] = "post_attention_layernorm",
                                              [NORM_Q] = "self_attn.q_norm",
                                              [NORM_K] = "self_attn.k_norm"};
    for (int32_t l = 0; l < a->cfg.shape.layers; l++) {
        for (int m = 0; m < MAT_N; m++) {
            a->index.layers[l].mat[m] = lookup(p, l, mats[m], "weight");
            a->index.layers[l].bias[m] = lookup(p, l, mats[m], "bias");
        }
        for (int m = 0; m < NORM_N; m++)
            a->index.layers[l].norm[m] = lookup(p, l, norms[m], "weight");
    }
    const struct params_entry *first = params_entry(p, 0);
    a->index.embed = (int32_t)(params_find(p, "model.embed_tokens.weight") - first);
    a->index.norm = (int32_t)(params_find(p, "model.norm.weight") - first);
    const struct params_entry *head = params_find(p, "lm_head.weight");
    a->index.head = head ? (int32_t)(head - first) : a->index.embed;
    const struct params_entry *value = params_find(p, "value_head.weight");
    a->index.value = value ? (int32_t)(value - first) : -1;
    a->indexed = true;
}

static struct kern_tensor view(const struct params *p, int32_t i) {
    return params_view(p, params_entry(p, (size_t)i));
}

void actor_bind(const struct actor *a, const struct params *p, struct actor_weights *out) {
    for (int32_t l = 0; l < a->cfg.shape.layers; l++) {
        for (int m = 0; m < MAT_N; m++) {
            int32_t bias = a->index.layers[l].bias[m];
            out->layers[l].mat[m].w = view(p, a->index.layers[l].mat[m]);
            out->layers[l].mat[m].has_bias = bias >= 0;
            if (bias >= 0) out->layers[l].mat[m].bias = view(p, bias);
        }
        for (int m = 0; m < NORM_N; m++)
            if (a->index.layers[l].norm[m] >= 0)
                out->layers[l].norm[m] = view(p, a->index.layers[l].norm[m]);
    }
    out->embed = view(p, a->index.embed);
    out->norm = view(p, a->index.norm);
    out->head.w = view(p, a->index.head);
    if (a->index.value < 0) return;
    struct kern_tensor v = view(p, a->index.value);
    out->value = kern_view2(v.data, v.dtype, 1, v.dim[0]);
}

/* The bits of a product do not depend on packing; only its speed does. */
static int pack(struct actor *a, struct actor_weight *w) {
    return w->has_packed ? kern_pack_weight(a->b, a->s, &w->packed, &w->w) : 0;
}

static int32_t matrices(const struct actor *a) {
    return a->cfg.shape.layers * MAT_N + 1;
}

/* In the order of actor_prepare; *index: of its entry in a table of weights. */
static struct actor_weight *matrix(struct actor *a, int32_t i, int32_t *index) {
    int32_t l = i / MAT_N, m = i % MAT_N;
    bool head = l == a->cfg.shape.layers;
    *index = head ? a->index.head : a->index.layers[l].mat[m];
    return head ? &a->weights.head : &a->weights.layers[l].mat[m];
}

static int check_weights(struct actor *a, const struct params *weights) {
    if (!shape_equal(params_shape(weights), &a->cfg.shape))
        return FAIL(ERR_MISMATCH, "actor: these weights have another shape");
    if (params_shape(weights)->half != a->cfg.shape.half)
        return FAIL(ERR_MISMATCH, "actor: these weights are %s, the actor computes in %s",
                    params_shape(weights)->half ? "bf16" : "f32",
                    a->cfg.shape.half ? "bf16" : "f32");
    if (params_backend(weights) != a->b)
        return FAIL(ERR_MISMATCH, "actor: these weights are on backend %s, the actor is on %s",
                    params_backend(weights)->name, a->b->name);
    if (!a->indexed) find_all(a, weights);
    return 0;
}

/* Packs the next few rows of the next matrix that are worth `bytes`, at least the least number that
 * can be packed. */
static int pack_next(struct actor *a, size_t *bytes) {
    int32_t index;
    struct actor_weight *to = matrix(a, a->next_matrix, &index);
    struct kern_tensor w = view(a->next, index);
    size_t row = (size_t)w.dim[1] * actor_size(&a->cfg);
    int64_t left = w.dim[0] - a->next_row, n = (int64_t)(*bytes / row);
    n = n / KERN_PACK_ROWS * KERN_PACK_ROWS + KERN_PACK_ROWS;
    n = n < left ? n : left;
    if (to->has_packed) {
        size_t at = kern_pack_bytes(a->b, w.dtype, a->next_row, w.dim[1]);
        struct kern_tensor from =
            kern_view2((char *)w.data + (size_t)a->next_row * row, w.dtype, n, w.dim[1]);
        struct kern_tensor part = kern_view1((char *)to->spare.data + at, KERN_F32,
                                             to->spare.dim[0] - (int64_t)(at / sizeof(float)));
        TRY(kern_pack_weight(a->b, a->s, &part, &from));
    }
    *bytes -= *bytes < (size_t)n * row ? *bytes : (size_t)n * row;
    a->next_row += n;
    if (a->next_row == w.dim[0]) {
        a->next_row = 0;
        a->next_matrix++;
    }
    return 0;
}

int actor_prepare(struct actor *a, const struct params *next, bool first, size_t bytes,
                  bool *done) {
    TRY(check_weights(a, next));
    if (first || a->next != next) {
        a->next = a->cfg.spare ? next : NULL;
        a->next_matrix = 0;
        a->next_row = 0;
    }
    while (a->next && bytes > 0 && a->next_matrix < matrices(a))
        TRY(pack_next(a, &bytes));
    *done = !a->next || a->next_matrix == matrices(a);
    return 0;
}

int actor_use(struct actor *a, const struct params *weights) {
    bool prepared = a->next == weights && a->next_matrix == matrices(a);
    TRY(check_weights(a, weights));
    a->next = NULL;
    a->n = 0;
    a->params = NULL;
    actor_unwind(a);
    actor_bind(a, weights, &a->weights);
    for (int32_t i = 0; i < matrices(a); i++) {
        int32_t index;
        struct actor_weight *w = matrix(a, i, &index);
        struct kern_tensor was = w->packed;
        if (prepared) {
            w->packed = w->spare;
            w->spare = was;
        } else {
            TRY(pack(a, w));
        }
    }
    a->params = weights;
    return 0;
}

int actor_copy_page(struct actor *a, int32_t dst, int32_t src, int32_t keys) {
    const struct shape *s = &a->cfg.shape;
    size_t key = (size_t)s->kv_heads * (size_t)s->head_width * actor_size(&a->cfg);
    size_t bytes = (size_t)keys * key, page = (size_t)a->cfg.page * key;
    TRY(check_limit("page to copy to", dst, 0, a->cfg.pages - 1));
    TRY(check_limit("page to copy", src, 0, a->cfg.pages - 1));
    TRY(check_limit("keys to copy", keys, 1, a->cfg.page));
    for (int32_t l = 0; l < s->layers; l++) {
        char *k = a->acts[l].pool_k, *v = a->acts[l].pool_v;
        TRY(kern_copy(a->b, a->s, k + (size_t)dst * page, k + (size_t)src * page, bytes));
        TRY(kern_copy(a->b, a->s, v + (size_t)dst * page, v + (size_t)src * page, bytes));
    }
    return 0;
}
