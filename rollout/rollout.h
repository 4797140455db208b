/* rollout.h - the rollout service: generates what the manager hands out. */
#ifndef ROLLOUT_ROLLOUT_H
#define ROLLOUT_ROLLOUT_H

#include "base/err.h"

/* Generates for the manager of RUN with the newest weights of RUN's relay until the run is complete
 * (0) or a stop signal comes (ERR_STOPPED). name is unique among the run's services. A failure is
 * logged in one line and returned. */
MUST_CHECK int rollout_service(const char *run_dir, const char *name);

#endif
