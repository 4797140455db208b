/* manager_status.h - who waits for what, for people. */
#ifndef ROLLOUT_MANAGER_MANAGER_STATUS_H
#define ROLLOUT_MANAGER_MANAGER_STATUS_H

#include "base/buf.h"
#include "rollout/manager/manager_state.h"

void manager_status_open(struct manager *m); /* the manager starts now */
void manager_status_close(struct manager *m);
void manager_status_json(struct manager *m, struct buf *out);
void manager_status_watch(struct manager *m); /* says so in the log when nothing moves */

#endif
