/* passes.c - see passes.h.
 *
 * All memory that depends on the network is taken when opened; the limits come from the recipe. The
 * numbers by trajectory grow to the largest batch seen and stay.
 *
 * Trajectories whose gradient is zero whatever happens (a group of equal rewards, no KL, no entropy
 * bonus) are packed apart and see only the forward pass, for the statistics and the mismatch
 * check. */
#include "trainer/passes.h"

#include "actor/actor.h"
#include "base/mem.h"
#include "trainer/feed.h"
#include "trainer/split.h"

#include <string.h>

struct passes {
    struct actor *actor, *reference; /* the latter only where the recipe uses it */
    struct feed feed;
    const struct batch *batch;
    struct split active, flat; /* forward and reverse; forward only */
    int32_t budget;            /* rows of a microbatch, unless one trajectory alone has more */
    bool share;                /* prompts of a group are computed once */
    int64_t n_tokens;
    /* by trajectory */
    int32_t *rows;
    int64_t *first;
    size_t rows_cap, first_cap;
    /* by trained token of the microbatch */
    int64_t *element;
    float *mb_logprob, *mb_entropy, *mb_value;
};

/* --- opening ------------------------------------------------------------------------------- */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Prompts are shared by whole pages. On the host a page may as well be one key: nothing of the
 * prompt is computed twice then. */
static int32_t page_of(const struct kern_backend *b, const struct recipe *r) {
    bool host = strcmp(b->name, "cpu") == 0 || strcmp(b->name, "ref") == 0;
    return host && r->trainer.prefix == RECIPE_PREFIX_AUTO ? 1 : (int32_t)r->rollout.page;
}

static void limits_of(struct feed_limits *l, const struct kern_backend *b,
                      const struct shape *shape, const struct recipe *r) {
    int64_t context =
        min64(shape->context, r->rollout.max_prompt_tokens + r->rollout.max_new_tokens);
    int64_t seqs = r->trainer.batch.groups * r->rollout.group_size;
    int64_t rows = min64(r->trainer.batch.tokens, seqs * context);
    if (rows < context) rows = context;
    *l = (struct feed_limits){.rows_max = (int32_t)rows,
                              .seqs_max = (int32_t)min64(seqs, rows),
                              .context = (int32_t)context,
                              .page = page_of(b, r)};
}

/* Rows of logits at a time: about 8 MB of them, so that they are still in the cache when the
 * reverse pass of the head comes, but enough rows for a matrix product to be one. */
static int32_t head_rows_of(const struct shape *s) {
    int32_t rows = (2 << 20) / s->vocab;
    rows = rows < 64 ? 64 : rows > 512 ? 512 : rows;
    return rows / 16 * 16;
}

/* train: the policy; else the reference, which has no critic. */
static struct actor_config actor_config_of(const struct kern_backend *b, const struct shape *shape,
                                           const struct feed_limits *l, const struct recipe *r,
                                           bool train) {
    struct actor_config cfg = {.backend = b,
                               .shape = *shape,
                               .rows_max = l->rows_max,
                               .seqs_max = l->seqs_max,
                               .context = l->context,
                               .pages = feed_pages(l),
                               .page = l->page,
                               .head_rows = head_rows_of(shape),
                               .train = train,
                               .recompute = train && r->trainer.recompute,
                               .pack = true};
    if (!train) cfg.shape.value_head = false;
    return cfg;
}

bool passes_wants_reference(const struct recipe *r) {
    return r->trainer.algorithm.kl.coef != 0;
}

size_t passes_bytes(const struct kern_backend *b, const struct shape *shape,
                    const struct recipe *r) {
    struct feed_limits l;
    limits_of(&l, b, shape, r);
    size_t row = sizeof(int64_t) + 3 * sizeof(float);
    struct actor_config cfg = actor_config_of(b, shape, &l, r, true);
    size_t bytes = actor_bytes(&cfg) + feed_bytes(&l) + (size_t)l.rows_max * row;
    if (!passes_wants_reference(r)) return bytes;
    cfg = actor_config_of(b, shape, &l, r, false);
    return bytes + actor_bytes(&cfg);
}

int passes_open(struct passes **out, const struct kern_backend *b, const struct shape *shape,
                const struct recipe *r) {
    struct passes *p = mem_zalloc(sizeof *p);
    struct feed_limits l;
    int rc = 0;
    limits_of(&l, b, shape, r);
    p->budget = (int32_t)min64(l.rows_max, r->trainer.batch.tokens);
    p->share = r->trainer.prefix == RECIPE_PREFIX_AUTO;
    feed_open(&p->feed, &l);
    p->element = mem_array((size_t)l.rows_max, sizeof *p->element);
    p->mb_logprob = mem_array((size_t)l.rows_max, sizeof *p->mb_logprob);
    p->mb_entropy = mem_array((size_t)l.rows_max, sizeof *p->mb_entropy);
    p->mb_value = mem_array((size_t)l.rows_max, sizeof *p->mb_value);
    struct actor_config cfg = actor_config_of(b, shape, &l, r, true);
    TRY_OUT(actor_open(&p->actor, &cfg));
    cfg = actor_config_of(b, shape, &l, r, false);
    if (passes_wants_reference(r)) TRY_OUT(actor_open(&p->reference, &cfg));
    *out = p;
    p = NULL;
out:
    passes_close(&p);
    return rc;
}

void passes_close(struct passes **pp) {
    struct passes *p = *pp;
    if (!p) return;
    actor_close(&p->actor);
    actor_close(&p->reference);
    feed_close(&p->feed);
    split_close(&p->active);
    split_close(&p->flat);
    mem_free(p->rows);
    mem_free(p->first);
    mem_free(p->element);
    mem_free(p->mb_logprob);
    mem_free(p->mb_entropy);
    mem_free(p->mb_value);
    mem_free(p);
    *pp = NULL;
}

static struct actor *actor_of(const struct passes *p, enum passes_net net) {
    struct actor *a = net == PASSES_REFERENCE ? p->reference : p->actor;
    ASSERT(a);
    return a;
}

struct kern_stream *passes_stream(const struct passes *p) {
    return actor_stream(p->actor);
}

int32_t passes_context(const struct passes *p) {
    return p->feed.limits.context;
}

int passes_use(struct passes *p, enum passes_net net, const struct params *weights) {
    return actor_use(actor_of(p, net), weights);
}

/* --- the plan ------------------------------------------------------------------------------ */

void passes_begin(struct passes *p, const struct batch *b) {
    mem_grow(&p->rows, &p->rows_cap, b->n, sizeof *p->rows);
    mem_grow(&p->first, &p->first_cap, b->n, sizeof *p->first);
    p->batch = b;
    p->n_tokens = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        p->first[i] = p->n_tokens;
        for (int32_t k = 0; k < t->n_response; k++)
            p->n_tokens += t->mask[k];
    }
}

int64_t passes_tokens(const struct passes *p) {
    return p->n_tokens;
}

int64_t passes_first(const struct passes *p, uint32_t i) {
    return p->first[i];
}

static void plan_part(struct passes *p, struct split *into, const bool *flat, bool which) {
    const struct batch *b = p->batch;
    struct split_limits l = {.budget = p->budget,
                             .seqs_max = p->feed.limits.seqs_max,
                             .page = p->feed.limits.page,
                             .share = p->share};
    for (uint32_t i = 0; i < b->n; i++)
        p->rows[i] = flat[i] == which ? feed_rows(&b->traj[i], false) : 0;
    split_make(into, b, p->rows, &l);
}

void passes_plan(struct passes *p, const bool *flat) {
    plan_part(p, &p->active, flat, false);
    plan_part(p, &p->flat, flat, true);
}

int64_t passes_microbatches(const struct passes *p) {
    return p->active.pack.n_bins + p->flat.pack.n_bins;
}

/* --- microbatches -------------------------------------------------------------------------- */

static void feed_bin(struct passes *p, struct split *plan, int32_t bin) {
    struct feed *f = &p->feed;
    int32_t n;
    const struct feed_item *items = split_bin(plan, bin, &n);
    feed_fill(f, p->batch, items, n, false);
    for (int32_t j = 0; j < f->n; j++) {
        bool same = j > 0 && f->seq[j] == f->seq[j - 1];
        p->element[j] = same ? p->element[j - 1] + 1 : p->first[f->seq[j]];
    }
}

static int forward_part(struct passes *p, struct actor *a, struct split *plan, float inv_temp,
                        float *logprob, float *entropy, float *value) {
    struct feed *f = &p->feed;
    for (int32_t bin = 0; bin < plan->pack.n_bins; bin++) {
        feed_bin(p, plan, bin);
        TRY(actor_forward(a, &f->in));
        TRY(actor_logprobs(a, f->row, f->target, f->n, inv_temp, p->mb_logprob,
                           entropy ? p->mb_entropy : NULL));
        if (value) TRY(actor_values(a, f->row, f->n, p->mb_value));
        for (int32_t j = 0; j < f->n; j++) {
            logprob[p->element[j]] = p->mb_logprob[j];
            if (entropy) entropy[p->element[j]] = p->mb_entropy[j];
            if (value) value[p->element[j]] = p->mb_value[j];
        }
    }
    return 0;
}

int passes_logprobs(struct passes *p, enum passes_net net, float inv_temp, float *logprob,
                    float *entropy, float *value) {
    struct actor *a = actor_of(p, net);
    TRY(forward_part(p, a, &p->active, inv_temp, logprob, entropy, value));
    return forward_part(p, a, &p->flat, inv_temp, logprob, entropy, value);
}

struct chunk {
    struct passes *p;
    passes_loss_fn *loss;
    void *ctx;
    float *logprob, *entropy, *value; /* by token */
};

/* The loss as the head sees it (actor_loss_fn): tokens first.. of the microbatch. */
static int on_chunk(void *ctx, int64_t first, int64_t n, const float *logprob, const float *entropy,
                    const float *value, float *g_logprob, float *g_entropy, float *g_value) {
    const struct chunk *c = ctx;
    const int64_t *element = c->p->element + first;
    for (int64_t j = 0; j < n; j++) {
        c->logprob[element[j]] = logprob[j];
        c->entropy[element[j]] = entropy[j];
        if (value) c->value[element[j]] = value[j];
    }
    return c->loss(c->ctx, element, n, logprob, entropy, value, g_logprob, g_entropy, g_value);
}

int passes_gradient(struct passes *p, float inv_temp, passes_loss_fn *loss, void *ctx,
                    struct params *grads, float *logprob, float *entropy, float *value) {
    struct feed *f = &p->feed;
    struct chunk c = {p, loss, ctx, logprob, entropy, value};
    for (int32_t bin = 0; bin < p->active.pack.n_bins; bin++) {
        feed_bin(p, &p->active, bin);
        TRY(actor_forward(p->actor, &f->in));
        TRY(actor_backward(p->actor, &f->in, f->row, f->target, f->n, inv_temp, on_chunk, &c,
                           grads));
    }
    return forward_part(p, p->actor, &p->flat, inv_temp, logprob, entropy, value);
}

int passes_score(struct passes *p, const struct batch *b, uint32_t i, float inv_temp,
                 float *logprob) {
    const struct feed_item item = {.traj = (int32_t)i, .leader = -1};
    feed_fill(&p->feed, b, &item, 1, true);
    TRY(actor_forward(p->actor, &p->feed.in));
    return actor_logprobs(p->actor, p->feed.row, p->feed.target, p->feed.n, inv_temp, logprob,
                          NULL);
}
