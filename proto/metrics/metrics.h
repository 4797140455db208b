/* metrics.h - every number that Weir reports, by its row of metrics.def. A number is written and
 * read by its row, never by its name, so a name is spelled once, and what the page docs/metrics.md
 * lists is what is there.
 *
 *     struct json_write w = json_write_to(&line, JSON_COMPACT);
 *     struct metrics m = {.json = &w};
 *     json_write_object(&w, NULL);
 *     metrics_num(&m, METRIC_REWARD_MEAN, r->reward_mean);
 *     json_write_end(&w);
 */
#ifndef PROTO_METRICS_METRICS_H
#define PROTO_METRICS_METRICS_H

#include "base/json.h"
#include "base/json_write.h"

enum metric {
#define METRIC(id, name, kind, unit, who, when, meaning) METRIC_##id,
#include "proto/metrics/metrics.def"
    METRICS_N
};

enum metrics_kind {
    METRICS_COUNT,     /* of what happened in a step or evaluation: adds up over steps */
    METRICS_GAUGE,     /* a value or a mean */
    METRICS_HISTOGRAM, /* counts by whole number, from 0 */
    METRICS_TEXT,
    METRICS_FLAG
};

enum metrics_who { /* writes it; or-ed */
                   METRICS_TRAINER = 1,
                   METRICS_MANAGER = 2,
                   METRICS_EVAL = 4,
                   METRICS_SFT = 8,
                   METRICS_RETRAIN = 16,
                   METRICS_STATUS = 32
};

struct metrics_row {
    const char *name; /* with {set}, {k}, {client}, {reason} for what differs */
    enum metrics_kind kind;
    const char *unit; /* "": the meaning says it */
    unsigned who;
    const char *when; /* what must be so for it to be there; "": it always is */
    const char *meaning;
};

const struct metrics_row *metrics_row(enum metric id);
const char *metrics_name(enum metric id);
/* The row that a name is of, also one with {...}; METRICS_N: none. */
enum metric metrics_find(const char *name);

struct metrics {             /* where rows are written: into an object that is open */
    struct json_write *json; /* borrowed */
    /* Members of this object are not written again (what a peer reported wins); NULL: none. */
    const struct json *but;
    const char *label; /* for {set}, {client} or {reason} */
    int64_t k;         /* for {k} */
    bool leaf;         /* keys are the last words of names: "max" for off_policy/max */
    bool aliases;      /* the second names too */
};

/* Each asserts that the row is of this kind, and that a label is there where the name needs it. */
void metrics_num(struct metrics *m, enum metric id, double x);  /* GAUGE; not finite: null */
void metrics_int(struct metrics *m, enum metric id, int64_t x); /* COUNT or GAUGE */
void metrics_text(struct metrics *m, enum metric id, const char *x);
void metrics_flag(struct metrics *m, enum metric id, bool x);
/* HISTOGRAM: up to the last cell that is not 0, but at least the first. */
void metrics_cells(struct metrics *m, enum metric id, const int64_t *x, size_t n);

/* Of a line that was written so. NULL, or otherwise: it is not there. */
const struct json *metrics_get(const struct json *line, enum metric id);
double metrics_get_num(const struct json *line, enum metric id, double otherwise);

/* The rows: docs/metrics.md, or a JSON object a line. */
void metrics_document(struct buf *out);
void metrics_list(struct buf *out);

#endif
