/* passes.c - see passes.h.
 *
 * All memory that depends on the network is taken when the passes are opened; the limits come from
 * the recipe. The columns by trajectory grow to the largest batch seen and stay.
 *
 * Trajectories whose gradient is zero whatever happens (a group of equal rewards, no KL, no entropy
 * bonus) are packed apart and see only the forward pass, for the statistics and the mismatch
 * check. */
#include "trainer/learn/passes.h"

#include "actor/actor.h"
#include "base/columns.h"
#include "base/mem.h"
#include "trainer/batch/assign.h"
#include "trainer/batch/microbatch.h"
#include "trainer/batch/split.h"

struct passes {
    struct actor *actor, *reference; /* the latter only where the recipe uses it */
    struct microbatch microbatch;
    const struct batch *batch;
    bool planned;                  /* passes_plan has split this batch */
    const struct rank_comm *ranks; /* NULL: one */
    struct assign assign;          /* of the batch to the ranks */
    bool alone;                    /* this rank computes the whole batch */
    struct split active, flat;     /* forward and backward; forward only */
    struct split one;              /* of passes_score */
    struct split_limits limits;
    int64_t n_tokens, microbatches;
    int64_t n_rows; /* of all forward passes */
    /* by trajectory: [batch->n] */
    int32_t *rows;
    int64_t *first, *tokens; /* number of its first trained token; how many it has */
    struct columns traj_memory;
    float *mb_logprob, *mb_entropy, *mb_value; /* by row of the microbatch: [rows_max] */
    float *by_token; /* on_shared_rows: rows and derivatives, repeated by trained token */
    size_t by_token_cap;
    int (*watch)(void *ctx); /* NULL: nobody */
    void *watch_ctx;
};

/* --- opening ------------------------------------------------------------------------------- */

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Prefixes are shared by whole pages. On the host a page may as well be one key: nothing of them is
 * computed twice then. */
static int32_t page_size(const struct kern_backend *b, const struct recipe *r) {
    return b->on_host && r->trainer.prefix != RECIPE_PREFIX_OFF ? 1 : (int32_t)r->rollout.page;
}

static bool has_segments(const struct recipe *r) {
    return r->trainer.prefix == RECIPE_PREFIX_SCHEDULE || r->trainer.prefix == RECIPE_PREFIX_AUTO;
}

/* Segments that wait in host memory take no rows here, so a trajectory need not fit either: all but
 * its end can be segments. */
static bool offloads(const struct recipe *r) {
    return has_segments(r) && r->trainer.prefix_offload;
}

static void microbatch_limits_of(struct microbatch_limits *l, const struct kern_backend *b,
                                 const struct shape *shape, const struct recipe *r) {
    int64_t context =
        min64(shape->context, r->rollout.max_prompt_tokens + r->rollout.max_new_tokens);
    int64_t seqs = r->trainer.batch.groups * r->rollout.group_size;
    int64_t page = page_size(b, r), segments = offloads(r) ? (context + page - 1) / page * page : 0;
    int64_t rows = min64(r->trainer.batch.tokens, seqs * context),
            least = segments ? page : context;
    if (rows < least) rows = least;
    *l = (struct microbatch_limits){.rows_max = (int32_t)rows,
                                    .seqs_max = (int32_t)min64(seqs, rows),
                                    .context = (int32_t)context,
                                    .page = (int32_t)page,
                                    .segments = (int32_t)segments};
}

/* What the plan of a step is a function of, beside the batch. Attention's share of the work follows
 * from the shape; how fast this machine does it, the recipe says. */
static struct split_limits split_limits_of(const struct microbatch_limits *l, const struct shape *s,
                                           const struct recipe *r) {
    static const enum split_mode modes[] = {[RECIPE_PREFIX_OFF] = SPLIT_OFF,
                                            [RECIPE_PREFIX_PACKED] = SPLIT_PACKED,
                                            [RECIPE_PREFIX_SCHEDULE] = SPLIT_SCHEDULE,
                                            [RECIPE_PREFIX_AUTO] = SPLIT_AUTO};
    double d = s->d, q = (double)s->heads * s->head_width, kv = (double)s->kv_heads * s->head_width;
    bool off = r->trainer.prefix == RECIPE_PREFIX_OFF;
    double keys = 2 * d * kv, layer = keys + 2 * d * q + 3 * d * s->ffn;
    return (struct split_limits){.mode = modes[r->trainer.prefix],
                                 .rows = off ? (int32_t)min64(l->rows_max, r->trainer.batch.tokens)
                                             : l->rows_max,
                                 .seqs_max = l->seqs_max,
                                 .page = l->page,
                                 .offload = offloads(r),
                                 .cost = {.pass = r->trainer.prefix_cost_pass,
                                          .key = r->trainer.prefix_cost_key * 2 * q / layer,
                                          .last = (1 - keys / layer) / s->layers}};
}

/* Rows of logits at a time: about 24 MB of them. Each chunk reads the head twice and reads and
 * writes its gradient, as much memory as that many rows of a vocabulary: fewer rows cost time (1024
 * rows of 32000: 1.4 times the products at 64 rows, 1.2 at 192), more rows cost memory. */
static int32_t host_head_rows(const struct shape *s) {
    int32_t rows = (6 << 20) / s->vocab;
    rows = rows < 64 ? 64 : rows > 512 ? 512 : rows;
    return rows / 16 * 16;
}

/* On a device about 1 GiB of logits and their rounded gradient. A row of a chunk is 6 V d
 * operations, a chunk moves 12 V d bytes of weights and gradient whatever its rows: at 200
 * operations in the time of a byte these weigh as much as 400 rows. */
static int32_t device_head_rows(const struct shape *s, int32_t rows_max) {
    int32_t rows = (int32_t)(((int64_t)1 << 30) / (s->vocab * (s->bf16 ? 6 : 4)));
    rows = rows < 256 ? 256 : rows > 2048 ? 2048 : rows / 128 * 128;
    return rows < rows_max ? rows : rows_max;
}

static int32_t head_rows_of(const struct kern_backend *b, const struct shape *s, int32_t rows_max) {
    return kern_has_memory(b) ? device_head_rows(s, rows_max) : host_head_rows(s);
}

static int32_t segment_keys_of(const struct microbatch_limits *l) {
    return (l->context + l->page - 1) / l->page * l->page;
}

/* train: the policy; else the reference, which has no critic. */
static struct actor_config actor_config_of(const struct kern_backend *b, const struct shape *shape,
                                           const struct microbatch_limits *l,
                                           const struct recipe *r, bool train, int32_t recompute) {
    struct actor_config cfg = {.backend = b,
                               .shape = *shape,
                               .rows_max = l->rows_max,
                               .seqs_max = l->seqs_max,
                               .context = l->context,
                               .pages = microbatch_pages(l),
                               .page = l->page,
                               .head_rows = head_rows_of(b, shape, l->rows_max),
                               .train = train,
                               .recompute = train ? recompute : 0,
                               .offload_inputs = train && r->trainer.offload_activations,
                               .segment_keys = train && has_segments(r) ? segment_keys_of(l) : 0,
                               .offload_segments = train && offloads(r),
                               .pack = true,
                               .inexact = !r->model.exact};
    if (!train) cfg.shape.value_head = false;
    return cfg;
}

bool passes_wants_reference(const struct recipe *r) {
    return r->trainer.algorithm.kl.coef != 0;
}

static struct actor_config config_of(const struct kern_backend *b, const struct shape *shape,
                                     const struct recipe *r, bool train, int32_t recompute) {
    struct microbatch_limits l;
    microbatch_limits_of(&l, b, shape, r);
    return actor_config_of(b, shape, &l, r, train, recompute);
}

int passes_policy_memory(struct actor_plan *out, const struct kern_backend *b,
                         const struct shape *shape, const struct recipe *r, int32_t recompute) {
    struct actor_config cfg = config_of(b, shape, r, true, recompute);
    return actor_plan(out, &cfg);
}

int32_t passes_fewest_recomputed(const struct kern_backend *b, const struct shape *shape,
                                 const struct recipe *r, size_t bytes) {
    struct actor_config cfg = config_of(b, shape, r, true, 0);
    return actor_fewest_recomputed(&cfg, bytes);
}

size_t passes_reference_bytes(const struct kern_backend *b, const struct shape *shape,
                              const struct recipe *r) {
    struct actor_config cfg = config_of(b, shape, r, false, 0);
    return actor_bytes(&cfg);
}

size_t passes_microbatch_bytes(const struct kern_backend *b, const struct shape *shape,
                               const struct recipe *r) {
    struct microbatch_limits l;
    microbatch_limits_of(&l, b, shape, r);
    return microbatch_bytes(&l) + (size_t)l.rows_max * 3 * sizeof(float);
}

/* The microbatch and its rows are as large as the recipe lets a pass be; nothing of them grows. */
int passes_open(struct passes **out, const struct kern_backend *b, const struct shape *shape,
                const struct recipe *r, int32_t recompute) {
    struct passes *p = mem_zalloc(sizeof *p);
    struct microbatch_limits l;
    int rc = 0;
    microbatch_limits_of(&l, b, shape, r);
    p->limits = split_limits_of(&l, shape, r);
    microbatch_open(&p->microbatch, &l);
    p->mb_logprob = mem_array((size_t)l.rows_max, sizeof *p->mb_logprob);
    p->mb_entropy = mem_array((size_t)l.rows_max, sizeof *p->mb_entropy);
    p->mb_value = mem_array((size_t)l.rows_max, sizeof *p->mb_value);
    struct actor_config cfg = actor_config_of(b, shape, &l, r, true, recompute);
    TRY_OUT(actor_open(&p->actor, &cfg));
    cfg = actor_config_of(b, shape, &l, r, false, 0);
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
    microbatch_close(&p->microbatch);
    assign_close(&p->assign);
    split_close(&p->active);
    split_close(&p->flat);
    split_close(&p->one);
    columns_free(&p->traj_memory);
    mem_free(p->mb_logprob);
    mem_free(p->mb_entropy);
    mem_free(p->mb_value);
    mem_free(p->by_token);
    mem_free(p);
    *pp = NULL;
}

static struct actor *actor_of_net(const struct passes *p, enum passes_net net) {
    struct actor *a = net == PASSES_REFERENCE ? p->reference : p->actor;
    ASSERT(a);
    return a;
}

struct kern_stream *passes_stream(const struct passes *p) {
    return actor_stream(p->actor);
}

int32_t passes_context(const struct passes *p) {
    return p->microbatch.limits.context;
}

int passes_use(struct passes *p, enum passes_net net, const struct params *weights) {
    return actor_use(actor_of_net(p, net), weights);
}

void passes_watch(struct passes *p, int (*fn)(void *ctx), void *ctx) {
    p->watch = fn;
    p->watch_ctx = ctx;
}

/* --- the plan ------------------------------------------------------------------------------ */

void passes_set_ranks(struct passes *p, const struct rank_comm *ranks) {
    p->ranks = ranks;
}

int passes_sum_ranks(const struct passes *p, double *v, size_t n) {
    return p->ranks ? rank_comm_sum(p->ranks, v, n) : 0;
}

static void start_batch(struct passes *p, const struct batch *b, bool alone) {
    const struct column columns[] = {COLUMN(p->rows), COLUMN(p->first), COLUMN(p->tokens)};
    columns_zero(&p->traj_memory, b->n, columns, sizeof columns / sizeof columns[0]);
    p->batch = b;
    p->planned = false;
    p->n_tokens = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        p->first[i] = p->n_tokens;
        for (int32_t k = 0; k < t->n_response; k++)
            p->tokens[i] += t->mask[k];
        p->n_tokens += p->tokens[i];
    }
    p->alone = alone || !p->ranks;
    if (!p->alone) assign_make(&p->assign, b, p->ranks->ranks.n);
}

void passes_begin(struct passes *p, const struct batch *b) {
    start_batch(p, b, false);
}

void passes_begin_alone(struct passes *p, const struct batch *b) {
    start_batch(p, b, true);
}

bool passes_is_own(const struct passes *p, uint32_t i) {
    return p->alone || p->assign.owner[i] == p->ranks->ranks.rank;
}

int64_t passes_tokens(const struct passes *p) {
    return p->n_tokens;
}

int64_t passes_first(const struct passes *p, uint32_t i) {
    return p->first[i];
}

static void plan_part(struct passes *p, struct split *into, const bool *flat, bool which) {
    const struct batch *b = p->batch;
    for (uint32_t i = 0; i < b->n; i++)
        p->rows[i] =
            flat[i] == which && passes_is_own(p, i) ? microbatch_rows(&b->traj[i], false) : 0;
    split_make(into, b, p->rows, &p->limits);
}

void passes_plan(struct passes *p, const bool *flat) {
    plan_part(p, &p->active, flat, false);
    plan_part(p, &p->flat, flat, true);
    p->microbatches = p->active.passes + p->flat.passes;
    p->planned = true;
}

int64_t passes_microbatches(const struct passes *p) {
    return p->microbatches;
}

int64_t passes_rows(const struct passes *p) {
    return p->n_rows;
}

/* --- microbatches -------------------------------------------------------------------------- */

/* A part of a batch, and where its numbers go, by token. */
struct job {
    struct passes *p;
    const struct batch *batch;
    const struct split *plan;
    struct microbatch_tokens tokens;
    float inv_temp;
    float *logprob, *entropy, *value; /* the latter two may be NULL */
    passes_loss_fn *loss;
    void *ctx;
    int64_t n_predicted; /* trained tokens that passes have predicted so far */
};

static int call_watch(const struct passes *p) {
    return p->watch ? p->watch(p->watch_ctx) : 0;
}

static void build_microbatch(struct job *j, const struct split_op *op) {
    const struct split *plan = j->plan;
    struct microbatch *m = &j->p->microbatch;
    if (op->kind == SPLIT_WAVE)
        microbatch_wave(m, j->batch, &j->tokens, plan->item + op->first, op->n, op->from);
    else
        microbatch_frame(m, j->batch, &j->tokens, plan->order + op->first, op->n, op->from, op->to);
}

/* to, by token of the batch = from, by row: n rows from `first` on. */
static void scatter(const struct microbatch *m, int64_t first, int64_t n, float *to,
                    const float *from) {
    for (int64_t i = 0; to && i < n; i++)
        for (int32_t e = m->start[first + i]; e < m->start[first + i + 1]; e++)
            to[m->element[e]] = from[i];
}

/* Forward passes alone pop no segment: its keys stay in the pool until they are overwritten. */
static int forward_part(struct job *j, struct actor *a) {
    struct passes *p = j->p;
    const struct microbatch *m = &p->microbatch;
    for (int32_t i = 0; i < j->plan->n_ops; i++) {
        const struct split_op *op = &j->plan->op[i];
        if (op->kind == SPLIT_POP) continue;
        TRY(call_watch(p));
        build_microbatch(j, op);
        TRY(actor_forward(a, &m->in));
        p->n_rows += m->in.n_rows;
        if (m->n == 0) continue;
        TRY(actor_logprobs(a, m->row, m->target, m->n, j->inv_temp, p->mb_logprob,
                           j->entropy ? p->mb_entropy : NULL));
        if (j->value) TRY(actor_values(a, m->row, m->n, p->mb_value));
        scatter(m, 0, m->n, j->logprob, p->mb_logprob);
        scatter(m, 0, m->n, j->entropy, p->mb_entropy);
        scatter(m, 0, m->n, j->value, p->mb_value);
        j->n_predicted += m->start[m->n];
    }
    return 0;
}

static struct job job_of(struct passes *p, float inv_temp, float *logprob, float *entropy,
                         float *value) {
    return (struct job){.p = p,
                        .batch = p->batch,
                        .tokens = {.first = p->first},
                        .inv_temp = inv_temp,
                        .logprob = logprob,
                        .entropy = entropy,
                        .value = value};
}

/* The plan has each trained token of this rank's trajectories exactly once. */
static void check_predicted(const struct job *j) {
    int64_t own = 0;
    for (uint32_t i = 0; i < j->batch->n; i++)
        own += passes_is_own(j->p, i) ? j->p->tokens[i] : 0;
    ASSERT(j->n_predicted == own);
}

/* What each rank computed for its trajectories, to all ranks; entropy and value may be NULL. */
static int all_gather(struct passes *p, float *logprob, float *entropy, float *value) {
    if (p->alone) return 0;
    TRY(assign_all_gather(&p->assign, p->ranks, logprob));
    if (entropy) TRY(assign_all_gather(&p->assign, p->ranks, entropy));
    return value ? assign_all_gather(&p->assign, p->ranks, value) : 0;
}

int passes_logprobs(struct passes *p, enum passes_net net, float inv_temp, float *logprob,
                    float *entropy, float *value) {
    struct actor *a = actor_of_net(p, net);
    ASSERT(p->planned);
    struct job j = job_of(p, inv_temp, logprob, entropy, value);
    actor_unwind(a);
    j.plan = &p->active;
    TRY(forward_part(&j, a));
    j.plan = &p->flat;
    TRY(forward_part(&j, a));
    check_predicted(&j);
    return all_gather(p, logprob, entropy, value);
}

/* to, by row = sum of from, by token: n rows from `first` on, whose tokens `from` begins with. */
static void sum_by_row(const struct microbatch *m, int64_t first, int64_t n, float *to,
                       const float *from) {
    int32_t base = m->start[first];
    for (int64_t i = 0; to && i < n; i++) {
        double sum = 0;
        for (int32_t e = m->start[first + i]; e < m->start[first + i + 1]; e++)
            sum += (double)from[e - base];
        to[i] = (float)sum;
    }
}

/* The other way round: each row's value for each of its tokens. */
static void repeat_by_token(const struct microbatch *m, int64_t first, int64_t n, float *to,
                            const float *from) {
    for (int64_t i = 0; from && i < n; i++)
        for (int32_t e = m->start[first + i]; e < m->start[first + i + 1]; e++)
            *to++ = from[i];
}

/* The loss where rows predict for several trajectories: each has its own derivatives at the one
 * log-prob, and the row gets their sum. */
static int on_shared_rows(const struct job *j, int64_t first, const struct loss_rows *rows) {
    struct passes *p = j->p;
    const struct microbatch *m = &p->microbatch;
    int64_t n = m->start[first + rows->n] - m->start[first];
    ASSERT(n > rows->n);
    mem_grow(&p->by_token, &p->by_token_cap, 6 * (size_t)n, sizeof *p->by_token);
    float *lp = p->by_token, *ent = lp + n, *val = rows->value ? ent + n : NULL;
    float *glp = lp + 3 * n, *gent = glp + n, *gval = rows->g_value ? gent + n : NULL;
    struct loss_rows by_token = {n, lp, ent, val, glp, gent, gval};
    repeat_by_token(m, first, rows->n, lp, rows->logprob);
    repeat_by_token(m, first, rows->n, ent, rows->entropy);
    repeat_by_token(m, first, rows->n, val, rows->value);
    TRY(j->loss(j->ctx, m->element + m->start[first], &by_token));
    sum_by_row(m, first, rows->n, rows->g_logprob, glp);
    sum_by_row(m, first, rows->n, rows->g_entropy, gent);
    sum_by_row(m, first, rows->n, rows->g_value, gval);
    return 0;
}

/* The loss as the head sees it (actor_loss_fn): rows first.. of those that the microbatch lists. */
static int on_rows(void *ctx, int64_t first, const struct loss_rows *rows) {
    struct job *j = ctx;
    const struct microbatch *m = &j->p->microbatch;
    int64_t n = m->start[first + rows->n] - m->start[first];
    scatter(m, first, rows->n, j->logprob, rows->logprob);
    scatter(m, first, rows->n, j->entropy, rows->entropy);
    if (rows->value) scatter(m, first, rows->n, j->value, rows->value);
    j->n_predicted += n;
    if (n != rows->n) return on_shared_rows(j, first, rows);
    return j->loss(j->ctx, m->element + m->start[first], rows);
}

/* A wave runs forward and backward; a segment runs forward when it is pushed, and backward when it
 * is popped. */
static int gradient_op(struct job *j, const struct split_op *op, struct params *grads) {
    struct actor *a = j->p->actor;
    const struct microbatch *m = &j->p->microbatch;
    TRY(call_watch(j->p));
    build_microbatch(j, op);
    if (op->kind == SPLIT_POP)
        return actor_pop(a, &m->in, m->row, m->target, m->n, j->inv_temp, on_rows, j, grads);
    TRY(actor_forward(a, &m->in));
    j->p->n_rows += m->in.n_rows;
    if (op->kind == SPLIT_PUSH) return actor_push(a);
    return actor_backward(a, &m->in, m->row, m->target, m->n, j->inv_temp, on_rows, j, grads);
}

int passes_gradient(struct passes *p, float inv_temp, passes_loss_fn *loss, void *ctx,
                    struct params *grads, float *logprob, float *entropy, float *value) {
    ASSERT(p->planned);
    struct job j = job_of(p, inv_temp, logprob, entropy, value);
    j.loss = loss;
    j.ctx = ctx;
    j.plan = &p->active;
    actor_unwind(p->actor);
    for (int32_t i = 0; i < j.plan->n_ops; i++)
        TRY(gradient_op(&j, &j.plan->op[i], grads));
    j.plan = &p->flat;
    TRY(forward_part(&j, p->actor));
    check_predicted(&j);
    if (p->alone) return 0;
    double all = (double)p->microbatches;
    TRY(passes_sum_ranks(p, &all, 1));
    p->microbatches = (int64_t)all;
    return all_gather(p, logprob, entropy, value);
}

int passes_score(struct passes *p, const struct batch *b, uint32_t i, float inv_temp,
                 float *logprob) {
    const struct batch one = {.n = 1, .n_groups = 1, .traj = &b->traj[i]};
    const int64_t first = 0;
    const int32_t rows = microbatch_rows(one.traj, true);
    struct job j = job_of(p, inv_temp, logprob, NULL, NULL);
    split_make(&p->one, &one, &rows, &p->limits);
    j.batch = &one;
    j.plan = &p->one;
    j.tokens = (struct microbatch_tokens){.first = &first, .all = true};
    actor_unwind(p->actor);
    return forward_part(&j, p->actor);
}
