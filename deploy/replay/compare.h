/* compare.h - the metrics of several runs (or retrainings) side by side, by step. */
#ifndef DEPLOY_REPLAY_COMPARE_H
#define DEPLOY_REPLAY_COMPARE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { COMPARE_RUNS_MAX = 8, COMPARE_METRICS_MAX = 16 };

struct compare {
    const char *run[COMPARE_RUNS_MAX]; /* directories with a metrics.jsonl */
    size_t n_runs;
    const char *metric[COMPARE_METRICS_MAX]; /* none: the usual ones */
    size_t n_metrics;
    int64_t every; /* steps that are shown, and the last; 0: all */
    bool json;     /* a line per step; else a table */
};

/* Adds a run unless it is there already. ERR_CONFIG above COMPARE_RUNS_MAX. */
MUST_CHECK int compare_add(struct compare *c, const char *run);
/* Prints to stdout. ERR_NOTFOUND names a metric that no run has, with the nearest one that is
 * there. */
MUST_CHECK int compare_print(struct compare *c);

#endif
