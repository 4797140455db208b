/* replay.c - see replay.h. The batch record names trajectories in training order; tokens,
 * log-probs, versions and scores come from their own records; the microbatch plan is a function of
 * the batch and the recipe. So a step is re-executed by the trainer's own step_run, and equal
 * hashes mean that the log explains every weight. */
#include "deploy/replay.h"

#include "base/file.h"
#include "base/mem.h"
#include "proto/recipe.h"
#include "rollout/engine.h"
#include "trainer/step.h"

#include <inttypes.h>

/* Fills trajectory i of the batch from the log. *group: of the previous trajectory, then of this
 * one. */
static int fill(struct batch *b, uint32_t i, struct runlog *log, uint64_t id, uint64_t *group) {
    struct runlog_record traj = {0}, score = {0};
    int rc;
    TRY_OUT(err_wrap(runlog_get(log, RUNLOG_TRAJ, id, &traj), "trajectory %" PRIu64, id));
    TRY_OUT(
        err_wrap(runlog_get(log, RUNLOG_SCORE, id, &score), "score of trajectory %" PRIu64, id));
    const struct runlog_traj *t = &traj.u.traj;
    batch_set(b, i, t->prompt, t->n_prompt, t->response, t->n_response, t->logprob, NULL,
              t->version, 0);
    if (i == 0 || t->group != *group) b->n_groups++;
    *group = t->group;
    b->traj[i].id = id;
    b->traj[i].group = b->n_groups - 1;
    b->traj[i].reward = (float)score.u.score.total;
    b->traj[i].truncated = traj.u.traj.finish == ENGINE_LENGTH;
out:
    runlog_free(&traj);
    runlog_free(&score);
    return rc;
}

int replay_batch(struct batch **out, struct runlog *log, const struct runlog_batch *record) {
    struct batch *b = batch_open(record->n);
    uint64_t group = 0;
    int rc = 0;
    b->step = record->step;
    b->n_groups = 0;
    for (uint32_t i = 0; rc == 0 && i < record->n; i++)
        rc = err_wrap(fill(b, i, log, record->ids[i], &group), "step %" PRId64, record->step);
    if (rc < 0)
        batch_close(&b);
    else
        *out = b;
    return rc;
}

/* Executes one recorded step; compares if it was asked for. */
static int verify_one(struct replay_verify *v, struct step *s, struct runlog *log,
                      const struct runlog_batch *record) {
    struct batch *b;
    struct step_report report;
    TRY(replay_batch(&b, log, record));
    int64_t before = step_version(s);
    int rc = step_run(s, b, &report);
    batch_close(&b);
    TRY(err_wrap(rc, "step %" PRId64, record->step));
    if (step_version(s) == before) step_advance(s); /* skipped, as the trainer service does */
    if (record->step < v->first) return 0;
    v->checked++;
    v->failed += !hash_equal(report.weights_hash, record->after);
    if (v->each) v->each(v->ctx, record->step, record->after, report.weights_hash);
    return 0;
}

/* The state before `first`: a checkpoint where one is left, else the initial model. */
static int open_state(struct step **out, const struct recipe *r, const char *run_dir,
                      struct runlog *log, int64_t first) {
    struct step *s;
    struct runlog_record record = {0};
    struct hash hash;
    char *dir = file_join(run_dir, "checkpoints");
    TRY(step_open(&s, r, r->model.path));
    int rc = ERR_NOTFOUND;
    for (int64_t at = first; at > 0 && rc == ERR_NOTFOUND; at--)
        rc = step_load(s, dir, at);
    if (rc == ERR_NOTFOUND) rc = 0;
    if (rc == 0 && step_version(s) == 0) {
        rc = runlog_get(log, RUNLOG_BATCH, 0, &record);
        if (rc == 0) rc = step_hash(&hash, s);
        if (rc == 0 && record.u.batch.done && !hash_equal(hash, record.u.batch.before))
            rc = FAIL(ERR_MISMATCH, "%s: the initial weights are not those the run started from",
                      r->model.path);
        runlog_free(&record);
    }
    mem_free(dir);
    if (rc < 0)
        step_close(&s);
    else
        *out = s;
    return rc;
}

static int verify_steps(struct replay_verify *v, struct step *s, struct runlog *log) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, log, RUNLOG_BATCH, (uint64_t)step_version(s)));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_batch *b = &record->u.batch;
        if (!b->done || (v->last >= 0 && b->step > v->last)) break;
        rc = verify_one(v, s, log, b);
        if (rc < 0) break;
    }
    runlog_scan_close(&scan);
    return rc < 0 ? rc : 0;
}

int replay_verify(struct replay_verify *v, const char *run_dir) {
    struct recipe *r = NULL;
    struct runlog *log = NULL;
    struct step *s = NULL;
    char *recipe = file_join(run_dir, "recipe.yaml"), *dir = file_join(run_dir, "log");
    int rc;
    TRY_OUT(recipe_load(&r, recipe, NULL, 0));
    TRY_OUT(runlog_open_readonly(&log, dir));
    TRY_OUT(open_state(&s, r, run_dir, log, v->first));
    TRY_OUT(verify_steps(v, s, log));
    if (v->checked == 0)
        rc = FAIL(ERR_NOTFOUND, "%s has no finished step %" PRId64, run_dir, v->first);
out:
    step_close(&s);
    runlog_close(&log);
    recipe_close(&r);
    mem_free(recipe);
    mem_free(dir);
    return rc;
}
