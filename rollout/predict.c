/* predict.c - see predict.h. The closed form is Applied Compute's (July 2026), found there to be
 * within 0.3 versions over six runs; an example of theirs is in the test. While generating, a
 * sequence sees C * M / B batches leave at the speed of the slower side; finished ones then wait
 * for their batch (slow rollouts) or in a full queue (fast ones). */
#include "rollout/predict.h"

#include <math.h>

double predict_staleness(const struct predict_input *in) {
    double rho = in->rollout / in->train;
    if (!(in->concurrency > 0 && in->batch > 0 && in->tail > 0 && rho > 0 && in->queue >= 0) ||
        !isfinite(rho))
        return NAN;
    double flight = in->concurrency * in->tail / in->batch;
    if (rho <= 1) return flight + rho;
    return flight / rho + (2 * in->queue + rho - 1) / (2 * rho);
}
