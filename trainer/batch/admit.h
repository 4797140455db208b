/* admit.h - may this batch be trained? The last look at it before anything is computed: ids,
 * lengths, finite numbers, versions, and the staleness bound a second time (I2: whatever the
 * manager believed, nothing staler is trained). Errors name the trajectory and the limit. */
#ifndef TRAINER_BATCH_ADMIT_H
#define TRAINER_BATCH_ADMIT_H

#include "base/err.h"
#include "trainer/batch/batch.h"

#include <stdbool.h>

struct admit {
    int32_t vocab, context; /* context: longest trajectory, tokens */
    int64_t version, staleness_max;
    bool supervised; /* rewards, log-probs and versions are not read */
};

/* Shape, ids and values of every trajectory. */
MUST_CHECK int admit_trajectories(const struct admit *a, const struct batch *b);
/* The same, and that there is something to train. */
MUST_CHECK int admit_batch(const struct admit *a, const struct batch *b);
/* ERR_STALE names a trajectory beyond the bound. */
MUST_CHECK int admit_staleness(const struct admit *a, const struct batch *b);

#endif
