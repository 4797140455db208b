/* step_report.h - what one step says about itself; step_metrics.c gives the numbers their names. */
#ifndef TRAINER_LEARN_STEP_REPORT_H
#define TRAINER_LEARN_STEP_REPORT_H

#include "base/hash.h"

#include <stdint.h>

/* The names follow the metrics: actor/pg_loss, ... */
struct step_report {
    int64_t step; /* version before */
    double loss, pg_loss, kl_loss, kl, entropy, grad_norm, lr;
    double clip_fraction, dual_clip_fraction; /* of tokens that no mask rejected */
    double ratio_mean, ratio_max, ess;        /* over trained tokens; ess in [0, 1] */
    double ess_sequence;                      /* of whole trajectories; NAN: nothing asked for it */
    double tis_mean, tis_max, tis_capped, mask_fraction;                    /* correct.h */
    double lr_scale;                                                        /* in lr already */
    double value_loss, value_clip_fraction, value_mean, explained_variance; /* NAN: no critic */
    /* |log-prob of the rollout - of the trainer| over trained tokens; NAN: there are none. engine:
     * those of the version that is trained, where only the engines can differ (mismatch_kl too).
     * lag: older ones, where the weights do. */
    struct step_diff {
        double mean, max;
    } logprob_diff, logprob_engine, logprob_lag;
    double mismatch_kl;
    /* Compared with the weights of their own version (logprob_audit.h and logprob_engine): tokens,
     * the trajectories they are of, tokens that differ. */
    int64_t checked_tokens, checked_trajectories, unequal_tokens;
    double reward_mean, reward_std, response_length_mean, response_length_max;
    double staleness_mean, staleness_max;
    double gac_cosine;            /* NAN: invalid (first step) */
    double gac_lr_factor;         /* of the learning rate */
    double gac_removed;           /* share of the parallel part taken out: 0 pass, 1 skip */
    double gac_c_low, gac_c_high; /* thresholds; NAN: off, or being calibrated */
    int64_t gac_skips;            /* steps skipped in a row */
    const char *gac_action;       /* "off", "pass", "scale", "skip", "calibrate", "invalid" */
    int64_t tokens, trained_tokens, sequences, microbatches, zero_groups;
    int64_t truncated; /* trajectories cut at the length limit */
    int64_t optimizer_steps;
    double changed; /* share of the policy's values that this version changed; NAN: not bf16 */
    struct hash weights_hash; /* of the policy (step_policy) after the step */
};

#endif
