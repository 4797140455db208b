/* resume.c - see resume.h. The promise of a run is that every step of it can be executed again from
 * its log and its one recipe; so what a done step depends on cannot change on the way. */
#include "deploy/supervise/resume.h"

#include "base/file.h"
#include "base/mem.h"
#include "deploy/supervise/resumable.h"
#include "proto/recipe/recipe_change.h"
#include "rollout/log/runlog.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct change {
    const struct recipe *is;
    const char *model; /* of the steps done, for who needs another run */
    int64_t formed;    /* steps begun */
    struct buf *text;
};

/* A schedule that spans the steps gives the done ones other learning rates. */
static int check_steps(const struct change *c, const char *was, const char *is) {
    if (c->is->trainer.steps < c->formed)
        return FAIL(ERR_CONFIG, "trainer.steps: %s asked for, but step %" PRId64 " was begun", is,
                    c->formed);
    if (c->formed > 0 && c->is->trainer.optimizer.schedule == RECIPE_COSINE)
        return FAIL(
            ERR_CONFIG,
            "trainer.steps: %s in the run, %s asked for: trainer.optimizer.schedule: cosine "
            "spans trainer.steps, so the %" PRId64
            " steps that are done would have had other learning rates. Start a new run from "
            "the model in %s",
            was, is, c->formed, c->model);
    return 0;
}

static int check_change(void *ctx, const char *key, const char *was, const char *is) {
    struct change *c = ctx;
    if (!recipe_change_allowed(key))
        return FAIL(ERR_CONFIG,
                    "%s: %s in the run, %s asked for: the steps done so far depend on it. A "
                    "continued run may change trainer.steps, trainer.checkpoint, eval, data.eval, "
                    "rollout.workers, monitor, relay, reward_service, threads and memory; a new "
                    "run can start from the model in %s",
                    key, was, is, c->model);
    if (strcmp(key, "trainer.steps") == 0) TRY(check_steps(c, was, is));
    buf_printf(c->text, "%s: %s -> %s\n", key, was, is);
    return 0;
}

/* Batches in the log; a run that was stopped before its first one may have no log. */
static int count_logged_batches(int64_t *n, const struct rundir *dir) {
    struct runlog *log = NULL;
    struct runlog_scan *scan = NULL;
    const struct runlog_record *record;
    char *path = rundir_file(dir, "log");
    int rc = 0;
    *n = 0;
    if (!file_is_dir(path)) goto out;
    TRY_OUT(resumable_damaged(runlog_open_readonly(&log, path), rundir_path(dir)));
    TRY_OUT(runlog_scan_open(&scan, log, RUNLOG_BATCH, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1)
        *n = record->u.batch.step + 1;
    runlog_scan_close(&scan);
out:
    runlog_close(&log);
    mem_free(path);
    return rc;
}

int resume_check(const struct recipe *was, const struct recipe *is, int64_t done, const char *model,
                 struct buf *changed) {
    struct change c = {.is = is, .model = model, .formed = done, .text = changed};
    return recipe_changes(was, is, check_change, &c);
}

int resume_recipe(struct recipe **out, const struct rundir *dir, const struct recipe *was,
                  const char *const *sets, size_t n_sets, struct buf *changed) {
    struct recipe *given = NULL, *is = NULL;
    char *path = rundir_file(dir, "recipe.yaml"), *hf = rundir_file(dir, "hf");
    int64_t formed = 0;
    int rc;
    TRY_OUT(recipe_load(&given, path, sets, n_sets));
    TRY_OUT(rundir_resolve(&is, given));
    TRY_OUT(count_logged_batches(&formed, dir));
    TRY_OUT(resume_check(was, is, formed, hf, changed));
    *out = is;
    is = NULL;
out:
    recipe_close(&given);
    recipe_close(&is);
    mem_free(path);
    mem_free(hf);
    return rc;
}

/* The evaluator takes RUN/hf for the last step's model, so that of other steps must not be there.
 */
static int move_model(const struct rundir *dir, int64_t steps, struct buf *changed) {
    char *from = rundir_file(dir, "hf"), *to = mem_printf("%s-%" PRId64, from, steps);
    int rc = 0;
    if (!file_is_dir(from)) goto out;
    TRY_OUT(file_remove_tree(to)); /* of the same steps, so the same model */
    if (rename(from, to) != 0)
        TRY_OUT(FAIL(ERR_IO, "cannot rename %s to %s: %s", from, to, strerror(errno)));
    buf_printf(changed, "the model of step %" PRId64 " is kept as %s\n", steps, to);
out:
    mem_free(from);
    mem_free(to);
    return rc;
}

int resume_commit(const struct rundir *dir, const struct recipe *was, const struct recipe *is,
                  struct buf *changed) {
    struct buf text = {0};
    char *path = rundir_file(dir, "recipe.yaml");
    int rc;
    if (was->trainer.steps != is->trainer.steps)
        TRY_OUT(move_model(dir, was->trainer.steps, changed));
    recipe_print(is, &text);
    TRY_OUT(file_write_atomic(path, text.data, text.len));
out:
    buf_close(&text);
    mem_free(path);
    return rc;
}
