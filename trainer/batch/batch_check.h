/* batch_check.h - may this batch be trained? The last look at it before anything is computed: ids,
 * lengths, finite numbers, versions, and the staleness bound a second time (I2: whatever the
 * manager believed, nothing staler is trained). Errors name the trajectory and the limit. */
#ifndef TRAINER_BATCH_BATCH_CHECK_H
#define TRAINER_BATCH_BATCH_CHECK_H

#include "base/err.h"
#include "trainer/batch/batch.h"

#include <stdbool.h>

struct batch_check {
    int32_t vocab, context; /* context: longest trajectory, tokens */
    int64_t version, staleness_max;
    bool supervised; /* rewards, log-probs and versions are not read */
};

/* Shape, ids and values of every trajectory. */
MUST_CHECK int batch_check_trajectories(const struct batch_check *a, const struct batch *b);
/* The same, and that there is something to train. */
MUST_CHECK int batch_check_batch(const struct batch_check *a, const struct batch *b);
/* ERR_STALE names a trajectory beyond the bound. */
MUST_CHECK int batch_check_staleness(const struct batch_check *a, const struct batch *b);

#endif
