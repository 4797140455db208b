/* staleness_report.h - how stale a run's batches were, from its log: measured, and what was
 * predicted. */
#ifndef DEPLOY_REPLAY_STALENESS_REPORT_H
#define DEPLOY_REPLAY_STALENESS_REPORT_H

#include "base/err.h"
#include "base/json_write.h"
#include "rollout/log/runlog.h"

#include <stdbool.h>
#include <stdint.h>

/* Prints a section of `weir replay RUN stats`: means over the steps after the first eta + 1 (before
 * that nothing can be as stale as it may be), the histogram of all, and with every > 0 a row for
 * each so many steps. Nothing when no step was done. */
MUST_CHECK int staleness_report_print(struct runlog *log, int64_t eta, int64_t every);
/* The same as the member "staleness" of the open object. */
MUST_CHECK int staleness_report_json(struct runlog *log, int64_t eta, int64_t every,
                                     struct json_write *w);

#endif
