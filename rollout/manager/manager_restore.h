/* manager_restore.h - the state from the log. */
#ifndef ROLLOUT_MANAGER_MANAGER_RESTORE_H
#define ROLLOUT_MANAGER_MANAGER_RESTORE_H

#include "rollout/manager/manager_state.h"

/* Every part is open and as it was at the start. ERR_CORRUPT: no manager wrote this log;
 * ERR_MISMATCH: the data set is not what it was. */
MUST_CHECK int manager_restore(struct manager *m);

#endif
