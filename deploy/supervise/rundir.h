/* rundir.h - the directory of a run: recipe.yaml (effective, absolute paths), log/, checkpoints/,
 * hf/, ipc/, weir.log, metrics.jsonl, and a lock that one supervisor holds. */
#ifndef DEPLOY_SUPERVISE_RUNDIR_H
#define DEPLOY_SUPERVISE_RUNDIR_H

#include "base/err.h"
#include "proto/recipe/recipe.h"

struct rundir;

/* Makes DIR (NULL: a new runs/NAME-DATE-TIME) and writes the recipe. ERR_CONFIG if DIR holds a run
 * already, or anything that a run would write over. */
MUST_CHECK int rundir_create(struct rundir **out, const char *dir, const struct recipe *r);
/* That refusal alone; DIR need not be there. */
MUST_CHECK int rundir_check_free(const char *dir);
/* Opens an existing run to continue it; *recipe: its recipe. ERR_AGAIN naming the holder when it is
 * running. */
MUST_CHECK int rundir_resume(struct rundir **out, const char *dir, struct recipe **recipe);
/* The recipe of a run's directory. ERR_CORRUPT: it lacks what every run's has (emptied, or cut). */
MUST_CHECK int rundir_recipe(struct recipe **out, const char *dir);
/* The recipe with absolute paths: services may be started from anywhere. *out: recipe_close. */
MUST_CHECK int rundir_resolve(struct recipe **out, const struct recipe *r);
/* ERR_CONFIG if DIR holds what `weir replay retrain` made: no log, nothing to continue. */
MUST_CHECK int rundir_check(const char *dir);
void rundir_close(struct rundir **d);            /* gives up the lock */
const char *rundir_path(const struct rundir *d); /* absolute */
/* DIR/name; mem_free. */
char *rundir_file(const struct rundir *d, const char *name);

#endif
