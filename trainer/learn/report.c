/* report.c - see report.h. One table, so that a new number of struct step_report is one line here
 * and appears in `weir step`, in the metrics and in the log alike. */
#include "trainer/learn/report.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

static const struct field {
    const char *key;
    size_t offset;
    bool integer;
} fields[] = {
#define NUM(key, member)                                                                           \
    { key, offsetof(struct step_report, member), false }
#define INT(key, member)                                                                           \
    { key, offsetof(struct step_report, member), true }
    INT("step", step),
    NUM("loss", loss),
    NUM("pg_loss", pg_loss),
    NUM("kl_loss", kl_loss),
    NUM("kl", kl),
    NUM("entropy", entropy),
    NUM("grad_norm", grad_norm),
    NUM("lr", lr),
    NUM("lr_scale", lr_scale),
    NUM("clip_fraction", clip_fraction),
    NUM("dual_clip_fraction", dual_clip_fraction),
    NUM("ratio.mean", ratio_mean),
    NUM("ratio.max", ratio_max),
    NUM("ess", ess),
    NUM("ess_sequence", ess_sequence),
    NUM("tis.mean", tis_mean),
    NUM("tis.max", tis_max),
    NUM("tis.capped", tis_capped),
    NUM("mask_fraction", mask_fraction),
    NUM("value_loss", value_loss),
    NUM("value_clip_fraction", value_clip_fraction),
    NUM("value_mean", value_mean),
    NUM("explained_variance", explained_variance),
    NUM("mismatch_kl", mismatch_kl),
    NUM("logprob_diff.mean", logprob_diff.mean),
    NUM("logprob_diff.max", logprob_diff.max),
    NUM("logprob_diff.mean.engine", logprob_engine.mean),
    NUM("logprob_diff.max.engine", logprob_engine.max),
    NUM("logprob_diff.mean.lag", logprob_lag.mean),
    NUM("logprob_diff.max.lag", logprob_lag.max),
    INT("logprob_diff.checked_tokens", checked_tokens),
    INT("logprob_diff.checked_trajectories", checked_trajectories),
    INT("logprob_diff.unequal_tokens", unequal_tokens),
    NUM("reward.mean", reward_mean),
    NUM("reward.std", reward_std),
    NUM("response_length.mean", response_length_mean),
    NUM("response_length.max", response_length_max),
    NUM("staleness.mean", staleness_mean),
    NUM("staleness.max", staleness_max),
    NUM("gac.cosine", gac_cosine),
    NUM("gac.removed", gac_removed),
    NUM("gac.lr_factor", gac_lr_factor),
    INT("gac.skips", gac_skips),
    NUM("gac.c_low", gac_c_low),
    NUM("gac.c_high", gac_c_high),
    INT("tokens", tokens),
    INT("trained_tokens", trained_tokens),
    INT("sequences", sequences),
    INT("microbatches", microbatches),
    INT("zero_groups", zero_groups),
    INT("truncated", truncated),
    INT("optimizer_steps", optimizer_steps),
    NUM("changed", changed),
};

void report_json(struct buf *out, const struct step_report *r) {
    char hex[HASH_HEX];
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const char *at = (const char *)r + fields[i].offset;
        buf_printf(out, "%s\"%s\": ", i ? ", " : "{", fields[i].key);
        if (fields[i].integer) {
            int64_t v;
            memcpy(&v, at, sizeof v);
            buf_printf(out, "%" PRId64, v);
        } else {
            double v;
            memcpy(&v, at, sizeof v);
            buf_json_num(out, v);
        }
    }
    hash_hex(r->weights_hash, hex);
    buf_printf(out, ", \"gac.action\": \"%s\", \"weights_hash\": \"%s\"}", r->gac_action, hex);
}
