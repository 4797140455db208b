/* reward.h - the reward service: scores finished responses for the manager. */
#ifndef REWARD_REWARD_H
#define REWARD_REWARD_H

#include "base/err.h"

/* Runs the verifiers of RUN/recipe.yaml for the manager of RUN until the run is complete (0) or
 * a stop signal comes (ERR_STOPPED). name is unique among the run's services. A failure is logged
 * in one line and returned. Call it in a process without threads: it forks the verifier processes
 * first. */
MUST_CHECK int reward_service(const char *run_dir, const char *name);

#endif
