/* metrics.c - see metrics.h. The names are those of today's dashboards (verl, TensorBoard), so that
 * nobody has to learn ours; report.c has the shorter ones of `weir step`. */
#include "trainer/learn/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void num(struct buf *out, const char *key, double x) {
    buf_printf(out, "%s\"%s\": ", out->data[out->len - 1] == '{' ? "" : ", ", key);
    buf_json_num(out, x);
}

static void whole(struct buf *out, const char *key, int64_t x) {
    buf_printf(out, "%s\"%s\": %" PRId64, out->data[out->len - 1] == '{' ? "" : ", ", key, x);
}

static void policy(struct buf *out, const struct step_report *r) {
    num(out, "actor/loss", r->loss);
    num(out, "actor/pg_loss", r->pg_loss);
    num(out, "actor/pg_clipfrac", r->clip_fraction);
    num(out, "actor/pg_clipfrac_lower", r->dual_clip_fraction);
    num(out, "actor/entropy", r->entropy);
    num(out, "actor/kl_loss", r->kl_loss);
    num(out, "actor/kl", r->kl);
    num(out, "actor/grad_norm", r->grad_norm);
    num(out, "actor/lr", r->lr);
    num(out, "actor/ratio_mean", r->ratio_mean);
    num(out, "actor/ratio_max", r->ratio_max);
    num(out, "mismatch_kl/mean", r->mismatch_kl);
    num(out, "rollout_logprob_abs_diff/mean", r->logprob_diff.mean);
    num(out, "rollout_logprob_abs_diff/max", r->logprob_diff.max);
    num(out, "rollout_logprob_abs_diff/mean/engine", r->logprob_engine.mean);
    num(out, "rollout_logprob_abs_diff/max/engine", r->logprob_engine.max);
    num(out, "rollout_logprob_abs_diff/mean/lag", r->logprob_lag.mean);
    num(out, "rollout_logprob_abs_diff/max/lag", r->logprob_lag.max);
    whole(out, "rollout_logprob_abs_diff/checked_tokens", r->checked_tokens);
    whole(out, "rollout_logprob_abs_diff/checked_trajectories", r->checked_trajectories);
    whole(out, "rollout_logprob_abs_diff/unequal_tokens", r->unequal_tokens);
    num(out, "off_policy/mean", r->staleness_mean);
    num(out, "off_policy/max", r->staleness_max);
    num(out, "gac/cosine", r->gac_cosine);
    num(out, "gac/removed", r->gac_removed);
    num(out, "gac/lr_factor", r->gac_lr_factor);
    whole(out, "gac/skips", r->gac_skips);
    num(out, "gac/c_low", r->gac_c_low);
    num(out, "gac/c_high", r->gac_c_high);
    buf_str(out, ", \"gac/action\": ");
    buf_json_str(out, r->gac_action, strlen(r->gac_action));
    num(out, "is/ess", r->ess);
    num(out, "is/ess_sequence", r->ess_sequence);
    num(out, "is/mean", r->tis_mean);
    num(out, "is/max", r->tis_max);
    num(out, "is/capped_frac", r->tis_capped);
    num(out, "is/mask_frac", r->mask_fraction);
}

static void critic(struct buf *out, const struct step_report *r) {
    num(out, "critic/vf_loss", r->value_loss);
    num(out, "critic/vf_clipfrac", r->value_clip_fraction);
    num(out, "critic/values/mean", r->value_mean);
    num(out, "critic/vf_explained_var", r->explained_variance);
}

void metrics_json(struct buf *out, const struct step_report *r, const struct metrics_times *t) {
    double turn = t->step + t->wait;
    buf_str(out, "{");
    whole(out, "step", r->step + 1); /* step n makes version n */
    num(out, "reward/mean", r->reward_mean);
    num(out, "reward/std", r->reward_std);
    num(out, "response_length/mean", r->response_length_mean);
    num(out, "response_length/max", r->response_length_max);
    num(out, "response_length/clip_ratio",
        r->sequences > 0 ? (double)r->truncated / (double)r->sequences : 0);
    policy(out, r);
    if (!isnan(r->value_loss)) critic(out, r);
    if (!isnan(r->changed)) num(out, "update/changed", r->changed);
    whole(out, "batch/tokens", r->tokens);
    whole(out, "batch/trained_tokens", r->trained_tokens);
    whole(out, "batch/sequences", r->sequences);
    whole(out, "batch/microbatches", r->microbatches);
    whole(out, "batch/zero_groups", r->zero_groups);
    whole(out, "batch/optimizer_steps", r->optimizer_steps);
    num(out, "perf/tokens_per_s", t->step > 0 ? (double)r->tokens / t->step : 0);
    num(out, "time/step", t->step);
    num(out, "time/wait", t->wait);
    num(out, "relay/publish_s", t->publish);
    num(out, "relay/publish_wait_s", t->publish_wait);
    num(out, "idle/trainer", turn > 0 ? t->wait / turn : 0);
    buf_str(out, "}");
}
