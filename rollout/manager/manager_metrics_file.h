/* manager_metrics_file.h - the file RUN/metrics.jsonl: one line per step and per evaluation. */
#ifndef ROLLOUT_MANAGER_MANAGER_METRICS_FILE_H
#define ROLLOUT_MANAGER_MANAGER_METRICS_FILE_H

#include "rollout/manager/manager_state.h"

#define MANAGER_STEP_KEY "{\"step\":" /* begins the line of a step */

MUST_CHECK int manager_metrics_file_rewrite(struct manager *m); /* from the log */
MUST_CHECK int manager_metrics_file_append(struct manager *m, const char *line, size_t bytes);

#endif
