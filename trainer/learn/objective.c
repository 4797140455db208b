/* objective.c - see objective.h.
 *
 * Two tables over the whole batch, by trajectory and by trained token; an optimizer step is a range
 * of trajectories and so of tokens. Each column has one meaning and is written in one place.
 * Advantages, reference, proximal policy and corrections are of the weights before the first step
 * and stay for all of them; only gspo's sequence ratio is computed again, because it must be that
 * of the weights being trained. */
#include "trainer/learn/objective.h"

#include "base/columns.h"
#include "base/mem.h"
#include "trainer/learn/adv.h"
#include "trainer/learn/aggregate.h"
#include "trainer/learn/correct.h"
#include "trainer/learn/loss.h"

#include <inttypes.h>
#include <math.h>

/* One optimizer step: trajectories from .. to - 1. */
struct part {
    uint32_t from, to;
    double lr_scale;
};

/* By trajectory: [n]. */
struct traj_table {
    int64_t *first; /* [n + 1]: number of its first trained token */
    int32_t *group;
    double *score;     /* reward, with its KL penalty */
    double *advantage; /* by the baseline of its group */
    double *ratio;     /* importance weight of the whole trajectory */
    double *baseline;  /* optimal_baseline: its weight in the group's baseline */
    bool *own;         /* this rank computes its passes */
    bool *flat;        /* none of its tokens can have a gradient */
};

/* By trained token: [first[n]]. */
struct token_table {
    struct loss_table loss;
    float *logprob, *entropy, *value; /* of the newest gradient pass over the token */
    double *log_ratio;                /* current - behaviour, before the first step */
    double *reward;                   /* KL penalty, and the score at the last token */
    bool *keep;                       /* no mask rejected it */
};

/* What the report says of the batch, added up on the way. */
struct totals {
    struct loss_sums loss;
    struct correct_sums correction;
    double ess_sequence, explained_variance;
    int64_t truncated, microbatches;
};

struct objective {
    struct recipe_algorithm algorithm; /* constant: filled in; no strings */
    struct loss_config rl_loss, loss;  /* of the recipe; of this batch, which may be supervised */
    struct correct_config correction;
    float inv_temp;
    uint32_t minibatches;
    bool policy_pass; /* log-probs of the weights are needed before the first gradient */

    struct batch *batch;
    int64_t version;
    struct part *part; /* [parts] */
    size_t part_cap;
    uint32_t parts, parts_done;
    struct traj_table traj;
    struct token_table token;
    struct columns traj_memory, token_memory;
    struct totals totals;
};

/* --- opening ------------------------------------------------------------------------------- */

bool objective_wants_value_head(const struct recipe *r) {
    return r->trainer.algorithm.advantage == RECIPE_ADV_GAE;
}

static bool has_critic(const struct objective *o) {
    return o->algorithm.advantage == RECIPE_ADV_GAE;
}

static bool is_interpolated(const struct recipe_algorithm *a) {
    return a->proximal == RECIPE_PROXIMAL_INTERPOLATE;
}

/* Of the KL penalty in the reward; 0: it is in the loss, or there is none. */
static double kl_in_reward(const struct recipe_algorithm *a) {
    return a->kl.place == RECIPE_PLACE_REWARD ? a->kl.coef : 0;
}

/* With an interpolated proximal policy the loss itself has the correction's weight, and caps it. */
static struct loss_config loss_of(const struct recipe *r) {
    const struct recipe_algorithm *a = &r->trainer.algorithm;
    bool cap = is_interpolated(a) && a->correction.tis != RECIPE_TIS_OFF;
    return (struct loss_config){.loss = a->loss,
                                .clip_low = a->clip_low,
                                .clip_high = a->clip_high,
                                .dual_clip = a->dual_clip,
                                .dppo_low = a->dppo.low,
                                .dppo_high = a->dppo.high,
                                .dppo_kl = a->dppo.kl,
                                .kl_coef = a->kl.place == RECIPE_PLACE_REWARD ? 0 : a->kl.coef,
                                .kl = a->kl.type,
                                .entropy_coef = a->entropy,
                                .value_coef = objective_wants_value_head(r) ? a->critic.coef : 0,
                                .value_clip = a->critic.clip,
                                .interpolate = is_interpolated(a),
                                .cap = cap ? a->correction.cap : 0,
                                .reference = passes_wants_reference(r)};
}

static struct correct_config correction_of(const struct recipe_algorithm *a) {
    return (struct correct_config){.tis = is_interpolated(a) ? RECIPE_TIS_OFF : a->correction.tis,
                                   .mask = a->correction.mask,
                                   .cap = a->correction.cap,
                                   .low = a->correction.low,
                                   .high = a->correction.high,
                                   .m2 = a->correction.m2,
                                   .always =
                                       !is_interpolated(a) && a->loss == RECIPE_LOSS_DECOUPLED};
}

/* The ratio's denominator is the policy before the step, not the one that sampled. */
static bool is_recomputed(const struct objective *o) {
    return o->algorithm.denominator == RECIPE_DENOMINATOR_RECOMPUTED || o->correction.always;
}

static bool wants_policy_pass(const struct objective *o) {
    return is_recomputed(o) || o->correction.tis != RECIPE_TIS_OFF ||
           o->correction.mask != RECIPE_MASK_OFF || o->rl_loss.loss == RECIPE_LOSS_GSPO ||
           has_critic(o) || kl_in_reward(&o->algorithm) != 0 || o->algorithm.ess_lr ||
           o->algorithm.optimal_baseline;
}

struct objective *objective_open(const struct recipe *r) {
    struct objective *o = mem_zalloc(sizeof *o);
    o->algorithm = r->trainer.algorithm;
    o->algorithm.kl.reference = NULL; /* the recipe may be closed before this */
    if (o->algorithm.constant == 0) o->algorithm.constant = (double)r->rollout.max_new_tokens;
    o->rl_loss = loss_of(r);
    o->correction = correction_of(&o->algorithm);
    o->inv_temp = (float)(1 / (r->rollout.temperature > 0 ? r->rollout.temperature : 1));
    o->minibatches = (uint32_t)r->trainer.batch.minibatches;
    o->policy_pass = wants_policy_pass(o);
    return o;
}

void objective_close(struct objective **oo) {
    struct objective *o = *oo;
    if (!o) return;
    columns_free(&o->traj_memory);
    columns_free(&o->token_memory);
    mem_free(o->part);
    mem_free(o);
    *oo = NULL;
}

/* --- tables -------------------------------------------------------------------------------- */

static void open_traj_table(struct objective *o, size_t n) {
    struct traj_table *t = &o->traj;
    const struct column columns[] = {COLUMN(t->first), COLUMN(t->group),     COLUMN(t->score),
                                     COLUMN(t->ratio), COLUMN(t->advantage), COLUMN(t->baseline),
                                     COLUMN(t->own),   COLUMN(t->flat)};
    columns_zero(&o->traj_memory, n + 1, columns, sizeof columns / sizeof columns[0]);
}

static void open_token_table(struct objective *o, size_t n) {
    struct token_table *t = &o->token;
    struct loss_table *l = &t->loss;
    const struct column columns[] = {
        COLUMN(l->weight),   COLUMN(l->share),   COLUMN(l->advantage), COLUMN(l->correction),
        COLUMN(l->sequence), COLUMN(t->reward),  COLUMN(t->log_ratio), COLUMN(l->behaviour),
        COLUMN(l->old),      COLUMN(l->current), COLUMN(l->reference), COLUMN(l->alpha),
        COLUMN(l->value),    COLUMN(l->goal),    COLUMN(t->logprob),   COLUMN(t->entropy),
        COLUMN(t->value),    COLUMN(t->keep)};
    columns_zero(&o->token_memory, n, columns, sizeof columns / sizeof columns[0]);
}

/* Interpolated proximal policy (A-3PO): the policy one version before the one that is trained, on
 * the line from the behaviour policy to it. */
static float alpha_of(int64_t behaviour, int64_t version) {
    int64_t lag = version - behaviour;
    return lag > 0 ? (float)((double)(lag - 1) / (double)lag) : 0;
}

static int64_t batch_tokens(const struct objective *o) {
    return o->traj.first[o->batch->n];
}

/* Columns `first`, `group` and `score`, and of tokens what the batch says; the rest is as where
 * nothing corrects, rejects or refers. */
static void fill_tables(struct objective *o, const struct batch *b) {
    struct loss_table *l = &o->token.loss;
    int64_t e = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        ASSERT(t->group < b->n_groups);
        o->traj.first[i] = e;
        o->traj.group[i] = (int32_t)t->group;
        o->traj.score[i] = (double)t->reward;
        for (int32_t k = 0; k < t->n_response; k++) {
            if (!t->mask[k]) continue;
            o->token.keep[e] = true;
            l->correction[e] = 1;
            l->behaviour[e] = l->old[e] = t->logprob[k];
            l->alpha[e++] = alpha_of(t->version[k], o->version);
        }
    }
    o->traj.first[b->n] = e;
}

/* Trajectories cut at the length limit count in their group's baseline and nowhere else. */
static void mask_overlong(const struct objective *o, struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        if (o->algorithm.overlong != RECIPE_OVERLONG_MASK || !b->traj[i].truncated) continue;
        for (int32_t k = 0; k < b->traj[i].n_response; k++)
            b->traj[i].mask[k] = 0;
    }
}

static void open_tables(struct objective *o, struct passes *p, struct batch *b, int64_t version) {
    double none = (double)NAN;
    passes_begin(p, b);
    o->batch = b;
    o->version = version;
    o->totals = (struct totals){.correction = {.weight_mean = 1, .weight_max = 1},
                                .ess_sequence = none,
                                .explained_variance = none};
    open_traj_table(o, b->n);
    open_token_table(o, (size_t)passes_tokens(p));
    fill_tables(o, b);
    ASSERT(batch_tokens(o) == passes_tokens(p));
}

/* Weights that are broken (NaN, overflowing) would otherwise pass unnoticed where no advantage asks
 * for a gradient, and as three skipped steps where one does. */
static int check_logprobs(const struct objective *o, const float *logprob, int64_t n,
                          const char *whose) {
    int64_t bad = 0;
    for (int64_t e = 0; e < n; e++)
        bad += !isfinite(logprob[e]);
    if (bad == 0) return 0;
    return FAIL(ERR_CORRUPT,
                "version %" PRId64 ": %s gives %" PRId64 " of %" PRId64
                " trained tokens a log-prob that is not finite: its weights are broken",
                o->version, whose, bad, n);
}

/* --- forward passes before the first gradient ---------------------------------------------- */

/* Columns reference, current, value, log_ratio, and old where it is the current policy. */
static int forward_passes(struct objective *o, struct passes *p) {
    struct loss_table *l = &o->token.loss;
    int64_t n = batch_tokens(o);
    if (!o->rl_loss.reference && !o->policy_pass) return 0;
    passes_plan(p, o->traj.flat); /* none is, yet */
    if (o->rl_loss.reference) {
        TRY(passes_logprobs(p, PASSES_REFERENCE, o->inv_temp, l->reference, NULL, NULL));
        TRY(check_logprobs(o, l->reference, n, "the reference"));
    }
    if (!o->policy_pass) return 0;
    TRY(passes_logprobs(p, PASSES_POLICY, o->inv_temp, l->current, NULL,
                        has_critic(o) ? l->value : NULL));
    TRY(check_logprobs(o, l->current, n, "the policy"));
    for (int64_t e = 0; e < n; e++) {
        if (is_recomputed(o)) l->old[e] = l->current[e];
        o->token.log_ratio[e] = (double)l->current[e] - (double)l->behaviour[e];
    }
    return 0;
}

static void set_corrections(struct objective *o) {
    size_t n = o->batch->n;
    struct token_table *t = &o->token;
    if (!o->policy_pass) return;
    correct_tokens(&o->correction, t->log_ratio, o->traj.first, n, t->loss.correction, t->keep,
                   &o->totals.correction);
    correct_sequences(o->traj.ratio, t->log_ratio, o->traj.first, n);
    o->totals.ess_sequence = correct_ess(o->traj.ratio, n);
}

/* --- advantages ---------------------------------------------------------------------------- */

/* Column reward of the tokens: the KL penalty, and the score at the last one; their sum is the
 * trajectory's score. */
static void set_rewards(struct objective *o) {
    double coef = kl_in_reward(&o->algorithm);
    for (uint32_t i = 0; i < o->batch->n; i++) {
        int64_t from = o->traj.first[i], to = o->traj.first[i + 1];
        double score = o->traj.score[i];
        for (int64_t e = from; e < to; e++) {
            struct loss_token t = loss_token_at(&o->token.loss, e);
            double kl = coef != 0 ? loss_divergence(&o->rl_loss, &t, (double)t.current) : 0;
            o->token.reward[e] = -coef * kl;
            o->traj.score[i] += o->token.reward[e];
        }
        if (to > from) o->token.reward[to - 1] += score;
    }
}

/* The loss -log pi of a trajectory: its gradient is the score function. */
static int on_score(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    (void)ctx, (void)element;
    for (int64_t i = 0; i < rows->n; i++) {
        rows->g_logprob[i] = 1;
        rows->g_entropy[i] = 0;
        if (rows->g_value) rows->g_value[i] = 0;
    }
    return 0;
}

/* Square of the norm of trajectory i's gradient of log pi, by a backward pass of its own. What the
 * pass says of its tokens is written where the gradient pass will say it again. */
static int score_norm(struct objective *o, struct passes *p, struct update *update, uint32_t i,
                      double *out) {
    const struct batch one = {
        .step = o->batch->step, .n = 1, .n_groups = o->batch->n_groups, .traj = &o->batch->traj[i]};
    struct token_table *t = &o->token;
    struct params *grads;
    double sums[3];
    passes_begin_alone(p, &one);
    passes_plan(p, &o->traj.flat[i]);
    TRY(update_begin(update, &grads));
    TRY(passes_gradient(p, o->inv_temp, on_score, NULL, grads, t->logprob, t->entropy, t->value));
    struct kern_tensor g = params_slab(grads);
    TRY(kern_dot(params_backend(grads), passes_stream(p), sums, &g, NULL));
    *out = sums[1];
    return 0;
}

/* Weights of the baseline of least variance: w^2 |grad log pi|^2. Each rank has those of its own
 * trajectories and zeros else, so the sum over ranks is the number itself. */
static int set_baseline_weights(struct objective *o, struct passes *p, struct update *update) {
    struct traj_table *t = &o->traj;
    for (uint32_t i = 0; i < o->batch->n; i++)
        t->own[i] = passes_is_own(p, i) && t->first[i + 1] > t->first[i];
    for (uint32_t i = 0; i < o->batch->n; i++) {
        double norm = 0;
        if (t->own[i]) TRY(score_norm(o, p, update, i, &norm));
        t->baseline[i] = norm * (t->ratio[i] * t->ratio[i]);
    }
    return passes_sum_ranks(p, t->baseline, o->batch->n);
}

/* The advantage of a trajectory is that of each of its tokens. */
static void group_advantages(struct objective *o) {
    const struct batch *b = o->batch;
    struct traj_table *t = &o->traj;
    adv_group(t->advantage, t->score, t->group, o->algorithm.optimal_baseline ? t->baseline : NULL,
              b->n, b->n_groups, o->algorithm.advantage);
    for (uint32_t i = 0; i < b->n; i++)
        for (int64_t e = t->first[i]; e < t->first[i + 1]; e++)
            o->token.loss.advantage[e] = t->advantage[i];
}

/* Share of the returns' variance that the values of before the step explain. */
static double explained_variance(const struct loss_table *l, int64_t n) {
    double mean = 0, off = 0, total = 0, rest = 0;
    for (int64_t e = 0; e < n; e++) {
        mean += (double)l->goal[e] / (double)n;
        off += (double)(l->goal[e] - l->value[e]) / (double)n;
    }
    for (int64_t e = 0; e < n; e++) {
        double a = (double)l->goal[e] - mean;
        double b = (double)(l->goal[e] - l->value[e]) - off;
        total += a * a;
        rest += b * b;
    }
    return total > 0 ? 1 - rest / total : (double)NAN;
}

/* From the rewards of the tokens: gae, reinforce++ and remax. */
static void token_advantages(struct objective *o) {
    const struct recipe_algorithm *a = &o->algorithm;
    struct loss_table *l = &o->token.loss;
    for (uint32_t i = 0; i < o->batch->n; i++) {
        int64_t from = o->traj.first[i], to = o->traj.first[i + 1];
        double *advantage = l->advantage + from, *reward = o->token.reward + from;
        size_t n = (size_t)(to - from);
        if (has_critic(o))
            adv_gae(advantage, l->goal + from, reward, l->value + from, n, a->gamma, a->lambda);
        else
            adv_returns(advantage, reward, n, a->gamma);
        if (a->advantage != RECIPE_ADV_REMAX) continue;
        for (size_t k = 0; k < n; k++)
            advantage[k] -= (double)o->batch->traj[i].baseline;
    }
    if (has_critic(o)) o->totals.explained_variance = explained_variance(l, batch_tokens(o));
}

static void report_advantages(const struct objective *o, struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        int64_t from = o->traj.first[i], to = o->traj.first[i + 1];
        double sum = 0;
        for (int64_t e = from; e < to; e++)
            sum += o->token.loss.advantage[e];
        b->traj[i].advantage = to > from ? (float)(sum / (double)(to - from)) : 0;
    }
}

/* Columns advantage and goal, and the advantage that the batch says of each trajectory. */
static int set_advantages(struct objective *o, struct passes *p, struct update *update) {
    enum recipe_advantage kind = o->algorithm.advantage;
    set_rewards(o);
    switch (kind) {
    case RECIPE_ADV_GRPO:
    case RECIPE_ADV_GRPO_NOSTD:
    case RECIPE_ADV_RLOO:
    case RECIPE_ADV_REINFORCE_PP_BASELINE:
        if (o->algorithm.optimal_baseline) TRY(set_baseline_weights(o, p, update));
        group_advantages(o);
        break;
    case RECIPE_ADV_REINFORCE_PP:
    case RECIPE_ADV_REMAX:
    case RECIPE_ADV_GAE: token_advantages(o); break;
    }
    if (kind == RECIPE_ADV_REINFORCE_PP || kind == RECIPE_ADV_GAE ||
        kind == RECIPE_ADV_REINFORCE_PP_BASELINE)
        adv_whiten(o->token.loss.advantage, (size_t)batch_tokens(o));
    report_advantages(o, o->batch);
    return 0;
}

/* --- optimizer steps ----------------------------------------------------------------------- */

/* As many groups in each as possible to within one, in the order of the batch. */
static void split_parts(struct objective *o, uint32_t steps) {
    const struct batch *b = o->batch;
    uint32_t groups = 0, at = 0, seen = 0;
    for (uint32_t i = 0; i < b->n; i++)
        groups += i == 0 || b->traj[i].group != b->traj[i - 1].group;
    o->parts_done = 0;
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
    ASSERT(at == b->n);
}

/* Columns share and weight, and what the effective sample size makes of the learning rate. */
static void set_weights(struct objective *o, enum recipe_aggregation how) {
    struct loss_table *l = &o->token.loss;
    for (uint32_t k = 0; k < o->parts; k++) {
        struct part *part = &o->part[k];
        uint32_t n = part->to - part->from;
        int64_t from = o->traj.first[part->from], to = o->traj.first[part->to];
        aggregate_tokens(l->share + from, o->traj.first + part->from, n, how,
                         o->algorithm.constant);
        for (int64_t e = from; e < to; e++)
            l->weight[e] = o->token.keep[e] ? l->share[e] : 0;
        if (o->algorithm.ess_lr && !o->loss.supervised)
            part->lr_scale = sqrt(correct_ess(o->traj.ratio + part->from, n));
    }
}

int objective_check(const struct objective *o, const struct batch *b) {
    for (uint32_t i = 0; i < b->n && o->algorithm.advantage == RECIPE_ADV_REMAX; i++)
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
    o->loss = o->rl_loss;
    mask_overlong(o, b);
    open_tables(o, p, b, version);
    for (uint32_t i = 0; i < b->n; i++)
        o->totals.truncated += b->traj[i].truncated;
    TRY(forward_passes(o, p));
    set_corrections(o);
    TRY(set_advantages(o, p, update));
    split_parts(o, o->minibatches);
    set_weights(o, o->algorithm.aggregation);
    return 0;
}

void objective_prepare_supervised(struct objective *o, struct passes *p, struct batch *b,
                                  int64_t version) {
    o->loss = (struct loss_config){.supervised = true};
    open_tables(o, p, b, version);
    split_parts(o, 1);
    set_weights(o, RECIPE_TOKEN_MEAN);
}

uint32_t objective_steps(const struct objective *o) {
    return o->parts;
}

double objective_lr_scale(const struct objective *o, uint32_t k) {
    ASSERT(k < o->parts);
    return o->part[k].lr_scale;
}

/* --- gradient ------------------------------------------------------------------------------ */

struct loss_ctx {
    const struct loss_config *cfg;
    const struct loss_table *table;
    int64_t first; /* token of the optimizer step's first element */
};

static int on_trained_tokens(void *ctx, const int64_t *element, const struct loss_rows *rows) {
    const struct loss_ctx *c = ctx;
    loss_gradient(c->cfg, c->table, c->first, element, rows);
    return 0;
}

static void set_flat(struct objective *o, const struct part *part) {
    for (uint32_t i = part->from; i < part->to; i++) {
        o->traj.flat[i] = true;
        for (int64_t e = o->traj.first[i]; e < o->traj.first[i + 1] && o->traj.flat[i]; e++) {
            struct loss_token t = loss_token_at(&o->token.loss, e);
            o->traj.flat[i] = loss_is_flat(&o->loss, &t);
        }
    }
}

/* gspo: the ratio of a sequence, by the weights that are trained now. */
static int set_sequence_ratio(struct objective *o, struct passes *p, uint32_t k) {
    const struct part *part = &o->part[k];
    struct loss_table *l = &o->token.loss;
    if (o->loss.supervised || o->loss.loss != RECIPE_LOSS_GSPO) return 0;
    if (k > 0)
        TRY(passes_logprobs(p, PASSES_POLICY, o->inv_temp, l->current + o->traj.first[part->from],
                            NULL, NULL));
    for (uint32_t i = part->from; i < part->to; i++) {
        int64_t from = o->traj.first[i], to = o->traj.first[i + 1];
        double sum = 0, own = (double)(to - from);
        for (int64_t e = from; e < to; e++)
            sum += (double)l->current[e] - (double)l->old[e];
        for (int64_t e = from; e < to; e++)
            l->sequence[e] = sum / own;
    }
    return 0;
}

/* A part of the batch is a batch of its own to the passes, so its tokens are numbered from 0; token
 * `first` of the tables is its first. */
int objective_gradient(struct objective *o, struct passes *p, uint32_t k, struct params *grads) {
    ASSERT(k < o->parts && k == o->parts_done);
    const struct part *part = &o->part[k];
    const struct batch view = {.step = o->batch->step,
                               .n = part->to - part->from,
                               .n_groups = o->batch->n_groups,
                               .traj = &o->batch->traj[part->from]};
    int64_t first = o->traj.first[part->from], n = o->traj.first[part->to] - first;
    float *logprob = o->token.logprob + first, *entropy = o->token.entropy + first;
    float *value = has_critic(o) ? o->token.value + first : NULL;
    struct loss_ctx ctx = {&o->loss, &o->token.loss, first};
    set_flat(o, part);
    passes_begin(p, &view);
    passes_plan(p, o->traj.flat + part->from);
    TRY(set_sequence_ratio(o, p, k));
    TRY(passes_gradient(p, o->loss.supervised ? 1 : o->inv_temp, on_trained_tokens, &ctx, grads,
                        logprob, entropy, value));
    TRY(check_logprobs(o, logprob, n, "the policy"));
    loss_add(&o->totals.loss, &o->loss, &o->token.loss, first,
             &(struct loss_rows){.n = n, .logprob = logprob, .entropy = entropy, .value = value});
    o->totals.microbatches += passes_microbatches(p);
    o->parts_done++;
    return 0;
}

/* --- report -------------------------------------------------------------------------------- */

const float *objective_logprobs(const struct objective *o, uint32_t *n) {
    *n = o->part[0].to;
    return o->token.logprob;
}

static void report_critic(const struct objective *o, const struct loss_sums *s,
                          struct step_report *out) {
    double mean = 0, n = (double)batch_tokens(o);
    for (int64_t e = 0; e < batch_tokens(o); e++)
        mean += (double)o->token.loss.value[e] / n;
    out->value_loss = s->value_loss;
    out->value_clip_fraction = s->value_clip_fraction;
    out->value_mean = mean;
    out->explained_variance = o->totals.explained_variance;
}

/* Sums of all optimizer steps of the batch, as one step. */
void objective_report(const struct objective *o, struct step_report *out) {
    const struct totals *all = &o->totals;
    struct loss_sums s = all->loss;
    double scale = 0;
    ASSERT(o->parts_done == o->parts);
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
    out->ess_sequence = all->ess_sequence;
    out->tis_mean = all->correction.weight_mean;
    out->tis_max = all->correction.weight_max;
    out->tis_capped = all->correction.capped;
    out->mask_fraction = all->correction.rejected;
    for (uint32_t k = 0; k < o->parts; k++)
        scale += o->part[k].lr_scale / (double)o->parts;
    out->lr_scale = scale;
    out->truncated = all->truncated;
    out->trained_tokens = batch_tokens(o);
    out->microbatches = all->microbatches;
    out->optimizer_steps = o->parts;
    if (has_critic(o)) report_critic(o, &s, out);
}
