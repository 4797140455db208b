/* resumable.h - whether what a run's directory holds belongs together, before anything is started:
 * a checkpoint is never newer than the log that led to it. */
#ifndef DEPLOY_SUPERVISE_RESUMABLE_H
#define DEPLOY_SUPERVISE_RESUMABLE_H

#include "base/err.h"
#include "proto/recipe/recipe.h"

#include <stdbool.h>

/* ERR_CORRUPT: the log is behind the newest checkpoint, or not there, or damaged; the text says
 * which checkpoint fits and what to do. */
MUST_CHECK int resumable_check(const char *run_dir);
/* ERR_MISMATCH: the log was made with another recipe than this one, that of the directory. A log
 * that a former version made, which knows its recipe by the text, learns to know it by what may not
 * change. For a run that is not running, before its recipe is written anew. */
MUST_CHECK int resumable_adopt(const char *run_dir, const struct recipe *r, bool write);

/* rc as it is; what a damaged log of run_dir's gave (ERR_CORRUPT) names salvage besides. */
int resumable_damaged(int rc, const char *run_dir);

#endif
