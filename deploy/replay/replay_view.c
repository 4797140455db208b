/* replay_view.c - see replay_view.h. */
#include "deploy/replay/replay_view.h"

#include "base/file.h"
#include "base/mem.h"
#include "deploy/supervise/resumable.h"
#include "deploy/supervise/rundir.h"
#include "rollout/engine/engine.h"

#include <stdio.h>

int replay_view_open(struct replay_view *out, const char *run) {
    struct replay_view v = {0};
    int rc;
    TRY_OUT(rundir_check(run));
    TRY_OUT(rundir_recipe(&v.recipe, run));
    TRY_OUT(replay_view_log(&v.log, run));
    *out = v;
    v = (struct replay_view){0};
out:
    replay_view_close(&v);
    return rc;
}

int replay_view_log(struct runlog **out, const char *run) {
    char *dir = file_join(run, "log");
    int rc = runlog_open_readonly(out, dir);
    mem_free(dir);
    return resumable_damaged(rc, run);
}

void replay_view_close(struct replay_view *v) {
    tokenizer_close(&v->tokenizer);
    runlog_close(&v->log);
    recipe_close(&v->recipe);
}

int replay_view_text(struct replay_view *v, const int32_t *ids, int32_t n, char **text,
                     size_t *bytes) {
    if (!v->tokenizer) TRY(tokenizer_open(&v->tokenizer, v->recipe->model.path));
    return tokenizer_decode(v->tokenizer, ids, (size_t)n, false, text, bytes);
}

const char *replay_view_finish(uint32_t finish) {
    return finish == ENGINE_STOP ? "stop" : finish == ENGINE_LENGTH ? "length" : "partial";
}

const char *replay_view_state(const struct runlog_group *g, const struct runlog_score *s,
                              uint64_t id) {
    if (g->greedy == id + 1) return "baseline";
    if (g->state == GROUPS_TRAINED) return "trained";
    if (g->state == GROUPS_REJECTED) return "rejected";
    return !s ? "unscored" : s->error ? "reward-error" : "waiting";
}

int replay_view_score(struct replay_view *v, uint64_t id, struct runlog_record *hold,
                      const struct runlog_score **out) {
    int rc = runlog_get(v->log, RUNLOG_SCORE, id, hold);
    *out = NULL;
    if (rc == 0) *out = &hold->u.score;
    return rc == ERR_NOTFOUND ? 0 : rc;
}

static int content_of(struct replay_view *v, int64_t version, struct replay_content *out) {
    struct runlog_record loaded = {0}, step = {0};
    struct replay_content c = {.known = false};
    bool first = version == 0; /* then no step made it, and step 0 names it */
    int rc = runlog_get(v->log, RUNLOG_WEIGHTS, (uint64_t)version, &loaded);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    if (rc == 0) {
        c.known = true;
        c.hash = loaded.u.weights.hash;
        snprintf(c.rollout, sizeof c.rollout, "%s", loaded.u.weights.rollout);
    }
    runlog_free(&loaded);
    rc = runlog_get(v->log, RUNLOG_BATCH, (uint64_t)(first ? 0 : version - 1), &step);
    if (rc < 0 && rc != ERR_NOTFOUND) return rc;
    if (rc == 0 && step.u.batch.done) {
        struct hash h = first ? step.u.batch.before : step.u.batch.after;
        c.published = true;
        c.equal = hash_equal(h, c.hash);
    }
    runlog_free(&step);
    *out = c;
    return 0;
}

/* As often as the version changes: responses have one or two. */
int replay_view_versions(struct replay_view *v, const struct runlog_traj *t, void *ctx,
                         void (*each)(void *ctx, int64_t version, const struct replay_content *c)) {
    struct replay_content c;
    for (int32_t i = 0; i < t->n_response; i++) {
        bool seen = false;
        for (int32_t k = 0; k < i && !seen; k++)
            seen = t->version[k] == t->version[i];
        if (seen) continue;
        TRY(content_of(v, t->version[i], &c));
        each(ctx, t->version[i], &c);
    }
    return 0;
}
