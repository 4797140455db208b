/* metrics.h - a step's numbers under the names that people chart, for metrics.jsonl, the dashboard
 * and TensorBoard. */
#ifndef TRAINER_LEARN_METRICS_H
#define TRAINER_LEARN_METRICS_H

#include "base/buf.h"
#include "trainer/learn/step.h"

/* Seconds */
struct metrics_times {
    double step, wait;   /* the step's computation; waiting for its batch */
    double publish;      /* handing over the version that it began with, beside all that */
    double publish_wait; /* of that, what held up the step */
};

/* One JSON object with flat keys. A number that does not exist is null. */
void metrics_json(struct buf *out, const struct step_report *r, const struct metrics_times *t);

#endif
