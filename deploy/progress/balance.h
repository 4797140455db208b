/* balance.h - which side of a run waits for the other, and what would balance them: one sentence
 * once it is known and one for the summary, from the metrics of the run's steps. */
#ifndef DEPLOY_PROGRESS_BALANCE_H
#define DEPLOY_PROGRESS_BALANCE_H

#include "base/buf.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct balance {
    int64_t eta, workers; /* the recipe's staleness.max and rollout.workers; then sums over steps */
    int64_t steps;
    double wait_s, step_s; /* the trainer's waits for a batch, and all of its time */
    double held;           /* idle/rollout: share of rollouts' places that admission kept empty */
    double level;          /* off_policy/level, in batches */
};

/* A line of metrics.jsonl. The first steps, while everything starts, are not counted. */
void balance_step(struct balance *b, const struct json *line, int64_t step);
/* True at one step only: with the newest one balance_text has a sentence for the first time. */
bool balance_became_known(const struct balance *b);
/* Appends a line without its end; nothing where too few steps were seen. */
void balance_text(struct buf *out, const struct balance *b);

#endif
