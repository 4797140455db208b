/* manager.h - the rollout manager's service: hands out prompts, collects trajectories and scores,
 * forms batches, keeps the log. One per run; everybody else is its client. */
#ifndef ROLLOUT_MANAGER_MANAGER_H
#define ROLLOUT_MANAGER_MANAGER_H

#include "base/err.h"

/* Runs until a stop signal comes (ERR_STOPPED): RUN/recipe.yaml says what, RUN/log is created or
 * continued, RUN/ipc/manager is where it serves, RUN/metrics.jsonl gets a line per step. An error
 * is final: everything up to the last event is in the log, and starting again continues from there.
 */
MUST_CHECK int manager_service(const char *run_dir);

#endif
