/* manager_metrics.h - the line of a step: the trainer's report with what only the manager knows. */
#ifndef ROLLOUT_MANAGER_MANAGER_METRICS_H
#define ROLLOUT_MANAGER_MANAGER_METRICS_H

#include "base/buf.h"
#include "rollout/manager/manager_state.h"

void manager_metrics_line(struct manager *m, int64_t step, const char *report, size_t bytes,
                          struct buf *out);

#endif
