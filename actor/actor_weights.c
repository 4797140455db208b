/* actor_weights.c - see actor_weights.h. */
#include "actor/actor_weights.h"

#include "base/mem.h"

#include <stdio.h>

void actor_weights_open(struct actor_weights *w, const struct actor_config *cfg) {
    w->cfg = cfg;
    w->n = cfg->shape.layers * block_layer_tensors(&cfg->shape);
    w->tensors = mem_array((size_t)w->n + 1, sizeof *w->tensors);
    w->index = mem_array((size_t)w->n + 1, sizeof *w->index);
}

void actor_weights_close(struct actor_weights *w) {
    mem_free(w->tensors);
    mem_free(w->index);
}

/* --- packed copies: memory ------------------------------------------------------------------ */

/* w NULL: only counting. */
static void carve_packed(struct actor_carve *c, struct block_weight *w,
                         const struct actor_config *cfg, int64_t out, int64_t in) {
    size_t bytes = cfg->pack ? kern_pack_bytes(cfg->backend, actor_type(cfg), out, in) : 0;
    int64_t words = (int64_t)((bytes + 3) / 4);
    if (bytes == 0) return;
    void *p = actor_carve_f32(c, words, 1), *spare = NULL;
    if (cfg->spare) spare = actor_carve_f32(c, words, 1);
    if (!w) return;
    w->packed = kern_view1(p, KERN_F32, words);
    w->spare = kern_view1(spare, KERN_F32, words);
    w->has_packed = true;
}

void actor_weights_carve(struct actor_weights *w, struct actor_carve *c,
                         const struct actor_config *cfg) {
    int n;
    const struct block_kind *const *kind = block_layer(&cfg->shape, &n);
    struct block_tensor t[BLOCK_TENSORS_MAX];
    struct block_weight *to = w ? w->tensors : NULL;
    for (int32_t l = 0; l < cfg->shape.layers; l++) {
        for (int j = 0; j < n; j++) {
            kind[j]->tensors(t, &cfg->shape);
            for (int i = 0; i < kind[j]->n_tensors; i++) {
                if (t[i].is_matrix && !t[i].absent) carve_packed(c, to, cfg, t[i].rows, t[i].cols);
                if (to) to++;
            }
        }
    }
    carve_packed(c, to, cfg, cfg->shape.vocab, cfg->shape.d);
}

/* --- the table of names --------------------------------------------------------------------- */

static int32_t entry_of(const struct params *p, const char *name) {
    const struct params_entry *e = params_find(p, name);
    return e ? (int32_t)(e - params_entry(p, 0)) : -1;
}

static void index_layers(struct actor_weights *w, const struct params *p) {
    int n;
    const struct block_kind *const *kind = block_layer(&w->cfg->shape, &n);
    struct block_tensor t[BLOCK_TENSORS_MAX];
    int32_t at = 0;
    for (int32_t l = 0; l < w->cfg->shape.layers; l++) {
        for (int j = 0; j < n; j++) {
            kind[j]->tensors(t, &w->cfg->shape);
            for (int i = 0; i < kind[j]->n_tensors; i++, at++) {
                char name[96];
                snprintf(name, sizeof name, "model.layers.%d.%s", l, t[i].name);
                w->index[at] = t[i].absent ? -1 : entry_of(p, name);
                w->tensors[at].has = !t[i].absent;
                ASSERT(t[i].absent || w->index[at] >= 0);
            }
        }
    }
    ASSERT(at == w->n);
}

static void index_all(struct actor_weights *w, const struct params *p) {
    index_layers(w, p);
    w->embed_index = entry_of(p, "model.embed_tokens.weight");
    w->norm_index = entry_of(p, "model.norm.weight");
    w->value_index = entry_of(p, "value_head.weight");
    w->index[w->n] = w->cfg->shape.tied_head ? w->embed_index : entry_of(p, "lm_head.weight");
    w->tensors[w->n].has = true;
    ASSERT(w->embed_index >= 0 && w->norm_index >= 0 && w->index[w->n] >= 0);
    w->indexed = true;
}

static struct kern_tensor tensor_of(const struct params *p, int32_t i) {
    return params_view(p, params_entry(p, (size_t)i));
}

void actor_weights_bind(struct actor_weights *w, const struct params *p) {
    if (!w->indexed) index_all(w, p);
    for (int32_t i = 0; i <= w->n; i++)
        if (w->index[i] >= 0) w->tensors[i].w = tensor_of(p, w->index[i]);
    w->embed = tensor_of(p, w->embed_index);
    w->norm = tensor_of(p, w->norm_index);
    if (w->value_index < 0) return;
    struct kern_tensor v = tensor_of(p, w->value_index);
    w->value = kern_view2(v.data, v.dtype, 1, v.dim[0]);
}

/* --- use and packing ------------------------------------------------------------------------ */

int actor_weights_check(const struct actor_weights *w, const struct params *p) {
    const struct shape *shape = &w->cfg->shape;
    if (!shape_equal(params_shape(p), shape))
        return FAIL(ERR_MISMATCH, "actor: these weights have another shape");
    if (params_shape(p)->bf16 != shape->bf16)
        return FAIL(ERR_MISMATCH, "actor: these weights are %s, the actor computes in %s",
                    params_shape(p)->bf16 ? "bf16" : "f32", shape->bf16 ? "bf16" : "f32");
    if (params_backend(p) != w->cfg->backend)
        return FAIL(ERR_MISMATCH, "actor: these weights are on backend %s, the actor is on %s",
                    params_backend(p)->name, w->cfg->backend->name);
    return 0;
}

/* Packs the next few rows of the next tensor that are worth `bytes`, at least the least number that
 * can be packed. */
static int pack_next(struct actor_weights *w, struct kern_stream *s, size_t *bytes) {
    const struct kern_backend *b = w->cfg->backend;
    const struct block_weight *to = &w->tensors[w->tensor];
    if (!to->has_packed) {
        w->tensor++;
        return 0;
    }
    struct kern_tensor m = tensor_of(w->next, w->index[w->tensor]);
    size_t row = (size_t)m.dim[1] * actor_size(w->cfg);
    ASSERT(w->row < m.dim[0] && w->row % KERN_PACK_ROWS == 0);
    int64_t left = m.dim[0] - w->row, n = (int64_t)(*bytes / row);
    n = n / KERN_PACK_ROWS * KERN_PACK_ROWS + KERN_PACK_ROWS;
    n = n < left ? n : left;
    size_t at = kern_pack_bytes(b, m.dtype, w->row, m.dim[1]);
    struct kern_tensor from =
        kern_view2((char *)m.data + (size_t)w->row * row, m.dtype, n, m.dim[1]);
    struct kern_tensor part = kern_view1((char *)to->spare.data + at, KERN_F32,
                                         to->spare.dim[0] - (int64_t)(at / sizeof(float)));
    TRY(kern_pack_weight(b, s, &part, &from));
    *bytes -= *bytes < (size_t)n * row ? *bytes : (size_t)n * row;
    w->row += n;
    if (w->row == m.dim[0]) {
        w->row = 0;
        w->tensor++;
    }
    return 0;
}

int actor_weights_prepare(struct actor_weights *w, struct kern_stream *s, const struct params *next,
                          bool first, size_t bytes, bool *done) {
    TRY(actor_weights_check(w, next));
    if (!w->indexed) index_all(w, next);
    if (first || w->next != next) {
        w->next = w->cfg->spare ? next : NULL;
        w->tensor = 0;
        w->row = 0;
    }
    while (w->next && bytes > 0 && w->tensor <= w->n)
        TRY(pack_next(w, s, &bytes));
    *done = !w->next || w->tensor > w->n;
    return 0;
}

/* The bits of a product do not depend on packing; only its speed does. */
int actor_weights_use(struct actor_weights *w, struct kern_stream *s, const struct params *p) {
    bool prepared = w->next == p && w->tensor > w->n;
    ASSERT(w->tensor >= 0 && w->tensor <= w->n + 1);
    w->next = NULL;
    w->bound = false;
    actor_weights_bind(w, p);
    for (int32_t i = 0; i <= w->n; i++) {
        struct block_weight *t = &w->tensors[i];
        struct kern_tensor was = t->packed;
        if (!t->has_packed) continue;
        if (prepared) {
            t->packed = t->spare;
            t->spare = was;
        } else {
            TRY(kern_pack_weight(w->cfg->backend, s, &t->packed, &t->w));
        }
    }
    w->bound = true;
    return 0;
}
