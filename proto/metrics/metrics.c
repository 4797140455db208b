/* metrics.c - see metrics.h. A line of metrics is one JSON object whose keys are the names; what a
 * name stands for is in the table, so that a reader needs nothing but a name. */
#include "proto/metrics/metrics.h"

#include "base/err.h"

#include <math.h>
#include <string.h>

#define TRAINER METRICS_TRAINER
#define MANAGER METRICS_MANAGER
#define EVAL METRICS_EVAL
#define SFT METRICS_SFT
#define RETRAIN METRICS_RETRAIN
#define STATUS METRICS_STATUS

static const struct metrics_row rows[METRICS_N] = {
#define METRIC(id, name, kind, unit, who, when, meaning)                                           \
    [METRIC_##id] = {name, METRICS_##kind, unit, who, when, meaning},
#include "proto/metrics/metrics.def"
};

static const char *const aliases[METRICS_N] = {
#define ALIAS(id, name) [METRIC_##id] = name,
#include "proto/metrics/metrics.def"
};

const struct metrics_row *metrics_row(enum metric id) {
    ASSERT((unsigned)id < METRICS_N);
    return &rows[id];
}

const char *metrics_name(enum metric id) {
    return metrics_row(id)->name;
}

/* {k} is digits, another {...} is a word without '/'; the rest is the same text. */
static bool matches(const char *pattern, const char *name) {
    for (; *pattern && *pattern != '{'; pattern++, name++)
        if (*pattern != *name) return false;
    if (!*pattern) return !*name;
    size_t n = strncmp(pattern, "{k}", 3) == 0 ? strspn(name, "0123456789") : strcspn(name, "/");
    return n > 0 && matches(strchr(pattern, '}') + 1, name + n);
}

enum metric metrics_find(const char *name) {
    for (size_t i = 0; i < METRICS_N; i++)
        if (strcmp(rows[i].name, name) == 0) return (enum metric)i;
    for (size_t i = 0; i < METRICS_N; i++)
        if (matches(rows[i].name, name)) return (enum metric)i;
    return METRICS_N;
}

/* --- writing -------------------------------------------------------------------------------- */

/* The name with its {...} filled in. */
static void fill(struct buf *out, const struct metrics *m, const char *name) {
    for (const char *open; (open = strchr(name, '{')) != NULL; name = strchr(open, '}') + 1) {
        buf_add(out, name, (size_t)(open - name));
        if (strncmp(open, "{k}", 3) == 0) {
            buf_printf(out, "%lld", (long long)m->k);
        } else {
            ASSERT(m->label && *m->label);
            buf_str(out, m->label);
        }
    }
    buf_str(out, name);
}

struct value { /* of one of the kinds */
    enum metrics_kind kind;
    bool whole, flag;
    int64_t integer;
    double number;
    const char *text;
    const int64_t *cell;
    size_t n;
};

static void write_value(struct metrics *m, const char *key, const struct value *v) {
    if (json_get(m->but, key)) return;
    switch (v->kind) {
    case METRICS_COUNT:
    case METRICS_GAUGE:
        if (v->whole)
            json_write_int(m->json, key, v->integer);
        else
            json_write_num(m->json, key, v->number);
        return;
    case METRICS_HISTOGRAM: json_write_ints(m->json, key, v->cell, v->n); return;
    case METRICS_TEXT: json_write_str(m->json, key, v->text); return;
    case METRICS_FLAG: json_write_bool(m->json, key, v->flag); return;
    }
}

static void write(struct metrics *m, enum metric id, const struct value *v) {
    const char *name = metrics_name(id), *leaf = strrchr(name, '/');
    ASSERT(rows[id].kind == v->kind || (v->whole && rows[id].kind == METRICS_COUNT));
    if (m->leaf && leaf) name = leaf + 1;
    if (strchr(name, '{')) {
        struct buf key = {0};
        fill(&key, m, name);
        write_value(m, key.data, v);
        buf_close(&key);
    } else {
        write_value(m, name, v);
    }
    if (m->aliases && aliases[id]) write_value(m, aliases[id], v);
}

void metrics_num(struct metrics *m, enum metric id, double x) {
    write(m, id, &(struct value){.kind = METRICS_GAUGE, .number = x});
}

void metrics_int(struct metrics *m, enum metric id, int64_t x) {
    write(m, id, &(struct value){.kind = METRICS_GAUGE, .whole = true, .integer = x});
}

void metrics_text(struct metrics *m, enum metric id, const char *x) {
    write(m, id, &(struct value){.kind = METRICS_TEXT, .text = x});
}

void metrics_flag(struct metrics *m, enum metric id, bool x) {
    write(m, id, &(struct value){.kind = METRICS_FLAG, .flag = x});
}

void metrics_cells(struct metrics *m, enum metric id, const int64_t *x, size_t n) {
    while (n > 1 && x[n - 1] == 0)
        n--;
    write(m, id, &(struct value){.kind = METRICS_HISTOGRAM, .cell = x, .n = n});
}

/* --- reading -------------------------------------------------------------------------------- */

const struct json *metrics_get(const struct json *line, enum metric id) {
    return json_get(line, metrics_name(id));
}

double metrics_get_num(const struct json *line, enum metric id, double otherwise) {
    return json_num(metrics_get(line, id), otherwise);
}

/* --- the page ------------------------------------------------------------------------------- */

static const char *const kinds[] = {"count", "gauge", "histogram", "text", "flag"};
static const char *const whos[] = {"trainer", "manager", "evaluator", "sft", "retrain", "status"};
enum { WHOS = sizeof whos / sizeof whos[0] };

static void add_topic(struct buf *out, const char *title, const char *text) {
    buf_printf(out,
               "\n## %s\n\n%s\n\n"
               "| name | kind | unit | from | meaning |\n|---|---|---|---|---|\n",
               title, text);
}

/* A | would end the cell. */
static void add_cell(struct buf *out, const char *text) {
    for (; *text; text++) {
        if (*text == '|') buf_str(out, "\\");
        buf_add(out, text, 1);
    }
}

static void add_row(struct buf *out, enum metric id) {
    const struct metrics_row *r = metrics_row(id);
    const char *comma = "";
    buf_printf(out, "| `%s` | %s | %s | ", r->name, kinds[r->kind], r->unit);
    for (size_t i = 0; i < WHOS; i++)
        if (r->who >> i & 1) {
            buf_printf(out, "%s%s", comma, whos[i]);
            comma = ", ";
        }
    buf_str(out, " | ");
    add_cell(out, r->meaning);
    if (*r->when) buf_printf(out, ". Only %s", r->when);
    if (aliases[id]) buf_printf(out, ". `weir step` prints it as `%s` too", aliases[id]);
    buf_str(out, " |\n");
}

void metrics_document(struct buf *out) {
    buf_str(
        out,
        "# Metrics\n\n"
        "Every number that a run reports, with the names that people chart. `RUN/metrics.jsonl` "
        "has one JSON object per training\nstep and one per evaluation; `weir step` and `weir sft "
        "--json` print a step's, `weir run --json` the whole file as it\ngrows. `weir metrics "
        "NAME` says what one means, `weir metrics --document` prints this page, which comes from "
        "the table\nthat the program writes by (`proto/metrics/metrics.def`).\n\n"
        "**kind.** A count is of what happened in that step or evaluation and adds up over steps; "
        "a gauge is a value or a mean;\na histogram is a list of counts by whole number, from 0. "
        "A number that does not exist is `null` (the cosine of the\nfirst step).\n\n"
        "**unit.** A share is from 0 to 1. Log-probs, entropies and divergences are in nats "
        "(natural logarithm).\n\n"
        "**from.** trainer: a step's line of a run, of `weir replay RUN retrain`, of `weir step` "
        "and `weir sft --json`. manager: a\nstep's line of a run. evaluator: an evaluation's line. "
        "sft: the metrics.jsonl of `weir sft`. retrain: that of `weir\nreplay RUN retrain` "
        "besides the trainer's. status: what the manager answers to STATUS_REQUEST, where a "
        "number's key may\nbe the last word of its name inside an object (`queue.running` for "
        "`queue/running`).\n\n"
        "In a name `{set}` is an evaluation set of the recipe, `{k}` a number, `{client}` a "
        "service, `{reason}` why a group was\nrejected.\n");
#define TOPIC(title, text) add_topic(out, title, text);
#define METRIC(id, name, kind, unit, who, when, meaning) add_row(out, METRIC_##id);
#include "proto/metrics/metrics.def"
}

void metrics_list(struct buf *out) {
    struct json_write w = json_write_to(out, JSON_LINE);
    for (size_t id = 0; id < METRICS_N; id++) {
        const struct metrics_row *r = &rows[id];
        json_write_object(&w, NULL);
        json_write_str(&w, "name", r->name);
        json_write_str(&w, "kind", kinds[r->kind]);
        json_write_str(&w, "unit", r->unit);
        json_write_array(&w, "from");
        for (size_t i = 0; i < WHOS; i++)
            if (r->who >> i & 1) json_write_str(&w, NULL, whos[i]);
        json_write_end(&w);
        json_write_str(&w, "when", r->when);
        json_write_str(&w, "meaning", r->meaning);
        json_write_end(&w);
        json_write_newline(&w);
    }
}
