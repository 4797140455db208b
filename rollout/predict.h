/* predict.h - what staleness to expect, in closed form: shown beside the measured one. */
#ifndef ROLLOUT_PREDICT_H
#define ROLLOUT_PREDICT_H

struct predict_input {
    double concurrency; /* C: sequences running at a time */
    double batch;       /* B: trajectories per step */
    double tail;        /* M: mean of the longest response of a group / mean response, >= 1 */
    double rollout;     /* trajectories per second that rollouts can make */
    double train;       /* trajectories per second that the trainer can use */
    double queue;       /* q: batches that may wait */
};

/* Mean staleness in versions: what accrues while generating, and in the queue.
 *   rho = rollout / train
 *   rho <= 1: C * M / B + rho
 *   rho >  1: C * M / (rho * B) + (2 * q + rho - 1) / (2 * rho)
 * It does not depend on the mean length. NAN when an input is not positive or not finite (queue may
 * be 0). The bound of a run is not in it: min() with that is the caller's. */
double predict_staleness(const struct predict_input *in);

#endif
