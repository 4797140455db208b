/* objective.c - see objective.h.
 *
 * All tables are over the whole batch, token after token; an optimizer step is a range of
 * trajectories and so of tokens. Advantages, reference, proximal policy and corrections are of the
 * weights before the first step and stay for all of them; only gspo's sequence ratio is looked up
 * again, because it must be that of the weights being trained. */
#include "trainer/learn/objective.h"

#include "base/mem.h"
#include "trainer/learn/adv.h"
#include "trainer/learn/aggregate.h"
#include "trainer/learn/correct.h"
#include "trainer/learn/loss.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct part { /* one optimizer step: trajectories from .. to - 1 */
    uint32_t from, to;
    double lr_scale;
};

struct objective {
    struct loss_config loss, now; /* of the recipe; of this batch (supervised steps) */
    struct correct_config correct;
    enum recipe_advantage advantage;
    enum recipe_aggregation aggregation;
    double gamma, lambda, constant, kl_reward;
    float inv_temp;
    bool policy_pass; /* log-probs of the weights are needed before the first gradient */
    bool old_is_current, critic, reference, mask_overlong, ess_lr, optimal_baseline;
    uint32_t minibatches;
    const struct rank_comm *ranks; /* NULL: one */

    struct batch *batch;
    struct part *part;
    uint32_t parts;
    int64_t version, truncated, microbatches;
    struct loss_sums sums;
    struct correct_sums corrected;
    double ess_sequence, explained;

    /* by trajectory */
    int64_t *first; /* [n + 1]: its first token */
    double *score, *by_traj, *weight, *norm;
    int32_t *group;
    bool *flat, *own;
    size_t first_cap, score_cap, by_traj_cap, weight_cap, norm_cap, group_cap, flat_cap, own_cap,
        part_cap;
    /* by trained token */
    struct loss_token *token;
    float *logprob, *entropy, *value;
    double *x, *y; /* log-ratio; scratch */
    bool *keep;
    size_t token_cap, logprob_cap, entropy_cap, value_cap, x_cap, y_cap, keep_cap;
};

/* --- opening ------------------------------------------------------------------------------- */

bool objective_wants_value_head(const struct recipe *r) {
    return r->trainer.algorithm.advantage == RECIPE_ADV_GAE;
}

static struct loss_config loss_of(const struct recipe *r) {
    bool interpolate = r->trainer.algorithm.proximal == RECIPE_PROXIMAL_INTERPOLATE;
    bool in_reward = r->trainer.algorithm.kl.place == RECIPE_PLACE_REWARD;
    bool cap = interpolate && r->trainer.algorithm.correction.tis != RECIPE_TIS_OFF;
    return (struct loss_config){
        .loss = r->trainer.algorithm.loss,
        .clip_low = r->trainer.algorithm.clip_low,
        .clip_high = r->trainer.algorithm.clip_high,
        .dual_clip = r->trainer.algorithm.dual_clip,
        .dppo_low = r->trainer.algorithm.dppo.low,
        .dppo_high = r->trainer.algorithm.dppo.high,
        .dppo_kl = r->trainer.algorithm.dppo.kl,
        .kl_coef = in_reward ? 0 : r->trainer.algorithm.kl.coef,
        .kl = r->trainer.algorithm.kl.type,
        .entropy_coef = r->trainer.algorithm.entropy,
        .value_coef = objective_wants_value_head(r) ? r->trainer.algorithm.critic.coef : 0,
        .value_clip = r->trainer.algorithm.critic.clip,
        .interpolate = interpolate,
        .cap = cap ? r->trainer.algorithm.correction.cap : 0,
        .reference = passes_wants_reference(r)};
}

static struct correct_config correct_of(const struct recipe *r) {
    bool interpolate = r->trainer.algorithm.proximal == RECIPE_PROXIMAL_INTERPOLATE;
    return (struct correct_config){
        .tis = interpolate ? RECIPE_TIS_OFF : r->trainer.algorithm.correction.tis,
        .mask = r->trainer.algorithm.correction.mask,
        .cap = r->trainer.algorithm.correction.cap,
        .low = r->trainer.algorithm.correction.low,
        .high = r->trainer.algorithm.correction.high,
        .m2 = r->trainer.algorithm.correction.m2,
        .always = !interpolate && r->trainer.algorithm.loss == RECIPE_LOSS_DECOUPLED};
}

static bool wants_policy_pass(const struct objective *o) {
    return o->old_is_current || o->correct.tis != RECIPE_TIS_OFF ||
           o->correct.mask != RECIPE_MASK_OFF || o->loss.loss == RECIPE_LOSS_GSPO || o->critic ||
           o->kl_reward != 0 || o->ess_lr || o->optimal_baseline;
}

struct objective *objective_open(const struct recipe *r) {
    struct objective *o = mem_zalloc(sizeof *o);
    o->loss = loss_of(r);
    o->correct = correct_of(r);
    o->advantage = r->trainer.algorithm.advantage;
    o->aggregation = r->trainer.algorithm.aggregation;
    o->gamma = r->trainer.algorithm.gamma;
    o->lambda = r->trainer.algorithm.lambda;
    o->constant = r->trainer.algorithm.constant;
    if (o->constant == 0) o->constant = (double)r->rollout.max_new_tokens;
    if (r->trainer.algorithm.kl.place == RECIPE_PLACE_REWARD)
        o->kl_reward = r->trainer.algorithm.kl.coef;
    o->inv_temp = (float)(1 / (r->rollout.temperature > 0 ? r->rollout.temperature : 1));
    o->old_is_current =
        r->trainer.algorithm.denominator == RECIPE_DENOMINATOR_RECOMPUTED || o->correct.always;
    o->critic = objective_wants_value_head(r);
    o->reference = o->loss.reference;
    o->mask_overlong = r->trainer.algorithm.overlong == RECIPE_OVERLONG_MASK;
    o->ess_lr = r->trainer.algorithm.ess_lr;
    o->optimal_baseline = r->trainer.algorithm.optimal_baseline;
    o->minibatches = (uint32_t)r->trainer.batch.minibatches;
    o->policy_pass = wants_policy_pass(o);
    return o;
}

void objective_share(struct objective *o, const struct rank_comm *ranks) {
    o->ranks = ranks;
}

void objective_close(struct objective **oo) {
    struct objective *o = *oo;
    if (!o) return;
    void *const arrays[] = {o->first, o->score, o->by_traj, o->weight,  o->norm,    o->group,
                            o->flat,  o->part,  o->token,   o->logprob, o->entropy, o->value,
                            o->x,     o->y,     o->keep,    o->own};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++)
        mem_free(arrays[i]);
    mem_free(o);
    *oo = NULL;
}

/* --- tables -------------------------------------------------------------------------------- */

static void grow(struct objective *o, size_t n, size_t tokens) {
    mem_grow(&o->first, &o->first_cap, n + 1, sizeof *o->first);
    mem_grow(&o->score, &o->score_cap, n, sizeof *o->score);
    mem_grow(&o->by_traj, &o->by_traj_cap, n, sizeof *o->by_traj);
    mem_grow(&o->weight, &o->weight_cap, n, sizeof *o->weight);
    mem_grow(&o->norm, &o->norm_cap, n, sizeof *o->norm);
    mem_grow(&o->group, &o->group_cap, n, sizeof *o->group);
    mem_grow(&o->flat, &o->flat_cap, n, sizeof *o->flat);
    mem_grow(&o->own, &o->own_cap, n, sizeof *o->own);
    mem_grow(&o->token, &o->token_cap, tokens, sizeof *o->token);
    mem_grow(&o->logprob, &o->logprob_cap, tokens, sizeof *o->logprob);
    mem_grow(&o->entropy, &o->entropy_cap, tokens, sizeof *o->entropy);
    mem_grow(&o->value, &o->value_cap, tokens, sizeof *o->value);
    mem_grow(&o->x, &o->x_cap, tokens, sizeof *o->x);
    mem_grow(&o->y, &o->y_cap, tokens, sizeof *o->y);
    mem_grow(&o->keep, &o->keep_cap, tokens, sizeof *o->keep);
}

/* Interpolated proximal policy (A-3PO): the policy one version before the one that is trained, on
 * the line from the behaviour policy to it. */
static float alpha_of(int64_t behaviour, int64_t version) {
    int64_t lag = version - behaviour;
    return lag > 0 ? (float)((double)(lag - 1) / (double)lag) : 0;
}

static void begin(struct objective *o, struct passes *p, struct batch *b, int64_t version) {
    int64_t e = 0;
    passes_begin(p, b);
    o->batch = b;
    o->version = version;
    o->sums = (struct loss_sums){0};
    o->microbatches = 0;
    o->corrected = (struct correct_sums){.weight_mean = 1, .weight_max = 1};
    o->ess_sequence = o->explained = (double)NAN;
    grow(o, b->n, (size_t)passes_tokens(p));
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        o->first[i] = e;
        o->group[i] = (int32_t)t->group;
        o->score[i] = (double)t->reward;
        o->flat[i] = false;
        for (int32_t k = 0; k < t->n_response; k++)
            if (t->mask[k])
                o->token[e++] = (struct loss_token){.correction = 1,
                                                    .behaviour = t->logprob[k],
                                                    .old = t->logprob[k],
                                                    .alpha = alpha_of(t->version[k], version)};
    }
    o->first[b->n] = e;
    for (int64_t k = 0; k < e; k++)
        o->keep[k] = true;
}

static int64_t tokens_of(const struct objective *o) {
    return o->first[o->batch->n];
}

/* Trajectories cut at the length limit count in their group's baseline and nowhere else. */
static void mask_overlong(struct objective *o, struct batch *b) {
    o->truncated = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        o->truncated += b->traj[i].truncated;
        if (!o->mask_overlong || !b->traj[i].truncated) continue;
        for (int32_t k = 0; k < b->traj[i].n_response; k++)
            b->traj[i].mask[k] = 0;
    }
}

/* Weights that are broken (NaN, overflowing) would otherwise pass unnoticed where no advantage asks
 * for a gradient, and as three skipped steps where one does. */
static int check_logprobs(const struct objective *o, int64_t from, int64_t to, const char *whose) {
    int64_t bad = 0;
    for (int64_t e = from; e < to; e++)
        bad += !isfinite(o->logprob[e]);
    if (bad == 0) return 0;
    return FAIL(ERR_CORRUPT,
                "version %" PRId64 ": %s gives %" PRId64 " of %" PRId64
                " trained tokens a log-prob that is not finite: its weights are broken",
                o->version, whose, bad, to - from);
}

/* --- forward passes before the first gradient ---------------------------------------------- */

static int look_ahead(struct objective *o, struct passes *p) {
    int64_t n = tokens_of(o);
    float *value = o->critic ? o->value : NULL;
    if (!o->reference && !o->policy_pass) return 0;
    passes_plan(p, o->flat);
    if (o->reference) {
        TRY(passes_logprobs(p, PASSES_REFERENCE, o->inv_temp, o->logprob, NULL, NULL));
        TRY(check_logprobs(o, 0, n, "the reference"));
        for (int64_t e = 0; e < n; e++)
            o->token[e].reference = o->logprob[e];
    }
    if (!o->policy_pass) return 0;
    TRY(passes_logprobs(p, PASSES_POLICY, o->inv_temp, o->logprob, NULL, value));
    TRY(check_logprobs(o, 0, n, "the policy"));
    for (int64_t e = 0; e < n; e++) {
        struct loss_token *t = &o->token[e];
        t->current = o->logprob[e];
        if (o->old_is_current) t->old = t->current;
        if (value) t->value = value[e];
        o->x[e] = (double)t->current - (double)t->behaviour;
    }
    return 0;
}

static void correct(struct objective *o) {
    size_t n = o->batch->n;
    if (!o->policy_pass) return;
    correct_tokens(&o->correct, o->x, o->first, n, o->y, o->keep, &o->corrected);
    for (int64_t e = 0; e < tokens_of(o); e++)
        o->token[e].correction = o->y[e];
    correct_sequences(o->weight, o->x, o->first, n);
    o->ess_sequence = correct_ess(o->weight, n);
}

/* --- advantages ---------------------------------------------------------------------------- */

/* Per token into y: the KL penalty, and the score at the last one. */
static void token_rewards(struct objective *o) {
    for (uint32_t i = 0; i < o->batch->n; i++) {
        double score = o->score[i];
        for (int64_t e = o->first[i]; e < o->first[i + 1]; e++) {
            const struct loss_token *t = &o->token[e];
            double kl = 0;
            if (o->kl_reward != 0) kl = loss_divergence(&o->loss, t, (double)t->current);
            o->y[e] = -o->kl_reward * kl;
            o->score[i] += o->y[e];
        }
        if (o->first[i + 1] > o->first[i]) o->y[o->first[i + 1] - 1] += score;
    }
}

static int on_score(void *ctx, const int64_t *element, int64_t n, const float *logprob,
                    const float *entropy, const float *value, float *g_logprob, float *g_entropy,
                    float *g_value) {
    (void)ctx, (void)element, (void)logprob, (void)entropy, (void)value;
    for (int64_t i = 0; i < n; i++) {
        g_logprob[i] = 1;
        g_entropy[i] = 0;
        if (g_value) g_value[i] = 0;
    }
    return 0;
}

/* Square of the norm of trajectory i's gradient of log pi, by a reverse pass of its own. */
static int score_norm(struct objective *o, struct passes *p, struct update *update, uint32_t i) {
    const struct batch one = {
        .step = o->batch->step, .n = 1, .n_groups = o->batch->n_groups, .traj = &o->batch->traj[i]};
    struct params *grads;
    double sums[3];
    passes_begin_alone(p, &one);
    passes_plan(p, &o->flat[i]);
    TRY(update_begin(update, &grads));
    TRY(passes_gradient(p, o->inv_temp, on_score, NULL, grads, o->logprob, o->entropy, o->value));
    struct kern_tensor g = params_slab(grads);
    TRY(kern_dot(params_backend(grads), passes_stream(p), sums, &g, NULL));
    o->norm[i] = sums[1];
    return 0;
}

/* Weights of the baseline of least variance: w^2 |grad log pi|^2. Each rank has those of its own
 * trajectories and zeros else, so the sum over ranks is the number itself. */
static int baseline_weights(struct objective *o, struct passes *p, struct update *update) {
    for (uint32_t i = 0; i < o->batch->n; i++)
        o->own[i] = passes_is_own(p, i) && o->first[i + 1] > o->first[i];
    for (uint32_t i = 0; i < o->batch->n; i++) {
        o->norm[i] = 0;
        if (o->own[i]) TRY(score_norm(o, p, update, i));
        o->norm[i] *= o->weight[i] * o->weight[i];
    }
    return o->ranks ? rank_comm_sum(o->ranks, o->norm, o->batch->n) : 0;
}

static void spread(struct objective *o) {
    for (uint32_t i = 0; i < o->batch->n; i++)
        for (int64_t e = o->first[i]; e < o->first[i + 1]; e++)
            o->y[e] = o->by_traj[i];
}

/* Share of the returns' variance that the values of before the step explain. */
static double explained_variance(const struct objective *o) {
    int64_t n = tokens_of(o);
    double mean = 0, off = 0, total = 0, rest = 0;
    for (int64_t e = 0; e < n; e++) {
        mean += (double)o->token[e].goal / (double)n;
        off += (double)(o->token[e].goal - o->token[e].value) / (double)n;
    }
    for (int64_t e = 0; e < n; e++) {
        double a = (double)o->token[e].goal - mean;
        double b = (double)(o->token[e].goal - o->token[e].value) - off;
        total += a * a;
        rest += b * b;
    }
    return total > 0 ? 1 - rest / total : (double)NAN;
}

static void token_advantages(struct objective *o) {
    const struct batch *b = o->batch;
    double *reward = o->x; /* log-ratios are not needed any more */
    memcpy(reward, o->y, (size_t)tokens_of(o) * sizeof *reward);
    for (uint32_t i = 0; i < b->n; i++) {
        int64_t from = o->first[i];
        size_t n = (size_t)(o->first[i + 1] - from);
        float *goal = o->entropy + from; /* overwritten by the gradient pass */
        if (o->advantage == RECIPE_ADV_GAE)
            adv_gae(o->y + from, goal, reward + from, o->value + from, n, o->gamma, o->lambda);
        else
            adv_returns(o->y + from, reward + from, n, o->gamma);
        for (size_t k = 0; k < n; k++) {
            int64_t e = from + (int64_t)k;
            if (o->critic) o->token[e].goal = goal[k];
            if (o->advantage == RECIPE_ADV_REMAX) o->y[e] -= (double)b->traj[i].baseline;
        }
    }
    if (o->critic) o->explained = explained_variance(o);
}

static int set_advantages(struct objective *o, struct passes *p, struct update *update) {
    struct batch *b = o->batch;
    const double *weight = o->optimal_baseline ? o->norm : NULL;
    token_rewards(o);
    switch (o->advantage) {
    case RECIPE_ADV_GRPO:
    case RECIPE_ADV_GRPO_NOSTD:
    case RECIPE_ADV_RLOO:
    case RECIPE_ADV_REINFORCE_PP_BASELINE:
        if (weight) TRY(baseline_weights(o, p, update));
        adv_group(o->by_traj, o->score, o->group, weight, b->n, b->n_groups, o->advantage);
        spread(o);
        break;
    case RECIPE_ADV_REINFORCE_PP:
    case RECIPE_ADV_REMAX:
    case RECIPE_ADV_GAE: token_advantages(o); break;
    }
    if (o->advantage == RECIPE_ADV_REINFORCE_PP || o->advantage == RECIPE_ADV_GAE ||
        o->advantage == RECIPE_ADV_REINFORCE_PP_BASELINE)
        adv_whiten(o->y, (size_t)tokens_of(o));
    for (uint32_t i = 0; i < b->n; i++) {
        int64_t own = o->first[i + 1] - o->first[i];
        double sum = 0;
        for (int64_t e = o->first[i]; e < o->first[i + 1]; e++) {
            o->token[e].advantage = o->y[e];
            sum += o->y[e];
        }
        b->traj[i].advantage = own ? (float)(sum / (double)own) : 0;
    }
    return 0;
}

/* --- optimizer steps ----------------------------------------------------------------------- */

/* As many groups in each as possible to within one, in the order of the batch. */
static void split(struct objective *o, uint32_t steps) {
    const struct batch *b = o->batch;
    uint32_t groups = 0, at = 0, seen = 0;
    for (uint32_t i = 0; i < b->n; i++)
        groups += i == 0 || b->traj[i].group != b->traj[i - 1].group;
    o->parts = steps < groups ? steps : groups;
    mem_grow(&o->part, &o->part_cap, o->parts, sizeof *o->part);
    for (uint32_t k = 0; k < o->parts; k++) {
        uint32_t until = (uint32_t)((uint64_t)groups * (k + 1) / o->parts);
        o->part[k] = (struct part){.from = at, .lr_scale = 1};
        while (at < b->n) {
            bool new_group = at == 0 || b->traj[at].group != b->traj[at - 1].group;
            if (new_group && seen == until) break;
            seen += new_group;
            at++;
        }
        o->part[k].to = at;
    }
}

static void set_weights(struct objective *o, enum recipe_aggregation how) {
    for (uint32_t k = 0; k < o->parts; k++) {
        struct part *part = &o->part[k];
        int64_t from = o->first[part->from], to = o->first[part->to];
        aggregate_tokens(o->y + from, o->first + part->from, part->to - part->from, how,
                         o->constant);
        for (int64_t e = from; e < to; e++) {
            o->token[e].share = o->y[e];
            o->token[e].weight = o->keep[e] ? o->y[e] : 0;
        }
        if (o->ess_lr && !o->now.supervised)
            part->lr_scale = sqrt(correct_ess(o->weight + part->from, part->to - part->from));
    }
}

int objective_check(const struct objective *o, const struct batch *b) {
    for (uint32_t i = 0; i < b->n && o->advantage == RECIPE_ADV_REMAX; i++)
        if (isnan(b->traj[i].baseline))
            return FAIL(ERR_CONFIG,
                        "trajectory %" PRIu64
                        " has no baseline: trainer.algorithm.advantage: remax "
                        "needs the score of the prompt's greedy response",
                        b->traj[i].id);
    return 0;
}

int objective_prepare(struct objective *o, struct passes *p, struct update *update, struct batch *b,
                      int64_t version) {
    o->now = o->loss;
    mask_overlong(o, b);
    begin(o, p, b, version);
    TRY(look_ahead(o, p));
    correct(o);
    TRY(set_advantages(o, p, update));
    split(o, o->minibatches);
    set_weights(o, o->aggregation);
    return 0;
}

void objective_prepare_supervised(struct objective *o, struct passes *p, struct batch *b,
                                  int64_t version) {
    o->now = (struct loss_config){.supervised = true};
    o->truncated = 0;
    begin(o, p, b, version);
    split(o, 1);
    set_weights(o, RECIPE_TOKEN_MEAN);
}

uint32_t objective_steps(const struct objective *o) {
    return o->parts;
}

double objective_lr_scale(const struct objective *o, uint32_t k) {
    return o->part[k].lr_scale;
}

/* --- gradient ------------------------------------------------------------------------------ */

struct loss_ctx {
    const struct loss_config *cfg;
    const struct loss_token *token; /* of the step's first token */
};

static int on_tokens(void *ctx, const int64_t *element, int64_t n, const float *logprob,
                     const float *entropy, const float *value, float *g_logprob, float *g_entropy,
                     float *g_value) {
    const struct loss_ctx *c = ctx;
    (void)entropy; /* the loss is linear in it */
    loss_gradient(c->cfg, c->token, element, logprob, value, (size_t)n, g_logprob, g_entropy,
                  g_value);
    return 0;
}

static void find_flat(struct objective *o, const struct part *part) {
    for (uint32_t i = part->from; i < part->to; i++) {
        o->flat[i] = true;
        for (int64_t e = o->first[i]; e < o->first[i + 1] && o->flat[i]; e++)
            o->flat[i] = loss_is_flat(&o->now, &o->token[e]);
    }
}

/* gspo: the ratio of a sequence, by the weights that are trained now. */
static int set_sequence_ratio(struct objective *o, struct passes *p, uint32_t k) {
    const struct part *part = &o->part[k];
    int64_t t0 = o->first[part->from];
    if (o->now.supervised || o->now.loss != RECIPE_LOSS_GSPO) return 0;
    if (k > 0) {
        TRY(passes_logprobs(p, PASSES_POLICY, o->inv_temp, o->logprob + t0, NULL, NULL));
        for (int64_t e = t0; e < o->first[part->to]; e++)
            o->token[e].current = o->logprob[e];
    }
    for (uint32_t i = part->from; i < part->to; i++) {
        double sum = 0, own = (double)(o->first[i + 1] - o->first[i]);
        for (int64_t e = o->first[i]; e < o->first[i + 1]; e++)
            sum += (double)o->token[e].current - (double)o->token[e].old;
        for (int64_t e = o->first[i]; e < o->first[i + 1]; e++)
            o->token[e].sequence = sum / own;
    }
    return 0;
}

int objective_gradient(struct objective *o, struct passes *p, uint32_t k, struct params *grads) {
    const struct part *part = &o->part[k];
    int64_t t0 = o->first[part->from];
    size_t n = (size_t)(o->first[part->to] - t0);
    const struct batch view = {.step = o->batch->step,
                               .n = part->to - part->from,
                               .n_groups = o->batch->n_groups,
                               .traj = &o->batch->traj[part->from]};
    struct loss_ctx ctx = {&o->now, o->token + t0};
    float *value = o->critic ? o->value + t0 : NULL;
    find_flat(o, part);
    passes_begin(p, &view);
    passes_plan(p, o->flat + part->from);
    TRY(set_sequence_ratio(o, p, k));
    TRY(passes_gradient(p, o->now.supervised ? 1 : o->inv_temp, on_tokens, &ctx, grads,
                        o->logprob + t0, o->entropy + t0, value));
    TRY(check_logprobs(o, t0, o->first[part->to], "the policy"));
    loss_add(&o->sums, &o->now, o->token + t0, o->logprob + t0, o->entropy + t0, value, n);
    o->microbatches += passes_microbatches(p);
    return 0;
}

/* --- report -------------------------------------------------------------------------------- */

const float *objective_logprobs(const struct objective *o, uint32_t *n) {
    *n = o->part[0].to;
    return o->logprob;
}

static void report_critic(const struct objective *o, const struct loss_sums *s,
                          struct step_report *out) {
    double mean = 0, n = (double)tokens_of(o);
    for (int64_t e = 0; e < tokens_of(o); e++)
        mean += (double)o->token[e].value / n;
    out->value_loss = s->value_loss;
    out->value_clip_fraction = s->value_clip_fraction;
    out->value_mean = mean;
    out->explained_variance = o->explained;
}

void objective_report(const struct objective *o, struct step_report *out) {
    struct loss_sums s = o->sums;
    double scale = 0;
    loss_finish(&s);
    out->loss = s.loss;
    out->pg_loss = s.pg_loss;
    out->kl_loss = s.kl_loss;
    out->kl = s.kl;
    out->entropy = s.entropy;
    out->clip_fraction = s.clip_fraction;
    out->dual_clip_fraction = s.dual_clip_fraction;
    out->ratio_mean = s.ratio_mean;
    out->ratio_max = s.ratio_max;
    out->ess = s.ess;
    out->ess_sequence = o->ess_sequence;
    out->tis_mean = o->corrected.weight_mean;
    out->tis_max = o->corrected.weight_max;
    out->tis_capped = o->corrected.capped;
    out->mask_fraction = o->corrected.rejected;
    for (uint32_t k = 0; k < o->parts; k++)
        scale += o->part[k].lr_scale / (double)o->parts;
    out->lr_scale = scale;
    out->truncated = o->truncated;
    out->trained_tokens = tokens_of(o);
    out->microbatches = o->microbatches;
    out->optimizer_steps = o->parts;
    if (o->critic) report_critic(o, &s, out);
}
