/* manager_rollouts.h - work out, tokens in. */
#ifndef ROLLOUT_MANAGER_MANAGER_ROLLOUTS_H
#define ROLLOUT_MANAGER_MANAGER_ROLLOUTS_H

#include "rollout/manager/manager_clients.h"

void manager_rollouts_open(struct manager *m);
void manager_rollouts_close(struct manager *m);

/* The answer to a hello: who we are, and which of the trajectories that it lists it may keep. */
MUST_CHECK int manager_rollouts_welcome(struct manager *m, struct manager_client *c,
                                        const struct wire_msg *msg);
void manager_rollouts_request(struct manager *m, struct manager_client *c,
                              const struct wire_msg *msg);
MUST_CHECK int manager_rollouts_tokens(struct manager *m, struct manager_client *c,
                                       const struct wire_msg *msg);
/* Commits what was collected, then acknowledges it. */
MUST_CHECK int manager_rollouts_flush(struct manager *m);
MUST_CHECK int manager_rollouts_dispatch(struct manager *m); /* answers kept requests */

#endif
