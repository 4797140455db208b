/* batch_check.c - see batch_check.h. The batch came over a socket or from a file: everything that
 * indexes an array or enters a formula is looked at here, once, so that nothing behind needs to. */
#include "trainer/batch/batch_check.h"

#include <inttypes.h>
#include <math.h>

static int check_ids(const struct batch_check *a, const struct batch_traj *t) {
    for (int32_t k = 0; k < t->n_prompt + t->n_response; k++)
        if (t->ids[k] < 0 || t->ids[k] >= a->vocab)
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": token id %d, the vocabulary has %d",
                        t->id, t->ids[k], a->vocab);
    return 0;
}

static int check_values(const struct batch_check *a, const struct batch_traj *t) {
    if (!isfinite(t->reward))
        return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": the reward is not finite", t->id);
    for (int32_t k = 0; k < t->n_response; k++) {
        if (!t->mask[k]) continue;
        if (!isfinite(t->logprob[k]))
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": log-prob %d is not finite", t->id, k);
        if (t->version[k] > a->version)
            return FAIL(ERR_MISMATCH,
                        "trajectory %" PRIu64 ": a token of version %" PRId64
                        ", but the weights are version %" PRId64,
                        t->id, t->version[k], a->version);
    }
    return 0;
}

int batch_check_trajectories(const struct batch_check *a, const struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        const struct batch_traj *t = &b->traj[i];
        if (t->n_prompt < 1 || t->n_response < 0 || t->n_response > a->context - t->n_prompt)
            return FAIL(ERR_CONFIG,
                        "trajectory %" PRIu64
                        " has %d + %d tokens; allowed are 1 or more prompt tokens and %d in all "
                        "(rollout.max_prompt_tokens + rollout.max_new_tokens, and the model's "
                        "context)",
                        t->id, t->n_prompt, t->n_response, a->context);
        if (t->group >= b->n_groups)
            return FAIL(ERR_CORRUPT, "trajectory %" PRIu64 ": group %u of %u", t->id, t->group,
                        b->n_groups);
        TRY(check_ids(a, t));
        if (!a->supervised) TRY(check_values(a, t));
    }
    return 0;
}

int batch_check_batch(const struct batch_check *a, const struct batch *b) {
    TRY(batch_check_trajectories(a, b));
    int64_t trained = batch_trained(b);
    if (trained < 1) return FAIL(ERR_CORRUPT, "the batch has no trained token");
    if (trained > INT32_MAX)
        return FAIL(ERR_CORRUPT, "the batch has %" PRId64 " trained tokens, the limit is %d",
                    trained, INT32_MAX);
    return 0;
}

int batch_check_staleness(const struct batch_check *a, const struct batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        int64_t oldest = batch_oldest(&b->traj[i]);
        if (oldest == INT64_MAX || a->version - oldest <= a->staleness_max) continue;
        return FAIL(ERR_STALE,
                    "trajectory %" PRIu64 " has a token of version %" PRId64
                    ", the weights are version %" PRId64
                    ": staler than trainer.staleness.max %" PRId64,
                    b->traj[i].id, oldest, a->version, a->staleness_max);
    }
    return 0;
}
