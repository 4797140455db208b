/* actor_layers.c - the one pass through the layers of prefill, decode and training, and its
 * backward pass.
 *
 * Every op used here is batch-invariant, and nothing here looks at how many rows there are, so a
 * row's bits depend on its own token, position and keys only (I6): a prompt prefilled in chunks, a
 * token decoded alone and the same token inside a training batch are the same numbers.
 *
 * Backward, g is the gradient of the residual stream and flows through all layers in one buffer: a
 * block leaves the gradient at its h, and the norm's backward pass adds its part to g, which is the
 * backward pass of x + block(norm(x)). Weight gradients are added into grads, so microbatches sum
 * there. A recomputed layer's forward runs again from its saved input first; being the same code on
 * the same bits it leaves the same activations, so the gradients are equal too. */
#include "actor/actor_layers.h"

#include "base/mem.h"

/* --- memory --------------------------------------------------------------------------------- */

static int64_t array_length(const struct actor_config *cfg, enum block_length length) {
    switch (length) {
    case BLOCK_ROWS: return cfg->rows_max;
    case BLOCK_SLOTS: return (int64_t)cfg->pages * cfg->page;
    case BLOCK_SEGMENTS: return cfg->segment_keys;
    }
    return 0;
}

static size_t array_bytes(const struct actor_config *cfg, const struct block_array *a) {
    return (size_t)a->width * (a->f32 ? sizeof(float) : actor_size(cfg));
}

/* The arrays of a block that have this use. */
static void carve_arrays(struct actor_carve *c, const struct actor_config *cfg,
                         const struct block_kind *kind, enum block_use use, struct block *b) {
    struct block_array t[BLOCK_ARRAYS_MAX];
    kind->arrays(t, cfg);
    for (int i = 0; i < kind->n_arrays; i++) {
        int64_t n = array_length(cfg, t[i].length);
        if (t[i].use != use || t[i].width == 0) continue;
        b->a[i] = t[i].f32 ? actor_carve_f32(c, n, t[i].width) : actor_carve(c, n, t[i].width);
    }
}

static void carve_activations(struct actor_carve *c, const struct actor_config *cfg,
                              const struct block_kind *kind, struct block *b) {
    b->h = actor_carve(c, cfg->rows_max, cfg->shape.d);
    carve_arrays(c, cfg, kind, BLOCK_ACTIVATION, b);
}

/* What the blocks of all layers share, in their places in a layer: scratch, gradients, and the
 * activations of layers that run again (in training) or of all layers (else). */
static void carve_shared(struct actor_carve *c, const struct actor_config *cfg,
                         struct actor_plan *parts, struct block shared[LAYER_BLOCKS_MAX]) {
    int n;
    const struct block_kind *const *kind = block_layer(&cfg->shape, &n);
    for (int j = 0; j < n; j++) {
        c->part = &parts->activations;
        if (!cfg->train || cfg->recompute > 0) carve_activations(c, cfg, kind[j], &shared[j]);
        if (cfg->train && cfg->recompute > 0 && j > 0)
            shared[j].x = actor_carve(c, cfg->rows_max, cfg->shape.d);
        carve_arrays(c, cfg, kind[j], BLOCK_SCRATCH, &shared[j]);
        c->part = &parts->gradients;
        if (cfg->train) carve_arrays(c, cfg, kind[j], BLOCK_GRADIENT, &shared[j]);
    }
}

/* One layer's blocks, whose input is x. Without training the residual stream is one buffer that
 * every block adds to. */
static void carve_layer(struct actor_carve *c, const struct actor_config *cfg,
                        struct actor_plan *parts, const struct block *shared, int32_t layer,
                        void *x, struct block *out) {
    int n;
    const struct block_kind *const *kind = block_layer(&cfg->shape, &n);
    bool own = cfg->train && !actor_recomputes(cfg, layer);
    for (int j = 0; j < n; j++) {
        struct block b = shared[j];
        b.layer = layer;
        c->part = &parts->activations;
        if (own) carve_activations(c, cfg, kind[j], &b);
        if (own && j > 0) b.x = actor_carve(c, cfg->rows_max, cfg->shape.d);
        if (j == 0 || !cfg->train) b.x = x;
        c->part = &parts->keys;
        carve_arrays(c, cfg, kind[j], BLOCK_KEYS, &b);
        if (out) out[j] = b;
    }
}

void actor_layers_alloc(struct actor_layers *l, const struct actor_config *cfg) {
    int n;
    block_layer(&cfg->shape, &n);
    l->at = mem_array((size_t)cfg->shape.layers * (size_t)n + 1, sizeof *l->at);
}

/* In training each layer's input stays, because all of the rest follows from it: in memory of its
 * own, or, where inputs wait on the host, in two buffers in turn. */
void actor_layers_carve(struct actor_layers *l, struct actor_carve *c,
                        const struct actor_config *cfg, struct actor_plan *parts) {
    int64_t r = cfg->rows_max, d = cfg->shape.d;
    struct block shared[LAYER_BLOCKS_MAX] = {0}, end = {.layer = cfg->shape.layers};
    int n;
    block_layer(&cfg->shape, &n);
    c->part = &parts->activations;
    void *x = actor_carve(c, r, d), *turn[2] = {x, NULL};
    if (inputs_wait(cfg)) turn[1] = actor_carve(c, r, d);
    carve_shared(c, cfg, parts, shared);
    for (int32_t i = 0; i < cfg->shape.layers; i++) {
        carve_layer(c, cfg, parts, shared, i, x, l->at ? l->at + (int64_t)i * n : NULL);
        bool waits = inputs_wait(cfg) && actor_recomputes(cfg, i + 1);
        c->part = &parts->activations;
        if (cfg->train) x = waits ? turn[(i + 1) % 2] : actor_carve(c, r, d);
    }
    c->part = &parts->activations;
    l->out = actor_carve(c, r, d);
    end.x = x;
    end.h = actor_carve(c, r, d);
    if (l->at) l->at[(int64_t)cfg->shape.layers * n] = end;
    c->part = &parts->gradients;
    if (cfg->train) l->g = actor_carve(c, r, d);
    if (cfg->train) l->gh = actor_carve(c, r, d);
}

void actor_layers_open(struct actor_layers *l, struct actor_pass *pass,
                       const struct actor_weights *weights, const struct actor_weights *grads,
                       struct actor_inputs *inputs) {
    const struct block_weight *w = weights->tensors, *g = grads->tensors;
    ASSERT(weights->n == grads->n && weights != grads);
    l->pass = pass;
    l->weights = weights;
    l->grads = grads;
    l->inputs = inputs;
    l->kind = block_layer(&pass->cfg->shape, &l->n_kinds);
    l->n = pass->cfg->shape.layers * l->n_kinds;
    for (int32_t i = 0; i < l->n; i++) {
        l->at[i].w = w;
        l->at[i].g = g;
        w += l->kind[i % l->n_kinds]->n_tensors;
        g += l->kind[i % l->n_kinds]->n_tensors;
    }
    ASSERT(w == weights->tensors + weights->n);
}

void actor_layers_close(struct actor_layers *l) {
    mem_free(l->at);
}

/* --- blocks at the newest pass -------------------------------------------------------------- */

static const struct block_kind *kind_of(const struct actor_layers *l, int32_t i) {
    return l->kind[i % l->n_kinds];
}

static void move_rows(void **p, size_t row, int32_t base) {
    if (*p) *p = (char *)*p + (size_t)base * row;
}

/* Behind the rows of live segments, except of arrays that outlive no pass. */
struct block actor_layers_block(const struct actor_layers *l, int32_t i) {
    const struct actor_config *cfg = l->pass->cfg;
    struct block b = l->at[i];
    struct block_array t[BLOCK_ARRAYS_MAX];
    if (l->pass->base == 0) return b;
    size_t d = (size_t)cfg->shape.d * actor_size(cfg);
    move_rows(&b.x, d, l->pass->base);
    if (i == l->n) return b;
    move_rows(&b.h, d, l->pass->base);
    kind_of(l, i)->arrays(t, cfg);
    for (int k = 0; k < kind_of(l, i)->n_arrays; k++)
        if (t[k].use == BLOCK_ACTIVATION)
            move_rows(&b.a[k], array_bytes(cfg, &t[k]), l->pass->base);
    return b;
}

void *actor_layers_input(const struct actor_layers *l, int32_t layer) {
    return actor_layers_block(l, layer * l->n_kinds).x;
}

/* The order is the order on the host, so it is the same for a segment that leaves and returns. */
int actor_layers_kept(const struct actor_layers *l, const struct actor_config *cfg, int32_t layer,
                      void *p[LAYER_KEPT_MAX], size_t row[LAYER_KEPT_MAX]) {
    struct block_array t[BLOCK_ARRAYS_MAX];
    size_t d = (size_t)cfg->shape.d * actor_size(cfg);
    int kinds, n = 0;
    const struct block_kind *const *kind = block_layer(&cfg->shape, &kinds);
    for (int j = 0; j < kinds; j++) {
        struct block b = {0};
        if (l) b = actor_layers_block(l, layer * kinds + j);
        if (j > 0 && actor_recomputes(cfg, layer)) break;
        p[n] = b.x;
        row[n++] = d;
        if (actor_recomputes(cfg, layer)) continue;
        p[n] = b.h;
        row[n++] = d;
        kind[j]->arrays(t, cfg);
        for (int i = 0; i < kind[j]->n_arrays; i++) {
            if (t[i].use != BLOCK_ACTIVATION || t[i].width == 0) continue;
            p[n] = b.a[i];
            row[n++] = array_bytes(cfg, &t[i]);
        }
    }
    if (layer < cfg->shape.layers - 1) return n;
    p[n] = l ? actor_layers_block(l, l->n).x : NULL;
    row[n++] = d;
    return n;
}

int actor_layers_copy_page(struct actor_layers *l, int32_t dst, int32_t src, int32_t keys) {
    struct block_array t[BLOCK_ARRAYS_MAX];
    for (int32_t i = 0; i < l->n; i++) {
        kind_of(l, i)->arrays(t, l->pass->cfg);
        for (int k = 0; k < kind_of(l, i)->n_arrays; k++) {
            char *pool = l->at[i].a[k];
            size_t key = array_bytes(l->pass->cfg, &t[k]), page = (size_t)l->pass->cfg->page * key;
            if (t[k].use != BLOCK_KEYS || t[k].length != BLOCK_SLOTS) continue;
            TRY(kern_copy(l->pass->b, l->pass->s, pool + (size_t)dst * page,
                          pool + (size_t)src * page, (size_t)keys * key));
        }
    }
    return 0;
}

int actor_layers_zero_segment(struct actor_layers *l, int32_t key, int32_t n) {
    struct block_array t[BLOCK_ARRAYS_MAX];
    for (int32_t i = 0; i < l->n; i++) {
        kind_of(l, i)->arrays(t, l->pass->cfg);
        for (int k = 0; k < kind_of(l, i)->n_arrays; k++) {
            size_t bytes = array_bytes(l->pass->cfg, &t[k]);
            if (t[k].length != BLOCK_SEGMENTS || !l->at[i].a[k]) continue;
            TRY(kern_zero(l->pass->b, l->pass->s, (char *)l->at[i].a[k] + (size_t)key * bytes,
                          (size_t)n * bytes));
        }
    }
    return 0;
}

/* --- forward -------------------------------------------------------------------------------- */

static const struct kern_tensor *norm_of(const struct actor_layers *l, int32_t i) {
    return i == l->n ? &l->weights->norm : &l->at[i].w[BLOCK_NORM].w;
}

/* h of entry i = the norm of its x */
static int norm_block(struct actor_layers *l, int32_t i) {
    const struct actor_pass *p = l->pass;
    const struct block b = actor_layers_block(l, i);
    struct kern_tensor h = actor_pass_rows(p, b.h, p->cfg->shape.d),
                       x = actor_pass_rows(p, b.x, p->cfg->shape.d);
    return kern_rmsnorm(p->b, p->s, &h, &x, norm_of(l, i), p->cfg->shape.norm_eps);
}

/* The stream behind block i: its x + out, and the norm of that, in one op. */
static int add_block(struct actor_layers *l, int32_t i) {
    const struct actor_pass *p = l->pass;
    const struct block b = actor_layers_block(l, i), next = actor_layers_block(l, i + 1);
    int32_t layer = (i + 1) / l->n_kinds;
    bool is_input = (i + 1) % l->n_kinds == 0; /* next.x is the input of `layer` */
    int64_t d = p->cfg->shape.d;
    struct kern_tensor h = actor_pass_rows(p, next.h, d), sum = actor_pass_rows(p, next.x, d);
    struct kern_tensor x = actor_pass_rows(p, b.x, d), out = actor_pass_rows(p, l->out, d);
    if (is_input) TRY(inputs_settle(l->inputs, layer));
    TRY(kern_add_rmsnorm(p->b, p->s, &h, &sum, &x, &out, norm_of(l, i + 1),
                         p->cfg->shape.norm_eps));
    return is_input ? inputs_save(l->inputs, layer, next.x) : 0;
}

int actor_layers_last_norm(struct actor_layers *l) {
    return norm_block(l, l->n);
}

int actor_layers_forward(struct actor_layers *l) {
    struct actor_pass *p = l->pass;
    struct block b = actor_layers_block(l, 0);
    struct kern_tensor x = actor_pass_rows(p, b.x, p->cfg->shape.d);
    TRY(inputs_settle(l->inputs, 0));
    TRY(kern_embed(p->b, p->s, &x, &l->weights->embed, &p->ids));
    TRY(inputs_save(l->inputs, 0, b.x));
    TRY(norm_block(l, 0));
    for (int32_t i = 0; i < l->n; i++) {
        b = actor_layers_block(l, i);
        if (p->keys_only && i == l->n - l->n_kinds) {
            ASSERT(kind_of(l, i)->keys); /* keys come first in a layer: nothing of it is needed */
            return kind_of(l, i)->keys(p, &b);
        }
        TRY(kind_of(l, i)->forward(p, &b, l->out));
        TRY(add_block(l, i));
    }
    return 0;
}

/* --- backward ------------------------------------------------------------------------------- */

/* x and h of a recomputed layer's first block are there; the input of the layer below is on its
 * way. */
static int restore_input(struct actor_layers *l, int32_t layer) {
    if (!actor_recomputes(l->pass->cfg, layer)) return 0;
    TRY(inputs_settle(l->inputs, layer));
    if (layer > 0) TRY(inputs_fetch(l->inputs, layer - 1, actor_layers_input(l, layer - 1)));
    return norm_block(l, layer * l->n_kinds);
}

/* The forward of a recomputed layer, up to what its backward pass reads. */
static int run_again(struct actor_layers *l, int32_t layer) {
    int32_t first = layer * l->n_kinds, last = first + l->n_kinds - 1;
    for (int32_t i = first; i <= last; i++) {
        const struct block b = actor_layers_block(l, i);
        TRY(kind_of(l, i)->forward(l->pass, &b, i < last ? l->out : NULL));
        if (i < last) TRY(add_block(l, i));
    }
    return 0;
}

/* g, with gh at block b's h: before, the gradient behind the block, afterwards the one in front. */
static int norm_backward(struct actor_layers *l, const struct block *b) {
    return block_norm_bwd(l->pass, &b->w[BLOCK_NORM].w, &b->g[BLOCK_NORM].w, l->g, l->gh, b->x,
                          l->pass->n, true);
}

static int layer_backward(struct actor_layers *l, int32_t layer) {
    bool again = actor_recomputes(l->pass->cfg, layer);
    TRY(restore_input(l, layer));
    if (again) TRY(run_again(l, layer));
    for (int32_t i = (layer + 1) * l->n_kinds - 1; i >= layer * l->n_kinds; i--) {
        const struct block b = actor_layers_block(l, i);
        TRY(kind_of(l, i)->backward(l->pass, &b, l->gh, l->g, again));
        TRY(norm_backward(l, &b));
    }
    return 0;
}

/* The last layer, where it ended with its keys: they are all that has a gradient. */
static int keys_backward(struct actor_layers *l, int32_t layer) {
    const struct actor_pass *p = l->pass;
    const struct block b = actor_layers_block(l, layer * l->n_kinds);
    size_t bytes = (size_t)p->n * (size_t)p->cfg->shape.d * actor_size(p->cfg);
    TRY(restore_input(l, layer));
    if (actor_recomputes(p->cfg, layer)) TRY(kind_of(l, 0)->keys(l->pass, &b));
    TRY(kind_of(l, 0)->keys_backward(l->pass, &b, l->gh));
    TRY(kern_zero(p->b, p->s, l->g, bytes));
    return norm_backward(l, &b);
}

int actor_layers_backward(struct actor_layers *l) {
    struct actor_pass *p = l->pass;
    int32_t layer = p->cfg->shape.layers - 1;
    if (p->keys_only)
        TRY(keys_backward(l, layer--));
    else
        TRY(block_norm_bwd(p, &l->weights->norm, &l->grads->norm, l->g, l->gh,
                           actor_layers_block(l, l->n).x, p->n, false));
    for (; layer >= 0; layer--)
        TRY(layer_backward(l, layer));
    struct kern_tensor g = actor_pass_rows(p, l->g, p->cfg->shape.d);
    return kern_embed_bwd(p->b, p->s, &l->grads->embed, &g, &p->ids);
}
