/* preflight.h - everything that a run would refuse, found before a process is started: `weir run`,
 * `weir run --dry-run` and `weir plan` call the same function, so none of them accepts what another
 * refuses. */
#ifndef DEPLOY_PREFLIGHT_PREFLIGHT_H
#define DEPLOY_PREFLIGHT_PREFLIGHT_H

#include "actor/policy.h"
#include "base/buf.h"
#include "base/err.h"
#include "deploy/preflight/start_report.h"
#include "proto/recipe/recipe.h"

struct preflight { /* a zeroed one may be closed */
    struct shape shape;
    struct start_report_plan plan;
    struct buf notes; /* lines "warning: ...", at most one for each data set and kind */
};

/* resumed: the run has weights of its own. ERR_CONFIG (settings), ERR_CORRUPT (rows, with how many
 * and the first three) and what opening devices and reading the model's folder can fail with.
 * Nothing is started or written. */
MUST_CHECK int preflight(struct preflight *out, const struct recipe *r, bool resumed);
/* Only the data sets of data.eval, for an evaluation by itself. */
MUST_CHECK int preflight_eval(struct buf *notes, const struct recipe *r, const struct policy *p);
/* A set of rows that weir sft trains on: what its prompts are made of. Lengths are sft's business.
 */
MUST_CHECK int preflight_sft(struct buf *notes, const struct recipe *r,
                             const struct recipe_data *rows, const char *section,
                             const struct policy *p);
void preflight_close(struct preflight *p);

#endif
