/* reject.h - `weir replay RUN reject`: takes a group of trajectories out of a run that cannot go on
 * with it. */
#ifndef DEPLOY_REPLAY_REJECT_H
#define DEPLOY_REPLAY_REJECT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct reject_report {
    uint64_t group, first, last; /* its trajectories */
    int64_t batch;               /* that is formed anew, -1: none */
};

/* The group gets the reason `manual`, and another takes its place when the run is resumed. A batch
 * that has it and was not trained yet is taken back. ERR_AGAIN: the run is running; ERR_CONFIG: the
 * group was rejected before, or trained by a step that is done. */
MUST_CHECK int reject_group(struct reject_report *out, const char *run_dir, uint64_t trajectory);

#endif
