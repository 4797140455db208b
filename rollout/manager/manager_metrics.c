/* manager_metrics.c - RUN/metrics.jsonl: one line per step, the trainer's report with what only the
 * manager knows, and one per evaluation. The log is the truth: a line is stored there together with
 * the end of its step, and the file is written anew from it at the start. So no line is ever lost
 * or doubled, whatever died between the log and the file. */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "proto/metrics/metrics.h"
#include "rollout/manager/manager_impl.h"
#include "rollout/manager/manager_level.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STEP_KEY "{\"step\":" /* begins the line of a step */

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
    const struct manager_window *w = &m->window;
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
    const struct manager_batch_facts *f = &m->facts;
    double since = seconds(m->window.start_us, m->now_us);
    metrics_num(l, METRIC_IDLE_ROLLOUT, m->level.held);
    metrics_num(l, METRIC_TIME_STARVED_S, m->level.starved_s);
    metrics_num(l, METRIC_TIME_BATCH_WAIT_S, seconds(f->asked_us, f->answered_us));
    metrics_num(l, METRIC_TIME_TRAIN_S, seconds(f->answered_us, m->now_us));
    metrics_num(l, METRIC_TIME_STEP_S, since);
    metrics_num(l, METRIC_TIME_WALL, (double)clock_wall_us() * 1e-6);
}

/* What the manager knows of a step, as far as the trainer's report has not said it. */
static void write_own(struct metrics *l, struct manager *m) {
    const struct manager_window *w = &m->window;
    double rho = (double)NAN, predicted = manager_predict(m, &rho);
    write_staleness(l, &m->facts);
    metrics_int(l, METRIC_OFF_POLICY_DROPPED, (int64_t)w->rejected[GROUPS_STALE]);
    metrics_num(l, METRIC_OFF_POLICY_LEVEL,
                (double)m->level.now.groups / (double)m->recipe->trainer.batch.groups);
    metrics_num(l, METRIC_OFF_POLICY_PREDICTED, predicted);
    metrics_num(l, METRIC_OFF_POLICY_RHO, rho);
    metrics_num(l, METRIC_RESPONSE_LENGTH_TAIL,
                m->tail_max / (double)m->tail_groups / (m->tail_len / (double)m->tail_trajs));
    metrics_int(l, METRIC_REWARD_ERRORS, (int64_t)w->rejected[GROUPS_REWARD]);
    metrics_int(l, METRIC_REWARD_ZERO_GROUPS, m->facts.zero_groups);
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

void manager_metrics_window(struct manager *m) {
    struct groups_counts n = groups_counts(m->groups);
    m->window = (struct manager_window){.start_us = m->now_us,
                                        .lost_trajectories = n.lost_trajectories,
                                        .lost_tokens = n.lost_tokens};
}

static int write_line(int fd, const char *text, size_t n, const char *path) {
    struct buf b = {0};
    buf_add(&b, text, n);
    buf_str(&b, "\n");
    int rc = file_write_all(fd, b.data, b.len, path);
    buf_close(&b);
    return rc;
}

int manager_metrics_append(struct manager *m, const char *line, size_t bytes) {
    const char *path = m->metrics_path;
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0) return FAIL(ERR_IO, "cannot open %s: %s", path, strerror(errno));
    int rc = write_line(fd, line, bytes, path);
    if (close(fd) != 0 && rc == 0) rc = FAIL(ERR_IO, "cannot close %s: %s", path, strerror(errno));
    return rc;
}

struct cursor { /* over step reports or evaluations */
    struct runlog_scan *scan;
    const struct runlog_record *at; /* NULL: past the end */
};

static int advance(struct cursor *c) {
    c->at = NULL;
    return runlog_scan_next(c->scan, &c->at);
}

/* A step's number is written anew: a log of an earlier format counts from 0 in the text. */
static int copy_line(int fd, const struct runlog_report *r, bool step, const char *path) {
    size_t n = strlen(STEP_KEY);
    if (!step || r->bytes < n || memcmp(r->json, STEP_KEY, n) != 0)
        return write_line(fd, r->json, r->bytes, path);
    struct buf line = {0};
    while (n < r->bytes && r->json[n] >= '0' && r->json[n] <= '9')
        n++;
    buf_printf(&line, STEP_KEY "%" PRId64, r->step + 1);
    buf_add(&line, r->json + n, r->bytes - n);
    int rc = write_line(fd, line.data, line.len, path);
    buf_close(&line);
    return rc;
}

/* The evaluation of version v stands before the line of step v + 1, which trains it. */
static int copy_lines(struct manager *m, int fd, const char *path) {
    struct cursor step = {0}, eval = {0};
    int rc = 0;
    TRY_OUT(runlog_scan_open(&step.scan, m->log, RUNLOG_REPORT, 0));
    TRY_OUT(runlog_scan_open(&eval.scan, m->log, RUNLOG_EVAL, 0));
    TRY_OUT(advance(&step));
    TRY_OUT(advance(&eval));
    while (step.at || eval.at) {
        bool first = !step.at || (eval.at && eval.at->u.report.step <= step.at->u.report.step);
        struct cursor *c = first ? &eval : &step;
        TRY_OUT(copy_line(fd, &c->at->u.report, !first, path));
        TRY_OUT(advance(c));
    }
    rc = 0;
out:
    runlog_scan_close(&step.scan);
    runlog_scan_close(&eval.scan);
    return rc;
}

/* Through a second file, so that a reader never sees half of it. */
int manager_metrics_rewrite(struct manager *m) {
    const char *path = m->metrics_path;
    char *tmp = mem_printf("%s.tmp", path);
    int rc = 0, fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        rc = FAIL(ERR_IO, "cannot open %s: %s", tmp, strerror(errno));
        goto out;
    }
    rc = copy_lines(m, fd, tmp);
    if (close(fd) != 0 && rc == 0) rc = FAIL(ERR_IO, "cannot close %s: %s", tmp, strerror(errno));
    TRY_OUT(rc);
    if (rename(tmp, path) != 0)
        rc = FAIL(ERR_IO, "cannot rename %s to %s: %s", tmp, path, strerror(errno));
out:
    mem_free(tmp);
    return rc;
}
