/* predict.c - see predict.h. By Little's law the mean staleness is the mean number of groups that
 * are live when a new version appears (started before it, trained after it), in batches.
 *
 * Those being generated are C * M / B batches: C sequences run, and a group is open for as long as
 * its longest response, M times the mean. Finished ones wait. When rollouts are the slower side
 * (rho < 1) the trainer takes a batch as soon as it is there, and while it trains, rollouts finish
 * rho of the next. When they are the faster side, each step leaves rho - 1 batches more than it
 * uses, until admission stops them: eta batches may be live, so that is where it ends. On the way
 * there, and back when the rates change, the line grows or shrinks by rho - 1 each step; what is
 * trained at step n joined it at n / rho. The first term is Applied Compute's (July 2026), whose
 * queue has a capacity instead of our bound. */
#include "rollout/predict.h"

#include <math.h>
#include <stdbool.h>

double predict_staleness(const struct predict_input *in) {
    bool known = in->concurrency >= 0 && in->batch > 0 && in->tail > 0 && in->rho > 0 &&
                 isfinite(in->rho) && in->bound >= 0 && in->waiting >= 0 && in->steps >= 0;
    if (!known) return NAN;
    double flight = in->concurrency * in->tail / in->batch;
    double grown = in->rho == 1 ? 0 : (in->rho - 1) * in->steps;
    double queue = fmax(fmin(1, in->rho), (in->waiting + grown) / in->rho);
    return fmin(in->bound, flight + queue);
}
