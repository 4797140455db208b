/* step.c - see step.h.
 *
 * Everything that the loss needs of a token (advantage, weight, behaviour and reference log-prob)
 * is written down before the first microbatch; log-probs and entropies come back into the order of
 * the batch (passes.h). So the reports do not depend on the packing at all, and the gradient only
 * by rounding. The host numbers by trajectory and token grow to the largest batch seen and stay. */
#include "trainer/step.h"

#include "base/log.h"
#include "base/mem.h"
#include "trainer/admit.h"
#include "trainer/adv.h"
#include "trainer/ckpt.h"
#include "trainer/loss.h"
#include "trainer/measure.h"
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
    float inv_temp;
    bool divide_by_std, sequence_mean;
    struct loss_config loss;

    /* by trajectory */
    double *reward, *advantage;
    int32_t *group;
    bool *flat;
    size_t reward_cap, advantage_cap, group_cap, flat_cap;
    /* by trained token, in the order of the batch */
    struct loss_token *token;
    float *logprob, *entropy;
    size_t token_cap, logprob_cap, entropy_cap;
};

/* --- opening ------------------------------------------------------------------------------- */

static size_t bytes_of(const struct kern_backend *b, const struct shape *shape,
                       const struct recipe *r) {
    size_t slab = (size_t)params_slab_elements(shape) * sizeof(float);
    size_t weights = passes_wants_reference(r) ? 2 * slab : slab;
    return weights + update_bytes(shape, r, NULL) + passes_bytes(b, shape, r);
}

static int load_weights(struct params *p, const struct recipe *r, const char *dir) {
    if (r->model.weights == RECIPE_WEIGHTS_RANDOM) return params_init(p, r->seed);
    return params_load(p, dir);
}

static int open_reference(struct step *s, const struct recipe *r) {
    const char *dir = r->trainer.algorithm.kl.reference;
    if (!passes_wants_reference(r)) return 0;
    TRY(params_open(&s->reference, s->backend, &s->shape));
    if (dir)
        TRY(err_wrap(params_load(s->reference, dir), "trainer.algorithm.kl.reference"));
    else
        TRY(load_weights(s->reference, r, s->model_dir));
    return passes_use(s->passes, PASSES_REFERENCE, s->reference);
}

static void read_recipe(struct step *s, const struct recipe *r) {
    s->staleness_max = r->trainer.staleness.max;
    s->inv_temp = (float)(1 / (r->rollout.temperature > 0 ? r->rollout.temperature : 1));
    s->divide_by_std = r->trainer.algorithm.advantage == RECIPE_ADV_GRPO;
    s->sequence_mean = r->trainer.algorithm.aggregation == RECIPE_SEQUENCE_MEAN;
    s->loss = (struct loss_config){.clip_low = r->trainer.algorithm.clip_low,
                                   .clip_high = r->trainer.algorithm.clip_high,
                                   .kl_coef = r->trainer.algorithm.kl.coef,
                                   .kl = r->trainer.algorithm.kl.type,
                                   .entropy_coef = r->trainer.algorithm.entropy};
}

static int open_model(struct step *s, const struct recipe *r) {
    TRY(kern_open(&s->backend, r->trainer.device, (int)r->trainer.threads));
    TRY(shape_read(&s->shape, s->model_dir));
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
    read_recipe(s, r);
    int rc = open_model(s, r);
    if (rc < 0)
        step_close(&s);
    else
        *out = s;
    return rc;
}

static void free_host(struct step *s) {
    mem_free(s->reward);
    mem_free(s->advantage);
    mem_free(s->group);
    mem_free(s->flat);
    mem_free(s->token);
    mem_free(s->logprob);
    mem_free(s->entropy);
    mem_free(s->model_dir);
}

void step_close(struct step **s) {
    struct step *p = *s;
    if (!p) return;
    passes_close(&p->passes);
    update_close(&p->update);
    params_close(&p->weights);
    params_close(&p->reference);
    free_host(p);
    if (p->backend) kern_close(p->backend);
    mem_free(p);
    *s = NULL;
}

int step_plan_bytes(size_t *out, const struct recipe *r, const struct shape *shape) {
    const struct kern_backend *b;
    TRY(kern_open(&b, r->trainer.device, 1));
    *out = bytes_of(b, shape, r);
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

/* --- before the first microbatch ----------------------------------------------------------- */

static void begin(struct step *s, const struct batch *b) {
    passes_begin(s->passes, b);
    size_t n = b->n, tokens = (size_t)passes_tokens(s->passes);
    mem_grow(&s->reward, &s->reward_cap, n, sizeof *s->reward);
    mem_grow(&s->advantage, &s->advantage_cap, n, sizeof *s->advantage);
    mem_grow(&s->group, &s->group_cap, n, sizeof *s->group);
    mem_grow(&s->flat, &s->flat_cap, n, sizeof *s->flat);
    mem_grow(&s->token, &s->token_cap, tokens, sizeof *s->token);
    mem_grow(&s->logprob, &s->logprob_cap, tokens, sizeof *s->logprob);
    mem_grow(&s->entropy, &s->entropy_cap, tokens, sizeof *s->entropy);
}

static void set_advantages(struct step *s, struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        s->reward[i] = (double)b->traj[i].reward;
        s->group[i] = (int32_t)b->traj[i].group;
    }
    adv_grpo(s->advantage, s->reward, s->group, b->n, b->n_groups, s->divide_by_std);
    for (uint32_t i = 0; i < b->n; i++)
        b->traj[i].advantage = (float)s->advantage[i];
}

static int64_t trained_of(const struct batch_traj *t) {
    int64_t n = 0;
    for (int32_t k = 0; k < t->n_response; k++)
        n += t->mask[k];
    return n;
}

/* Token table and denominators. */
static void set_tokens(struct step *s, const struct batch *b, bool sequence_mean) {
    int64_t sequences = 0, e = 0, trained = passes_tokens(s->passes);
    for (uint32_t i = 0; i < b->n; i++)
        sequences += trained_of(&b->traj[i]) > 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        int64_t own = trained_of(t);
        double weight = sequence_mean ? 1 / ((double)sequences * (double)own) : 1 / (double)trained;
        for (int32_t k = 0; k < t->n_response; k++)
            if (t->mask[k])
                s->token[e++] = (struct loss_token){.weight = weight,
                                                    .advantage = (double)t->advantage,
                                                    .behaviour = t->logprob[k]};
    }
}

static void plan(struct step *s, const struct loss_config *cfg, const struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++)
        s->flat[i] = trained_of(&b->traj[i]) == 0 ||
                     loss_is_flat(cfg, &s->token[passes_first(s->passes, i)]);
    passes_plan(s->passes, s->flat);
}

/* --- the step ------------------------------------------------------------------------------ */

/* Weights that are broken (NaN, overflowing) would otherwise pass unnoticed where no advantage asks
 * for a gradient, and as three skipped steps where one does. */
static int check_logprobs(const struct step *s, const char *whose) {
    int64_t n = passes_tokens(s->passes), bad = 0;
    for (int64_t e = 0; e < n; e++)
        bad += !isfinite(s->logprob[e]);
    if (bad == 0) return 0;
    return FAIL(ERR_CORRUPT,
                "version %" PRId64 ": %s gives %" PRId64 " of %" PRId64
                " trained tokens a log-prob that is not finite: its weights are broken",
                s->version, whose, bad, n);
}

/* Log-probs by the reference pass through the buffer that the policy's are written to later. */
static int add_reference(struct step *s) {
    if (!s->reference) return 0;
    TRY(passes_logprobs(s->passes, PASSES_REFERENCE, s->inv_temp, s->logprob, NULL, NULL));
    TRY(check_logprobs(s, "the reference"));
    for (int64_t e = 0; e < passes_tokens(s->passes); e++)
        s->token[e].reference = s->logprob[e];
    return 0;
}

struct loss_ctx {
    const struct loss_config *cfg;
    const struct loss_token *token;
};

static int on_tokens(void *ctx, const int64_t *element, int64_t n, const float *logprob,
                     const float *entropy, const float *value, float *g_logprob, float *g_entropy,
                     float *g_value) {
    const struct loss_ctx *c = ctx;
    (void)entropy; /* the loss is linear in it */
    (void)value;
    (void)g_value;
    loss_gradient(c->cfg, c->token, element, logprob, (size_t)n, g_logprob, g_entropy);
    return 0;
}

static int run_passes(struct step *s, const struct loss_config *cfg, const struct batch *b,
                      float inv_temp) {
    struct loss_ctx ctx = {cfg, s->token};
    struct params *grads;
    plan(s, cfg, b);
    if (!cfg->supervised) TRY(add_reference(s));
    TRY(update_begin(s->update, &grads));
    TRY(passes_gradient(s->passes, inv_temp, on_tokens, &ctx, grads, s->logprob, s->entropy, NULL));
    return check_logprobs(s, "the policy");
}

static void report_loss(const struct step *s, const struct loss_config *cfg,
                        struct step_report *out) {
    struct loss_sums sums;
    size_t n = (size_t)passes_tokens(s->passes);
    loss_sum(cfg, s->token, s->logprob, s->entropy, n, &sums);
    out->loss = sums.loss;
    out->pg_loss = sums.pg_loss;
    out->kl_loss = sums.kl_loss;
    out->kl = sums.kl;
    out->entropy = sums.entropy;
    out->clip_fraction = sums.clip_fraction;
    out->ratio_mean = sums.ratio_mean;
    out->ratio_max = sums.ratio_max;
    out->ess = sums.ess;
    out->trained_tokens = (int64_t)n;
    out->microbatches = passes_microbatches(s->passes);
}

static int finish(struct step *s, bool control, struct step_report *out) {
    struct update_report u;
    TRY(update_apply(s->update, passes_stream(s->passes), s->weights, control, &u));
    out->grad_norm = u.grad_norm;
    out->lr = u.lr;
    out->gac_cosine = u.cosine;
    out->gac_removed = u.removed;
    out->gac_skips = u.skips;
    out->gac_c_low = u.c_low;
    out->gac_c_high = u.c_high;
    out->gac_action = align_name(u.action);
    if (!isfinite(u.grad_norm))
        LOG(WARN, TRAINER, "version=%" PRId64 " gradient is not finite: step not taken",
            s->version);
    if (u.applied) {
        TRY(passes_use(s->passes, PASSES_POLICY, s->weights));
        s->version++;
    }
    return params_hash(&out->weights_hash, s->weights);
}

int step_run(struct step *s, struct batch *b, struct step_report *out) {
    struct step_report r = {.step = s->version};
    struct admit limits = limits_of(s, false);
    TRY(admit_batch(&limits, b));
    TRY(admit_staleness(&limits, b));
    begin(s, b);
    set_advantages(s, b);
    set_tokens(s, b, s->sequence_mean);
    TRY(run_passes(s, &s->loss, b, s->inv_temp));
    measure_rewards(&r, b);
    measure_lengths(&r, b, s->version);
    measure_mismatch(&r, b, s->version, s->logprob);
    report_loss(s, &s->loss, &r);
    r.zero_groups = measure_zero_groups(b);
    TRY(finish(s, true, &r));
    *out = r;
    return 0;
}

int step_run_sft(struct step *s, struct batch *b, struct step_report *out) {
    static const struct loss_config supervised = {.supervised = true};
    struct step_report r = {.step = s->version};
    struct admit limits = limits_of(s, true);
    TRY(admit_batch(&limits, b));
    begin(s, b);
    set_tokens(s, b, false);
    TRY(run_passes(s, &supervised, b, 1));
    measure_lengths(&r, b, s->version);
    report_loss(s, &supervised, &r);
    r.staleness_mean = r.staleness_max = 0;
    r.mismatch_kl = r.logprob_diff_max = (double)NAN;
    TRY(finish(s, false, &r)); /* supervised gradients are aligned by nature */
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
