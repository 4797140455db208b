/* manager_scores.h - finished trajectories to the reward service, scores back. */
#ifndef ROLLOUT_MANAGER_MANAGER_SCORES_H
#define ROLLOUT_MANAGER_MANAGER_SCORES_H

#include "rollout/manager/manager_state.h"

void manager_scores_open(struct manager *m); /* after the groups are opened */
void manager_scores_close(struct manager *m);

void manager_scores_add(struct manager *m, uint64_t trajectory); /* wants a score */
MUST_CHECK int manager_scores_reply(struct manager *m, const struct wire_msg *msg);
MUST_CHECK int manager_scores_send(struct manager *m); /* what the service may have now */

#endif
