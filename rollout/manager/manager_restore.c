/* manager_restore.c - the state from the log. Nothing else is kept between two managers: what is
 * not in the log did not happen. The records of all groups and batches are read; trajectories and
 * scores only of groups that are not trained yet, which are few however long the run is. */
#include "rollout/manager/manager_restore.h"

#include "base/json.h"
#include "proto/metrics/metrics.h"
#include "rollout/manager/manager_clients.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_prompts.h"
#include "rollout/manager/manager_sampling.h"
#include "rollout/manager/manager_scores.h"
#include "rollout/manager/manager_weights.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Batches are dense from 0 and done in order. */
static int count_batches(struct manager *m, int64_t *formed, int64_t *done) {
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    int rc = 0;
    *formed = *done = 0;
    TRY(runlog_scan_open(&s, m->log, RUNLOG_BATCH, 0));
    while ((rc = runlog_scan_next(s, &r)) > 0) {
        if (r->u.batch.step != *formed || (r->u.batch.done && *done != *formed)) {
            rc = FAIL(ERR_CORRUPT, "%s: batch %" PRId64 " follows %" PRId64 " (%" PRId64 " done)",
                      runlog_dir(m->log), r->u.batch.step, *formed, *done);
            break;
        }
        ++*formed;
        manager_level_restore(m, r->u.batch.level);
        *done += r->u.batch.done;
        if (!r->u.batch.done) continue;
        rc = manager_weights_published(m, r->u.batch.step, r->u.batch.before);
        if (rc == 0) rc = manager_weights_published(m, r->u.batch.step + 1, r->u.batch.after);
        if (rc < 0) break;
    }
    runlog_scan_close(&s);
    return rc;
}

static int restore_finished(struct manager *m, uint64_t id, const struct trajectory *t) {
    struct runlog_record score = {0};
    int rc = runlog_get(m->log, RUNLOG_SCORE, id, &score);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    bool scored = rc == 0 && score.u.score.error == 0;
    rc = groups_restore_traj(m->groups, id, t->n_response, trajectory_oldest(t), true, scored,
                             scored ? (float)score.u.score.total : 0);
    runlog_free(&score);
    TRY(rc);
    if (!scored) manager_scores_add(m, id);
    return 0;
}

static int restore_partial(struct manager *m, uint64_t id) {
    struct runlog_record r = {0};
    int rc = runlog_get_partial(m->log, id, &r);
    if (rc == ERR_NOTFOUND) return 0; /* nothing streamed yet */
    TRY(rc);
    const struct trajectory *t = &r.u.traj;
    rc = groups_restore_traj(m->groups, id, t->n_response, trajectory_oldest(t), false, false, 0);
    if (rc == 0) {
        struct manager_tokens *tokens = manager_prompts_tokens(m, id);
        trajectory_append(&tokens->traj, t);
        tokens->restored = true;
        tokens->writer = manager_clients_writer(t->rollout);
        if (t->started > 0) tokens->traj.started = t->started;
    }
    runlog_free(&r);
    return rc;
}

static int restore_traj(struct manager *m, uint64_t id) {
    struct runlog_record r = {0};
    int rc = runlog_get(m->log, RUNLOG_TRAJ, id, &r);
    if (rc == ERR_NOTFOUND) {
        rc = restore_partial(m, id);
    } else if (rc == 0) {
        rc = restore_finished(m, id, &r.u.traj);
        runlog_free(&r);
    }
    return err_wrap(rc, "trajectory %" PRIu64, id);
}

/* A group that goes on must get the prompt that it had. */
static int same_prompt(struct manager *m, const struct runlog_group *g) {
    const struct manager_prompt *p = NULL;
    if (g->row >= dataset_rows(m->data))
        return FAIL(ERR_MISMATCH, "%s changed since the run began: it has no row %" PRIu64,
                    m->recipe->data.train.path, g->row);
    manager_prompts_restore(m, g);
    TRY(manager_prompts_get(m, g->id, &p));
    if (strcmp(p->text, g->prompt) == 0) return 0;
    return FAIL(ERR_MISMATCH, "%s changed since the run began: row %" PRIu64 " is another prompt",
                m->recipe->data.train.path, g->row);
}

static int restore_group(struct manager *m, const struct runlog_group *g) {
    TRY(groups_restore_group(m->groups, g->id, g->slot, g->floor, g->state, g->reason));
    TRY(manager_sampling_restore(m, g));
    if (g->state != GROUPS_RUNNING) return 0;
    TRY(same_prompt(m, g));
    for (int64_t i = 0; i < m->size; i++)
        TRY(restore_traj(m, manager_trajectory(m, g->id, i)));
    return 0;
}

static int restore_groups(struct manager *m) {
    struct runlog_scan *s = NULL;
    const struct runlog_record *r = NULL;
    int rc = 0;
    TRY(runlog_scan_open(&s, m->log, RUNLOG_GROUP, 0));
    while ((rc = runlog_scan_next(s, &r)) > 0) {
        uint64_t id = r->u.group.id;
        rc = err_wrap(restore_group(m, &r->u.group), "%s: group %" PRIu64, runlog_dir(m->log), id);
        if (rc < 0) break;
    }
    runlog_scan_close(&s);
    return rc;
}

static int restore_last(struct manager *m, int64_t done) {
    struct runlog_record r = {0};
    struct json_doc *doc = NULL;
    manager_counts_done(m, NAN);
    if (done == 0) return 0;
    TRY(runlog_get(m->log, RUNLOG_REPORT, (uint64_t)done - 1, &r));
    if (json_parse(&doc, r.u.report.json, r.u.report.bytes, "report") == 0)
        manager_counts_done(m, metrics_get_num(json_root(doc), METRIC_REWARD_MEAN, (double)NAN));
    json_close(&doc);
    runlog_free(&r);
    return 0;
}

int manager_restore(struct manager *m) {
    int64_t formed = 0, done = 0;
    TRY(count_batches(m, &formed, &done));
    TRY(manager_weights_restore(m));
    groups_restore_batches(m->groups, formed, done);
    TRY(restore_groups(m));
    TRY(err_wrap(groups_restore_end(m->groups), "%s", runlog_dir(m->log)));
    TRY(manager_sampling_restored(m));
    return restore_last(m, done);
}
