/* step.c - see step.h.
 *
 * What is minimised is decided in objective.c, how the network computes it in passes.c, what
 * becomes of the gradient in update.c; here is the order: look at the batch, write everything down
 * that the loss needs, then one gradient and one update for each part of the batch. Log-probs and
 * entropies come back in the order of the batch, so the reports do not depend on the packing at
 * all, and the gradient only by rounding.
 *
 * Several ranks: all do all of it for the whole batch, the others as rank 0 commands them
 * (step_ranks.c). */
#include "trainer/learn/step.h"

#include "base/log.h"
#include "base/mem.h"
#include "trainer/batch/batch_check.h"
#include "trainer/learn/step_impl.h"
#include "trainer/learn/step_stats.h"

#include <inttypes.h>
#include <math.h>

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

/* The passes compute with the policy as it is now; the stream is empty afterwards, so that it can
 * be read on another one. */
static int use_policy(struct step *s) {
    TRY(kern_sync(s->backend, passes_stream(s->passes)));
    return passes_use(s->passes, PASSES_POLICY, step_policy(s));
}

/* Rounds the f32 weights for the passes; after an update AdamW has done that. */
int step_use_weights(struct step *s) {
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

int step_open_model(struct step *s, const struct recipe *r) {
    struct shard_ranks place = {.n = 1};
    TRY(step_ranks_connect(s, &place));
    s->shape.value_head = objective_wants_value_head(r);
    TRY(memplan_plan(&s->memory, s->backend, &s->shape, r));
    TRY(open_weights(s, r));
    TRY(update_open(&s->update, s->backend, params_shape(s->weights), r, &place));
    TRY(passes_open(&s->passes, s->backend, &s->shape, r, s->memory.recomputed));
    TRY(step_use_weights(s));
    TRY(open_reference(s, r));
    if (s->ranks) passes_set_ranks(s->passes, &s->comm);
    return step_ranks_check_weights(s, "weights as loaded");
}

int step_open_backend(struct step *s, const struct recipe *r) {
    TRY(shape_read(&s->shape, s->model_dir));
    s->shape.bf16 = r->model.dtype == RECIPE_DTYPE_BF16;
    TRY(kern_open(&s->backend, r->trainer.device, ranks_threads(r)));
    s->exact = r->model.exact || kern_always_exact(s->backend);
    return 0;
}

struct step *step_new(const struct recipe *r, const char *model_dir) {
    struct step *s = mem_zalloc(sizeof *s);
    s->model_dir = mem_strdup(model_dir);
    s->staleness_max = r->trainer.staleness.max;
    s->objective = objective_open(r);
    return s;
}

int step_open(struct step **out, const struct recipe *r, const char *model_dir) {
    struct step *s = step_new(r, model_dir);
    int rc = step_open_backend(s, r);
    if (rc == 0 && r->trainer.ranks > 1) rc = ranks_start(&s->ranks, r, model_dir, s->backend);
    if (rc == 0) rc = ranks_explain(s->ranks, step_open_model(s, r));
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
    rank_comm_close(&p->comm);
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
    s->before_update = w->before_update;
    s->watch_ctx = w->ctx;
    passes_watch(s->passes, w->between, w->ctx);
}

struct kern_stream *step_stream(const struct step *s) {
    return passes_stream(s->passes);
}

const struct memplan *step_memory(const struct step *s) {
    return &s->memory;
}

/* --- the step ------------------------------------------------------------------------------ */

static struct batch_check batch_limits(const struct step *s, bool supervised) {
    return (struct batch_check){.vocab = s->shape.vocab,
                                .context = passes_context(s->passes),
                                .version = s->version,
                                .staleness_max = s->staleness_max,
                                .supervised = supervised};
}

/* What several optimizer steps of one batch did, as one: norm and cosine are means, of the steps
 * that have one; the action is the last one's. */
struct applied {
    double norm, cosine;
    int64_t steps, cosines, taken;
};

/* Takes optimizer step k, or skips it, as update.c decides; out says what the last one did. */
static int apply_update(struct step *s, bool control, uint32_t k, struct step_report *out,
                        struct applied *all) {
    struct update_report u;
    struct update_turn turn = {.control = control,
                               .staleness = out->staleness_mean,
                               .lr_factor = objective_lr_scale(s->objective, k),
                               .rounded = s->rounded,
                               .more = k > 0};
    if (s->before_update) TRY(s->before_update(s->watch_ctx));
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

/* One gradient and one update after another. All of them make one version, and none where every
 * update was skipped. */
static int run_updates(struct step *s, bool control, struct step_report *out) {
    struct applied all = {0};
    for (uint32_t k = 0; k < objective_steps(s->objective); k++) {
        struct params *grads;
        TRY(update_begin(s->update, &grads));
        TRY(objective_gradient(s->objective, s->passes, k, grads));
        TRY(apply_update(s, control, k, out, &all));
    }
    out->grad_norm = all.norm / (double)all.steps;
    out->gac_cosine = all.cosines ? all.cosine / (double)all.cosines : (double)NAN;
    s->version += all.taken > 0;
    TRY(params_hash(&out->weights_hash, step_policy(s)));
    return step_ranks_check_equal(s, out->weights_hash, "weights after the step");
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

int step_check_batch(const struct step *s, const struct batch *b, bool supervised) {
    struct batch_check limits = batch_limits(s, supervised);
    TRY(batch_check_batch(&limits, b));
    if (supervised) return 0;
    TRY(batch_check_staleness(&limits, b));
    return objective_check(s->objective, b);
}

static int train_rl(struct step *s, struct batch *b, struct step_report *r) {
    int64_t version = s->version;
    uint32_t n;
    TRY(objective_prepare(s->objective, s->passes, s->update, b, version));
    step_stats_lengths(r, b, version); /* the learning rate may follow the staleness */
    TRY(run_updates(s, true, r));
    step_stats_rewards(r, b);
    const float *logprob = objective_logprobs(s->objective, &n);
    step_stats_mismatch(r, b, version, logprob, n, s->exact);
    objective_report(s->objective, r);
    r->zero_groups = step_stats_zero_groups(b);
    return 0;
}

static int train_sft(struct step *s, struct batch *b, struct step_report *r) {
    objective_prepare_supervised(s->objective, s->passes, b, s->version);
    step_stats_lengths(r, b, s->version);
    TRY(run_updates(s, false, r)); /* supervised gradients are aligned by nature */
    objective_report(s->objective, r);
    r->staleness_mean = r->staleness_max = 0;
    return 0;
}

int step_train(struct step *s, struct batch *b, bool supervised, struct step_report *out) {
    struct step_report r = blank_report(s);
    TRY(supervised ? train_sft(s, b, &r) : train_rl(s, b, &r));
    *out = r;
    return 0;
}

static int train_on_ranks(struct step *s, struct batch *b, bool supervised,
                          struct step_report *out) {
    TRY(step_check_batch(s, b, supervised));
    TRY(step_ranks_command_train(s, b, supervised));
    return ranks_explain(s->ranks, step_train(s, b, supervised, out));
}

int step_run(struct step *s, struct batch *b, struct step_report *out) {
    return train_on_ranks(s, b, false, out);
}

int step_run_sft(struct step *s, struct batch *b, struct step_report *out) {
    return train_on_ranks(s, b, true, out);
}

int step_score(struct step *s, const struct batch *b, uint32_t i, float inv_temp, float *logprob) {
    const struct batch one = {.n = 1, .n_groups = b->traj[i].group + 1, .traj = &b->traj[i]};
    struct batch_check limits = batch_limits(s, true);
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
