/* manager_level.h - how far rollouts run ahead, and the staleness to expect of it: parts of the
 * manager, see manager_impl.h. */
#ifndef ROLLOUT_MANAGER_LEVEL_H
#define ROLLOUT_MANAGER_LEVEL_H

#include "rollout/manager_impl.h"

/* manager_level.c */
void manager_level_open(struct manager *m);
void manager_level_restore(struct manager *m, int64_t groups); /* of the newest batch record */
void manager_level_formed(struct manager *m);

/* manager_predict.c */
void manager_predict_tick(struct manager *m); /* each turn */
void manager_predict_step(struct manager *m); /* a step was done */
/* NAN until there is something to go by. */
double manager_predict(const struct manager *m, double *rho);

#endif
