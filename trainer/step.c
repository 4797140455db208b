/* step.c - see step.h.
 *
 * What is minimised is decided in objective.c, how the network computes it in passes.c, what
 * becomes of the gradient in update.c; here is the order: look at the batch, write everything down
 * that the loss needs, then one gradient and one update for each part of the batch. Log-probs and
 * entropies come back in the order of the batch, so the reports do not depend on the packing at
 * all, and the gradient only by rounding. */
#include "trainer/step.h"

#include "base/log.h"
#include "base/mem.h"
#include "trainer/admit.h"
#include "trainer/ckpt.h"
#include "trainer/measure.h"
#include "trainer/objective.h"
#include "trainer/passes.h"
#include "trainer/update.h"

#include <inttypes.h>
#include <math.h>

struct step {
    const struct kern_backend *backend;
    struct shape shape;
    struct params *weights, *reference; /* the latter only where KL is used */
    struct passes *passes;
    struct update *update;
    char *model_dir;
    size_t bytes; /* taken at open */
    int64_t version, staleness_max;
    struct objective *objective;
};

/* --- opening ------------------------------------------------------------------------------- */

static size_t bytes_of(const struct kern_backend *b, const struct shape *shape,
                       const struct recipe *r) {
    size_t weights = (size_t)params_slab_elements(shape) * sizeof(float);
    if (passes_wants_reference(r)) weights += (size_t)params_policy_elements(shape) * sizeof(float);
    return weights + update_bytes(shape, r, NULL) + passes_bytes(b, shape, r);
}

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

static int open_model(struct step *s, const struct recipe *r) {
    TRY(kern_open(&s->backend, r->trainer.device, (int)r->trainer.threads));
    TRY(shape_read(&s->shape, s->model_dir));
    s->shape.value_head = objective_wants_value_head(r);
    s->bytes = bytes_of(s->backend, &s->shape, r);
    TRY(params_open(&s->weights, s->backend, &s->shape));
    TRY(load_weights(s->weights, r, s->model_dir));
    TRY(update_open(&s->update, s->backend, &s->shape, r, NULL));
    TRY(passes_open(&s->passes, s->backend, &s->shape, r));
    TRY(passes_use(s->passes, PASSES_POLICY, s->weights));
    return open_reference(s, r);
}

int step_open(struct step **out, const struct recipe *r, const char *model_dir) {
    struct step *s = mem_zalloc(sizeof *s);
    s->model_dir = mem_strdup(model_dir);
    s->staleness_max = r->trainer.staleness.max;
    s->objective = objective_open(r);
    int rc = open_model(s, r);
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
    params_close(&p->reference);
    objective_close(&p->objective);
    mem_free(p->model_dir);
    if (p->backend) kern_close(p->backend);
    mem_free(p);
    *s = NULL;
}

int step_plan_bytes(size_t *out, const struct recipe *r, const struct shape *shape) {
    const struct kern_backend *b;
    struct shape own = *shape;
    own.value_head = objective_wants_value_head(r);
    TRY(kern_open(&b, r->trainer.device, 1));
    *out = bytes_of(b, &own, r);
    kern_close(b);
    return 0;
}

size_t step_bytes(const struct step *s) {
    return s->bytes;
}

static struct admit limits_of(const struct step *s, bool supervised) {
    return (struct admit){.vocab = s->shape.vocab,
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
                               .lr_factor = objective_lr_scale(s->objective, k)};
    TRY(update_apply(s->update, passes_stream(s->passes), s->weights, &turn, &u));
    out->lr = u.lr;
    out->gac_removed = u.removed;
    out->gac_lr_factor = u.lr_factor;
    out->gac_skips = u.skips;
    out->gac_c_low = u.c_low;
    out->gac_c_high = u.c_high;
    out->gac_action = align_name(u.action);
    all->norm += u.grad_norm;
    all->steps++;
    if (isfinite(u.cosine)) {
        all->cosine += u.cosine;
        all->cosines++;
    }
    if (!isfinite(u.grad_norm))
        LOG(WARN, TRAINER, "version=%" PRId64 " gradient is not finite: step not taken",
            s->version);
    all->taken += u.applied;
    return u.applied ? passes_use(s->passes, PASSES_POLICY, s->weights) : 0;
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
    return params_hash(&out->weights_hash, s->weights);
}

static struct step_report blank_report(const struct step *s) {
    double none = (double)NAN;
    return (struct step_report){.step = s->version,
                                .value_loss = none,
                                .value_clip_fraction = none,
                                .value_mean = none,
                                .explained_variance = none,
                                .mismatch_kl = none,
                                .logprob_diff_max = none};
}

int step_run(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = blank_report(s);
    struct admit limits = limits_of(s, false);
    int64_t version = s->version;
    uint32_t n;
    TRY(admit_batch(&limits, b));
    TRY(admit_staleness(&limits, b));
    TRY(objective_prepare(s->objective, s->passes, s->update, b, version));
    measure_lengths(&r, b, version); /* the learning rate may follow the staleness */
    TRY(descend(s, true, &r));
    measure_rewards(&r, b);
    const float *logprob = objective_logprobs(s->objective, &n);
    measure_mismatch(&r, b, version, logprob, n);
    objective_report(s->objective, &r);
    r.zero_groups = measure_zero_groups(b);
    *out = r;
    return 0;
}

int step_run_sft(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = blank_report(s);
    struct admit limits = limits_of(s, true);
    TRY(admit_batch(&limits, b));
    objective_prepare_supervised(s->objective, s->passes, b, s->version);
    measure_lengths(&r, b, s->version);
    TRY(descend(s, false, &r)); /* supervised gradients are aligned by nature */
    objective_report(s->objective, &r);
    r.staleness_mean = r.staleness_max = 0;
    *out = r;
    return 0;
}

int step_score(struct step *s, const struct batch *b, uint32_t i, float inv_temp, float *logprob) {
    const struct batch one = {.n = 1, .n_groups = b->traj[i].group + 1, .traj = &b->traj[i]};
    struct admit limits = limits_of(s, true);
    TRY(admit_trajectories(&limits, &one));
    if (b->traj[i].n_response == 0) return 0;
    return passes_score(s->passes, &one, 0, inv_temp, logprob);
}

const struct params *step_weights(const struct step *s) {
    return s->weights;
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
    return params_hash(out, s->weights);
}

/* --- checkpoints --------------------------------------------------------------------------- */

int step_save(const struct step *s, const char *dir, int64_t keep) {
    struct ckpt c = {.version = s->version,
                     .state = update_state(s->update),
                     .model_dir = s->model_dir,
                     .weights = s->weights,
                     .update = s->update};
    return ckpt_save(&c, dir, keep);
}

int step_load(struct step *s, const char *dir, int64_t at) {
    struct ckpt c = {.weights = s->weights, .update = s->update};
    TRY(ckpt_load(&c, dir, at));
    update_restore(s->update, &c.state);
    s->version = c.version;
    return passes_use(s->passes, PASSES_POLICY, s->weights);
}
