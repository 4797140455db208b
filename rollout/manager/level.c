/* level.c - see level.h. One decision after two batches or more, when what was seen is clear.
 *
 * Up: the trainer waited for a share w of its time, and rollouts had a share h of their places
 * empty because admission kept them so. In use, those places would have given about B / (1 - h)
 * groups a step, and the part of them that fits into the wait, w B / (1 - h), is what was missing.
 * But a place that stands empty need not mean speed that is lost (a device computes a few sequences
 * about as fast as many), so a raise is a trial: it stays if the wait that it saved is worth the
 * staleness that it added, `price` per batch. Otherwise the level goes back, and later the same is
 * tried downwards: it falls a little if that costs less than the price. So where rollouts are the
 * slower side, and the trainer waits at any level, the level stays where more stops to help.
 *
 * Down: `spare` finished groups were left by each of the batches. A group that lies there for a
 * step might as well have started a step later, so the level can fall by the least of them without
 * a wait. It falls by half of what is above a small reserve.
 *
 * The pool shows a new level only after the step that was under way, so the first batch after a
 * move is not looked at; otherwise each move would be made twice. A wait for one long response
 * whose last possible step has come, while enough others are finished, says nothing about the
 * level, and the manager does not count it. */
#include "rollout/manager/level.h"

#include <math.h>
#include <string.h>

enum { LOOK_MIN = 2, LOOK = 3, LOOK_DOWN = 6, LOOK_MAX = 12, PATIENCE = 4 };

static const double wait_min = 0.005; /* shares of time below it are noise */
static const double held_min = 0.02;
static const double price = 0.02; /* of a batch of staleness: a share of the trainer's time */

static double mean(const struct level_seen *s) {
    return s->share / s->n;
}

/* Of the mean, squared. */
static double error2(const struct level_seen *s) {
    double m = mean(s), var = (s->square - s->n * m * m) / (s->n - 1);
    return fmax(var, 1e-6) / s->n;
}

static void look_again(struct level *l, int32_t n) {
    memset(&l->seen, 0, sizeof l->seen);
    l->seen.n = n;
    l->seen.spare = INT64_MAX;
}

struct level level_start(int64_t batch, int64_t bound) {
    struct level l = {.batch = batch, .bound = bound, .groups = batch < bound ? batch : bound};
    look_again(&l, -1);
    return l;
}

/* The next batch began under the level before; it is not counted. */
static void move(struct level *l, int64_t to, enum level_why why) {
    l->why = why;
    look_again(l, to == l->groups ? 0 : -1);
    l->groups = to;
}

static int64_t missing(const struct level *l, double share, double held) {
    double groups = share * (double)l->batch / fmax(0.1, 1 - held);
    return (int64_t)ceil(fmin(groups, (double)l->batch));
}

/* 1 and 0: the trial was good or not, -1: not clear yet. */
static int judge(const struct level *l) {
    double batches = (double)(l->groups - l->before) / (double)l->batch;
    double gain = mean(&l->base) - mean(&l->seen) - price * batches;
    double error = sqrt(error2(&l->base) + error2(&l->seen));
    if (fabs(gain) < error && l->seen.n < LOOK_MAX) return -1;
    return gain >= 0;
}

static void try_level(struct level *l, int32_t direction, int64_t to) {
    l->trial = direction;
    l->before = l->groups;
    l->base = l->seen;
    l->patience = 0;
    move(l, to, direction > 0 ? LEVEL_RAISED : LEVEL_SLOW);
}

/* The trainer waits. */
static void find_level(struct level *l) {
    double share = mean(&l->seen), held = l->seen.held / l->seen.n;
    int64_t up = l->groups + missing(l, share, held), down = l->groups - (l->batch + 3) / 4;
    int64_t floor = l->batch < l->bound ? l->batch : l->bound;
    if (l->patience > 0) {
        l->patience--;
        move(l, l->groups, l->why);
    } else if (l->turn >= 0 && held >= held_min && l->groups < l->bound) {
        try_level(l, 1, up < l->bound ? up : l->bound);
    } else if (down >= floor) {
        try_level(l, -1, down);
    } else {
        l->turn = 1;
        l->patience = PATIENCE;
        move(l, l->groups, l->groups == l->bound ? LEVEL_AT_BOUND : LEVEL_SLOW);
    }
}

static void end_trial(struct level *l, bool good) {
    l->turn = good ? l->trial : -l->trial;
    l->patience = good ? 0 : PATIENCE;
    l->trial = 0;
    if (good)
        find_level(l);
    else
        move(l, l->before, LEVEL_SLOW);
}

static void lower_level(struct level *l) {
    int64_t reserve = (l->batch + 15) / 16;
    int64_t less = (l->seen.spare - reserve + 1) / 2;
    l->trial = 0;
    l->turn = 1;
    l->patience = 0;
    if (less > l->groups - 1) less = l->groups - 1;
    move(l, less > 0 ? l->groups - less : l->groups, less > 0 ? LEVEL_LOWERED : LEVEL_KEPT);
}

int64_t level_next(struct level *l, const struct level_batch *b) {
    struct level_seen *s = &l->seen;
    double turn = b->starved_s + b->train_s, share = turn > 0 ? b->starved_s / turn : 0;
    if (l->bound == 0 || turn <= 0 || s->n++ < 0) return l->groups;
    s->share += share;
    s->square += share * share;
    s->held += b->held;
    if (b->spare < s->spare) s->spare = b->spare;
    if (s->n < LOOK_MIN) return l->groups;
    bool clear = mean(s) > 2 * sqrt(error2(s)); /* that the trainer waits */
    if (s->n < LOOK && !clear) return l->groups;
    int verdict = l->trial ? judge(l) : 0;
    if (mean(s) <= wait_min) {
        if (s->n >= LOOK_DOWN) lower_level(l);
    } else if (!l->trial)
        find_level(l);
    else if (verdict >= 0)
        end_trial(l, verdict);
    return l->groups;
}

const char *level_reason(enum level_why why) {
    switch (why) {
    case LEVEL_START: return "nothing seen yet";
    case LEVEL_KEPT: return "the trainer does not wait, and no finished group lies unused";
    case LEVEL_RAISED: return "raised: the trainer waited for groups";
    case LEVEL_LOWERED: return "lowered: finished groups lay unused";
    case LEVEL_AT_BOUND: return "at staleness.max, and the trainer still waits";
    case LEVEL_SLOW: return "rollouts are the slower side: a higher level does not help";
    }
    return "";
}
