/* limits.h - what the system lets a run have: file descriptors, address space, memory. */
#ifndef DEPLOY_PREFLIGHT_LIMITS_H
#define DEPLOY_PREFLIGHT_LIMITS_H

#include "deploy/preflight/start_report.h"

/* ERR_NOMEM names the limit, what it is, what the run needs and how to change it. Raises the soft
 * limit of descriptors to the hard one where that is enough. */
MUST_CHECK int limits_check(const struct recipe *r, const struct start_report_plan *p);

#endif
