/* manager_metrics.c - RUN/metrics.jsonl: one line per step, the trainer's report with what only the
 * manager knows, and one per evaluation. The log is the truth: a line is stored there together with
 * the end of its step, and the file is written anew from it at the start. So no line is ever lost
 * or doubled, whatever died between the log and the file. */
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "rollout/manager_impl.h"
#include "rollout/manager_level.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Writes a parsed value on one line. Depth is bounded by the parser. */
static void write_value(struct buf *b, const struct json *v) {
    bool object = json_is(v, JSON_OBJECT);
    int64_t whole = 0;
    size_t n = 0;
    switch (json_type(v)) {
    case JSON_NULL: buf_str(b, "null"); return;
    case JSON_BOOL: buf_str(b, json_bool(v, false) ? "true" : "false"); return;
    case JSON_STRING: buf_json_str(b, json_str(v), json_len(v)); return;
    case JSON_NUMBER:
        if (json_int(v, &whole))
            buf_printf(b, "%" PRId64, whole);
        else
            buf_json_num(b, json_num(v, 0));
        return;
    case JSON_ARRAY:
    case JSON_OBJECT: break;
    }
    buf_str(b, object ? "{" : "[");
    for (const struct json *at = json_first(v); at; at = json_next(at)) {
        if (at != json_first(v)) buf_str(b, ",");
        if (object) {
            const char *key = json_key(at, &n);
            buf_json_str(b, key, n);
            buf_str(b, ":");
        }
        write_value(b, at);
    }
    buf_str(b, object ? "}" : "]");
}

#define STEP_KEY "{\"step\":" /* begins the line of a step */

struct line { /* an object being written; keys of the trainer's report win */
    struct buf *out;
    const struct json *report;
};

static bool begin(struct line *l, const char *key) {
    if (json_get(l->report, key)) return false;
    buf_printf(l->out, ",\"%s\":", key);
    return true;
}

static void num(struct line *l, const char *key, double x) {
    if (begin(l, key)) buf_json_num(l->out, x);
}

static void whole(struct line *l, const char *key, int64_t x) {
    if (begin(l, key)) buf_printf(l->out, "%" PRId64, x);
}

static void staleness(struct line *l, const struct manager_batch_facts *f) {
    double n = f->n > 0 ? (double)f->n : 1;
    num(l, "off_policy/mean", f->staleness / n);
    whole(l, "off_policy/max", f->staleness_max);
    num(l, "off_policy/in_flight", f->in_flight / n);
    num(l, "off_policy/in_queue", (f->staleness - f->in_flight) / n);
    if (!begin(l, "off_policy/histogram")) return;
    int64_t last = 0, cells = (int64_t)(sizeof f->histogram / sizeof f->histogram[0]);
    for (int64_t i = 0; i < cells; i++)
        if (f->histogram[i] > 0) last = i;
    for (int64_t i = 0; i <= last; i++)
        buf_printf(l->out, "%s%" PRId64, i ? "," : "[", f->histogram[i]);
    buf_str(l->out, "]");
}

/* What was generated since the step before, and what of it nobody will train. */
static void sampling(struct line *l, const struct manager *m) {
    const struct manager_window *w = &m->window;
    struct groups_counts n = groups_counts(m->groups);
    int64_t zero = (int64_t)w->rejected[GROUPS_ZERO];
    whole(l, "sampling/groups", w->groups);
    whole(l, "sampling/zero_groups", w->zero);
    whole(l, "sampling/rejected_groups", zero);
    num(l, "sampling/accept_rate",
        w->groups > 0 ? (double)(w->groups - zero) / (double)w->groups : NAN);
    whole(l, "sampling/lost_trajectories", n.lost_trajectories - w->lost_trajectories);
    whole(l, "sampling/lost_tokens", n.lost_tokens - w->lost_tokens);
    if (m->recipe->rollout.sampling.policy != RECIPE_SAMPLING_VADE) return;
    double judged = w->judged > 0 ? w->judged : NAN;
    num(l, "sampling/expected_rate", w->expected / judged);
    num(l, "sampling/right_rate", w->right / judged);
    whole(l, "sampling/rows_visited", (int64_t)sampling_visited(m->sampling));
}

static double seconds(uint64_t from, uint64_t to) {
    return to > from ? (double)(to - from) * 1e-6 : 0;
}

void manager_metrics_line(struct manager *m, int64_t step, const char *report, size_t bytes,
                          struct buf *out) {
    const struct manager_batch_facts *f = &m->facts;
    const struct manager_window *w = &m->window;
    struct groups_counts n = groups_counts(m->groups);
    struct json_doc *doc = NULL;
    double rho = NAN, predicted = manager_predict(m, &rho);
    if (json_parse(&doc, report, bytes, "step report") < 0)
        LOG_LIMITED(WARN, MANAGER, "step=%" PRId64 " report left out: %s", step + 1, err_text());
    struct line l = {out, doc && json_is(json_root(doc), JSON_OBJECT) ? json_root(doc) : NULL};
    size_t n_key = 0;
    buf_printf(out, STEP_KEY "%" PRId64, step + 1); /* step n makes version n */
    for (const struct json *at = json_first(l.report); at; at = json_next(at)) {
        const char *key = json_key(at, &n_key);
        if (strcmp(key, "step") == 0) continue;
        buf_str(out, ",");
        buf_json_str(out, key, n_key);
        buf_str(out, ":");
        write_value(out, at);
    }
    staleness(&l, f);
    whole(&l, "off_policy/dropped", (int64_t)w->rejected[GROUPS_STALE]);
    num(&l, "off_policy/level",
        (double)m->level.now.groups / (double)m->recipe->trainer.batch.groups);
    num(&l, "off_policy/level_target",
        (double)level_target(&m->level.now) / (double)m->recipe->trainer.batch.groups);
    num(&l, "off_policy/predicted", predicted);
    num(&l, "off_policy/rho", rho);
    num(&l, "response_length/tail",
        m->tail_max / (double)m->tail_groups / (m->tail_len / (double)m->tail_trajs));
    whole(&l, "reward/errors", (int64_t)w->rejected[GROUPS_REWARD]);
    whole(&l, "reward/zero_groups", f->zero_groups);
    sampling(&l, m);
    whole(&l, "rejected/prompt", (int64_t)w->rejected[GROUPS_PROMPT]);
    whole(&l, "rejected/aborted", (int64_t)w->rejected[GROUPS_ABORTED]);
    num(&l, "perf/rollout_tokens_per_s",
        (double)w->tokens / fmax(seconds(w->start_us, m->now_us), 1e-6));
    whole(&l, "queue/running", n.leased);
    whole(&l, "queue/waiting", n.waiting);
    whole(&l, "queue/unscored", n.unscored);
    whole(&l, "queue/finished_groups", n.finished);
    num(&l, "idle/rollout", m->level.held);
    num(&l, "time/batch_wait_s", seconds(f->asked_us, f->answered_us));
    num(&l, "time/train_s", seconds(f->answered_us, m->now_us));
    num(&l, "time/step_s", seconds(w->start_us, m->now_us));
    num(&l, "time/wall", (double)clock_wall_us() * 1e-6);
    buf_str(out, "}");
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
