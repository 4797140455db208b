/* level.h - how many groups may be live beyond the batch that the trainer takes next: as few as
 * keep it from waiting (`trainer.staleness.hold: auto`).
 *
 * Staleness costs quality, an idle trainer costs time. The bound eta says how much staleness is
 * allowed; what of it is of use depends on rates, lengths and machines that change during a run.
 * So the level follows what is seen. Level and bound are in groups, not in batches: a level of 1.3
 * batches gives a mean staleness of about 1.3. The rule is in level.c, what it does over time in
 * docs/staleness.md. */
#ifndef ROLLOUT_MANAGER_LEVEL_H
#define ROLLOUT_MANAGER_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

enum { LEVEL_WINDOW = 24 };
enum level_why { LEVEL_START, LEVEL_KEPT, LEVEL_RAISED, LEVEL_LOWERED, LEVEL_AT_BOUND, LEVEL_SLOW };

struct level_batch {  /* what was seen between the batch before and this one */
    double wait_s;    /* from the trainer's asking to the batch */
    double train_s;   /* the rest of the time */
    double held;      /* share of rollouts' places that admission kept empty, 0 .. 1 */
    int64_t finished; /* groups that were there when the trainer asked */
    int64_t rollouts; /* alive */
};

struct level {
    int64_t batch;  /* B: groups per step */
    int64_t bound;  /* most: staleness.max * B */
    int64_t groups; /* the level now, 0 .. bound */
    enum level_why why;
    struct level_batch seen[LEVEL_WINDOW]; /* the newest ones, a ring */
    int64_t need[LEVEL_WINDOW];            /* the level that would have been just enough for each */
    int64_t n;                             /* batches ever put into the rings */
    int64_t rollouts;                      /* alive at the newest batch */
    double moved;                          /* nats a version, mean of the newest; 0: not known */
    int64_t since;                         /* batches that began under this level */
    int32_t trial;  /* +1, -1: it was raised or lowered to see what that does; 0: it was not */
    int64_t before; /* trial: from this level */
    double idle;    /* trial: the trainer's share of waiting before it */
    int32_t turn;   /* direction of the next trial */
    int32_t rest;   /* batches until then */
};

/* Starts at one batch (generation beside training), or at the bound if that is less. */
struct level level_start(int64_t batch, int64_t bound);
/* After a batch was formed: the level from now on, also in l->groups. */
int64_t level_next(struct level *l, const struct level_batch *seen);
/* How far one version's training moves the policy: mean |log-prob by the trained weights - log-prob
 * by those that sampled| of a batch's tokens, over its mean staleness. Not finite: ignored. */
void level_moved(struct level *l, double nats);
/* The level at which, by what was seen, the trainer would hardly have waited; at most the bound. */
int64_t level_target(const struct level *l);
/* Why the level is what it is, for people. */
const char *level_reason(enum level_why why);

#endif
