/* runlog_identity.h - whose log it is: what of a recipe, that of run_dir, may not change. */
#ifndef ROLLOUT_LOG_RUNLOG_IDENTITY_H
#define ROLLOUT_LOG_RUNLOG_IDENTITY_H

#include "proto/recipe/recipe.h"
#include "rollout/log/runlog.h"

MUST_CHECK int runlog_identity(struct runlog_meta *out, const char *run_dir,
                               const struct recipe *r);

#endif
