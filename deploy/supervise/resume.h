/* resume.h - a run continued under a changed recipe: more steps, other checkpoints or evaluations.
 */
#ifndef DEPLOY_SUPERVISE_RESUME_H
#define DEPLOY_SUPERVISE_RESUME_H

#include "base/buf.h"
#include "base/err.h"
#include "deploy/supervise/rundir.h"
#include "proto/recipe/recipe.h"

#include <stdint.h>

/* The run's recipe with `sets` over it, and a line of text for each setting that differs.
 * ERR_CONFIG names the first one that may not, with both values and why. Changes nothing. */
MUST_CHECK int resume_recipe(struct recipe **out, const struct rundir *dir,
                             const struct recipe *was, const char *const *sets, size_t n_sets,
                             struct buf *changed);
/* The same check for two recipes, `done` steps having been begun; model: the folder that a new run
 * could start from, for the error. */
MUST_CHECK int resume_check(const struct recipe *was, const struct recipe *is, int64_t done,
                            const char *model, struct buf *changed);
/* Makes it the run's. With other trainer.steps RUN/hf, the model of the steps before, becomes
 * RUN/hf-STEPS. */
MUST_CHECK int resume_commit(const struct rundir *dir, const struct recipe *was,
                             const struct recipe *is, struct buf *changed);

#endif
