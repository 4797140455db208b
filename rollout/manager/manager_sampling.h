/* manager_sampling.h - which groups have a signal, what is learned about rows. */
#ifndef ROLLOUT_MANAGER_MANAGER_SAMPLING_H
#define ROLLOUT_MANAGER_MANAGER_SAMPLING_H

#include "rollout/manager/manager_state.h"

MUST_CHECK int manager_sampling_open(struct manager *m); /* m->sampling */
/* All trajectories of a group are scored: perhaps it is rejected now. */
MUST_CHECK int manager_sampling_finished(struct manager *m, uint64_t group);
/* The step trains the group, which is still in the pool. */
void manager_sampling_trained(struct manager *m, uint64_t group, uint64_t row, int64_t step);
MUST_CHECK int manager_sampling_restore(struct manager *m, const struct runlog_group *g);
MUST_CHECK int manager_sampling_restored(struct manager *m); /* the whole pool is */

#endif
