/* manager_weights.h - the content of each version, as told by trainer and rollouts.
 * ERR_MISMATCH: others have other weights as this version, which can exist. */
#ifndef ROLLOUT_MANAGER_MANAGER_WEIGHTS_H
#define ROLLOUT_MANAGER_MANAGER_WEIGHTS_H

#include "rollout/manager/manager_state.h"

void manager_weights_open(struct manager *m);
void manager_weights_close(struct manager *m);

MUST_CHECK int manager_weights_loaded(struct manager *m, int64_t version, struct hash hash,
                                      const char *who);
MUST_CHECK int manager_weights_published(struct manager *m, int64_t version, struct hash hash);
bool manager_weights_confirmed(const struct manager *m, int64_t version); /* by the trainer */
bool manager_weights_known(const struct manager *m, const int64_t *version, size_t n);
MUST_CHECK int manager_weights_restore(struct manager *m);

#endif
