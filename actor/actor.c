/* actor.c - the actor: its parts in one piece of memory, and the calls that take several of them.
 *
 * Nothing is allocated after actor_open. Of its parts each knows those before it only: weights,
 * pass (the newest batch), inputs (of recomputed layers), layers, head, segments. */
#include "actor/actor.h"

#include "actor/actor_layers.h"
#include "actor/head.h"
#include "actor/segments.h"
#include "base/mem.h"

#include <inttypes.h>

enum { ROWS_MAX = 1 << 22, PAGE_MAX = 1 << 16 };

struct actor {
    struct actor_config cfg;
    void *slab; /* all backend memory that the parts point into */
    struct actor_weights weights, grads;
    struct actor_pass pass;
    struct actor_inputs inputs;
    struct actor_layers layers;
    struct actor_head head;
    struct actor_segments segments;
};

/* --- the memory plan ------------------------------------------------------------------------ */

/* The widest matmul is the head or the feed-forward; the head's rows may exceed the batch's. */
static size_t scratch_bytes(const struct actor_config *cfg) {
    const struct shape *s = &cfg->shape;
    int64_t q = (int64_t)s->heads * s->head_width, hr = head_rows(cfg);
    int64_t rows_width = q > s->ffn ? q : s->ffn;
    if (s->d > rows_width) rows_width = s->d;
    struct kern_limits l = {.rows = cfg->rows_max > hr ? cfg->rows_max : hr,
                            .width_max = rows_width > s->vocab ? rows_width : s->vocab,
                            .heads = s->heads,
                            .head_width = s->head_width,
                            .kv_max = cfg->context,
                            .bf16_width = s->bf16 ? rows_width : 0};
    return kern_scratch_bytes(cfg->backend, &l);
}

/* The whole slab. With c->base NULL the parts' pointers become NULL and only sizes count. */
static void carve_slab(struct actor *a, struct actor_carve *c, struct actor_plan *parts) {
    const struct actor_config *cfg = &a->cfg;
    c->part = &parts->rest;
    actor_pass_carve(&a->pass, c, cfg);
    actor_layers_carve(&a->layers, c, cfg, parts);
    c->part = &parts->head;
    head_carve(&a->head, c, cfg);
    c->part = &parts->packed;
    actor_weights_carve(a->weights.tensors ? &a->weights : NULL, c, cfg);
}

/* slab: of the parts, what is one allocation: all but the stream's scratch. */
static int plan_slab(struct actor_plan *out, size_t *slab, const struct actor_config *cfg) {
    struct actor counted = {.cfg = *cfg};
    struct actor_carve c = {.size = actor_size(cfg)};
    struct actor_plan p = {0};
    carve_slab(&counted, &c, &p);
    if (c.overflow) return FAIL(ERR_NOMEM, "the actor's memory plan exceeds the address space");
    ASSERT(c.used == p.activations + p.keys + p.gradients + p.head + p.packed + p.rest);
    p.rest += scratch_bytes(cfg);
    p.device = c.used + scratch_bytes(cfg);
    p.segments = segments_bytes(cfg);
    p.inputs = inputs_bytes(cfg);
    *out = p;
    *slab = c.used;
    return 0;
}

int actor_plan(struct actor_plan *out, const struct actor_config *cfg) {
    size_t slab;
    return plan_slab(out, &slab, cfg);
}

size_t actor_bytes(const struct actor_config *cfg) {
    struct actor_plan p;
    return actor_plan(&p, cfg) < 0 ? SIZE_MAX : p.device;
}

size_t actor_host_bytes(const struct actor_config *cfg) {
    struct actor_plan p;
    return actor_plan(&p, cfg) < 0 ? SIZE_MAX : p.segments + p.inputs;
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
    TRY(check_limit("segment_keys", cfg->segment_keys, 0,
                    cfg->train ? (int64_t)cfg->pages * cfg->page : 0));
    if (cfg->segment_keys % cfg->page)
        return FAIL(ERR_CONFIG, "actor: segment_keys is %d, not a multiple of the page, %d",
                    cfg->segment_keys, cfg->page);
    return check_limit("head_rows", cfg->head_rows, 0, ROWS_MAX);
}

/* The slab and the stream, handed out to the parts. */
static int open_memory(struct actor *a, size_t bytes) {
    const struct kern_backend *b = a->cfg.backend;
    struct actor_plan parts = {0};
    TRY(err_wrap(kern_alloc(b, &a->slab, bytes), "actor"));
    TRY(kern_stream_open(b, &a->pass.s, scratch_bytes(&a->cfg)));
    if (a->cfg.inexact && !kern_always_exact(b)) TRY(kern_exact(b, a->pass.s, false));
    struct actor_carve c = {.base = a->slab, .size = actor_size(&a->cfg)};
    carve_slab(a, &c, &parts);
    ASSERT(c.used == bytes);
    return 0;
}

int actor_open(struct actor **out, const struct actor_config *cfg) {
    struct actor_plan plan;
    size_t bytes;
    int rc;
    TRY(check_config(cfg));
    TRY(plan_slab(&plan, &bytes, cfg));
    struct actor *a = mem_zalloc(sizeof *a);
    a->cfg = *cfg;
    a->cfg.head_rows = head_rows(cfg);
    a->pass.cfg = &a->cfg;
    a->pass.b = cfg->backend;
    actor_weights_open(&a->weights, &a->cfg);
    actor_weights_open(&a->grads, &a->cfg);
    actor_layers_alloc(&a->layers, &a->cfg);
    TRY_OUT(open_memory(a, bytes));
    TRY_OUT(actor_pass_open(&a->pass));
    TRY_OUT(err_wrap(inputs_open(&a->inputs, &a->pass), "actor"));
    actor_layers_open(&a->layers, &a->pass, &a->weights, &a->grads, &a->inputs);
    head_open(&a->head, &a->pass, &a->weights, &a->grads, actor_layers_hidden(&a->layers),
              a->layers.gh);
    TRY_OUT(err_wrap(segments_open(&a->segments, &a->pass, &a->layers), "actor"));
    *out = a;
    a = NULL;
out:
    actor_close(&a);
    return rc;
}

void actor_close(struct actor **a) {
    struct actor *p = *a;
    if (!p) return;
    kern_stream_close(p->cfg.backend, p->pass.s);
    inputs_close(&p->inputs);
    segments_close(&p->segments);
    head_close(&p->head);
    actor_layers_close(&p->layers);
    kern_release(p->cfg.backend, p->slab);
    actor_pass_close(&p->pass);
    actor_weights_close(&p->grads);
    actor_weights_close(&p->weights);
    mem_free(p);
    *a = NULL;
}

const struct actor_config *actor_config(const struct actor *a) {
    return &a->cfg;
}

struct kern_stream *actor_stream(const struct actor *a) {
    return a->pass.s;
}

int actor_wait(struct actor *a) {
    return actor_pass_wait(&a->pass);
}

int64_t actor_waits(const struct actor *a) {
    return a->pass.waits;
}

/* --- weights and pages ---------------------------------------------------------------------- */

int actor_prepare(struct actor *a, const struct params *next, bool first, size_t bytes,
                  bool *done) {
    return actor_weights_prepare(&a->weights, a->pass.s, next, first, bytes, done);
}

int actor_use(struct actor *a, const struct params *weights) {
    TRY(actor_weights_check(&a->weights, weights));
    segments_reset(&a->segments); /* these, and hidden states, are of the weights before */
    return actor_weights_use(&a->weights, a->pass.s, weights);
}

int actor_copy_page(struct actor *a, int32_t dst, int32_t src, int32_t keys) {
    TRY(check_limit("page to copy to", dst, 0, a->cfg.pages - 1));
    TRY(check_limit("page to copy", src, 0, a->cfg.pages - 1));
    TRY(check_limit("keys to copy", keys, 1, a->cfg.page));
    return actor_layers_copy_page(&a->layers, dst, src, keys);
}

/* --- forward -------------------------------------------------------------------------------- */

int actor_check(const struct actor *a, const struct actor_batch *batch) {
    return actor_pass_check_batch(&a->pass, batch);
}

static int check_bound(struct actor *a) {
    if (a->weights.bound) return 0;
    return FAIL(ERR_CONFIG, "actor: no weights in use");
}

int actor_forward(struct actor *a, const struct actor_batch *batch) {
    TRY(check_bound(a));
    TRY(actor_pass_load(&a->pass, batch));
    int rc = actor_layers_forward(&a->layers);
    if (rc < 0) actor_pass_reset(&a->pass);
    a->pass.whole = rc == 0 && a->cfg.train;
    return rc;
}

int actor_forward_at(struct actor *a, const struct actor_batch *batch,
                     const struct actor_places *at) {
    TRY(check_bound(a));
    TRY(actor_pass_load_at(&a->pass, batch, at));
    int rc = actor_layers_forward(&a->layers);
    if (rc < 0) actor_pass_reset(&a->pass);
    return rc;
}

int actor_logits(struct actor *a, const int32_t *rows, int32_t n, struct kern_tensor *logits) {
    return head_logits(&a->head, rows, n, logits);
}

int actor_logits_at(struct actor *a, const int32_t *rows, void *at, int32_t n,
                    struct kern_tensor *logits) {
    return head_logits_at(&a->head, rows, at, n, logits);
}

int actor_logprobs(struct actor *a, const int32_t *rows, const int32_t *targets, int64_t n,
                   float inv_temp, float *logprob, float *entropy) {
    return head_logprobs(&a->head, rows, targets, n, inv_temp, logprob, entropy);
}

int actor_values(struct actor *a, const int32_t *rows, int64_t n, float *value) {
    return head_values(&a->head, rows, n, value);
}

/* --- backward ------------------------------------------------------------------------------- */

static int check_batch(const struct actor_pass *p, const struct actor_batch *b) {
    if (!p->cfg->train) return FAIL(ERR_CONFIG, "backward: the actor was not opened for training");
    if (!p->whole) return FAIL(ERR_CONFIG, "backward: no forward, or its activations are used up");
    if (p->keys_only) return FAIL(ERR_CONFIG, "backward: a forward of keys only, not pushed");
    if (b->n_rows != p->n || b->n_seqs != p->n_seqs)
        return FAIL(ERR_CONFIG, "backward: batch of %d rows, %d sequences; the forward had %d, %d",
                    b->n_rows, b->n_seqs, p->n, p->n_seqs);
    return 0;
}

static int check_grads(const struct actor_config *cfg, const struct params *grads) {
    const struct shape *shape = params_shape(grads);
    if (shape_equal(shape, &cfg->shape) && params_backend(grads) == cfg->backend && !shape->bf16)
        return 0;
    return FAIL(ERR_MISMATCH, "backward: grads have another shape or backend, or are not f32");
}

/* The newest pass, from the head down. */
static int backward(struct actor *a, const struct actor_batch *b, const int32_t *rows,
                    const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss,
                    void *ctx, struct params *grads) {
    int32_t last = a->cfg.recompute - 1;
    actor_pass_check(&a->pass);
    TRY(actor_pass_check_keys(&a->pass, b));
    TRY(check_grads(&a->cfg, grads));
    actor_weights_bind(&a->grads, grads);
    if (last >= 0) TRY(inputs_fetch(&a->inputs, last, actor_layers_input(&a->layers, last)));
    if (!a->pass.keys_only) TRY(head_backward(&a->head, rows, targets, n, inv_temp, loss, ctx));
    a->pass.whole = false;
    return actor_layers_backward(&a->layers);
}

int actor_backward(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
                   const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss,
                   void *ctx, struct params *grads) {
    TRY(check_batch(&a->pass, batch));
    return backward(a, batch, rows, targets, n, inv_temp, loss, ctx, grads);
}

/* --- segments ------------------------------------------------------------------------------- */

int actor_push(struct actor *a) {
    return segments_push(&a->segments);
}

int actor_pop(struct actor *a, const struct actor_batch *batch, const int32_t *rows,
              const int32_t *targets, int64_t n, float inv_temp, actor_loss_fn *loss, void *ctx,
              struct params *grads) {
    TRY(segments_pop(&a->segments, batch, n));
    return backward(a, batch, rows, targets, n, inv_temp, loss, ctx, grads);
}

void actor_unwind(struct actor *a) {
    segments_reset(&a->segments);
}
