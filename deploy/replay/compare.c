/* compare.c - see compare.h. metrics.jsonl is all that a live run, a finished one and a retraining
 * have in common, and it is enough: a line per step and one per evaluation, whose version takes the
 * place of the step. */
#include "deploy/replay/compare.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "proto/metrics/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COMPARE_STEPS_MAX = 1000000, COMPARE_KEYS_MAX = 256, COMPARE_WIDTH = 11 };

/* What a run is for, then how it went. */
static const enum metric usual[] = {METRIC_REWARD_MEAN,     METRIC_EVAL_ACCURACY, METRIC_ACTOR_LOSS,
                                    METRIC_ACTOR_GRAD_NORM, METRIC_ACTOR_ENTROPY, METRIC_IS_ESS,
                                    METRIC_GAC_COSINE};

struct table {
    size_t n_values; /* of a step: metric by metric, run by run */
    double *value;   /* [steps, n_values]; NAN: not there */
    size_t cap;
    int64_t steps;
    bool seen[COMPARE_METRICS_MAX], number[COMPARE_METRICS_MAX]; /* the key; a number of it */
    char *key[COMPARE_KEYS_MAX]; /* of the first run's lines, for a mistyped one */
    size_t n_keys;
};

int compare_add(struct compare *c, const char *run) {
    size_t n = strlen(run);
    while (n > 1 && run[n - 1] == '/')
        n--;
    for (size_t i = 0; i < c->n_runs; i++)
        if (strncmp(c->run[i], run, n) == 0 && strspn(c->run[i] + n, "/") == strlen(c->run[i] + n))
            return 0;
    if (c->n_runs == COMPARE_RUNS_MAX)
        return FAIL(ERR_CONFIG, "%s: at most %d runs can be compared", run, COMPARE_RUNS_MAX);
    c->run[c->n_runs++] = run;
    return 0;
}

static void note_keys(struct table *t, const struct json *line) {
    for (const struct json *at = json_first(line); at; at = json_next(at)) {
        size_t n;
        const char *key = json_key(at, &n);
        bool known = !json_is(at, JSON_NUMBER) && !json_is(at, JSON_BOOL);
        for (size_t i = 0; i < t->n_keys; i++)
            known |= strcmp(t->key[i], key) == 0;
        if (!known && t->n_keys < COMPARE_KEYS_MAX) t->key[t->n_keys++] = mem_strdup(key);
    }
}

/* Room for the step; what nobody writes stays absent. */
static double *row_of(struct table *t, int64_t step) {
    if (step >= t->steps) {
        size_t from = (size_t)t->steps * t->n_values, to = (size_t)(step + 1) * t->n_values;
        mem_grow(&t->value, &t->cap, to, sizeof *t->value);
        for (size_t i = from; i < to; i++)
            t->value[i] = (double)NAN;
        t->steps = step + 1;
    }
    return t->value + (size_t)step * t->n_values;
}

static int take_line(const struct compare *c, struct table *t, size_t run, const struct json *line,
                     const char *name) {
    int64_t step;
    if (!json_int(metrics_get(line, METRIC_STEP), &step) &&
        !json_int(metrics_get(line, METRIC_EVAL_VERSION), &step))
        return FAIL(ERR_CORRUPT, "%s: neither \"step\" nor \"eval/version\" is there", name);
    if (step < 0 || step > COMPARE_STEPS_MAX)
        return FAIL(ERR_CORRUPT, "%s: step %" PRId64 ", allowed are 0 to %d", name, step,
                    COMPARE_STEPS_MAX);
    double *row = row_of(t, step);
    for (size_t m = 0; m < c->n_metrics; m++) {
        const struct json *v = json_get(line, c->metric[m]);
        if (!v) continue;
        t->seen[m] = true;
        t->number[m] |= json_is(v, JSON_NUMBER);
        if (json_is(v, JSON_BOOL)) row[m * c->n_runs + run] = json_bool(v, false);
        if (json_is(v, JSON_NUMBER)) row[m * c->n_runs + run] = json_num(v, 0);
    }
    if (run == 0) note_keys(t, line);
    return 0;
}

/* A last line without its end is still being written. */
static int read_run(const struct compare *c, struct table *t, size_t run) {
    char *path = file_join(c->run[run], "metrics.jsonl");
    struct file_map m = {0};
    int64_t number = 0;
    int rc;
    TRY_OUT(file_map_open(&m, path));
    for (size_t at = 0; at < m.bytes;) {
        const char *line = (const char *)m.data + at, *end = memchr(line, '\n', m.bytes - at);
        struct json_doc *doc = NULL;
        if (!end) break;
        char *name = mem_printf("%s line %" PRId64, path, ++number);
        rc = json_parse(&doc, line, (size_t)(end - line), name);
        if (rc == 0) rc = take_line(c, t, run, json_root(doc), name);
        json_close(&doc);
        mem_free(name);
        if (rc < 0) goto out;
        at += (size_t)(end - line) + 1;
    }
out:
    file_map_close(&m);
    mem_free(path);
    return rc;
}

static int check_metrics(const struct compare *c, const struct table *t) {
    for (size_t m = 0; m < c->n_metrics; m++)
        if (!t->seen[m] && t->n_keys > 0)
            return FAIL(ERR_NOTFOUND, "no run has the metric %s; the nearest one is %s",
                        c->metric[m],
                        nearest_word(c->metric[m], (const char *const *)t->key, t->n_keys));
    return 0;
}

/* --- printing ------------------------------------------------------------------------------ */

static bool shown(const struct compare *c, const struct table *t, int64_t step) {
    bool any = false;
    for (size_t i = 0; i < t->n_values; i++)
        any |= !isnan(t->value[(size_t)step * t->n_values + i]);
    return any && (c->every <= 1 || step % c->every == 0 || step == t->steps - 1);
}

/* The runs, then for each step an array of their values by metric. */
static void print_json(const struct compare *c, const struct table *t) {
    struct buf b = {0};
    struct json_write w = json_write_to(&b, JSON_LINE);
    json_write_object(&w, NULL);
    json_write_array(&w, "runs");
    for (size_t i = 0; i < c->n_runs; i++)
        json_write_str(&w, NULL, c->run[i]);
    json_write_end(&w);
    json_write_end(&w);
    json_write_newline(&w);
    printf("%s", b.data);
    for (int64_t step = 0; step < t->steps; step++) {
        if (!shown(c, t, step)) continue;
        const double *row = t->value + (size_t)step * t->n_values;
        buf_reset(&b);
        json_write_object(&w, NULL);
        json_write_int(&w, "step", step);
        for (size_t m = 0; m < c->n_metrics; m++) {
            json_write_array(&w, c->metric[m]);
            for (size_t i = 0; i < c->n_runs; i++)
                json_write_num(&w, NULL, row[m * c->n_runs + i]);
            json_write_end(&w);
        }
        json_write_end(&w);
        json_write_newline(&w);
        printf("%s", b.data);
    }
    buf_close(&b);
}

static void print_row(const struct compare *c, const double *row) {
    for (size_t m = 0; m < c->n_metrics; m++) {
        printf(" ");
        for (size_t i = 0; i < c->n_runs; i++) {
            double x = row[m * c->n_runs + i];
            if (isnan(x))
                printf(" %*s", COMPARE_WIDTH, "-");
            else
                printf(" %*.5g", COMPARE_WIDTH, x);
        }
    }
    printf("\n");
}

static void print_means(const struct compare *c, const struct table *t) {
    double *mean = mem_array(t->n_values, sizeof *mean);
    for (size_t i = 0; i < t->n_values; i++) {
        double sum = 0, n = 0;
        for (int64_t step = 0; step < t->steps; step++) {
            double x = t->value[(size_t)step * t->n_values + i];
            if (isnan(x)) continue;
            sum += x;
            n++;
        }
        mean[i] = n > 0 ? sum / n : (double)NAN;
    }
    printf("%7s", "mean");
    print_row(c, mean);
    mem_free(mean);
}

static void print_table(const struct compare *c, const struct table *t) {
    int wide = (COMPARE_WIDTH + 1) * (int)c->n_runs;
    for (size_t i = 0; i < c->n_runs; i++)
        printf("%c  %s\n", 'A' + (int)i, c->run[i]);
    printf("\n%7s", "");
    for (size_t m = 0; m < c->n_metrics; m++)
        printf(" %*s", wide, c->metric[m]);
    printf("\n%7s", "step");
    for (size_t m = 0; m < c->n_metrics; m++) {
        printf(" ");
        for (size_t i = 0; i < c->n_runs; i++)
            printf(" %*c", COMPARE_WIDTH, 'A' + (int)i);
    }
    printf("\n");
    for (int64_t step = 0; step < t->steps; step++) {
        if (!shown(c, t, step)) continue;
        printf("%7" PRId64, step);
        print_row(c, t->value + (size_t)step * t->n_values);
    }
    print_means(c, t);
}

static void table_free(struct table *t) {
    for (size_t i = 0; i < t->n_keys; i++)
        mem_free(t->key[i]);
    mem_free(t->value);
}

static int read_all(const struct compare *c, struct table *t) {
    *t = (struct table){.n_values = c->n_metrics * c->n_runs};
    for (size_t i = 0; i < c->n_runs; i++)
        TRY(read_run(c, t, i));
    return 0;
}

/* Of the usual ones those that some run has: not every run evaluates or controls alignment. */
static int choose_usual(struct compare *c) {
    struct table t = {0};
    size_t n = 0;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++)
        c->metric[c->n_metrics++] = metrics_name(usual[i]);
    int rc = read_all(c, &t);
    for (size_t i = 0; rc == 0 && i < sizeof usual / sizeof usual[0]; i++)
        if (t.number[i]) c->metric[n++] = metrics_name(usual[i]);
    if (n > 0) c->n_metrics = n;
    table_free(&t);
    return rc;
}

int compare_print(struct compare *c) {
    struct table t = {0};
    int rc = 0;
    if (c->n_metrics == 0) TRY(choose_usual(c));
    TRY_OUT(read_all(c, &t));
    TRY_OUT(check_metrics(c, &t));
    if (c->json)
        print_json(c, &t);
    else
        print_table(c, &t);
out:
    table_free(&t);
    return rc;
}
