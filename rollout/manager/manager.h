/* manager.h - the rollout manager's service: hands out prompts, collects trajectories and scores,
 * forms batches, keeps the log. One per run; everybody else is its client. */
#ifndef ROLLOUT_MANAGER_MANAGER_H
#define ROLLOUT_MANAGER_MANAGER_H

#include "base/env.h"

struct manager; /* one thread */
struct kv_memory;

struct manager_config { /* borrowed */
    const char *run_dir;
    const struct env *env;
    struct kv_memory *memory; /* the log's, instead of RUN/log on disk; NULL */
};

/* Reads the recipe, restores what the log says, serves last: nobody is answered by a manager that
 * then gives up. */
MUST_CHECK int manager_open(struct manager **out, const struct manager_config *cfg);
void manager_close(struct manager **m); /* what is not written yet is not waited for */
/* Reads what came, does what has become possible, sends what may leave. *wait_us: until the next
 * turn is due even if no message comes and the log has no news. */
MUST_CHECK int manager_turn(struct manager *m, uint64_t *wait_us);

/* Runs until a stop signal comes (ERR_STOPPED): RUN/recipe.yaml says what, RUN/log is created or
 * continued, RUN/ipc/manager is where it serves, RUN/metrics.jsonl gets a line per step. An error
 * is final: everything up to the last event is in the log, and starting again continues from there.
 */
MUST_CHECK int manager_service(const char *run_dir);

#endif
