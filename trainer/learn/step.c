/* step.c - see step.h.
 *
 * What is minimised is decided in objective.c, how the network computes it in passes.c, what
 * becomes of the gradient in update.c; here is the order: look at the batch, write everything down
 * that the loss needs, then one gradient and one update for each part of the batch. Log-probs and
 * entropies come back in the order of the batch, so the reports do not depend on the packing at
 * all, and the gradient only by rounding.
 *
 * Several ranks: all do all of it for the whole batch; that they compute a part of the passes each
 * is known to passes.c, and that they keep a part of the moments each to update.c. Here rank 0
 * tells the others what to do, before it does the same. */
#include "trainer/learn/step.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "trainer/batch/batch_check.h"
#include "trainer/checkpoint/ckpt.h"
#include "trainer/learn/objective.h"
#include "trainer/learn/passes.h"
#include "trainer/learn/step_stats.h"
#include "trainer/optim/update.h"
#include "trainer/ranks/rank_comm.h"
#include "trainer/ranks/ranks.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct step {
    const struct kern_backend *backend;
    struct shape shape;
    struct params *weights;   /* f32; with rounded, other ranks' parts as of the last gather */
    struct params *rounded;   /* model.dtype bf16: the weights rounded, NULL: used as they are */
    struct params *reference; /* only where KL is used */
    struct passes *passes;
    struct update *update;
    char *model_dir;
    struct memplan room; /* taken at open */
    int64_t version, staleness_max;
    bool exact; /* the rollouts' log-probs are expected to the bit (I6) */
    struct objective *objective;
    struct ranks *ranks; /* NULL: one */
    struct rank_comm exchange;
    struct step_watch watch;
};

/* --- opening ------------------------------------------------------------------------------- */

static int load_weights(struct params *p, const struct recipe *r, const char *dir) {
    if (r->model.weights == RECIPE_WEIGHTS_RANDOM) return params_init(p, r->seed);
    return params_load(p, dir);
}

static int open_reference(struct step *s, const struct recipe *r) {
    const char *dir = r->trainer.algorithm.kl.reference;
    struct shape policy = s->shape;
    policy.value_head = false;
    if (!passes_wants_reference(r)) return 0;
    TRY(params_open(&s->reference, s->backend, &policy));
    if (dir)
        TRY(err_wrap(params_load(s->reference, dir), "trainer.algorithm.kl.reference"));
    else
        TRY(load_weights(s->reference, r, s->model_dir));
    return passes_use(s->passes, PASSES_REFERENCE, s->reference);
}

/* From here on the ranks are together. */
static int meet(struct step *s, struct shard_ranks *place) {
    if (!s->ranks) return 0;
    TRY(ranks_meet(s->ranks, s->backend));
    *place = ranks_place(s->ranks);
    return rank_comm_open(&s->exchange, s->backend, place);
}

static int agree(const struct step *s, struct hash h, const char *what) {
    return s->ranks ? rank_comm_agree(&s->exchange, h, what) : 0;
}

static int agree_on_weights(const struct step *s, const char *what) {
    struct hash h;
    if (!s->ranks) return 0;
    TRY(params_hash(&h, s->weights));
    return agree(s, h, what);
}

/* The passes compute with the policy as it is now; the stream is empty afterwards, so that it can
 * be read on another one. */
static int use_policy(struct step *s) {
    TRY(kern_sync(s->backend, passes_stream(s->passes)));
    return passes_use(s->passes, PASSES_POLICY, step_policy(s));
}

/* The same after the weights were loaded: an update rounds them itself. */
static int use_weights(struct step *s) {
    if (s->rounded) TRY(params_cast(s->rounded, s->weights, passes_stream(s->passes)));
    return use_policy(s);
}

static int open_weights(struct step *s, const struct recipe *r) {
    struct shape master = s->shape;
    master.bf16 = false;
    TRY(params_open(&s->weights, s->backend, &master));
    if (s->shape.bf16) TRY(params_open(&s->rounded, s->backend, &s->shape));
    return load_weights(s->weights, r, s->model_dir);
}

/* The backend is open. */
static int open_model(struct step *s, const struct recipe *r) {
    struct shard_ranks place = {.n = 1};
    TRY(meet(s, &place));
    s->shape.value_head = objective_wants_value_head(r);
    TRY(memplan_plan(&s->room, s->backend, &s->shape, r));
    TRY(open_weights(s, r));
    TRY(update_open(&s->update, s->backend, params_shape(s->weights), r, &place));
    TRY(passes_open(&s->passes, s->backend, &s->shape, r, s->room.recomputed));
    TRY(use_weights(s));
    TRY(open_reference(s, r));
    if (s->ranks) {
        passes_share(s->passes, &s->exchange);
        objective_share(s->objective, &s->exchange);
    }
    return agree_on_weights(s, "weights as loaded");
}

static int open_backend(struct step *s, const struct recipe *r) {
    TRY(shape_read(&s->shape, s->model_dir));
    s->shape.bf16 = r->model.dtype == RECIPE_DTYPE_BF16;
    TRY(kern_open(&s->backend, r->trainer.device, ranks_threads(r)));
    s->exact = r->model.exact || kern_always_exact(s->backend);
    return 0;
}

static struct step *new_step(const struct recipe *r, const char *model_dir) {
    struct step *s = mem_zalloc(sizeof *s);
    s->model_dir = mem_strdup(model_dir);
    s->staleness_max = r->trainer.staleness.max;
    s->objective = objective_open(r);
    return s;
}

int step_open(struct step **out, const struct recipe *r, const char *model_dir) {
    struct step *s = new_step(r, model_dir);
    int rc = open_backend(s, r);
    if (rc == 0 && r->trainer.ranks > 1) rc = ranks_start(&s->ranks, r, model_dir, s->backend);
    if (rc == 0) rc = ranks_explain(s->ranks, open_model(s, r));
    if (rc < 0)
        step_close(&s);
    else
        *out = s;
    return rc;
}

void step_close(struct step **s) {
    struct step *p = *s;
    if (!p) return;
    passes_close(&p->passes);
    update_close(&p->update);
    params_close(&p->weights);
    params_close(&p->rounded);
    params_close(&p->reference);
    objective_close(&p->objective);
    rank_comm_close(&p->exchange);
    ranks_close(&p->ranks);
    mem_free(p->model_dir);
    if (p->backend) kern_close(p->backend);
    mem_free(p);
    *s = NULL;
}

int step_plan(struct memplan *out, const struct recipe *r, const struct shape *shape) {
    const struct kern_backend *b;
    struct shape own = *shape;
    own.value_head = objective_wants_value_head(r);
    own.bf16 = r->model.dtype == RECIPE_DTYPE_BF16;
    TRY(kern_open(&b, r->trainer.device, 1));
    int rc = memplan_plan(out, b, &own, r);
    kern_close(b);
    return rc;
}

void step_watch(struct step *s, const struct step_watch *w) {
    s->watch = *w;
    passes_watch(s->passes, w->between, w->ctx);
}

struct kern_stream *step_stream(const struct step *s) {
    return passes_stream(s->passes);
}

const struct memplan *step_room(const struct step *s) {
    return &s->room;
}

/* --- orders to the other ranks --------------------------------------------------------------- */

enum order { ORDER_STEP, ORDER_SFT, ORDER_SLAB, ORDER_GATHER, ORDER_LOAD };
static const uint64_t order_bytes_max = (uint64_t)1 << 40; /* of what belongs to an order */

/* The order and what belongs to it; nothing without other ranks. */
static int give(struct step *s, enum order kind, int64_t version, void *data, size_t bytes) {
    struct ranks_order o = {.kind = kind, .version = version, .bytes = bytes};
    if (!s->ranks) return 0;
    TRY(ranks_tell(s->ranks, &o));
    return ranks_explain(s->ranks, rank_comm_broadcast(&s->exchange, data, bytes, 0));
}

static int lead(struct step *s, enum order kind, const struct batch *b) {
    struct buf bytes = {0};
    if (!s->ranks) return 0;
    batch_pack(&bytes, b);
    int rc = give(s, kind, s->version, bytes.data, bytes.len);
    buf_close(&bytes);
    return rc;
}

static struct batch_check limits_of(const struct step *s, bool supervised) {
    return (struct batch_check){.vocab = s->shape.vocab,
                                .context = passes_context(s->passes),
                                .version = s->version,
                                .staleness_max = s->staleness_max,
                                .supervised = supervised};
}

/* --- the step ------------------------------------------------------------------------------ */

/* What several optimizer steps of one batch did, as one: norm and cosine are means, of the steps
 * that have one; the action is the last one's. */
struct applied {
    double norm, cosine;
    int64_t steps, cosines, taken;
};

static int apply(struct step *s, bool control, uint32_t k, struct step_report *out,
                 struct applied *all) {
    struct update_report u;
    struct update_turn turn = {.control = control,
                               .staleness = out->staleness_mean,
                               .lr_factor = objective_lr_scale(s->objective, k),
                               .rounded = s->rounded,
                               .more = k > 0};
    if (s->watch.before_update) TRY(s->watch.before_update(s->watch.ctx));
    TRY(update_apply(s->update, passes_stream(s->passes), s->weights, &turn, &u));
    out->lr = u.lr;
    out->gac_removed = u.removed;
    out->gac_lr_factor = u.lr_factor;
    out->gac_skips = u.skips;
    out->gac_c_low = u.c_low;
    out->gac_c_high = u.c_high;
    out->gac_action = align_name(u.action);
    out->changed = u.changed;
    all->norm += u.grad_norm;
    all->steps++;
    if (isfinite(u.cosine)) {
        all->cosine += u.cosine;
        all->cosines++;
    }
    if (!isfinite(u.grad_norm))
        LOG_LIMITED(WARN, TRAINER, "version=%" PRId64 " gradient is not finite: step not taken",
                    s->version);
    all->taken += u.applied;
    return u.applied ? use_policy(s) : 0;
}

/* One gradient and one update after another; one version for all of them. */
static int descend(struct step *s, bool control, struct step_report *out) {
    struct applied all = {0};
    for (uint32_t k = 0; k < objective_steps(s->objective); k++) {
        struct params *grads;
        TRY(update_begin(s->update, &grads));
        TRY(objective_gradient(s->objective, s->passes, k, grads));
        TRY(apply(s, control, k, out, &all));
    }
    out->grad_norm = all.norm / (double)all.steps;
    out->gac_cosine = all.cosines ? all.cosine / (double)all.cosines : (double)NAN;
    s->version += all.taken > 0;
    TRY(params_hash(&out->weights_hash, step_policy(s)));
    return agree(s, out->weights_hash, "weights after the step");
}

static struct step_report blank_report(const struct step *s) {
    double none = (double)NAN;
    return (struct step_report){.step = s->version,
                                .value_loss = none,
                                .value_clip_fraction = none,
                                .value_mean = none,
                                .explained_variance = none,
                                .logprob_diff = {none, none},
                                .logprob_engine = {none, none},
                                .logprob_lag = {none, none},
                                .mismatch_kl = none,
                                .changed = none};
}

/* The last look at the batch: after it nothing is refused. */
static int admit(const struct step *s, const struct batch *b, bool supervised) {
    struct batch_check limits = limits_of(s, supervised);
    TRY(batch_check_batch(&limits, b));
    if (supervised) return 0;
    TRY(batch_check_staleness(&limits, b));
    return objective_check(s->objective, b);
}

static int train(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = blank_report(s);
    int64_t version = s->version;
    uint32_t n;
    TRY(objective_prepare(s->objective, s->passes, s->update, b, version));
    step_stats_lengths(&r, b, version); /* the learning rate may follow the staleness */
    TRY(descend(s, true, &r));
    step_stats_rewards(&r, b);
    const float *logprob = objective_logprobs(s->objective, &n);
    step_stats_mismatch(&r, b, version, logprob, n, s->exact);
    objective_report(s->objective, &r);
    r.zero_groups = step_stats_zero_groups(b);
    *out = r;
    return 0;
}

static int train_sft(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = blank_report(s);
    objective_prepare_supervised(s->objective, s->passes, b, s->version);
    step_stats_lengths(&r, b, s->version);
    TRY(descend(s, false, &r)); /* supervised gradients are aligned by nature */
    objective_report(s->objective, &r);
    r.staleness_mean = r.staleness_max = 0;
    *out = r;
    return 0;
}

int step_run(struct step *s, struct batch *b, struct step_report *out) {
    TRY(admit(s, b, false));
    TRY(lead(s, ORDER_STEP, b));
    return ranks_explain(s->ranks, train(s, b, out));
}

int step_run_sft(struct step *s, struct batch *b, struct step_report *out) {
    TRY(admit(s, b, true));
    TRY(lead(s, ORDER_SFT, b));
    return ranks_explain(s->ranks, train_sft(s, b, out));
}

int step_score(struct step *s, const struct batch *b, uint32_t i, float inv_temp, float *logprob) {
    const struct batch one = {.n = 1, .n_groups = b->traj[i].group + 1, .traj = &b->traj[i]};
    struct batch_check limits = limits_of(s, true);
    TRY(batch_check_trajectories(&limits, &one));
    if (b->traj[i].n_response == 0) return 0;
    return passes_score(s->passes, &one, 0, inv_temp, logprob);
}

const struct params *step_weights(const struct step *s) {
    return s->weights;
}

const struct params *step_policy(const struct step *s) {
    return s->rounded ? s->rounded : s->weights;
}

int64_t step_version(const struct step *s) {
    return s->version;
}

void step_advance(struct step *s) {
    s->version++;
}

void step_set_version(struct step *s, int64_t version) {
    ASSERT(version >= s->version);
    s->version = version;
}

int step_hash(struct hash *out, const struct step *s) {
    return params_hash(out, step_policy(s));
}

/* --- checkpoints --------------------------------------------------------------------------- */

/* Bytes [at, at + bytes) of slab i, which rank `owner` keeps. All ranks. */
static int read_from(struct step *s, int i, int owner, void *out, size_t at, size_t bytes) {
    struct update_slab slab = update_slab(s->update, i);
    struct shard_ranks place = ranks_place(s->ranks);
    if (place.rank == owner)
        TRY(update_get(s->update, i, out, at - (size_t)slab.offset * slab.size, bytes));
    return rank_comm_broadcast(&s->exchange, out, bytes, owner);
}

/* What others keep is asked for piece by piece, so that a failure between two pieces leaves no
 * rank waiting. */
static int ask_for(struct step *s, int i, int owner, void *out, size_t at, size_t bytes) {
    struct ranks_order o = {
        .kind = ORDER_SLAB, .slab = i, .version = owner, .at = at, .bytes = bytes};
    TRY(ranks_tell(s->ranks, &o));
    return ranks_explain(s->ranks, read_from(s, i, owner, out, at, bytes));
}

/* Of the whole slab (struct ckpt). */
static int read_slab(void *ctx, int i, void *out, size_t at, size_t bytes) {
    struct step *s = ctx;
    struct update_slab slab = update_slab(s->update, i);
    int64_t elements = params_slab_elements(&s->shape);
    if (!s->ranks) return update_get(s->update, i, out, at, bytes);
    struct shard_ranks place = ranks_place(s->ranks);
    for (place.rank = 0; place.rank < place.n; place.rank++) {
        size_t from = (size_t)shard_offset(&place, elements) * slab.size;
        size_t to = from + (size_t)shard_elements(&place, elements) * slab.size;
        if (from < at) from = at;
        if (to > at + bytes) to = at + bytes;
        if (from >= to) continue;
        char *into = (char *)out + (from - at);
        if (place.rank == 0)
            TRY(update_get(s->update, i, into, from, to - from));
        else
            TRY(ask_for(s, i, place.rank, into, from, to - from));
    }
    return 0;
}

static int gather(struct step *s) {
    struct kern_stream *stream = passes_stream(s->passes);
    TRY(update_gather(s->update, stream, s->weights));
    return kern_sync(s->backend, stream);
}

/* The ranks' parts of the f32 weights meet here, and not after each step, where the policy is
 * another slab. */
int step_gather(struct step *s) {
    struct ranks_order o = {.kind = ORDER_GATHER, .version = s->version, .bytes = 1};
    if (!s->ranks || !s->rounded) return 0;
    TRY(ranks_tell(s->ranks, &o));
    return ranks_explain(s->ranks, gather(s));
}

int step_checkpoint(struct step *s, struct ckpt *out) {
    TRY(step_gather(s));
    *out = (struct ckpt){.version = s->version,
                         .state = update_state(s->update),
                         .model_dir = s->model_dir,
                         .weights = s->weights,
                         .update = s->update,
                         .read_slab = read_slab,
                         .ctx = s};
    return 0;
}

int step_save(struct step *s, const char *dir, int64_t keep) {
    struct ckpt c;
    TRY(step_checkpoint(s, &c));
    return ckpt_save(&c, dir, keep);
}

static int load(struct step *s, const char *dir, int64_t at) {
    struct ckpt c = {.weights = s->weights, .update = s->update};
    TRY(ckpt_load(&c, dir, at));
    update_restore(s->update, &c.state);
    s->version = c.version;
    return use_weights(s);
}

/* Rank 0 finds out which one is whole; the others take that one. */
int step_load(struct step *s, const char *dir, int64_t at) {
    TRY(load(s, dir, at));
    if (!s->ranks) return 0;
    char *name = mem_strdup(dir);
    int rc = give(s, ORDER_LOAD, s->version, name, strlen(name) + 1);
    mem_free(name);
    TRY(rc);
    return ranks_explain(s->ranks, agree_on_weights(s, "weights as loaded"));
}

/* --- another rank ---------------------------------------------------------------------------- */

static int obey_step(struct step *s, bool supervised, const void *data, size_t bytes) {
    struct step_report report;
    struct batch *b = NULL;
    int rc;
    TRY_OUT(batch_unpack(&b, data, bytes));
    TRY_OUT(admit(s, b, supervised));
    rc = supervised ? train_sft(s, b, &report) : train(s, b, &report);
out:
    batch_close(&b);
    return rc;
}

static int obey_load(struct step *s, char *dir, size_t bytes, int64_t version) {
    if (dir[bytes - 1] != '\0') return FAIL(ERR_CORRUPT, "the folder's name is not whole");
    TRY(load(s, dir, version));
    return agree_on_weights(s, "weights as loaded");
}

static int obey(struct step *s, const struct ranks_order *o, void *data) {
    if (o->kind == ORDER_SLAB) return read_from(s, o->slab, (int)o->version, data, o->at, o->bytes);
    if (o->kind == ORDER_GATHER) return gather(s);
    TRY(rank_comm_broadcast(&s->exchange, data, o->bytes, 0));
    if (o->kind == ORDER_LOAD) return obey_load(s, data, o->bytes, o->version);
    s->version = o->version; /* rank 0 may have renamed it */
    return obey_step(s, o->kind == ORDER_SFT, data, o->bytes);
}

static int follow(struct step *s) {
    for (struct ranks_order o; ranks_hear(s->ranks, &o) == 0;) {
        if (o.bytes == 0 || o.bytes > order_bytes_max || o.kind > ORDER_LOAD)
            return FAIL(ERR_CORRUPT, "order %u of %" PRIu64 " bytes", o.kind, o.bytes);
        void *data = mem_alloc(o.bytes);
        int rc = obey(s, &o, data);
        mem_free(data);
        TRY(rc);
    }
    return 0; /* rank 0 wants no more */
}

int step_serve(int fd) {
    struct ranks *ranks;
    struct recipe *r;
    char *dir;
    TRY(ranks_join(&ranks, fd, &r, &dir));
    struct step *s = new_step(r, dir);
    s->ranks = ranks;
    int rc = open_backend(s, r);
    if (rc == 0) rc = open_model(s, r);
    if (rc == 0) rc = follow(s);
    err_ignore(ranks_explain(ranks, rc), "rank 0 has been told, or is not there any more");
    step_close(&s);
    recipe_close(&r);
    mem_free(dir);
    return 0;
}
