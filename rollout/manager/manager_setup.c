/* manager_setup.c - see manager_setup.h. */
#include "rollout/manager/manager_setup.h"

#include <inttypes.h>

struct groups_config manager_setup_groups(const struct recipe *r) {
    return (struct groups_config){.groups = r->trainer.batch.groups,
                                  .size = recipe_generated(r),
                                  .eta = r->trainer.staleness.max,
                                  .concurrency = r->rollout.concurrency,
                                  .steps = r->trainer.steps,
                                  .tokens_max = r->rollout.max_new_tokens,
                                  .drop = r->trainer.staleness.late == RECIPE_LATE_DROP,
                                  .dynamic = r->rollout.sampling.policy == RECIPE_SAMPLING_DAPO};
}

int manager_setup_candidates(const struct recipe *r, uint64_t rows) {
    int64_t k = r->rollout.sampling.candidates, most = (int64_t)rows / r->trainer.batch.groups;
    if (r->rollout.sampling.policy != RECIPE_SAMPLING_VADE || k <= most) return 0;
    return FAIL(ERR_CONFIG,
                "rollout.sampling.candidates is %" PRId64 ", at most %" PRId64
                " are possible: %s has %" PRIu64 " rows and each of the %" PRId64
                " groups of a batch needs its own",
                k, most, r->data.train.path, rows, r->trainer.batch.groups);
}
