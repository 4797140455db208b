/* step_metrics.h - a step's report as metrics: the same in a run's metrics.jsonl, in `weir step`,
 * in `weir sft --json` and in a retraining. */
#ifndef TRAINER_LEARN_STEP_METRICS_H
#define TRAINER_LEARN_STEP_METRICS_H

#include "proto/metrics/metrics.h"
#include "trainer/learn/step_report.h"

/* The step is counted from 1: r->step is the version before it. */
void step_metrics(struct metrics *m, const struct step_report *r);

struct step_times {      /* seconds */
    double step, wait;   /* the step's computation; waiting for its batch */
    double publish;      /* handing over the version that it began with, beside all that */
    double publish_wait; /* of that, what held up the step */
};

/* What it took, behind the numbers above. */
void step_metrics_times(struct metrics *m, const struct step_report *r, const struct step_times *t);

/* One line of `weir step`: the metrics, by their second names too, and the hash of the weights. */
void step_metrics_line(struct buf *out, const struct step_report *r);

#endif
