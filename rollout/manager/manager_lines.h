/* manager_lines.h - the file RUN/metrics.jsonl: one line per step and per evaluation. */
#ifndef ROLLOUT_MANAGER_MANAGER_LINES_H
#define ROLLOUT_MANAGER_MANAGER_LINES_H

#include "rollout/manager/manager_impl.h"

#define MANAGER_STEP_KEY "{\"step\":" /* begins the line of a step */

MUST_CHECK int manager_lines_rewrite(struct manager *m); /* from the log */
MUST_CHECK int manager_lines_append(struct manager *m, const char *line, size_t bytes);

#endif
