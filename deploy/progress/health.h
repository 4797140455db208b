/* health.h - does a run learn anything? A function of the series of its steps' metrics: what is
 * wrong with the newest of them, since when, and what to look at. It reads no file and prints
 * nothing; docs/health.md has the thresholds for users. */
#ifndef DEPLOY_PROGRESS_HEALTH_H
#define DEPLOY_PROGRESS_HEALTH_H

#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HEALTH_WINDOW = 8, /* steps that must agree; of a shorter run all, at least HEALTH_LEAST */
    HEALTH_LEAST = 3,
    HEALTH_FLAT_STEPS = 50 /* a reward that has not risen is told from here on */
};

/* In order of what explains most: the first of a run's findings is the one to act on. */
enum health_kind {
    HEALTH_NOT_FINITE,
    HEALTH_EQUAL,
    HEALTH_NO_GRADIENT,
    HEALTH_SKIPPED,
    HEALTH_REJECTED,
    HEALTH_FALLEN,
    HEALTH_TRUNCATED,
    HEALTH_ENTROPY,
    HEALTH_FLAT,
    HEALTH_KINDS
};

struct health_step { /* of a line of metrics.jsonl; NAN: not there */
    int64_t step;
    double reward, reward_std, sequences; /* mean and deviation over its trajectories */
    double entropy, grad_norm, truncated; /* truncated: share of the responses */
    double equal_groups, groups;          /* of equal rewards; that were trained */
    double rejected[5];                   /* groups, by health_step_read's reasons */
    bool finite, skipped;
};

struct health_config {
    int64_t steps, group_size;
    bool relative; /* advantages are against the group's own mean: equal rewards give no gradient */
};

struct health_finding {
    enum health_kind kind;
    bool warning;        /* false: a note. What is known besides says that it need not be wrong */
    int64_t since, step; /* first and newest step of which it is true */
    char text[160];      /* "all groups scored equal (reward 0) for 8 steps: no gradient" */
    const char *name;    /* "equal" */
    const char *mark;    /* for a line with little room: "no gradient" */
    const char *verdict; /* in place of a success: "nothing was learnt" */
    const char *advice;  /* what to look at, besides what the responses say */
};

struct health;

struct health *health_open(const struct health_config *cfg);
void health_close(struct health **h);
void health_step_read(struct health_step *out, const struct json *line);
/* Steps in their order; one that was taken before is ignored. */
void health_take(struct health *h, const struct health_step *s);
/* What is the matter now, most telling first. */
size_t health_find(const struct health *h, struct health_finding out[HEALTH_KINDS]);

#endif
