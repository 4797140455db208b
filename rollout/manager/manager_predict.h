/* manager_predict.h - the staleness to expect of the trajectories that start now. */
#ifndef ROLLOUT_MANAGER_MANAGER_PREDICT_H
#define ROLLOUT_MANAGER_MANAGER_PREDICT_H

#include "rollout/manager/manager_state.h"

void manager_predict_open(struct manager *m);
void manager_predict_close(struct manager *m);
void manager_predict_tick(struct manager *m); /* each turn */
void manager_predict_step(struct manager *m); /* a step was done */
/* Microseconds, weighted by the share of the rollouts' places that admission held free in them. */
double manager_predict_held_us(const struct manager *m);
/* NAN until there is something to go by. */
double manager_predict(const struct manager *m, double *rho);

#endif
