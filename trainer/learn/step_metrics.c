/* step_metrics.c - see step_metrics.h. One assignment for each row of proto/metrics/metrics.def
 * that a training step has. */
#include "trainer/learn/step_metrics.h"

#include <math.h>

static void write_rewards(struct metrics *m, const struct step_report *r) {
    double n = r->sequences > 0 ? (double)r->sequences : 1;
    metrics_num(m, METRIC_REWARD_MEAN, r->reward_mean);
    metrics_num(m, METRIC_REWARD_STD, r->reward_std);
    metrics_num(m, METRIC_RESPONSE_LENGTH_MEAN, r->response_length_mean);
    metrics_num(m, METRIC_RESPONSE_LENGTH_MAX, r->response_length_max);
    metrics_num(m, METRIC_RESPONSE_LENGTH_CLIP_RATIO, (double)r->truncated / n);
}

static void write_loss(struct metrics *m, const struct step_report *r) {
    metrics_num(m, METRIC_ACTOR_LOSS, r->loss);
    metrics_num(m, METRIC_ACTOR_PG_LOSS, r->pg_loss);
    metrics_num(m, METRIC_ACTOR_PG_CLIPFRAC, r->clip_fraction);
    metrics_num(m, METRIC_ACTOR_PG_CLIPFRAC_LOWER, r->dual_clip_fraction);
    metrics_num(m, METRIC_ACTOR_ENTROPY, r->entropy);
    metrics_num(m, METRIC_ACTOR_KL_LOSS, r->kl_loss);
    metrics_num(m, METRIC_ACTOR_KL, r->kl);
    metrics_num(m, METRIC_ACTOR_GRAD_NORM, r->grad_norm);
    metrics_num(m, METRIC_ACTOR_LR, r->lr);
    metrics_num(m, METRIC_ACTOR_LR_SCALE, r->lr_scale);
    metrics_num(m, METRIC_ACTOR_RATIO_MEAN, r->ratio_mean);
    metrics_num(m, METRIC_ACTOR_RATIO_MAX, r->ratio_max);
}

/* What rollouts recorded against what the trainer computes. */
static void write_mismatch(struct metrics *m, const struct step_report *r) {
    metrics_num(m, METRIC_MISMATCH_KL_MEAN, r->mismatch_kl);
    metrics_num(m, METRIC_LOGPROB_DIFF_MEAN, r->logprob_diff.mean);
    metrics_num(m, METRIC_LOGPROB_DIFF_MAX, r->logprob_diff.max);
    metrics_num(m, METRIC_LOGPROB_DIFF_MEAN_ENGINE, r->logprob_engine.mean);
    metrics_num(m, METRIC_LOGPROB_DIFF_MAX_ENGINE, r->logprob_engine.max);
    metrics_num(m, METRIC_LOGPROB_DIFF_MEAN_LAG, r->logprob_lag.mean);
    metrics_num(m, METRIC_LOGPROB_DIFF_MAX_LAG, r->logprob_lag.max);
    metrics_int(m, METRIC_LOGPROB_DIFF_CHECKED_TOKENS, r->checked_tokens);
    metrics_int(m, METRIC_LOGPROB_DIFF_CHECKED_TRAJECTORIES, r->checked_trajectories);
    metrics_int(m, METRIC_LOGPROB_DIFF_UNEQUAL_TOKENS, r->unequal_tokens);
    metrics_num(m, METRIC_OFF_POLICY_MEAN, r->staleness_mean);
    metrics_num(m, METRIC_OFF_POLICY_MAX, r->staleness_max);
}

/* Alignment control, importance weights. */
static void write_stability(struct metrics *m, const struct step_report *r) {
    metrics_num(m, METRIC_GAC_COSINE, r->gac_cosine);
    metrics_num(m, METRIC_GAC_REMOVED, r->gac_removed);
    metrics_num(m, METRIC_GAC_LR_FACTOR, r->gac_lr_factor);
    metrics_int(m, METRIC_GAC_SKIPS, r->gac_skips);
    metrics_num(m, METRIC_GAC_C_LOW, r->gac_c_low);
    metrics_num(m, METRIC_GAC_C_HIGH, r->gac_c_high);
    metrics_text(m, METRIC_GAC_ACTION, r->gac_action);
    metrics_num(m, METRIC_IS_ESS, r->ess);
    metrics_num(m, METRIC_IS_ESS_SEQUENCE, r->ess_sequence);
    metrics_num(m, METRIC_IS_MEAN, r->tis_mean);
    metrics_num(m, METRIC_IS_MAX, r->tis_max);
    metrics_num(m, METRIC_IS_CAPPED_FRAC, r->tis_capped);
    metrics_num(m, METRIC_IS_MASK_FRAC, r->mask_fraction);
}

static void write_critic(struct metrics *m, const struct step_report *r) {
    metrics_num(m, METRIC_CRITIC_VF_LOSS, r->value_loss);
    metrics_num(m, METRIC_CRITIC_VF_CLIPFRAC, r->value_clip_fraction);
    metrics_num(m, METRIC_CRITIC_VALUES_MEAN, r->value_mean);
    metrics_num(m, METRIC_CRITIC_VF_EXPLAINED_VAR, r->explained_variance);
}

void step_metrics(struct metrics *m, const struct step_report *r) {
    metrics_int(m, METRIC_STEP, r->step + 1); /* step n makes version n */
    write_rewards(m, r);
    write_loss(m, r);
    write_mismatch(m, r);
    write_stability(m, r);
    if (!isnan(r->value_loss)) write_critic(m, r);
    if (!isnan(r->changed)) metrics_num(m, METRIC_UPDATE_CHANGED, r->changed);
    metrics_int(m, METRIC_BATCH_TOKENS, r->tokens);
    metrics_int(m, METRIC_BATCH_TRAINED_TOKENS, r->trained_tokens);
    metrics_int(m, METRIC_BATCH_SEQUENCES, r->sequences);
    metrics_int(m, METRIC_BATCH_MICROBATCHES, r->microbatches);
    metrics_int(m, METRIC_BATCH_ZERO_GROUPS, r->zero_groups);
    metrics_int(m, METRIC_BATCH_OPTIMIZER_STEPS, r->optimizer_steps);
}

void step_metrics_times(struct metrics *m, const struct step_report *r,
                        const struct step_times *t) {
    double turn = t->step + t->wait;
    metrics_num(m, METRIC_PERF_TOKENS_PER_S, t->step > 0 ? (double)r->tokens / t->step : 0);
    metrics_num(m, METRIC_TIME_STEP, t->step);
    metrics_num(m, METRIC_TIME_WAIT, t->wait);
    metrics_num(m, METRIC_RELAY_PUBLISH_S, t->publish);
    metrics_num(m, METRIC_RELAY_PUBLISH_WAIT_S, t->publish_wait);
    metrics_num(m, METRIC_IDLE_TRAINER, turn > 0 ? t->wait / turn : 0);
}

void step_metrics_line(struct buf *out, const struct step_report *r) {
    struct json_write w = json_write_to(out, JSON_LINE);
    struct metrics m = {.json = &w, .aliases = true};
    char hex[HASH_HEX];
    hash_hex(r->weights_hash, hex);
    json_write_object(&w, NULL);
    step_metrics(&m, r);
    metrics_text(&m, METRIC_WEIGHTS_HASH, hex);
    json_write_end(&w);
    json_write_newline(&w);
}
