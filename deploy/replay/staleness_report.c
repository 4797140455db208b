/* staleness_report.c - see staleness_report.h. The numbers are those of metrics.jsonl: the manager
 * wrote them with the end of each step, measured from the batch that was trained, and predicted
 * from what it knew then. Here they are only averaged, so that what was said while the run went is
 * what is judged. */
#include "deploy/replay/staleness_report.h"

#include "base/buf.h"
#include "base/json.h"
#include "proto/metrics/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { CELLS = 65 }; /* of the histogram */

struct sums {
    int64_t first, last, n, n_predicted; /* steps */
    double mean, max, flight, queue;
    double predicted, rho, measured; /* of steps that have a prediction */
    double dropped;
};

struct table {
    struct sums all, row;
    int64_t steps, warm, every, histogram[CELLS];
    bool json;
    struct buf rows;             /* lines of text, or elements of an array of JSON */
    struct json_write json_rows; /* into them */
};

static double get(const struct json *line, enum metric id) {
    return metrics_get_num(line, id, (double)NAN);
}

static void add(struct sums *s, int64_t step, const struct json *o) {
    double predicted = get(o, METRIC_OFF_POLICY_PREDICTED), mean = get(o, METRIC_OFF_POLICY_MEAN);
    if (s->n++ == 0) s->first = step;
    s->last = step;
    s->mean += mean;
    s->max = fmax(s->max, get(o, METRIC_OFF_POLICY_MAX));
    s->flight += get(o, METRIC_OFF_POLICY_IN_FLIGHT);
    s->queue += get(o, METRIC_OFF_POLICY_IN_QUEUE);
    s->dropped += fmax(0, get(o, METRIC_OFF_POLICY_DROPPED));
    if (isnan(predicted)) return;
    s->n_predicted++;
    s->measured += mean;
    s->predicted += predicted;
    s->rho += get(o, METRIC_OFF_POLICY_RHO);
}

static void row(struct table *t) {
    const struct sums *s = &t->row;
    double n = (double)s->n, k = (double)s->n_predicted;
    if (s->n == 0) return;
    if (t->json) {
        struct metrics m = {.json = &t->json_rows, .leaf = true};
        json_write_object(m.json, NULL);
        metrics_int(&m, METRIC_STEP, s->first + 1);
        json_write_int(m.json, "steps", s->n);
        metrics_num(&m, METRIC_OFF_POLICY_MEAN, s->mean / n);
        metrics_num(&m, METRIC_OFF_POLICY_PREDICTED, s->predicted / k);
        json_write_end(m.json);
    } else {
        buf_printf(&t->rows, "  %5" PRId64 "-%-5" PRId64 " %8.2f %6.0f %9.2f %9.2f", s->first + 1,
                   s->last + 1, s->mean / n, s->max, s->flight / n, s->queue / n);
        if (s->n_predicted)
            buf_printf(&t->rows, " %10.2f %+10.2f", s->predicted / k,
                       (s->predicted - s->measured) / k);
        buf_str(&t->rows, "\n");
    }
    t->row = (struct sums){.n = 0};
}

static void take(struct table *t, int64_t step, const struct json *o) {
    int64_t cell = 0, count = 0;
    const struct json *h = metrics_get(o, METRIC_OFF_POLICY_HISTOGRAM);
    t->steps++;
    for (const struct json *at = json_first(h); at && cell < CELLS; at = json_next(at))
        t->histogram[cell++] += json_int(at, &count) ? count : 0;
    if (step >= t->warm) add(&t->all, step, o);
    if (t->every == 0) return;
    add(&t->row, step, o);
    if ((step + 1) % t->every == 0) row(t);
}

static int read(struct table *t, struct runlog *log) {
    struct runlog_scan *scan;
    const struct runlog_record *record;
    int rc;
    TRY(runlog_scan_open(&scan, log, RUNLOG_REPORT, 0));
    while ((rc = runlog_scan_next(scan, &record)) == 1) {
        const struct runlog_report *r = &record->u.report;
        struct json_doc *doc;
        rc = json_parse(&doc, r->json, r->bytes, "step report");
        if (rc < 0) break;
        take(t, r->step, json_root(doc));
        json_close(&doc);
    }
    runlog_scan_close(&scan);
    return rc;
}

static void print_histogram(const struct table *t) {
    printf("  histogram  ");
    for (int i = 0; i < CELLS; i++)
        if (t->histogram[i]) printf(" %d: %" PRId64, i, t->histogram[i]);
    printf(" trajectories\n");
}

static void write_json(struct json_write *w, struct table *t, int64_t eta) {
    const struct sums *s = &t->all;
    struct metrics m = {.json = w, .leaf = true};
    double n = (double)s->n, k = (double)s->n_predicted;
    json_write_object(w, "staleness");
    json_write_int(w, "from_step", s->first + 1);
    json_write_int(w, "steps", s->n);
    json_write_int(w, "bound", eta);
    metrics_num(&m, METRIC_OFF_POLICY_MEAN, s->mean / n);
    metrics_num(&m, METRIC_OFF_POLICY_MAX, s->max);
    metrics_num(&m, METRIC_OFF_POLICY_IN_FLIGHT, s->flight / n);
    metrics_num(&m, METRIC_OFF_POLICY_IN_QUEUE, s->queue / n);
    metrics_num(&m, METRIC_OFF_POLICY_PREDICTED, s->predicted / k);
    json_write_num(w, "difference", (s->predicted - s->measured) / k);
    metrics_num(&m, METRIC_OFF_POLICY_RHO, s->rho / k);
    metrics_int(&m, METRIC_OFF_POLICY_DROPPED, (int64_t)s->dropped);
    metrics_cells(&m, METRIC_OFF_POLICY_HISTOGRAM, t->histogram, CELLS);
    if (t->every) {
        json_write_end(&t->json_rows);
        json_write_raw(w, "rows", t->rows.data, t->rows.len);
    }
    json_write_end(w);
}

static void print_text(const struct table *t, int64_t eta) {
    const struct sums *s = &t->all;
    double n = (double)s->n, k = (double)s->n_predicted;
    printf("staleness     steps %" PRId64 "-%" PRId64 ": mean %.2f, max %.0f of %" PRId64
           " (in flight %.2f, in queue %.2f), %.0f groups dropped\n",
           s->first + 1, s->last + 1, s->mean / n, s->max, eta, s->flight / n, s->queue / n,
           s->dropped);
    if (s->n_predicted)
        printf("  predicted   mean %.2f (rho %.2f), difference %+.2f\n", s->predicted / k,
               s->rho / k, (s->predicted - s->measured) / k);
    print_histogram(t);
    if (t->every)
        printf("  %-11s %8s %6s %9s %9s %10s %10s\n%s", "steps", "measured", "max", "in flight",
               "in queue", "predicted", "difference", t->rows.len ? t->rows.data : "");
}

/* The sums over the log's steps but the first `warm`. */
static int sum_up(struct table *t, struct runlog *log, int64_t warm, int64_t every, bool json) {
    buf_close(&t->rows);
    *t = (struct table){.warm = warm, .every = every, .json = json};
    t->json_rows = json_write_to(&t->rows, JSON_LINE);
    if (json) json_write_array(&t->json_rows, NULL);
    TRY(read(t, log));
    row(t);
    return 0;
}

static int collect(struct table *t, struct runlog *log, int64_t eta, int64_t every, bool json) {
    TRY(sum_up(t, log, eta + 1, every, json));
    if (t->steps == 0 || t->all.n > 0) return 0;
    return sum_up(t, log, 0, every, json); /* a short run: all of it */
}

int staleness_report_print(struct runlog *log, int64_t eta, int64_t every) {
    struct table t = {0};
    int rc = collect(&t, log, eta, every, false);
    if (rc == 0 && t.all.n > 0) print_text(&t, eta);
    buf_close(&t.rows);
    return rc;
}

int staleness_report_json(struct runlog *log, int64_t eta, int64_t every, struct json_write *w) {
    struct table t = {0};
    int rc = collect(&t, log, eta, every, true);
    if (rc == 0 && t.all.n > 0) write_json(w, &t, eta);
    buf_close(&t.rows);
    return rc;
}
