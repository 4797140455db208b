/* predict.h - what staleness to expect, in closed form: shown beside the measured one. */
#ifndef ROLLOUT_MANAGER_PREDICT_H
#define ROLLOUT_MANAGER_PREDICT_H

struct predict_input {
    double open;    /* batches that are being generated when a new version appears */
    double rho;     /* batches that rollouts could finish while the trainer trains one */
    double bound;   /* eta */
    double waiting; /* batches that were finished and not trained when counting began */
    double steps;   /* since then; INFINITY: in the long run */
};

/* Mean staleness in versions: what accrues while generating, and in the queue, within the bound.
 *   queue = max(min(1, rho), waiting + (rho - 1) * joined)
 *   joined = max(0, (steps - waiting) / rho)
 *   min(eta, open + queue)
 * In the long run that is open + rho for rho < 1 and eta for rho > 1. It does not depend on the
 * mean length. NAN when an input is negative or not a number, or rho is 0 or not finite.
 * For C sequences that always run, B trajectories per step and M, the mean of the longest response
 * of a group over the mean response: open = C * M / B. */
double predict_staleness(const struct predict_input *in);

#endif
