/* resumable.h - whether what a run's directory holds belongs together, before anything is started:
 * a checkpoint is never newer than the log that led to it. */
#ifndef DEPLOY_RESUMABLE_H
#define DEPLOY_RESUMABLE_H

#include "base/err.h"

/* ERR_CORRUPT: the log is behind the newest checkpoint, or not there, or damaged; the text says
 * which checkpoint fits and what to do. */
MUST_CHECK int resumable_check(const char *run_dir);

/* rc as it is; what a damaged log of run_dir's gave (ERR_CORRUPT) names salvage besides. */
int resumable_damaged(int rc, const char *run_dir);

#endif
