/* staleness_report.c - see staleness_report.h. The numbers are those of metrics.jsonl: the manager
 * wrote them with the end of each step, measured from the batch that was trained, and predicted
 * from what it knew then. Here they are only averaged, so that what was said while the run went is
 * what is judged. */
#include "deploy/replay/staleness_report.h"

#include "base/buf.h"
#include "base/json.h"

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
    struct buf rows;
};

static double get(const struct json *o, const char *key) {
    return json_num(json_get(o, key), NAN);
}

static void add(struct sums *s, int64_t step, const struct json *o) {
    double predicted = get(o, "off_policy/predicted"), mean = get(o, "off_policy/mean");
    if (s->n++ == 0) s->first = step;
    s->last = step;
    s->mean += mean;
    s->max = fmax(s->max, get(o, "off_policy/max"));
    s->flight += get(o, "off_policy/in_flight");
    s->queue += get(o, "off_policy/in_queue");
    s->dropped += fmax(0, get(o, "off_policy/dropped"));
    if (isnan(predicted)) return;
    s->n_predicted++;
    s->measured += mean;
    s->predicted += predicted;
    s->rho += get(o, "off_policy/rho");
}

static void row(struct table *t) {
    const struct sums *s = &t->row;
    double n = (double)s->n, k = (double)s->n_predicted;
    if (s->n == 0) return;
    if (t->json) {
        buf_printf(&t->rows, "%s{\"step\": %" PRId64 ", \"steps\": %" PRId64 ", \"mean\": ",
                   t->rows.len ? ", " : "", s->first + 1, s->n);
        buf_json_num(&t->rows, s->mean / n);
        buf_str(&t->rows, ", \"predicted\": ");
        buf_json_num(&t->rows, s->predicted / k);
        buf_str(&t->rows, "}");
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
    const struct json *h = json_get(o, "off_policy/histogram");
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

static void put(const char *key, double x) {
    struct buf b = {0};
    buf_json_num(&b, x);
    printf(", \"%s\": %s", key, b.data);
    buf_close(&b);
}

static void histogram(const struct table *t) {
    int last = 0;
    for (int i = 0; i < CELLS; i++)
        if (t->histogram[i]) last = i;
    printf(t->json ? ", \"histogram\": [" : "  histogram  ");
    for (int i = 0; i <= last; i++)
        if (t->json)
            printf("%s%" PRId64, i ? ", " : "", t->histogram[i]);
        else if (t->histogram[i])
            printf(" %d: %" PRId64, i, t->histogram[i]);
    printf(t->json ? "]" : " trajectories\n");
}

static void print_json(const struct table *t, int64_t eta) {
    const struct sums *s = &t->all;
    double n = (double)s->n, k = (double)s->n_predicted;
    printf(", \"staleness\": {\"from_step\": %" PRId64 ", \"steps\": %" PRId64
           ", \"bound\": %" PRId64,
           s->first + 1, s->n, eta);
    put("mean", s->mean / n);
    put("max", s->max);
    put("in_flight", s->flight / n);
    put("in_queue", s->queue / n);
    put("predicted", s->predicted / k);
    put("difference", (s->predicted - s->measured) / k);
    put("rho", s->rho / k);
    put("dropped", s->dropped);
    histogram(t);
    if (t->every) printf(", \"rows\": [%s]", t->rows.len ? t->rows.data : "");
    printf("}");
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
    histogram(t);
    if (t->every)
        printf("  %-11s %8s %6s %9s %9s %10s %10s\n%s", "steps", "measured", "max", "in flight",
               "in queue", "predicted", "difference", t->rows.len ? t->rows.data : "");
}

int staleness_report_print(struct runlog *log, int64_t eta, int64_t every, bool json) {
    struct table t = {.warm = eta + 1, .every = every, .json = json};
    int rc = read(&t, log);
    if (rc == 0 && t.steps > 0 && t.all.n == 0) { /* a short run: all of it */
        buf_close(&t.rows);
        t = (struct table){.every = every, .json = json};
        rc = read(&t, log);
    }
    if (every) row(&t);
    if (rc == 0 && t.all.n > 0 && json) print_json(&t, eta);
    if (rc == 0 && t.all.n > 0 && !json) print_text(&t, eta);
    buf_close(&t.rows);
    return rc;
}
