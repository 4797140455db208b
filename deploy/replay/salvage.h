/* salvage.h - `weir replay RUN salvage`: a run whose log is damaged gets a new one of what is
 * whole.
 */
#ifndef DEPLOY_REPLAY_SALVAGE_H
#define DEPLOY_REPLAY_SALVAGE_H

#include "base/err.h"

/* Prints what is kept and lost. out NULL: the new log takes the old one's place, which stays beside
 * it as log.damaged; checkpoints that are newer than the new log go to checkpoints.damaged. Else
 * out becomes a run of its own and run_dir is only read. ERR_AGAIN: the run is running. */
MUST_CHECK int salvage_run(const char *run_dir, const char *out);

#endif
