/* retrain.c - see retrain.h. The loop of the trainer service without the services: the batch comes
 * from the log instead of the manager, everything else is the same step.
 *
 * Version numbers stay those of the log: step v trains the batch of step v, so a trajectory is as
 * stale as it was. But they name the logged weights. Once the weights differ from those, a token
 * "of the current version" was sampled by other weights, and the comparison of log-probs at equal
 * weights says nothing; such batches are marked as foreign.
 *
 * With a tighter bound, groups beyond it are left out as `late: drop` would have done. `late: wait`
 * would have formed other batches from groups that nobody generated, so it is refused. */
#include "deploy/replay/retrain.h"

#include "actor/policy.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "deploy/evaluate/evaluate.h"
#include "deploy/replay/replay.h"
#include "deploy/replay/replay_view.h"
#include "deploy/supervise/rundir.h"
#include "proto/recipe/recipe_change.h"
#include "rollout/setup/setup_policy.h"
#include "trainer/checkpoint/export.h"
#include "trainer/learn/step_metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct work {
    struct retrain *t;
    struct recipe *was, *is; /* of the run; of the counterfactual */
    struct runlog *log;
    struct step *step;
    struct rundir *dir;
    struct hash hash; /* of the current weights */
    int fd;           /* metrics.jsonl */
    char *metrics;
    struct buf line, note;
    /* evaluation; NULL without */
    struct policy policy;
    const struct kern_backend *backend;
    struct params *weights; /* a copy: the trainer's may have a critic behind them */
    struct evaluate *evaluate;
    int64_t evaluated; /* newest version evaluated, -1: none */
};

/* --- before the first step ----------------------------------------------------------------- */

static int note_change(void *ctx, const char *key, const char *was, const char *is) {
    struct work *w = ctx;
    TRY(retrain_allows(key, was, is));
    buf_printf(&w->note, "changed    %s: %s -> %s\n", key, was, is);
    return 0;
}

/* The logged steps there are, and that the bound can be kept. */
static int check_log(struct work *w) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int64_t max = w->is->trainer.staleness.max, steps = 0, logged = w->was->trainer.steps;
    bool wait = w->is->trainer.staleness.late == RECIPE_LATE_WAIT;
    int rc;
    if (w->is->trainer.steps > logged)
        return FAIL(ERR_CONFIG,
                    "trainer.steps: %" PRId64 " in the run, %" PRId64
                    " in the recipe: there is nothing logged to train the others on",
                    logged, w->is->trainer.steps);
    TRY(runlog_scan_open(&scan, w->log, RUNLOG_BATCH, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_batch *b = &record->u.batch;
        if (!b->done || b->step >= w->is->trainer.steps) break;
        steps++;
        if (!wait || b->staleness_max <= max) continue;
        rc = FAIL(ERR_CONFIG,
                  "trainer.staleness.max: %" PRId64 ", but step %" PRId64
                  " has a trajectory of staleness %" PRId64
                  "; with late: wait other groups would have been generated. Set "
                  "trainer.staleness.late: drop to leave such groups out",
                  max, b->step + 1, b->staleness_max);
        break;
    }
    runlog_scan_close(&scan);
    if (rc < 0) return rc;
    if (steps == 0) return FAIL(ERR_NOTFOUND, "%s has no finished step", w->t->run);
    buf_printf(&w->note, "steps      %" PRId64 " logged, from the initial model\n", steps);
    return 0;
}

static int load_recipes(struct work *w) {
    struct retrain *t = w->t;
    struct recipe *given = NULL;
    char *path = file_join(t->run, "recipe.yaml");
    int rc;
    TRY_OUT(rundir_recipe(&w->was, t->run));
    TRY_OUT(recipe_load(&given, t->recipe ? t->recipe : path, t->sets, t->n_sets));
    TRY_OUT(rundir_resolve(&w->is, given));
    TRY_OUT(err_wrap(recipe_changes(w->was, w->is, note_change, w), "%s cannot be retrained so",
                     t->run));
    if (w->note.len == 0) buf_str(&w->note, "changed    nothing: the logged weights must result\n");
out:
    recipe_close(&given);
    mem_free(path);
    return rc;
}

static int open_log(struct work *w) {
    return replay_view_log(&w->log, w->t->run);
}

/* The weights that the run began with, whatever the folder is called now. */
static int open_step(struct work *w) {
    struct runlog_record first = {0};
    TRY(step_open(&w->step, w->is, w->is->model.path));
    TRY(step_hash(&w->hash, w->step));
    int rc = runlog_get(w->log, RUNLOG_BATCH, 0, &first);
    if (rc == 0 && !hash_equal(w->hash, first.u.batch.before))
        rc =
            FAIL(ERR_MISMATCH, "model.path: %s does not hold the weights that the run started from",
                 w->is->model.path);
    runlog_free(&first);
    return rc;
}

static int open_evaluation(struct work *w) {
    const struct recipe *r = w->is;
    w->evaluated = -1;
    if (!w->t->eval) return 0;
    TRY(kern_open(&w->backend, r->rollout.device, (int)r->rollout.threads));
    TRY(setup_policy(&w->policy, r, NULL));
    w->policy.shape.bf16 = r->model.dtype == RECIPE_DTYPE_BF16;
    TRY(params_open(&w->weights, w->backend, &w->policy.shape));
    return evaluate_open(&w->evaluate, r, &w->policy, w->backend);
}

void retrain_summary(const struct retrain *t, struct json_write *w) {
    char hex[HASH_HEX];
    hash_hex(t->hash, hex);
    json_write_int(w, "steps", t->steps);
    json_write_int(w, "empty_steps", t->empty);
    json_write_int(w, "skipped_steps", t->skipped);
    json_write_int(w, "groups_rejected", t->groups_rejected);
    json_write_int(w, "trajectories", t->trajectories);
    json_write_int(w, "as_logged", t->as_logged);
    json_write_str(w, "weights_hash", hex);
}

static int write_summary(const struct work *w, bool complete) {
    const struct retrain *t = w->t;
    struct buf b = {0};
    struct json_write json = json_write_to(&b, JSON_LINE);
    char *path = rundir_file(w->dir, "retrain.json");
    json_write_object(&json, NULL);
    json_write_str(&json, "retrain_of", t->run);
    json_write_bool(&json, "complete", complete);
    if (complete) retrain_summary(t, &json);
    json_write_end(&json);
    json_write_newline(&json);
    int rc = file_write_atomic(path, b.data, b.len);
    buf_close(&b);
    mem_free(path);
    return rc;
}

static int open_out(struct work *w) {
    TRY(rundir_create(&w->dir, w->t->out, w->is));
    w->t->dir = mem_strdup(rundir_path(w->dir));
    TRY(write_summary(w, false)); /* `weir run --resume` shall not take it for a run */
    w->metrics = rundir_file(w->dir, "metrics.jsonl");
    w->fd = open(w->metrics, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", w->metrics, strerror(errno));
    return 0;
}

/* --- a step -------------------------------------------------------------------------------- */

static int write_line(struct work *w) {
    return file_write_all(w->fd, w->line.data, w->line.len, w->metrics);
}

/* Before the first step, each eval.every versions, and after the last one. */
static int evaluate(struct work *w, bool last) {
    int64_t version = step_version(w->step), every = w->is->eval.every;
    struct evaluate_report r;
    if (!w->evaluate || version == w->evaluated) return 0;
    if (!last && version != 0 && (every == 0 || version % every != 0)) return 0;
    size_t bytes = params_slab(w->weights).bytes;
    void *copy = mem_alloc(bytes);
    int rc = params_get(step_policy(w->step), copy, bytes);
    if (rc == 0) rc = params_put(w->weights, copy, bytes);
    mem_free(copy);
    TRY(rc);
    TRY(evaluate_run(w->evaluate, w->weights, version, NULL, NULL, &r));
    buf_reset(&w->line);
    struct json_write json = json_write_to(&w->line, JSON_LINE);
    struct metrics m = {.json = &json};
    json_write_object(&json, NULL);
    evaluate_metrics(&r, &m);
    json_write_end(&json);
    json_write_newline(&json);
    TRY(write_line(w));
    w->evaluated = version;
    if (w->t->on_eval) w->t->on_eval(w->t->ctx, w->line.data);
    return 0;
}

static bool is_stale(const struct batch_traj *t, int64_t step, int64_t max) {
    int64_t oldest = batch_oldest(t);
    return oldest != INT64_MAX && step - oldest > max;
}

/* The ids of groups within the bound; *rejected: the other groups. */
static uint32_t within_bound(const struct work *w, const struct batch *b, uint64_t *ids,
                             int64_t *rejected) {
    bool *stale = mem_zalloc(b->n_groups + 1);
    uint32_t n = 0;
    *rejected = 0;
    for (uint32_t i = 0; i < b->n; i++)
        stale[b->traj[i].group] |= is_stale(&b->traj[i], b->step, w->is->trainer.staleness.max);
    for (uint32_t g = 0; g < b->n_groups; g++)
        *rejected += stale[g];
    for (uint32_t i = 0; i < b->n; i++)
        if (!stale[b->traj[i].group]) ids[n++] = b->traj[i].id;
    mem_free(stale);
    return n;
}

/* What of a logged batch is trained; *out is NULL if nothing is left. */
static int batch_of(struct work *w, const struct runlog_batch *record, struct batch **out,
                    int64_t *rejected) {
    struct batch *b;
    struct runlog_batch rest = *record;
    TRY(replay_batch(&b, w->log, record));
    uint64_t *ids = mem_array(b->n, sizeof *ids);
    rest.n = within_bound(w, b, ids, rejected);
    rest.ids = ids;
    int rc = 0;
    if (rest.n < b->n) {
        batch_close(&b);
        if (rest.n > 0) rc = replay_batch(&b, w->log, &rest);
    }
    mem_free(ids);
    if (rc == 0 && b) b->foreign = !hash_equal(w->hash, record->before);
    if (rc == 0) *out = b;
    return rc;
}

static void describe(struct work *w, struct retrain_step *s, double seconds) {
    struct step_times times = {.step = seconds};
    struct json_write json = json_write_to(&w->line, JSON_LINE);
    struct metrics m = {.json = &json};
    char hex[HASH_HEX];
    buf_reset(&w->line);
    json_write_object(&json, NULL);
    if (s->report) {
        step_metrics(&m, s->report);
        step_metrics_times(&m, s->report, &times);
    } else {
        metrics_int(&m, METRIC_STEP, s->step + 1);
        metrics_text(&m, METRIC_GAC_ACTION, "empty");
    }
    hash_hex(s->hash, hex);
    metrics_int(&m, METRIC_OFF_POLICY_DROPPED, s->rejected);
    metrics_text(&m, METRIC_WEIGHTS_HASH, hex);
    metrics_flag(&m, METRIC_RETRAIN_AS_LOGGED, s->as_logged);
    json_write_end(&json);
    json_write_newline(&json);
}

static int finish_step(struct work *w, struct retrain_step *s, double seconds) {
    struct retrain *t = w->t;
    if (s->as_logged && t->as_logged == t->steps) t->as_logged++;
    t->steps++;
    t->empty += !s->report;
    t->skipped += s->skipped;
    t->groups_rejected += s->rejected;
    t->trajectories += s->report ? s->report->sequences : 0;
    describe(w, s, seconds);
    TRY(write_line(w));
    s->line = w->line.data;
    if (t->on_step) t->on_step(t->ctx, s);
    return 0;
}

static int train(struct work *w, const struct runlog_batch *record) {
    struct batch *b = NULL;
    struct step_report report;
    struct retrain_step s = {.step = record->step, .hash = w->hash};
    uint64_t start = clock_us();
    TRY(evaluate(w, false));
    TRY(batch_of(w, record, &b, &s.rejected));
    if (b) {
        int rc = step_run(w->step, b, &report);
        batch_close(&b);
        TRY(rc);
        s.report = &report;
        s.hash = w->hash = report.weights_hash;
        s.skipped = step_version(w->step) == record->step;
    }
    if (step_version(w->step) == record->step) step_advance(w->step); /* as the service does */
    s.as_logged = hash_equal(s.hash, record->after);
    return finish_step(w, &s, (double)(clock_us() - start) * 1e-6);
}

static int train_all(struct work *w) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, w->log, RUNLOG_BATCH, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_batch *b = &record->u.batch;
        if (!b->done || b->step >= w->is->trainer.steps) break;
        rc = err_wrap(train(w, b), "step %" PRId64, b->step + 1);
        if (rc < 0) break;
    }
    runlog_scan_close(&scan);
    return rc < 0 ? rc : evaluate(w, true);
}

/* --- all of it ----------------------------------------------------------------------------- */

static void work_reset(struct work *w) {
    evaluate_close(&w->evaluate);
    params_close(&w->weights);
    policy_close(&w->policy);
    if (w->backend) kern_close(w->backend);
    step_close(&w->step);
    runlog_close(&w->log);
    rundir_close(&w->dir);
    recipe_close(&w->was);
    recipe_close(&w->is);
    if (w->fd >= 0) close(w->fd);
    mem_free(w->metrics);
    buf_close(&w->line);
    buf_close(&w->note);
}

int retrain_run(struct retrain *t) {
    struct work w = {.t = t, .fd = -1};
    char *hf = NULL;
    int rc;
    TRY_OUT(load_recipes(&w));
    TRY_OUT(open_log(&w));
    TRY_OUT(check_log(&w));
    TRY_OUT(open_step(&w));
    TRY_OUT(open_evaluation(&w));
    TRY_OUT(open_out(&w));
    if (t->on_start) t->on_start(t->ctx, t->dir, w.note.data);
    TRY_OUT(train_all(&w));
    hf = rundir_file(w.dir, "hf");
    TRY_OUT(step_gather_weights(w.step));
    TRY_OUT(export_hf(step_weights(w.step), w.is->model.path, hf, KERN_F32, 0));
    t->hash = w.hash;
    rc = write_summary(&w, true);
out:
    mem_free(hf);
    work_reset(&w);
    return rc;
}
