/* manager_metrics.c - the line of a step in metrics.jsonl: the trainer's report with what only the
 * manager knows. */
#include "rollout/manager/manager_metrics.h"

#include "base/json.h"
#include "base/json_write.h"
#include "base/log.h"
#include "proto/metrics/metrics.h"
#include "rollout/manager/manager_counts.h"
#include "rollout/manager/manager_level.h"
#include "rollout/manager/manager_metrics_file.h"
#include "rollout/manager/manager_predict.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void write_staleness(struct metrics *l, const struct manager_batch_facts *f) {
    double n = f->n > 0 ? (double)f->n : 1;
    metrics_num(l, METRIC_OFF_POLICY_MEAN, f->staleness / n);
    metrics_int(l, METRIC_OFF_POLICY_MAX, f->staleness_max);
    metrics_num(l, METRIC_OFF_POLICY_IN_FLIGHT, f->in_flight / n);
    metrics_num(l, METRIC_OFF_POLICY_IN_QUEUE, (f->staleness - f->in_flight) / n);
    metrics_cells(l, METRIC_OFF_POLICY_HISTOGRAM, f->histogram,
                  sizeof f->histogram / sizeof f->histogram[0]);
}

/* What was generated since the step before, and what of it nobody will train. */
static void write_sampling(struct metrics *l, const struct manager *m) {
    const struct manager_window *w = manager_counts_window(m);
    struct groups_counts n = groups_counts(m->groups);
    int64_t zero = (int64_t)w->rejected[GROUPS_ZERO];
    metrics_int(l, METRIC_SAMPLING_GROUPS, w->groups);
    metrics_int(l, METRIC_SAMPLING_ZERO_GROUPS, w->zero);
    metrics_int(l, METRIC_SAMPLING_REJECTED_GROUPS, zero);
    metrics_num(l, METRIC_SAMPLING_ACCEPT_RATE,
                w->groups > 0 ? (double)(w->groups - zero) / (double)w->groups : (double)NAN);
    metrics_int(l, METRIC_SAMPLING_LOST_TRAJECTORIES, n.lost_trajectories - w->lost_trajectories);
    metrics_int(l, METRIC_SAMPLING_LOST_TOKENS, n.lost_tokens - w->lost_tokens);
    if (m->recipe->rollout.sampling.policy != RECIPE_SAMPLING_VADE) return;
    double judged = w->judged > 0 ? w->judged : (double)NAN;
    metrics_num(l, METRIC_SAMPLING_EXPECTED_RATE, w->expected / judged);
    metrics_num(l, METRIC_SAMPLING_RIGHT_RATE, w->right / judged);
    metrics_int(l, METRIC_SAMPLING_ROWS_VISITED, (int64_t)sampling_visited(m->sampling));
}

static double seconds(uint64_t from, uint64_t to) {
    return to > from ? (double)(to - from) * 1e-6 : 0;
}

static void write_queues(struct metrics *l, const struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    metrics_int(l, METRIC_QUEUE_RUNNING, n.leased);
    metrics_int(l, METRIC_QUEUE_WAITING, n.waiting);
    metrics_int(l, METRIC_QUEUE_UNSCORED, n.unscored);
    metrics_int(l, METRIC_QUEUE_FINISHED_GROUPS, n.finished);
}

static void write_times(struct metrics *l, const struct manager *m) {
    const struct manager_batch_facts *f = manager_counts_batch(m);
    struct manager_level_view level = manager_level_view(m);
    double since = seconds(manager_counts_window(m)->start_us, m->now_us);
    metrics_num(l, METRIC_IDLE_ROLLOUT, level.held);
    metrics_num(l, METRIC_TIME_BATCH_WAIT_S, seconds(f->asked_us, f->answered_us));
    metrics_num(l, METRIC_TIME_TRAIN_S, seconds(f->answered_us, m->now_us));
    metrics_num(l, METRIC_TIME_STEP_S, since);
    metrics_num(l, METRIC_TIME_WALL, (double)m->wall_us * 1e-6);
}

/* What the manager knows of a step, as far as the trainer's report has not said it. */
static void write_own(struct metrics *l, struct manager *m) {
    const struct manager_window *w = manager_counts_window(m);
    const struct manager_batch_facts *f = manager_counts_batch(m);
    double rho = (double)NAN, predicted = manager_predict(m, &rho);
    write_staleness(l, f);
    metrics_int(l, METRIC_OFF_POLICY_DROPPED, (int64_t)w->rejected[GROUPS_STALE]);
    const struct level level = manager_level_view(m).now;
    double batch = (double)m->recipe->trainer.batch.groups;
    metrics_num(l, METRIC_OFF_POLICY_LEVEL, (double)level.groups / batch);
    metrics_num(l, METRIC_OFF_POLICY_LEVEL_TARGET, (double)level_target(&level) / batch);
    metrics_num(l, METRIC_OFF_POLICY_PREDICTED, predicted);
    metrics_num(l, METRIC_OFF_POLICY_RHO, rho);
    metrics_num(l, METRIC_RESPONSE_LENGTH_TAIL, manager_counts_tail(m));
    metrics_int(l, METRIC_REWARD_ERRORS, (int64_t)w->rejected[GROUPS_REWARD]);
    metrics_int(l, METRIC_REWARD_ZERO_GROUPS, f->zero_groups);
    write_sampling(l, m);
    metrics_int(l, METRIC_REJECTED_PROMPT, (int64_t)w->rejected[GROUPS_PROMPT]);
    metrics_int(l, METRIC_REJECTED_ABORTED, (int64_t)w->rejected[GROUPS_ABORTED]);
    metrics_num(l, METRIC_PERF_ROLLOUT_TOKENS_PER_S,
                (double)w->tokens / fmax(seconds(w->start_us, m->now_us), 1e-6));
    write_queues(l, m);
    write_times(l, m);
}

void manager_metrics_line(struct manager *m, int64_t step, const char *report, size_t bytes,
                          struct buf *out) {
    struct json_doc *doc = NULL;
    struct json_write w = json_write_to(out, JSON_COMPACT);
    struct metrics l = {.json = &w};
    if (json_parse(&doc, report, bytes, "step report") < 0)
        LOG_LIMITED(WARN, MANAGER, "step=%" PRId64 " report left out: %s", step + 1, err_text());
    if (doc && json_is(json_root(doc), JSON_OBJECT)) l.but = json_root(doc);
    json_write_object(&w, NULL);
    json_write_int(&w, metrics_name(METRIC_STEP), step + 1); /* step n makes version n */
    for (const struct json *at = json_first(l.but); at; at = json_next(at)) {
        size_t n;
        const char *key = json_key(at, &n);
        if (strcmp(key, metrics_name(METRIC_STEP)) != 0) json_write_value(&w, key, at);
    }
    write_own(&l, m);
    json_write_end(&w);
    json_close(&doc);
}
