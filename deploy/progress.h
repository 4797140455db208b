/* progress.h - follows RUN/metrics.jsonl and shows how a run goes: one live line on a terminal, a
 * line per step elsewhere (at most one a second), the JSON lines themselves with --json; and the
 * summary at the end. */
#ifndef DEPLOY_PROGRESS_H
#define DEPLOY_PROGRESS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct progress;

enum progress_form { PROGRESS_LIVE, PROGRESS_LINES, PROGRESS_JSON };

/* steps: of the whole run; eta: the staleness bound. */
struct progress *progress_open(const char *run_dir, int64_t steps, int64_t eta,
                               enum progress_form form);
/* The run promises equal log-probs (I6): the summary says if some differ, or none were compared. */
void progress_expect_exact(struct progress *p);
void progress_close(struct progress **p);
/* Reads what is new; status: the manager's newest JSON object, NULL if none. */
MUST_CHECK int progress_tick(struct progress *p, uint64_t now_us, const char *status);
/* Ends the live line and prints the summary. */
void progress_summary(struct progress *p, const char *run_dir, bool complete);
/* An evaluation's sets, on stdout: "addition 0.838 pass@4 0.912 (2000 answers), ...". */
struct json;
void progress_show_sets(const struct json *evaluation);
int64_t progress_step(const struct progress *p); /* steps done */

#endif
