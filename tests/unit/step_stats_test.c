/* step_stats_test.c - rollout against trainer, token by token: which part is whose. */
#include "trainer/learn/step_stats.h"

#include "base/mem.h"
#include "tests/test.h"

TEST(step_stats_splits_engine_and_lag) {
    static const int32_t prompt[1] = {1}, response[4] = {2, 3, 4, 5};
    static const float behaviour[4] = {-1, -2, -3, -4};
    static const uint8_t mask[4] = {1, 1, 0, 1};
    static const int64_t version[4] = {3, 3, 4, 4};
    /* By trained token: two old ones, then one of the current version, equal. */
    static const float trainer[6] = {-1.5F, -2, -4, -1, -2.25F, -4};
    struct batch *b = batch_open(2);
    struct step_report r = {0};
    for (uint32_t i = 0; i < 2; i++)
        batch_set(b, i, prompt, 1, response, 4, behaviour, mask, version, 0);
    step_stats_mismatch(&r, b, 4, trainer, 2, true);
    CHECK(r.logprob_engine.mean == 0 && r.logprob_engine.max == 0 && r.mismatch_kl == 0);
    CHECK(r.checked_tokens == 2 && r.checked_trajectories == 2 && r.unequal_tokens == 0);
    CHECK(r.logprob_lag.mean == 0.1875 && r.logprob_lag.max == 0.5);
    CHECK(r.logprob_diff.mean == 0.125 && r.logprob_diff.max == 0.5);
    step_stats_mismatch(&r, b, 3, trainer, 1, true); /* the other way round, of one trajectory */
    CHECK(r.logprob_engine.mean == 0.25 && r.logprob_engine.max == 0.5 && r.mismatch_kl > 0);
    CHECK(r.logprob_lag.mean == 0 && r.logprob_diff.max == 0.5);
    step_stats_mismatch(&r, b, 5, trainer, 2,
                        true); /* nothing is current: the engines cannot be told */
    CHECK(isnan(r.logprob_engine.mean) && isnan(r.logprob_engine.max) && isnan(r.mismatch_kl));
    CHECK(r.logprob_lag.max == 0.5 && r.logprob_diff.mean == r.logprob_lag.mean);
    b->foreign = true; /* equal numbers name other weights */
    step_stats_mismatch(&r, b, 4, trainer, 2, true);
    CHECK(isnan(r.logprob_engine.max) && r.logprob_lag.mean == 0.125);
    b->foreign = false;
    CHECK(r.checked_tokens == 0);
    static const float nan[6] = {-1, -2, (float)NAN, -1, -2, -4};
    step_stats_mismatch(&r, b, 4, nan, 2, true); /* is not equal to anything */
    CHECK(isinf(r.logprob_engine.max) && r.unequal_tokens == 1 && r.checked_tokens == 2);
    batch_close(&b);
}
