/* predict.c - see predict.h. By Little's law the mean staleness is the mean number of groups that
 * are live when a new version appears (started before it, trained after it), in batches.
 *
 * Those being generated are open for as long as their longest response. Finished ones wait. When
 * rollouts are the slower side (rho < 1) the trainer takes a batch as soon as it is there, and
 * while it trains, rollouts finish rho of the next. When they are the faster side, each step leaves
 * rho - 1 batches more than it uses, until admission stops them: eta batches may be live, so that
 * is where it ends. On the way there, and back when the rates change, each step makes the line
 * longer by rho - 1; what is trained at step n joined it (n - waiting) / rho steps after counting
 * began, or before. For rho < 1 this is Applied Compute's formula (July 2026); for rho > 1 theirs
 * has a queue's capacity instead of our bound. */
#include "rollout/manager/predict.h"

#include <math.h>
#include <stdbool.h>

double predict_staleness(const struct predict_input *in) {
    bool known = in->open >= 0 && in->rho > 0 && isfinite(in->rho) && in->bound >= 0 &&
                 in->waiting >= 0 && in->steps >= 0;
    if (!known) return NAN;
    double joined = fmax(0, (in->steps - in->waiting) / in->rho);
    double grown = in->rho == 1 ? 0 : (in->rho - 1) * joined;
    double queue = fmax(fmin(1, in->rho), in->waiting + grown);
    return fmin(in->bound, in->open + queue);
}
